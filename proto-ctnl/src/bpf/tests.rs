//! The programs against their published listings, the kernel's messages and hostile ones.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::interpret::{self, Machine, Verdict};
use super::{
    AddressFilter, EVENT_MAX, EVENT_MIN, EventFilter, Insn, RingMaps, SockFilter, ring_program,
    steering_filter,
};
use crate::{L4, Tuple, proto, shard_hash, shard_of};

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|l| !l.starts_with('#')).map(|l| l.split(' ').collect())
}

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap()
}

fn unfiltered(shards: u32, reliable: bool) -> Vec<Insn> {
    let filter = EventFilter::default();
    ring_program(shards, &interpret::maps(&filter), reliable, &filter)
}

#[test]
#[cfg(target_endian = "little")]
fn ring_program_is_the_known_one() {
    let expected: Vec<Insn> = lines(include_str!("ring_program.txt"))
        .map(|f| Insn {
            code: hex(f[0]) as u8,
            dst: f[1].parse().unwrap(),
            src: f[2].parse().unwrap(),
            off: f[3].parse().unwrap(),
            imm: hex(f[4]).cast_signed(),
        })
        .collect();
    let program = unfiltered(4, false);
    for (i, (have, want)) in program.iter().zip(&expected).enumerate() {
        assert_eq!(have, want, "instruction {i}");
    }
    assert_eq!(program.len(), expected.len());

    let reliable = unfiltered(4, true);
    let differing: Vec<_> = (0..246).filter(|&i| reliable[i] != program[i]).collect();
    assert_eq!(differing, [242]);
    assert_eq!(reliable[242].imm, -1);
    let seven = unfiltered(7, false);
    let differing: Vec<_> = (0..246).filter(|&i| seven[i] != program[i]).collect();
    assert_eq!(differing, [113, 114]);
}

#[test]
#[cfg(target_endian = "little")]
fn instructions_encode_as_the_kernel_reads_them() {
    let maps = RingMaps { rings: 5, control: 6, v4: None, v6: None };
    let program = ring_program(4, &maps, false, &EventFilter::default());
    assert_eq!(program[0].to_u64().to_le_bytes(), [0xbf, 0x16, 0, 0, 0, 0, 0, 0]);
    assert_eq!(program[10].to_u64().to_le_bytes(), [0x61, 0xa1, 0x98, 0xff, 0, 0, 0, 0]);
    assert_eq!(program[116].to_u64().to_le_bytes(), [0x18, 0x11, 0, 0, 5, 0, 0, 0]);
}

#[test]
#[cfg(target_endian = "little")]
fn steering_filter_is_the_known_one() {
    let expected: Vec<SockFilter> = lines(include_str!("steering_filter.txt"))
        .map(|f| SockFilter {
            code: hex(f[0]) as u16,
            jt: f[1].parse().unwrap(),
            jf: f[2].parse().unwrap(),
            k: hex(f[3]),
        })
        .collect();
    assert_eq!(steering_filter(4, 0), expected);
    let other = steering_filter(9, 5);
    let differing: Vec<_> = (0..84).filter(|&i| other[i] != expected[i]).collect();
    assert_eq!(differing, [80, 81]);
}

/// The original tuple of an event, read at the kernel's offsets.
fn tuple_of(m: &[u8]) -> Tuple {
    let (src, dst, number) = match m[16] {
        2 => {
            let at = |i: usize| IpAddr::V4(Ipv4Addr::new(m[i], m[i + 1], m[i + 2], m[i + 3]));
            (at(32), at(40), 52)
        }
        _ => {
            let at =
                |i: usize| IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&m[i..i + 16]).unwrap()));
            (at(32), at(52), 76)
        }
    };
    let word = |i: usize| u16::from_be_bytes([m[i], m[i + 1]]);
    let l4 = if u16::from_le_bytes([m[number - 8], m[number - 7]]) < 28 {
        L4::default()
    } else if matches!(m[number], proto::ICMP | proto::ICMPV6) {
        L4::icmp(word(number + 8), m[number + 16], m[number + 24])
    } else {
        L4 { a: word(number + 8), b: word(number + 16) }
    };
    Tuple { src, dst, proto: m[number], l4 }
}

struct Vector {
    id: u64,
    kind: String,
    bytes: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../tests/vectors/ctnetlink/messages.jsonl");
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let digits = value["hex"].as_str().unwrap();
            Vector {
                id: value["id"].as_u64().unwrap(),
                kind: value["kind"].as_str().unwrap().to_owned(),
                bytes: (0..digits.len() / 2)
                    .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
                    .collect(),
            }
        })
        .collect()
}

#[test]
fn programs_agree_with_user_space_on_the_kernels_messages() {
    let expected = include_str!("../../../tests/vectors/ctnetlink/shard-expect.jsonl");
    let mut same_as_recorded = 0;
    let (mut events, mut others) = (0, 0);
    for v in vectors() {
        for shards in [1, 2, 3, 4, 8] {
            let program = unfiltered(shards, false);
            let verdict = Machine::new(&program, &v.bytes, shards, false).run().unwrap();
            if !v.kind.starts_with("event_") {
                assert_eq!(verdict, Verdict::Pass, "{}", v.id);
                others += 1;
                continue;
            }
            let shard = shard_of(&tuple_of(&v.bytes), shards);
            match verdict {
                Verdict::Ring { shard: s, record, bytes } => {
                    assert_eq!((s, &bytes), (shard, &v.bytes), "{}", v.id);
                    assert!(record as usize >= bytes.len() && record <= EVENT_MAX.into());
                }
                other => panic!("{}: {other:?}", v.id),
            }
            for s in 0..shards {
                let kept = interpret::classic(&steering_filter(shards, s), &v.bytes);
                assert_eq!(kept, Some(if s == shard { u32::MAX } else { 0 }), "{}", v.id);
            }
            events += 1;
        }
        if v.kind.starts_with("event_") {
            let line = expected.lines().find(|l| l.contains(&format!("\"id\": {},", v.id)));
            let recorded: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
            let hash = shard_hash(&tuple_of(&v.bytes));
            same_as_recorded += usize::from(recorded["hash"].as_u64() == Some(hash.into()));
        }
    }
    assert!(events > 900 && others > 1000, "{events} {others}");
    // The recorded hashes are those of a program that took octets of the reply tuple for the
    // ports of protocols without; they are 14 of 203.
    assert_eq!(same_as_recorded, 189);
}

#[test]
fn a_full_ring_is_counted_for_its_shard() {
    let v = vectors().into_iter().find(|v| v.kind == "event_new").unwrap();
    let shard = shard_of(&tuple_of(&v.bytes), 4);
    for kept in [false, true] {
        let program = unfiltered(4, kept);
        let verdict = Machine::new(&program, &v.bytes, 4, true).run();
        assert_eq!(verdict, Ok(Verdict::Lost { shard, kept }));
    }
}

fn recorded(kind: &str, source: IpAddr) -> Vec<u8> {
    let found = vectors().into_iter().find(|v| v.kind == kind && tuple_of(&v.bytes).src == source);
    found.unwrap().bytes
}

fn filtered(filter: &EventFilter, message: &[u8], full: bool) -> Verdict {
    let program = ring_program(4, &interpret::maps(filter), false, filter);
    Machine::new(&program, message, 4, full).knowing(filter).run().unwrap()
}

#[test]
fn a_refused_event_needs_no_room_and_is_counted_for_its_shard() {
    let source = Ipv4Addr::new(192, 0, 2, 2);
    let message = recorded("event_new", source.into());
    let shard = shard_of(&tuple_of(&message), 4);
    let addresses = |keep_listed, v4| EventFilter {
        addresses: Some(AddressFilter { keep_listed, v4, v6: vec![] }),
        ..EventFilter::default()
    };
    let refusing = [
        EventFilter { protocols: Some([!(1 << 6), !0, !0, !0]), ..EventFilter::default() },
        addresses(true, vec![]),
        addresses(false, vec![(source, 32)]),
        addresses(false, vec![(Ipv4Addr::UNSPECIFIED, 0)]),
    ];
    for filter in refusing {
        for full in [false, true] {
            assert_eq!(filtered(&filter, &message, full), Verdict::Filtered { shard });
        }
    }
    let keeping = [
        EventFilter { protocols: Some([1 << 6, 0, 0, 0]), ..EventFilter::default() },
        addresses(false, vec![]),
        EventFilter { protocols: Some([!0; 4]), ..EventFilter::default() },
        addresses(true, vec![(source, 32)]),
        addresses(true, vec![(Ipv4Addr::new(192, 0, 2, 0), 24)]),
    ];
    for filter in keeping {
        assert_eq!(filtered(&filter, &message, true), Verdict::Lost { shard, kept: false });
    }
}

#[test]
fn no_instruction_is_out_of_reach() {
    let v4 = || vec![(Ipv4Addr::LOCALHOST, 32)];
    let v6 = || vec![(Ipv6Addr::LOCALHOST, 128)];
    let mut programs = vec![unfiltered(4, false)];
    for protocols in [None, Some([0; 4]), Some([u64::MAX; 4])] {
        for (keep_listed, v4, v6) in [true, false].into_iter().flat_map(|keep| {
            [(keep, vec![], vec![]), (keep, v4(), vec![]), (keep, vec![], v6()), (keep, v4(), v6())]
        }) {
            let addresses = Some(AddressFilter { keep_listed, v4, v6 });
            let filter = EventFilter { protocols, addresses };
            programs.push(ring_program(4, &interpret::maps(&filter), false, &filter));
        }
        let filter = EventFilter { protocols, addresses: None };
        programs.push(ring_program(4, &interpret::maps(&filter), false, &filter));
    }
    for program in programs {
        let mut reached = vec![false; program.len()];
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            let insn = program[at];
            // Jumps are operations 0x05 of eight, apart from calls and the end; a wide load has a
            // second half, which is no instruction.
            let jumps =
                insn.code & 7 >= 5 && insn.code & 7 < 7 && !matches!(insn.code, 0x85 | 0x95);
            if insn.code == 0x18 {
                reached[at + 1] = true;
                open.push(at + 2);
            } else if insn.code != 0x05 && insn.code != 0x95 {
                open.push(at + 1);
            }
            if jumps {
                open.push((at + 1).checked_add_signed(insn.off.into()).unwrap());
            }
        }
        assert_eq!(reached.iter().position(|reached| !reached), None);
    }
}

#[test]
fn an_event_with_an_unknown_reply_tuple_goes_on() {
    let source = Ipv4Addr::new(192, 0, 2, 2);
    let message = recorded("event_new", source.into());
    let list =
        AddressFilter { keep_listed: true, v4: vec![(Ipv4Addr::new(10, 9, 8, 7), 32)], v6: vec![] };
    let filter = EventFilter { addresses: Some(list), ..EventFilter::default() };
    assert!(matches!(filtered(&filter, &message, false), Verdict::Filtered { .. }));
    // Its header, that of its addresses, that of its source.
    for at in [74, 78, 80, 82] {
        let mut message = message.clone();
        message[at] ^= 0x04;
        assert!(matches!(filtered(&filter, &message, false), Verdict::Ring { .. }), "{at}");
    }
}

/// A message in the kernel's layout with a filler after the original tuple.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let fields = (any::<bool>(), any::<[u8; 32]>(), any::<u8>(), any::<[u16; 2]>(), 0..3u8);
    (fields, 56usize..340).prop_map(|((v6, addresses, number, ports, nest), tail)| {
        let (address, kinds) = if v6 { (16, [3, 4]) } else { (4, [1, 2]) };
        let mut m = vec![0; 20];
        m[5] = 1;
        m[6..8].copy_from_slice(&0x600u16.to_ne_bytes());
        m[16] = if v6 { 10 } else { 2 };
        let nest = [12u16, 28, 36][usize::from(nest)];
        let mut attr = |length: u16, kind: u16, value: &[u8]| {
            m.extend(length.to_ne_bytes());
            m.extend(kind.to_ne_bytes());
            m.extend(value);
            m.resize(m.len().next_multiple_of(4), 0);
        };
        let ip = 4 + 2 * (4 + address as u16);
        attr(4 + ip + nest, 0x8001, &[]);
        attr(ip, 0x8001, &[]);
        attr(4 + address as u16, kinds[0], &addresses[..address]);
        attr(4 + address as u16, kinds[1], &addresses[16..16 + address]);
        attr(nest, 0x8002, &[]);
        attr(5, 1, &[number]);
        if nest > 12 {
            attr(6, 2, &ports[0].to_be_bytes());
            let icmp = matches!(number, proto::ICMP | proto::ICMPV6);
            let second = if icmp { ports[1] & 0xff00 } else { ports[1] };
            attr(6, 3, &second.to_be_bytes());
        }
        if nest > 28 {
            attr(5, 6, &[7]);
        }
        let length = m.len() + tail;
        m.resize(length.next_multiple_of(4), 0xa5);
        let length = m.len() as u32;
        m[..4].copy_from_slice(&length.to_ne_bytes());
        m
    })
}

proptest! {
    #[test]
    fn programs_agree_on_random_flows(m in event(), shards in 1u32..70) {
        let shard = shard_of(&tuple_of(&m), shards);
        let program = unfiltered(shards, false);
        match Machine::new(&program, &m, shards, false).run() {
            Ok(Verdict::Ring { shard: s, bytes, .. }) => prop_assert_eq!((s, bytes), (shard, m.clone())),
            other => prop_assert!(false, "{:?}", other),
        }
        for s in [0, shard, shards - 1] {
            let kept = interpret::classic(&steering_filter(shards, s), &m);
            prop_assert_eq!(kept, Some(if s == shard { u32::MAX } else { 0 }));
        }
    }

    #[test]
    fn hostile_messages_never_break_a_program(
        m in event(), cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        shards in 1u32..9, keep_length: bool,
    ) {
        let mut m = m;
        for (at, value) in changes {
            let at = at.index(m.len().min(110));
            m[at] = value;
        }
        if !keep_length {
            m.truncate(cut.index(m.len() + 1));
        }
        let program = unfiltered(shards, false);
        match Machine::new(&program, &m, shards, false).run() {
            Ok(Verdict::Ring { shard, bytes, .. }) => {
                // What it takes, it takes whole, and user space finds the same shard.
                prop_assert_eq!(&bytes, &m);
                prop_assert!(m.len() >= EVENT_MIN.into() && m.len() <= EVENT_MAX.into());
                let mut canonical = m.clone();
                let number = if m[16] == 2 { 52 } else { 76 };
                canonical[number + 24] = 0;
                if matches!(m[number], proto::ICMP | proto::ICMPV6) {
                    // The program reads the padding after the type, which the kernel zeroes.
                    prop_assume!(m[number + 17] == 0);
                }
                prop_assert_eq!(shard, shard_of(&tuple_of(&canonical), shards));
            }
            Ok(Verdict::Pass) => {}
            other => prop_assert!(false, "{:?}", other),
        }
        let keepers = (0..shards)
            .filter(|&s| interpret::classic(&steering_filter(shards, s), &m) == Some(u32::MAX));
        prop_assert!(keepers.count() <= 1);
    }

    #[test]
    fn noise_never_breaks_a_program(m in prop::collection::vec(any::<u8>(), 0..600)) {
        let program = unfiltered(4, false);
        prop_assert_eq!(Machine::new(&program, &m, 4, false).run(), Ok(Verdict::Pass));
        prop_assert!(interpret::classic(&steering_filter(4, 1), &m).is_some());
    }
}
