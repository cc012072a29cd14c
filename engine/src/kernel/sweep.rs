//! Looking after silent flows.
//!
//! With `nf_conntrack_events` at 2, its default, an entry gets its event extension when it is
//! made, and only if somebody on the machine listens then. What was made before never tells
//! anything, neither a change nor its end, and an extension cannot be added later. Such flows are
//! *silent*: only reading them shows what became of them.
//!
//! A dump does not tell which flows are silent. *Classification* finds out: an update that
//! changes nothing makes the kernel raise an event if the entry can raise one. The event, which
//! carries our port id, shows that the flow is not silent; what stays is. It costs 1 µs for a
//! silent flow and 4 µs, once, for one that is not, and it also finds what is gone.
//!
//! *Audit* reads every silent flow once per period. Where the kernel permits, a program looks at
//! them, see [`super::look`]: 0.6 µs each. Otherwise asking for one costs 3.8 µs, being shown one
//! in a dump 2.1 µs, but a dump shows the whole table. An update without content costs 1.0 µs
//! and would find what is gone, but not what changed.

use std::time::{Duration, Instant};

use proto_ctnl::{FlowRef, Tuple};

use crate::cache::FlowIndex;
use crate::caches::Caches;

use super::batch::Slot;
use super::plan::{Job, Next};
use super::report::{AuditReport, KernelEvent, Object};
use super::resync::{Absorbed, Tell};
use super::rhythm::{Rhythm, Seen};
use super::{KernelSide, look};

/// Nanoseconds that looking at one entry costs, the few that are asked for included.
const LOOK_NS: u64 = 1_000;
/// Nanoseconds that asking for one entry costs, the answer included.
const GET_NS: u64 = 3_800;
/// Nanoseconds that one entry of a dump costs.
const DUMP_NS: u64 = 2_300;
/// Nanoseconds that a bucket of the kernel's hash table costs in a dump.
const BUCKET_NS: u64 = 40;

/// Flows read in one batch; answers need more room in the socket than
/// acknowledgements.
pub(super) const AUDIT_BATCH: usize = 64;
/// A flow is visited again after this share of the period more than the period, at the latest.
const LIMIT_SHARE: u32 = 7;
/// Shortest time between two batches, so that a pass leaves the core to others.
const GAP_MIN: Duration = Duration::from_millis(2);
/// Longest time between two batches while flows are left: so much later than its moment may a
/// flow be visited. A few flows in batches that are not full cost next to nothing.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How silent flows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditMethod {
    /// There are none.
    None,
    /// Each shard looks at or asks for each of its own: [`KernelSide::start_audit`].
    Ask,
    /// The table is dumped for [`super::DumpPurpose::Reconcile`].
    Dump,
}

/// The cheaper way to read `silent` flows out of a table of `flows` in `buckets`, all shards
/// together. (`flows` of this namespace; the kernel's hash table is that of the machine.) `look`:
/// shards can look at flows without asking, see [`KernelSide::allow_look`].
pub const fn audit_method(silent: u64, flows: u64, buckets: u64, look: bool) -> AuditMethod {
    let each = if look { LOOK_NS } else { GET_NS };
    if silent == 0 {
        AuditMethod::None
    } else if silent * each <= flows * DUMP_NS + buckets * BUCKET_NS {
        AuditMethod::Ask
    } else {
        AuditMethod::Dump
    }
}

/// Which flows a pass visits.
#[derive(Debug)]
enum Visit {
    /// All that are silent.
    All(Option<FlowIndex>),
    /// These, from the place on.
    These(Vec<FlowIndex>, usize),
}

/// A pass over silent flows.
#[derive(Debug)]
pub(super) struct Sweep {
    job: Job,
    visit: Visit,
    /// Flows are looked at, and only those of `ask` asked for.
    pub(super) look: bool,
    pub(super) ask: Vec<FlowIndex>,
    open: u32,
    rhythm: Rhythm,
    pub(super) next: Instant,
    batch_max: usize,
    pub(super) report: AuditReport,
}

impl Sweep {
    /// When the next batch is due; `None` if all were visited.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.visit {
            Visit::All(None) => None,
            _ => Some(self.next),
        }
    }

    /// A batch is done.
    pub(super) fn advance(&mut self, now: Instant, caches: &Caches) {
        let place = match self.visit {
            Visit::All(None) => return,
            Visit::All(Some(cursor)) => match caches.internal.next_silent(cursor) {
                Some(index) => index.raw(),
                None => {
                    self.visit = Visit::All(None);
                    return;
                }
            },
            Visit::These(..) => 0,
        };
        self.next = self.rhythm.next(now, place, GAP_MIN);
    }

    /// A batch of questions was sent.
    pub(super) fn advance_asked(&mut self, now: Instant, caches: &Caches) {
        if !self.look {
            self.advance(now, caches);
        }
    }

    /// Nothing was sent. If a batch was due, no flow's moment had come.
    pub(super) fn wait(&mut self, now: Instant, caches: &Caches) {
        if self.next <= now {
            self.advance_asked(now, caches);
        }
    }

    /// The next flow to be visited, if its moment has come.
    pub(super) fn next_flow(&mut self, now: Instant, caches: &Caches) -> Option<FlowIndex> {
        match &mut self.visit {
            Visit::All(cursor) => {
                let found = caches.internal.next_silent((*cursor)?);
                if found.is_some_and(|index| index.raw() >= self.rhythm.reach(now)) {
                    return None;
                }
                *cursor = found.map(FlowIndex::next);
                found
            }
            Visit::These(list, at) => {
                while let Some(&index) = list.get(*at) {
                    *at += 1;
                    // Others may have heard of it meanwhile, or have its place.
                    if caches.internal.meta(index).is_some_and(|meta| meta.silent) {
                        return Some(index);
                    }
                }
                self.visit = Visit::All(None);
                None
            }
        }
    }

    /// The next flow that is to be asked for in a batch that has `taken` already.
    fn next_asked(&mut self, now: Instant, caches: &Caches, taken: usize) -> Option<FlowIndex> {
        if taken >= self.batch_max {
            return None;
        }
        if self.look {
            return self.ask.pop();
        }
        if now < self.next {
            return None;
        }
        let index = self.next_flow(now, caches)?;
        self.report.checked += 1;
        Some(index)
    }

    const fn is_done(&self) -> bool {
        self.due().is_none() && self.open == 0 && self.ask.is_empty()
    }
}

impl KernelSide {
    /// Begins to visit every silent flow, spread over the configured period; if a pass is under
    /// way, the next one follows it. `false`: there is none.
    pub fn start_audit(&mut self, now: Instant, caches: &Caches) -> bool {
        let silent = caches.internal.silent_len();
        if silent == 0 {
            self.span = 0;
            return false;
        }
        if self.sweep.is_some() {
            self.audit_again = true;
            return true;
        }
        let look = self.config.look;
        let at_once = if look { look::LOOK_BURST } else { AUDIT_BATCH };
        let period = self.config.audit_period;
        let limit = period + period / LIMIT_SHARE;
        let spread = self.seen.map_or(period, |seen| seen.spread_now(now, period, limit));
        let gap = (spread / silent.div_ceil(at_once as u32)).clamp(GAP_MIN, GAP_MAX);
        // Places are counted from the highest that was ever silent, so that moments do not move
        // when those at the end are gone.
        self.span = self.span.max(caches.internal.silent_span());
        let rhythm = Rhythm::spread(now, spread, self.span, gap);
        self.audits = self.audits.wrapping_add(1);
        self.begin_sweep(Job::Audit, Visit::All(Some(FlowIndex::FIRST)), rhythm, AUDIT_BATCH);
        if let Some(sweep) = &mut self.sweep {
            sweep.look = look;
        }
        true
    }

    /// Begins to ask the kernel which flows are silent, after the first dump and, of its own
    /// accord, after every other that showed new flows.
    pub fn start_classify(&mut self, now: Instant, caches: &Caches) {
        if caches.internal.silent_len() > 0 {
            self.begin_classify(now, Visit::All(Some(FlowIndex::FIRST)));
        }
    }

    pub(super) fn classify_fresh(
        &mut self,
        now: Instant,
        caches: &Caches,
        fresh: Vec<FlowIndex>,
        more: bool,
    ) {
        if more || matches!(&self.sweep, Some(sweep) if sweep.job == Job::Classify) {
            self.start_classify(now, caches);
        } else if !fresh.is_empty() {
            self.begin_classify(now, Visit::These(fresh, 0));
        }
    }

    /// Classification takes the place of an audit, which begins again after it.
    fn begin_classify(&mut self, now: Instant, visit: Visit) {
        self.audit_again |= matches!(&self.sweep, Some(sweep) if sweep.job == Job::Audit);
        let rhythm = Rhythm::at_once(now, GAP_MIN);
        self.begin_sweep(Job::Classify, visit, rhythm, super::batch::BATCH_MAX);
    }

    fn begin_sweep(&mut self, job: Job, visit: Visit, rhythm: Rhythm, batch_max: usize) {
        // Requests of the pass before may still be open; their answers count here.
        let open = self.sweep.as_ref().map_or(0, |sweep| sweep.open);
        self.sweep = Some(Sweep {
            job,
            visit,
            look: false,
            ask: Vec::new(),
            open,
            rhythm,
            next: rhythm.begin,
            batch_max,
            report: AuditReport::default(),
        });
    }

    pub(super) fn take_silent(&mut self, now: Instant, caches: &Caches) -> bool {
        let Some(sweep) = &mut self.sweep else { return false };
        let taken = self.batch.len();
        let (index, key) = loop {
            let Some(index) = sweep.next_asked(now, caches, taken) else { return false };
            if let Some(key) = caches.internal.key(index) {
                break (index, key);
            }
        };
        sweep.open += 1;
        self.batch.fill(sweep.job, index.raw(), key);
        true
    }

    /// An event that our own look at an entry caused: the kernel does report this flow, and what
    /// it says may be news.
    pub fn confirm(&mut self, now: Instant, caches: &mut Caches, flow: &FlowRef<'_>) {
        self.absorb(now, caches, flow, Tell::News, false);
        if let Some(index) = caches.internal.find(&flow.orig(), flow.key_zone()) {
            caches.internal.touch(index);
            caches.internal.mark_seen(index);
        }
    }

    /// The kernel tells a silent entry.
    pub(super) fn on_audited(&mut self, now: Instant, caches: &mut Caches, flow: &FlowRef<'_>) {
        let silent = caches
            .internal
            .find(&flow.orig(), flow.key_zone())
            .and_then(|index| caches.internal.meta(index))
            .is_some_and(|meta| meta.silent);
        if !silent {
            // An event was faster, and is newer than this.
            return;
        }
        let changed = self.absorb(now, caches, flow, Tell::News, true) == Absorbed::Changed;
        if let Some(sweep) = &mut self.sweep {
            sweep.report.changed += u64::from(changed);
        }
    }

    pub(super) fn settle_silent(&mut self, caches: &mut Caches, slot: &Slot, next: Next) {
        let Some(sweep) = &mut self.sweep else { return };
        sweep.open = sweep.open.saturating_sub(1);
        match next {
            Next::Failed => sweep.report.failed += 1,
            Next::Absent => {
                let Object::Flow(flow) = &slot.object else { return };
                let gone = FlowIndex::from_raw(slot.index);
                sweep.report.vanished += forget(caches, gone, &flow.orig, flow.key_zone());
            }
            _ => {}
        }
    }

    pub(super) fn announce_sweep(&mut self, now: Instant, caches: &Caches) {
        let Some(sweep) = self.sweep.take_if(|sweep| sweep.is_done()) else { return };
        if sweep.job == Job::Audit {
            let Rhythm { begin, spread, .. } = sweep.rhythm;
            self.seen = Some(Seen { begin, spread });
            self.events.push(KernelEvent::AuditDone(sweep.report));
        } else {
            self.events.push(KernelEvent::ClassifyDone(sweep.report));
        }
        if std::mem::take(&mut self.audit_again) {
            self.start_audit(now, caches);
        }
    }
}

/// The kernel has no flow of this tuple in this zone. If an event has shown it since it was asked
/// for, there is a new one. Gives how many flows of the cache are gone.
pub(super) fn forget(caches: &mut Caches, index: FlowIndex, orig: &Tuple, zone: u16) -> u64 {
    let same = caches.internal.key(index) == Some((*orig, zone));
    let silent = caches.internal.meta(index).is_some_and(|meta| meta.silent);
    if !same || !silent {
        return 0;
    }
    caches.internal.kill(index);
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_way_is_taken() {
        let method = |silent, flows, look| audit_method(silent, flows, 262_144, look);
        assert_eq!(method(0, 1_000_000, false), AuditMethod::None);
        assert_eq!(method(1000, 1_000_000, false), AuditMethod::Ask);
        assert_eq!(method(1_000_000, 1_000_000, false), AuditMethod::Dump);
        assert_eq!(method(1000, 1000, false), AuditMethod::Ask, "the walk alone costs more");
        assert_eq!(method(1_000_000, 1_000_000, true), AuditMethod::Ask);
    }
}
