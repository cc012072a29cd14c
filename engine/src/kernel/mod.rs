//! The kernel's side of a shard: everything that is written into the kernel's table or read out
//! of it, events aside.
//!
//! [`KernelSide`] is sans-io: it says which requests to send by which socket, is given what
//! arrives, and is told the time. It belongs to one shard and handles that shard's flows only.
//!
//! * *Commit* writes the external cache into the kernel, in passes over all shards: first what stands
//!   alone, then what was expected, whose masters must exist, then what those expected in turn.
//! * *Injection* writes what peers report into the kernel as it comes, see [`orphans`] for what
//!   comes too early.
//! * *Resync* brings the internal cache into agreement with a dump of the kernel's table. One
//!   dump serves all shards; somebody else reads it.
//! * *Classification and audit* look after silent flows, see [`sweep`].
//! * *Reading* fetches what events leave out, see [`read`] and [`inactive`].
//! * *Flush* deletes the kernel's flows that pass the filter.
//!
//! Requests go in batches of up to a hundred, one batch at a time, with one acknowledgement at
//! its end. A request never waits for the answer to another one.

mod batch;
mod commit;
pub mod errno;
mod flush;
mod inactive;
mod inject;
mod look;
mod origin;
mod orphans;
mod plan;
mod read;
mod report;
mod request;
mod resync;
mod rhythm;
mod send;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto_ctnl::{Content, Flow, FlowRef, Messages};

use crate::cache::FlowIndex;
use crate::caches::Caches;
use crate::filter::FlowFilter;

pub use commit::{Coming, FlowKey, Pass};
pub use inject::{InjectKind, QueueFull};
pub use look::LOOK_BURST;
pub use origin::{Effect, Lane, Origin, Ports};
pub use report::{
    AuditReport, CommitReport, Failure, FlushReport, KernelCounters, KernelEvent, Object,
    Operation, ResyncReport,
};
pub use resync::DumpPurpose;
pub use sweep::{AuditMethod, audit_method};

use batch::{Batch, Slot};
use commit::{CommitExpectsRun, CommitRun};
use flush::FlushRun;
use inactive::Inactive;
use orphans::Orphans;
use plan::{Job, Step};
use report::Events;
use resync::DumpRun;
use sweep::Sweep;

/// What a shard's kernel side is told once.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// This shard.
    pub shard: u32,
    /// All shards.
    pub shards: u32,
    /// Restore TCP window scales instead of making flows liberal (`TCPWindowTracking`).
    pub window_tracking: bool,
    /// Seconds that committed entries live (`CommitTimeout`); `None`: what the peer's entry had
    /// left.
    pub commit_timeout_secs: Option<u32>,
    /// Received flows go straight into the kernel (`DisableExternalCache`).
    pub inject: bool,
    /// Most received objects that wait for injection.
    pub inject_queue_max: usize,
    /// Which flows count in dumps and flushes.
    pub filter: Arc<FlowFilter>,
    /// How long an answer is waited for. The kernel answers before the sending call returns, so
    /// this only bounds what a lost answer costs.
    pub patience: Duration,
    /// Time over which a pass over silent flows is spread.
    pub audit_period: Duration,
    /// Nobody listens for events: readings of the table take their place (`PollSecs`).
    pub polls: bool,
    /// Whether the owner can look at flows, see [`KernelSide::poll_look`].
    pub look: bool,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            shard: 0,
            shards: 1,
            window_tracking: false,
            commit_timeout_secs: None,
            inject: false,
            inject_queue_max: 8192,
            filter: Arc::default(),
            patience: Duration::from_secs(2),
            audit_period: Duration::from_secs(45),
            polls: false,
            look: false,
        }
    }
}

/// A batch to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// By which socket.
    pub lane: Lane,
    /// Octets of the buffer; one datagram.
    pub len: usize,
}

/// The kernel's side of one shard.
#[derive(Debug)]
pub struct KernelSide {
    config: KernelConfig,
    start: Instant,
    batch: Batch,
    /// What is to be asked again, in order, before anything new.
    redo: VecDeque<Slot>,
    inject: VecDeque<Slot>,
    /// How many objects were ever put there.
    injected: u64,
    orphans: Orphans,
    /// Flows that the last pass of a commit left, because their masters were missing.
    left: Vec<FlowIndex>,
    commit: Option<CommitRun>,
    commit_expects: Option<CommitExpectsRun>,
    flush: Option<FlushRun>,
    dump: Option<DumpRun>,
    sweep: Option<Sweep>,
    /// When marked flows are to be read.
    read: Option<Instant>,
    /// Where the next of them is looked for.
    read_from: FlowIndex,
    inactive: Inactive,
    /// Another audit is to follow the one under way.
    audit_again: bool,
    /// How flows were last seen.
    seen: Option<rhythm::Seen>,
    /// Places of the internal cache over which an audit is spread.
    span: u32,
    /// Audits begun.
    audits: u32,
    events: Events,
    counters: KernelCounters,
    /// There is work that neither an answer nor a deadline announces.
    busy: bool,
    last_now: Instant,
    scratch: Flow,
    stored: Flow,
}

impl KernelSide {
    /// The kernel's side of a shard. `start` is the time from which the caches' stamps count.
    pub fn new(config: KernelConfig, start: Instant) -> Self {
        Self {
            config,
            start,
            batch: Batch::new(1),
            redo: VecDeque::new(),
            inject: VecDeque::new(),
            injected: 0,
            orphans: Orphans::default(),
            left: Vec::new(),
            commit: None,
            commit_expects: None,
            flush: None,
            dump: None,
            sweep: None,
            read: None,
            read_from: FlowIndex::FIRST,
            inactive: Inactive::default(),
            audit_again: false,
            seen: None,
            span: 0,
            audits: 0,
            events: Events::new(),
            counters: KernelCounters::default(),
            busy: false,
            last_now: start,
            scratch: Flow::default(),
            stored: Flow::default(),
        }
    }

    /// Whose doing an event with this port id is.
    pub const fn origin(&self, port: u32, ports: &Ports) -> Origin {
        Origin::of(port, ports, self.config.inject)
    }

    /// Counts so far.
    pub const fn counters(&self) -> &KernelCounters {
        &self.counters
    }

    /// Takes what one of the request sockets received.
    pub fn on_datagram(&mut self, now: Instant, caches: &mut Caches, bytes: &[u8]) {
        self.last_now = now;
        for message in Messages::new(bytes) {
            let content = match message.and_then(|message| message.content()) {
                Ok(content) => content,
                Err(_) => {
                    self.counters.malformed += 1;
                    continue;
                }
            };
            match content {
                Content::Ack { seq } => self.on_answer(now, caches, seq, 0),
                Content::Error(error) => self.on_answer(now, caches, error.seq, error.errno),
                Content::Flow(flow) => self.on_entry(now, caches, &flow),
                Content::Expect(expect) => self.on_expect_read(now, caches, &expect),
                _ => self.counters.strays += 1,
            }
        }
    }

    /// The answers to what is under way may be lost: a request socket overran, or its requests
    /// could not be sent.
    pub fn answers_lost(&mut self, now: Instant, caches: &mut Caches) {
        self.last_now = now;
        if self.batch.in_flight() {
            self.counters.unanswered += 1;
            self.complete(now, caches);
        }
    }

    /// When [`KernelSide::handle_timeout`] and [`KernelSide::poll_send`] want to be called next.
    /// At once if there is something to tell: a pass may end while nothing is left to be sent,
    /// and its owner would sleep on the news.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let work = (self.busy || !self.events.is_empty()).then_some(self.last_now);
        let sweep = match &self.sweep {
            Some(sweep) if !self.batch.in_flight() => sweep.due(),
            _ => None,
        };
        let idle = !self.batch.in_flight();
        let read = self.read.filter(|_| idle);
        let inactive = self.inactive.due().filter(|_| idle);
        let orphans = self.orphans.due().filter(|_| idle);
        [work, sweep, read, inactive, orphans, self.batch.deadline(), self.events.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed; a slice of what is left of a resync is done.
    pub fn handle_timeout(&mut self, now: Instant, caches: &mut Caches) {
        self.last_now = now;
        self.busy = false;
        self.events.handle_timeout(now);
        if self.batch.deadline().is_some_and(|deadline| now >= deadline) {
            self.counters.unanswered += 1;
            self.complete(now, caches);
        }
        self.sweep_stale(now, caches);
    }

    /// Whether a batch is under way, whose answers are to be received.
    pub const fn awaits_answers(&self) -> bool {
        self.batch.in_flight()
    }

    /// What the owner should know.
    pub fn poll_event(&mut self) -> Option<KernelEvent> {
        self.events.pop()
    }

    /// Seconds since the engine's start, as the caches count.
    fn secs(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.start).as_secs()).unwrap_or(u32::MAX)
    }

    fn on_answer(&mut self, now: Instant, caches: &mut Caches, seq: u32, errno: i32) {
        match self.batch.answer(seq, errno) {
            Some(true) => self.complete(now, caches),
            Some(false) => {}
            None => self.counters.strays += 1,
        }
    }

    /// The kernel tells the entry that was asked for.
    fn on_entry(&mut self, now: Instant, caches: &mut Caches, flow: &FlowRef<'_>) {
        let Some(slot) = self.batch.by_seq(flow.message().seq) else {
            self.counters.strays += 1;
            return;
        };
        if slot.step != Step::Compare {
            self.counters.strays += 1;
            return;
        }
        let Object::Flow(wanted) = &slot.object else { return };
        let job = slot.job;
        if matches!(job, Job::Audit | Job::Read) {
            // The kernel looks for answers as well: then it is another flow that it tells.
            let found = flow.orig() == wanted.orig;
            slot.answer = Some(if found { 0 } else { errno::ENOENT });
            match (found, job) {
                (false, _) => {}
                (true, Job::Read) => self.on_read(caches, flow),
                (true, _) => self.on_audited(now, caches, flow),
            }
            return;
        }
        slot.answer = Some(0);
        self.stored.clear();
        let same = match flow.write_to(&mut self.stored) {
            Ok(()) => request::update_suffices(&self.stored, wanted),
            Err(_) => {
                self.counters.malformed += 1;
                false
            }
        };
        slot.same = Some(same);
    }
}
