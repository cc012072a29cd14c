//! One shard's part of the intake, used by its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto_ctnl::bpf::{CONTROL_BYTES_PER_SHARD, CONTROL_FILTERED, CONTROL_LOST};

use super::IntakeKind;
use super::bpfring::{BpfRing, Found as BpfFound, TOGETHER};
use crate::error::{Context as _, IoError};
use crate::fd::Fd;
use crate::map::Mapping;
use crate::netlink::group;
use crate::ring::{Outcome, Ring};
use crate::sockopt;

/// Buffers for what comes by a socket. Events are shorter than 512 octets unless a module adds
/// something that is not known here.
const BUFFER_BYTES: u32 = 2048;
/// Their number where all events come by sockets.
const BUFFERS: u16 = 512;
/// What a socket is charged for a message at least, in octets: the kernel's own record of it.
const CHARGE_MIN: u32 = 512;
/// Their number beside a ring.
const FEW_BUFFERS: u16 = 64;

/// The counters that the BPF program shares with user space, one line for each shard.
#[derive(Debug)]
pub(super) struct Control {
    memory: Mapping,
}

// SAFETY: the memory is only read, and atomically.
unsafe impl Sync for Control {}

impl Control {
    pub(super) fn new(memory: Mapping) -> Self {
        Self { memory }
    }

    /// A shard's counter at an offset of its line.
    fn count(&self, shard: usize, counter: i16) -> u64 {
        let at = shard * CONTROL_BYTES_PER_SHARD as usize + usize::from(counter.unsigned_abs());
        if at + size_of::<u64>() > self.memory.bytes() {
            return 0;
        }
        // SAFETY: the word lies inside the mapping, which is aligned to a page, and both sides
        // access it atomically.
        unsafe { (*self.memory.start().add(at).cast::<AtomicU64>()).load(Ordering::Relaxed) }
    }
}

/// What [`ShardIntake::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Messages handed out.
    pub messages: usize,
    /// Whether the budget ended the drain before the ring was empty.
    pub more: bool,
    /// Whether a record ended it that the kernel is writing: look again in some ten
    /// microseconds rather than wait for readiness.
    pub busy: bool,
    /// How far the ring was read, as a count that only grows.
    pub taken: u64,
    /// How far it was written then, counted alike.
    pub come: u64,
}

/// The part of one shard. It can be sent to the shard's thread before it is started.
#[derive(Debug)]
pub struct ShardIntake {
    kind: IntakeKind,
    ring: Option<(BpfRing, Arc<Control>, usize)>,
    /// Events that do not come by the ring.
    socket: Option<Fd>,
    expectations: Option<Fd>,
    /// Operations under way, by token.
    token: Option<u64>,
    by_socket: u64,
    by_ring: u64,
    depleted: u64,
    catching_up: Option<CatchingUp>,
}

/// What is known of the events that had come by the socket when it began.
#[derive(Clone, Copy, Debug)]
struct CatchingUp {
    /// They are all among so many messages.
    until: u64,
    /// Since then none waited in the socket: the rest are on their way as completions.
    empty: bool,
}

impl ShardIntake {
    pub(super) fn new(kind: IntakeKind) -> Self {
        Self {
            kind,
            ring: None,
            socket: None,
            expectations: None,
            token: None,
            by_socket: 0,
            by_ring: 0,
            depleted: 0,
            catching_up: None,
        }
    }

    pub(super) fn set_socket(&mut self, socket: Fd) {
        self.socket = Some(socket);
    }

    pub(super) fn set_expectations(&mut self, socket: Fd) {
        self.expectations = Some(socket);
    }

    pub(super) fn set_ring(&mut self, ring: BpfRing, control: Arc<Control>, shard: usize) {
        self.ring = Some((ring, control, shard));
    }

    /// How events come.
    pub fn kind(&self) -> IntakeKind {
        self.kind
    }

    /// Starts the operations of this part on the thread's ring; their completions carry `token`.
    /// Buffers for them are added to the ring.
    ///
    /// # Errors
    /// If the ring refuses.
    pub fn start(&mut self, ring: &mut Ring, token: u64) -> Result<(), IoError> {
        if let Some((events, ..)) = &self.ring {
            ring.poll(token, events.fd())?;
        }
        let sockets = [&self.socket, &self.expectations];
        if sockets.iter().any(|socket| socket.is_some()) {
            let buffers = if self.ring.is_some() { FEW_BUFFERS } else { BUFFERS };
            let group = ring.add_group(buffers, BUFFER_BYTES)?;
            for socket in sockets.into_iter().flatten() {
                ring.receive(token, socket, group)?;
            }
        }
        self.token = Some(token);
        Ok(())
    }

    /// The token that completions of this part carry, once started.
    pub fn token(&self) -> Option<u64> {
        self.token
    }

    /// Takes a completion with this part's token and hands out what came with it; returns the
    /// number of messages.
    ///
    /// These messages came by a socket. With [`IntakeKind::Filter`] they belong to this shard;
    /// otherwise they are expectations, or flows of any shard.
    ///
    /// # Errors
    /// If an operation of this part has failed for good.
    pub fn handle(
        &mut self,
        outcome: Outcome,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<usize, IoError> {
        match outcome {
            Outcome::Received(message) => {
                self.by_socket += 1;
                visit(&message);
                Ok(1)
            }
            Outcome::Depleted => {
                self.depleted += 1;
                Ok(0)
            }
            Outcome::Failed(error) => Err(error).doing("take kernel events"),
            // Readiness of the ring is for the next drain, losses are asked for.
            _ => Ok(0),
        }
    }

    /// Hands out what waits in this shard's ring, at most `budget` messages, in place: messages
    /// are gone when the call for them returns. Does nothing where events come by sockets.
    ///
    /// All these messages belong to this shard.
    pub fn drain(&mut self, budget: usize, mut visit: impl FnMut(&[&[u8]])) -> Drained {
        let Some((ring, ..)) = &mut self.ring else { return Drained::default() };
        let found = ring.drain(budget, |records| {
            let mut messages = [&[][..]; TOGETHER];
            for (message, record) in messages.iter_mut().zip(records) {
                *message = message_in(record);
            }
            visit(&messages[..records.len()]);
        });
        self.by_ring += found.messages as u64;
        let BpfFound { messages, more, busy, taken, come } = found;
        Drained { messages, more, busy, taken, come }
    }

    /// Whether all events are handed out that had come by the flows' socket at the first of the calls
    /// since this was last true, or not `awaited`: what nobody waits for is given up, and who waits
    /// again does so for what has come by then. Between two calls all completions must be taken that
    /// there are. A system call if `awaited`.
    ///
    /// The kernel tells of what octets the waiting messages take, and not of their number: it is true
    /// when none waits, or, if more come without end, after as many as there may have been.
    pub fn catch_up(&mut self, awaited: bool) -> bool {
        if !awaited {
            self.catching_up = None;
            return false;
        }
        let Some(socket) = &self.socket else { return true };
        match self.catching_up {
            Some(CatchingUp { until, empty }) if empty || until <= self.by_socket => {
                self.catching_up = None;
                true
            }
            begun => {
                // What can not be told is as much as there may be.
                let waiting = sockopt::waiting(socket).unwrap_or(u32::MAX);
                let most = u64::from(BUFFERS) + u64::from(waiting / CHARGE_MIN);
                let until = begun.map_or(self.by_socket + most, |begun| begun.until);
                self.catching_up = Some(CatchingUp { until, empty: waiting == 0 });
                false
            }
        }
    }

    /// Whether the ring holds a message: the last look before sleeping.
    pub fn has_more(&self) -> bool {
        self.ring.as_ref().is_some_and(|(ring, ..)| ring.has_record())
    }

    /// Events of this part that were lost since it was opened, because a ring or a socket was
    /// full. A change means that the shard's picture has holes. A system call for each socket,
    /// so once per batch. With reliable events and a ring, failed attempts count, repetitions
    /// included; `DESTROY` events among them have arrived or will.
    pub fn lost(&self) -> u64 {
        let ring =
            self.ring.as_ref().map_or(0, |(_, control, shard)| control.count(*shard, CONTROL_LOST));
        let sockets = [&self.socket, &self.expectations].into_iter().flatten();
        ring + sockets.map(|fd| u64::from(sockopt::drops(fd).unwrap_or(0))).sum::<u64>()
    }

    /// Events of this part that the filter kept back in the kernel since it was opened. They wake
    /// nobody.
    pub fn filtered(&self) -> u64 {
        self.ring.as_ref().map_or(0, |(_, control, shard)| control.count(*shard, CONTROL_FILTERED))
    }

    /// Whether the kernel is to tell of new flows; it does from the start. While nobody on the
    /// machine listens it makes no messages for them, which is most of what a flow made by a
    /// request costs. Changes and ends are told all the time.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn hear_new(&self, hear: bool) -> Result<(), IoError> {
        let Some(socket) = &self.socket else { return Ok(()) };
        if hear {
            sockopt::join_netlink_group(socket, group::NEW).doing("subscribe to kernel events")
        } else {
            sockopt::leave_netlink_group(socket, group::NEW).doing("leave a group of events")
        }
    }

    /// Gives the socket of this part a larger receive buffer: octets as charged, of which half
    /// is asked for. Returns what the kernel reports; `None` where a ring takes the events.
    pub fn grow(&self, bytes: u32) -> Option<u32> {
        if self.ring.is_some() {
            return None;
        }
        sockopt::receive_buffer(self.socket.as_ref()?, bytes / 2).ok()
    }

    /// Messages that came by a socket. Beside a ring these are expectations and what the program
    /// did not recognise: if all flows come that way, the kernel's layout is not the known one.
    pub fn by_socket(&self) -> u64 {
        self.by_socket
    }

    /// Messages that came by the ring.
    pub fn by_ring(&self) -> u64 {
        self.by_ring
    }

    /// How often all receive buffers were taken. Nothing is lost by that.
    pub fn depleted(&self) -> u64 {
        self.depleted
    }
}

/// The message in a record. The record's end holds octets of older ones.
fn message_in(record: &[u8]) -> &[u8] {
    let length = record.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
    record.get(..length).unwrap_or(record)
}
