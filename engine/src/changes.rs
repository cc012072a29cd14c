//! What is to be sent: a first-in first-out list through the records themselves.
//!
//! A changed object is queued once, however often it changes, and is encoded from its newest
//! state when there is room. An object that was sent and is not yet acknowledged stands in a
//! second list. A destroyed object whose end is not to be told now, or whose message was given up
//! unacknowledged, stands in a third one until the next bulk send. An object is in at most one of the
//! three, so all run through the same links. The kind of the message follows from the object's
//! state when it is built, not from the event.
//!
//! In mode ALARM nothing is acknowledged, and the second list is what holds the timers: the objects
//! of this node's kernel wait in a [`Wheel`] to be told again, those of a peer in the order in which
//! they run out. So a timer costs no memory per object.
//!
//! [`Tracked`] holds the records and all this; the caches of flows and of expectations add their
//! keys to it.

mod head;
mod list;
mod verify;
mod wheel;

use std::time::Duration;

use crate::bitmap::Bitmap;
use crate::slab::{NIL, Slab};
use head::{ALIVE, ANEW, DEAD, FRESH, PARKED, PARTIAL, QUEUED, STATE, WAITING};
pub use head::{Change, State};
pub(crate) use head::{Head, Record};
use list::List;
use wheel::Wheel;

/// What became of an object that was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// It is dead and queued; its slot is free once the message is sent or acknowledged.
    Queued,
    /// It is gone: no peer ever heard of it.
    Removed,
    /// It was dead already, or there is no such object.
    Ignored,
}

/// Most dead records that are kept for the next bulk send: five megaoctets of flows.
const PARKED_MAX: u32 = 1 << 16;

/// How far a slice of a bulk send came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkStep {
    /// Objects that the slice queued.
    pub queued: u32,
    /// Whether nothing is left of the bulk send.
    pub done: bool,
}

/// Where records are that nothing is to be sent about now.
#[derive(Debug)]
enum Waiting {
    /// Sent and not acknowledged, in the order of sending. What is acknowledged is nowhere.
    Ack(List),
    /// Told and to be told again.
    Repeat(Box<Wheel>),
    /// In the order of their last change; the first is the first to run out.
    Expiry(List),
}

/// Records, their slots, and what is to be sent about them.
#[derive(Debug)]
pub(crate) struct Tracked<T, const SHIFT: u32> {
    slab: Slab<T, SHIFT>,
    occupied: Bitmap,
    alive: u32,
    queue: List,
    waiting: Waiting,
    parked: List,
    next_pos: u32,
    queue_max: u32,
    unacked_max: u32,
    coalesced: u64,
    /// What a running bulk send has yet to queue.
    bulk: Bitmap,
    /// No member of `bulk` is below this.
    bulk_from: u32,
    /// What nothing confirmed since the running epoch began.
    stale: Bitmap,
    /// No member of `stale` is below this.
    stale_from: u32,
}

impl<T: Record, const SHIFT: u32> Tracked<T, SHIFT> {
    pub(crate) fn new(expected: u32) -> Self {
        Self {
            slab: Slab::new(expected),
            occupied: Bitmap::new(expected),
            alive: 0,
            queue: List::EMPTY,
            waiting: Waiting::Ack(List::EMPTY),
            parked: List::EMPTY,
            next_pos: 1,
            queue_max: 0,
            unacked_max: 0,
            coalesced: 0,
            bulk: Bitmap::default(),
            bulk_from: 0,
            stale: Bitmap::default(),
            stale_from: 0,
        }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.slab.used()
    }

    pub(crate) const fn alive_len(&self) -> u32 {
        self.alive
    }

    pub(crate) const fn pending_len(&self) -> u32 {
        self.queue.len
    }

    pub(crate) const fn unacked_len(&self) -> u32 {
        match &self.waiting {
            Waiting::Ack(list) => list.len,
            Waiting::Repeat(_) | Waiting::Expiry(_) => 0,
        }
    }

    pub(crate) const fn pending_max(&self) -> u32 {
        self.queue_max
    }

    pub(crate) const fn unacked_max(&self) -> u32 {
        self.unacked_max
    }

    pub(crate) const fn coalesced(&self) -> u64 {
        self.coalesced
    }

    /// Slots that exist, for sets of slots.
    pub(crate) fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    pub(crate) fn allocated(&self) -> usize {
        self.slab.allocated()
            + self.occupied.allocated()
            + self.bulk.allocated()
            + self.stale.allocated()
    }

    /// Whether the slot holds a record.
    pub(crate) fn exists(&self, index: u32) -> bool {
        self.occupied.has(index)
    }

    /// The slots that hold a record, in their order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.occupied.next(0), |slot| self.occupied.next(slot + 1))
    }

    /// The record of a slot, dead or not.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.exists(index).then(|| self.slab.at(index))
    }

    /// The record of a slot that is known to hold one.
    pub(crate) fn at(&self, index: u32) -> &T {
        self.slab.at(index)
    }

    /// The record of a slot that is known to hold one.
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut T {
        self.slab.at_mut(index)
    }

    pub(crate) fn is_dead(&self, index: u32) -> bool {
        self.slab.at(index).head().is_dead()
    }

    /// The first record in slot order, from `from` on, that is not dead.
    pub(crate) fn next_alive(&self, from: u32) -> Option<u32> {
        let mut from = from;
        loop {
            let index = self.occupied.next(from)?;
            if !self.is_dead(index) {
                return Some(index);
            }
            from = index + 1;
        }
    }

    pub(crate) fn insert(&mut self, record: T) -> u32 {
        let index = self.slab.insert(record);
        let capacity = self.slab.capacity();
        self.occupied.grow(capacity);
        self.occupied.set(index);
        self.alive += 1;
        self.set_timer(index);
        index
    }

    /// Starts the record's timer, anew if it runs, where records have one.
    fn set_timer(&mut self, index: u32) {
        if let Waiting::Ack(_) = self.waiting {
            return;
        }
        self.leave_list(index);
        let head = self.slab.at_mut(index).head_mut();
        head.flags |= WAITING;
        match &mut self.waiting {
            Waiting::Ack(_) => {}
            Waiting::Repeat(wheel) => wheel.insert(&mut self.slab, index),
            Waiting::Expiry(list) => list.push(&mut self.slab, index),
        }
    }

    /// From now on every record is told again, at random times within `secs` seconds and one. There
    /// must be no record yet.
    pub(crate) fn repeat_within(&mut self, secs: u32, seed: u64) {
        self.waiting = Waiting::Repeat(Box::new(Wheel::new(secs, seed)));
    }

    /// From now on records are kept in the order in which they changed. There must be none yet.
    pub(crate) fn order_by_change(&mut self) {
        self.waiting = Waiting::Expiry(List::EMPTY);
    }

    /// The record that has not changed for the longest time, if such an order is kept.
    pub(crate) const fn oldest(&self) -> Option<u32> {
        match &self.waiting {
            Waiting::Expiry(list) if list.len > 0 => Some(list.first),
            _ => None,
        }
    }

    /// Queues records whose time has come to be told again, until `budget` are queued; `now` is the
    /// time since the start.
    pub(crate) fn repeat_due(&mut self, now: Duration, budget: u32) {
        if let Waiting::Repeat(wheel) = &mut self.waiting {
            wheel.advance(now);
        }
        while self.queue.len < budget {
            let Waiting::Repeat(wheel) = &mut self.waiting else { return };
            let Some(index) = wheel.due() else { return };
            self.mark(index);
        }
    }

    /// Whether records that are due are left.
    pub(crate) fn is_repeat_due(&self) -> bool {
        matches!(&self.waiting, Waiting::Repeat(wheel) if wheel.is_due())
    }

    /// When records may become due next, as time since the start.
    pub(crate) fn next_repeat(&self) -> Option<Duration> {
        match &self.waiting {
            Waiting::Repeat(wheel) => wheel.next_tick(),
            _ => None,
        }
    }

    /// The record begins a new life as NEW, in its slot and its place in a list.
    pub(crate) fn renew(&mut self, index: u32) {
        if self.slab.at(index).head().flags & QUEUED == 0 {
            if self.slab.at(index).head().flags & PARKED != 0 {
                self.leave_list(index);
            }
            self.set_timer(index);
        }
        let head = self.slab.at_mut(index).head_mut();
        self.alive += u32::from(head.is_dead());
        head.flags = head.flags & !(STATE | PARTIAL) | ANEW;
        self.stale.unset(index);
    }

    /// Whether there is more about the record than it holds.
    pub(crate) fn is_partial(&self, index: u32) -> bool {
        self.slab.at(index).head().flags & PARTIAL != 0
    }

    pub(crate) fn set_partial(&mut self, index: u32, partial: bool) {
        let head = self.slab.at_mut(index).head_mut();
        head.flags = if partial { head.flags | PARTIAL } else { head.flags & !PARTIAL };
    }

    /// The record, which no list holds, stands for an update of one that peers have.
    pub(crate) fn begin_as_update(&mut self, index: u32) {
        let head = self.slab.at_mut(index).head_mut();
        head.flags = head.flags & !(STATE | ANEW) | ALIVE;
    }

    /// The record, just created, may be in the place of one that peers have.
    pub(crate) fn begin_anew(&mut self, index: u32) {
        self.slab.at_mut(index).head_mut().flags |= ANEW;
    }

    /// The record was updated.
    pub(crate) fn refresh(&mut self, index: u32) {
        let head = self.slab.at_mut(index).head_mut();
        if !head.is_dead() {
            head.flags = head.flags & !STATE | ALIVE;
        }
        self.stale.unset(index);
        if let Waiting::Expiry(_) = self.waiting {
            self.set_timer(index);
        }
    }

    /// Takes the record out of its list and gives its slot back. It must exist.
    pub(crate) fn release(&mut self, index: u32) {
        self.leave_list(index);
        self.alive -= u32::from(!self.is_dead(index));
        self.occupied.unset(index);
        self.bulk.unset(index);
        self.stale.unset(index);
        self.slab.remove(index);
    }

    /// Forgets everything but the numbering, so that late acknowledgements meet nothing.
    pub(crate) fn clear(&mut self) {
        self.slab.clear();
        self.occupied.clear();
        self.bulk.clear();
        self.stale.clear();
        self.alive = 0;
        self.queue = List::EMPTY;
        match &mut self.waiting {
            Waiting::Ack(list) | Waiting::Expiry(list) => *list = List::EMPTY,
            Waiting::Repeat(wheel) => wheel.clear(),
        }
        self.parked = List::EMPTY;
    }

    fn leave_list(&mut self, index: u32) {
        let head = self.slab.at_mut(index).head_mut();
        let flags = head.flags;
        head.flags &= !(QUEUED | WAITING | PARKED);
        if flags & QUEUED != 0 {
            self.queue.unlink(&mut self.slab, index);
        } else if flags & WAITING != 0 {
            match &mut self.waiting {
                Waiting::Ack(list) | Waiting::Expiry(list) => list.unlink(&mut self.slab, index),
                Waiting::Repeat(wheel) => wheel.remove(&mut self.slab, index),
            }
        } else if flags & PARKED != 0 {
            self.parked.unlink(&mut self.slab, index);
        }
    }

    /// Queues the record, at the end, unless it is queued already.
    pub(crate) fn mark(&mut self, index: u32) {
        if !self.exists(index) {
            return;
        }
        if self.slab.at(index).head().is_queued() {
            self.coalesced += 1;
            return;
        }
        self.leave_list(index);
        self.slab.at_mut(index).head_mut().flags |= QUEUED;
        self.queue.push(&mut self.slab, index);
        self.queue_max = self.queue_max.max(self.queue.len);
    }

    /// Marks the record dead and queues it. [`Killed::Removed`] leaves it to the caller to
    /// release the record.
    pub(crate) fn kill(&mut self, index: u32) -> Killed {
        let killed = self.end(index);
        if killed == Killed::Queued {
            self.mark(index);
        }
        killed
    }

    /// Marks the record dead, and leaves it to the caller to queue or to park it.
    pub(crate) fn end(&mut self, index: u32) -> Killed {
        if !self.exists(index) || self.is_dead(index) {
            return Killed::Ignored;
        }
        self.stale.unset(index);
        let head = self.slab.at_mut(index).head_mut();
        if head.flags & (FRESH | QUEUED) == FRESH | QUEUED {
            return Killed::Removed;
        }
        head.flags = head.flags & !STATE | DEAD;
        self.alive -= 1;
        Killed::Queued
    }

    /// The record to be sent next.
    pub(crate) fn front(&self) -> Option<(u32, Change)> {
        let index = self.queue.first;
        if index == NIL {
            return None;
        }
        let head = self.slab.at(index).head();
        let change = match head.state() {
            State::Dead => Change::Delete,
            State::Alive if head.flags & (ANEW | FRESH) == 0 => Change::Update,
            State::New | State::Alive => Change::New,
        };
        Some((index, change))
    }

    /// Takes the record out of the queue unsent. Gives whether it is now to be released.
    pub(crate) fn skip(&mut self, index: u32) -> bool {
        let queued = self.get(index).is_some_and(|r| r.head().is_queued());
        if queued {
            self.leave_list(index);
        }
        queued && self.is_dead(index)
    }

    /// The record was sent. Gives the number of the sending, and whether the record is now to be
    /// released.
    pub(crate) fn sent(&mut self, index: u32, keep: bool) -> (u32, bool) {
        let pos = self.next_pos;
        self.next_pos = pos.wrapping_add(1);
        if !self.exists(index) {
            return (pos, false);
        }
        self.leave_list(index);
        self.bulk.unset(index);
        let head = self.slab.at_mut(index).head_mut();
        head.pos = pos;
        head.flags &= !FRESH;
        if !keep {
            head.flags &= !ANEW;
            let dead = head.is_dead();
            if !dead {
                self.set_timer(index);
            }
            return (pos, dead);
        }
        if let Waiting::Ack(list) = &mut self.waiting {
            head.flags |= WAITING;
            list.push(&mut self.slab, index);
            self.unacked_max = self.unacked_max.max(list.len);
        }
        (pos, false)
    }

    /// Whether sending `pos` is the record's last and is not acknowledged yet.
    fn awaits(&self, index: u32, pos: u32) -> bool {
        matches!(self.waiting, Waiting::Ack(_))
            && self.get(index).is_some_and(|r| r.head().is_waiting() && r.head().pos == pos)
    }

    /// The sending arrived. Gives whether the record is now to be released.
    pub(crate) fn acked(&mut self, index: u32, pos: u32) -> bool {
        let current = self.awaits(index, pos);
        if current {
            self.leave_list(index);
            self.slab.at_mut(index).head_mut().flags &= !ANEW;
        }
        current && self.is_dead(index)
    }

    /// The sending was given up. A bulk send makes that good if the peer lacks it; so a dead record
    /// is kept for the next one. Gives the record that has to be released to make room for it.
    pub(crate) fn evicted(&mut self, index: u32, pos: u32) -> Option<u32> {
        if !self.awaits(index, pos) {
            return None;
        }
        if self.is_dead(index) {
            return self.park(index);
        }
        self.leave_list(index);
        None
    }

    /// Keeps a dead record for the next bulk send. Gives the record that has to be released to make
    /// room for it.
    pub(crate) fn park(&mut self, index: u32) -> Option<u32> {
        self.leave_list(index);
        let room = if self.parked.len < PARKED_MAX { None } else { self.oldest_parked() };
        self.slab.at_mut(index).head_mut().flags |= PARKED;
        self.parked.push(&mut self.slab, index);
        room
    }

    /// The dead record that has been kept longest for a bulk send.
    pub(crate) const fn oldest_parked(&self) -> Option<u32> {
        if self.parked.len == 0 { None } else { Some(self.parked.first) }
    }

    /// The sending was lost: the record is queued again if nothing newer was sent or queued.
    pub(crate) fn nacked(&mut self, index: u32, pos: u32) {
        if self.awaits(index, pos) {
            self.mark(index);
        }
    }

    /// Begins to send everything, once more if it was under way. It goes on where it is and comes
    /// round to the rest: asked for again and again, it would never get to the end from the start.
    pub(crate) fn begin_bulk(&mut self) {
        self.bulk.copy_from(&self.occupied);
    }

    /// The bulk send that is under way passes a record over.
    pub(crate) fn leave_out(&mut self, index: u32) {
        self.bulk.unset(index);
    }

    pub(crate) const fn bulk_left(&self) -> u32 {
        self.bulk.count()
    }

    /// Queues up to `budget` records of the bulk send.
    pub(crate) fn bulk_step(&mut self, budget: u32) -> BulkStep {
        let mut queued = 0;
        while queued < budget {
            let next = self.bulk.next(self.bulk_from).or_else(|| self.bulk.next(0));
            let Some(index) = next else { break };
            self.bulk_from = index + 1;
            self.bulk.unset(index);
            let head = self.slab.at(index).head();
            // The end of one that is dead is on its way, unless that was given up.
            let told = head.is_dead() && head.flags & PARKED == 0;
            if !told && !head.is_queued() {
                self.mark(index);
                queued += 1;
            }
        }
        BulkStep { queued, done: self.bulk.count() == 0 }
    }

    /// Holds every record stale until something confirms it.
    pub(crate) fn begin_epoch(&mut self) {
        self.stale.copy_from(&self.occupied);
        self.stale_from = 0;
    }

    pub(crate) fn end_epoch(&mut self) {
        self.stale.clear();
    }

    pub(crate) fn is_stale(&self, index: u32) -> bool {
        self.stale.has(index)
    }

    pub(crate) fn touch(&mut self, index: u32) {
        self.stale.unset(index);
    }

    /// Takes one record that is stale and not dead.
    pub(crate) fn take_stale(&mut self) -> Option<u32> {
        loop {
            let index = self.stale.next(self.stale_from)?;
            self.stale_from = index + 1;
            self.stale.unset(index);
            if !self.is_dead(index) {
                return Some(index);
            }
        }
    }
}
