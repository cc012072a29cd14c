//! Channels between two ends on one machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{in_namespace, loopback};
use io::{Channel, ChannelEvent, ChannelKind, ChannelOptions, Errno, Interface, Ring, RingConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One end: a thread's ring and a channel on it.
struct End {
    ring: Ring,
    channel: Channel,
    received: Vec<Vec<u8>>,
    events: Vec<ChannelEvent>,
    /// Why connections were not tried.
    untried: Vec<Option<i32>>,
}

const TOKEN: u64 = 0x100;
/// Longest wait for anything, on a machine that has a lot to do.
const LIMIT: Duration = Duration::from_secs(20);

impl End {
    fn new(options: &ChannelOptions) -> Self {
        let mut ring = Ring::new(&RingConfig::default()).unwrap();
        let group = ring.add_group(8, io::DATAGRAM_BUFFER_BYTES).unwrap();
        let mut channel = Channel::open(options).unwrap();
        channel.start(&mut ring, Instant::now(), TOKEN, group).unwrap();
        ring.submit().unwrap();
        Self { ring, channel, received: Vec::new(), events: Vec::new(), untried: Vec::new() }
    }

    fn turn(&mut self) {
        self.ring.wait(1, Duration::from_millis(1)).unwrap();
        let now = Instant::now();
        while let Some(completion) = self.ring.next_completion() {
            assert!(self.channel.owns(completion.token));
            let received = &mut self.received;
            let receive = |bytes: &[u8]| received.push(bytes.to_vec());
            let event = self.channel.handle(&mut self.ring, now, completion, receive).unwrap();
            self.events.extend(event);
        }
        let failed = self.channel.handle_timeout(&mut self.ring, now).unwrap();
        self.untried.extend(failed.map(|error| error.errno()));
    }

    /// Sends all datagrams, however many calls that needs, while the other end reads.
    fn send(&mut self, datagrams: &[Vec<u8>], other: &mut Self) -> u32 {
        let mut next = datagrams.iter();
        let mut stalls = 0;
        let end = Instant::now() + LIMIT;
        loop {
            let sent = self
                .channel
                .transmit(&mut self.ring, 1472, |room| {
                    let datagram = next.next()?;
                    room[..datagram.len()].copy_from_slice(datagram);
                    Some(datagram.len())
                })
                .unwrap();
            stalls += u32::from(sent.stalled);
            self.turn();
            other.turn();
            if !sent.stalled && next.len() == 0 {
                while !self.channel.can_send() && Instant::now() < end {
                    self.turn();
                    other.turn();
                }
                return stalls;
            }
            assert!(Instant::now() < end, "stalled for good");
        }
    }

    fn read_until(&mut self, octets: usize) {
        let end = Instant::now() + LIMIT;
        while self.received.iter().map(Vec::len).sum::<usize>() < octets && Instant::now() < end {
            self.turn();
        }
    }
}

fn options(kind: ChannelKind, interface: &str) -> ChannelOptions {
    ChannelOptions {
        kind,
        interface: interface.to_owned(),
        send_buffer_bytes: 0,
        receive_buffer_bytes: 0,
        checksum: true,
        backlog: 128,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn udp(local: &str, peer: &str) -> ChannelOptions {
    options(ChannelKind::Udp { local: address(local), peer: address(peer), port: 3780 }, "lo")
}

fn tcp(local: &str, peer: &str) -> ChannelOptions {
    options(ChannelKind::Tcp { local: address(local), peer: address(peer), port: 3780 }, "lo")
}

fn ip(command: &str) {
    let done = Command::new("ip").args(command.split(' ')).status().unwrap();
    assert!(done.success(), "{command}");
}

/// Datagrams whose lengths come from `lengths` in turn and which name their place.
fn datagrams(count: usize, lengths: &[usize]) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let mut d = vec![i as u8; lengths[i % lengths.len()]];
            let place = (i as u32).to_be_bytes();
            let n = d.len().min(4);
            d[..n].copy_from_slice(&place[..n]);
            d
        })
        .collect()
}

#[test]
fn udp_keeps_lengths_and_order() {
    const NAME: &str = "udp_keeps_lengths_and_order";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        for (a, b) in [("127.0.0.1", "127.0.0.2"), ("::1", "::1")] {
            for (lengths, checksum) in [
                (&[1400][..], true),
                (&[1400], false),
                (&[1400, 1400, 1400, 900], true),
                (&[5, 1472, 100, 100, 101, 1], true),
            ] {
                let mut left = End::new(&ChannelOptions { checksum, ..udp(a, b) });
                // With one address both ends would be one socket: it talks to itself.
                let mut right = (a != b).then(|| End::new(&udp(b, a)));
                let all = datagrams(2000, lengths);
                let octets = all.iter().map(Vec::len).sum();
                let received = match &mut right {
                    Some(right) => {
                        left.send(&all, right);
                        right.read_until(octets);
                        &right.received
                    }
                    None => {
                        let mut idle = End::new(&udp("127.0.0.9", "127.0.0.9"));
                        left.send(&all, &mut idle);
                        left.read_until(octets);
                        &left.received
                    }
                };
                assert!(
                    *received == all,
                    "{a} {lengths:?} {checksum}: {} received, {:?} dropped",
                    received.len(),
                    right.as_ref().map(|r| (r.channel.receive_drops(), r.channel.truncated()))
                );
                assert!(left.events.is_empty(), "{:?}", left.events);
                assert_eq!(left.channel.segments(), checksum);
            }
        }
    });
}

#[test]
fn a_full_socket_stalls_and_loses_nothing_at_the_sender() {
    const NAME: &str = "a_full_socket_stalls_and_loses_nothing_at_the_sender";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        let small = ChannelOptions { send_buffer_bytes: 4608, ..udp("127.0.0.1", "127.0.0.2") };
        let mut left = End::new(&small);
        let mut right = End::new(&ChannelOptions {
            receive_buffer_bytes: 64 << 20,
            ..udp("127.0.0.2", "127.0.0.1")
        });
        let all = datagrams(8000, &[1000, 999]);
        assert!(left.send(&all, &mut right) > 0, "more fit than there are buffers");
        right.read_until(all.iter().map(Vec::len).sum());
        assert_eq!(right.received.len() + right.channel.receive_drops() as usize, all.len());
        assert!(right.received == all);
    });
}

#[test]
fn a_device_that_cannot_cut_gets_datagrams_one_by_one() {
    const NAME: &str = "a_device_that_cannot_cut_gets_datagrams_one_by_one";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        let mut left = End::new(&udp("127.0.0.1", "127.0.0.2"));
        let mut right = End::new(&udp("127.0.0.2", "127.0.0.1"));
        ip("link set lo mtu 1300");
        let all = datagrams(300, &[1400, 1400, 1400, 1400, 17]);
        left.send(&all, &mut right);
        right.read_until(all.concat().len());
        assert!(right.received == all, "{} of {}", right.received.len(), all.len());
        assert!(left.events.is_empty() && !left.channel.segments(), "{:?}", left.events);
        left.channel.refresh_interface().unwrap();
        assert_eq!((left.channel.interface().mtu(), left.channel.segments()), (1300, true));
    });
}

#[test]
fn a_destination_without_route_is_reported() {
    const NAME: &str = "a_destination_without_route_is_reported";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        let mut left = End::new(&udp("127.0.0.1", "192.0.2.1"));
        let mut idle = End::new(&udp("127.0.0.2", "127.0.0.1"));
        left.send(&datagrams(130, &[1400, 7]), &mut idle);
        let end = Instant::now() + LIMIT;
        let lost = |events: &[ChannelEvent]| -> u32 {
            let one = |event: &ChannelEvent| match event {
                ChannelEvent::SendFailed { datagrams, error: Errno::NETUNREACH } => *datagrams,
                other => panic!("{other:?}"),
            };
            events.iter().map(one).sum()
        };
        while lost(&left.events) < 130 && Instant::now() < end {
            left.turn();
        }
        assert_eq!(lost(&left.events), 130);
        assert!(left.channel.can_send());
    });
}

#[test]
fn tcp_carries_everything_and_comes_back() {
    const NAME: &str = "tcp_carries_everything_and_comes_back";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        let small = ChannelOptions { send_buffer_bytes: 4096, ..tcp("127.0.0.1", "127.0.0.2") };
        let mut left = End::new(&small);
        let mut right = End::new(&tcp("127.0.0.2", "127.0.0.1"));
        let end = Instant::now() + LIMIT;
        while !(left.channel.connected() && right.channel.peer_connected()) && Instant::now() < end
        {
            left.turn();
            right.turn();
        }
        assert!(left.channel.connected() && left.channel.is_stream());
        assert!(left.events.contains(&ChannelEvent::Connected), "{:?}", left.events);
        // More than all buffers hold, through a small socket: writes are short.
        let all = datagrams(4000, &[1400, 1400, 20]);
        left.send(&all, &mut right);
        let octets = all.iter().map(Vec::len).sum();
        let end = Instant::now() + LIMIT;
        while right.received.iter().map(Vec::len).sum::<usize>() < octets && Instant::now() < end {
            left.turn();
            right.turn();
        }
        assert!(right.received.concat() == all.concat());

        // The peer goes and comes back; what was under way arrives after all.
        drop(right);
        let end = Instant::now() + LIMIT;
        while left.channel.connected() && Instant::now() < end {
            left.turn();
        }
        assert!(matches!(left.events.last(), Some(ChannelEvent::Disconnected(_))));
        let nothing = left.channel.transmit(&mut left.ring, 100, |_| panic!("not connected"));
        assert!(nothing.unwrap().stalled);
        let mut right = End::new(&tcp("127.0.0.2", "127.0.0.1"));
        let end = Instant::now() + LIMIT;
        while !left.channel.can_send() && Instant::now() < end {
            left.turn();
            right.turn();
        }
        left.send(&all[..10], &mut right);
        right.read_until(all[..10].concat().len());
        assert!(right.received.concat() == all[..10].concat());
    });
}

#[test]
fn without_a_descriptor_for_it_a_connection_is_tried_again_later() {
    const NAME: &str = "without_a_descriptor_for_it_a_connection_is_tried_again_later";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        // The ring knows nobody at the other end, and tries again.
        let mut left = End::new(&tcp("127.0.0.1", "127.0.0.2"));
        let all = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..all }).unwrap();
        assert!(std::fs::File::open("/dev/null").is_err(), "there is a descriptor");
        let end = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < end {
            left.turn();
        }
        setrlimit(Resource::Nofile, all).unwrap();
        let no_descriptor = Some(Errno::MFILE.raw_os_error());
        assert!(left.untried.len() >= 2, "{:?}", left.untried);
        assert!(left.untried.iter().all(|errno| *errno == no_descriptor), "{:?}", left.untried);
        let mut right = End::new(&tcp("127.0.0.2", "127.0.0.1"));
        let end = Instant::now() + LIMIT;
        while !left.channel.connected() && Instant::now() < end {
            left.turn();
            right.turn();
        }
        assert!(left.channel.connected());
    });
}

#[test]
fn what_a_broken_connection_held_is_sent_again() {
    const NAME: &str = "what_a_broken_connection_held_is_sent_again";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        let left = ChannelOptions { backlog: 3, ..tcp("127.0.0.1", "127.0.0.2") };
        let mut left = End::new(&ChannelOptions { send_buffer_bytes: 4096, ..left });
        // A peer that accepts and never reads.
        let listener = std::net::TcpListener::bind("127.0.0.2:3780").unwrap();
        let end = Instant::now() + LIMIT;
        while !left.channel.connected() && Instant::now() < end {
            left.turn();
        }
        let (silent, _) = listener.accept().unwrap();
        drop(listener);
        let all = datagrams(6000, &[1400]);
        let mut next = all.iter();
        for _ in 0..50 {
            let fill = |room: &mut [u8]| {
                let datagram = next.next()?;
                room[..datagram.len()].copy_from_slice(datagram);
                Some(datagram.len())
            };
            left.channel.transmit(&mut left.ring, 1400, fill).unwrap();
            left.turn();
        }
        let taken = all.len() - next.len();
        assert!(taken < all.len() && !left.channel.can_send());
        drop(silent);
        let mut right = End::new(&tcp("127.0.0.2", "127.0.0.1"));
        let end = Instant::now() + LIMIT;
        while !left.channel.can_send() && Instant::now() < end {
            left.turn();
            right.turn();
        }
        assert!(left.channel.backlog_drops() > 0);
        left.send(&[], &mut right);
        right.read_until(3 * 1400);
        // The youngest three, whole.
        assert!(right.received.concat() == all[taken - 3..taken].concat());
    });
}

#[test]
fn multicast_reaches_the_other_namespace_and_not_ourselves() {
    const NAME: &str = "multicast_reaches_the_other_namespace_and_not_ourselves";
    in_namespace(NAME, || {
        if !loopback(NAME) {
            return;
        }
        let (name_here, name_there) = ("mc0", "mc1");
        let (wired, wait_for_wire) = std::sync::mpsc::channel();
        let (tell_thread, thread_id) = std::sync::mpsc::channel();
        let kinds = |there: bool| {
            let v4 = if there { "10.9.0.2" } else { "10.9.0.1" };
            [
                (address("225.0.0.50"), Some(address(v4))),
                (address("225.0.0.51"), None),
                (address("ff02::50"), None),
            ]
            .map(|(group, interface_address)| ChannelKind::Multicast {
                group,
                port: 3780,
                interface_address,
            })
        };
        let prepare = |device: &str, v4: &str| {
            ip(&format!("addr add {v4}/24 dev {device}"));
            ip(&format!("link set {device} up addrgenmode none"));
        };
        let (answer, answers) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            // SAFETY: see `in_namespace`.
            #[allow(unsafe_code, reason = "leaving a namespace takes it")]
            unsafe {
                rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET).unwrap();
            }
            tell_thread.send(rustix::thread::gettid()).unwrap();
            wait_for_wire.recv().unwrap();
            prepare(name_there, "10.9.0.2");
            ip(&format!("addr add fe80::2/64 dev {name_there} nodad"));
            let mut ends = kinds(true).map(|kind| End::new(&options(kind, name_there)));
            answer.send(Vec::new()).unwrap();
            for end in &mut ends {
                end.read_until(50 * 1300);
                answer.send(std::mem::take(&mut end.received)).unwrap();
            }
        });
        let thread = thread_id.recv().unwrap().as_raw_nonzero().to_string();
        let add = ["link", "add", name_here, "type", "veth", "peer", "name", name_there, "netns"];
        let done = Command::new("ip").args(add).arg(thread).status().unwrap();
        assert!(done.success());
        prepare(name_here, "10.9.0.1");
        wired.send(()).unwrap();
        answers.recv().unwrap();
        // Until the kernel has taken note of the carrier the device drops all that is sent, without
        // an error. It does so under a lock, for which the command waits.
        let end = Instant::now() + LIMIT;
        while !Interface::by_name(name_here).unwrap().is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        ip(&format!("addr add fe80::1/64 dev {name_here} nodad"));
        let all = datagrams(50, &[1300]);
        for kind in kinds(false) {
            let mut here = End::new(&options(kind, name_here));
            let mut idle = End::new(&udp("127.0.0.2", "127.0.0.1"));
            here.send(&all, &mut idle);
            for _ in 0..5 {
                here.turn();
            }
            assert!(here.received.is_empty(), "we hear ourselves");
            assert_eq!(here.events, []);
        }
        for _ in 0..3 {
            let received = answers.recv_timeout(4 * LIMIT).unwrap();
            assert!(received == all, "{} of {}", received.len(), all.len());
        }
        other.join().unwrap();
    });
}
