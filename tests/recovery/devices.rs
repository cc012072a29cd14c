//! Devices of sync links that go and come back.

use std::time::{Duration, Instant};

use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, SYNC_DEVICE, Setup};

const LIMIT: Duration = Duration::from_secs(15);

/// Membership of a group, and the device by which it is sent to, go with the device, and so does all
/// that comes to a socket with an address of the device's: nobody heard anything any more until both
/// daemons were started again.
#[test]
fn a_device_that_is_made_anew_is_used_again() {
    need_root!();
    let ipv6 = [Link::Multicast6, Link::Udp6, Link::Tcp6];
    let of_device = ipv6.map(|link| (link, true));
    let others = [Link::Multicast, Link::Udp, Link::Tcp].into_iter().chain(ipv6);
    for (link, link_local) in others.map(|link| (link, false)).chain(of_device) {
        let setup = || Setup { link_local, ..Setup::new(Make::Ours, Mode::Ftfw, link) };
        let mut pair = Pair::new(setup(), setup());
        pair.start();
        let mut kernel = Kernel::of(&pair.a.ns);
        for round in 0..3 {
            kernel.create(&plain(100 * round, 100));
            let all = u64::from(100 * (round + 1));
            let what =
                format!("flows of the receiver over {link:?} in round {round}, {link_local}");
            wait_equal(LIMIT, &what, &all, || pair.b.cached(false));
            pair.a.ns.ip("link del sync0");
            pair.wire(0);
        }
    }
}

/// A device that was away takes its index along if that is free, and may be made with the one it had:
/// that it lost its membership of the group was seen by another index only. Nobody heard anything any
/// more until the daemon was started again.
#[test]
fn a_device_that_returns_with_its_index_is_used_again() {
    need_root!();
    for link in [Link::Multicast, Link::Multicast6] {
        let setup = || Setup::new(Make::Ours, Mode::Ftfw, link);
        let mut pair = Pair::new(setup(), setup());
        pair.start();
        let index = || {
            let line = pair.a.ns.ip(&format!("-o link show {SYNC_DEVICE}"));
            line.split(':').next().map(str::to_owned)
        };
        let elsewhere = Netns::new("elsewhere");
        let mut kernel = Kernel::of(&pair.b.ns);
        let before = index();
        for round in 0..3 {
            kernel.create(&plain(100 * round, 100));
            let all = u64::from(100 * (round + 1));
            let what = format!("flows of the receiver over {link:?} in round {round}");
            wait_equal(LIMIT, &what, &all, || pair.a.cached(false));
            pair.a.ns.ip(&format!("link set {SYNC_DEVICE} netns {}", elsewhere.name()));
            // Later it is back before anybody has looked.
            if round == 0 {
                pair.a.told("device `sync0' is down");
            }
            elsewhere.ip(&format!("link set {SYNC_DEVICE} netns {}", pair.a.ns.name()));
            pair.address(0);
            pair.a.ns.ip(&format!("link set {SYNC_DEVICE} up"));
            assert_eq!(index(), before, "with another index it would show nothing");
        }
    }
}

/// The kernel takes IPv6 from a device whose MTU is below 1280: addresses, and membership of groups,
/// which the socket goes on to believe in. Nobody heard anything any more until both daemons were
/// started again.
#[test]
fn a_device_that_could_not_carry_ipv6_is_used_again() {
    need_root!();
    for link in [Link::Multicast6, Link::Udp6, Link::Tcp6] {
        for link_local in [false, true] {
            let setup = || Setup { link_local, ..Setup::new(Make::Ours, Mode::Ftfw, link) };
            let mut pair = Pair::new(setup(), setup());
            pair.start();
            let mut kernel = Kernel::of(&pair.a.ns);
            let mtu = |octets| {
                for node in [&pair.a, &pair.b] {
                    node.ns.ip(&format!("link set {SYNC_DEVICE} mtu {octets}"));
                }
            };
            for round in 0..3 {
                kernel.create(&plain(100 * round, 100));
                let all = u64::from(100 * (round + 1));
                let what =
                    format!("flows of the receiver over {link:?} in round {round}, {link_local}");
                wait_equal(LIMIT, &what, &all, || pair.b.cached(false));
                mtu(576);
                // The first time it is over before anybody has looked.
                if round == 1 {
                    for node in [&pair.a, &pair.b] {
                        node.told("device `sync0' is down");
                    }
                }
                mtu(1500);
                pair.address(0);
            }
        }
    }
}

/// Nobody heard what was asked, and without acknowledgements it was not said again: a backup that had
/// started before its link was up did not know the flows that were there before. It told its own once
/// a second, to nobody.
#[test]
fn what_was_asked_without_a_link_is_asked_when_there_is_one() {
    need_root!();
    // The original tells nobody of its flows because its link has returned.
    let setup = |make| Setup::new(make, Mode::Notrack, Link::Udp);
    let mut pair = Pair::new(setup(Make::Original), setup(Make::Ours));
    pair.a.start();
    Kernel::of(&pair.a.ns).create(&plain(0, 100));
    wait_equal(LIMIT, "flows of the sender", &100, || pair.a.cached(true));
    pair.b.ns.ip("link set sync0 down");
    pair.b.start();
    pair.b.told("device `sync0' is down");
    std::thread::sleep(Duration::from_secs(2));
    pair.b.ns.ip("link set sync0 up");
    wait_equal(LIMIT, "flows of the receiver", &100, || pair.b.cached(false));
    // At its start, and when the link is back.
    let told = pair.b.log().matches("sending bulk update").count();
    assert!(told <= 2, "all was told {told} times");
}

/// Without an external cache a node waits a little before it tells what it has read at its start, and
/// no longer knew that it had to when the link came.
#[test]
fn what_was_read_without_a_link_is_told_when_there_is_one() {
    need_root!();
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.mode_lines = "DisableExternalCache on\nStartupResync off\n".into();
    let mut pair = Pair::new(setup.clone(), setup);
    pair.b.start();
    Kernel::of(&pair.a.ns).create(&plain(0, 100));
    pair.a.ns.ip("link set sync0 down");
    pair.a.start();
    pair.a.told("device `sync0' is down");
    std::thread::sleep(Duration::from_secs(3));
    pair.a.ns.ip("link set sync0 up");
    let at_peer = || pair.b.ns.read_sysctl("net/netfilter/nf_conntrack_count");
    wait_until(LIMIT, "the peer's kernel has them", || at_peer().parse().unwrap_or(0) >= 100);
}

/// What a link has not delivered is given up when another one takes its place, and without
/// acknowledgements nobody asks for it. That a connection breaks later sends all again, but only
/// after five seconds of silence.
#[test]
fn what_a_link_kept_is_sent_again_on_the_next_one() {
    need_root!();
    for asked in [true, false] {
        let mut setup = Setup::new(Make::Ours, Mode::Notrack, Link::Tcp);
        setup.links = 2;
        let mut pair = Pair::new(setup.clone(), setup);
        pair.start();
        let mut kernel = Kernel::of(&pair.a.ns);
        pair.a.ns.ip("link set sync0 down");
        for node in [&pair.a, &pair.b] {
            node.told("device `sync1' becomes dedicated link");
        }
        kernel.create(&plain(0, 100));
        wait_equal(LIMIT, "flows of the receiver", &100, || pair.b.cached(false));
        // What failed before is made good.
        std::thread::sleep(Duration::from_secs(3));
        pair.b.ns.nft(
            "table netdev cut {
                chain in {
                    type filter hook ingress device \"sync1\" priority 0
                    drop
                }
            }",
        );
        let began = Instant::now();
        kernel.create(&plain(100, 500));
        pair.a.ns.ip("link set sync0 up");
        // Who asks has the devices looked at, which then return before their time is noticed.
        while asked && began.elapsed() < Duration::from_millis(1500) {
            pair.a.request(RUNTIME);
        }
        wait_until(Duration::from_millis(4500) - began.elapsed(), "all flows", || {
            pair.b.cached(false) == 600
        });
    }
}

/// A request of the control protocol.
const RUNTIME: u32 = 30;

/// Not even one flow fits a packet; the original would send empty datagrams for ever. They were counted
/// as too large, and the peer never had them.
#[test]
fn flows_go_over_a_link_that_takes_tiny_packets() {
    need_root!();
    for link in [Link::Multicast, Link::Udp, Link::Tcp] {
        let pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, link);
        for node in [&pair.a, &pair.b] {
            node.ns.ip(&format!("link set {SYNC_DEVICE} mtu 68"));
        }
        Kernel::of(&pair.a.ns).create(&plain(0, 100));
        let what = format!("flows of the receiver over {link:?}");
        wait_equal(LIMIT, &what, &100, || pair.b.cached(false));
    }
}
