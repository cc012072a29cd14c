//! A peer that is not there: nobody turns in vain.

use std::time::Duration;

use shardtrack_tests::cond::wait_equal;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup};
use shardtrack_tests::snapshot::{Ignore, Snapshot};

const LIMIT: Duration = Duration::from_secs(30);
/// Time over which processor time is taken.
const SPAN: Duration = Duration::from_secs(3);

/// A daemon that has nothing to do.
#[track_caller]
fn idles(node: &Node, why: &str) {
    let begin = node.cpu_time();
    std::thread::sleep(SPAN);
    let spent = node.cpu_time() - begin;
    assert!(spent < SPAN / 6, "{spent:?} of {SPAN:?}: {why}");
}

/// Once a shard that had more to send than it may queue turned without a pause until the peer came, as
/// did the hub when the reading of a table had to wait for the link; and in a mode without
/// acknowledgements each attempt to connect began to send everything anew.
#[test]
fn a_peer_that_is_not_there_costs_nothing() {
    need_root!();
    let flows = 60_000;
    for (mode, lines) in [
        (Mode::Notrack, ""),
        (Mode::Notrack, "DisableInternalCache on\n"),
        (Mode::Ftfw, ""),
        (Mode::Alarm, ""),
    ] {
        let mut setup = Setup::new(Make::Ours, mode, Link::Tcp);
        setup.mode_lines = lines.into();
        // Without a cache this bounds what waits for the link.
        setup.hash_limit = 100_000;
        setup.engine = "Shards 2".into();
        let mut pair = Pair::new(setup.clone(), setup);
        Kernel::of(&pair.a.ns).create_at(&plain(0, flows), 0);
        pair.a.start();
        std::thread::sleep(Duration::from_secs(2));
        idles(&pair.a, &format!("{mode:?} {lines}"));
        let bulks = pair.a.log().matches("sending bulk update").count();
        assert_eq!(bulks, usize::from(lines.is_empty()), "{mode:?}");
        pair.b.start();
        wait_equal(LIMIT, "flows of the receiver", &flows.into(), || pair.b.cached(false));
    }
}

/// The reading of the table for a peer that is not there once held up all who wanted to read it or to
/// empty it, until the peer came.
#[test]
fn a_reading_for_a_peer_that_is_not_there_gives_way() {
    need_root!();
    let flows = 60_000;
    for shards in [1, 2] {
        let mut setup = Setup::new(Make::Ours, Mode::Notrack, Link::Tcp);
        setup.mode_lines = "DisableInternalCache on\n".into();
        setup.hash_limit = 100_000;
        setup.engine = format!("Shards {shards}");
        let mut pair = Pair::new(setup.clone(), setup);
        Kernel::of(&pair.a.ns).create_at(&plain(0, flows), 0);
        pair.a.start();
        assert_eq!(pair.a.client(&["-i"]).lines().count(), flows as usize);
        pair.b.start();
        wait_equal(LIMIT, "flows of the receiver", &flows.into(), || pair.b.cached(false));
        pair.b.kill9();
        pair.a.client(&["-B"]);
        // As much is queued by then as may be.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(pair.a.client(&["-i"]).lines().count(), flows as usize);
        pair.a.client(&["-F"]);
        let left = Snapshot::of(&mut Kernel::of(&pair.a.ns), Ignore::default()).lines.len();
        assert_eq!(left, 0);
    }
}
