//! The two connections of a TCP channel: one we make and send on, one we accept and read.

use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use socket2::SockAddr;

use super::{ChannelEvent, ChannelOptions, role, socket};
use crate::error::IoError;
use crate::fd::Fd;
use crate::ring::{Group, Outcome, Ring};
use rustix::io::Errno;

/// Time from a failure to the next attempt to connect.
const RETRY: Duration = Duration::from_secs(1);
/// Accepted connections that have tokens of their own.
const GENERATIONS: u64 = 8;
/// Receive buffers for the end of the connection that we send on, which carries nothing.
const WATCH_BUFFERS: u16 = 2;
/// Octets of each.
const WATCH_BYTES: u32 = 64;

#[derive(Debug)]
enum Outgoing {
    /// To be tried again at this time.
    Waiting(Instant),
    Connecting(Fd),
    Connected(Fd),
}

/// Connections of one channel.
#[derive(Debug)]
pub(super) struct Stream {
    token: u64,
    listener: Fd,
    /// Accepting has failed and is to be started again at this time.
    listen_at: Option<Instant>,
    to: SockAddr,
    send_bytes: u32,
    outgoing: Option<Outgoing>,
    watch: Option<Group>,
    /// The connection that is read.
    accepted: Option<Fd>,
    generation: u64,
}

impl Stream {
    pub(super) fn new(listener: Fd, to: SockAddr, options: &ChannelOptions) -> Self {
        Self {
            token: 0,
            listener,
            listen_at: None,
            to,
            send_bytes: options.send_buffer_bytes,
            outgoing: None,
            watch: None,
            accepted: None,
            generation: 0,
        }
    }

    /// Listens; the first attempt to connect is due at once.
    pub(super) fn start(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        token: u64,
    ) -> Result<(), IoError> {
        self.token = token;
        self.watch = Some(ring.add_group(WATCH_BUFFERS, WATCH_BYTES)?);
        ring.accept(token + role::LISTEN, &self.listener)?;
        self.outgoing = Some(Outgoing::Waiting(now));
        Ok(())
    }

    pub(super) const fn listener(&self) -> &Fd {
        &self.listener
    }

    /// Where the next attempt to connect goes.
    pub(super) fn connect_to(&mut self, to: SockAddr) {
        self.to = to;
    }

    pub(super) fn connected(&self) -> bool {
        self.sender().is_some()
    }

    pub(super) fn accepted(&self) -> bool {
        self.accepted.is_some()
    }

    pub(super) fn sender(&self) -> Option<&Fd> {
        match &self.outgoing {
            Some(Outgoing::Connected(fd)) => Some(fd),
            _ => None,
        }
    }

    /// When something is to be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let connect_at = match &self.outgoing {
            Some(Outgoing::Waiting(at)) => Some(*at),
            _ => None,
        };
        connect_at.into_iter().chain(self.listen_at).min()
    }

    /// Does what is due. Gives why no attempt to connect could be made.
    pub(super) fn handle_timeout(
        &mut self,
        ring: &mut Ring,
        now: Instant,
    ) -> Result<Option<IoError>, IoError> {
        if self.listen_at.is_some_and(|at| at <= now) {
            self.listen_at = None;
            ring.accept(self.token + role::LISTEN, &self.listener)?;
        }
        match &self.outgoing {
            Some(Outgoing::Waiting(at)) if *at <= now => {}
            _ => return Ok(None),
        }
        // Whatever fails below, there is a next time.
        self.outgoing = Some(Outgoing::Waiting(now + RETRY));
        let fd = match socket::connector(&self.to, self.send_bytes) {
            Ok(fd) => fd,
            // Descriptors or memory are short.
            Err(error) => return Ok(Some(error)),
        };
        ring.connect(self.token + role::CONNECT, &fd, &self.to)?;
        self.outgoing = Some(Outgoing::Connecting(fd));
        Ok(None)
    }

    /// Ends the connection that is read.
    pub(super) fn refuse(&mut self) {
        if let Some(fd) = self.accepted.take() {
            let _ = shutdown(&fd, Shutdown::Both);
            self.generation += 1;
        }
    }

    /// The connection that we send on is of no use any more.
    pub(super) fn lost(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        error: Errno,
    ) -> Option<ChannelEvent> {
        let Some(Outgoing::Connected(fd)) = &self.outgoing else { return None };
        // Ends what is still under way on it.
        let _ = shutdown(fd, Shutdown::Both);
        let _ = ring.cancel(self.token + role::WATCH);
        self.outgoing = Some(Outgoing::Waiting(now + RETRY));
        Some(ChannelEvent::Disconnected(error))
    }

    /// Takes a completion, by its role.
    pub(super) fn handle(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        (role, group): (u64, Group),
        outcome: Outcome,
        receive: &mut impl FnMut(&[u8]),
    ) -> Result<Option<ChannelEvent>, IoError> {
        match role {
            role::CONNECT => self.connect_ended(ring, now, &outcome),
            role::WATCH => Ok(match outcome {
                Outcome::Closed => self.lost(ring, now, Errno::PIPE),
                Outcome::Failed(error) => self.lost(ring, now, error),
                _ => None,
            }),
            role::LISTEN => match outcome {
                Outcome::Accepted(fd) => {
                    self.accept(ring, fd.into(), group)?;
                    Ok(Some(ChannelEvent::PeerConnected))
                }
                Outcome::Failed(_) => {
                    // Descriptors or memory are short, or the peer has given up meanwhile.
                    self.listen_at = Some(now + RETRY);
                    Ok(None)
                }
                _ => Ok(None),
            },
            _ if role == role::ACCEPTED + self.generation % GENERATIONS => Ok(match outcome {
                Outcome::Received(bytes) => {
                    receive(&bytes);
                    None
                }
                Outcome::Closed | Outcome::Failed(_) => {
                    self.accepted = None;
                    Some(ChannelEvent::PeerClosed)
                }
                _ => None,
            }),
            // An older connection that has been replaced.
            _ => Ok(None),
        }
    }

    fn connect_ended(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        outcome: &Outcome,
    ) -> Result<Option<ChannelEvent>, IoError> {
        let (Some(Outgoing::Connecting(fd)), Some(watch)) = (&self.outgoing, self.watch) else {
            return Ok(None);
        };
        if !matches!(outcome, Outcome::Connected) {
            // Nothing was sent, so nothing is lost.
            self.outgoing = Some(Outgoing::Waiting(now + RETRY));
            return Ok(None);
        }
        let fd = fd.clone();
        ring.receive_stream(self.token + role::WATCH, &fd, watch)?;
        self.outgoing = Some(Outgoing::Connected(fd));
        Ok(Some(ChannelEvent::Connected))
    }

    /// The newest connection is the one that is read.
    fn accept(&mut self, ring: &mut Ring, fd: Fd, group: Group) -> Result<(), IoError> {
        if let Some(old) = self.accepted.take() {
            let _ = shutdown(&old, Shutdown::Both);
        }
        self.generation += 1;
        let token = self.token + role::ACCEPTED + self.generation % GENERATIONS;
        ring.receive_stream(token, &fd, group)?;
        self.accepted = Some(fd);
        Ok(())
    }
}
