//! The state machine of one peer: datagrams and time in, datagrams and events out.
//!
//! A [`Session`] has no socket and no clock. Its owner hands it what was received, asks it for what
//! is to be sent when the socket has room, and tells it when its deadline has passed. It owns the
//! numbering, the acknowledgements and the resend queue; the objects, and which of them have
//! changed, belong to the owner, who is asked through [`Host`]. So what is sent is always the
//! newest state, and nothing is queued here per event.
//!
//! After each call of another method, poll [`Session::poll_transmit`], [`Session::poll_event`] and
//! [`Session::poll_timeout`].

mod ftfw;
mod receive;
mod transmit;

use std::time::{Duration, Instant};

use crate::counters::SyncCounters;
use crate::expect::ExpectPayload;
use crate::flow::{FlowLayouts, FlowPayload};
use crate::frame::Kind;
use crate::pace::Pace;
use crate::resend::ResendEntry;
use crate::stream::{BrokenStream, Reassembler};
use ftfw::Ftfw;

/// Silence after which something is sent.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Names an object of the owner. The session keeps it and gives it back, and knows no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token {
    /// Which shard the object belongs to.
    pub shard: u8,
    /// Which object of the shard.
    pub index: u32,
    /// Which of the object's states, or whatever the owner likes.
    pub pos: u32,
}

/// The owner's answer to [`Host::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole message stands at the start of the room; flags and sequence number are filled in by
    /// the session.
    Message {
        /// Its length, in octets.
        len: usize,
        /// What to say when it was acknowledged, or not.
        token: Token,
    },
    /// There is a changed object, but its message does not fit; it stays the next one.
    NoRoom,
    /// Nothing has changed.
    Empty,
}

/// What a session needs from its owner.
pub trait Host {
    /// The peer told of a flow.
    fn flow(&mut self, kind: Kind, message: &[u8], payload: &FlowPayload<'_>);

    /// The peer told of an expectation.
    fn expect(&mut self, kind: Kind, message: &[u8], payload: &ExpectPayload<'_>);

    /// Writes the newest state of the next changed object to the start of `room`, as
    /// [`encode_flow`](crate::encode_flow) does, and takes the object from the queue of changes.
    fn next(&mut self, room: &mut [u8]) -> Next;

    /// The object whose message does not fit even an empty datagram can not be told: drop it from
    /// the queue of changes. The session has counted it.
    fn oversize(&mut self);

    /// The peer has the state that was sent under `token`. Without acknowledgements (NOTRACK, ALARM)
    /// this is said as soon as it was sent.
    fn acked(&mut self, token: Token);

    /// The peer may not have the state that was sent under `token`: queue the object again, unless
    /// a newer state was sent since.
    fn nacked(&mut self, token: Token);

    /// What was sent under `token` left the resend queue because that is full. It is lost if the
    /// peer asks for it; then [`SessionEvent::Hole`] follows.
    fn evicted(&mut self, token: Token);
}

/// How the nodes keep track of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Send and forget; a keepalive each second.
    Notrack,
    /// Send and forget; the owner tells everything again from time to time. No control messages.
    Alarm,
    /// Acknowledgements and repetition.
    Ftfw {
        /// An acknowledgement is sent after so many messages (`ACKWindowSize`); at least 1.
        ack_window: u32,
        /// Unacknowledged messages that are kept (`ResendQueueSize`), 12 octets each; at least 1.
        resend_queue: u32,
    },
}

/// What a session is told at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The mode, the same on both nodes.
    pub mode: Mode,
    /// The first sequence number: the Unix time in seconds, so that a life of this node is told
    /// from the one before.
    pub first_seq: u32,
    /// FTFW: unacknowledged messages after which no more state is sent until the peer
    /// acknowledges, or 100 ms pass. At most, and with 0, what the resend queue holds.
    pub in_flight_max: u32,
    /// Datagrams that may leave per millisecond, for a peer that can not ask for what it lost. 0 is
    /// no limit, as over a stream.
    pub datagrams_per_ms: u32,
}

/// What the owner should know or do. Each is reported once however often it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionEvent {
    /// The peer asks for everything.
    PeerWantsResync = 1,
    /// The peer has started, or started again: it may have nothing of what was sent. What was not
    /// acknowledged has been queued again.
    PeerRestarted = 2,
    /// State is missing at the peer and the session can not tell which: send everything.
    Hole = 4,
}

/// Events that wait, a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Events(u8);

impl Events {
    fn add(&mut self, event: SessionEvent) {
        self.0 |= event as u8;
    }

    fn take(&mut self) -> Option<SessionEvent> {
        let event =
            [SessionEvent::PeerRestarted, SessionEvent::Hole, SessionEvent::PeerWantsResync]
                .into_iter()
                .find(|&event| self.0 & event as u8 != 0)?;
        self.0 &= !(event as u8);
        Some(event)
    }
}

/// What all modes have.
#[derive(Debug)]
struct Common {
    next_seq: u32,
    last_recv: Option<u32>,
    last_heard: Option<Instant>,
    /// Datagrams, and runs of a stream, that held anything valid.
    heard: u64,
    /// What is being taken may have been sent long ago.
    overtaken: bool,
    /// A request for everything waits to be sent.
    resync: bool,
    /// A keepalive waits to be sent.
    alive: bool,
    alive_at: Instant,
    pace: Pace,
    /// Sending stopped because of the pace.
    paced: bool,
    /// What was due to be sent by then was told: a link that takes nothing must not keep its owner
    /// awake.
    told_until: Option<Instant>,
    events: Events,
    counters: SyncCounters,
}

impl Common {
    /// The number of the message that is being built.
    fn take_seq(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        self.counters.sent += 1;
        seq
    }
}

/// What differs.
#[derive(Debug)]
enum Machine {
    Notrack,
    Alarm,
    Ftfw(Box<Ftfw>),
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    common: Common,
    machine: Machine,
    layouts: FlowLayouts,
}

impl Session {
    /// A session that has neither sent nor received anything. Takes all the memory it will need.
    pub fn new(config: &SessionConfig, now: Instant) -> Self {
        let machine = match config.mode {
            Mode::Notrack => Machine::Notrack,
            Mode::Alarm => Machine::Alarm,
            Mode::Ftfw { ack_window, resend_queue } => {
                let ftfw = Ftfw::new(
                    ack_window,
                    resend_queue,
                    config.in_flight_max,
                    config.first_seq,
                    now,
                );
                Machine::Ftfw(Box::new(ftfw))
            }
        };
        let common = Common {
            next_seq: config.first_seq,
            last_recv: None,
            last_heard: None,
            heard: 0,
            overtaken: false,
            resync: false,
            alive: false,
            alive_at: now + ALIVE_INTERVAL,
            pace: Pace::new(config.datagrams_per_ms, now),
            paced: false,
            told_until: None,
            events: Events::default(),
            counters: SyncCounters::default(),
        };
        Self { common, machine, layouts: FlowLayouts::new() }
    }

    /// Asks the peer for everything, with the next datagram. `false` if the mode has no such
    /// request: ALARM.
    pub const fn request_resync(&mut self) -> bool {
        self.common.resync = !matches!(self.machine, Machine::Alarm);
        self.common.resync
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.common.told_until = Some(now);
        if matches!(self.machine, Machine::Alarm) || now < self.common.alive_at {
            return;
        }
        self.common.alive_at = now + ALIVE_INTERVAL;
        self.common.alive = true;
        if let Machine::Ftfw(ftfw) = &mut self.machine {
            ftfw.tick(&mut self.common);
        }
    }

    /// When to call [`Session::handle_timeout`] and then [`Session::poll_transmit`], if nothing
    /// happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let c = &self.common;
        let alive = (!matches!(self.machine, Machine::Alarm)).then_some(c.alive_at);
        let (relief, repeat) = match &self.machine {
            Machine::Ftfw(ftfw) => (ftfw.relief_at(), ftfw.repeat_at()),
            _ => (None, None),
        };
        let pace = if c.paced { c.pace.next() } else { None };
        let to_send = [relief, repeat, pace].into_iter().flatten();
        to_send.filter(|at| c.told_until.is_none_or(|until| *at > until)).chain(alive).min()
    }

    /// The next event, if there is one.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.common.events.take()
    }

    /// Takes what was read from a stream, as [`Session::handle_datagram`] takes a datagram.
    ///
    /// # Errors
    /// The stream can not be followed any longer: close the connection and reset `reassembler`.
    pub fn handle_stream(
        &mut self,
        now: Instant,
        reassembler: &mut Reassembler,
        bytes: &[u8],
        host: &mut impl Host,
    ) -> Result<bool, BrokenStream> {
        let mut accepted = false;
        let (heard, at) = (self.common.heard, self.common.last_heard);
        self.common.overtaken = reassembler.is_overtaken(heard, at);
        let pushed =
            reassembler.push(bytes, |run| accepted |= self.handle_datagram(now, run, host));
        self.common.overtaken = false;
        pushed?;
        if accepted {
            reassembler.accepted(self.common.heard);
        }
        Ok(accepted)
    }

    /// The counters.
    pub const fn counters(&self) -> &SyncCounters {
        &self.common.counters
    }

    /// The number of the last message of the peer that was accepted.
    pub const fn last_received(&self) -> Option<u32> {
        self.common.last_recv
    }

    /// When the last valid message of the peer came.
    pub const fn last_heard(&self) -> Option<Instant> {
        self.common.last_heard
    }

    /// Whether a peer in this mode sends something each second.
    pub const fn keeps_alive(&self) -> bool {
        !matches!(self.machine, Machine::Alarm)
    }

    /// The number that the next message will have.
    pub const fn next_seq(&self) -> u32 {
        self.common.next_seq
    }

    /// Whether the peer knows this node. Always, in modes without a greeting.
    pub const fn is_greeted(&self) -> bool {
        match &self.machine {
            Machine::Ftfw(ftfw) => ftfw.is_greeted(),
            _ => true,
        }
    }

    /// Control messages that wait to be sent.
    pub fn control_depth(&self) -> usize {
        let ranges = match &self.machine {
            Machine::Ftfw(ftfw) => ftfw.control_depth(),
            _ => 0,
        };
        ranges + usize::from(self.common.resync) + usize::from(self.common.alive)
    }

    /// Elements of the resend queue: (now, most so far). Zeros outside FTFW.
    pub const fn resend_depth(&self) -> (u32, u32) {
        match &self.machine {
            Machine::Ftfw(ftfw) => ftfw.resend_depth(),
            _ => (0, 0),
        }
    }

    /// The elements of the resend queue, in order of sending; none outside FTFW.
    pub fn resend_queue(&self) -> impl Iterator<Item = ResendEntry> + '_ {
        let ftfw = match &self.machine {
            Machine::Ftfw(ftfw) => Some(ftfw),
            _ => None,
        };
        ftfw.into_iter().flat_map(|ftfw| ftfw.resend_queue())
    }
}
