//! A peer that comes late, over a link that has to be connected.

use std::time::Duration;

use shardtrack_tests::cond::wait_equal;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};

const FLOWS: u32 = 300;
/// Longer than a node waits for the other to connect back.
const LATE: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_late_peer_is_asked_for_everything_once() {
    need_root!();
    let mut pairs = [Mode::Ftfw, Mode::Notrack].map(|mode| {
        let setup = Setup::new(Make::Ours, mode, Link::Tcp);
        let mut pair = Pair::new(setup.clone(), setup);
        Kernel::of(&pair.b.ns).create(&plain(0, FLOWS));
        pair.a.start();
        pair
    });
    std::thread::sleep(LATE);
    for pair in &mut pairs {
        let log = pair.a.log();
        assert!(!log.contains("resync requested"), "nobody is there to be asked: {log}");
        // When it has read its table; nothing was sent since, so nothing has to be again.
        assert_eq!(log.matches("sending bulk update").count(), 1, "{log}");
        pair.b.start();
    }
    for pair in &pairs {
        wait_equal(LIMIT, "flows of the late peer", &FLOWS.into(), || pair.a.cached(false));
    }
    // As long as a second request would take.
    std::thread::sleep(LATE);
    for pair in &pairs {
        for node in [&pair.a, &pair.b] {
            let log = node.log();
            let mode = node.setup.mode;
            let lines = |text: &str| log.lines().filter(|line| line.ends_with(text)).count();
            assert_eq!(lines("] resync requested"), 1, "node {} {mode:?}: {log}", node.index);
            assert_eq!(lines("] resync requested by other node"), 1, "{mode:?}: {log}");
        }
    }
}
