//! Who remembers the layouts of earlier messages reads the next one as who walks through each,
//! whatever a hostile peer puts between them.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use common::Random;
use proto_sync::{FlowLayouts, FlowPayload};

/// Messages of one run.
const MESSAGES: u64 = if cfg!(debug_assertions) { 100_000 } else { 400_000 };

/// One attribute: its id and the octets of its data.
type Attribute = (u16, usize);

/// What honest messages are of: addresses, protocol, ports, states, translations, a helper.
const ATTRIBUTES: [Attribute; 16] = [
    (0, 8),
    (1, 32),
    (2, 1),
    (3, 4),
    (4, 1),
    (5, 4),
    (6, 4),
    (7, 4),
    (8, 8),
    (12, 4),
    (13, 4),
    (14, 2),
    (15, 2),
    (16, 24),
    (27, 6),
    (32, 2),
];

/// Attributes in any order, some of them twice; now and then more than a layout has room for.
fn shape(random: &mut Random) -> Vec<Attribute> {
    let count = if random.chance(10) { 12 + random.below(12) } else { 1 + random.below(8) };
    let any = |random: &mut Random| ATTRIBUTES[random.below(16) as usize];
    let mut shape: Vec<_> = (0..count).map(|_| any(random)).collect();
    if random.chance(90) {
        shape.insert(0, ATTRIBUTES[random.below(2) as usize]);
    }
    shape
}

fn payload(random: &mut Random, shape: &[Attribute]) -> Vec<u8> {
    let mut payload = Vec::new();
    for &(id, size) in shape {
        payload.extend((4 + size as u16).to_be_bytes());
        payload.extend(id.to_be_bytes());
        // A name is one in most messages, and in some is not.
        let name = id == 27 && !random.chance(5);
        payload.extend((0..size).map(|_| if name { b'f' } else { random.next() as u8 }));
        payload.resize(payload.len().next_multiple_of(4), 0);
    }
    payload
}

/// Where the attributes of an undamaged payload begin.
fn begins(shape: &[Attribute]) -> Vec<usize> {
    let steps = shape.iter().scan(0, |at, (_, size)| {
        let begin = *at;
        *at += (4 + size).next_multiple_of(4);
        Some(begin)
    });
    steps.collect()
}

/// What one message in some has: another order, a length that lies, another id, an end that is not
/// there or too far.
fn damage(random: &mut Random, shape: &[Attribute]) -> Vec<u8> {
    let mut shape = shape.to_vec();
    let (one, other) = (random.below(shape.len() as u64), random.below(shape.len() as u64));
    let (one, other) = (one as usize, other as usize);
    match random.below(8) {
        // At the same length, with which the layout of the others is looked for.
        0 => shape.swap(one, other),
        1 => shape[one] = shape[other],
        _ => {}
    }
    let mut bytes = payload(random, &shape);
    let at = begins(&shape)[one];
    match random.below(8) {
        0 => bytes.truncate(bytes.len() - 1 - random.below(8).min(bytes.len() as u64 - 1) as usize),
        1 => bytes.extend((0..=random.below(8)).map(|_| 0)),
        2 => bytes[at + 1] = random.next() as u8,
        3 => bytes[at + 1] ^= 1 << random.below(4),
        4 => bytes[at] = random.next() as u8,
        5 => bytes[at + 3] = random.below(36) as u8,
        _ => {}
    }
    bytes
}

/// Reads messages of a few shapes in turn, of which `damaged` in a thousand are not as the others.
fn reads_the_same(seed: u64, shapes: u64, damaged: u64) -> [u64; 2] {
    let mut random = Random::new(seed);
    let mut known: Vec<_> = (0..shapes).map(|_| shape(&mut random)).collect();
    let mut layouts = FlowLayouts::new();
    let mut results = [0; 2];
    for number in 0..MESSAGES {
        let which = random.below(shapes) as usize;
        if random.below(1000) == 0 {
            known[which] = shape(&mut random);
        }
        let bytes = if random.below(1000) < damaged {
            damage(&mut random, &known[which])
        } else {
            payload(&mut random, &known[which])
        };
        let mut payload = FlowPayload::EMPTY;
        let read = payload.read(&bytes, &mut layouts).map(|()| payload);
        let parsed = FlowPayload::parse(&bytes);
        // The text holds all that is known of the attributes.
        assert_eq!(format!("{read:?}"), format!("{parsed:?}"), "message {number}: {bytes:x?}");
        results[usize::from(read.is_ok())] += 1;
    }
    results
}

#[test]
fn one_message_in_a_thousand_is_another() {
    let [refused, taken] = reads_the_same(1, 4, 1);
    assert!(refused > 10 && taken > MESSAGES / 2, "{refused} and {taken}");
}

#[test]
fn a_hostile_peer_alternates() {
    let [refused, taken] = reads_the_same(2, 40, 400);
    assert!(refused > MESSAGES / 10 && taken > MESSAGES / 4, "{refused} and {taken}");
}

#[test]
fn two_layouts_of_one_length_take_turns() {
    let shapes: [&[Attribute]; 2] = [&[(0, 8), (2, 1), (5, 4)], &[(2, 1), (5, 4), (0, 8)]];
    let mut random = Random::new(3);
    let mut layouts = FlowLayouts::new();
    for number in 0..1000 {
        let bytes = payload(&mut random, shapes[number / 3 % 2]);
        let mut read = FlowPayload::EMPTY;
        read.read(&bytes, &mut layouts).unwrap();
        let parsed = FlowPayload::parse(&bytes).unwrap();
        assert_eq!(format!("{read:?}"), format!("{parsed:?}"));
    }
}
