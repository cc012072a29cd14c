//! Connections of clients to a control socket, served on a ring.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};

use crate::error::IoError;
use crate::fd::Fd;
use crate::ring::{Group, Outcome, Ring, SendOptions};

/// Tokens that a connection takes, from the one given to [`Connection::start`].
pub const CONNECTION_TOKENS: u64 = 2;

/// Token offset of the send under way.
const SEND: u64 = 1;

/// A stream connection with a queue of text to be written.
///
/// Write answers with [`io::Write`], then call [`Connection::pump`]; it moves what the queue
/// holds through send buffers of the ring. [`Connection::queued`] tells when to write less.
#[derive(Debug)]
pub struct Connection {
    fd: Fd,
    token: u64,
    queue: Vec<u8>,
    /// Octets of the queue that were given to the ring.
    given: usize,
    sending: bool,
    input_ended: bool,
    closed: bool,
}

impl Connection {
    /// Takes over an accepted connection and starts to receive from it. Its completions carry
    /// `token` and the one after it.
    ///
    /// # Errors
    /// If the ring refuses.
    pub fn start(ring: &mut Ring, fd: OwnedFd, token: u64, group: Group) -> Result<Self, IoError> {
        let fd = Fd::from(fd);
        ring.receive_stream(token, &fd, group)?;
        Ok(Self {
            fd,
            token,
            queue: Vec::new(),
            given: 0,
            sending: false,
            input_ended: false,
            closed: false,
        })
    }

    /// Whether a completion belongs to this connection.
    pub fn owns(&self, token: u64) -> bool {
        (self.token..self.token + CONNECTION_TOKENS).contains(&token)
    }

    /// Takes a completion of this connection; `receive` gets what the client has sent.
    ///
    /// # Errors
    /// If the ring refuses.
    pub fn handle(
        &mut self,
        ring: &mut Ring,
        token: u64,
        outcome: Outcome,
        receive: impl FnOnce(&[u8]),
    ) -> Result<(), IoError> {
        if token == self.token + SEND {
            self.sending = false;
            match outcome {
                Outcome::Sent(_) => return self.pump(ring),
                _ => self.closed = true,
            }
            return Ok(());
        }
        match outcome {
            Outcome::Received(bytes) => receive(&bytes),
            Outcome::Closed => self.input_ended = true,
            Outcome::Failed(_) | Outcome::Cancelled => self.closed = true,
            _ => {}
        }
        Ok(())
    }

    /// Sends the next part of the queue, unless one is under way. If the ring has no send buffer
    /// the queue waits for the next call.
    ///
    /// # Errors
    /// If the ring refuses.
    pub fn pump(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        if self.sending || self.closed || self.queue.is_empty() {
            return Ok(());
        }
        let Some(mut buffer) = ring.send_buffer() else { return Ok(()) };
        let rest = &self.queue[self.given..];
        let octets = rest.len().min(buffer.len());
        buffer[..octets].copy_from_slice(&rest[..octets]);
        let options = SendOptions { whole: true, ..SendOptions::default() };
        ring.send(self.token + SEND, &self.fd, buffer.freeze(), 0..octets, &options)?;
        self.sending = true;
        self.given += octets;
        if self.given == self.queue.len() {
            self.queue.clear();
            self.given = 0;
        } else if self.given > self.queue.len() / 2 {
            self.queue.drain(..self.given);
            self.given = 0;
        }
        Ok(())
    }

    /// Octets that wait to be given to the ring.
    pub fn queued(&self) -> usize {
        self.queue.len() - self.given
    }

    /// Whether everything was sent.
    pub fn is_idle(&self) -> bool {
        !self.sending && self.queued() == 0
    }

    /// Whether the client will send no more. It may still read.
    pub fn input_ended(&self) -> bool {
        self.input_ended || self.closed
    }

    /// Whether the connection is of no use any more: the client does not take what we send, or
    /// it was finished.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends the connection: the client reads the end of the stream behind what was sent. What is
    /// still queued is dropped. The value may be dropped then.
    pub fn finish(&mut self) {
        self.queue.clear();
        self.given = 0;
        self.closed = true;
        let _ = shutdown(&self.fd, Shutdown::Both);
    }
}

impl io::Write for Connection {
    /// Appends to the queue.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.queue.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Does nothing; see [`Connection::pump`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
