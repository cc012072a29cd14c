//! Bytes that no honest peer or kernel sends, given to a running daemon.

use std::sync::atomic::Ordering;
use std::time::Duration;

use shardtrack_tests::cond::{settle, wait_equal, wait_until};
use shardtrack_tests::flows::{Without, marked, mixture, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::random::Random;
use shardtrack_tests::relay::Relay;
use shardtrack_tests::table::{Masks, assert_same, cache_lines};

/// Forged datagrams or messages per test.
const FORGED: u64 = 100_000;
const SEED: u64 = 0xbad;

fn forged_datagrams(mode: Mode) {
    let setup = Setup::new(Make::Ours, mode, Link::Udp);
    let (mut pair, relay) = Relay::between(setup.clone(), setup, SEED);
    pair.start();
    let flows = mixture(500, Without::default()).flows;
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&flows);
    let all = flows.len() as u64;
    wait_equal(Duration::from_secs(5), "flows of the receiver", &all, || pair.b.cached(false));
    for faults in &relay.faults {
        faults.forged.store(40, Ordering::Relaxed);
    }
    let mut mark = 1;
    while relay.work[0].forged.load(Ordering::Relaxed) < FORGED {
        mark += 1;
        let updated: Vec<_> = flows.iter().map(|flow| marked(flow, mark)).collect();
        kernel.update_at(&updated, 5000);
    }
    for faults in &relay.faults {
        faults.forged.store(0, Ordering::Relaxed);
    }
    // What is still on its way comes before the flush.
    settle(Duration::from_secs(20), Duration::from_secs(1), || {
        (relay.work[0].came.load(Ordering::Relaxed), pair.b.cached(false))
    });
    assert!(!pair.a.exited() && !pair.b.exited(), "a daemon died");
    let malformed = pair.b.counter(28, "Malformed messages:").unwrap_or(0);
    assert!(malformed > FORGED / 10, "only {malformed} counted as malformed");
    goes_on(&pair, &mut kernel);
}

/// Forged flows are flushed, and then everything arrives as if nothing had been.
fn goes_on(pair: &Pair, kernel: &mut Kernel) {
    kernel.flush();
    pair.a.client(&["-f"]);
    pair.b.client(&["-f"]);
    let flows = plain(0, 5000);
    kernel.create_at(&flows, 20_000);
    let limit = Duration::from_secs(20);
    wait_until(limit, "new flows arrive", || {
        pair.a.cached(true) == 5000 && pair.b.cached(false) >= 5000
    });
    let sent = cache_lines(&pair.a.client(&["-i"]), Masks::NONE);
    let received = cache_lines(&pair.b.client(&["-e"]), Masks::NONE);
    assert_same(("the sender", &sent), ("the receiver", &received));
}

#[test]
fn forged_datagrams_do_no_harm_ftfw() {
    need_root!();
    let _alone = alone();
    forged_datagrams(Mode::Ftfw);
}

#[test]
fn forged_datagrams_do_no_harm_notrack() {
    need_root!();
    let _alone = alone();
    forged_datagrams(Mode::Notrack);
}

/// Whoever has the rights can write to the kernel's multicast groups; the daemon reads there.
fn forged_events(intake: &str) {
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.engine = format!("Intake {intake}");
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&mixture(500, Without::default()).flows);
    // What the kernel says about these flows is what gets forged.
    let mut messages = Vec::new();
    kernel.read_whole(|batch| batch.dump(), |message| messages.push(message.to_vec()));
    assert!(messages.len() >= 500, "only {} messages to forge", messages.len());
    let mut random = Random::new(SEED);
    for number in 0..FORGED {
        let index = random.below(messages.len());
        let mut forged = messages[index].clone();
        // New, changed, ended.
        let group = 1 + (number % 3) as u32;
        let (kind, flags) = [(0x100u16, 0x600u16), (0x100, 0), (0x102, 0)][(number % 3) as usize];
        forged[4..6].copy_from_slice(&kind.to_ne_bytes());
        forged[6..8].copy_from_slice(&flags.to_ne_bytes());
        random.mutate(&mut forged);
        kernel.forge_event(&forged, group);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(!pair.a.exited() && !pair.b.exited(), "a daemon died");
    goes_on(&pair, &mut kernel);
}

#[test]
fn forged_events_do_no_harm_ring() {
    need_root!();
    let _alone = alone();
    forged_events("ring");
}

#[test]
fn forged_events_do_no_harm_filter() {
    need_root!();
    let _alone = alone();
    forged_events("filter");
}

#[test]
fn forged_events_do_no_harm_single() {
    need_root!();
    let _alone = alone();
    forged_events("single");
}
