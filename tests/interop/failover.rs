//! Links that fail in the middle of a churn of flows: the next one takes over, the preferred one
//! returns, and no flow is lost on the way. The links are of both families in turn, so that each
//! takes over from the other, or all of one.

use std::time::Duration;

use shardtrack_tests::churn::{Churn, apart};
use shardtrack_tests::cond::wait_until;
use shardtrack_tests::peer::{LONG_ERROR_QUEUE, Link, Make, Mode, Node, Pair, Setup};

/// Operations per second.
const RATE: u32 = 10_000;
/// Flows that are made at least from one change of links to the next.
const STEP: u64 = 1500;
/// The link that both nodes prefer, and how many there are.
const PREFERRED: u8 = 1;
const LINKS: u8 = 4;
/// From the news of a device to the use of another link.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The same where the news is that of a carrier, which the kernel tells at most once a second, or
/// that of the peer, or has to wait for whether the link stays up.
const SOON: Duration = Duration::from_secs(4);
/// From the end of the churn to equal tables.
const CONVERGE: Duration = Duration::from_secs(20);
/// How often an operator asks an original that has no acknowledgements for everything.
const ASKED_MOST: u32 = 3;

/// The device that a node sends on, as the original's client shows it.
fn active(node: &Node) -> String {
    let answer = node.request(31).unwrap_or_default();
    let line = answer.lines().find(|line| line.contains("role=ACTIVE")).unwrap_or_default();
    line.split("device=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("").to_owned()
}

#[track_caller]
fn sends_on(node: &Node, device: &str, limit: Duration) {
    wait_until(limit, &format!("node {} sends on {device}", node.index), || active(node) == device);
}

/// Both leave `from` and come to the same one; over TCP the original connects anew first.
#[track_caller]
fn leave(pair: &Pair, from: &str) {
    wait_until(2 * SOON, &format!("both leave {from}"), || {
        let (a, b) = (active(&pair.a), active(&pair.b));
        a == b && a != from && !a.is_empty()
    });
}

fn set(node: &Node, device: &str, state: &str) {
    node.ns.ip(&format!("link set {device} {state}"));
}

/// The preferred link and the last are of the other family than `link`, two are of its own.
fn survives(a: Make, b: Make, mode: Mode, link: Link) {
    changes_links(a, b, mode, link, true);
}

/// All links are of the family of `link`.
fn survives_in_one_family(a: Make, b: Make, mode: Mode, link: Link) {
    changes_links(a, b, mode, link, false);
}

/// A pair whose links fail, one after the other and all together, while `a` tells of its flows.
fn changes_links(a: Make, b: Make, mode: Mode, link: Link, both_families: bool) {
    let setup = |make| {
        let mut setup = Setup::new(make, mode, link);
        (setup.links, setup.preferred) = (LINKS, Some(PREFERRED));
        setup.both_families = both_families;
        if make == Make::Original && link.is_tcp() {
            setup.link_lines = LONG_ERROR_QUEUE.into();
        }
        setup
    };
    // In mode ALARM a receiver says nothing, so the original hears of no choice of its receiver's.
    let led = mode != Mode::Alarm || a == Make::Ours;
    let mut pair = Pair::new(setup(a), setup(b));
    for node in [&pair.a, &pair.b] {
        // Otherwise a device that is switched off loses its IPv6 addresses.
        node.ns.sysctl("net/ipv6/conf/all/keep_addr_on_down", 1);
    }
    pair.start();
    let ours = if a == Make::Ours { &pair.a } else { &pair.b };
    for node in [&pair.a, &pair.b] {
        wait_until(SOON, "the kernel has told of every carrier", || {
            let answer = node.request(31).unwrap_or_default();
            answer.matches("status=RUNNING").count() == usize::from(LINKS)
        });
        if mode != Mode::Alarm {
            sends_on(node, "sync1", SOON);
        }
    }
    let mut churn = Churn::start(&pair.a.ns, RATE);
    // Our own device: the link is left at once, for the next one, or for the one that the other node
    // chose when it was the first to see that its carrier was gone.
    set(ours, "sync1", "down");
    wait_until(AT_ONCE, "the link is left", || !matches!(&*active(ours), "sync1" | ""));
    leave(&pair, "sync1");
    churn.reach(STEP);
    // The other's device: here only the carrier is missing.
    let other = if a == Make::Ours { &pair.b } else { &pair.a };
    set(other, "sync2", "down");
    leave(&pair, "sync2");
    churn.reach(2 * STEP);
    // What was preferred returns, and the original, which would not by itself, follows.
    set(ours, "sync1", "up");
    for node in [&pair.a, &pair.b] {
        if led {
            sends_on(node, "sync1", SOON);
        }
    }
    churn.reach(3 * STEP);
    // Nothing is left for a while.
    for n in 0..LINKS {
        set(&pair.a, &format!("sync{n}"), "down");
    }
    wait_until(SOON, "the node says so", || {
        ours.log().contains("[ERROR] no dedicated links available!")
    });
    for n in 0..LINKS {
        for node in [&pair.a, &pair.b] {
            set(node, &format!("sync{n}"), "up");
        }
    }
    if led {
        sends_on(ours, "sync1", 2 * SOON);
    }
    churn.reach(4 * STEP);
    churn.stop();
    for line in ["device `sync1' is down", "has no carrier", "becomes dedicated link"] {
        ours.told(line);
    }
    let lossy = mode == Mode::Notrack;
    let asks = lossy && a == Make::Original;
    let mut differing = None;
    for _ in 0..if asks { ASKED_MOST } else { 1 } {
        if asks {
            // Without acknowledgements what it told while no link worked is lost, unless asked for;
            // and of what it answers, what it writes to a link that it leaves a moment later.
            pair.b.client(&["-n"]);
        }
        differing = apart(&pair, CONVERGE, lossy);
        if differing.is_none() {
            break;
        }
    }
    assert_eq!(differing, None);
}

cases! {
    survives;
    ours_to_ours_ftfw_udp: Ours to Ours, Ftfw over Udp;
    ours_to_ours_ftfw_tcp: Ours to Ours, Ftfw over Tcp;
    ours_to_ours_ftfw_multicast: Ours to Ours, Ftfw over Multicast;
    ours_to_ours_notrack_udp: Ours to Ours, Notrack over Udp;
    ours_to_original_ftfw_udp: Ours to Original, Ftfw over Udp;
    original_to_ours_ftfw_udp: Original to Ours, Ftfw over Udp;
    ours_to_ours_alarm_tcp: Ours to Ours, Alarm over Tcp;
    ours_to_original_ftfw_multicast: Ours to Original, Ftfw over Multicast;
    ours_to_original_ftfw_tcp: Ours to Original, Ftfw over Tcp;
    ours_to_original_notrack_udp: Ours to Original, Notrack over Udp;
    ours_to_original_notrack_multicast: Ours to Original, Notrack over Multicast;
    ours_to_original_notrack_tcp: Ours to Original, Notrack over Tcp;
    ours_to_original_alarm_udp: Ours to Original, Alarm over Udp;
    ours_to_original_alarm_multicast: Ours to Original, Alarm over Multicast;
    ours_to_original_alarm_tcp: Ours to Original, Alarm over Tcp;
    original_to_ours_ftfw_multicast: Original to Ours, Ftfw over Multicast;
    original_to_ours_ftfw_tcp: Original to Ours, Ftfw over Tcp;
    original_to_ours_notrack_udp: Original to Ours, Notrack over Udp;
    original_to_ours_notrack_multicast: Original to Ours, Notrack over Multicast;
    original_to_ours_notrack_tcp: Original to Ours, Notrack over Tcp;
    original_to_ours_alarm_udp: Original to Ours, Alarm over Udp;
    original_to_ours_alarm_multicast: Original to Ours, Alarm over Multicast;
    original_to_ours_alarm_tcp: Original to Ours, Alarm over Tcp;
    ours_to_original_ftfw_tcp6: Ours to Original, Ftfw over Tcp6;
    ours_to_original_alarm_multicast6: Ours to Original, Alarm over Multicast6;
    original_to_ours_notrack_udp6: Original to Ours, Notrack over Udp6;
}

cases! {
    survives_in_one_family;
    all_udp_ours_to_original_ftfw: Ours to Original, Ftfw over Udp;
    all_udp_original_to_ours_ftfw: Original to Ours, Ftfw over Udp;
    all_udp_ours_to_ours_alarm: Ours to Ours, Alarm over Udp;
    all_multicast_ours_to_original_ftfw: Ours to Original, Ftfw over Multicast;
    all_multicast_original_to_ours_notrack: Original to Ours, Notrack over Multicast;
    all_multicast_ours_to_ours_ftfw: Ours to Ours, Ftfw over Multicast;
    all_udp6_ours_to_original_ftfw: Ours to Original, Ftfw over Udp6;
    all_udp6_original_to_ours_ftfw: Original to Ours, Ftfw over Udp6;
    all_multicast6_ours_to_original_notrack: Ours to Original, Notrack over Multicast6;
    all_multicast6_original_to_ours_ftfw: Original to Ours, Ftfw over Multicast6;
    all_tcp6_ours_to_original_ftfw: Ours to Original, Ftfw over Tcp6;
    all_tcp6_original_to_ours_notrack: Original to Ours, Notrack over Tcp6;
}
