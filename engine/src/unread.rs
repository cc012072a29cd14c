//! Flows whose sequence adjustment has to be read.
//!
//! Where a helper changes the length of what it translates, the kernel shifts the sequence numbers
//! of the connection from then on. An event tells by a bit of the status that it does, and leaves
//! out by how much; a node that takes the flow over without the numbers breaks it. So flows whose
//! numbers are unknown, or may have changed, are marked here to be asked for.

use proto_ctnl::{Flow, Present, Status};

use crate::cache::{Cache, FlowIndex, Role};

/// A flow whose status says that its addresses or ports are translated.
const TRANSLATED: [Status; 2] = [Status::SRC_NAT, Status::DST_NAT];

/// Whether a message says that sequence numbers are adjusted, and not by how much.
pub(crate) const fn lacks_adjustment(flow: &Flow) -> bool {
    flow.status.has(Status::SEQ_ADJUST)
        && flow.present.has(Present::STATUS)
        && !flow.present.has(Present::SEQADJ)
}

impl Cache {
    /// Takes note of a message that [`lacks_adjustment`]. What adjusts without a helper, a SYN
    /// proxy say, does so once; a helper may do it again at any time.
    #[cold]
    pub(crate) fn note_unread(&mut self, slot: u32) {
        let known = self.table.at(slot).present();
        let settled = known.has(Present::SEQADJ) && !known.has(Present::HELPER);
        if self.role() == Role::Internal && !settled {
            self.unread.set(slot);
        }
    }

    /// A helper is about to translate what a flow says. Without effect if the flow itself is not
    /// translated.
    pub fn mark_unread(&mut self, index: FlowIndex) {
        let translated = self.status(index).is_some_and(|s| TRANSLATED.iter().any(|&b| s.has(b)));
        if translated && self.role() == Role::Internal && self.contains(index) {
            self.unread.set(index.raw());
        }
    }

    /// Whether flows are to be read.
    pub const fn has_unread(&self) -> bool {
        self.unread.count() > 0
    }

    /// Takes the first flow to be read in the order of places, from `cursor` on.
    pub fn take_unread(&mut self, cursor: FlowIndex) -> Option<FlowIndex> {
        let slot = self.unread.next(cursor.raw())?;
        self.unread.unset(slot);
        Some(FlowIndex::from_raw(slot))
    }

    /// Adds to a flow what was read of it. This is no event: the flow is as silent as it was, its
    /// timeout as old, and if events about it were lost, a dump has to tell the rest.
    pub fn amend(&mut self, index: FlowIndex, flow: &Flow) {
        if !self.contains(index) {
            return;
        }
        let slot = index.raw();
        self.store_into(slot, flow);
        if !self.table.is_stale(slot) {
            self.table.refresh(slot);
        }
    }
}
