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
//! *Audit* reads every silent flow once per period. Asking for one costs 3.8 µs, being shown one
//! in a dump 2.1 µs, but a dump shows the whole table. An update without content costs 1.0 µs
//! and would find what is gone, but not what changed.

use std::time::{Duration, Instant};

use proto_ctnl::{FlowRef, Present};

use crate::cache::FlowIndex;
use crate::caches::Caches;

use super::KernelSide;
use super::batch::{Slot, zone};
use super::plan::{Job, Next};
use super::report::{AuditReport, KernelEvent, Object};
use super::resync::Absorbed;

/// Nanoseconds that asking for one entry costs, the answer included.
const GET_NS: u64 = 3_800;
/// Nanoseconds that one entry of a dump costs.
const DUMP_NS: u64 = 2_300;
/// Nanoseconds that a bucket of the kernel's hash table costs in a dump.
const BUCKET_NS: u64 = 40;

/// Flows asked for in one batch of an audit; answers need more room in the socket than
/// acknowledgements.
const AUDIT_BATCH: usize = 64;
/// Shortest time between two batches, so that a pass leaves the core to others.
const GAP_MIN: Duration = Duration::from_millis(2);

/// How silent flows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditMethod {
    /// There are none.
    None,
    /// Each shard asks for each of its own: [`KernelSide::start_audit`].
    Ask,
    /// The table is dumped for [`super::DumpPurpose::Reconcile`].
    Dump,
}

/// The cheaper way to read `silent` flows out of a table of `flows` in `buckets`, all shards
/// together. (`flows` of this namespace; the kernel's hash table is that of the machine.)
pub const fn audit_method(silent: u64, flows: u64, buckets: u64) -> AuditMethod {
    if silent == 0 {
        AuditMethod::None
    } else if silent * GET_NS <= flows * DUMP_NS + buckets * BUCKET_NS {
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
    open: u32,
    next: Instant,
    gap: Duration,
    batch_max: usize,
    report: AuditReport,
}

impl Sweep {
    /// When the next batch is due; `None` if all were visited.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.visit {
            Visit::All(None) => None,
            _ => Some(self.next),
        }
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.next = now + self.gap;
    }

    fn next_flow(&mut self, caches: &Caches) -> Option<FlowIndex> {
        match &mut self.visit {
            Visit::All(cursor) => {
                let found = caches.internal.next_silent((*cursor)?);
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
}

impl KernelSide {
    /// Begins to ask for every silent flow, spread over the configured period. `false`: there is
    /// none, or another pass is under way.
    pub fn start_audit(&mut self, now: Instant, caches: &Caches) -> bool {
        let silent = caches.internal.silent_len();
        if silent == 0 || self.sweep.is_some() {
            return false;
        }
        let batches = silent.div_ceil(AUDIT_BATCH as u32);
        let gap = (self.config.audit_period / batches).max(GAP_MIN);
        let visit = Visit::All(Some(FlowIndex::FIRST));
        self.begin_sweep(now, Job::Audit, visit, gap, AUDIT_BATCH);
        true
    }

    /// Begins to ask the kernel which flows are silent, after the first dump and, of its own
    /// accord, after every other that showed new flows.
    pub fn start_classify(&mut self, now: Instant, caches: &Caches) {
        if caches.internal.silent_len() > 0 {
            let visit = Visit::All(Some(FlowIndex::FIRST));
            self.begin_sweep(now, Job::Classify, visit, GAP_MIN, super::batch::BATCH_MAX);
        }
    }

    /// Whether a pass over silent flows is under way.
    pub const fn sweeping(&self) -> bool {
        self.sweep.is_some()
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
            let visit = Visit::These(fresh, 0);
            self.begin_sweep(now, Job::Classify, visit, GAP_MIN, super::batch::BATCH_MAX);
        }
    }

    /// Classification takes the place of whatever pass was under way: an audit starts again with
    /// the next period.
    fn begin_sweep(
        &mut self,
        now: Instant,
        job: Job,
        visit: Visit,
        gap: Duration,
        batch_max: usize,
    ) {
        let report = AuditReport::default();
        // Requests of the pass before may still be open; their answers count here.
        let open = self.sweep.as_ref().map_or(0, |sweep| sweep.open);
        self.sweep = Some(Sweep { job, visit, open, next: now, gap, batch_max, report });
    }

    pub(super) fn take_silent(&mut self, now: Instant, caches: &Caches) -> bool {
        let Some(sweep) = &mut self.sweep else { return false };
        if now < sweep.next || self.batch.len() >= sweep.batch_max {
            return false;
        }
        let Some(index) = sweep.next_flow(caches) else { return false };
        let Some((orig, zone)) = caches.internal.key(index) else { return false };
        sweep.open += 1;
        sweep.report.checked += 1;
        let job = sweep.job;
        let slot = self.batch.vacant().0;
        slot.reset(job);
        slot.index = index.raw();
        let flow = slot.flow_mut();
        (flow.orig, flow.zone) = (orig, zone);
        flow.present = Present::ORIG;
        if zone != 0 {
            flow.present.insert(Present::ZONE);
        }
        true
    }

    /// An event that our own look at an entry caused: the kernel does report this flow, and what
    /// it says may be news.
    pub fn confirm(&mut self, now: Instant, caches: &mut Caches, flow: &FlowRef<'_>) {
        self.absorb(now, caches, flow, true);
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
        let changed = self.absorb(now, caches, flow, true) == Absorbed::Changed;
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
                let index = FlowIndex::from_raw(slot.index);
                let Object::Flow(flow) = &slot.object else { return };
                let same = caches.internal.key(index) == Some((flow.orig, zone(flow)));
                // If an event has shown it since, there is a new flow of that tuple.
                if same && caches.internal.meta(index).is_some_and(|meta| meta.silent) {
                    caches.internal.kill(index);
                    sweep.report.vanished += 1;
                }
            }
            _ => {}
        }
    }

    pub(super) fn announce_sweep(&mut self) {
        let done = |sweep: &mut Sweep| sweep.due().is_none() && sweep.open == 0;
        if let Some(sweep) = self.sweep.take_if(done) {
            self.events.push(match sweep.job {
                Job::Classify => KernelEvent::ClassifyDone(sweep.report),
                _ => KernelEvent::AuditDone(sweep.report),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_way_is_taken() {
        assert_eq!(audit_method(0, 1_000_000, 262_144), AuditMethod::None);
        assert_eq!(audit_method(1000, 1_000_000, 262_144), AuditMethod::Ask);
        assert_eq!(audit_method(1_000_000, 1_000_000, 262_144), AuditMethod::Dump);
        assert_eq!(
            audit_method(1000, 1000, 262_144),
            AuditMethod::Ask,
            "the walk alone costs more"
        );
    }
}
