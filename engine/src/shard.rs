//! One slice of the flow space: its caches and what changes them. Sans-io.
//!
//! Events and peer messages come in as bytes, change one entry, and mark it to be sent; messages
//! leave through [`Shard::next_change`]. What the kernel tells is taken in [`crate::told`], what the
//! peer reports in [`crate::received`], orders of the hub in [`crate::duties`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto_ctnl::{Expect, Flow};
use proto_sync::{EncodeOptions, FlowLayouts, Kind, Next, Token, encode_expect, encode_flow};

use crate::alarm::{Alarm, AlarmTimes};
use crate::bypass::Bypass;
use crate::cache::{Change, FlowIndex};
use crate::caches::Caches;
use crate::config::Expectations;
use crate::expects::ExpectIndex;
use crate::filter::FlowFilter;
use crate::inbox::Inbox;
use crate::kernel::{KernelConfig, KernelSide, Ports};
use crate::log::FlowLog;
use crate::mesh::Fate;
use crate::order::{Outcome, TableUse};
use crate::snapshot::Traffic;

/// Somebody waits for the kernel to have what the peer has told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settling {
    pub(crate) until: Until,
    /// Injections that had failed when it was asked for.
    pub(crate) failed: u64,
}

/// What is waited for first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// So many octets taken from the inbox.
    Inbox(u64),
    /// The answers to so many injections.
    Kernel(u64),
}

/// Marks a token of an expectation; flow indices are below it.
const EXPECT_TOKEN: u32 = 1 << 31;

/// Whether a token is of a flow, and not of an expectation.
pub(crate) const fn is_of_flow(token: Token) -> bool {
    token.index & EXPECT_TOKEN == 0
}

/// What a shard is told at start.
#[derive(Debug)]
pub struct ShardConfig {
    /// Number of the shard.
    pub id: u8,
    /// Flows per cache of this shard.
    pub limit: u32,
    /// Keys of the hash function, for the simulator; drawn at random if not given.
    pub seed: Option<u64>,
    /// How messages are written.
    pub encode: EncodeOptions,
    /// Whether what was sent is kept until the peer acknowledges it.
    pub acknowledged: bool,
    /// Whether changes are told to a peer at all.
    pub replicates: bool,
    /// Whether own flows are only told and not kept.
    pub bypass: bool,
    /// The times of mode ALARM, in that mode.
    pub alarm: Option<AlarmTimes>,
    /// Requests to the kernel.
    pub kernel: KernelConfig,
    /// Which expectations count.
    pub expectations: Expectations,
    /// The core that the thread is pinned to.
    pub cpu: Option<u16>,
    /// CPU time of the calling thread.
    pub cpu_time: fn() -> Duration,
    /// Where flows are told that have ended.
    pub flow_log: Option<Arc<dyn FlowLog>>,
}

/// What a shard counts beside its caches.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardCounters {
    /// Events, those that the filter left out included.
    pub events: u64,
    /// Events that the filter left out, in the kernel or here.
    pub filtered: u64,
    /// Messages that are no event.
    pub unknown: u64,
    /// Events lost, as the intake counts them.
    pub lost: u64,
    /// Bursts of lost events.
    pub overruns: u64,
    /// Drains that found events.
    pub drains: u64,
    /// Messages handed to the link.
    pub sent: u64,
    /// Messages received from the peer.
    pub received: u64,
    /// Objects that no datagram has room for.
    pub too_large: u64,
    /// Bytes and packets of flows that ended.
    pub traffic: Traffic,
    /// Longest turn in microseconds: events had to wait so long.
    pub turn_max_us: u64,
}

/// See the module's description.
#[derive(Debug)]
pub struct Shard {
    /// Number of the shard.
    pub id: u8,
    /// What was counted; the owner counts losses and turns here.
    pub counters: ShardCounters,
    pub(crate) caches: Caches,
    pub(crate) kernel: KernelSide,
    pub(crate) ports: Ports,
    pub(crate) filter: Arc<FlowFilter>,
    pub(crate) expectations: Expectations,
    encode: EncodeOptions,
    acknowledged: bool,
    pub(crate) replicates: bool,
    pub(crate) alarm: Option<Alarm>,
    pub(crate) bypass: Option<Bypass>,
    pub(crate) inject: bool,
    pub(crate) layouts: FlowLayouts,
    /// What the peer told and the kernel has yet to take, if it takes it at once.
    pub(crate) inbox: Inbox,
    /// Who waits for what has come to be in the kernel.
    pub(crate) settling: VecDeque<Settling>,
    pub(crate) scratch: Flow,
    pub(crate) expect: Expect,
    pub(crate) outcomes: VecDeque<Outcome>,
    /// Whether to hear of new flows, until the intake knows.
    pub(crate) hear_new: Option<bool>,
    pub(crate) cpu: Option<u16>,
    pub(crate) cpu_time: fn() -> Duration,
    pub(crate) flow_log: Option<Arc<dyn FlowLog>>,
    /// How far the events of the intake were taken, and how many have come.
    pub(crate) intake: (u64, u64),
    /// A reading of the kernel's table that begins when the events are taken that had come before
    /// it was asked for.
    pub(crate) reading: Option<(TableUse, u64)>,
    /// A received object was refused since the last look.
    pub(crate) refused: bool,
    /// Forgotten ends of objects that were told to the hub.
    pub(crate) forgotten: u64,
    /// Objects without room that were told to the hub.
    pub(crate) no_space: u64,
    /// Whether a cache of flows is nearly full, as the hub was told.
    pub(crate) nearly_full: bool,
}

impl Shard {
    /// An empty shard, whose requests go by the sockets with these port ids. `began` is the start
    /// of the engine.
    pub fn new(config: ShardConfig, ports: Ports, began: Instant) -> Self {
        let inject = config.kernel.inject;
        let inbox = Inbox::new(config.limit, config.kernel.shards);
        let filter = config.kernel.filter.clone();
        let mut caches = Caches::new(config.limit, config.seed);
        let alarm = config.alarm.map(|times| {
            let seed = config.seed.unwrap_or_else(random_seed) ^ u64::from(config.id) << 32;
            Alarm::new(times, &mut caches, seed, began)
        });
        Self {
            id: config.id,
            counters: ShardCounters::default(),
            caches,
            kernel: KernelSide::new(config.kernel, began),
            ports,
            filter,
            expectations: config.expectations,
            encode: config.encode,
            acknowledged: config.acknowledged,
            replicates: config.replicates,
            alarm,
            bypass: config.bypass.then(Bypass::default),
            inject,
            layouts: FlowLayouts::new(),
            settling: VecDeque::new(),
            inbox,
            scratch: Flow::default(),
            expect: Expect::default(),
            outcomes: VecDeque::new(),
            hear_new: None,
            cpu: config.cpu,
            cpu_time: config.cpu_time,
            flow_log: config.flow_log,
            intake: (0, 0),
            reading: None,
            refused: false,
            forgotten: 0,
            no_space: 0,
            nearly_full: false,
        }
    }

    /// What it knows.
    pub const fn caches(&self) -> &Caches {
        &self.caches
    }

    /// A shard that tells no peer of its changes settles them itself: what a reading of the
    /// kernel's table found to be gone is told to the flow log.
    pub(crate) fn settle_changes(&mut self, now: Instant) {
        if self.replicates {
            return;
        }
        let internal = &mut self.caches.internal;
        while let Some((index, change)) = internal.next_changed() {
            if let (Change::Delete, Some(log)) = (change, &self.flow_log) {
                if !log.has_room() {
                    return;
                }
                self.scratch.clear();
                internal.load(index, &mut self.scratch);
                log.ended(now, &self.scratch);
            }
            internal.skip(index);
        }
    }

    /// Whether the flow log can be told of flows that are gone. One without room is tried again with
    /// the next turn.
    pub(crate) fn has_unsettled(&self) -> bool {
        !self.replicates
            && self.caches.internal.pending_len() > 0
            && self.flow_log.as_ref().is_none_or(|log| log.has_room())
    }

    /// Whether the flow in `scratch` counts.
    pub(crate) fn passes_filter(&self) -> bool {
        self.filter.passes(&self.scratch)
    }

    /// Whether a received object was refused since the last call, because the kernel does not
    /// keep up: the peer has to tell it again.
    pub const fn take_refused(&mut self) -> bool {
        std::mem::replace(&mut self.refused, false)
    }

    /// Writes the next message for the peer to the start of `room`.
    pub fn next_change(&mut self, room: &mut [u8]) -> Next {
        if !self.replicates {
            return Next::Empty;
        }
        match self.next_flow(room) {
            Next::Empty => self.next_expect(room),
            next => next,
        }
    }

    fn next_flow(&mut self, room: &mut [u8]) -> Next {
        let internal = &mut self.caches.internal;
        let Some((index, change)) = internal.next_changed() else { return Next::Empty };
        self.scratch.clear();
        internal.load(index, &mut self.scratch);
        let kind = match change {
            Change::New => Kind::New,
            Change::Update => Kind::Update,
            Change::Delete => Kind::Delete,
        };
        let Some(len) = encode_flow(kind, &self.scratch, &self.encode, room) else {
            return Next::NoRoom;
        };
        let pos = internal.sent(index, self.acknowledged);
        self.bypass_told(index, change);
        self.counters.sent += 1;
        Next::Message { len, token: Token { shard: self.id, index: index.raw(), pos } }
    }

    fn next_expect(&mut self, room: &mut [u8]) -> Next {
        let expects = &mut self.caches.expects_internal;
        let Some((index, change)) = expects.next_changed() else { return Next::Empty };
        let Some((expect, _)) = expects.get(index) else { return Next::Empty };
        let kind = match change {
            Change::New => Kind::ExpectNew,
            Change::Update => Kind::ExpectUpdate,
            Change::Delete => Kind::ExpectDelete,
        };
        let Some(len) = encode_expect(kind, expect, &self.encode, room) else {
            return Next::NoRoom;
        };
        let pos = expects.sent(index, self.acknowledged);
        self.counters.sent += 1;
        Next::Message {
            len,
            token: Token { shard: self.id, index: index.raw() | EXPECT_TOKEN, pos },
        }
    }

    /// The next message is too large for every datagram of this link: leaves it out.
    pub fn skip_change(&mut self) {
        self.counters.too_large += 1;
        if let Some((index, change)) = self.caches.internal.next_changed() {
            self.caches.internal.skip(index);
            self.bypass_told(index, change);
        } else if let Some((index, _)) = self.caches.expects_internal.next_changed() {
            self.caches.expects_internal.skip(index);
        }
    }

    /// What became of a message.
    pub fn fate(&mut self, fate: Fate, token: Token) {
        if is_of_flow(token) {
            let (index, pos) = (FlowIndex::from_raw(token.index), token.pos);
            let internal = &mut self.caches.internal;
            match fate {
                Fate::Acked => internal.acked(index, pos),
                Fate::Nacked => internal.nacked(index, pos),
                Fate::Evicted => internal.evicted(index, pos),
            }
        } else {
            let (index, pos) = (ExpectIndex::from_raw(token.index & !EXPECT_TOKEN), token.pos);
            let expects = &mut self.caches.expects_internal;
            match fate {
                Fate::Acked => expects.acked(index, pos),
                Fate::Nacked => expects.nacked(index, pos),
                Fate::Evicted => expects.evicted(index, pos),
            }
        }
    }

    /// The intake lost `events`: this slice of the kernel's table has to be read again.
    pub fn lost(&mut self, events: u64) {
        self.counters.lost += events;
        self.counters.overruns += 1;
        self.outcomes.push_back(Outcome::Lost(events));
    }

    /// The next thing that came of an order.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// When [`Self::work`] has something to do at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let alarm = self.alarm.as_ref().and_then(|alarm| alarm.poll_timeout(&self.caches));
        [self.kernel.poll_timeout(), alarm].into_iter().flatten().min()
    }
}

/// Random bits as the standard library's hash tables get them.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}
