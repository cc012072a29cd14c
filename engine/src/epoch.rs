//! Changes of flows, and agreement with a dump of the kernel's table.
//!
//! While the table is read again, an *epoch*, events go on. An entry that an event or the dump
//! confirmed is current, one that nothing confirmed until the end is stale: the kernel no longer
//! has it. A message of the dump may be older than an event that was handled before it, so it
//! neither overwrites what an event told nor brings back what an event destroyed; for the latter the
//! keys of what was destroyed are remembered, within a bound.

use hashbrown::HashTable;
use proto_ctnl::{Flow, Tuple};

use crate::cache::{Cache, CacheFull, FlowIndex, Stored, Unheld, key_of};
use crate::changes::{BulkStep, Change, Killed};

/// Keys of destroyed flows that are remembered while an epoch runs.
const TOMBSTONES_MAX: usize = 1 << 16;

/// What a message of a dump led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dumped {
    /// The flow was stored or updated.
    Stored(Stored),
    /// An event or an earlier message of the dump says more about it: nothing changed.
    Current(FlowIndex),
    /// An event says more about it, but not everything: what it did not tell was taken.
    Completed(FlowIndex),
    /// An event destroyed the flow since the epoch began: nothing changed.
    Destroyed,
}

/// Hashes of the keys of flows that were destroyed since an epoch began.
///
/// 64 bits of a hash with secret keys stand for the key.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    hashes: HashTable<u64>,
    active: bool,
    overflowed: bool,
}

impl Tombstones {
    fn begin(&mut self) {
        self.hashes.clear();
        // All at once, so that no event has to wait for growth.
        self.hashes.reserve(TOMBSTONES_MAX, |&h| h);
        self.active = true;
        self.overflowed = false;
    }

    pub(crate) fn end(&mut self) {
        if self.active {
            self.hashes.clear();
        }
        self.active = false;
    }

    pub(crate) const fn active(&self) -> bool {
        self.active
    }

    pub(crate) fn allocated(&self) -> usize {
        self.hashes.allocation_size()
    }

    fn has(&self, hash: u64) -> bool {
        self.active && self.hashes.find(hash, |&h| h == hash).is_some()
    }

    pub(crate) fn add(&mut self, hash: u64) {
        if !self.active || self.has(hash) {
            return;
        }
        if self.hashes.len() >= TOMBSTONES_MAX {
            self.overflowed = true;
            return;
        }
        self.hashes.insert_unique(hash, hash, |&h| h);
    }

    pub(crate) fn forget(&mut self, hash: u64) {
        if !self.active {
            return;
        }
        if let Ok(entry) = self.hashes.find_entry(hash, |&h| h == hash) {
            entry.remove();
        }
    }
}

/// What is to be sent.
impl Cache {
    /// Queues the flow to be sent, at the end, unless it is queued already. One that waits for an
    /// acknowledgement no longer does: the new message stands for both.
    pub fn mark_changed(&mut self, index: FlowIndex) {
        self.table.mark(index.raw());
    }

    /// The flow, just created, is one that peers have, and is told as an update of that.
    pub(crate) fn begin_as_update(&mut self, index: FlowIndex) {
        self.table.begin_as_update(index.raw());
    }

    /// The flow is destroyed: it is dead and queued, so that peers are told. If it was made by
    /// [`Cache::replace`], is queued and was never sent, it is gone without a word instead.
    pub fn kill(&mut self, index: FlowIndex) -> Killed {
        let killed = self.table.kill(index.raw());
        self.bury_killed(index, killed);
        killed
    }

    /// The flow is destroyed, and peers are told of it by the next bulk send and not before: most
    /// likely a flow of its key takes its place at once.
    pub fn end_quietly(&mut self, index: FlowIndex) {
        let killed = self.table.end(index.raw());
        self.bury_killed(index, killed);
        if killed == Killed::Queued
            && let Some(oldest) = self.table.park(index.raw())
        {
            self.forget_end(oldest);
        }
    }

    fn bury_killed(&mut self, index: FlowIndex, killed: Killed) {
        if killed == Killed::Ignored {
            return;
        }
        self.bury(index.raw());
        self.silent.unset(index.raw());
        self.unread.unset(index.raw());
        self.counters.destroyed += 1;
        if killed == Killed::Removed {
            self.counters.dropped_unsent += 1;
            self.release(index.raw());
        }
    }

    /// The flow to be sent next, and the kind of message from its state now: an update of a flow is
    /// told as such once the peer has acknowledged the flow, or cannot have another of its key. It
    /// stays first until [`Cache::sent`] or [`Cache::skip`] takes it.
    pub fn next_changed(&self) -> Option<(FlowIndex, Change)> {
        self.table.front().map(|(slot, change)| (FlowIndex::from_raw(slot), change))
    }

    /// The flow was sent. Gives the number of this sending, never 0 unless 2^32 went before.
    /// `keep_until_acked`: it waits for [`Cache::acked`], [`Cache::nacked`] or
    /// [`Cache::evicted`]; otherwise nothing follows, and a dead flow is gone.
    pub fn sent(&mut self, index: FlowIndex, keep_until_acked: bool) -> u32 {
        let (pos, release) = self.table.sent(index.raw(), keep_until_acked);
        if release {
            self.release(index.raw());
        }
        pos
    }

    /// Takes a queued flow out of the queue without sending it; a dead one is gone.
    pub fn skip(&mut self, index: FlowIndex) {
        if self.table.skip(index.raw()) {
            self.release(index.raw());
        }
    }

    /// Sending `pos` of the flow arrived. Without effect if there was a newer sending or change.
    pub fn acked(&mut self, index: FlowIndex, pos: u32) {
        if self.table.acked(index.raw(), pos) {
            self.release(index.raw());
        }
    }

    /// Sending `pos` of the flow was lost: it is queued again. Without effect if there was a
    /// newer sending or change.
    pub fn nacked(&mut self, index: FlowIndex, pos: u32) {
        self.table.nacked(index.raw(), pos);
    }

    /// Nobody waits for sending `pos` of the flow any more, though it was not acknowledged.
    /// A dead flow is kept until the next bulk send tells its end again. Without effect if there
    /// was a newer sending or change.
    pub fn evicted(&mut self, index: FlowIndex, pos: u32) {
        if let Some(oldest) = self.table.evicted(index.raw(), pos) {
            self.forget_end(oldest);
        }
    }

    /// The dead flow makes room: no peer will be told of its end.
    pub(crate) fn forget_end(&mut self, slot: u32) {
        self.counters.ends_forgotten += 1;
        self.release(slot);
    }

    /// Flows that wait to be sent.
    pub const fn pending_len(&self) -> u32 {
        self.table.pending_len()
    }

    /// Flows that wait for an acknowledgement.
    pub const fn unacked_len(&self) -> u32 {
        self.table.unacked_len()
    }

    /// Begins to send every flow that is alive now, and the ends that [`Cache::evicted`] gave up;
    /// once more if that was under way. Flows that are sent meanwhile for another reason are
    /// left out.
    pub fn begin_bulk(&mut self) {
        self.table.begin_bulk();
    }

    /// Leaves out of it what is the peer's, who knows better what became of it.
    pub(crate) fn leave_followed_out(&mut self) {
        let mut next = self.followed.next(0);
        while let Some(slot) = next {
            self.table.leave_out(slot);
            next = self.followed.next(slot + 1);
        }
    }

    /// Queues up to `budget` more flows of a bulk send. Changes that come later wait behind them,
    /// so the budget bounds the delay that a bulk send causes.
    pub fn bulk_step(&mut self, budget: u32) -> BulkStep {
        self.table.bulk_step(budget)
    }

    /// Flows that a bulk send has yet to look at; 0 if none is under way.
    pub const fn bulk_left(&self) -> u32 {
        self.table.bulk_left()
    }
}

/// Agreement with the kernel's table.
impl Cache {
    /// The kernel's table is read from now on. Until [`Cache::end_epoch`], flows that nothing
    /// confirms are stale, and keys of destroyed flows are remembered. Events that were queued
    /// before one was lost must be handled before this.
    pub fn begin_epoch(&mut self) {
        self.table.begin_epoch();
        self.tombstones.begin();
        self.epoch = true;
    }

    /// Whether an epoch runs.
    pub const fn in_epoch(&self) -> bool {
        self.epoch
    }

    /// Takes what a dump says. A flow that only dumps show is silent, see
    /// [`Cache::next_silent`]. Without an epoch this always stores.
    ///
    /// # Errors
    /// [`CacheFull`], and nothing changed but counters.
    pub fn merge_dump(&mut self, flow: &Flow, now: u32) -> Result<Dumped, CacheFull> {
        self.take_dumped(flow, now, false)
    }

    /// As [`Cache::merge_dump`], for a flow that is known to be another one than that which is
    /// stored: nothing of that is kept, and whether the kernel reports the new one is not known.
    ///
    /// # Errors
    /// [`CacheFull`], and nothing changed but counters.
    pub fn replace_dump(&mut self, flow: &Flow, now: u32) -> Result<Dumped, CacheFull> {
        self.take_dumped(flow, now, true)
    }

    fn take_dumped(&mut self, flow: &Flow, now: u32, other: bool) -> Result<Dumped, CacheFull> {
        let at = self.index.hashed(key_of(flow));
        if self.tombstones.has(at.wide) {
            return Ok(Dumped::Destroyed);
        }
        let stored = match self.find_key(&at) {
            Some(slot) if !self.table.is_dead(slot) => {
                if self.in_epoch() && !self.table.is_stale(slot) {
                    let index = FlowIndex::from_raw(slot);
                    let completed = self.complete(slot, flow);
                    let dumped = if completed { Dumped::Completed } else { Dumped::Current };
                    return Ok(dumped(index));
                }
                if !other {
                    self.table.set_partial(slot, false);
                    return Ok(Dumped::Stored(self.update(slot, flow, now)));
                }
                self.rewrite(slot, flow, now)
            }
            Some(slot) => self.rewrite(slot, flow, now),
            None => self.create(&at, flow, now, false)?,
        };
        self.silent.grow(self.table.capacity());
        self.silent.set(stored.index.raw());
        Ok(Dumped::Stored(stored))
    }

    /// Takes what updates alone have not told of the flow, and nothing else: they may be newer. Whether
    /// there may have been such.
    fn complete(&mut self, slot: u32, flow: &Flow) -> bool {
        let entry = self.table.at(slot);
        if !self.table.is_partial(slot) || entry.is_other(flow, &self.extras) {
            return false;
        }
        let mut rest = *flow;
        rest.present.0 &= !entry.present().0 | entry.untold().0;
        let role = self.role();
        self.table.at_mut(slot).store(&rest, role, false, &mut self.extras);
        self.table.set_partial(slot, false);
        true
    }

    /// Only a reading showed the flow, which may be a peer's: what peers tell goes into the kernel.
    pub(crate) fn disclaim(&mut self, index: FlowIndex) {
        self.unclaimed.grow(self.table.capacity());
        self.unclaimed.set(index.raw());
    }

    /// The kernel told of the flow, and no peer did.
    pub(crate) fn claim(&mut self, index: FlowIndex) {
        self.unclaimed.unset(index.raw());
        self.followed.unset(index.raw());
    }

    /// A peer told of the flow. If nothing but a reading had shown it here, it is the peer's.
    pub(crate) fn follow(&mut self, index: FlowIndex) {
        if self.is_unclaimed(index) {
            self.followed.grow(self.table.capacity());
            self.followed.set(index.raw());
            self.table.leave_out(index.raw());
        }
    }

    /// Whether the flow may be a peer's.
    pub(crate) fn is_unclaimed(&self, index: FlowIndex) -> bool {
        self.unclaimed.has(index.raw())
    }

    /// The flow is current.
    pub fn touch(&mut self, index: FlowIndex) {
        self.table.touch(index.raw());
    }

    /// An event destroyed a flow that is not here: a dump must not bring it in. Without effect
    /// while no epoch runs.
    pub fn note_destroyed(&mut self, orig: &Tuple, zone: u16) {
        if self.tombstones.active() {
            self.tombstones.add(self.hashed(orig, zone).wide);
        }
    }

    /// Whether more flows were destroyed since the epoch began than could be remembered: the
    /// dump may have brought back some of them and has to be repeated.
    pub const fn tombstones_overflowed(&self) -> bool {
        self.tombstones.overflowed
    }

    /// After the dump: takes one more flow that nothing confirmed since the epoch began. From the
    /// first call on, keys of destroyed flows are no longer remembered.
    pub fn take_stale(&mut self) -> Option<FlowIndex> {
        self.tombstones.end();
        self.table.take_stale().map(FlowIndex::from_raw)
    }

    /// The table was read to its end, and all of it found room: what began and ends from now on is
    /// no more than what peers are told. Without effect if the cache was emptied meanwhile.
    pub fn holds_all(&mut self) {
        if self.in_epoch() && self.unheld == Unheld::Flows {
            self.unheld = Unheld::Ended;
        }
    }

    /// Ends an epoch.
    pub fn end_epoch(&mut self) {
        self.table.end_epoch();
        self.tombstones.end();
        self.epoch = false;
    }

    /// Flows that no event ever showed: the kernel may never report their end.
    pub const fn silent_len(&self) -> u32 {
        self.silent.count()
    }

    /// The first silent flow in the order of places, from `cursor` on.
    pub fn next_silent(&self, cursor: FlowIndex) -> Option<FlowIndex> {
        self.silent.next(cursor.raw()).map(FlowIndex::from_raw)
    }

    /// Places from the first to that of the last silent flow; 0 if there is none.
    pub fn silent_span(&self) -> u32 {
        self.silent.span()
    }

    /// An event showed the flow. [`Cache::replace`] and [`Cache::merge`] say so themselves.
    pub fn mark_seen(&mut self, index: FlowIndex) {
        self.silent.unset(index.raw());
    }

    /// Remembers the key of a flow that is being destroyed while an epoch runs.
    fn bury(&mut self, slot: u32) {
        if self.tombstones.active() {
            let entry = self.table.at(slot);
            let at = self.hashed(&entry.orig(&self.extras.pairs), entry.zone());
            self.tombstones.add(at.wide);
        }
    }
}
