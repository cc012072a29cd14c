//! Timers of records that are told again and again: a wheel of lists, one per tick.
//!
//! A record stands in the list of the tick at which it is due, through the links of its head, which
//! also holds the number of that list. So starting and stopping a timer takes the same short time
//! however many run.

use std::time::Duration;

use super::list::List;
use super::{Record, Slab};

/// The shortest tick, and what a random time is rounded to.
const TICK_MS: u64 = 200;
/// Most ticks in a round: from here on ticks become longer.
const TICKS_MAX: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<List>,
    tick_ms: u64,
    /// The tick whose list is emptied now, counted from the start.
    hand: u64,
    /// The tick of the last turn.
    now: u64,
    len: u32,
    /// Longest whole seconds of a timer.
    secs: u32,
    random: u64,
}

impl Wheel {
    /// A wheel for timers of one to `secs` whole seconds and up to one more. `seed` decides which.
    pub(super) fn new(secs: u32, seed: u64) -> Self {
        let secs = secs.max(1);
        let longest_ms = (u64::from(secs) + 1) * 1000;
        let mut tick_ms = TICK_MS;
        while longest_ms / tick_ms > TICKS_MAX {
            tick_ms *= 2;
        }
        let slots = vec![List::EMPTY; (longest_ms / tick_ms) as usize + 2];
        Self { slots, tick_ms, hand: 0, now: 0, len: 0, secs, random: seed | 1 }
    }

    /// Lists of all ticks.
    pub(super) fn slots(&self) -> impl Iterator<Item = &List> {
        self.slots.iter()
    }

    /// A random time: whole seconds, and one to five fifths. Without it, flows that began together
    /// would be told together for ever.
    fn draw(&mut self) -> u64 {
        // Xorshift; good enough to spread load, and what an observer learns from it is nothing.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let whole = 1 + (self.random >> 32) % u64::from(self.secs);
        let fifths = 1 + (self.random & 0xffff) % 5;
        (whole * 1000 + fifths * TICK_MS) / self.tick_ms
    }

    /// Starts the timer of a record that is in no list.
    pub(super) fn insert<T: Record, const S: u32>(&mut self, slab: &mut Slab<T, S>, index: u32) {
        if self.len == 0 {
            self.hand = self.now;
        }
        let due = self.now + self.draw().max(1);
        let slot = due % self.slots.len() as u64;
        slab.at_mut(index).head_mut().pos = slot as u32;
        self.slots[slot as usize].push(slab, index);
        self.len += 1;
    }

    /// Stops the timer of a record.
    pub(super) fn remove<T: Record, const S: u32>(&mut self, slab: &mut Slab<T, S>, index: u32) {
        let slot = slab.at(index).head().pos as usize;
        self.slots[slot].unlink(slab, index);
        self.len -= 1;
    }

    /// Stops all timers.
    pub(super) fn clear(&mut self) {
        self.slots.fill(List::EMPTY);
        self.len = 0;
    }

    /// `now` is the time since the start.
    pub(super) fn advance(&mut self, now: Duration) {
        self.now = now.as_millis() as u64 / self.tick_ms;
        // A round is enough to meet every list.
        self.hand = self.hand.max((self.now + 1).saturating_sub(self.slots.len() as u64));
    }

    fn list(&self) -> &List {
        &self.slots[(self.hand % self.slots.len() as u64) as usize]
    }

    /// A record whose time has come. Its timer runs until it is removed.
    pub(super) fn due(&mut self) -> Option<u32> {
        while self.is_due() {
            if self.list().len > 0 {
                return Some(self.list().first);
            }
            self.hand += 1;
        }
        None
    }

    /// Whether there are ticks that have passed and were not looked at.
    pub(super) const fn is_due(&self) -> bool {
        self.hand <= self.now && self.len > 0
    }

    /// When the next tick begins, if any timer runs.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        (self.len > 0).then(|| Duration::from_millis((self.now + 1) * self.tick_ms))
    }
}
