//! FTFW over a link that loses a tenth in both directions and repeats a twentieth.

use std::sync::atomic::Ordering;
use std::time::Duration;

use shardtrack_tests::cond::settle;
use shardtrack_tests::flows::{marked, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::relay::Relay;
use shardtrack_tests::snapshot::{Ignore, Snapshot};
use shardtrack_tests::table::{Lines, Masks, cache_lines, difference};

/// Operations per second.
const RATE: u32 = 20_000;
/// What the losses are drawn from; nft draws its own.
const SEED: u64 = 0x10_55;

/// One in ten datagrams of the link never arrives.
const LOSS: &str = r#"
table ip loss {
	counter lost { }
	chain in {
		type filter hook input priority 0;
		iifname "sync0" udp dport 3780 numgen random mod 10 == 0 counter name lost drop
	}
}
"#;

/// Flows that differ between the sender's cache and the receiver's at the end.
fn differing(from: Make, to: Make, flows: u32) -> (usize, String) {
    let (mut pair, relay) = Relay::between(
        Setup::new(from, Mode::Ftfw, Link::Udp),
        Setup::new(to, Mode::Ftfw, Link::Udp),
        SEED,
    );
    for (node, faults) in [&pair.a, &pair.b].into_iter().zip(&relay.faults) {
        node.ns.nft(LOSS);
        faults.repeated.store(50, Ordering::Relaxed);
        faults.late.store(20, Ordering::Relaxed);
    }
    pair.start();
    let mut kernel = Kernel::of(&pair.a.ns);
    let flows = plain(0, flows);
    kernel.create_at(&flows, RATE);
    let updated: Vec<_> = flows.iter().map(|flow| marked(flow, 7)).collect();
    kernel.update_at(&updated, RATE);
    let half: Vec<_> = flows.iter().step_by(2).copied().collect();
    kernel.delete_at(&half, RATE);
    let expected = (flows.len() - half.len()) as u64;
    assert_eq!(pair.a.counter(30, "netlink overrun:"), Some(0), "events were lost at {from:?}");
    let (sent, received) = quiet(&pair, expected);
    // The sender's cache must be the kernel's table whatever the link does.
    let table = Snapshot::of(&mut kernel, Ignore::default());
    assert_eq!(sent.len(), table.lines.len(), "the sender's cache is not its kernel's table");
    assert!(relay.work[0].came.load(Ordering::Relaxed) > 1000, "the relay was not used");
    for node in [&pair.a, &pair.b] {
        let counter = node.ns.run("nft list counter ip loss lost");
        assert!(!counter.contains("packets 0 "), "nothing was lost at {}", node.index);
    }
    let differing = sent.symmetric_difference(&received).count();
    let text = difference(("the sender", &sent), ("the receiver", &received), 4);
    (differing, text.unwrap_or_default())
}

/// Both caches after the last of the losses was made good, or not.
fn quiet(pair: &Pair, expected: u64) -> (Lines, Lines) {
    settle(Duration::from_secs(40), Duration::from_secs(4), || {
        (pair.a.cached(true), pair.b.cached(false), pair.b.cached(false) == expected)
    });
    (
        cache_lines(&pair.a.client(&["-i"]), Masks::NONE),
        cache_lines(&pair.b.client(&["-e"]), Masks::NONE),
    )
}

#[test]
fn ours_lose_nothing() {
    need_root!();
    let _alone = alone();
    let (differing, text) = differing(Make::Ours, Make::Ours, 200_000);
    assert_eq!(differing, 0, "{text}");
}

#[test]
fn with_the_original_no_worse_than_two_originals() {
    need_root!();
    let _alone = alone();
    let flows = if crate::full() { 200_000 } else { 40_000 };
    let (originals, text) = differing(Make::Original, Make::Original, flows);
    println!("original to original: {originals} differ {text}");
    for (from, to) in [(Make::Ours, Make::Original), (Make::Original, Make::Ours)] {
        let (mixed, text) = differing(from, to, flows);
        println!("{from:?} to {to:?}: {mixed} differ {text}");
        // Losses are random; a few more than the other pair had are within their spread.
        let allowed = originals + originals / 5 + 20;
        assert!(
            mixed <= allowed,
            "{from:?} to {to:?}: {mixed} flows differ, {originals} between two originals\n{text}"
        );
    }
}
