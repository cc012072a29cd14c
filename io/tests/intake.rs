//! The three intakes against the kernel: the same events, each in its shard, losses counted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use common::{Key, apply, create, delete, in_namespace, keys, skip, update};
use io::{
    EventIntake, Filtering, IntakeKind, IntakeOptions, RequestSocket, Ring, RingConfig, ShardIntake,
};
use proto_ctnl::bpf::{AddressFilter, EventFilter};
use proto_ctnl::shard_of;

const TOKEN: u64 = 7;

/// Whether the ring intake can be tested here; says so if not.
fn ring_works(name: &str) -> bool {
    match io::probe_ring_intake() {
        Ok(()) => true,
        Err(error) => {
            skip(name, &error.to_string());
            false
        }
    }
}

fn kinds(name: &str) -> Vec<IntakeKind> {
    let mut kinds = vec![IntakeKind::Filter, IntakeKind::Single];
    if ring_works(name) {
        kinds.insert(0, IntakeKind::Ring);
    }
    kinds
}

/// Reads everything that is there, by ring and by socket, as a thread of the daemon would.
struct Reader {
    ring: Ring,
    parts: Vec<ShardIntake>,
    /// Messages and the shard that got them, in order of arrival.
    seen: Vec<(usize, Vec<u8>)>,
}

impl Reader {
    fn new(options: &IntakeOptions) -> Self {
        Self::of(EventIntake::open(options).unwrap())
    }

    fn of(intake: EventIntake) -> Self {
        let mut ring = Ring::new(&RingConfig::default()).unwrap();
        let mut parts = intake.into_shards();
        for (token, part) in (TOKEN..).zip(&mut parts) {
            part.start(&mut ring, token).unwrap();
        }
        ring.submit().unwrap();
        Self { ring, parts, seen: Vec::new() }
    }

    fn turn(&mut self) {
        let seen = &mut self.seen;
        for (shard, part) in self.parts.iter_mut().enumerate() {
            while part.drain(100, |some| seen.extend(some.iter().map(|m| (shard, m.to_vec())))).more
            {
            }
        }
        self.ring.wait(1, Duration::from_millis(2)).unwrap();
        while let Some(completion) = self.ring.next_completion() {
            let shard = (completion.token - TOKEN) as usize;
            let visit = |m: &[u8]| seen.push((shard, m.to_vec()));
            self.parts[shard].handle(completion.outcome, visit).unwrap();
        }
    }

    /// Reads until `count` messages were seen.
    fn read(&mut self, count: usize) {
        let end = Instant::now() + Duration::from_secs(5);
        while self.seen.len() < count && Instant::now() < end {
            self.turn();
        }
        for _ in 0..3 {
            self.turn();
        }
        assert_eq!(self.seen.len(), count);
    }
}

/// A message without what differs between two runs: the port of the requester, the id of the
/// flow, times.
fn comparable(message: &[u8]) -> Vec<u8> {
    let mut m = message.to_vec();
    m[12..16].fill(0);
    let mut at = 20;
    while at + 4 <= m.len() {
        let length = usize::from(u16::from_ne_bytes([m[at], m[at + 1]]));
        let kind = u16::from_ne_bytes([m[at + 2], m[at + 3]]) & 0x3fff;
        // CTA_TIMEOUT, CTA_ID, CTA_TIMESTAMP, CTA_TIMESTAMP_EVENT
        if matches!(kind, 7 | 12 | 20 | 27) {
            m[at + 4..at + length].fill(0);
        }
        at += length.next_multiple_of(4).max(4);
    }
    m
}

/// The index of the flow that an event is about: all addresses here carry it.
fn key_of(m: &[u8]) -> Key {
    let v6 = m[16] == 10;
    let (at, number) = if v6 { (42, 76) } else { (32, 52) };
    let mut octets: [u8; 4] = m[at..at + 4].try_into().unwrap();
    if !v6 {
        octets[0] = 0;
    }
    Key { v6, protocol: m[number], index: u32::from_be_bytes(octets) }
}

fn life(keys: &[Key]) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for &key in keys {
        requests.push(create(key, 0));
        requests.push(update(key, 0, key.index + 1));
        requests.push(delete(key, 0));
    }
    requests
}

#[test]
fn all_intakes_deliver_the_same_events_to_the_right_shards() {
    const NAME: &str = "all_intakes_deliver_the_same_events_to_the_right_shards";
    in_namespace(NAME, || {
        let mut multisets: Vec<BTreeMap<Vec<u8>, usize>> = Vec::new();
        let keys = keys(200);
        let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
        for kind in kinds(NAME) {
            for shards in [1u8, 2, 4] {
                let options =
                    IntakeOptions { shards, kind: Some(kind), ..IntakeOptions::default() };
                let mut reader = Reader::new(&options);
                apply(&requests, &life(&keys));
                reader.read(3 * keys.len());
                let mut multiset = BTreeMap::new();
                let mut order: BTreeMap<Key, Vec<(u8, u16)>> = BTreeMap::new();
                for (shard, m) in &reader.seen {
                    assert_eq!(m.len(), u32::from_ne_bytes(m[..4].try_into().unwrap()) as usize);
                    *multiset.entry(comparable(m)).or_default() += 1;
                    let key = key_of(m);
                    let flags = u16::from_ne_bytes([m[6], m[7]]);
                    order.entry(key).or_default().push((m[4], flags));
                    let expected = match kind {
                        IntakeKind::Single => 0,
                        _ => shard_of(&key.tuple(), shards.into()) as usize,
                    };
                    assert_eq!(*shard, expected, "{kind} {shards} {key:?}");
                }
                assert_eq!(order.len(), keys.len());
                for (key, steps) in order {
                    assert_eq!(steps, [(0, 0x600), (0, 0), (2, 0)], "{kind} {key:?}");
                }
                let by_ring: u64 = reader.parts.iter().map(ShardIntake::by_ring).sum();
                let all = (3 * keys.len()) as u64;
                assert_eq!(by_ring, if kind == IntakeKind::Ring { all } else { 0 });
                assert_eq!(reader.parts.iter().map(ShardIntake::lost).sum::<u64>(), 0);
                multisets.push(multiset);
            }
        }
        for other in &multisets[1..] {
            assert!(*other == multisets[0], "two intakes differ");
        }
    });
}

/// Networks of which every other one holds the source of one of `keys`.
fn networks_around(keys: &[Key], keep_listed: bool) -> AddressFilter {
    let mut list = AddressFilter { keep_listed, ..AddressFilter::default() };
    for key in keys {
        match key.tuple().src {
            IpAddr::V4(address) if key.index % 4 == 0 => list.v4.push((address, 32)),
            // Nobody's.
            IpAddr::V4(address) => {
                list.v4.push((Ipv4Addr::from(u32::from(address) | 1 << 23), 32));
            }
            IpAddr::V6(address) if key.index % 4 == 1 => list.v6.push((address, 112)),
            IpAddr::V6(address) => {
                list.v6.push((Ipv6Addr::from(u128::from(address) | 1 << 95), 112));
            }
        }
    }
    list
}

#[test]
fn the_ring_keeps_back_what_the_filter_refuses() {
    const NAME: &str = "the_ring_keeps_back_what_the_filter_refuses";
    const SHARDS: u8 = 2;
    in_namespace(NAME, || {
        if !ring_works(NAME) {
            return;
        }
        let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
        let all = keys(6000);
        let listed = |key: &Key| key.index % 4 < 2;
        let protocols = |list: &[u8]| {
            let mut bits = [0; 4];
            list.iter().for_each(|n| bits[usize::from(n / 64)] |= 1 << (n % 64));
            Some(bits)
        };
        let of = |addresses, protocols| EventFilter { addresses, protocols };
        let around = |keep_listed| Some(networks_around(&all, keep_listed));
        // Every flow's server.
        let servers = AddressFilter {
            keep_listed: false,
            v4: vec![(Ipv4Addr::new(192, 0, 2, 0), 24)],
            v6: vec![("2001:db8:ffff::2".parse().unwrap(), 128)],
        };
        type Wanted<'a> = Box<dyn Fn(&Key) -> bool + 'a>;
        let cases: [(EventFilter, Wanted<'_>); 7] = [
            (of(around(true), None), Box::new(listed)),
            (of(around(false), None), Box::new(|key| !listed(key))),
            (of(None, protocols(&[6, 132])), Box::new(|key| [6, 132].contains(&key.protocol))),
            (
                of(around(true), protocols(&[17, 89])),
                Box::new(|key| listed(key) && [17, 89].contains(&key.protocol)),
            ),
            (of(Some(servers), None), Box::new(|_| false)),
            (
                of(Some(AddressFilter { keep_listed: true, ..AddressFilter::default() }), None),
                Box::new(|_| false),
            ),
            (of(None, Some([u64::MAX; 4])), Box::new(|_| true)),
        ];
        for (number, (filter, wanted)) in cases.iter().enumerate() {
            let options = IntakeOptions {
                shards: SHARDS,
                kind: Some(IntakeKind::Ring),
                filter: filter.clone(),
                ..IntakeOptions::default()
            };
            let intake = EventIntake::open(&options).unwrap();
            assert!(matches!(intake.filtering(), Filtering::InKernel), "{:?}", intake.filtering());
            let mut reader = Reader::of(intake);
            apply(&requests, &life(&all));
            let kept = all.iter().filter(|key| wanted(key)).count();
            reader.read(3 * kept);
            assert!(reader.seen.iter().all(|(_, m)| wanted(&key_of(m))), "{number}");
            for (shard, part) in reader.parts.iter().enumerate() {
                let here = |key: &&Key| shard_of(&key.tuple(), SHARDS.into()) as usize == shard;
                let refused = all.iter().filter(here).filter(|key| !wanted(key)).count();
                assert_eq!(part.filtered(), 3 * refused as u64, "{number}");
                assert_eq!((part.lost(), part.by_socket()), (0, 0));
            }
            let by_ring: u64 = reader.parts.iter().map(ShardIntake::by_ring).sum();
            assert_eq!(by_ring, 3 * kept as u64);
        }
    });
}

#[test]
fn a_refused_event_wakes_nobody() {
    const NAME: &str = "a_refused_event_wakes_nobody";
    in_namespace(NAME, || {
        if !ring_works(NAME) {
            return;
        }
        let filter = EventFilter { protocols: Some([0; 4]), ..EventFilter::default() };
        let kind = Some(IntakeKind::Ring);
        let mut reader = Reader::new(&IntakeOptions { kind, filter, ..IntakeOptions::default() });
        let requests = RequestSocket::open(0, 0).unwrap();
        reader.turn();
        let begin = Instant::now();
        let pause = Duration::from_millis(200);
        std::thread::scope(|scope| {
            scope.spawn(|| apply(&requests, &life(&keys(20))));
            reader.ring.wait(1, pause).unwrap();
        });
        assert!(reader.ring.next_completion().is_none() && begin.elapsed() >= pause);
        assert_eq!((reader.parts[0].filtered(), reader.parts[0].has_more()), (60, false));
    });
}

#[test]
fn rings_do_without_a_filter_that_the_kernel_does_not_take() {
    const NAME: &str = "rings_do_without_a_filter_that_the_kernel_does_not_take";
    in_namespace(NAME, || {
        if !ring_works(NAME) {
            return;
        }
        // No address has so many bits.
        let v4 = vec![(Ipv4Addr::new(192, 0, 2, 0), 33)];
        let addresses = Some(AddressFilter { v4, ..AddressFilter::default() });
        let filter = EventFilter { addresses, ..EventFilter::default() };
        let options = IntakeOptions { filter, ..IntakeOptions::default() };
        let intake = EventIntake::open(&options).unwrap();
        assert_eq!(intake.kind(), IntakeKind::Ring);
        match intake.filtering() {
            Filtering::Refused(error) => assert!(error.to_string().contains("trie"), "{error}"),
            other => panic!("{other:?}"),
        }
        let mut reader = Reader::of(intake);
        let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
        apply(&requests, &life(&keys(10)));
        reader.read(30);
        assert_eq!(reader.parts[0].filtered(), 0);
    });
}

#[test]
fn an_event_wakes_a_sleeping_reader() {
    const NAME: &str = "an_event_wakes_a_sleeping_reader";
    in_namespace(NAME, || {
        for kind in kinds(NAME) {
            let options = IntakeOptions { kind: Some(kind), ..IntakeOptions::default() };
            let mut reader = Reader::new(&options);
            let requests = RequestSocket::open(0, 0).unwrap();
            let key = keys(1)[0];
            for round in 0..20 {
                let one = if round % 2 == 0 { create(key, 0) } else { delete(key, 0) };
                let begin = Instant::now();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::sleep(Duration::from_millis(2));
                        apply(&requests, &[one]);
                    });
                    let part = &mut reader.parts[0];
                    let mut events = 0;
                    while events == 0 {
                        // On a busy machine it comes before anybody sleeps.
                        if !part.has_more() {
                            reader.ring.wait(1, Duration::from_secs(3)).unwrap();
                        }
                        while let Some(completion) = reader.ring.next_completion() {
                            events += part.handle(completion.outcome, |_| ()).unwrap();
                        }
                        events += part.drain(10, |_| ()).messages;
                    }
                    assert_eq!(events, 1);
                });
                assert!(begin.elapsed() < Duration::from_secs(2), "{kind} slept on an event");
            }
        }
    });
}

/// More than there are buffers for wait in the socket when the first is taken.
#[test]
fn a_socket_is_caught_up_with_when_what_had_come_is_taken() {
    const NAME: &str = "a_socket_is_caught_up_with_when_what_had_come_is_taken";
    in_namespace(NAME, || {
        for (kind, shards) in [(IntakeKind::Single, 1), (IntakeKind::Filter, 2)] {
            let options = IntakeOptions { kind: Some(kind), shards, ..IntakeOptions::default() };
            let mut reader = Reader::new(&options);
            let requests = RequestSocket::open(0, 0).unwrap();
            let keys = keys(1200);
            let create: Vec<_> = keys.iter().map(|key| create(*key, 0)).collect();
            // It was waited for before these had come, and given up.
            for part in &mut reader.parts {
                assert!(!part.catch_up(true) && !part.catch_up(false));
            }
            apply(&requests, &create);
            let mut turns = 0;
            let mut behind: Vec<_> = (0..reader.parts.len()).collect();
            loop {
                behind.retain(|&k| !reader.parts[k].catch_up(true));
                if behind.is_empty() {
                    break;
                }
                reader.turn();
                turns += 1;
                assert!(turns < 10_000, "{kind}: none waits any more");
            }
            assert_eq!(reader.seen.len(), keys.len(), "{kind} after {turns} turns");
            let delete: Vec<_> = keys.iter().map(|key| delete(*key, 0)).collect();
            apply(&requests, &delete);
            reader.read(2 * keys.len());
        }
    });
}

#[test]
fn a_full_ring_loses_and_counts() {
    const NAME: &str = "a_full_ring_loses_and_counts";
    in_namespace(NAME, || {
        if !ring_works(NAME) {
            return;
        }
        let options = IntakeOptions {
            shards: 2,
            kind: Some(IntakeKind::Ring),
            buffer_bytes: 8192,
            ..IntakeOptions::default()
        };
        let mut reader = Reader::new(&options);
        let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
        let keys = keys(200);
        apply(&requests, &life(&keys));
        let lost: Vec<u64> = reader.parts.iter().map(ShardIntake::lost).collect();
        assert!(lost.iter().all(|&l| l > 0), "{lost:?}");
        let produced = 3 * keys.len();
        reader.read(produced - lost.iter().sum::<u64>() as usize);
        // The rings go on afterwards.
        reader.seen.clear();
        apply(&requests, &life(&keys[..5]));
        reader.read(15);
        assert_eq!(reader.parts.iter().map(ShardIntake::lost).collect::<Vec<_>>(), lost);
    });
}

#[test]
fn reliable_events_survive_a_full_intake() {
    const NAME: &str = "reliable_events_survive_a_full_intake";
    in_namespace(NAME, || {
        for kind in kinds(NAME) {
            let options = IntakeOptions {
                shards: 2,
                kind: Some(kind),
                buffer_bytes: 16 << 10,
                reliable: true,
                ..IntakeOptions::default()
            };
            let mut reader = Reader::new(&options);
            let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
            let keys = keys(300);
            // Nobody reads: buffers of the ring included, only some of these find room.
            let mut all: Vec<_> = keys.iter().map(|&key| create(key, 0)).collect();
            all.extend(keys.iter().map(|&key| delete(key, 0)));
            apply(&requests, &all);
            let lost: u64 = reader.parts.iter().map(ShardIntake::lost).sum();
            assert!(lost > 0, "{kind}: nothing was lost, so nothing was tested");
            let mut destroyed = std::collections::BTreeSet::new();
            let end = Instant::now() + Duration::from_secs(10);
            while destroyed.len() < keys.len() && Instant::now() < end {
                reader.turn();
                for (_, m) in reader.seen.drain(..).filter(|(_, m)| m[4] == 2) {
                    assert!(destroyed.insert(key_of(&m)), "{kind}: destroyed twice");
                }
            }
            assert_eq!(destroyed.len(), keys.len(), "{kind}");
        }
    });
}

#[test]
fn a_full_socket_is_counted_and_can_grow() {
    const NAME: &str = "a_full_socket_is_counted_and_can_grow";
    in_namespace(NAME, || {
        let options = IntakeOptions { kind: Some(IntakeKind::Filter), ..IntakeOptions::default() };
        let mut reader = Reader::new(&options);
        let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
        let keys = keys(600);
        // More events than there are buffers, fewer than the socket holds.
        apply(&requests, &life(&keys));
        reader.read(3 * keys.len());
        assert_eq!(reader.parts[0].lost(), 0);

        let options = IntakeOptions { buffer_bytes: 64 << 10, ..options };
        let mut reader = Reader::new(&options);
        apply(&requests, &life(&keys));
        let lost = reader.parts[0].lost() as usize;
        assert!(lost > 0);
        reader.read(3 * keys.len() - lost);
        let grown = reader.parts[0].grow(8 << 20).unwrap();
        assert!(grown >= 8 << 20, "{grown}");
        reader.seen.clear();
        apply(&requests, &life(&keys));
        reader.read(3 * keys.len());
        assert_eq!(reader.parts[0].lost() as usize, lost);
    });
}

#[test]
fn what_the_program_does_not_know_comes_by_the_socket() {
    const NAME: &str = "what_the_program_does_not_know_comes_by_the_socket";
    in_namespace(NAME, || {
        if !ring_works(NAME) {
            return;
        }
        let options = IntakeOptions {
            shards: 2,
            kind: Some(IntakeKind::Ring),
            expectations: true,
            ..IntakeOptions::default()
        };
        let mut reader = Reader::new(&options);
        let requests = RequestSocket::open(0, 0).unwrap();
        let master = Key { v6: false, protocol: 6, index: 77 };
        let expected = Key { v6: false, protocol: 6, index: 78 };
        if !common::create_with_helper(&requests, master, "ftp") {
            skip(NAME, "no ftp helper in this kernel");
            return;
        }
        apply(&requests, &[common::expect(master, expected)]);
        reader.read(2);
        assert_eq!(reader.seen.iter().filter(|(_, m)| m[5] == 2).count(), 1);
        assert_eq!(reader.parts[0].by_socket(), 1);
    });
}

#[test]
fn automatic_choice_says_why() {
    const NAME: &str = "automatic_choice_says_why";
    in_namespace(NAME, || {
        let intake = EventIntake::open(&IntakeOptions::default()).unwrap();
        match io::probe_ring_intake() {
            Ok(()) => {
                assert_eq!((intake.kind(), intake.reason()), (IntakeKind::Ring, "works here"));
            }
            Err(error) => {
                assert_eq!(intake.kind(), IntakeKind::Filter);
                assert_eq!(intake.reason(), format!("no ring: {error}"));
            }
        }
    });
}
