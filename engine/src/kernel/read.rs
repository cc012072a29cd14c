//! Reading what events leave out: how far sequence numbers are adjusted.
//!
//! The cache marks the flows, see [`crate::unread`]; they are asked for together a little later,
//! when the packet that caused the event has been rewritten. Of an answer only the adjustment is
//! taken, as events may have told newer things of the rest.

use std::time::{Duration, Instant};

use proto_ctnl::{Flow, FlowRef, Present, Status};

use crate::cache::FlowIndex;
use crate::caches::Caches;

use super::KernelSide;
use super::plan::Job;
use super::sweep::AUDIT_BATCH;

/// Time from a mark to the question. The kernel tells of an expectation before it rewrites the
/// packet, microseconds later; the rest makes batches.
const DELAY: Duration = Duration::from_millis(5);

impl KernelSide {
    /// Flows of the internal cache are marked to be read.
    pub fn read_soon(&mut self, now: Instant) {
        self.read.get_or_insert(now + DELAY);
    }

    /// Fills the vacant slot with the next flow to be read, if that is due.
    pub(super) fn take_unread(&mut self, now: Instant, caches: &mut Caches) -> bool {
        if self.read.is_none_or(|due| now < due) || self.batch.len() >= AUDIT_BATCH {
            return false;
        }
        let cache = &mut caches.internal;
        let next = cache.take_unread(self.read_from);
        let next = next.or_else(|| cache.take_unread(FlowIndex::FIRST));
        let Some((index, key)) = next.and_then(|index| Some((index, cache.key(index)?))) else {
            self.read = None;
            return false;
        };
        self.read_from = index.next();
        self.batch.fill(Job::Read, index.raw(), key);
        true
    }

    /// The kernel tells an entry that was marked.
    pub(super) fn on_read(&mut self, caches: &mut Caches, flow: &FlowRef<'_>) {
        let told = &mut self.scratch;
        told.clear();
        if flow.write_to(told).is_err() {
            self.counters.malformed += 1;
            return;
        }
        let cache = &mut caches.internal;
        let Some(index) = cache.find(&told.orig, told.key_zone()) else { return };
        cache.load(index, &mut self.stored);
        let stored = &self.stored;
        let has = |bit| stored.present.has(bit) && told.present.has(bit);
        // An event was faster: the flow ended, and this is of the one before it.
        let other = has(Present::ID) && stored.id != told.id;
        let known = has(Present::SEQADJ) && stored.seqadj == told.seqadj;
        if other || known || !told.present.has(Present::SEQADJ) {
            return;
        }
        let mut news = Flow { seqadj: told.seqadj, ..Flow::default() };
        news.present = Present::SEQADJ;
        if stored.present.has(Present::STATUS) {
            news.status = stored.status.with(Status::SEQ_ADJUST);
            news.present.insert(Present::STATUS);
        }
        cache.amend(index, &news);
        cache.mark_changed(index);
    }
}
