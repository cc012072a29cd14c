//! `DisableInternalCache`: flows of this node's kernel are not kept, only told.
//!
//! The internal cache then is no more than the queue to the link: it holds a flow from its event to
//! its message, so what changes meanwhile still costs one message. Who asks for all flows is told
//! the kernel's table, each of its entries as a new flow.

use proto_ctnl::{Expect, FlowMessage, FlowRef};

use crate::cache::{Change, FlowIndex, Killed};
use crate::clock::Moment;
use crate::kernel::Origin;
use crate::order::{Outcome, TableUse};
use crate::shard::Shard;

/// What a shard without an internal cache has instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    /// Flows whose begin was told of.
    pub created: u64,
    /// Flows whose change was told of.
    pub updated: u64,
    /// Flows whose end was told of.
    pub destroyed: u64,
    /// What the table is being read for.
    pub(crate) reading: Option<TableUse>,
}

impl Shard {
    /// An event whose flow passed the filter and stands in `scratch`. What this daemon did itself is
    /// told to nobody. `false` if this shard has an internal cache.
    pub(crate) fn bypass_event(
        &mut self,
        now: Moment,
        event: &FlowRef<'_>,
        origin: Origin,
    ) -> bool {
        let Some(bypass) = &mut self.bypass else { return false };
        if !matches!(origin, Origin::Other | Origin::Audit) {
            return true;
        }
        let internal = &mut self.caches.internal;
        let stored = match event.what() {
            FlowMessage::New => {
                bypass.created += 1;
                // Told of by a reading already, maybe: its end must be told of in any case.
                internal.adopt(&self.scratch, now.secs)
            }
            FlowMessage::Destroy => {
                bypass.destroyed += 1;
                internal.merge(&self.scratch, now.secs)
            }
            _ => {
                bypass.updated += 1;
                let stored = internal.merge(&self.scratch, now.secs);
                if let Ok(stored) = stored
                    && !stored.existed
                {
                    internal.begin_as_update(stored.index);
                }
                stored
            }
        };
        match stored {
            Ok(stored) if event.what() == FlowMessage::Destroy => {
                let killed = internal.kill(stored.index);
                debug_assert!(killed != Killed::Ignored, "it lives");
            }
            Ok(stored) => internal.mark_changed(stored.index),
            // What there is no room for is lost, but for the next reading.
            Err(_) => self.lost(1),
        }
        true
    }

    /// A flow of a reading; `false` if the reading is none of this shard's doings.
    pub(crate) fn bypass_dump(&mut self, now: Moment, flow: &FlowRef<'_>) -> bool {
        let Some(reading) = self.bypass.and_then(|bypass| bypass.reading) else { return false };
        if reading != TableUse::Reconcile {
            return true;
        }
        self.scratch.clear();
        if flow.write_to(&mut self.scratch).is_err() {
            self.counters.unknown += 1;
            return true;
        }
        let zone = self.scratch.key_zone();
        let internal = &mut self.caches.internal;
        // What waits to be told is newer.
        if internal.find_any(&self.scratch.orig, zone).is_some() || !self.passes_filter() {
            return true;
        }
        match self.caches.internal.adopt(&self.scratch, now.secs) {
            Ok(stored) => self.caches.internal.mark_changed(stored.index),
            Err(_) => self.lost(1),
        }
        true
    }

    /// An expectation of a reading; its master is in no cache.
    pub(crate) fn bypass_dump_expect(&mut self, now: Moment, expect: &Expect) -> bool {
        if self.bypass.is_some() {
            // A full cache counts what it refuses.
            let _full = self.caches.expects_internal.merge(expect, now.secs);
        }
        self.bypass.is_some()
    }

    /// A reading begins. `false` if it is a matter of the kernel side.
    pub(crate) fn bypass_read_begin(&mut self, purpose: TableUse) -> bool {
        match &mut self.bypass {
            Some(bypass) if purpose != TableUse::Flush => {
                bypass.reading = Some(purpose);
                self.outcomes.push_back(Outcome::ReadBegun);
                true
            }
            _ => false,
        }
    }

    /// A reading has ended. `false` if it is a matter of the kernel side.
    pub(crate) fn bypass_read_end(&mut self, complete: bool) -> bool {
        let Some(purpose) = self.bypass.as_mut().and_then(|bypass| bypass.reading.take()) else {
            return false;
        };
        let again = !complete && purpose == TableUse::Reconcile;
        self.outcomes.push_back(Outcome::Read { again });
        true
    }

    /// A reading for the peer has to wait until more of it is told.
    pub(crate) fn bypass_saturated(&self) -> bool {
        let internal = &self.caches.internal;
        let told = |bypass: Bypass| bypass.reading == Some(TableUse::Reconcile);
        self.bypass.is_some_and(told) && internal.pending_len() > internal.limit() / 2
    }

    /// The change of a flow was told, or never will be: nothing is kept of it.
    pub(crate) fn bypass_told(&mut self, index: FlowIndex, change: Change) {
        if self.bypass.is_some() && change != Change::Delete {
            self.caches.internal.remove(index);
        }
    }
}
