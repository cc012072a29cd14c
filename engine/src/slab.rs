//! Fixed-size records in chunks, addressed by a `u32`.
//!
//! Growth adds a chunk and copies nothing. Freed slots form a list through the records
//! themselves, so neither insertion nor removal allocates once the chunks exist.

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;

/// A record that can lend four octets to the list of free slots while it is free.
pub(crate) trait FreeLink {
    /// The slot after this one in the list of free slots.
    fn free_next(&self) -> u32;
    /// Sets what [`FreeLink::free_next`] gives. The rest of the record no longer matters.
    fn set_free_next(&mut self, next: u32);
}

/// Records in chunks of `1 << SHIFT`.
#[derive(Debug)]
pub(crate) struct Slab<T, const SHIFT: u32> {
    chunks: Vec<Vec<T>>,
    /// Slots that were ever used.
    len: u32,
    /// Slots in use.
    used: u32,
    /// First free slot below `len`.
    free: u32,
}

impl<T: FreeLink, const SHIFT: u32> Slab<T, SHIFT> {
    const CHUNK: usize = 1 << SHIFT;
    const MASK: usize = Self::CHUNK - 1;

    /// An empty slab with room for the addresses of the chunks that `expected` records need.
    pub(crate) fn new(expected: u32) -> Self {
        let chunks = Vec::with_capacity((expected as usize).div_ceil(Self::CHUNK));
        Self { chunks, len: 0, used: 0, free: NIL }
    }

    /// Slots that were ever used: every valid index is below this.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Records.
    pub(crate) const fn used(&self) -> u32 {
        self.used
    }

    /// Slots that the chunks hold.
    pub(crate) fn capacity(&self) -> usize {
        self.chunks.len() << SHIFT
    }

    /// Octets taken from the allocator.
    pub(crate) fn allocated(&self) -> usize {
        self.capacity() * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }

    /// Puts a record into a slot: the one freed last, else a new one.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.used += 1;
        if self.free != NIL {
            let index = self.free;
            let slot = self.at_mut(index);
            let next = slot.free_next();
            *slot = value;
            self.free = next;
            return index;
        }
        let index = self.len;
        if index as usize == self.capacity() {
            self.chunks.push(Vec::with_capacity(Self::CHUNK));
        }
        self.chunks[index as usize >> SHIFT].push(value);
        self.len += 1;
        index
    }

    /// Gives a slot back. It must hold a record.
    pub(crate) fn remove(&mut self, index: u32) {
        let free = self.free;
        self.at_mut(index).set_free_next(free);
        self.free = index;
        self.used -= 1;
    }

    /// Forgets every record and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for chunk in &mut self.chunks {
            chunk.clear();
        }
        // Chunks are filled in order, so the empty ones are found again by `len`.
        self.len = 0;
        self.used = 0;
        self.free = NIL;
    }

    /// The record of a slot that was ever used.
    pub(crate) fn at(&self, index: u32) -> &T {
        &self.chunks[index as usize >> SHIFT][index as usize & Self::MASK]
    }

    /// The record of a slot that was ever used.
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[index as usize >> SHIFT][index as usize & Self::MASK]
    }

    /// Length of the list of free slots, for checks.
    pub(crate) fn count_free(&self) -> u32 {
        let mut count = 0;
        let mut slot = self.free;
        while slot != NIL && count <= self.len {
            count += 1;
            slot = self.at(slot).free_next();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl FreeLink for u32 {
        fn free_next(&self) -> u32 {
            *self
        }
        fn set_free_next(&mut self, next: u32) {
            *self = next;
        }
    }

    #[test]
    fn slots_are_reused_and_chunks_stay() {
        let mut slab: Slab<u32, 2> = Slab::new(0);
        let slots: Vec<u32> = (100..109).map(|v| slab.insert(v)).collect();
        assert_eq!(slots, (0..9).collect::<Vec<_>>());
        assert_eq!(slab.capacity(), 12);
        slab.remove(3);
        slab.remove(5);
        assert_eq!((slab.used(), slab.count_free()), (7, 2));
        assert_eq!((slab.insert(200), slab.insert(201), slab.insert(202)), (5, 3, 9));
        assert_eq!((*slab.at(5), *slab.at(3), *slab.at(4)), (200, 201, 104));
        slab.clear();
        assert_eq!((slab.used(), slab.capacity(), slab.insert(7)), (0, 12, 0));
        for v in 1..12 {
            slab.insert(v);
        }
        assert_eq!((slab.capacity(), *slab.at(11)), (12, 11));
    }
}
