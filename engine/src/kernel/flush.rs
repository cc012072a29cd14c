//! Selective flush: the kernel's entries that pass the filter are deleted one by one, those that
//! do not are left alone.
//!
//! The keys come from a dump. Entries are deleted while the dump goes on; what waits is bounded
//! if the reader of the dump stops while [`KernelSide::flush_saturated`] says so. The kernel's
//! dump does not advance while nobody reads it.

use std::collections::VecDeque;

use proto_ctnl::{FlowRef, Present, Tuple};

use super::KernelSide;
use super::plan::{Job, Next};
use super::report::{FlushReport, KernelEvent};

/// Keys beyond which the dump should wait.
const BACKLOG_MAX: usize = 16_384;

/// An entry to be deleted. The identifier keeps a flow safe that has the same tuple and came
/// after.
#[derive(Clone, Copy, Debug)]
struct Key {
    orig: Tuple,
    zone: u16,
    id: Option<u32>,
}

/// A flush under way.
#[derive(Debug, Default)]
pub(super) struct FlushRun {
    keys: VecDeque<Key>,
    dumped: bool,
    open: u32,
    report: FlushReport,
}

impl FlushRun {
    pub(super) const fn settle(&mut self, next: Next) {
        self.open = self.open.saturating_sub(1);
        match next {
            Next::Absent => self.report.absent += 1,
            Next::Failed => self.report.failed += 1,
            _ => self.report.deleted += 1,
        }
    }
}

impl KernelSide {
    /// Begins to delete the kernel's flows of this shard that pass the filter. A dump of the
    /// kernel's table has to be read then: [`KernelSide::on_dump_message`] and, at its end,
    /// [`KernelSide::dump_finished`]. `false`: a flush or another dump is under way.
    pub fn start_flush(&mut self) -> bool {
        if self.flush.is_some() || self.dump.is_some() {
            return false;
        }
        self.flush = Some(FlushRun::default());
        true
    }

    /// Begins to delete all expectations of the namespace. One shard does it for all.
    pub fn start_flush_expects(&mut self) {
        self.redo.push_back(super::batch::Slot {
            object: super::Object::Expect(proto_ctnl::Expect::default()),
            ..super::batch::Slot::empty(Job::FlushExpects)
        });
        self.busy = true;
    }

    /// Whether a flush is under way.
    pub const fn flushing(&self) -> bool {
        self.flush.is_some()
    }

    /// Whether the reader of the dump for a flush should wait for deletions.
    pub fn flush_saturated(&self) -> bool {
        self.flush.as_ref().is_some_and(|run| run.keys.len() >= BACKLOG_MAX)
    }

    /// Takes an entry of the dump.
    pub(super) fn flush_entry(&mut self, flow: &FlowRef<'_>) {
        let Some(run) = &mut self.flush else { return };
        self.scratch.clear();
        if flow.write_to(&mut self.scratch).is_err() {
            self.counters.malformed += 1;
            return;
        }
        if !self.config.filter.passes(&self.scratch) {
            run.report.kept += 1;
            return;
        }
        let id = self.scratch.present.has(Present::ID).then_some(self.scratch.id);
        run.keys.push_back(Key { orig: flow.orig(), zone: flow.key_zone(), id });
        self.busy = true;
    }

    pub(super) fn flush_dumped(&mut self, complete: bool) {
        if let Some(run) = &mut self.flush {
            run.dumped = true;
            run.report.repeat = !complete;
        }
        self.announce_flush();
    }

    pub(super) fn take_flush(&mut self) -> bool {
        let Some(run) = &mut self.flush else { return false };
        let Some(key) = run.keys.pop_front() else { return false };
        run.open += 1;
        let slot = self.batch.vacant().0;
        slot.reset(Job::Flush);
        let flow = slot.flow_mut();
        flow.present = Present(Present::ORIG.0 | Present::ZONE.0);
        (flow.orig, flow.zone) = (key.orig, key.zone);
        if let Some(id) = key.id {
            flow.id = id;
            flow.present.insert(Present::ID);
        }
        true
    }

    pub(super) fn announce_flush(&mut self) {
        let done = |run: &mut FlushRun| run.dumped && run.keys.is_empty() && run.open == 0;
        if let Some(run) = self.flush.take_if(done) {
            self.events.push(KernelEvent::FlushDone(run.report));
        }
    }
}
