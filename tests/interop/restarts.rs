//! A peer that ends in the middle of a churn of flows, in order or not, and comes back: in every mode
//! and over every transport, with the original in both roles.

use std::time::Duration;

use shardtrack_tests::churn::{Churn, apart};
use shardtrack_tests::cond::wait_until;
use shardtrack_tests::peer::{LONG_ERROR_QUEUE, Link, Make, Mode, Pair, Setup};

/// Operations per second.
const RATE: u32 = 5000;
/// How long a node may take to know what it missed.
const CONVERGE: Duration = Duration::from_secs(20);
/// How long flows change before, during and after an absence.
const WHILE: Duration = Duration::from_millis(700);

/// The receiver is killed, and comes back, and is stopped, and comes back.
fn survives(a: Make, b: Make, mode: Mode, link: Link) {
    let setup = |make| {
        let mut setup = Setup::new(make, mode, link);
        if make == Make::Original && mode != Mode::Alarm {
            // Ours asks by itself.
            setup.mode_lines = "StartupResync on\n".into();
        }
        if make == Make::Original && link.is_tcp() {
            setup.link_lines = LONG_ERROR_QUEUE.into();
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

/// The sender is killed, and comes back, and is stopped, and comes back.
fn sender_survives(a: Make, b: Make, mode: Mode, link: Link) {
    let mut setup = Setup::new(a, mode, link);
    if link.is_tcp() {
        setup.link_lines = LONG_ERROR_QUEUE.into();
    }
    let mut pair = Pair::new(setup, Setup::new(b, mode, link));
    pair.start();
    let mut churn = Churn::start(&pair.a.ns, RATE);
    for killed in [true, false] {
        std::thread::sleep(WHILE);
        if killed {
            pair.a.kill9();
        } else {
            pair.a.stop();
        }
        std::thread::sleep(WHILE);
        pair.a.start();
    }
    std::thread::sleep(WHILE);
    assert!(churn.stop() > 1000);
    if a == Make::Original {
        // What it lost of the events it would read again after half a minute.
        pair.a.client(&["-R"]);
    }
    if mode != Mode::Alarm {
        // What began while it was away was told to nobody, and what ended then is told never.
        pair.b.client(&["-n"]);
    }
    // In mode ALARM all of it is told again, and what is not is forgotten.
    assert_eq!(apart(&pair, CONVERGE, mode != Mode::Alarm), None);
}

cases! {
    sender_survives;
    the_original_comes_back_as_sender_ftfw_udp: Original to Ours, Ftfw over Udp;
    the_original_comes_back_as_sender_ftfw_tcp: Original to Ours, Ftfw over Tcp;
    the_original_comes_back_as_sender_ftfw_multicast: Original to Ours, Ftfw over Multicast;
    the_original_comes_back_as_sender_notrack_udp6: Original to Ours, Notrack over Udp6;
    the_original_comes_back_as_sender_notrack_multicast: Original to Ours, Notrack over Multicast;
    the_original_comes_back_as_sender_notrack_tcp: Original to Ours, Notrack over Tcp;
    the_original_comes_back_as_sender_alarm_udp: Original to Ours, Alarm over Udp;
    the_original_comes_back_as_sender_alarm_multicast: Original to Ours, Alarm over Multicast;
    the_original_comes_back_as_sender_alarm_tcp: Original to Ours, Alarm over Tcp;
    the_original_comes_back_as_sender_ftfw_tcp6: Original to Ours, Ftfw over Tcp6;
    the_original_comes_back_as_sender_alarm_multicast6: Original to Ours, Alarm over Multicast6;
    the_original_comes_back_as_sender_alarm_udp6: Original to Ours, Alarm over Udp6;
    the_original_comes_back_as_sender_alarm_tcp6: Original to Ours, Alarm over Tcp6;
    the_original_comes_back_as_sender_ftfw_udp6: Original to Ours, Ftfw over Udp6;
    the_original_comes_back_as_sender_ftfw_multicast6: Original to Ours, Ftfw over Multicast6;
    the_original_comes_back_as_sender_notrack_multicast6: Original to Ours, Notrack over Multicast6;
    the_original_comes_back_as_sender_notrack_udp: Original to Ours, Notrack over Udp;
    the_original_comes_back_as_sender_notrack_tcp6: Original to Ours, Notrack over Tcp6;
    ours_comes_back_as_sender_ftfw_udp: Ours to Original, Ftfw over Udp;
    ours_comes_back_as_sender_ftfw_tcp6: Ours to Original, Ftfw over Tcp6;
    ours_comes_back_as_sender_ftfw_multicast: Ours to Original, Ftfw over Multicast;
    ours_comes_back_as_sender_notrack_udp: Ours to Original, Notrack over Udp;
    ours_comes_back_as_sender_notrack_tcp: Ours to Original, Notrack over Tcp;
    ours_comes_back_as_sender_notrack_multicast6: Ours to Original, Notrack over Multicast6;
    ours_comes_back_as_sender_alarm_udp6: Ours to Original, Alarm over Udp6;
    ours_comes_back_as_sender_alarm_multicast: Ours to Original, Alarm over Multicast;
    ours_comes_back_as_sender_alarm_tcp: Ours to Original, Alarm over Tcp;
}

cases! {
    survives;
    ours_comes_back_to_ours_ftfw_tcp6: Ours to Ours, Ftfw over Tcp6;
    the_original_comes_back_to_ours_ftfw_udp6: Ours to Original, Ftfw over Udp6;
    the_original_comes_back_to_ours_ftfw_multicast6: Ours to Original, Ftfw over Multicast6;
    the_original_comes_back_to_ours_notrack_tcp6: Ours to Original, Notrack over Tcp6;
    the_original_comes_back_to_ours_ftfw_tcp6: Ours to Original, Ftfw over Tcp6;
    the_original_comes_back_to_ours_notrack_udp6: Ours to Original, Notrack over Udp6;
    the_original_comes_back_to_ours_notrack_multicast6: Ours to Original, Notrack over Multicast6;
    the_original_comes_back_to_ours_alarm_udp6: Ours to Original, Alarm over Udp6;
    the_original_comes_back_to_ours_alarm_tcp6: Ours to Original, Alarm over Tcp6;
    the_original_comes_back_to_ours_alarm_multicast6: Ours to Original, Alarm over Multicast6;
    ours_comes_back_to_the_original_ftfw_udp6: Original to Ours, Ftfw over Udp6;
    ours_comes_back_to_the_original_ftfw_multicast6: Original to Ours, Ftfw over Multicast6;
    the_original_comes_back_to_ours_ftfw_udp: Ours to Original, Ftfw over Udp;
    the_original_comes_back_to_ours_ftfw_multicast: Ours to Original, Ftfw over Multicast;
    the_original_comes_back_to_ours_ftfw_tcp: Ours to Original, Ftfw over Tcp;
    the_original_comes_back_to_ours_notrack_udp: Ours to Original, Notrack over Udp;
    the_original_comes_back_to_ours_notrack_multicast: Ours to Original, Notrack over Multicast;
    the_original_comes_back_to_ours_notrack_tcp: Ours to Original, Notrack over Tcp;
    the_original_comes_back_to_ours_alarm_udp: Ours to Original, Alarm over Udp;
    the_original_comes_back_to_ours_alarm_multicast: Ours to Original, Alarm over Multicast;
    the_original_comes_back_to_ours_alarm_tcp: Ours to Original, Alarm over Tcp;
    ours_comes_back_to_the_original_ftfw_udp: Original to Ours, Ftfw over Udp;
    ours_comes_back_to_the_original_ftfw_multicast: Original to Ours, Ftfw over Multicast;
    ours_comes_back_to_the_original_ftfw_tcp: Original to Ours, Ftfw over Tcp;
    ours_comes_back_to_the_original_notrack_udp: Original to Ours, Notrack over Udp;
    ours_comes_back_to_the_original_notrack_multicast: Original to Ours, Notrack over Multicast;
    ours_comes_back_to_the_original_notrack_tcp: Original to Ours, Notrack over Tcp;
    ours_comes_back_to_the_original_notrack_tcp6: Original to Ours, Notrack over Tcp6;
    ours_comes_back_to_the_original_alarm_udp: Original to Ours, Alarm over Udp;
    ours_comes_back_to_the_original_alarm_multicast: Original to Ours, Alarm over Multicast;
    ours_comes_back_to_the_original_alarm_tcp: Original to Ours, Alarm over Tcp;
}
