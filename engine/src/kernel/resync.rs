//! Resync: the internal cache is brought into agreement with a dump of the kernel's table.
//!
//! One dump feeds all shards; a shard looks at the flows of its own slice. Events go on
//! meanwhile, and an event is always newer than the dump, see [`crate::epoch`]. What the dump
//! shows and the cache did not know is taken as silent at first: the kernel may never tell
//! anything of it. A pass of classification follows and finds out, see [`super::sweep`].

use std::time::{Duration, Instant};

use proto_ctnl::{
    Content, Expect, ExpectPresent, Flow, FlowRef, Labels, Messages, Present, ProtoInfo, shard_of,
};

use crate::cache::{Dumped, FlowIndex};
use crate::caches::Caches;

use super::KernelSide;
use super::report::{KernelEvent, ResyncReport};

/// Flows removed per call after a dump.
const STALE_SLICE: u32 = 4096;
/// New flows that are remembered one by one for classification; beyond, all silent ones are asked.
const FRESH_MAX: usize = 1 << 16;

/// Why the kernel's table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpPurpose {
    /// The daemon starts: the cache is filled, nothing is sent.
    Start,
    /// An operator asks (`-R`): the dump is merged, nothing is removed, and what is new is not sent.
    Merge,
    /// Events were lost, or silent flows are audited: what is new, differs or was never sent is
    /// sent, what the kernel no longer has is removed and sent as such.
    Reconcile,
    /// The same after a commit, during which new flows were not heard of. Those that the external
    /// cache has were made by the commit.
    Committed,
}

impl DumpPurpose {
    const fn tell(self) -> Tell {
        match self {
            Self::Start | Self::Merge => Tell::Changes,
            Self::Reconcile | Self::Committed => Tell::Missed,
        }
    }
}

/// What peers are told of what the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// What differs of a flow that was known: whoever finds that is the last who can tell it.
    Changes,
    /// Flows that were not known as well.
    News,
    /// Also flows that were never sent: the event may have been lost, and the flow found by a
    /// reading that does not tell what is new.
    Missed,
}

/// A dump under way, or what is left to do after it.
#[derive(Debug)]
pub(super) struct DumpRun {
    purpose: DumpPurpose,
    report: ResyncReport,
    /// The dump is over; what nothing confirmed is being removed.
    removing: bool,
    fresh: Vec<FlowIndex>,
    all_fresh: bool,
}

impl KernelSide {
    /// Whether readings of the table take the place of events.
    pub(crate) const fn polls(&self) -> bool {
        self.config.polls
    }

    /// A dump of the kernel's table begins; events read before it were handled. `false`: another
    /// dump, or a flush, is under way.
    pub fn begin_dump(&mut self, purpose: DumpPurpose, caches: &mut Caches) -> bool {
        if self.dump.is_some() || self.flush.is_some() {
            return false;
        }
        caches.internal.begin_epoch();
        if self.config.polls {
            caches.expects_internal.begin_epoch();
        }
        self.dump = Some(DumpRun {
            purpose,
            report: ResyncReport::default(),
            removing: false,
            fresh: Vec::new(),
            all_fresh: false,
        });
        true
    }

    /// Takes a datagram of a dump. Messages about other shards' flows are passed over.
    pub fn on_dump_datagram(&mut self, now: Instant, caches: &mut Caches, bytes: &[u8]) {
        for message in Messages::new(bytes) {
            match message.and_then(|message| message.content()) {
                Ok(Content::Flow(flow)) => self.on_dump_message(now, caches, &flow),
                Ok(Content::Expect(expect)) => {
                    let mut owned = Expect::default();
                    match expect.write_to(&mut owned) {
                        Ok(()) => self.on_dump_expect(now, caches, &owned),
                        Err(_) => self.counters.malformed += 1,
                    }
                }
                Ok(_) => {}
                Err(_) => self.counters.malformed += 1,
            }
        }
    }

    /// Takes a flow of a dump. That of another shard is passed over.
    pub fn on_dump_message(&mut self, now: Instant, caches: &mut Caches, flow: &FlowRef<'_>) {
        if self.config.shards > 1 && shard_of(&flow.orig(), self.config.shards) != self.config.shard
        {
            return;
        }
        if self.flush.is_some() {
            self.flush_entry(flow);
            return;
        }
        let Some(purpose) = self.dump.as_ref().map(|run| run.purpose) else { return };
        // What a commit made is the peer's: it is told like everything that others may have.
        let committed = purpose == DumpPurpose::Committed
            && caches.external.find(&flow.orig(), flow.key_zone()).is_some();
        let tell = if committed { Tell::Changes } else { purpose.tell() };
        let outcome = self.absorb(now, caches, flow, tell, true);
        let Some(run) = &mut self.dump else { return };
        run.report.seen += u64::from(outcome != Absorbed::Filtered);
        match outcome {
            Absorbed::Created(index) => {
                run.report.created += 1;
                if committed || self.config.polls {
                    // Events were on when it was made, or nobody listens for them anyway.
                    caches.internal.mark_seen(index);
                } else if run.fresh.len() < FRESH_MAX {
                    run.fresh.push(index);
                } else {
                    run.all_fresh = true;
                }
            }
            Absorbed::Changed => run.report.changed += 1,
            Absorbed::NoSpace => run.report.no_space += 1,
            Absorbed::Same | Absorbed::Older | Absorbed::Filtered => {}
        }
    }

    /// Takes an expectation of a dump. One that was not known is told to nobody but where readings
    /// take the place of events; that the flags of one have changed is told by no event. Whose
    /// master is not in this shard's internal cache is passed over.
    pub fn on_dump_expect(&mut self, now: Instant, caches: &mut Caches, expect: &Expect) {
        if self.config.shards > 1
            && shard_of(&expect.master, self.config.shards) != self.config.shard
        {
            return;
        }
        let zone = if expect.present.has(ExpectPresent::ZONE) { expect.zone } else { 0 };
        if caches.internal.find(&expect.master, zone).is_none() {
            return;
        }
        // A full cache counts what it refuses.
        let changed = caches.expects_internal.has_other_flags(expect);
        let Ok(stored) = caches.expects_internal.merge(expect, self.secs(now)) else { return };
        let missed = self.config.polls
            && !stored.existed
            && self.dump.as_ref().is_some_and(|run| run.purpose.tell() == Tell::Missed);
        if changed || missed {
            caches.expects_internal.mark_changed(stored.index);
        }
        if !self.config.polls {
            self.read_if_inactive(now, stored.index, expect);
        }
    }

    /// A reading that took the place of events has ended: what it did not show has ended.
    fn sweep_stale_expects(caches: &mut Caches, told: bool) {
        while told && let Some(index) = caches.expects_internal.take_stale() {
            caches.expects_internal.kill(index);
        }
        caches.expects_internal.end_epoch();
    }

    /// The dump is over. `complete`: it came to its regular end.
    pub fn dump_finished(&mut self, now: Instant, caches: &mut Caches, complete: bool) {
        self.last_now = now;
        if self.flush.is_some() {
            self.flush_dumped(complete);
            return;
        }
        let Some(run) = &mut self.dump else { return };
        run.report.repeat = !complete || caches.internal.tombstones_overflowed();
        run.removing = true;
        if complete && run.report.no_space == 0 {
            caches.internal.holds_all();
        }
        let vanished = complete && run.purpose.tell() == Tell::Missed;
        if !vanished {
            caches.internal.end_epoch();
        }
        if self.config.polls {
            Self::sweep_stale_expects(caches, vanished);
        }
        if complete && run.purpose != DumpPurpose::Merge {
            self.seen = Some(super::rhythm::Seen { begin: now, spread: Duration::ZERO });
        }
        self.sweep_stale(now, caches);
    }

    /// Removes a slice of what nothing confirmed since the dump began.
    pub(super) fn sweep_stale(&mut self, now: Instant, caches: &mut Caches) {
        let Some(run) = &mut self.dump else { return };
        if !run.removing {
            return;
        }
        if caches.internal.in_epoch() {
            for _ in 0..STALE_SLICE {
                let Some(index) = caches.internal.take_stale() else {
                    caches.internal.end_epoch();
                    break;
                };
                caches.internal.kill(index);
                run.report.vanished += 1;
            }
        }
        if caches.internal.in_epoch() {
            self.busy = true;
            return;
        }
        let Some(run) = self.dump.take() else { return };
        self.events.push(KernelEvent::ResyncDone(run.report));
        self.classify_fresh(now, caches, run.fresh, run.all_fresh);
    }

    /// Brings the internal cache up to date with what the kernel says of an entry, and
    /// peers as `tell` says. `whole`: it says everything, as only answers do.
    pub(super) fn absorb(
        &mut self,
        now: Instant,
        caches: &mut Caches,
        flow: &FlowRef<'_>,
        tell: Tell,
        whole: bool,
    ) -> Absorbed {
        let secs = self.secs(now);
        let seen = &mut self.scratch;
        seen.clear();
        if flow.write_to(seen).is_err() {
            self.counters.malformed += 1;
            return Absorbed::Filtered;
        }
        let cache = &mut caches.internal;
        let index = cache.find(&seen.orig, seen.key_zone());
        if !self.config.filter.passes(seen) {
            // In a state that does not count, but still there.
            if let Some(index) = index {
                cache.touch(index);
            }
            return Absorbed::Filtered;
        }
        let (mut differs, mut other) = (true, false);
        // Of one that has ended peers have heard, or will: that another began in its place is news
        // that nobody else has.
        let ended = || cache.find_any(&seen.orig, seen.key_zone()).is_some();
        let mut told = tell != Tell::Changes || index.is_none() && ended();
        if let Some(index) = index
            && let Some(meta) = cache.load(index, &mut self.stored)
        {
            complete(seen, &self.stored);
            other = whole && is_other(&self.stored, seen);
            differs = other || says_more(&self.stored, seen);
            told = differs || tell == Tell::Missed && meta.pos == 0;
        }
        let stored =
            if other { cache.replace_dump(seen, secs) } else { cache.merge_dump(seen, secs) };
        let stored = match stored {
            Ok(Dumped::Stored(stored)) => stored,
            Ok(Dumped::Completed(index)) => {
                cache.load(index, seen);
                if says_more(&self.stored, seen) {
                    cache.mark_changed(index);
                }
                return Absorbed::Older;
            }
            Ok(Dumped::Current(_) | Dumped::Destroyed) => return Absorbed::Older,
            Err(_) => return Absorbed::NoSpace,
        };
        if told {
            cache.mark_changed(stored.index);
        }
        match (stored.existed && !other, differs) {
            (false, _) => {
                if self.config.inject {
                    cache.disclaim(stored.index);
                }
                Absorbed::Created(stored.index)
            }
            (true, true) => Absorbed::Changed,
            (true, false) => Absorbed::Same,
        }
    }
}

/// What became of an entry that the kernel told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absorbed {
    /// It was not known.
    Created(FlowIndex),
    /// It differed.
    Changed,
    /// It was known so.
    Same,
    /// An event said more about it.
    Older,
    /// It does not count, or could not be read.
    Filtered,
    /// The cache is full.
    NoSpace,
}

/// The kernel leaves labels out when none is set, so what it leaves out is none.
const fn complete(seen: &mut Flow, stored: &Flow) {
    if stored.present.has(Present::LABELS) && !seen.present.has(Present::LABELS) {
        seen.labels = Labels([0; 4]);
        seen.present.insert(Present::LABELS);
    }
}

/// Whether the whole entry `seen` is of another flow than `stored`, whose end and whose beginning
/// were missed. The kernel gives most identifiers again to the next flow of the same tuple; but a
/// flow never loses any of these.
fn is_other(stored: &Flow, seen: &Flow) -> bool {
    let both = |bit| stored.present.has(bit) && seen.present.has(bit);
    let lost = |bit| stored.present.has(bit) && !seen.present.has(bit);
    both(Present::ID) && stored.id != seen.id
        || both(Present::REPLY) && stored.reply != seen.reply
        || both(Present::MASTER) && stored.master != seen.master
        || lost(Present::MASTER)
        || lost(Present::SEQADJ)
        || lost(Present::SYNPROXY)
        || lost(Present::HELPER) && !stored.helper.is_empty()
}

/// Whether peers learn anything from `seen` that `stored` did not tell them. Times, counters and
/// references change all the time and are no news.
fn says_more(stored: &Flow, seen: &Flow) -> bool {
    // Absent is as good as zero for all of these.
    let old = |bit| stored.present.has(bit);
    let new = |bit| seen.present.has(bit);
    let mark = |flow: &Flow| if flow.present.has(Present::MARK) { flow.mark } else { 0 };
    (new(Present::REPLY) && old(Present::REPLY) && stored.reply != seen.reply)
        || (new(Present::STATUS) && !(old(Present::STATUS) && stored.status == seen.status))
        || (new(Present::MARK) && mark(stored) != mark(seen))
        || (new(Present::PROTOINFO)
            && !(old(Present::PROTOINFO) && same_state(&stored.protoinfo, &seen.protoinfo)))
        || (new(Present::HELPER) && !(old(Present::HELPER) && stored.helper == seen.helper))
        || (new(Present::MASTER) && !old(Present::MASTER))
        || (new(Present::LABELS)
            && !(if old(Present::LABELS) { stored.labels } else { Labels::default() }
                == seen.labels))
        || (new(Present::SEQADJ) && !(old(Present::SEQADJ) && stored.seqadj == seen.seqadj))
}

/// Whether what is replicated of a protocol's state is the same.
fn same_state(a: &ProtoInfo, b: &ProtoInfo) -> bool {
    match (a, b) {
        (ProtoInfo::Tcp(a), ProtoInfo::Tcp(b)) => {
            a.state == b.state && (a.wscale.is_none() || b.wscale.is_none() || a.wscale == b.wscale)
        }
        (ProtoInfo::Sctp(a), ProtoInfo::Sctp(b)) => {
            a.state == b.state && (a.vtag.is_none() || b.vtag.is_none() || a.vtag == b.vtag)
        }
        (ProtoInfo::Dccp(a), ProtoInfo::Dccp(b)) => a.state == b.state && a.role == b.role,
        _ => false,
    }
}
