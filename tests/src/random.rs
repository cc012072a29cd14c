//! Repeatable random numbers: the same seed, the same test.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() % (bound.max(1) as u64)) as usize
    }

    /// Whether something that happens `permille` times in a thousand happens.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.word() % 1000 < u64::from(permille)
    }

    /// Changes `bytes` as damage or malice would: flips bits, sets numbers to their limits, cuts,
    /// repeats, inserts.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                bytes.push(self.word() as u8);
            }
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.word() as u8,
                2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                3 => {
                    let value = [0u16, 1, 3, 4, 0x7fff, 0xffff][self.below(6)];
                    let value = if self.chance(500) { value.to_be() } else { value };
                    if let Some(place) = bytes.get_mut(at..at + 2) {
                        place.copy_from_slice(&value.to_ne_bytes());
                    }
                }
                4 => bytes.truncate(at),
                5 => {
                    let piece = bytes[at..(at + self.below(40)).min(bytes.len())].to_vec();
                    bytes.extend(piece);
                }
                6 => bytes.insert(at, self.word() as u8),
                _ => {
                    let end = (at + self.below(8)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
    }
}
