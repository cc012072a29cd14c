//! No octets make the decoder panic, loop or contradict itself: recorded messages, mutated.

use std::time::{Duration, Instant};

use proto_ctnl::fuzzing;

use crate::load::vectors;

/// A small generator whose sequence is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Values at which length fields and types turn.
const EDGES: [u8; 10] = [0, 1, 3, 4, 5, 8, 16, 0x7f, 0x80, 0xff];

fn mutate(bytes: &mut Vec<u8>, random: &mut Random, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(&other[..random.below(other.len())]),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.insert(at, EDGES[random.below(EDGES.len())]),
            4 => {
                let end = (at + random.below(32)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            // A length or a type of an attribute: these stand on even offsets.
            5 | 6 if bytes.len() > 24 => {
                let at = (20 + random.below(bytes.len() - 20)) & !1;
                bytes[at] = EDGES[random.below(EDGES.len())];
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    // Most of them should get past the framing.
    if bytes.len() >= 16 && random.below(4) != 0 {
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
    }
}

#[test]
fn recorded_messages_hold_the_laws() {
    for vector in vectors() {
        fuzzing::datagram(&vector.bytes);
    }
}

#[test]
fn mutated_messages_hold_the_laws() {
    let seeds: Vec<_> = vectors().into_iter().map(|vector| vector.bytes).collect();
    let (rounds, limit) = if cfg!(debug_assertions) {
        (100_000, Duration::from_secs(5))
    } else {
        (1_000_000, Duration::from_secs(20))
    };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    let mut done = 0;
    while done < rounds && (done < 20_000 || start.elapsed() < limit) {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        let other = &seeds[random.below(seeds.len())];
        mutate(&mut bytes, &mut random, other);
        fuzzing::datagram(&bytes);
        done += 1;
    }
    assert!(done >= 20_000);
}
