//! Mode ALARM: what nobody asked for arrives by repetition, and what is no longer told is forgotten.

use std::time::{Duration, Instant};

use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::{marked, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::peer::{EXPIRY, Link, Make, Mode, Pair, REFRESH, Setup};
use shardtrack_tests::table::{Masks, assert_same, cache_lines};

const FLOWS: u32 = 300;

/// A sender whose flows are older than its peer; a peer that is never asked and never told to stop.
fn repeats_and_expires(from: Make, to: Make, mode: Mode, link: Link) {
    let setup = |make| Setup::new(make, mode, link);
    let mut pair = Pair::new(setup(from), setup(to));
    let flows = plain(1, FLOWS);
    let mut kernel = Kernel::of(&pair.a.ns);
    pair.a.start();
    kernel.create(&flows);
    wait_equal(REFRESH, "flows of the sender", &u64::from(FLOWS), || pair.a.cached(true));
    std::thread::sleep(Duration::from_millis(300));

    // Told before the peer was there, and again since.
    pair.b.start();
    let round = REFRESH + Duration::from_secs(3);
    wait_equal(round, "flows of the receiver", &u64::from(FLOWS), || pair.b.cached(false));
    let changed: Vec<_> = flows[..100].iter().map(|flow| marked(flow, 7)).collect();
    kernel.update_at(&changed, 20_000);
    kernel.delete_at(&flows[200..], 20_000);
    wait_equal(round, "flows left", &200, || pair.b.cached(false));
    wait_until(round, "updates arrive", || {
        pair.b.client(&["-e"]).matches("mark=7 ").count() == 100
    });
    let sent = cache_lines(&pair.a.client(&["-i"]), Masks::PROTOCOL);
    let received = pair.b.client(&["-e"]);
    assert_same(
        ("-i of the sender", &sent),
        ("-e of the receiver", &cache_lines(&received, Masks::PROTOCOL)),
    );
    let left: Vec<u64> = received
        .lines()
        .map(|line| {
            let rest = line.split_once(" [expires in ").expect("a timer runs").1;
            rest.split_once("s]").expect("seconds").0.parse().expect("a number")
        })
        .collect();
    assert!(left.iter().all(|&left| left <= EXPIRY.as_secs()), "{left:?}");
    // Repeated, they do not run out.
    std::thread::sleep(EXPIRY / 2);
    assert_eq!(pair.b.cached(false), 200, "flows are forgotten although they are repeated");
    assert_eq!(pair.b.counter(28, "Malformed messages:"), Some(0), "malformed at the receiver");

    pair.a.kill9();
    let silent = Instant::now();
    let least = EXPIRY - REFRESH - Duration::from_secs(2);
    while silent.elapsed() < least {
        assert_eq!(pair.b.cached(false), 200, "forgotten after {:?}", silent.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    wait_equal(EXPIRY, "flows that nobody tells of", &0, || pair.b.cached(false));
}

cases! {
    repeats_and_expires;
    ours_repeats_to_the_original: Ours to Original, Alarm over Multicast;
    the_original_repeats_to_ours: Original to Ours, Alarm over Udp;
    ours_repeats_to_ours: Ours to Ours, Alarm over Tcp;
}
