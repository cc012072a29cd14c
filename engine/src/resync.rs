//! When the kernel's table is read, what for, and for which shards.
//!
//! One reading serves every shard that wants one, and one is made at a time: it has ended when the
//! kernel has told everything and every shard has worked it off. A shard that lost events waits
//! until a second has passed without a further loss, so that a flood is not answered by a reading
//! for each of its bursts, but never longer than the configured delay.

use std::time::{Duration, Instant};

use crate::order::TableUse;

/// Quiet time after an overrun.
const QUIET: Duration = Duration::from_secs(1);
/// Time from a reading that failed to the next one.
const RETRY: Duration = Duration::from_millis(500);

/// A set of shards, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet(u64);

impl ShardSet {
    /// The first `n` shards, at most 64.
    pub(crate) const fn first(n: usize) -> Self {
        Self(if n >= 64 { u64::MAX } else { (1 << n) - 1 })
    }

    /// Whether `k` is in the set.
    pub(crate) const fn has(self, k: usize) -> bool {
        k < 64 && self.0 >> k & 1 == 1
    }

    /// Whether the set is empty.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn insert(&mut self, k: usize) {
        if k < 64 {
            self.0 |= 1 << k;
        }
    }

    const fn remove(&mut self, k: usize) {
        if k < 64 {
            self.0 &= !(1 << k);
        }
    }
}

/// A reading under way.
#[derive(Clone, Copy, Debug)]
struct Reading {
    purpose: TableUse,
    shards: ShardSet,
    /// Shards that have not begun.
    idle: ShardSet,
    /// Shards that are not done.
    open: ShardSet,
    told: bool,
    again: ShardSet,
}

/// The plan.
#[derive(Debug)]
pub(crate) struct ResyncPlan {
    /// Longest wait after an overrun; `None` never re-reads on its own.
    delay: Option<Duration>,
    all: ShardSet,
    start: bool,
    flush: bool,
    merge: bool,
    list: bool,
    committed: bool,
    reconcile: ShardSet,
    /// When `reconcile` is due, and the latest that may become.
    due: Option<Instant>,
    latest: Option<Instant>,
    reading: Option<Reading>,
}

impl ResyncPlan {
    /// A plan for `shards` shards; with `start` it begins with filling their caches. `delay` is the
    /// longest wait after an overrun; `None` never re-reads on its own.
    pub(crate) const fn new(shards: usize, delay: Option<Duration>, start: bool) -> Self {
        Self {
            delay,
            all: ShardSet::first(shards),
            start,
            flush: false,
            merge: false,
            list: false,
            committed: false,
            reconcile: ShardSet(0),
            due: None,
            latest: None,
            reading: None,
        }
    }

    /// Shard `k` lost events. Whether a reading makes that good.
    pub(crate) fn lost(&mut self, now: Instant, k: usize) -> bool {
        self.lost_of(now, ShardSet(if k < 64 { 1 << k } else { 0 }))
    }

    /// Events of all shards were lost.
    pub(crate) fn lost_of_all(&mut self, now: Instant) -> bool {
        self.lost_of(now, self.all)
    }

    fn lost_of(&mut self, now: Instant, shards: ShardSet) -> bool {
        let Some(delay) = self.delay else { return false };
        let latest = *self.latest.get_or_insert(now + delay);
        self.reconcile.0 |= shards.0;
        self.due = Some((now + QUIET).min(latest));
        true
    }

    /// The table is to be read for all shards.
    pub(crate) fn demand(&mut self, now: Instant, purpose: TableUse) {
        match purpose {
            TableUse::Start => self.start = true,
            TableUse::Flush => self.flush = true,
            TableUse::Merge => self.merge = true,
            TableUse::List => self.list = true,
            TableUse::Committed => self.committed = true,
            TableUse::Reconcile => {
                self.reconcile = self.all;
                self.due = Some(now);
            }
        }
    }

    /// Whether the table is being read, or is to be read because events were lost.
    pub(crate) const fn is_running(&self) -> bool {
        self.reading.is_some() || self.due.is_some()
    }

    /// Whether the kernel's table is being emptied, or is to be.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flush || self.purpose() == Some(TableUse::Flush)
    }

    /// Whether somebody waits for the end of a reading that is for the peer.
    pub(crate) fn is_in_the_way(&self) -> bool {
        self.purpose() == Some(TableUse::Reconcile)
            && (self.flush || self.merge || self.list || self.committed)
    }

    /// The shards that the reading under way is for.
    pub(crate) fn shards(&self) -> ShardSet {
        self.reading.map_or(ShardSet(0), |reading| reading.shards)
    }

    /// What the reading under way is for.
    pub(crate) fn purpose(&self) -> Option<TableUse> {
        self.reading.map(|reading| reading.purpose)
    }

    /// When to call [`Self::poll`] at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.reading.is_some() { None } else { self.due }
    }

    /// Whether [`Self::poll`] has one that is to begin now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let asked = self.start || self.flush || self.merge || self.list || self.committed;
        self.reading.is_none() && (asked || self.due.is_some_and(|due| due <= now))
    }

    /// A reading that is to begin now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(TableUse, ShardSet)> {
        if !self.is_due(now) {
            return None;
        }
        let (purpose, shards) = if std::mem::take(&mut self.start) {
            (TableUse::Start, self.all)
        } else if std::mem::take(&mut self.flush) {
            (TableUse::Flush, self.all)
        } else if std::mem::take(&mut self.merge) {
            (TableUse::Merge, self.all)
        } else if std::mem::take(&mut self.list) {
            (TableUse::List, self.all)
        } else if std::mem::take(&mut self.committed) {
            (TableUse::Committed, self.all)
        } else {
            self.due = None;
            self.latest = None;
            (TableUse::Reconcile, std::mem::take(&mut self.reconcile))
        };
        let again = ShardSet(0);
        self.reading =
            Some(Reading { purpose, shards, idle: shards, open: shards, told: false, again });
        Some((purpose, shards))
    }

    /// Shard `k` has begun. Whether the kernel is to be asked now, because it was the last one.
    pub(crate) const fn begun(&mut self, k: usize) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        reading.idle.remove(k);
        reading.idle.is_empty()
    }

    /// The kernel has told everything, or has broken off.
    pub(crate) fn told(&mut self, now: Instant) -> Option<TableUse> {
        self.reading.as_mut()?.told = true;
        self.finish(now)
    }

    /// Shard `k` has worked the reading off; `again` if it has to be repeated. Gives the purpose
    /// of a reading that ended with that for all shards.
    pub(crate) fn done(&mut self, now: Instant, k: usize, again: bool) -> Option<TableUse> {
        let reading = self.reading.as_mut()?;
        reading.open.remove(k);
        if again {
            reading.again.insert(k);
        }
        self.finish(now)
    }

    fn finish(&mut self, now: Instant) -> Option<TableUse> {
        let reading = self.reading.take_if(|r| r.told && r.open.is_empty())?;
        if reading.again.is_empty() {
            return Some(reading.purpose);
        }
        match reading.purpose {
            TableUse::Reconcile => {
                self.reconcile.0 |= reading.again.0;
                let again = now + RETRY;
                self.due = Some(self.due.map_or(again, |due| due.min(again)));
            }
            purpose => self.demand(now, purpose),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(delay: Option<u64>, now: Instant) -> ResyncPlan {
        let mut plan = ResyncPlan::new(2, delay.map(Duration::from_secs), true);
        assert_eq!(plan.poll(now), Some((TableUse::Start, ShardSet(0b11))));
        assert_eq!(plan.told(now), None);
        assert_eq!(plan.done(now, 1, false), None);
        assert_eq!(plan.done(now, 0, false), Some(TableUse::Start));
        plan
    }

    #[test]
    fn overruns_that_go_on_are_answered_by_the_latest_moment() {
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut plan = plan(Some(3), t0);
        for ms in (0..3000).step_by(500) {
            assert!(plan.lost(at(ms), 1));
            assert_eq!(plan.poll(at(ms)), None);
        }
        assert_eq!(plan.poll_timeout(), Some(at(3000)));
        assert_eq!(plan.poll(at(3000)), Some((TableUse::Reconcile, ShardSet(0b10))));
        assert!(plan.lost(at(3100), 0));
        assert_eq!(plan.poll(at(9000)), None, "one reading at a time");
        assert_eq!(plan.done(at(9000), 1, false), None, "the kernel is not done");
        assert_eq!(plan.told(at(9000)), Some(TableUse::Reconcile));
        assert_eq!(plan.poll(at(9000)), Some((TableUse::Reconcile, ShardSet(0b1))));
        assert_eq!(plan.told(at(9000)), None);
        assert_eq!(plan.done(at(9000), 0, false), Some(TableUse::Reconcile));
        assert!(plan.lost_of_all(at(9000)));
        assert_eq!(plan.poll(at(99_000)), Some((TableUse::Reconcile, ShardSet(0b11))));
    }

    #[test]
    fn the_kernel_is_asked_when_the_last_shard_has_begun() {
        let t0 = Instant::now();
        let mut plan = plan(None, t0);
        plan.demand(t0, TableUse::Merge);
        assert!(!plan.begun(0), "nothing is read");
        assert_eq!(plan.poll(t0), Some((TableUse::Merge, ShardSet(0b11))));
        assert!(!plan.begun(1));
        assert!(plan.begun(0));
    }

    #[test]
    fn a_reading_that_failed_is_repeated_for_whom_it_failed() {
        let t0 = Instant::now();
        let mut plan = plan(None, t0);
        assert!(!plan.lost(t0, 0), "switched off");
        assert_eq!(plan.poll(t0 + Duration::from_secs(99)), None, "switched off");
        plan.demand(t0, TableUse::Reconcile);
        assert_eq!(plan.poll(t0), Some((TableUse::Reconcile, ShardSet(0b11))));
        plan.told(t0);
        plan.done(t0, 0, false);
        assert_eq!(plan.done(t0, 1, true), None);
        assert_eq!(plan.poll(t0), None);
        assert_eq!(plan.poll(t0 + RETRY), Some((TableUse::Reconcile, ShardSet(0b10))));
    }

    #[test]
    fn what_an_operator_waits_for_goes_before_reconciliation() {
        let t0 = Instant::now();
        let mut plan = plan(None, t0);
        plan.demand(t0, TableUse::Reconcile);
        plan.demand(t0, TableUse::Merge);
        plan.demand(t0, TableUse::Flush);
        let mut order = Vec::new();
        while let Some((purpose, _)) = plan.poll(t0) {
            order.push(purpose);
            plan.told(t0);
            plan.done(t0, 0, false);
            plan.done(t0, 1, false);
        }
        assert_eq!(order, [TableUse::Flush, TableUse::Merge, TableUse::Reconcile]);
    }
}
