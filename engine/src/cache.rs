//! The flows of one shard, as the kernel or a peer reported them.
//!
//! A cache belongs to one thread and has no lock. Entries are of one size and never move; a
//! [`FlowIndex`] stays valid as long as its flow is stored, and every method takes one that is
//! not, from a late acknowledgement say, and does nothing. Once a cache has held as many flows as
//! it is going to, nothing here allocates.
//!
//! What is to be sent about flows is kept in the entries too: a changed flow is queued once,
//! however often it changes, and read at its newest state when it is sent. So memory is bounded by
//! the number of flows and never by that of events.

use core::hint::black_box;

use proto_ctnl::{Flow, Present, Status, Tuple};

pub use crate::changes::{BulkStep, Change, Killed, State};
pub use crate::counters::CacheCounters;
pub use crate::entry::Role;
pub use crate::epoch::Dumped;

use crate::bitmap::Bitmap;
use crate::changes::{Record, Tracked};
use crate::entry::{Entry, Extras};
use crate::epoch::Tombstones;
use crate::index::{Hashed, Index, Key};
use crate::unread::lacks_adjustment;

/// Flows that are looked for together.
pub(crate) const TOGETHER: usize = 16;
/// Flows for whose bookkeeping memory is set aside at the start, however high the limit is.
const EXPECTED_MAX: u32 = 1 << 22;

/// The place of a flow in its cache. Places are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowIndex(u32);

impl FlowIndex {
    /// The first place, where iteration begins.
    pub const FIRST: Self = Self(0);

    /// The number that [`FlowIndex::raw`] gave.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The place as a number; below 2^31.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The place after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Size and kind of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Most flows, dead ones included; at most 2^31.
    pub limit: u32,
    /// Whose flows.
    pub role: Role,
    /// Keys of the hash function; drawn at random unless given.
    pub seed: Option<u64>,
}

/// Where a flow was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place.
    pub index: FlowIndex,
    /// Whether it was there before, and not dead.
    pub existed: bool,
}

/// The cache holds as many flows as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheFull;

impl core::fmt::Display for CacheFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no space left in cache")
    }
}

impl core::error::Error for CacheFull {}

/// What a cache knows about a flow beside the flow. Times are those the caller gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Seconds since the start of the engine at which the flow was created here.
    pub created: u32,
    /// Seconds since the start of the engine at which it was written last.
    pub updated: u32,
    /// Where it is in its life.
    pub state: State,
    /// Number of the last sending, 0 if there was none.
    pub pos: u32,
    /// Whether it waits to be sent.
    pub pending: bool,
    /// Whether it waits for an acknowledgement or, in mode ALARM, for its time.
    pub unacked: bool,
    /// Whether only a dump of the kernel's table ever showed it.
    pub silent: bool,
}

/// What peers may have that a cache has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheld {
    /// Nothing.
    Nothing,
    /// Any flow: the cache was emptied without a word.
    Flows,
    /// Flows that ended between that and the next reading of the kernel's table. Nobody will tell
    /// peers of their ends; what begins in their place must not be mixed with them.
    Ended,
}

/// The flows of one shard.
#[derive(Debug)]
pub struct Cache {
    // Chunks of 2.5 MiB, so that they are in large pages.
    pub(crate) table: Tracked<Entry, 15>,
    pub(crate) extras: Extras,
    pub(crate) index: Index,
    pub(crate) silent: Bitmap,
    pub(crate) unread: Bitmap,
    /// What only a reading showed, where it may be a peer's.
    pub(crate) unclaimed: Bitmap,
    /// Those of them that the peer has told since.
    pub(crate) followed: Bitmap,
    pub(crate) tombstones: Tombstones,
    pub(crate) epoch: bool,
    pub(crate) unheld: Unheld,
    limit: u32,
    role: Role,
    pub(crate) counters: CacheCounters,
}

impl Cache {
    /// An empty cache.
    pub fn new(config: CacheConfig) -> Self {
        let limit = config.limit.min(1 << 31);
        let expected = limit.min(EXPECTED_MAX);
        Self {
            table: Tracked::new(expected),
            extras: Extras::new(),
            index: Index::new(limit, config.seed),
            silent: Bitmap::default(),
            unread: Bitmap::default(),
            unclaimed: Bitmap::default(),
            followed: Bitmap::default(),
            tombstones: Tombstones::default(),
            epoch: false,
            unheld: Unheld::Nothing,
            limit,
            role: config.role,
            counters: CacheCounters::default(),
        }
    }

    /// Whose flows these are.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Most flows.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Flows, dead ones included.
    pub const fn len(&self) -> u32 {
        self.table.len()
    }

    /// Whether there is no flow, not even a dead one.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows that are not dead.
    pub const fn alive_len(&self) -> u32 {
        self.table.alive_len()
    }

    /// What was counted so far.
    pub const fn counters(&self) -> CacheCounters {
        let mut counters = self.counters;
        counters.coalesced = self.table.coalesced();
        counters.pending_max = self.table.pending_max();
        counters.unacked_max = self.table.unacked_max();
        counters
    }

    /// Octets taken from the allocator, touched or not.
    pub fn allocated(&self) -> usize {
        self.table.allocated()
            + self.extras.pairs.allocated()
            + self.extras.sides.allocated()
            + self.index.allocated()
            + self.silent.allocated()
            + self.unread.allocated()
            + self.tombstones.allocated()
    }

    /// The key of this original tuple and zone, hashed.
    #[inline]
    pub(crate) fn hashed(&self, orig: &Tuple, zone: u16) -> Hashed {
        self.index.hashed(Key::new(orig, zone))
    }

    /// The flow of this original tuple and zone, unless it is dead.
    pub fn find(&self, orig: &Tuple, zone: u16) -> Option<FlowIndex> {
        self.find_any(orig, zone).filter(|i| !self.table.is_dead(i.0))
    }

    /// The flow of this original tuple and zone, dead or not.
    pub fn find_any(&self, orig: &Tuple, zone: u16) -> Option<FlowIndex> {
        self.find_key(&self.hashed(orig, zone)).map(FlowIndex)
    }

    /// As [`Cache::find`].
    pub(crate) fn find_hashed(&self, at: &Hashed) -> Option<FlowIndex> {
        self.find_key(at).filter(|&slot| !self.table.is_dead(slot)).map(FlowIndex)
    }

    pub(crate) fn find_key(&self, at: &Hashed) -> Option<u32> {
        let pairs = &self.extras.pairs;
        self.index.find(at.short(), |slot| self.table.at(slot).is(&at.key, pairs))
    }

    /// Hashes `keys`, and looks where their flows are or would be, so that the memory they need is
    /// near when they are stored: the processor fetches it for several at once, and else for one
    /// after the other, which is most of the time that it takes to store a flow.
    pub(crate) fn foresee(&self, keys: impl Iterator<Item = Key>) -> [Hashed; TOGETHER] {
        // Hashed first, so that nothing but the lookups stands between one and the next.
        let mut hashed = [Hashed::NONE; TOGETHER];
        let mut len = 0;
        for (place, key) in hashed.iter_mut().zip(keys) {
            *place = self.index.hashed(key);
            len += 1;
        }
        // One alone is looked for when it is stored.
        if len == 1 {
            return hashed;
        }
        for hash in hashed.iter().take(len).map(Hashed::short) {
            black_box(self.index.find(hash, |slot| self.table.at(slot).head().hash == hash));
        }
        hashed
    }

    /// Whether a flow that is not dead stands there.
    pub fn contains(&self, index: FlowIndex) -> bool {
        self.table.exists(index.0) && !self.table.is_dead(index.0)
    }

    /// The first flow in the order of places, from `cursor` on, that is not dead. Flows that come
    /// and go meanwhile do not disturb the order.
    pub fn next_from(&self, cursor: FlowIndex) -> Option<FlowIndex> {
        self.table.next_alive(cursor.0).map(FlowIndex)
    }

    /// The flow that was written longest ago, and when; only where that order is kept.
    pub(crate) fn oldest(&self) -> Option<(FlowIndex, u32)> {
        let slot = self.table.oldest()?;
        Some((FlowIndex(slot), self.table.at(slot).updated))
    }

    /// Stores a flow as it is: what the stored one had and this has not is gone. Dead or new, the
    /// stored one is now NEW. `flow` must have its original tuple.
    ///
    /// This is for a NEW event or message: the flow counts as one that no peer knows until it is
    /// sent. What a dump shows goes through [`Cache::merge_dump`].
    ///
    /// # Errors
    /// [`CacheFull`], and nothing changed but counters.
    pub fn replace(&mut self, flow: &Flow, now: u32) -> Result<Stored, CacheFull> {
        self.replace_at(&self.index.hashed(key_of(flow)), flow, now)
    }

    /// As [`Cache::replace`], for who has the flow's key: read back from `flow`, which was written
    /// in other pieces a moment ago, it would have to wait.
    pub(crate) fn replace_at(
        &mut self,
        at: &Hashed,
        flow: &Flow,
        now: u32,
    ) -> Result<Stored, CacheFull> {
        self.put(at, flow, now, true)
    }

    /// As [`Cache::replace`], for a flow that the daemon itself has made: it may have taken the
    /// place of one that the peer knows of.
    ///
    /// # Errors
    /// [`CacheFull`], and nothing changed but counters.
    pub fn adopt(&mut self, flow: &Flow, now: u32) -> Result<Stored, CacheFull> {
        self.adopt_at(&self.index.hashed(key_of(flow)), flow, now)
    }

    /// As [`Cache::adopt`], for who has the flow's key.
    pub(crate) fn adopt_at(
        &mut self,
        at: &Hashed,
        flow: &Flow,
        now: u32,
    ) -> Result<Stored, CacheFull> {
        self.put(at, flow, now, false)
    }

    fn put(
        &mut self,
        at: &Hashed,
        flow: &Flow,
        now: u32,
        fresh: bool,
    ) -> Result<Stored, CacheFull> {
        self.tombstones.forget(at.wide);
        let Some(slot) = self.find_key(at) else {
            return self.create(at, flow, now, fresh);
        };
        Ok(self.rewrite(slot, flow, now))
    }

    /// Stores what a flow has and keeps what it has not; a flow that was there before becomes
    /// ALIVE. One that was not is created as NEW; so is one in the place of a dead one, or of one
    /// that it cannot be and whose end was missed: of those nothing is kept.
    /// `flow` must have its original tuple.
    ///
    /// # Errors
    /// [`CacheFull`], and nothing changed but counters.
    pub fn merge(&mut self, flow: &Flow, now: u32) -> Result<Stored, CacheFull> {
        self.merge_at(&self.index.hashed(key_of(flow)), flow, now)
    }

    /// As [`Cache::merge`], for who has the flow's key.
    pub(crate) fn merge_at(
        &mut self,
        at: &Hashed,
        flow: &Flow,
        now: u32,
    ) -> Result<Stored, CacheFull> {
        self.tombstones.forget(at.wide);
        match self.find_key(at) {
            None => {
                let stored = self.create(at, flow, now, false)?;
                self.table.set_partial(stored.index.0, true);
                Ok(stored)
            }
            Some(slot)
                if self.table.is_dead(slot) || self.table.at(slot).is_other(flow, &self.extras) =>
            {
                let stored = self.rewrite(slot, flow, now);
                self.table.set_partial(slot, true);
                Ok(stored)
            }
            Some(slot) => {
                self.silent.unset(slot);
                if self.table.is_stale(slot) {
                    // Of what was missed before, the reading that runs tells what this does not.
                    self.table.set_partial(slot, true);
                    self.table.at_mut(slot).forget_told();
                }
                Ok(self.update(slot, flow, now))
            }
        }
    }

    /// An event about the flow told no mark. The kernel tells every mark but zero in each of them,
    /// so it is zero, whatever an event said that came before, and whatever a dump says that may
    /// have been made before.
    pub(crate) fn unmark(&mut self, index: FlowIndex) {
        let partial = self.table.is_partial(index.0);
        self.table.at_mut(index.0).unmark(partial);
    }

    pub(crate) fn update(&mut self, slot: u32, flow: &Flow, now: u32) -> Stored {
        self.store_into(slot, flow);
        self.table.at_mut(slot).updated = now;
        self.table.refresh(slot);
        if lacks_adjustment(flow) {
            self.note_unread(slot);
        }
        Stored { index: FlowIndex(slot), existed: true }
    }

    /// Adds what a flow has to the stored one.
    pub(crate) fn store_into(&mut self, slot: u32, flow: &Flow) {
        self.table.at_mut(slot).store(flow, self.role, false, &mut self.extras);
        self.counters.updated += 1;
    }

    /// Puts a flow in the place of the one with its key.
    pub(crate) fn rewrite(&mut self, slot: u32, flow: &Flow, now: u32) -> Stored {
        let existed = !self.table.is_dead(slot);
        self.counters.destroyed += u64::from(existed);
        self.counters.revived += u64::from(!existed);
        self.counters.created += 1;
        self.table.renew(slot);
        self.silent.unset(slot);
        self.unread.unset(slot);
        let entry = self.table.at_mut(slot);
        entry.store(flow, self.role, true, &mut self.extras);
        entry.created = now;
        entry.updated = now;
        if lacks_adjustment(flow) {
            self.note_unread(slot);
        }
        Stored { index: FlowIndex(slot), existed }
    }

    pub(crate) fn create(
        &mut self,
        at: &Hashed,
        flow: &Flow,
        now: u32,
        fresh: bool,
    ) -> Result<Stored, CacheFull> {
        if self.table.len() >= self.limit
            && let Some(oldest) = self.table.oldest_parked()
        {
            // Whoever lives comes before the word of who does not.
            self.forget_end(oldest);
        }
        if self.table.len() >= self.limit {
            self.counters.create_failed += 1;
            self.counters.no_space += 1;
            return Err(CacheFull);
        }
        let hash = at.short();
        let fresh = fresh && self.unheld != Unheld::Flows;
        let mut entry = Entry::new(&at.key, hash, fresh, &mut self.extras);
        entry.store(flow, self.role, true, &mut self.extras);
        entry.created = now;
        entry.updated = now;
        let slot = self.table.insert(entry);
        if self.unheld != Unheld::Nothing {
            self.table.begin_anew(slot);
        }
        self.index.insert(hash, slot, |slot| self.table.at(slot).head().hash);
        // With the table, so that no event has to wait for growth.
        self.unread.grow(self.table.capacity());
        if lacks_adjustment(flow) {
            self.note_unread(slot);
        }
        self.counters.created += 1;
        Ok(Stored { index: FlowIndex(slot), existed: false })
    }

    /// Removes a flow at once, dead or not, without a word to anybody.
    pub fn remove(&mut self, index: FlowIndex) {
        let Some(entry) = self.table.get(index.0) else { return };
        if self.tombstones.active() {
            let at = self.hashed(&entry.orig(&self.extras.pairs), entry.zone());
            self.tombstones.add(at.wide);
        }
        self.counters.destroyed += u64::from(!self.table.is_dead(index.0));
        self.release(index.0);
    }

    /// Frees a slot that holds a flow, and all it has elsewhere.
    pub(crate) fn release(&mut self, slot: u32) {
        let entry = *self.table.at(slot);
        self.index.remove(slot, |slot| self.table.at(slot).head().hash);
        self.extras.free(&entry);
        self.silent.unset(slot);
        self.unread.unset(slot);
        self.unclaimed.unset(slot);
        self.followed.unset(slot);
        self.table.release(slot);
    }

    /// Writes the flow into `flow`: presence and the members that are present; the others have no
    /// meaning afterwards. Dead flows are read as well.
    pub fn load(&self, index: FlowIndex, flow: &mut Flow) -> Option<Meta> {
        let entry = self.table.get(index.0)?;
        entry.load(flow, self.role, &self.extras);
        Some(self.meta_of(index.0, entry))
    }

    /// What is known about the flow beside it.
    pub fn meta(&self, index: FlowIndex) -> Option<Meta> {
        self.table.get(index.0).map(|entry| self.meta_of(index.0, entry))
    }

    fn meta_of(&self, slot: u32, entry: &Entry) -> Meta {
        let head = entry.head();
        Meta {
            created: entry.created,
            updated: entry.updated,
            state: head.state(),
            pos: head.pos(),
            pending: head.is_queued(),
            unacked: head.is_waiting(),
            silent: self.silent.has(slot),
        }
    }

    /// Whether the flow waits to be sent or for an acknowledgement.
    pub(crate) fn is_under_way(&self, index: FlowIndex) -> bool {
        self.meta(index).is_some_and(|meta| meta.pending || meta.unacked)
    }

    /// Original tuple and zone of a flow.
    pub fn key(&self, index: FlowIndex) -> Option<(Tuple, u16)> {
        self.table.get(index.0).map(|e| (e.orig(&self.extras.pairs), e.zone()))
    }

    /// Which members of a flow are stored, without reading them.
    pub fn present(&self, index: FlowIndex) -> Option<Present> {
        self.table.get(index.0).map(Entry::present)
    }

    /// Status word of a flow; zeros if it is not stored.
    pub fn status(&self, index: FlowIndex) -> Option<Status> {
        self.table.get(index.0).map(Entry::status)
    }

    /// Removes every flow without a word to anybody, and ends a bulk send and an epoch. Takes no
    /// time for the flows; their memory is kept, that of the index is taken anew. Late
    /// acknowledgements of what was sent before have no effect.
    pub fn clear(&mut self) {
        self.counters.destroyed += u64::from(self.alive_len());
        self.table.clear();
        self.extras.clear();
        self.index.clear();
        self.silent.clear();
        self.unread.clear();
        self.unclaimed.clear();
        self.followed.clear();
        self.tombstones.end();
        self.epoch = false;
        self.unheld = Unheld::Flows;
    }

    /// Panics unless everything here agrees with everything else. For tests.
    #[doc(hidden)]
    pub fn verify(&self) {
        self.table.verify();
        assert_eq!(self.index.len(), self.len() as usize, "index and slots");
        let (mut sides, mut contexts, mut pairs) = (0, 0, 0);
        let (mut silent, mut unread, mut unclaimed, mut followed) = (0, 0, 0, 0);
        for slot in self.table.slots() {
            let entry = self.table.at(slot);
            let at = self.hashed(&entry.orig(&self.extras.pairs), entry.zone());
            assert_eq!(at.short(), entry.head().hash, "hash of slot {slot}");
            assert_eq!(self.find_key(&at), Some(slot), "slot {slot} by its key");
            let (side, context) = entry.has_side(&self.extras.sides);
            sides += u32::from(side);
            contexts += u32::from(context);
            pairs += entry.pairs();
            silent += u32::from(self.silent.has(slot));
            unread += u32::from(self.unread.has(slot));
            unclaimed += u32::from(self.unclaimed.has(slot));
            followed += u32::from(self.followed.has(slot));
            assert!(self.unclaimed.has(slot) || !self.followed.has(slot), "own and the peer's");
            let watched = self.silent.has(slot) || self.unread.has(slot);
            assert!(!(self.table.is_dead(slot) && watched), "dead and asked for");
        }
        self.extras.sides.verify(sides, contexts);
        assert_eq!(self.extras.pairs.used(), pairs, "pairs in use");
        let held = self.extras.pairs.count_free() + self.extras.pairs.used();
        assert_eq!(held, self.extras.pairs.len(), "free pairs");
        assert_eq!(self.silent.count(), silent, "silent flows");
        assert_eq!(self.unread.count(), unread, "unread flows");
        assert_eq!(self.unclaimed.count(), unclaimed, "flows that may be a peer's");
        assert_eq!(self.followed.count(), followed, "flows that the peer told");
        assert!(self.len() <= self.limit, "more flows than the limit");
    }
}

pub(crate) fn key_of(flow: &Flow) -> Key {
    debug_assert!(flow.present.has(Present::ORIG), "a flow to be stored has its original tuple");
    Key::new(&flow.orig, flow.key_zone())
}
