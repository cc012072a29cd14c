//! Operations of a ring on real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{apply, in_namespace, keys};
use io::{Errno, Fd, Outcome, RequestSocket, Ring, RingConfig, SendOptions, Signals};

fn ring() -> Ring {
    Ring::new(&RingConfig::default()).unwrap()
}

fn pair() -> (Fd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (OwnedFd::from(ours).into(), theirs)
}

/// Waits for the next completion.
fn next(ring: &mut Ring) -> (u64, Outcome) {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if let Some(completion) = ring.next_completion() {
            return (completion.token, completion.outcome);
        }
        ring.wait(1, Duration::from_millis(100)).unwrap();
    }
    panic!("no completion");
}

#[test]
fn the_best_flags_are_used_here() {
    let release = io::sysctl::read("kernel/osrelease").unwrap();
    if release.starts_with("6.0.") {
        common::skip("the_best_flags_are_used_here", "they came with Linux 6.1");
        return;
    }
    assert_eq!(ring().setup(), "single issuer, deferred task work");
}

#[test]
fn a_stream_is_received_to_its_end() {
    let mut ring = ring();
    let group = ring.add_group(4, 64).unwrap();
    let (fd, mut peer) = pair();
    ring.receive_stream(9, &fd, group).unwrap();
    ring.submit().unwrap();
    // More than the buffers hold, and each is given back late.
    let sent: Vec<u8> = (0..2000).map(|i| i as u8).collect();
    peer.write_all(&sent).unwrap();
    drop(peer);
    let (mut received, mut held, mut depleted) = (Vec::new(), Vec::new(), 0);
    loop {
        match next(&mut ring) {
            (9, Outcome::Received(bytes)) => {
                received.extend_from_slice(&bytes);
                held.push(bytes);
            }
            (9, Outcome::Depleted) => {
                assert_eq!(held.len(), 4);
                held.clear();
                depleted += 1;
            }
            (9, Outcome::Closed) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, sent);
    assert!(depleted > 3, "{depleted}");
}

#[test]
fn whole_sends_go_on_after_short_writes() {
    let mut ring = ring();
    let (fd, mut peer) = pair();
    let small = socket2::SockRef::from(&fd);
    small.set_send_buffer_size(4096).unwrap();
    let sent: Vec<u8> = (0..65536).map(|i| (i / 251) as u8).collect();
    let mut buffer = ring.send_buffer().unwrap();
    buffer.copy_from_slice(&sent);
    let whole = SendOptions { whole: true, ..SendOptions::default() };
    let free = ring.free_send_buffers();
    ring.send(1, &fd, buffer.freeze(), 0..65536, &whole).unwrap();
    ring.submit().unwrap();
    assert!(ring.next_completion().is_none(), "the socket is smaller than this");
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; 65536];
        for part in received.chunks_mut(1000) {
            peer.read_exact(part).unwrap();
        }
        received
    });
    assert!(matches!(next(&mut ring), (1, Outcome::Sent(65536))));
    assert!(reader.join().unwrap() == sent);
    assert_eq!(ring.free_send_buffers(), free + 1);
}

#[test]
fn a_failure_ends_its_chain_and_only_that() {
    let mut ring = ring();
    let (broken, peer) = pair();
    drop(peer);
    let (sound, mut peer) = pair();
    let mut send = |token, fd: &Fd, chained| {
        let mut buffer = ring.send_buffer().unwrap();
        buffer[0] = token as u8;
        let options = SendOptions { chained, ..SendOptions::default() };
        ring.send(token, fd, buffer.freeze(), 0..1, &options).unwrap();
    };
    send(1, &sound, true);
    send(2, &broken, true);
    send(3, &sound, false);
    send(4, &sound, false);
    let mut outcomes: Vec<_> = (0..4).map(|_| next(&mut ring)).collect();
    outcomes.sort_by_key(|(token, _)| *token);
    assert!(
        matches!(
            outcomes[..],
            [
                (1, Outcome::Sent(1)),
                (2, Outcome::Failed(Errno::PIPE)),
                (3, Outcome::Cancelled),
                (4, Outcome::Sent(1))
            ]
        ),
        "{outcomes:?}"
    );
    let mut two = [0; 2];
    peer.read_exact(&mut two).unwrap();
    assert_eq!(two.iter().map(|b| u32::from(*b)).sum::<u32>(), 5);
}

#[test]
fn accepts_and_connects() {
    const NAME: &str = "accepts_and_connects";
    in_namespace(NAME, || {
        if !common::loopback(NAME) {
            return;
        }
        let mut ring = ring();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listening = Fd::from(OwnedFd::from(listener));
        ring.accept(1, &listening).unwrap();
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let connecting = Fd::from(socket);
        ring.connect(2, &connecting, &address.into()).unwrap();
        let mut tokens: Vec<_> = (0..2)
            .map(|_| match next(&mut ring) {
                (token, Outcome::Accepted(_) | Outcome::Connected) => token,
                other => panic!("{other:?}"),
            })
            .collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [1, 2]);
        // It goes on accepting.
        let _second = TcpStream::connect(address).unwrap();
        assert!(matches!(next(&mut ring), (1, Outcome::Accepted(_))));
        ring.cancel(1).unwrap();
        assert!(matches!(next(&mut ring), (1, Outcome::Cancelled)));
        drop(listening);
        let refused =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        ring.connect(3, &refused.into(), &address.into()).unwrap();
        assert!(matches!(next(&mut ring), (3, Outcome::Failed(Errno::CONNREFUSED))));
    });
}

#[test]
fn wake_ups_coalesce_and_none_is_missed() {
    let mut ring = ring();
    let waker = ring.waker(77).unwrap();
    ring.submit().unwrap();
    for _ in 0..5 {
        waker.wake();
    }
    assert!(matches!(next(&mut ring), (77, Outcome::Woken)));
    ring.wait(1, Duration::from_millis(5)).unwrap();
    assert!(ring.next_completion().is_none());

    // Two threads count up, one with a ring; the owner sleeps whenever it has seen all.
    let total = std::sync::atomic::AtomicU64::new(0);
    const EACH: u64 = 3000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..EACH {
                total.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                waker.wake();
            }
        });
        scope.spawn(|| {
            let mut other = Ring::new(&RingConfig::default()).unwrap();
            for _ in 0..EACH {
                total.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                other.wake(&waker).unwrap();
                other.submit().unwrap();
            }
            assert!(other.next_completion().is_none());
        });
        let mut seen = 0;
        while seen < 2 * EACH {
            assert!(matches!(next(&mut ring), (77, Outcome::Woken)));
            seen = total.load(std::sync::atomic::Ordering::Relaxed);
        }
    });
}

#[test]
fn one_wait_serves_many() {
    let mut ring = ring();
    let group = ring.add_group(64, 64).unwrap();
    let (a, b) = std::os::unix::net::UnixDatagram::pair().unwrap();
    ring.receive(1, &OwnedFd::from(a).into(), group).unwrap();
    ring.submit().unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..10 {
            b.send(&[1]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        b
    });
    let begin = Instant::now();
    ring.wait(64, Duration::from_millis(200)).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
    let count = std::iter::from_fn(|| ring.next_completion()).count();
    assert_eq!(count, 10);
    let b = writer.join().unwrap();

    // Lingering: nothing comes for a while, then one is enough.
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(60));
        b.send(&[1]).unwrap();
        b
    });
    let begin = Instant::now();
    ring.wait_lingering(64, Duration::from_millis(20), Duration::from_secs(5)).unwrap();
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(50) && waited < Duration::from_secs(3), "{waited:?}");
    assert!(matches!(next(&mut ring), (1, Outcome::Received(_))));
    let b = writer.join().unwrap();
    // Something is there at once: it waits for more all the same.
    b.send(&[1]).unwrap();
    let begin = Instant::now();
    ring.wait_lingering(64, Duration::from_millis(40), Duration::from_secs(5)).unwrap();
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(35) && waited < Duration::from_secs(3), "{waited:?}");
}

#[test]
fn a_ring_can_end_with_everything_under_way() {
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for round in 0..20 {
        let mut ring = ring();
        let group = ring.add_group(8, 4096).unwrap();
        let (stream, mut peer) = pair();
        let (full, unread) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let signals = Signals::block(&[10]).unwrap();
        ring.waker(1).unwrap();
        ring.receive_stream(2, &stream, group).unwrap();
        ring.accept(3, &OwnedFd::from(listener).into()).unwrap();
        ring.poll(4, signals.fd()).unwrap();
        for _ in 0..8 {
            let buffer = ring.send_buffer().unwrap();
            let whole = SendOptions { whole: true, ..SendOptions::default() };
            ring.send(5, &full, buffer.freeze(), 0..65536, &whole).unwrap();
        }
        let mut lease = None;
        if round % 2 == 0 {
            ring.submit().unwrap();
            peer.write_all(b"kept").unwrap();
            while lease.is_none() {
                match next(&mut ring) {
                    (2, Outcome::Received(bytes)) => lease = Some(bytes),
                    // Some of them fit.
                    (5, Outcome::Sent(65536)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let kept = ring.send_buffer().unwrap();
        drop(ring);
        // Nothing reads for the ring any more.
        peer.write_all(b"later").unwrap();
        let mut rest = [0; 5];
        rustix::net::recv(&stream, &mut rest, rustix::net::RecvFlags::DONTWAIT).unwrap();
        assert_eq!(&rest, b"later");
        assert!(lease.is_none_or(|lease| *lease == *b"kept"));
        assert!(kept.iter().all(|&b| b == 0));
        drop(unread);
    }
    // The descriptors of ended rings go a little later.
    let end = Instant::now() + Duration::from_secs(5);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    while open() > before + 20 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(open() <= before + 20, "{before} descriptors became {}", open());
}

#[test]
fn emptied_buffers_are_told_from_a_full_socket() {
    in_namespace("emptied_buffers_are_told_from_a_full_socket", || {
        let mut ring = ring();
        let group = ring.add_group(16, 1024).unwrap();
        let events = RequestSocket::open(128 << 10, 0).unwrap();
        events.subscribe(1).unwrap();
        let requests = RequestSocket::open(1 << 20, 1 << 20).unwrap();
        let create = |from: usize, count: usize| {
            let keys = &keys((from + count) as u32)[from..];
            let all: Vec<_> = keys.iter().map(|&key| common::create(key, 0)).collect();
            apply(&requests, &all);
        };
        ring.receive(1, events.fd(), group).unwrap();
        ring.submit().unwrap();
        create(0, 100);
        let mut held = Vec::new();
        let mut received = 0;
        let mut depleted = 0;
        while received < 100 {
            match next(&mut ring) {
                (1, Outcome::Received(message)) => {
                    received += 1;
                    held.push(message);
                }
                (1, Outcome::Depleted) => {
                    assert_eq!(held.len(), 16);
                    held.clear();
                    depleted += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        held.clear();
        assert!(depleted >= 6, "{depleted}");
        assert_eq!(events.drops().unwrap(), 0);

        // Now the socket: 256 KiB hold 204 events of 1280 octets.
        create(100, 400);
        let (mut received, mut lost) = (0, 0);
        let end = Instant::now() + Duration::from_secs(5);
        while received + lost < 400 && Instant::now() < end {
            match next(&mut ring) {
                (1, Outcome::Received(_)) => received += 1,
                (1, Outcome::Overrun { lost: n }) => lost += n,
                (1, Outcome::Depleted) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((received + lost, events.drops().unwrap()), (400, lost));
        assert!(lost > 100, "{lost}");
        // It goes on.
        create(500, 5);
        for _ in 0..5 {
            assert!(matches!(next(&mut ring), (1, Outcome::Received(_))));
        }
    });
}

#[test]
fn a_dump_is_read_at_the_readers_pace() {
    in_namespace("a_dump_is_read_at_the_readers_pace", || {
        let mut ring = ring();
        let group = ring.add_group(2, io::DUMP_BYTES).unwrap();
        let socket = RequestSocket::open(0, 1 << 20).unwrap();
        let all: Vec<_> = keys(500).iter().map(|&key| common::create(key, 0)).collect();
        apply(&socket, &all);
        let dump = common::request(1, 0x301, 42, 0, |_| {});
        let mut buffer = ring.send_buffer().unwrap();
        buffer[..dump.len()].copy_from_slice(&dump);
        let options = SendOptions::default();
        ring.send(1, socket.fd(), buffer.freeze(), 0..dump.len(), &options).unwrap();
        ring.receive_once(2, socket.fd(), group).unwrap();
        let (mut flows, mut parts, mut done) = (0, 0, false);
        while !done {
            let (token, outcome) = next(&mut ring);
            let bytes = match outcome {
                Outcome::Received(bytes) => bytes,
                Outcome::Sent(_) => continue,
                other => panic!("{token} {other:?}"),
            };
            parts += 1;
            let mut rest = &bytes[..];
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
                assert_eq!(rest[8..12], 42u32.to_ne_bytes());
                match u16::from_ne_bytes([rest[4], rest[5]]) {
                    0x100 => flows += 1,
                    3 => done = true,
                    other => panic!("{other:x}"),
                }
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
            if !done {
                ring.wait(1, Duration::from_millis(3)).unwrap();
                assert!(ring.next_completion().is_none(), "nobody has asked for more");
                ring.receive_once(2, socket.fd(), group).unwrap();
            }
        }
        assert_eq!(flows, 500);
        assert!((3..40).contains(&parts), "{parts}");
    });
}

#[test]
fn one_receive_is_one_completion() {
    let mut ring = ring();
    let group = ring.add_group(1, 64).unwrap();
    let (fd, mut peer) = pair();
    peer.write_all(&[1; 100]).unwrap();
    ring.receive_once(1, &fd, group).unwrap();
    let (1, Outcome::Received(held)) = next(&mut ring) else { panic!() };
    assert_eq!(held.len(), 64);
    ring.receive_once(2, &fd, group).unwrap();
    assert!(matches!(next(&mut ring), (2, Outcome::Depleted)));
    drop(held);
    ring.wait(1, Duration::from_millis(5)).unwrap();
    assert!(ring.next_completion().is_none());
    ring.receive_once(3, &fd, group).unwrap();
    let (3, Outcome::Received(rest)) = next(&mut ring) else { panic!() };
    assert_eq!(rest.len(), 36);
}
