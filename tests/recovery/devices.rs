//! Devices of sync links that go and come back.

use std::time::Duration;

use shardtrack_tests::cond::wait_equal;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair};

const LIMIT: Duration = Duration::from_secs(15);

/// Membership of a group, and the device by which it is sent to, go with the device: nobody heard
/// anything any more until both daemons were started again.
#[test]
fn a_device_that_is_made_anew_is_used_again() {
    need_root!();
    let _alone = alone();
    for link in [Link::Multicast, Link::Multicast6, Link::Udp, Link::Udp6, Link::Tcp, Link::Tcp6] {
        let pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, link);
        let mut kernel = Kernel::of(&pair.a.ns);
        for round in 0..3 {
            kernel.create(&plain(100 * round, 100));
            let all = u64::from(100 * (round + 1));
            let what = format!("flows of the receiver over {link:?} in round {round}");
            wait_equal(LIMIT, &what, &all, || pair.b.cached(false));
            pair.a.ns.ip("link del sync0");
            pair.wire(0);
        }
    }
}
