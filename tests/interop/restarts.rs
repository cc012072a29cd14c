//! A peer that ends in the middle of a churn of flows, in order or not, and comes back: over every
//! transport, with the original in both roles. Not tried is an original that sends a large table again
//! over TCP without acknowledgements: most of it did not arrive.

use std::time::Duration;

use shardtrack_tests::churn::{Churn, apart};
use shardtrack_tests::cond::wait_until;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};

/// Operations per second.
const RATE: u32 = 5000;
/// How long a node may take to know what it missed.
const CONVERGE: Duration = Duration::from_secs(20);
/// How long flows change before, during and after an absence.
const WHILE: Duration = Duration::from_millis(700);

/// The receiver is killed, and comes back, and is stopped, and comes back.
fn survives(a: Make, b: Make, mode: Mode, link: Link) {
    let _alone = alone();
    let setup = |make| {
        let mut setup = Setup::new(make, mode, link);
        if make == Make::Original {
            // Ours asks by itself.
            setup.mode_lines = "StartupResync on\n".into();
        }
        setup
    };
    let mut pair = Pair::new(setup(a), setup(b));
    pair.start();
    let mut churn = Churn::start(&pair.a.ns, RATE);
    for killed in [true, false] {
        std::thread::sleep(WHILE);
        if killed {
            pair.b.kill9();
        } else {
            pair.b.stop();
        }
        std::thread::sleep(WHILE);
        pair.b.start();
        wait_until(CONVERGE, "it hears of flows again", || pair.b.cached(false) > 0);
    }
    std::thread::sleep(WHILE);
    assert!(churn.stop() > 1000);
    let differing = apart(&pair, CONVERGE, mode == Mode::Notrack);
    assert_eq!(differing, None);
}

macro_rules! restarts {
    ($($name:ident: $a:ident to $b:ident, $mode:ident over $link:ident;)*) => {$(
        #[test]
        fn $name() {
            need_root!();
            survives(Make::$a, Make::$b, Mode::$mode, Link::$link);
        }
    )*};
}

restarts! {
    ours_comes_back_to_ours_ftfw_tcp6: Ours to Ours, Ftfw over Tcp6;
    the_original_comes_back_to_ours_ftfw_udp6: Ours to Original, Ftfw over Udp6;
    the_original_comes_back_to_ours_ftfw_multicast6: Ours to Original, Ftfw over Multicast6;
    the_original_comes_back_to_ours_notrack_tcp6: Ours to Original, Notrack over Tcp6;
    ours_comes_back_to_the_original_ftfw_udp6: Original to Ours, Ftfw over Udp6;
    ours_comes_back_to_the_original_ftfw_multicast6: Original to Ours, Ftfw over Multicast6;
}
