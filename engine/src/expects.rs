//! The expectations of one shard.
//!
//! They are few and short-lived, so they are stored as they are. What is to be sent about them is
//! tracked as for flows: [`Expects`] has the methods of [`Cache`](crate::cache::Cache) under the
//! same names.

use proto_ctnl::{Expect, ExpectPresent, Tuple};

use crate::cache::{BulkStep, CacheConfig, CacheCounters, Change, Killed, Meta};
use crate::changes::{Head, Record, Tracked};
use crate::index::{Index, Key};
use crate::slab::FreeLink;

/// Expectations for whose index memory is set aside at the start.
const EXPECTED: u32 = 1024;

/// The place of an expectation in its cache. Places are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExpectIndex(u32);

impl ExpectIndex {
    /// The first place, where iteration begins.
    pub const FIRST: Self = Self(0);

    /// The number that [`ExpectIndex::raw`] gave.
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

/// Where an expectation was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectStored {
    /// Its place.
    pub index: ExpectIndex,
    /// Whether it was there before, and not dead.
    pub existed: bool,
}

/// Why an expectation was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectRefused {
    /// The cache holds as many as it may.
    Full,
    /// It does not say whose it is, so that nothing could ever find it.
    NoMaster,
}

/// One expectation and what is known about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    expect: Expect,
    created: u32,
    updated: u32,
    head: Head,
}

impl FreeLink for Entry {
    fn free_next(&self) -> u32 {
        self.created
    }
    fn set_free_next(&mut self, next: u32) {
        self.created = next;
    }
}

impl Record for Entry {
    fn head(&self) -> &Head {
        &self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// The expectations of one shard, of its kernel or of a peer.
#[derive(Debug)]
pub struct Expects {
    pub(crate) table: Tracked<Entry, 6>,
    index: Index,
    limit: u32,
    counters: CacheCounters,
}

impl Expects {
    /// An empty cache. The role makes no difference.
    pub fn new(config: CacheConfig) -> Self {
        let limit = config.limit.min(1 << 31);
        let expected = limit.min(EXPECTED);
        Self {
            table: Tracked::new(expected),
            index: Index::new(expected, config.seed),
            limit,
            counters: CacheCounters::default(),
        }
    }

    /// Expectations, dead ones included.
    pub const fn len(&self) -> u32 {
        self.table.len()
    }

    /// Whether there is none, not even a dead one.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Expectations that are not dead.
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

    /// The expectation that `expect` names, unless it is dead. Master and zone have to be equal;
    /// everything else but timeout and identifier has to be if both say something about it.
    pub fn find(&self, expect: &Expect) -> Option<ExpectIndex> {
        self.find_any(expect).filter(|i| !self.table.is_dead(i.0))
    }

    /// As [`Expects::find`], dead or not.
    pub fn find_any(&self, expect: &Expect) -> Option<ExpectIndex> {
        if !expect.present.has(ExpectPresent::MASTER) {
            return None;
        }
        let hash = self.index.hash(&key_of(expect));
        self.index.find(hash, |slot| is_same(&self.table.at(slot).expect, expect)).map(ExpectIndex)
    }

    /// Whether the expectation is known, and not with these flags.
    pub(crate) fn has_other_flags(&self, expect: &Expect) -> bool {
        let known = self.find(expect).and_then(|index| self.table.get(index.0));
        known.is_some_and(|entry| {
            let both = |bit| expect.present.has(bit) && entry.expect.present.has(bit);
            both(ExpectPresent::FLAGS) && expect.flags != entry.expect.flags
        })
    }

    /// Whether an expectation that is not dead stands there.
    pub fn contains(&self, index: ExpectIndex) -> bool {
        self.table.exists(index.0) && !self.table.is_dead(index.0)
    }

    /// The first expectation in the order of places, from `cursor` on, that is not dead.
    pub fn next_from(&self, cursor: ExpectIndex) -> Option<ExpectIndex> {
        self.table.next_alive(cursor.0).map(ExpectIndex)
    }

    /// The expectation, dead or not, and what is known about it.
    pub fn get(&self, index: ExpectIndex) -> Option<(&Expect, Meta)> {
        let entry = self.table.get(index.0)?;
        let meta = Meta {
            created: entry.created,
            updated: entry.updated,
            state: entry.head.state(),
            pos: entry.head.pos(),
            pending: entry.head.is_queued(),
            unacked: entry.head.is_waiting(),
            silent: false,
        };
        Some((&entry.expect, meta))
    }

    /// The expectation that was written longest ago, and when; only where that order is kept.
    pub(crate) fn oldest(&self) -> Option<(ExpectIndex, u32)> {
        let slot = self.table.oldest()?;
        Some((ExpectIndex(slot), self.table.at(slot).updated))
    }

    /// Original tuple and zone of the expectation's master.
    pub fn master(&self, index: ExpectIndex) -> Option<(Tuple, u16)> {
        self.table.get(index.0).map(|entry| (entry.expect.master, zone_of(&entry.expect)))
    }

    /// Stores an expectation as it is: what the stored one had and this has not is gone.
    ///
    /// # Errors
    /// No room, or no master; nothing changed but counters.
    pub fn replace(&mut self, expect: &Expect, now: u32) -> Result<ExpectStored, ExpectRefused> {
        match self.find_any(expect) {
            Some(index) => Ok(self.rewrite(index, expect, now)),
            None => self.create(expect, now, true),
        }
    }

    /// Stores what an expectation has and keeps what it has not; creates it if there is none.
    ///
    /// # Errors
    /// No room, or no master; nothing changed but counters.
    pub fn merge(&mut self, expect: &Expect, now: u32) -> Result<ExpectStored, ExpectRefused> {
        match self.find_any(expect) {
            None => self.create(expect, now, false),
            Some(index) if self.table.is_dead(index.0) => Ok(self.rewrite(index, expect, now)),
            Some(index) => {
                let entry = self.table.at_mut(index.0);
                take(&mut entry.expect, expect);
                entry.updated = now;
                self.table.refresh(index.0);
                self.counters.updated += 1;
                Ok(ExpectStored { index, existed: true })
            }
        }
    }

    fn rewrite(&mut self, index: ExpectIndex, expect: &Expect, now: u32) -> ExpectStored {
        let existed = !self.table.is_dead(index.0);
        self.counters.destroyed += u64::from(existed);
        self.counters.revived += u64::from(!existed);
        self.counters.created += 1;
        self.table.renew(index.0);
        let entry = self.table.at_mut(index.0);
        entry.expect = *expect;
        entry.created = now;
        entry.updated = now;
        ExpectStored { index, existed }
    }

    fn create(
        &mut self,
        expect: &Expect,
        now: u32,
        fresh: bool,
    ) -> Result<ExpectStored, ExpectRefused> {
        if !expect.present.has(ExpectPresent::MASTER) {
            self.counters.create_failed += 1;
            return Err(ExpectRefused::NoMaster);
        }
        if self.table.len() >= self.limit
            && let Some(oldest) = self.table.oldest_parked()
        {
            self.forget_end(oldest);
        }
        if self.table.len() >= self.limit {
            self.counters.create_failed += 1;
            self.counters.no_space += 1;
            return Err(ExpectRefused::Full);
        }
        let hash = self.index.hash(&key_of(expect));
        let head = Head::new(hash, fresh);
        let slot = self.table.insert(Entry { expect: *expect, created: now, updated: now, head });
        self.index.insert(hash, slot, |slot| self.table.at(slot).head.hash);
        self.counters.created += 1;
        Ok(ExpectStored { index: ExpectIndex(slot), existed: false })
    }

    /// Removes an expectation at once, without a word to anybody.
    pub fn remove(&mut self, index: ExpectIndex) {
        if self.table.exists(index.0) {
            self.counters.destroyed += u64::from(!self.table.is_dead(index.0));
            self.release(index.0);
        }
    }

    fn release(&mut self, slot: u32) {
        self.index.remove(slot, |slot| self.table.at(slot).head.hash);
        self.table.release(slot);
    }

    /// Removes every expectation without a word to anybody.
    pub fn clear(&mut self) {
        self.counters.destroyed += u64::from(self.alive_len());
        self.table.clear();
        self.index.clear();
    }
}

/// What is to be sent, and agreement with the kernel's table.
impl Expects {
    /// Queues the expectation to be sent, unless it is queued already.
    pub fn mark_changed(&mut self, index: ExpectIndex) {
        self.table.mark(index.0);
    }

    /// The expectation is destroyed: it is dead and queued, or gone if no peer ever heard of it.
    pub fn kill(&mut self, index: ExpectIndex) -> Killed {
        let killed = self.table.kill(index.0);
        self.counters.destroyed += u64::from(killed != Killed::Ignored);
        if killed == Killed::Removed {
            self.counters.dropped_unsent += 1;
            self.release(index.0);
        }
        killed
    }

    /// The expectation to be sent next, and the kind of message from its state now.
    pub fn next_changed(&self) -> Option<(ExpectIndex, Change)> {
        self.table.front().map(|(slot, change)| (ExpectIndex(slot), change))
    }

    /// The expectation was sent. Gives the number of this sending.
    pub fn sent(&mut self, index: ExpectIndex, keep_until_acked: bool) -> u32 {
        let (pos, release) = self.table.sent(index.0, keep_until_acked);
        if release {
            self.release(index.0);
        }
        pos
    }

    /// Takes a queued expectation out of the queue without sending it; a dead one is gone.
    pub fn skip(&mut self, index: ExpectIndex) {
        if self.table.skip(index.0) {
            self.release(index.0);
        }
    }

    /// Sending `pos` arrived. Without effect if there was a newer sending or change.
    pub fn acked(&mut self, index: ExpectIndex, pos: u32) {
        if self.table.acked(index.0, pos) {
            self.release(index.0);
        }
    }

    /// Sending `pos` was lost. Without effect if there was a newer sending or change.
    pub fn nacked(&mut self, index: ExpectIndex, pos: u32) {
        self.table.nacked(index.0, pos);
    }

    /// Nobody waits for sending `pos` any more. A dead expectation is kept for the next bulk send.
    pub fn evicted(&mut self, index: ExpectIndex, pos: u32) {
        if let Some(oldest) = self.table.evicted(index.0, pos) {
            self.forget_end(oldest);
        }
    }

    /// The dead expectation makes room: no peer will be told of its end.
    fn forget_end(&mut self, slot: u32) {
        self.counters.ends_forgotten += 1;
        self.release(slot);
    }

    /// Expectations that wait to be sent.
    pub const fn pending_len(&self) -> u32 {
        self.table.pending_len()
    }

    /// Expectations that wait for an acknowledgement.
    pub const fn unacked_len(&self) -> u32 {
        self.table.unacked_len()
    }

    /// Begins to send every expectation that is alive now.
    pub fn begin_bulk(&mut self) {
        self.table.begin_bulk();
    }

    /// Queues up to `budget` more expectations of a bulk send.
    pub fn bulk_step(&mut self, budget: u32) -> BulkStep {
        self.table.bulk_step(budget)
    }

    /// Expectations that a bulk send has yet to look at; 0 if none is under way.
    pub const fn bulk_left(&self) -> u32 {
        self.table.bulk_left()
    }

    /// The kernel's table is read from now on: what nothing stores or touches is stale.
    pub fn begin_epoch(&mut self) {
        self.table.begin_epoch();
    }

    /// The expectation is current.
    pub fn touch(&mut self, index: ExpectIndex) {
        self.table.touch(index.0);
    }

    /// Takes one more expectation that nothing confirmed since the epoch began.
    pub fn take_stale(&mut self) -> Option<ExpectIndex> {
        self.table.take_stale().map(ExpectIndex)
    }

    /// Ends an epoch.
    pub fn end_epoch(&mut self) {
        self.table.end_epoch();
    }

    /// Panics unless everything here agrees with everything else. For tests.
    #[doc(hidden)]
    pub fn verify(&self) {
        self.table.verify();
        assert_eq!(self.index.len(), self.len() as usize, "index and slots");
        for slot in self.table.slots() {
            let entry = self.table.at(slot);
            assert_eq!(self.index.hash(&key_of(&entry.expect)), entry.head.hash, "hash of {slot}");
            assert_eq!(self.index.find(entry.head.hash, |s| s == slot), Some(slot));
        }
    }
}

fn zone_of(expect: &Expect) -> u16 {
    if expect.present.has(ExpectPresent::ZONE) { expect.zone } else { 0 }
}

fn key_of(expect: &Expect) -> Key {
    Key::new(&expect.master, zone_of(expect))
}

/// Whether both name one expectation. Its flags do not tell: that of a SIP registration is inactive until
/// the registrar has answered, and no event says that it no longer is, but the one of its end.
fn is_same(a: &Expect, b: &Expect) -> bool {
    let agree =
        |bit: ExpectPresent, equal: bool| equal || !(a.present.has(bit) && b.present.has(bit));
    a.master == b.master
        && zone_of(a) == zone_of(b)
        && agree(ExpectPresent::TUPLE, a.tuple == b.tuple)
        && agree(ExpectPresent::MASK, a.mask == b.mask)
        && agree(ExpectPresent::CLASS, a.class == b.class)
        && agree(ExpectPresent::HELPER, a.helper == b.helper)
        && agree(ExpectPresent::FUNCTION, a.function == b.function)
        && agree(ExpectPresent::NAT, a.nat_dir == b.nat_dir && a.nat == b.nat)
}

/// Overwrites what `new` has.
fn take(old: &mut Expect, new: &Expect) {
    let has = |bit: ExpectPresent| new.present.has(bit);
    if has(ExpectPresent::TUPLE) {
        old.tuple = new.tuple;
    }
    if has(ExpectPresent::MASK) {
        old.mask = new.mask;
    }
    if has(ExpectPresent::TIMEOUT) {
        old.timeout = new.timeout;
    }
    if has(ExpectPresent::ID) {
        old.id = new.id;
    }
    if has(ExpectPresent::HELPER) {
        old.helper = new.helper;
    }
    if has(ExpectPresent::ZONE) {
        old.zone = new.zone;
    }
    if has(ExpectPresent::FLAGS) {
        old.flags = new.flags;
    }
    if has(ExpectPresent::CLASS) {
        old.class = new.class;
    }
    if has(ExpectPresent::NAT) {
        (old.nat_dir, old.nat) = (new.nat_dir, new.nat);
    }
    if has(ExpectPresent::FUNCTION) {
        old.function = new.function;
    }
    old.present.insert(new.present);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Role;
    use proto_ctnl::{L4, Name, proto};

    fn expect(port: u16) -> Expect {
        let address = |n| core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, n));
        let master =
            Tuple { src: address(2), dst: address(3), proto: proto::TCP, l4: L4::ports(37752, 21) };
        let mut expect = Expect {
            master,
            tuple: Tuple { l4: L4::ports(0, port), ..master },
            timeout: 300,
            helper: Name::new(b"ftp").unwrap(),
            ..Expect::default()
        };
        expect.present = ExpectPresent::MASTER;
        for bit in [ExpectPresent::TUPLE, ExpectPresent::TIMEOUT, ExpectPresent::HELPER] {
            expect.present.insert(bit);
        }
        expect
    }

    fn cache(limit: u32) -> Expects {
        Expects::new(CacheConfig { limit, role: Role::Internal, seed: Some(3) })
    }

    #[test]
    fn only_what_both_have_is_compared() {
        let mut cache = cache(9);
        let a = cache.replace(&expect(40001), 1).unwrap().index;
        let b = cache.replace(&expect(40002), 1).unwrap().index;
        assert_ne!(a, b);
        // The timeout never counts; a helper that the other lacks does not either.
        let mut bare = Expect { timeout: 1, class: 4, ..expect(40002) };
        bare.present = ExpectPresent::MASTER;
        bare.present.insert(ExpectPresent::TUPLE);
        bare.present.insert(ExpectPresent::CLASS);
        assert_eq!(cache.find(&bare), Some(b));
        assert!(cache.merge(&bare, 2).unwrap().existed);
        let (stored, meta) = cache.get(b).unwrap();
        assert_eq!((stored.timeout, stored.class, meta.updated), (300, 4, 2));
        assert_eq!(cache.find(&Expect { class: 5, ..bare }), None);
        assert_eq!(cache.find(&Expect { helper: Name::EMPTY, ..expect(40001) }), None);
        let mut zoned = expect(40001);
        (zoned.zone, zoned.present) = (7, ExpectPresent(zoned.present.0 | ExpectPresent::ZONE.0));
        assert_eq!(cache.find(&zoned), None);
        cache.remove(a);
        assert_eq!((cache.find(&expect(40001)), cache.len()), (None, 1));
        cache.verify();
    }

    /// They stayed for ever, here and at the peer.
    #[test]
    fn the_end_of_one_whose_flags_changed_unheard_of_is_its_end() {
        let mut cache = cache(9);
        let with = |flags| {
            let mut expect = Expect { flags, ..expect(5060) };
            expect.present.insert(ExpectPresent::FLAGS);
            expect
        };
        let a = cache.replace(&with(3), 0).unwrap().index;
        assert_eq!(cache.find(&with(1)), Some(a));
        assert!(cache.merge(&with(1), 0).unwrap().existed, "what a reading shows");
        assert_eq!(cache.get(a).unwrap().0.flags, 1);
        cache.remove(cache.find(&with(1)).unwrap());
        assert!(cache.is_empty());
        cache.verify();
    }

    #[test]
    fn is_sent_acknowledged_and_sent_again() {
        let mut cache = cache(9);
        let a = cache.replace(&expect(1), 0).unwrap().index;
        cache.mark_changed(a);
        assert_eq!(cache.next_changed(), Some((a, Change::New)));
        let first = cache.sent(a, true);
        cache.nacked(a, first);
        let second = cache.sent(cache.next_changed().unwrap().0, true);
        cache.acked(a, first);
        assert_eq!(cache.unacked_len(), 1);
        cache.acked(a, second);
        assert_eq!((cache.kill(a), cache.alive_len(), cache.len()), (Killed::Queued, 0, 1));
        assert_eq!(cache.next_changed(), Some((a, Change::Delete)));
        cache.verify();
        let third = cache.sent(a, true);
        cache.evicted(a, third);
        cache.verify();
        cache.begin_bulk();
        assert_eq!(cache.bulk_step(9), BulkStep { queued: 1, done: true });
        assert_eq!(cache.next_changed(), Some((a, Change::Delete)));
        let fourth = cache.sent(a, true);
        cache.acked(a, fourth);
        assert!(cache.is_empty());
        let b = cache.replace(&expect(2), 0).unwrap().index;
        cache.mark_changed(b);
        assert_eq!(cache.kill(b), Killed::Removed);
        cache.verify();
    }

    #[test]
    fn refuses_what_has_no_room_or_no_master() {
        let mut cache = cache(1);
        let orphan = Expect { present: ExpectPresent::TUPLE, ..expect(1) };
        assert_eq!(cache.replace(&orphan, 0), Err(ExpectRefused::NoMaster));
        cache.replace(&expect(1), 0).unwrap();
        assert_eq!(cache.merge(&expect(2), 0), Err(ExpectRefused::Full));
        assert_eq!((cache.counters().create_failed, cache.counters().no_space), (2, 1));
    }

    #[test]
    fn stale_ones_are_found_and_all_are_sent_in_bulk() {
        let mut cache = cache(900);
        for port in 0..200 {
            cache.merge(&expect(port), 0).unwrap();
        }
        cache.begin_epoch();
        for port in 0..199 {
            assert!(cache.merge(&expect(port), 1).unwrap().existed);
        }
        let stale = cache.take_stale().unwrap();
        assert_eq!((Some(stale), cache.take_stale()), (cache.find(&expect(199)), None));
        cache.end_epoch();
        cache.begin_bulk();
        assert_eq!(cache.bulk_step(500), BulkStep { queued: 200, done: true });
        assert_eq!(cache.next_changed().unwrap().1, Change::New, "no peer has it");
        cache.verify();
        cache.clear();
        cache.verify();
    }
}
