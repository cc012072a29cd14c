//! A set of slots: one bit each, with its size known and a search that skips empty words.

/// A set of `u32` below a size that only grows.
#[derive(Debug, Default)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    count: u32,
}

impl Bitmap {
    /// An empty set with room reserved for numbers below `bits`.
    pub(crate) fn new(bits: u32) -> Self {
        Self { words: Vec::with_capacity((bits as usize).div_ceil(64)), count: 0 }
    }

    /// Makes every number below `bits` a possible member.
    pub(crate) fn grow(&mut self, bits: usize) {
        let words = bits.div_ceil(64);
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
    }

    /// Members.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Whether `bit` is a member.
    pub(crate) fn has(&self, bit: u32) -> bool {
        self.words.get(bit as usize / 64).is_some_and(|w| w >> (bit % 64) & 1 == 1)
    }

    /// Adds `bit`, which must be below the size.
    pub(crate) fn set(&mut self, bit: u32) {
        let word = &mut self.words[bit as usize / 64];
        let mask = 1u64 << (bit % 64);
        self.count += u32::from(*word & mask == 0);
        *word |= mask;
    }

    /// Removes `bit`.
    pub(crate) fn unset(&mut self, bit: u32) {
        if self.count == 0 {
            return;
        }
        if let Some(word) = self.words.get_mut(bit as usize / 64) {
            let mask = 1u64 << (bit % 64);
            self.count -= u32::from(*word & mask != 0);
            *word &= !mask;
        }
    }

    /// The smallest member that is not below `from`.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        let first = from as usize / 64;
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in self.words.iter().enumerate().skip(first) {
            let left = word & mask;
            if left != 0 {
                // Slots are `u32`, so the position of one fits.
                return Some((at * 64) as u32 + left.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }

    /// One more than the largest member; 0 if there is none.
    pub(crate) fn span(&self) -> u32 {
        let last = self.words.iter().enumerate().rev().find(|(_, word)| **word != 0);
        last.map_or(0, |(at, word)| (at * 64) as u32 + 64 - word.leading_zeros())
    }

    /// Becomes a copy of `other`.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.words.clear();
        self.words.extend_from_slice(&other.words);
        self.count = other.count;
    }

    /// Forgets all members and keeps the size.
    pub(crate) fn clear(&mut self) {
        if self.count > 0 {
            self.words.fill(0);
            self.count = 0;
        }
    }

    /// Octets taken from the allocator.
    pub(crate) fn allocated(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_order() {
        let mut set = Bitmap::new(0);
        set.grow(200);
        for bit in [0, 63, 64, 130, 199] {
            set.set(bit);
            set.set(bit);
        }
        assert_eq!(set.count(), 5);
        let mut from = 0;
        let mut found = Vec::new();
        while let Some(bit) = set.next(from) {
            found.push(bit);
            from = bit + 1;
        }
        assert_eq!(found, [0, 63, 64, 130, 199]);
        assert_eq!((set.span(), Bitmap::default().span()), (200, 0));
        set.unset(130);
        set.unset(131);
        set.unset(10_000);
        assert_eq!(
            (set.count(), set.next(65), set.next(200), set.has(4000)),
            (4, Some(199), None, false)
        );
        let mut copy = Bitmap::default();
        copy.copy_from(&set);
        set.clear();
        assert_eq!((set.next(0), copy.count(), copy.has(63)), (None, 4, true));
    }
}
