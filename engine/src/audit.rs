//! When silent flows are looked after, and how.
//!
//! A silent flow is one that the kernel raises no events for, see [`crate::kernel`]. They are
//! counted first; how they are read depends on how many they are. When there is none, nothing is
//! done until the table is read again.

use std::time::{Duration, Instant};

use crate::kernel::{AuditMethod, audit_method};

/// Time from one look after silent flows to the next. With the time that a look takes it is below
/// a minute, on a busy machine too.
const AUDIT_PERIOD: Duration = Duration::from_secs(47);
/// Time from a reading of the table to the first look: classification comes before it.
const AUDIT_FIRST: Duration = Duration::from_secs(5);

/// The timetable.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Buckets of the kernel's hash table.
    buckets: u64,
    /// Whether shards can look at flows without asking.
    look: bool,
    pub(crate) due: Option<Instant>,
    /// Shards whose count is missing.
    open: usize,
    flows: u64,
    silent: u64,
}

impl Audit {
    pub(crate) const fn new(buckets: u64, look: bool) -> Self {
        Self { buckets, look, due: None, open: 0, flows: 0, silent: 0 }
    }

    /// The table was read: there may be silent flows now.
    pub(crate) fn table_was_read(&mut self, now: Instant) {
        self.due.get_or_insert(now + AUDIT_FIRST);
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// All of `shards` shards are asked for their counts.
    pub(crate) fn begin_census(&mut self, now: Instant, shards: usize) {
        self.due = Some(now + AUDIT_PERIOD);
        (self.open, self.flows, self.silent) = (shards, 0, 0);
    }

    /// One shard's counts; with the last one the way to look after all.
    pub(crate) fn count(&mut self, flows: u64, silent: u64) -> Option<AuditMethod> {
        self.open = self.open.checked_sub(1)?;
        self.flows += flows;
        self.silent += silent;
        if self.open > 0 {
            return None;
        }
        let method = audit_method(self.silent, self.flows, self.buckets, self.look);
        if method == AuditMethod::None {
            self.due = None;
        }
        Some(method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_nothing_once_no_flow_is_silent() {
        let t0 = Instant::now();
        let mut audit = Audit::new(1, false);
        assert!(!audit.is_due(t0 + AUDIT_PERIOD));
        audit.table_was_read(t0);
        let t1 = t0 + AUDIT_FIRST;
        assert!(audit.is_due(t1));
        audit.begin_census(t1, 2);
        assert_eq!(audit.count(10, 10), None);
        assert_eq!(audit.count(10, 10), Some(AuditMethod::Dump));
        let t2 = t1 + AUDIT_PERIOD;
        assert!(audit.is_due(t2));
        audit.begin_census(t2, 2);
        audit.count(10, 0);
        assert_eq!(audit.count(10, 0), Some(AuditMethod::None));
        assert_eq!(audit.due, None);
    }
}
