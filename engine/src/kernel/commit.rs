//! Commit: the external cache into the kernel.
//!
//! A pass walks the cache in the order of its places, so it disturbs nobody and is disturbed by
//! nothing: what comes and goes meanwhile is committed or not. Flows that have run out are not
//! brought back to life.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use proto_ctnl::{ExpectPresent, Present, Tuple};

use crate::cache::{Cache, FlowIndex};
use crate::caches::Caches;
use crate::expects::ExpectIndex;

use super::batch::Slot;
use super::errno::EOPNOTSUPP;
use super::plan::{Job, Next};
use super::report::{CommitReport, KernelCounters, KernelEvent, Object};
use super::{KernelSide, request};

/// Flows looked at per call without finding one to commit.
const SCAN_MAX: u32 = 4096;

/// A flow by its original tuple and zone.
pub type FlowKey = (Tuple, u16);

/// Which masters another pass may bring. A flow whose master is none of them goes in without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coming {
    /// Any.
    Any,
    /// These, which were left themselves on one of the shards: they go in first, so that what they
    /// expected finds them.
    Left(Arc<HashSet<FlowKey>>),
    /// None.
    None,
}

/// Which flows a pass commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Those that stand alone. To be done on all shards before the other pass begins on any.
    Unrelated,
    /// Those that were expected by another flow's helper.
    Related,
    /// Those that the pass before left because their masters were missing.
    Orphans(Coming),
}

/// A pass over the external flow cache.
#[derive(Debug)]
pub(super) struct CommitRun {
    pass: Pass,
    /// `None`: the end is reached.
    cursor: Option<FlowIndex>,
    /// Flows whose outcome is open.
    open: u32,
    /// What the pass before left, in the order of the cache.
    left: std::vec::IntoIter<FlowIndex>,
    /// What this pass leaves.
    orphans: Vec<FlowIndex>,
    report: CommitReport,
}

impl CommitRun {
    /// Leaves a flow without its master to another pass, if there is one.
    pub(super) fn leave(&mut self, slot: &Slot) -> bool {
        let may_come = match (&self.pass, &slot.object) {
            (Pass::Orphans(Coming::None), _) => false,
            (Pass::Orphans(Coming::Left(left)), Object::Flow(flow)) => {
                left.contains(&(flow.master, flow.key_zone()))
            }
            _ => true,
        };
        if !may_come {
            return false;
        }
        self.open = self.open.saturating_sub(1);
        self.orphans.push(FlowIndex::from_raw(slot.index));
        self.report.orphaned += 1;
        true
    }

    pub(super) fn settle(&mut self, slot: &Slot, next: Next, counters: &mut KernelCounters) {
        self.open = self.open.saturating_sub(1);
        if next == Next::Failed {
            self.report.failed += 1;
            return;
        }
        self.report.committed += 1;
        self.report.updated += u64::from(slot.existed);
        if slot.bare {
            self.report.without_helper += 1;
            counters.without_helper += 1;
        }
        if slot.made_alone() {
            self.report.without_master += 1;
            counters.without_master += 1;
        }
    }

    /// The place of the next flow of this pass, none at the end.
    fn advance(&mut self, cache: &Cache) -> Option<FlowIndex> {
        let index = match self.pass {
            Pass::Orphans(_) => self.left.next(),
            Pass::Unrelated | Pass::Related => self.cursor.and_then(|at| cache.next_from(at)),
        };
        self.cursor = index.map(FlowIndex::next);
        index
    }

    /// Loads the next flow of this pass. `Some(false)`: there may be more, but not now.
    fn next(
        &mut self,
        cache: &Cache,
        fixed: Option<u32>,
        now: u32,
        slot: &mut Slot,
    ) -> Option<bool> {
        for _ in 0..SCAN_MAX {
            let index = self.advance(cache)?;
            let related = cache.present(index).is_some_and(|p| p.has(Present::MASTER));
            if related == (self.pass == Pass::Unrelated) {
                continue;
            }
            slot.index = index.raw();
            let flow = slot.flow_mut();
            let Some(meta) = cache.load(index, flow) else { continue };
            let reported = flow.present.has(Present::TIMEOUT).then_some(flow.timeout);
            let age = now.saturating_sub(meta.updated);
            let left = match request::left_to_live(fixed, reported, age) {
                Some(left) => left,
                None if request::may_have_been_prolonged(flow) => request::UNKNOWN_TIMEOUT_SECS,
                None => {
                    self.report.expired += 1;
                    continue;
                }
            };
            flow.timeout = left;
            flow.present.insert(Present::TIMEOUT);
            self.open += 1;
            return Some(true);
        }
        Some(false)
    }
}

/// A pass over the external expectation cache.
#[derive(Debug)]
pub(super) struct CommitExpectsRun {
    cursor: Option<ExpectIndex>,
    open: u32,
    report: CommitReport,
}

impl CommitExpectsRun {
    pub(super) fn settle(&mut self, next: Next, errno: i32, counters: &mut KernelCounters) {
        self.open = self.open.saturating_sub(1);
        if next == Next::Failed {
            self.report.failed += 1;
            counters.expects_without_helper += u64::from(errno == EOPNOTSUPP);
        } else {
            self.report.committed += 1;
        }
    }
}

impl KernelSide {
    /// Begins to commit the flows of one pass. `false`: a commit is under way.
    pub fn start_commit(&mut self, pass: Pass) -> bool {
        if self.committing() {
            return false;
        }
        let left = std::mem::take(&mut self.left).into_iter();
        self.commit = Some(CommitRun {
            pass,
            cursor: Some(FlowIndex::FIRST),
            open: 0,
            left,
            orphans: Vec::new(),
            report: CommitReport::default(),
        });
        self.busy = true;
        true
    }

    /// What the last pass left.
    pub fn left(&self, caches: &Caches) -> Vec<FlowKey> {
        self.left.iter().filter_map(|index| caches.external.key(*index)).collect()
    }

    /// Begins to commit the expectations. Their masters must be in the kernel, so both passes
    /// over the flows come before. `false`: a commit is under way.
    pub fn start_commit_expects(&mut self) -> bool {
        if self.committing() {
            return false;
        }
        let report = CommitReport::default();
        self.commit_expects =
            Some(CommitExpectsRun { cursor: Some(ExpectIndex::FIRST), open: 0, report });
        self.busy = true;
        true
    }

    /// Whether a commit is under way.
    pub const fn committing(&self) -> bool {
        self.commit.is_some() || self.commit_expects.is_some()
    }

    const fn fixed_timeout(&self) -> Option<u32> {
        match self.config.commit_timeout_secs {
            None | Some(0) => None,
            fixed => fixed,
        }
    }

    pub(super) fn take_commit(&mut self, now: Instant, caches: &Caches) -> bool {
        let (fixed, secs) = (self.fixed_timeout(), self.secs(now));
        let Some(run) = &mut self.commit else { return false };
        if run.cursor.is_none() {
            return false;
        }
        let slot = self.batch.vacant().0;
        slot.reset(Job::Commit);
        match run.next(&caches.external, fixed, secs, slot) {
            Some(true) => true,
            Some(false) => {
                self.busy = true;
                false
            }
            None => false,
        }
    }

    pub(super) fn take_commit_expect(&mut self, now: Instant, caches: &Caches) -> bool {
        let (fixed, secs) = (self.fixed_timeout(), self.secs(now));
        let Some(run) = &mut self.commit_expects else { return false };
        for _ in 0..SCAN_MAX {
            let Some(cursor) = run.cursor else { return false };
            let Some(index) = caches.expects_external.next_from(cursor) else {
                run.cursor = None;
                return false;
            };
            run.cursor = Some(index.next());
            let Some((stored, meta)) = caches.expects_external.get(index) else { continue };
            let reported = stored.present.has(ExpectPresent::TIMEOUT).then_some(stored.timeout);
            let age = secs.saturating_sub(meta.updated);
            let Some(left) = request::left_to_live(fixed, reported, age) else {
                run.report.expired += 1;
                continue;
            };
            let slot = self.batch.vacant().0;
            slot.reset(Job::CommitExpect);
            let expect = slot.expect_mut();
            *expect = *stored;
            expect.timeout = left;
            expect.present.insert(ExpectPresent::TIMEOUT);
            run.open += 1;
            return true;
        }
        self.busy = true;
        false
    }

    pub(super) fn announce_commit(&mut self) {
        if let Some(run) = self.commit.take_if(|run| run.cursor.is_none() && run.open == 0) {
            self.left = run.orphans;
            self.events.push(KernelEvent::CommitDone(run.report));
        }
        if let Some(run) = self.commit_expects.take_if(|run| run.cursor.is_none() && run.open == 0)
        {
            self.events.push(KernelEvent::CommitExpectsDone(run.report));
        }
    }
}
