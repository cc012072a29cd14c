//! `PollSecs`: the table is read instead of events, whatever the peer does.

use std::time::Duration;

use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::{Without, marked, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::table::{Masks, assert_same, cache_lines, expect_lines};

/// Two intervals, and time for a loaded machine.
const LIMIT: Duration = Duration::from_secs(12);

fn polls(from: Make, to: Make, mode: Mode) {
    let mut setup = Setup::new(from, mode, Link::Udp);
    setup.general = "PollSecs 1\n".into();
    let mut pair = Pair::new(setup, Setup::new(to, mode, Link::Udp));
    pair.start();
    let mixture = mixture(400, Without { lost_keys: true });
    let flows = mixture.flows.len() as u64;
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&mixture.flows);
    kernel.expect(&mixture.expectations);
    wait_equal(LIMIT, "flows of the sender", &flows, || pair.a.cached(true));
    wait_equal(LIMIT, "flows of the receiver", &flows, || pair.b.cached(false));
    let expects = |internal: bool| {
        let (node, side) = if internal { (&pair.a, "-i") } else { (&pair.b, "-e") };
        expect_lines(&node.client(&[side, "expect"]))
    };
    let wanted = mixture.expectations.len();
    wait_equal(LIMIT, "expectations of the receiver", &wanted, || expects(false).len());
    assert_same(("sender", &expects(true)), ("receiver", &expects(false)));

    // A change and ends are found as well.
    kernel.update_at(&[marked(&mixture.flows[0], 0x77)], 1000);
    kernel.delete_at(&mixture.flows[1..2], 1000);
    wait_equal(LIMIT, "flows left", &(flows - 1), || pair.b.cached(false));
    wait_until(LIMIT, "the change arrives", || pair.b.client(&["-e"]).contains("mark=119"));
    assert_same(
        ("-i of the sender", &cache_lines(&pair.a.client(&["-i"]), Masks::PROTOCOL)),
        ("-e of the receiver", &cache_lines(&pair.b.client(&["-e"]), Masks::PROTOCOL)),
    );
    kernel.flush();
    wait_equal(LIMIT, "flows left at last", &0, || pair.b.cached(false));
    wait_until(LIMIT, "expectations end with their masters", || expects(false).is_empty());
    assert_eq!(pair.a.counter(30, "events received:"), Some(0), "somebody listens");
    pair.a.told("running in polling mode");
}

#[test]
fn ours_polls_for_the_original() {
    need_root!();
    polls(Make::Ours, Make::Original, Mode::Ftfw);
}

#[test]
fn ours_polls_for_ours() {
    need_root!();
    polls(Make::Ours, Make::Ours, Mode::Notrack);
}
