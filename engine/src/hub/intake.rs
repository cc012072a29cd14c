//! One socket that takes the events of all shards: a reading of the kernel's table begins when those
//! are given to their shards that had come before it.
//!
//! Where a shard has an intake of its own it sees to that itself, see [`Shard::intake_is_at`]. Here
//! the orders to begin would overtake what shard 0 has yet to give to the others.
//!
//! [`Shard::intake_is_at`]: crate::shard::Shard::intake_is_at

use std::time::Instant;

use super::Hub;
use crate::order::TableUse;

/// How far the events of all shards were taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SharedIntake {
    taken: u64,
    come: u64,
    /// A reading waits until so many are taken.
    until: Option<u64>,
}

impl SharedIntake {
    /// Whether a reading may begin. One that is due and may not waits for what has come by now. If it
    /// is put off meanwhile, as by further losses, nothing is waited for until it is due again.
    fn permits(&mut self, is_due: bool) -> bool {
        if !is_due {
            self.until = None;
            return true;
        }
        let until = *self.until.get_or_insert(self.come);
        let permits = until <= self.taken;
        if permits {
            self.until = None;
        }
        permits
    }
}

impl Hub {
    /// How far the events of shard 0's own intake were taken, and how many have come, in counts of
    /// one kind that only grow. To be told after each drain.
    pub fn intake_is_at(&mut self, taken: u64, come: u64) {
        match &mut self.one_intake {
            None => self.shards.local.intake_is_at(taken, come),
            Some(shared) => (shared.taken, shared.come) = (taken, come),
        }
    }

    /// Whether a reading of the kernel's table waits for events of shard 0's own intake.
    pub fn waits_for_events(&self) -> bool {
        match &self.one_intake {
            None => self.shards.local.waits_for_events(),
            Some(shared) => shared.until.is_some(),
        }
    }

    /// The kernel's events were off for a while: flows that began meanwhile stand in its table only.
    pub fn events_were_off(&mut self, now: Instant) {
        self.base.engine.events_off += 1;
        self.plan.demand(now, TableUse::Reconcile);
    }

    /// Whether a reading that is due now may begin.
    pub(super) fn may_read(&mut self, now: Instant) -> bool {
        self.one_intake.as_mut().is_none_or(|shared| shared.permits(self.plan.is_due(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_is_put_off_waits_anew_for_what_has_come() {
        let mut shared = SharedIntake { taken: 3, come: 5, until: None };
        assert!(!shared.permits(true));
        assert!(shared.permits(false) && shared.until.is_none(), "nobody turns without a pause");
        (shared.taken, shared.come) = (5, 9);
        assert!(!shared.permits(true), "what came since is in front of it as well");
        (shared.taken, shared.come) = (9, 12);
        assert!(shared.permits(true), "what comes after it was asked for is not");
    }
}
