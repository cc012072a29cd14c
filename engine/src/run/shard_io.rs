//! What the thread of every shard does with its ring: takes events, exchanges requests and
//! answers with the kernel.

use std::sync::Arc;
use std::time::Instant;

use io::{
    FlowLookup, Group, IntakeKind, IoError, Outcome, RequestSocket, Ring, SendOptions, ShardIntake,
};
use proto_ctnl::bpf::LookupRecord;

use super::tokens::Token;
use crate::clock::Moment;
use crate::kernel::{LOOK_BURST, Ports};
use crate::log::Log;
use crate::shard::Shard;

/// Events taken in one turn: at a few hundred nanoseconds each this is below the 5 ms after which
/// the intake has to be looked at again.
const EVENTS_PER_TURN: usize = 8192;
/// Octets of a batch of requests.
const BATCH_BYTES: usize = 32 * 1024;
/// Receive buffer of a request socket: 832 octets are charged for each answer, and a batch has at
/// most a hundred requests, of which each may be answered by an entry and an error.
const ANSWER_BYTES: u32 = 1 << 20;
/// Buffers for answers, and octets of each.
const ANSWERS: (u16, u32) = (256, 1024);

/// The system's side of one shard.
pub(super) struct ShardIo {
    intake: ShardIntake,
    lanes: [RequestSocket; 3],
    lookup: Option<FlowLookup>,
    /// What is looked at in one go.
    records: Box<[LookupRecord]>,
    answers: Option<Group>,
    lost: u64,
    filtered: u64,
    /// How often all events of a socket were taken that had come before a reading of the table.
    caught_up: u64,
    growth: Growth,
}

/// The receive buffer of a shard's event socket, where there is one. A ring does not grow.
pub(super) struct Growth {
    /// Octets now.
    pub(super) bytes: u32,
    /// Octets that it may grow to.
    pub(super) max_bytes: u32,
    /// Where growth is told.
    pub(super) log: Arc<dyn Log>,
    /// Whether it was told that there is an end to it.
    pub(super) ended: bool,
}

impl Growth {
    /// Doubles the buffer after a loss, if it may grow so far; else says so, once.
    fn grow(&mut self, intake: &ShardIntake) {
        let doubled = self.bytes.saturating_mul(2);
        if doubled > self.max_bytes {
            if !std::mem::replace(&mut self.ended, true) {
                self.log.warning(format_args!(
                    "netlink event socket buffer size cannot be doubled further since it will \
                     exceed NetlinkBufferSizeMaxGrowth. We are likely to be losing events, this may \
                     lead to unsynchronized replicas. Please, consider increasing netlink socket \
                     buffer size via NetlinkBufferSize and NetlinkBufferSizeMaxGrowth clauses in \
                     conntrackd.conf"
                ));
            }
            return;
        }
        if let Some(bytes) = intake.grow(doubled) {
            self.bytes = bytes.max(doubled);
            self.log.notice(format_args!(
                "netlink event socket buffer size has been doubled to {bytes} bytes"
            ));
        }
    }
}

/// What a drain found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Whether there were events.
    pub(super) any: bool,
    /// Whether more wait.
    pub(super) more: bool,
    /// How far events were taken.
    pub(super) taken: u64,
    /// How far they have come: counts of one kind that only grow.
    pub(super) come: u64,
}

impl ShardIo {
    /// Opens the request sockets in the namespace of the calling thread.
    pub(super) fn open(
        intake: ShardIntake,
        growth: Growth,
        lookup: Option<FlowLookup>,
    ) -> Result<Self, IoError> {
        let open = || RequestSocket::open(ANSWER_BYTES, BATCH_BYTES as u32 * 2);
        let lanes = [open()?, open()?, open()?];
        let most = if lookup.is_some() { LOOK_BURST } else { 0 };
        let records = vec![LookupRecord::empty(); most].into_boxed_slice();
        Ok(Self {
            intake,
            lanes,
            lookup,
            records,
            answers: None,
            lost: 0,
            filtered: 0,
            caught_up: 0,
            growth,
        })
    }

    /// The port ids by which the kernel names what our requests cause.
    pub(super) fn ports(&self) -> Ports {
        let [write, flush, audit] = &self.lanes;
        Ports { write: write.port(), flush: flush.port(), audit: audit.port() }
    }

    /// Starts to receive.
    pub(super) fn start(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        self.intake.start(ring, Token::Intake.raw())?;
        let group = ring.add_group(ANSWERS.0, ANSWERS.1)?;
        for (n, socket) in self.lanes.iter().enumerate() {
            ring.receive(Token::Kernel(n as u32).raw(), socket.fd(), group)?;
        }
        self.answers = Some(group);
        Ok(())
    }

    /// Hands the events that wait in this shard's ring to the shard, and counts those that the
    /// filter kept from it: they woke nobody, so every turn looks. `awaited`: a reading of the table
    /// waits for what has come.
    pub(super) fn drain(&mut self, now: Moment, shard: &mut Shard, awaited: bool) -> Found {
        let drained =
            self.intake.drain(EVENTS_PER_TURN, |events| shard.on_kernel_events(now, events));
        let any = drained.messages > 0;
        shard.counters.drains += u64::from(any);
        let filtered = self.intake.filtered();
        shard.filtered_by_intake(filtered - self.filtered);
        self.filtered = filtered;
        let (taken, come) = match self.intake.kind() {
            IntakeKind::Ring => (drained.taken, drained.come),
            // What waits in a socket can not be counted: more may wait than the times that it was
            // caught up with.
            _ => {
                self.caught_up += u64::from(self.intake.catch_up(awaited));
                (self.caught_up, self.caught_up + 1)
            }
        };
        Found { any, more: drained.more || drained.busy, taken, come }
    }

    /// The turn that began at `began` is over: what it took is how long events had to wait.
    pub(super) fn turn_ended(began: Moment, shard: &mut Shard) {
        let took = began.at.elapsed().as_micros() as u64;
        shard.counters.turn_max_us = shard.counters.turn_max_us.max(took);
    }

    /// Looks whether events were lost since the last look. A system call per socket.
    pub(super) fn check_losses(&mut self, shard: &mut Shard) {
        let lost = self.intake.lost();
        if lost > self.lost {
            shard.lost(lost - self.lost);
            self.lost = lost;
            self.growth.grow(&self.intake);
        }
    }

    /// Events that came by a socket: `visit` gets each message.
    pub(super) fn by_socket(
        &mut self,
        outcome: Outcome,
        visit: impl FnMut(&[u8]),
    ) -> Result<usize, IoError> {
        self.intake.handle(outcome, visit)
    }

    /// Whether all of an intake's messages belong to this shard.
    pub(super) fn is_sorted(&self) -> bool {
        self.intake.kind() == IntakeKind::Filter
    }

    /// Whether events wait: the last look before sleeping.
    pub(super) fn has_events(&self) -> bool {
        self.intake.has_more()
    }

    /// Looks at the silent flows that are due.
    fn look(&mut self, now: Instant, shard: &mut Shard) {
        let Some(lookup) = &self.lookup else { return };
        let named = shard.poll_look(now, &mut self.records);
        if named == 0 {
            return;
        }
        match lookup.look(&mut self.records[..named]) {
            Ok(()) => shard.on_looked(now, &self.records[..named]),
            Err(_) => {
                // It worked once; what keeps it from working now is not worth a second try.
                self.lookup = None;
                shard.cannot_look();
            }
        }
    }

    /// Sends the shard's next batch of requests, if there is one; tells whether there was anything
    /// to be done.
    pub(super) fn send_requests(
        &mut self,
        now: Instant,
        ring: &mut Ring,
        shard: &mut Shard,
    ) -> Result<bool, IoError> {
        if let Some(hear) = shard.poll_hear_new() {
            self.intake.hear_new(hear)?;
            // The hub waits for the word that this is done.
            return Ok(true);
        }
        self.look(now, shard);
        let Some(mut buffer) = ring.send_buffer() else { return Ok(false) };
        let room = buffer.len().min(BATCH_BYTES);
        let Some(send) = shard.poll_kernel(now, &mut buffer[..room]) else { return Ok(false) };
        let lane = send.lane as usize;
        ring.send(
            Token::KernelSent(lane as u32).raw(),
            self.lanes[lane].fd(),
            buffer.freeze(),
            0..send.len,
            &SendOptions::default(),
        )?;
        Ok(true)
    }

    /// Takes a completion of a request socket.
    pub(super) fn on_answer(now: Instant, outcome: &Outcome, shard: &mut Shard) {
        match outcome {
            Outcome::Received(bytes) => shard.on_kernel_answer(now, bytes),
            Outcome::Overrun { .. } | Outcome::Failed(_) | Outcome::Cancelled => {
                shard.kernel_answers_lost(now);
            }
            _ => {}
        }
    }
}
