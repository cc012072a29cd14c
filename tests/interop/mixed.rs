//! A pair whose configurations were written for different releases: deprecated words and older
//! spellings at the sender, options of the newest release at the receiver, in every mode and over
//! every transport, with the original in both roles.

use std::time::Duration;

use shardtrack_tests::flows::{Without, marked, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::peer::{LONG_ERROR_QUEUE, Link, Make, Mode, Pair, Setup};

use crate::bypass::wait_same;
use crate::replication::replicates;

/// Flows, besides those that FTP adds.
const FLOWS: u32 = 600;

/// Words that are deprecated, names of older releases, and defaults written out.
fn old(make: Make, mode: Mode, link: Link) -> Setup {
    let mut setup = Setup::new(make, mode, link);
    setup.general = "Nice -20\nSocketBufferSize 33554432\nSocketBufferSizeMaxGrown 67108864\n\
                     UNIX {\nBacklog 20\n}\n"
        .into();
    match mode {
        Mode::Ftfw => {
            setup.mode_word = Some("NACK");
            setup.mode_lines = "ResendQueueSize 262144\nACKWindowSize 100\n".into();
        }
        Mode::Notrack => setup.mode_lines = "PurgeTimeout 15\n".into(),
        Mode::Alarm => setup.mode_word = Some("PERSISTENT"),
    }
    if matches!(link, Link::Multicast | Link::Multicast6) {
        setup.link_lines = "IPv6_interface ::1\n".into();
    }
    setup.options.push_str("TCPWindowTracking Off\n");
    setup
}

/// Options that an older release did not have.
fn new(make: Make, mode: Mode, link: Link) -> Setup {
    let mut setup = Setup::new(make, mode, link);
    setup.general =
        "Systemd off\nNetlinkOverrunResync 5\nScheduler {\nType FIFO\nPriority 1\n}\n".into();
    match mode {
        Mode::Ftfw => setup.mode_lines = "StartupResync on\nDisableExternalCache off\n".into(),
        Mode::Notrack => {
            setup.mode_lines = "StartupResync on\nDisableInternalCache off\n".into();
        }
        Mode::Alarm => {}
    }
    setup.options = "ExpectationSync {\nftp\nsip\nh.245\n}\nTCPWindowTracking On\n".into();
    setup
}

fn understand(a: Make, b: Make, mode: Mode, link: Link) {
    let (mut from, mut to) = (old(a, mode, link), new(b, mode, link));
    for setup in [&mut from, &mut to] {
        if setup.make == Make::Original && link.is_tcp() {
            setup.link_lines.push_str(LONG_ERROR_QUEUE);
        }
    }
    replicates(from, to, FLOWS);
}

cases! {
    understand;
    ours_to_original_ftfw_multicast6: Ours to Original, Ftfw over Multicast6;
    ours_to_original_ftfw_tcp6: Ours to Original, Ftfw over Tcp6;
    ours_to_original_notrack_udp6: Ours to Original, Notrack over Udp6;
    ours_to_original_notrack_multicast6: Ours to Original, Notrack over Multicast6;
    ours_to_original_alarm_udp6: Ours to Original, Alarm over Udp6;
    ours_to_original_alarm_tcp6: Ours to Original, Alarm over Tcp6;
    original_to_ours_ftfw_udp6: Original to Ours, Ftfw over Udp6;
    original_to_ours_ftfw_tcp6: Original to Ours, Ftfw over Tcp6;
    original_to_ours_notrack_multicast6: Original to Ours, Notrack over Multicast6;
    original_to_ours_notrack_tcp6: Original to Ours, Notrack over Tcp6;
    original_to_ours_alarm_udp6: Original to Ours, Alarm over Udp6;
    original_to_ours_alarm_multicast6: Original to Ours, Alarm over Multicast6;
    ours_to_original_ftfw_udp: Ours to Original, Ftfw over Udp;
    ours_to_original_ftfw_udp6: Ours to Original, Ftfw over Udp6;
    ours_to_original_ftfw_multicast: Ours to Original, Ftfw over Multicast;
    ours_to_original_ftfw_tcp: Ours to Original, Ftfw over Tcp;
    ours_to_original_notrack_udp: Ours to Original, Notrack over Udp;
    ours_to_original_notrack_multicast: Ours to Original, Notrack over Multicast;
    ours_to_original_notrack_tcp: Ours to Original, Notrack over Tcp;
    ours_to_original_notrack_tcp6: Ours to Original, Notrack over Tcp6;
    ours_to_original_alarm_udp: Ours to Original, Alarm over Udp;
    ours_to_original_alarm_multicast: Ours to Original, Alarm over Multicast;
    ours_to_original_alarm_multicast6: Ours to Original, Alarm over Multicast6;
    ours_to_original_alarm_tcp: Ours to Original, Alarm over Tcp;
    original_to_ours_ftfw_udp: Original to Ours, Ftfw over Udp;
    original_to_ours_ftfw_multicast: Original to Ours, Ftfw over Multicast;
    original_to_ours_ftfw_multicast6: Original to Ours, Ftfw over Multicast6;
    original_to_ours_ftfw_tcp: Original to Ours, Ftfw over Tcp;
    original_to_ours_notrack_udp: Original to Ours, Notrack over Udp;
    original_to_ours_notrack_udp6: Original to Ours, Notrack over Udp6;
    original_to_ours_notrack_multicast: Original to Ours, Notrack over Multicast;
    original_to_ours_notrack_tcp: Original to Ours, Notrack over Tcp;
    original_to_ours_alarm_udp: Original to Ours, Alarm over Udp;
    original_to_ours_alarm_multicast: Original to Ours, Alarm over Multicast;
    original_to_ours_alarm_tcp: Original to Ours, Alarm over Tcp;
    original_to_ours_alarm_tcp6: Original to Ours, Alarm over Tcp6;
}

/// The sender has both caches, the receiver none for what it is told.
fn follow(a: Make, b: Make, mode: Mode, link: Link) {
    let (mut from, mut to) = (old(a, mode, link), Setup::new(b, mode, link));
    to.mode_lines = "StartupResync on\nDisableExternalCache on\n".into();
    for setup in [&mut from, &mut to] {
        // In what order they would come is not known.
        setup.options = String::new();
    }
    let mut pair = Pair::new(from, to);
    pair.start();
    let mut flows = mixture(FLOWS, Without { lost_keys: true }).flows;
    // Of a table in no order the original makes no flow before its master.
    flows.retain(|flow| !flow.is_related());
    let (mut a, mut b) = (Kernel::of(&pair.a.ns), Kernel::of(&pair.b.ns));
    a.create_at(&flows, 2000);
    wait_same(&mut a, &mut b, true);
    let changed: Vec<_> = flows[..50].iter().map(|flow| marked(flow, 0x77)).collect();
    a.update_at(&changed, 2000);
    a.delete_at(&flows[500..550], 2000);
    wait_same(&mut a, &mut b, true);
    // One that comes back asks for all. Two lives of the original in one second look like one: it
    // numbers its messages from the time of its start, and the first of both is the same.
    if pair.b.setup.make == Make::Original {
        std::thread::sleep(Duration::from_secs(1));
    }
    pair.b.stop();
    b.flush();
    pair.b.start();
    wait_same(&mut a, &mut b, true);
}

cases! {
    follow;
    ours_into_the_kernel_of_the_original_ftfw: Ours to Original, Ftfw over Multicast;
    ours_into_the_kernel_of_the_original_notrack: Ours to Original, Notrack over Udp;
    the_original_into_our_kernel_ftfw: Original to Ours, Ftfw over Tcp;
    the_original_into_our_kernel_notrack: Original to Ours, Notrack over Multicast;
}
