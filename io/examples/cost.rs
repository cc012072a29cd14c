//! What taking an event and moving a datagram costs here, in processor time of the thread that
//! does it. Needs root; works in network namespaces of its own.
//!
//! `cargo run --release -p io --example cost`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{apply, create, in_namespace, keys, loopback};
use io::{
    Channel, ChannelKind, ChannelOptions, ChannelSockets, EventIntake, IntakeKind, IntakeOptions,
    RequestSocket, Ring, RingConfig, cpu,
};

const EVENTS: u32 = 30_000;
const DATAGRAMS: u32 = 200_000;
const ROUNDS: usize = 7;

fn main() {
    for (kind, shards) in [
        (IntakeKind::Ring, 1),
        (IntakeKind::Ring, 4),
        (IntakeKind::Filter, 1),
        (IntakeKind::Filter, 4),
        (IntakeKind::Single, 1),
    ] {
        in_namespace("events", move || backlog(kind, shards));
    }
    for (name, first, other) in [
        ("equal lengths", 1400, 1400),
        ("every other one shorter", 1400, 1300),
        ("growing in pairs", 1300, 1400),
    ] {
        in_namespace("datagrams", move || datagrams(name, first, other));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Events that wait already, read with nothing else going on.
fn backlog(kind: IntakeKind, shards: u8) {
    let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
    let all: Vec<_> = keys(EVENTS).iter().map(|&key| create(key, 0)).collect();
    let flush = common::request(2, 1, 0, 0, |_| {});
    let mut cost = Vec::new();
    for _ in 0..ROUNDS {
        let mut ring = Ring::new(&RingConfig::default()).unwrap();
        let options = IntakeOptions {
            shards,
            kind: Some(kind),
            buffer_bytes: 64 << 20,
            ..IntakeOptions::default()
        };
        let mut parts = match EventIntake::open(&options) {
            Ok(intake) => intake.into_shards(),
            Err(error) => return println!("{kind}: {error}"),
        };
        for (token, part) in (0..).zip(&mut parts) {
            part.start(&mut ring, token).unwrap();
        }
        ring.submit().unwrap();
        apply(&requests, &all);
        let (mut events, mut octets) = (0, 0);
        let before = cpu::thread_cpu_time();
        while events < EVENTS as usize {
            for part in &mut parts {
                events += part.drain(usize::MAX, |m| octets += m.len()).messages;
            }
            if kind != IntakeKind::Ring {
                ring.wait(64, Duration::from_millis(1)).unwrap();
                while let Some(completion) = ring.next_completion() {
                    let part = &mut parts[completion.token as usize];
                    events += part.handle(completion.outcome, |m| octets += m.len()).unwrap();
                }
            }
        }
        let spent = cpu::thread_cpu_time() - before;
        assert!(octets > 100 * events);
        cost.push(spent.as_nanos() as f64 / f64::from(EVENTS));
        drop(parts);
        requests.send(&flush).unwrap();
    }
    println!(
        "{kind}, {shards} shards: {:.0} ns per event, best {:.0}",
        median(cost.clone()),
        cost.iter().copied().fold(f64::MAX, f64::min)
    );
}

fn options(here: &str, there: &str) -> ChannelOptions {
    ChannelOptions {
        kind: ChannelKind::Udp {
            local: here.parse().unwrap(),
            peer: there.parse().unwrap(),
            port: 3780,
        },
        interface: "lo".into(),
        send_buffer_bytes: 4 << 20,
        receive_buffer_bytes: 64 << 20,
        checksum: true,
        backlog: 0,
    }
}

/// A thread that only sends and one that only receives. On loopback the sender's time contains
/// the way up to the receiving socket.
fn datagrams(name: &str, first: usize, other: usize) {
    if !loopback("datagrams") {
        return;
    }
    let (start, started): (Sender<()>, Receiver<()>) = channel();
    let (report, reports) = channel();
    // Both ends are opened before either thread is about to send.
    let receiving = ChannelSockets::open(&options("127.0.0.2", "127.0.0.1")).unwrap();
    let mut sending = Channel::open(&options("127.0.0.1", "127.0.0.2")).unwrap();
    let receiver = std::thread::spawn(move || {
        let mut receiving = Channel::new(receiving);
        let mut ring = Ring::new(&RingConfig::default()).unwrap();
        let group = ring.add_group(32, io::DATAGRAM_BUFFER_BYTES).unwrap();
        receiving.start(&mut ring, Instant::now(), 0, group).unwrap();
        ring.submit().unwrap();
        for _ in 0..ROUNDS {
            start.send(()).unwrap();
            let (mut received, mut last) = (0u32, Instant::now());
            let before = cpu::thread_cpu_time();
            while received < DATAGRAMS && last.elapsed() < Duration::from_secs(1) {
                ring.wait(8, Duration::from_millis(1)).unwrap();
                let now = Instant::now();
                while let Some(completion) = ring.next_completion() {
                    last = now;
                    let count = |_: &[u8]| received += 1;
                    receiving.handle(&mut ring, now, completion, count).unwrap();
                }
            }
            let spent = cpu::thread_cpu_time() - before;
            report.send((received, spent)).unwrap();
        }
    });
    let mut ring = Ring::new(&RingConfig::default()).unwrap();
    let group = ring.add_group(2, io::DATAGRAM_BUFFER_BYTES).unwrap();
    sending.start(&mut ring, Instant::now(), 0, group).unwrap();
    let (mut sent_cost, mut received_cost, mut rates, mut lost) = (vec![], vec![], vec![], 0);
    for _ in 0..ROUNDS {
        started.recv().unwrap();
        let mut left = DATAGRAMS;
        let begin = Instant::now();
        let before = cpu::thread_cpu_time();
        while left > 0 || !sending.can_send() {
            let fill = |room: &mut [u8]| {
                left = left.checked_sub(1)?;
                let octets = if left % 2 == 1 { first } else { other };
                room[..octets].fill(left as u8);
                Some(octets)
            };
            sending.transmit(&mut ring, 1400, fill).unwrap();
            ring.wait(32, Duration::from_micros(200)).unwrap();
            let now = Instant::now();
            while let Some(completion) = ring.next_completion() {
                sending.handle(&mut ring, now, completion, |_| {}).unwrap();
            }
        }
        let spent = cpu::thread_cpu_time() - before;
        rates.push(f64::from(DATAGRAMS) / begin.elapsed().as_secs_f64());
        sent_cost.push(spent.as_nanos() as f64 / f64::from(DATAGRAMS));
        let (received, spent): (u32, Duration) = reports.recv().unwrap();
        lost += DATAGRAMS - received;
        received_cost.push(spent.as_nanos() as f64 / f64::from(received.max(1)));
    }
    receiver.join().unwrap();
    println!(
        "datagrams, {name}: {:.0} ns to send, {:.0} ns to receive, {:.0} a second, {lost} lost of {}",
        median(sent_cost),
        median(received_cost),
        median(rates),
        DATAGRAMS * ROUNDS as u32
    );
}
