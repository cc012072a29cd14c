//! More events than usual, at once.

use std::time::Duration;

use serde_json::Value;
use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::{TableSize, alone};
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::privilege::skip;
use shardtrack_tests::snapshot::{Ignore, Snapshot};
use shardtrack_tests::table::{Masks, assert_same, cache_lines};

const FLOWS: u32 = 500_000;

/// Creates and deletes 500,000 flows at each rate; nothing may be lost on the way.
fn nothing_is_lost(intake: &str, shards: u32) {
    let Ok(_size) = TableSize::at_least(u64::from(FLOWS) + 100_000) else {
        skip(&format!("flood {intake}"), "nf_conntrack_max is not ours to raise");
        return;
    };
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.engine = format!("Intake {intake}\nShards {shards}\nIntakeBuffer 268435456");
    setup.event_buffer = 256 << 20;
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let mut kernel = Kernel::of(&pair.a.ns);
    let flows = plain(0, FLOWS);
    let all = u64::from(FLOWS);
    let limit = Duration::from_secs(30);
    for rate in [60_000, 0] {
        kernel.create_at(&flows, rate);
        wait_equal(limit, "flows of the sender", &all, || pair.a.cached(true));
        wait_equal(limit, "flows of the receiver", &all, || pair.b.cached(false));
        assert_eq!(pair.a.counter(30, "netlink overrun:"), Some(0), "at {rate} per second");
        kernel.flush();
        wait_equal(limit, "flows of the sender", &0, || pair.a.cached(true));
        wait_equal(limit, "flows of the receiver", &0, || pair.b.cached(false));
    }
    assert_eq!(pair.a.counter(30, "netlink overrun:"), Some(0), "after the flush");
}

#[test]
fn ring_loses_nothing() {
    need_root!();
    let _alone = alone();
    nothing_is_lost("ring", 1);
}

#[test]
fn two_rings_lose_nothing() {
    need_root!();
    let _alone = alone();
    nothing_is_lost("ring", 2);
}

#[test]
fn filtered_sockets_lose_nothing() {
    need_root!();
    let _alone = alone();
    nothing_is_lost("filter", 2);
}

/// Buffers too small for anything: what was lost is made good.
fn overrun_converges(intake: &str, shards: u32) {
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.engine = format!("Intake {intake}\nShards {shards}\nIntakeBuffer 65536");
    setup.event_buffer = 16 << 10;
    setup.general = "NetlinkOverrunResync 2\n".into();
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let mut kernel = Kernel::of(&pair.a.ns);
    let flows = plain(0, 200_000);
    kernel.create_at(&flows, 0);
    let gone: Vec<_> = flows.iter().step_by(2).copied().collect();
    kernel.delete_at(&gone, 0);
    let left = (flows.len() - gone.len()) as u64;
    wait_until(Duration::from_secs(40), "the caches are the kernel's table", || {
        pair.a.cached(true) == left && pair.b.cached(false) == left
    });
    assert!(pair.a.counter(30, "netlink overrun:").is_some_and(|n| n > 0), "nothing was overrun");
    let sent = cache_lines(&pair.a.client(&["-i"]), Masks { zero_mark: true, ..Masks::NONE });
    let received = cache_lines(&pair.b.client(&["-e"]), Masks { zero_mark: true, ..Masks::NONE });
    assert_same(("the sender", &sent), ("the receiver", &received));
    assert_eq!(Snapshot::of(&mut kernel, Ignore::default()).lines.len(), sent.len());
}

#[test]
fn an_overrun_ring_converges() {
    need_root!();
    let _alone = alone();
    overrun_converges("ring", 2);
}

#[test]
fn overrun_filtered_sockets_converge() {
    need_root!();
    let _alone = alone();
    overrun_converges("filter", 2);
}

#[test]
fn an_overrun_socket_converges() {
    need_root!();
    let _alone = alone();
    overrun_converges("single", 2);
}

/// The kernel takes flows more slowly than a peer tells them. What found no room was asked for again,
/// and with it everything, without an end.
#[test]
fn a_large_table_is_injected_once() {
    need_root!();
    let _alone = alone();
    let flows = 150_000;
    for link in [Link::Udp, Link::Tcp] {
        let teller = Setup::new(Make::Ours, Mode::Notrack, link);
        let mut taker = teller.clone();
        taker.mode_lines = "DisableExternalCache on\n".into();
        let mut pair = Pair::new(teller, taker);
        Kernel::of(&pair.a.ns).create_at(&plain(0, flows), 0);
        pair.start();
        let mut kernel = Kernel::of(&pair.b.ns);
        wait_until(Duration::from_secs(40), "the kernel has them", || {
            Snapshot::of(&mut kernel, Ignore::default()).lines.len() == flows as usize
        });
        std::thread::sleep(Duration::from_secs(3));
        let told = pair.a.log().matches("sending bulk update").count();
        assert!(told <= 3, "told {told} times over {link:?}");
    }
}

/// Where there is never room for all, all is asked for less and less often, and not each second.
#[test]
fn what_there_is_no_room_for_is_asked_for_ever_later() {
    need_root!();
    let _alone = alone();
    // What a socket loses on a busy machine is not asked for again, so nothing may be lost there.
    let teller = Setup::new(Make::Ours, Mode::Notrack, Link::Tcp);
    let mut taker = teller.clone();
    taker.mode_lines = "DisableExternalCache on\n".into();
    taker.hash_limit = 1000;
    let mut pair = Pair::new(teller, taker);
    Kernel::of(&pair.a.ns).create_at(&plain(0, 100_000), 0);
    pair.start();
    std::thread::sleep(Duration::from_secs(15));
    let asked = pair.b.log().matches("resync requested").count();
    // At the start, and 1, 2, 4 and 8 seconds after a loss.
    assert!((3..=6).contains(&asked), "asked {asked} times");
}

/// A commit without an external cache has ended when the kernel has what the peer had told before.
#[test]
fn a_commit_waits_for_what_is_being_injected() {
    need_root!();
    let _alone = alone();
    let flows = 200_000;
    let teller = Setup::new(Make::Ours, Mode::Notrack, Link::Tcp);
    let mut taker = teller.clone();
    taker.mode_lines = "DisableExternalCache on\n".into();
    let mut pair = Pair::new(teller, taker);
    Kernel::of(&pair.a.ns).create_at(&plain(0, flows), 0);
    pair.start();
    let octets = || -> u64 {
        let figures: Value = serde_json::from_str(&pair.b.client(&["-s", "json"])).expect("JSON");
        figures["links"][0]["bytes_received"].as_u64().expect("a number")
    };
    let count = || -> u64 {
        pair.b.ns.read_sysctl("net/netfilter/nf_conntrack_count").parse().unwrap_or(0)
    };
    // All messages have the same length, nearly.
    wait_until(Duration::from_secs(20), "half of it is told", || octets() > 50 * u64::from(flows));
    let told = octets();
    pair.b.client(&["-c"]);
    let committed = count();
    wait_until(Duration::from_secs(40), "the kernel has them", || count() >= u64::from(flows));
    let all = octets();
    let wanted = told * u64::from(flows) / all;
    assert!(committed + 2000 >= wanted, "{committed} of {wanted} were committed");
}
