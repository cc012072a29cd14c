//! From a key to its slot.
//!
//! The table holds slots only; keys stand in the records, and so does the hash, so that growth
//! hashes nothing anew. Tuples come from outside, so the hash is keyed with numbers drawn at the
//! start of the process; a simulation gives its own.

use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;

use hashbrown::HashTable;
use proto_ctnl::{L4, Tuple};

use crate::addr6::Pair;

/// The hash function of keys. The choice stands here and nowhere else.
pub(crate) type KeyHasher = ahash::RandomState;

/// Records for which the table is reserved at the start, however high the limit is.
const RESERVE_MAX: u32 = 1 << 22;

/// Addresses of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyAddress {
    /// Source, destination.
    V4([u32; 2]),
    /// Both IPv6.
    V6(Pair),
}

/// What tells flows apart: original tuple and zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) address: KeyAddress,
    pub(crate) l4: L4,
    pub(crate) zone: u16,
    pub(crate) proto: u8,
}

impl Key {
    pub(crate) fn new(tuple: &Tuple, zone: u16) -> Self {
        let address = match (tuple.src, tuple.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => KeyAddress::V4([src.to_bits(), dst.to_bits()]),
            (src, dst) => KeyAddress::V6(Pair::new(src, dst)),
        };
        Self { address, l4: tuple.l4, zone, proto: tuple.proto }
    }

    fn hash(&self, hasher: &KeyHasher) -> u64 {
        let mut h = hasher.build_hasher();
        let ports = u64::from(self.l4.a) << 16 | u64::from(self.l4.b);
        h.write_u64(ports << 32 | u64::from(self.proto) << 16 | u64::from(self.zone));
        match self.address {
            KeyAddress::V4([src, dst]) => h.write_u64(u64::from(src) << 32 | u64::from(dst)),
            KeyAddress::V6(pair) => {
                h.write_u128(pair.src);
                h.write_u128(pair.dst);
            }
        }
        h.finish()
    }
}

/// The hash as records keep it.
const fn short(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// A hash for the table, which takes the place from the low bits and a tag from the high ones.
const fn long(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

/// Slots by hash.
#[derive(Debug)]
pub(crate) struct Index {
    table: HashTable<u32>,
    hasher: KeyHasher,
}

impl Index {
    /// A table for `limit` records, half empty when it holds them: then removals leave hardly any
    /// tombstones, and the table is not cleaned up in the middle of the work. Of the reserved
    /// memory only one octet a bucket is touched before it is used.
    pub(crate) fn new(limit: u32, seed: Option<u64>) -> Self {
        let hasher = match seed {
            None => KeyHasher::new(),
            Some(s) => KeyHasher::with_seeds(s, s.rotate_left(17), s ^ 0x6a09_e667, !s),
        };
        let reserve = limit.min(RESERVE_MAX) as usize;
        Self { table: HashTable::with_capacity(reserve / 4 * 7), hasher }
    }

    /// 64 bits of hash, of which [`Index::find`] wants what [`Index::short`] makes of them.
    pub(crate) fn wide_hash(&self, key: &Key) -> u64 {
        key.hash(&self.hasher)
    }

    /// The hash of a key.
    pub(crate) fn hash(&self, key: &Key) -> u32 {
        short(key.hash(&self.hasher))
    }

    pub(crate) const fn short(wide: u64) -> u32 {
        short(wide)
    }

    pub(crate) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.table.find(long(hash), |&slot| is(slot)).copied()
    }

    /// Adds a slot. `hash_of` gives the hash that a record keeps.
    pub(crate) fn insert(&mut self, hash: u32, slot: u32, hash_of: impl Fn(u32) -> u32) {
        self.table.insert_unique(long(hash), slot, |&other| long(hash_of(other)));
    }

    pub(crate) fn remove(&mut self, hash: u32, slot: u32) {
        if let Ok(entry) = self.table.find_entry(long(hash), |&other| other == slot) {
            entry.remove();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.table.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn allocated(&self) -> usize {
        self.table.allocation_size()
    }
}
