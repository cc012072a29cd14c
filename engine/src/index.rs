//! From a key to its slot.
//!
//! The index holds hashes and slots; keys stand in the records. Tuples come from outside, so the
//! hash is keyed with numbers drawn at the start of the process; a simulation gives its own.
//!
//! A general hash table keeps tags and values apart, and a flow that is new costs two waits for
//! memory: one to see that its tag is not there, and one to write its value. Here both are in one
//! cell. On a quiet machine a node that is told of flows needs a tenth less CPU time for it
//! (`perf/RESULTS.md`). The smaller the cells, the more of them are in the processor's caches: four
//! octets hold a slot and a dozen bits of the hash. The rest of that is in the record, and is asked
//! for only when cells move.

use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;

use proto_ctnl::{L4, Tuple};

use crate::addr6::Pair;

/// The hash function of keys. The choice stands here and nowhere else.
pub(crate) type KeyHasher = ahash::RandomState;

/// Records for which the table is reserved at the start, however high the limit is.
const RESERVE_MAX: u32 = 1 << 22;
/// Cells that even the smallest index has.
const CELLS_MIN: usize = 64;

/// Addresses of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyAddress {
    /// Source, destination.
    V4([u32; 2]),
    /// Both IPv6.
    V6(Pair),
}

/// What tells flows apart: original tuple, and the zone in which the kernel finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) address: KeyAddress,
    pub(crate) l4: L4,
    pub(crate) zone: u16,
    pub(crate) proto: u8,
}

impl Key {
    /// No flow's.
    pub(crate) const NONE: Self =
        Self { address: KeyAddress::V4([0; 2]), l4: L4 { a: 0, b: 0 }, zone: 0, proto: 0 };

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

/// A key with its hash, for one index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashed {
    pub(crate) key: Key,
    /// 64 bits of it.
    pub(crate) wide: u64,
}

impl Hashed {
    /// No flow's.
    pub(crate) const NONE: Self = Self { key: Key::NONE, wide: 0 };

    /// As records and [`Index::find`] have it.
    pub(crate) const fn short(&self) -> u32 {
        short(self.wide)
    }
}

/// The hash as records keep it.
const fn short(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// Slots by hash: each in a cell as near behind the place that its hash names as was free. Nearly
/// always that is within one cache line, which is all that looking for a flow, or adding one, needs
/// beside the flow itself.
///
/// Slots are those of a slab, so none is as high as there are cells.
#[derive(Debug)]
pub(crate) struct Index {
    /// 0 is an empty cell; else the slot plus 1, and above it as much of the hash as there is room
    /// for.
    cells: Vec<u32>,
    /// The bits of a cell that are the slot's.
    slot_mask: u32,
    len: usize,
    hasher: KeyHasher,
}

impl Index {
    /// An index for `limit` records. Of its memory nothing is touched before it is used.
    pub(crate) fn new(limit: u32, seed: Option<u64>) -> Self {
        let hasher = match seed {
            None => KeyHasher::new(),
            Some(s) => KeyHasher::with_seeds(s, s.rotate_left(17), s ^ 0x6a09_e667, !s),
        };
        let mut index = Self { cells: Vec::new(), slot_mask: 0, len: 0, hasher };
        index.have_cells((limit.min(RESERVE_MAX) as usize / 2 * 3).max(CELLS_MIN));
        index
    }

    /// Has so many cells, all of them empty.
    fn have_cells(&mut self, count: usize) {
        self.cells = vec![0; count];
        let bits = usize::BITS - count.leading_zeros();
        self.slot_mask = u32::MAX >> 32_u32.saturating_sub(bits);
    }

    /// What a cell has above its slot.
    const fn tag(&self, hash: u32) -> u32 {
        match hash.checked_shl(self.slot_mask.trailing_ones()) {
            Some(tag) => tag,
            None => 0,
        }
    }

    /// A key with its hash.
    pub(crate) fn hashed(&self, key: Key) -> Hashed {
        Hashed { wide: key.hash(&self.hasher), key }
    }

    /// The hash of a key.
    pub(crate) fn hash(&self, key: &Key) -> u32 {
        short(key.hash(&self.hasher))
    }

    /// The cell that a hash names.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.cells.len() as u64) >> 32) as usize
    }

    const fn after(&self, at: usize) -> usize {
        let next = at + 1;
        if next == self.cells.len() { 0 } else { next }
    }

    /// The slot of this hash of which `is` says that it is the one. It is asked about others as well,
    /// seldom.
    pub(crate) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = self.tag(hash);
        let mut at = self.home(hash);
        loop {
            let cell = self.cells[at];
            if cell == 0 {
                return None;
            }
            let slot = (cell & self.slot_mask).wrapping_sub(1);
            if cell & !self.slot_mask == tag && is(slot) {
                return Some(slot);
            }
            at = self.after(at);
        }
    }

    /// Adds a slot, which is not there yet. `hash_of` gives the hash of those that are.
    pub(crate) fn insert(&mut self, hash: u32, slot: u32, hash_of: impl Fn(u32) -> u32) {
        if self.len >= self.cells.len() / 4 * 3 {
            self.grow(hash_of);
        }
        self.len += 1;
        self.place(hash, slot);
    }

    fn place(&mut self, hash: u32, slot: u32) {
        debug_assert!(slot < self.slot_mask, "slot {slot}");
        let mut at = self.home(hash);
        while self.cells[at] != 0 {
            at = self.after(at);
        }
        self.cells[at] = self.tag(hash) | (slot + 1);
    }

    #[cold]
    fn grow(&mut self, hash_of: impl Fn(u32) -> u32) {
        let (mask, count) = (self.slot_mask, self.cells.len() * 2);
        let before = core::mem::take(&mut self.cells);
        self.have_cells(count);
        for cell in before {
            if cell != 0 {
                let slot = (cell & mask) - 1;
                self.place(hash_of(slot), slot);
            }
        }
    }

    /// Removes a slot, if it is there. `hash_of` gives the hash of those that are.
    pub(crate) fn remove(&mut self, slot: u32, hash_of: impl Fn(u32) -> u32) {
        let mut hole = self.home(hash_of(slot));
        while self.slot_at(hole) != Some(slot) {
            if self.cells[hole] == 0 {
                return;
            }
            hole = self.after(hole);
        }
        self.len -= 1;
        // What stands behind the hole and would no longer be found moves into it.
        let mut at = hole;
        loop {
            at = self.after(at);
            let Some(other) = self.slot_at(at) else { break };
            let home = self.home(hash_of(other));
            let stays =
                if hole <= at { hole < home && home <= at } else { hole < home || home <= at };
            if !stays {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
        }
        self.cells[hole] = 0;
    }

    fn slot_at(&self, at: usize) -> Option<u32> {
        (self.cells[at] & self.slot_mask).checked_sub(1)
    }

    /// Empties the index. Its cells are taken anew: to write them all would touch those that were
    /// never used as well.
    pub(crate) fn clear(&mut self) {
        if self.len > 0 {
            self.cells = vec![0; self.cells.len()];
            self.len = 0;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn allocated(&self) -> usize {
        self.cells.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32),
        Remove(usize),
        RemoveOther,
        Clear,
    }

    /// Hashes that name few cells, the last ones among them, so that runs are long and go round
    /// the end; many are equal.
    fn hash() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..6, (0u32..6).prop_map(|n| u32::MAX - n), any::<u32>()]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            60 => hash().prop_map(Step::Insert),
            40 => any::<usize>().prop_map(Step::Remove),
            5 => Just(Step::RemoveOther),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(steps in proptest::collection::vec(step(), 0..600)) {
            let mut index = Index::new(1, Some(1));
            let mut model: Vec<(u32, u32)> = Vec::new();
            // By slot, and the slots that are free, as in a slab.
            let (mut hashes, mut free) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Insert(hash) => {
                        let slot = free.pop().unwrap_or_else(|| {
                            hashes.push(0);
                            hashes.len() as u32 - 1
                        });
                        index.insert(hash, slot, |slot| hashes[slot as usize]);
                        hashes[slot as usize] = hash;
                        model.push((hash, slot));
                    }
                    Step::Remove(n) if !model.is_empty() => {
                        let (_, slot) = model.swap_remove(n % model.len());
                        index.remove(slot, |slot| hashes[slot as usize]);
                        free.push(slot);
                    }
                    Step::Remove(_) => {}
                    Step::RemoveOther => {
                        if let Some(&slot) = free.last() {
                            index.remove(slot, |slot| hashes[slot as usize]);
                        }
                    }
                    Step::Clear => {
                        index.clear();
                        model.clear();
                        hashes.clear();
                        free.clear();
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                for &(hash, slot) in &model {
                    prop_assert_eq!(index.find(hash, |s| s == slot), Some(slot));
                }
                for hash in [0, 3, u32::MAX, u32::MAX - 3] {
                    let mut seen = Vec::new();
                    index.find(hash, |slot| {
                        if hashes[slot as usize] == hash {
                            seen.push((hash, slot));
                        }
                        false
                    });
                    seen.sort_unstable();
                    let mut all: Vec<_> = model.iter().copied().filter(|m| m.0 == hash).collect();
                    all.sort_unstable();
                    prop_assert_eq!(seen, all);
                }
            }
        }
    }
}
