//! The steady state allocates nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant};

use common::{apply, create, delete, in_namespace, keys};
use io::{
    Channel, ChannelKind, ChannelOptions, CountingAlloc, EventIntake, IntakeKind, IntakeOptions,
    RequestSocket, Ring, RingConfig,
};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

#[test]
fn taking_events_allocates_nothing() {
    in_namespace("taking_events_allocates_nothing", || {
        let mut kinds = vec![IntakeKind::Filter];
        kinds.extend(io::probe_ring_intake().is_ok().then_some(IntakeKind::Ring));
        for kind in kinds {
            let mut ring = Ring::new(&RingConfig::default()).unwrap();
            let options = IntakeOptions { kind: Some(kind), ..IntakeOptions::default() };
            let mut part = EventIntake::open(&options).unwrap().into_shards().remove(0);
            part.start(&mut ring, 1).unwrap();
            let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
            let mut allocations = 0;
            for _round in 0..3 {
                let keys = keys(700);
                let mut all: Vec<_> = keys.iter().map(|&key| create(key, 0)).collect();
                all.extend(keys.iter().map(|&key| delete(key, 0)));
                apply(&requests, &all);
                let before = CountingAlloc::count();
                let (mut events, mut octets) = (0, 0);
                while events < all.len() {
                    events += part
                        .drain(1000, |some| octets += some.iter().map(|m| m.len()).sum::<usize>())
                        .messages;
                    ring.wait(1, Duration::from_millis(1)).unwrap();
                    while let Some(completion) = ring.next_completion() {
                        events += part.handle(completion.outcome, |m| octets += m.len()).unwrap();
                    }
                }
                assert!(octets > 0);
                allocations = CountingAlloc::count() - before;
            }
            assert_eq!(allocations, 0, "{kind}");
        }
    });
}

#[test]
fn sending_and_receiving_allocates_nothing() {
    in_namespace("sending_and_receiving_allocates_nothing", || {
        let done = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(done.unwrap().success());
        let mut ring = Ring::new(&RingConfig::default()).unwrap();
        let group = ring.add_group(16, io::DATAGRAM_BUFFER_BYTES).unwrap();
        let address = "127.0.0.1".parse().unwrap();
        let mut channel = Channel::open(&ChannelOptions {
            kind: ChannelKind::Udp { local: address, peer: address, port: 3780 },
            interface: "lo".into(),
            send_buffer_bytes: 0,
            receive_buffer_bytes: 16 << 20,
            checksum: true,
            backlog: 0,
        })
        .unwrap();
        channel.start(&mut ring, Instant::now(), 0, group).unwrap();
        let mut allocations = 0;
        for _round in 0..3 {
            let before = CountingAlloc::count();
            let (mut left, mut received) = (3000, 0);
            let end = Instant::now() + Duration::from_secs(10);
            while received < 3000 && Instant::now() < end {
                let fill = |room: &mut [u8]| {
                    left = i32::checked_sub(left, 1).filter(|&n| n >= 0)?;
                    // Runs of five, so that there are many.
                    let octets = if left % 5 == 0 { 900 } else { 1400 };
                    room[..octets].fill(1);
                    Some(octets)
                };
                channel.transmit(&mut ring, 1400, fill).unwrap();
                ring.wait(1, Duration::from_millis(1)).unwrap();
                let now = Instant::now();
                while let Some(completion) = ring.next_completion() {
                    channel.handle(&mut ring, now, completion, |_| received += 1).unwrap();
                }
            }
            assert_eq!(received, 3000);
            allocations = CountingAlloc::count() - before;
        }
        assert_eq!(allocations, 0);
    });
}
