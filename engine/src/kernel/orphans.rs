//! What was injected before its master, and waits for it.
//!
//! A peer that tells its whole table tells it in no order, and shards follow it side by side. So
//! what was expected may come before the flow that expected it, and the kernel refuses it. It is
//! asked again after pauses, each twice as long as the one before, and later words about the same
//! entry wait behind it. A master that does not come has ended, as masters may before what they
//! expected; then the flow goes in without it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proto_ctnl::Tuple;

use crate::caches::Caches;

use super::KernelSide;
use super::batch::Slot;
use super::errno::ENOENT;
use super::plan::{Job, Next};
use super::report::Object;

/// The first pause.
const PAUSE: Duration = Duration::from_millis(50);
/// Pauses of an object: with the last one it has waited for almost 13 seconds.
const PAUSES_MAX: u8 = 8;
/// Objects that wait at most. Beyond it flows go in without their master, and expectations and
/// changes fail.
pub(super) const ORPHANS_MAX: usize = 4096;

/// What names an entry of the kernel, as [`Slot::same_entry`] compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Flow(Tuple, u16),
    /// Its tuple and that of its master.
    Expect(Tuple, Tuple),
}

impl Entry {
    fn of(slot: &Slot) -> Self {
        match &slot.object {
            Object::Flow(flow) => Self::Flow(flow.orig, flow.key_zone()),
            Object::Expect(expect) => Self::Expect(expect.tuple, expect.master),
        }
    }
}

/// The words about one entry, in their order.
#[derive(Debug)]
struct Waiting {
    due: Instant,
    slots: Vec<Slot>,
}

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    waiting: BTreeMap<Entry, Waiting>,
    /// Objects, all entries together.
    len: usize,
    /// Not after the first is due.
    next: Option<Instant>,
}

impl Orphans {
    /// When [`Orphans::take_due`] may find something.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Whether something waits that is about the entry of `slot`.
    pub(super) fn has(&self, slot: &Slot) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&Entry::of(slot))
    }

    /// Takes away what waits and is about the entry of `slot`.
    pub(super) fn remove(&mut self, slot: &Slot) -> Vec<Slot> {
        let gone = self.waiting.remove(&Entry::of(slot)).map_or(Vec::new(), |w| w.slots);
        self.len -= gone.len();
        gone
    }

    /// Lets an object wait, behind those about the same entry. `false` if there is no room, or if
    /// it has waited for long enough.
    fn push(&mut self, now: Instant, mut slot: Slot) -> bool {
        if self.len >= ORPHANS_MAX || slot.orphaned >= PAUSES_MAX {
            return false;
        }
        self.len += 1;
        slot.injection = 0;
        if let Some(before) = self.waiting.get_mut(&Entry::of(&slot)) {
            before.slots.push(slot);
            return true;
        }
        let due = now + PAUSE * (1 << slot.orphaned);
        slot.orphaned += 1;
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
        self.waiting.insert(Entry::of(&slot), Waiting { due, slots: vec![slot] });
        true
    }

    /// Moves what has waited for its pause behind what is to be asked again.
    pub(super) fn take_due(&mut self, now: Instant, redo: &mut VecDeque<Slot>) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let before = redo.len();
        for (_, over) in self.waiting.extract_if(.., |_, waiting| waiting.due <= now) {
            redo.extend(over.slots);
        }
        self.len -= redo.len() - before;
        self.next = self.waiting.values().map(|waiting| waiting.due).min();
    }
}

impl KernelSide {
    /// Leaves an object whose master is missing for later, if there is a later for it.
    pub(super) fn may_wait(&mut self, now: Instant, caches: &mut Caches, slot: &Slot) -> bool {
        if slot.job == Job::Commit {
            return self.commit.as_mut().is_some_and(|run| run.leave(slot));
        }
        let mut again = slot.clone();
        again.restart();
        if self.orphans.push(now, again) {
            self.counters.orphaned += u64::from(slot.orphaned == 0);
            return true;
        }
        if matches!(slot.object, Object::Expect(_)) {
            self.settle(now, caches, slot, Next::Failed, ENOENT);
            return true;
        }
        false
    }

    /// Keeps a change of a flow that waits for its master.
    pub(super) fn follow(&mut self, now: Instant, caches: &mut Caches, slot: &Slot) {
        let mut again = slot.clone();
        again.restart();
        again.orphaned = 0;
        if !self.orphans.push(now, again) {
            self.settle(now, caches, slot, Next::Failed, ENOENT);
        }
    }
}
