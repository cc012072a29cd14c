//! The short form of `shardtrack-perf soak`, which says for how long and how fast it is done in
//! full.

use std::time::Duration;

use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::Mode;
use shardtrack_tests::soak::Outcome;

fn holds(mode: Mode) {
    let _alone = alone();
    let outcome = Outcome::of(mode, Duration::from_secs(10), 20_000);
    assert!(outcome.flows > 20_000, "only {} flows were made", outcome.flows);
    assert_eq!(outcome.faults(), "", "{outcome:?}");
}

#[test]
fn ftfw_holds() {
    need_root!();
    holds(Mode::Ftfw);
}

#[test]
fn notrack_holds() {
    need_root!();
    holds(Mode::Notrack);
}

#[test]
fn alarm_holds() {
    need_root!();
    holds(Mode::Alarm);
}
