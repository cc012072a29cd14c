//! Control clients: many at once, each with a request of four octets and a text as answer.
//!
//! A client that says nothing, or does not read, costs its own place and at most one send
//! buffer, until another one needs either.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use io::{Fd, Group, IoError, Outcome, Ring, SendOptions};

use super::tokens::Token;
use crate::command::REPORT;
use crate::hub::{Answer, Then};
use crate::order::Asker;

/// Clients at the same time; one more takes the place of the one that is silent for the longest
/// time, or is turned away if none is.
const CLIENTS_MAX: usize = 128;
/// Clients that may hold a send buffer at the same time; the others wait.
pub(super) const SENDING_MAX: usize = 16;
/// A client that has not read for so long is dropped if another one needs its place or buffer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a client's completion led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet.
    Nothing,
    /// A request with this number.
    Request(Asker, u32),
    /// It left; whether it had sent a whole request.
    Gone(Asker, bool),
    /// It took everything written so far and is to get more.
    Took(Asker),
}

struct Client {
    asker: Asker,
    fd: Fd,
    request: [u8; 4],
    read: usize,
    parts: VecDeque<Vec<u8>>,
    /// How much of the first part was handed to the ring.
    offset: usize,
    /// Since when the ring holds a part that the client has not taken.
    sending: Option<Instant>,
    last: bool,
    /// It wants to know how its request ended.
    reports: bool,
}

impl Client {
    fn is_stuck(&self, now: Instant) -> bool {
        self.sending.is_some_and(|since| now.saturating_duration_since(since) > PATIENCE)
    }
}

/// All clients.
pub(super) struct Clients {
    group: Option<Group>,
    clients: Vec<Client>,
    next: u32,
    sending: usize,
    /// Clients that were dropped and not reported yet.
    dropped: Vec<Asker>,
}

impl Clients {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { group: None, clients: Vec::new(), next: 0, sending: 0, dropped: Vec::new() }
    }

    /// Makes the buffers for requests.
    pub(super) fn start(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        self.group = Some(ring.add_group(32, 64)?);
        Ok(())
    }

    /// Takes a connection.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        ring: &mut Ring,
        fd: OwnedFd,
    ) -> Result<(), IoError> {
        if self.clients.len() >= CLIENTS_MAX {
            let Some(at) = self.expendable(now) else { return Ok(()) };
            self.drop_client(ring, at)?;
        }
        let Some(group) = self.group else { return Ok(()) };
        let asker = Asker(self.next);
        self.next = self.next.wrapping_add(1);
        let fd = Fd::from(fd);
        ring.receive_stream(Token::Client(asker.0).raw(), &fd, group)?;
        self.clients.push(Client {
            asker,
            fd,
            request: [0; 4],
            read: 0,
            parts: VecDeque::new(),
            offset: 0,
            sending: None,
            last: false,
            reports: false,
        });
        Ok(())
    }

    /// Makes room for a connection that finds no descriptor: the client goes that is silent for the
    /// longest time, or else one that does not read.
    pub(super) fn make_room(&mut self, now: Instant, ring: &mut Ring) -> Result<(), IoError> {
        match self.expendable(now) {
            Some(at) => self.drop_client(ring, at),
            None => Ok(()),
        }
    }

    /// The client that another one may replace.
    fn expendable(&self, now: Instant) -> Option<usize> {
        let silent = self.clients.iter().position(|c| c.read < 4);
        silent.or_else(|| self.clients.iter().position(|c| c.is_stuck(now)))
    }

    fn position(&self, asker: Asker) -> Option<usize> {
        self.clients.iter().position(|client| client.asker == asker)
    }

    /// A client's receiving side has news.
    pub(super) fn received(&mut self, asker: Asker, outcome: &Outcome) -> Said {
        let Some(at) = self.position(asker) else { return Said::Nothing };
        let client = &mut self.clients[at];
        match outcome {
            // What comes behind the number is ignored, as the original does.
            Outcome::Received(bytes) if client.read < 4 => {
                let take = bytes.len().min(4 - client.read);
                client.request[client.read..client.read + take].copy_from_slice(&bytes[..take]);
                client.read += take;
                if client.read < 4 {
                    return Said::Nothing;
                }
                let id = u32::from_ne_bytes(client.request);
                client.reports = id & REPORT != 0;
                Said::Request(asker, id & !REPORT)
            }
            Outcome::Received(_) | Outcome::Depleted => Said::Nothing,
            // A client may close its sending side and go on to read.
            Outcome::Closed if client.read == 4 => Said::Nothing,
            _ => {
                let whole = client.read == 4;
                self.remove(at);
                Said::Gone(asker, whole)
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let client = self.clients.remove(at);
        self.sending -= usize::from(client.sending.is_some());
    }

    /// Ends a client's operations and its connection.
    fn drop_client(&mut self, ring: &mut Ring, at: usize) -> Result<(), IoError> {
        let Client { asker, sending, .. } = self.clients[at];
        ring.cancel(Token::Client(asker.0).raw())?;
        if sending.is_some() {
            ring.cancel(Token::ClientSent(asker.0).raw())?;
        }
        self.remove(at);
        self.dropped.push(asker);
        Ok(())
    }

    /// A client that was dropped for another one.
    pub(super) fn poll_dropped(&mut self) -> Option<Asker> {
        self.dropped.pop()
    }

    /// Something for a client to read. Behind the last of it the connection is closed.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Some(at) = self.position(answer.asker) else { return };
        let client = &mut self.clients[at];
        let mut bytes = answer.bytes;
        if answer.then != Then::More {
            client.last = true;
            if client.reports {
                bytes.extend([0, u8::from(answer.then == Then::Failed)]);
            }
        }
        if !bytes.is_empty() {
            client.parts.push_back(bytes);
        }
    }

    /// The daemon ends: what clients wait for will not be done.
    pub(super) fn refuse_waiting(&mut self) {
        let waiting = self.clients.iter().filter(|client| client.read == 4 && !client.last);
        let askers: Vec<_> = waiting.map(|client| client.asker).collect();
        for asker in askers {
            self.answer(Answer { asker, bytes: Vec::new(), then: Then::Failed });
        }
    }

    /// Hands to the ring what clients can take; closes those that have everything, and names one
    /// that is ready for more.
    pub(super) fn send(&mut self, now: Instant, ring: &mut Ring) -> Result<(), IoError> {
        let mut waiting =
            self.clients.iter().filter(|c| c.sending.is_none() && !c.parts.is_empty()).count();
        while self.sending >= SENDING_MAX
            && waiting > 0
            && let Some(stuck) = self.clients.iter().position(|c| c.is_stuck(now))
        {
            self.drop_client(ring, stuck)?;
            waiting -= 1;
        }
        // The newest first: those that have waited for long wait for others of their kind.
        for at in (0..self.clients.len()).rev() {
            let client = &mut self.clients[at];
            if client.last && client.parts.is_empty() && client.sending.is_none() {
                let client = self.clients.remove(at);
                ring.cancel(Token::Client(client.asker.0).raw())?;
                continue;
            }
            if client.sending.is_some() || client.parts.is_empty() || self.sending >= SENDING_MAX {
                continue;
            }
            let Some(mut buffer) = ring.send_buffer() else { return Ok(()) };
            let Some(part) = client.parts.front() else { continue };
            let rest = &part[client.offset..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            client.offset += len;
            if client.offset == part.len() {
                client.parts.pop_front();
                client.offset = 0;
            }
            client.sending = Some(now);
            self.sending += 1;
            let options = SendOptions { whole: true, ..SendOptions::default() };
            let token = Token::ClientSent(client.asker.0).raw();
            ring.send(token, &client.fd, buffer.freeze(), 0..len, &options)?;
        }
        Ok(())
    }

    /// A send to a client has ended.
    pub(super) fn sent(&mut self, asker: Asker, outcome: &Outcome) -> Said {
        let Some(at) = self.position(asker) else { return Said::Nothing };
        let client = &mut self.clients[at];
        self.sending -= usize::from(client.sending.take().is_some());
        if !matches!(outcome, Outcome::Sent(_)) {
            self.remove(at);
            return Said::Gone(asker, true);
        }
        if client.parts.is_empty() && !client.last { Said::Took(asker) } else { Said::Nothing }
    }

    /// Whether answers are still under way.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.iter().all(|client| client.parts.is_empty() && client.sending.is_none())
    }
}
