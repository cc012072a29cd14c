//! Devices of sync links that go and come back.

use std::time::{Duration, Instant};

use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};

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

/// A message that no datagram had room for was left out for good.
#[test]
fn what_was_too_large_for_a_device_is_told_when_it_has_room() {
    need_root!();
    for (mode, shards) in [(Mode::Ftfw, 1), (Mode::Ftfw, 2), (Mode::Notrack, 1)] {
        let setup = || Setup {
            engine: format!("Shards {shards}"),
            ..Setup::new(Make::Ours, mode, Link::Udp)
        };
        let mut pair = Pair::new(setup(), setup());
        pair.start();
        let mut kernel = Kernel::of(&pair.a.ns);
        let mtu = |octets: u32| {
            for node in [&pair.a, &pair.b] {
                node.ns.ip(&format!("link set sync0 mtu {octets}"));
            }
        };
        kernel.create(&plain(0, 100));
        wait_equal(LIMIT, "flows of the receiver", &100, || pair.b.cached(false));
        // The least that IPv4 allows.
        mtu(68);
        std::thread::sleep(Duration::from_secs(1));
        kernel.create(&plain(100, 100));
        kernel.delete_at(&plain(0, 50), 0);
        std::thread::sleep(Duration::from_secs(2));
        assert!(pair.b.cached(false) <= 100, "there was room");
        mtu(1500);
        let what = format!("flows of the receiver in {mode:?} with {shards} shards");
        wait_equal(LIMIT, &what, &150, || pair.b.cached(false));
    }
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
