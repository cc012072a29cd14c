//! One node holds 5,000 flows and expectations; the other learns them, prints them and commits
//! them.

use std::time::Duration;

use shardtrack_tests::cond::{settle, wait_until};
use shardtrack_tests::flows::{Mixture, Without, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::privilege::is_inside;
use shardtrack_tests::snapshot::{Ignore, Snapshot, expectations};
use shardtrack_tests::table::{Masks, assert_same, cache_lines, expect_lines};

/// Flows, besides those that FTP adds.
const FLOWS: u32 = 5000;
/// How long replication and a commit may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Everything that acceptance of a pair takes, with about so many flows.
pub(crate) fn replicates(from: Setup, to: Setup, flows: u32) {
    let _alone = alone();
    let mut pair = Pair::new(from, to);
    pair.start();
    let mixture = mixture(flows, Without::default());
    let mut sender = Kernel::of(&pair.a.ns);
    fill(&mut sender, &mixture);
    arrived(&pair, &mixture);
    caches_agree(&pair);
    statistics_are_read(&pair);
    commits(&pair, &mut sender, flows);
    forgets(&pair, &mut sender);
}

fn fill(kernel: &mut Kernel, mixture: &Mixture) {
    // At a rate that even NOTRACK without acknowledgements survives.
    kernel.create_at(&mixture.flows, if is_inside() { 2000 } else { 20_000 });
    kernel.expect(&mixture.expectations);
}

fn arrived(pair: &Pair, mixture: &Mixture) {
    let flows = mixture.flows.len() as u64;
    wait_until(LIMIT, "the sender knows its flows", || pair.a.cached(true) == flows);
    wait_until(LIMIT, "the receiver knows them", || pair.b.cached(false) >= flows);
    // Expectations come last.
    settle(LIMIT, Duration::from_millis(500), || pair.b.client(&["-e", "expect"]).len());
}

/// `-e` of the receiver is `-i` of the sender, whichever program asks.
fn caches_agree(pair: &Pair) {
    let masks = Masks::PROTOCOL;
    for client in [Make::Original, pair.a.setup.make] {
        let sent = cache_lines(&pair.a.client_of(client, &["-i"]), masks);
        let received = cache_lines(&pair.b.client_of(client, &["-e"]), masks);
        assert_same(("-i of the sender", &sent), ("-e of the receiver", &received));
        let sent = expect_lines(&pair.a.client_of(client, &["-i", "expect"]));
        let received = expect_lines(&pair.b.client_of(client, &["-e", "expect"]));
        assert!(!sent.is_empty(), "no expectations in the internal cache");
        assert_same(("expectations of the sender", &sent), ("of the receiver", &received));
    }
}

/// The original's client reads the statistics of either make.
fn statistics_are_read(pair: &Pair) {
    for node in [&pair.a, &pair.b] {
        let client = |what: &[&str]| node.client_of(Make::Original, what);
        let general = client(&["-s"]);
        for label in ["cache internal:", "cache external:", "message tracking:"] {
            assert!(general.contains(label), "-s lacks `{label}`:\n{general}");
        }
        let network = client(&["-s", "network"]);
        assert!(network.contains("Malformed messages:"), "-s network:\n{network}");
        let cache = client(&["-s", "cache"]);
        assert!(cache.contains("active/total entries:"), "-s cache:\n{cache}");
        assert!(client(&["-s", "runtime"]).contains("daemon uptime:"));
        // The kernel tells of a carrier at most once a second.
        wait_until(LIMIT, "the link runs", || {
            client(&["-s", "link"]).contains("status=RUNNING role=ACTIVE")
        });
        assert!(client(&["-s", "queue"]).contains("queue txqueue:"));
    }
    assert_eq!(pair.b.counter(28, "Malformed messages:"), Some(0), "malformed at the receiver");
}

/// After a commit the receiver's kernel holds what the sender's does.
fn commits(pair: &Pair, sender: &mut Kernel, flows: u32) {
    let mut receiver = Kernel::of(&pair.b.ns);
    pair.b.client(&["-c"]);
    let by_original = pair.b.setup.make == Make::Original;
    let ignore =
        Ignore { tcp_window: true, sctp_tag: by_original, lost_keys: true, seq_adjust: false };
    let here = Snapshot::of(sender, ignore);
    let there = Snapshot::of(&mut receiver, ignore);
    assert!(
        here.lines.len() as u32 >= flows / 13 * 11,
        "only {} flows to compare",
        here.lines.len()
    );
    assert_same(("the sender's kernel", &here.lines), ("the receiver's kernel", &there.lines));
    // A loaded machine takes its time between the event, the message and the commit.
    let apart = here.expiries_apart(&there, 10);
    assert!(apart.is_empty(), "{} expiries differ, the first: {}", apart.len(), apart[0]);
    let here = expectations(sender);
    assert!(!here.is_empty(), "no expectations in the sender's kernel");
    let there = expectations(&mut receiver);
    assert_same(("the sender's expectations", &here), ("the receiver's", &there));
}

/// What is deleted here is forgotten there.
fn forgets(pair: &Pair, sender: &mut Kernel) {
    sender.flush();
    wait_until(LIMIT, "the sender forgets", || pair.a.cached(true) == 0);
    wait_until(LIMIT, "the receiver forgets", || pair.b.cached(false) == 0);
}

/// A pair that is configured alike.
fn alike(from: Make, to: Make, mode: Mode, link: Link) {
    replicates(Setup::new(from, mode, link), Setup::new(to, mode, link), FLOWS);
}

cases! {
    alike;
    original_to_original_ftfw_udp: Original to Original, Ftfw over Udp;
    original_to_original_ftfw_multicast: Original to Original, Ftfw over Multicast;
    original_to_original_notrack_udp: Original to Original, Notrack over Udp;
    original_to_original_notrack_multicast: Original to Original, Notrack over Multicast;
    original_to_original_notrack_tcp: Original to Original, Notrack over Tcp;
    ours_to_original_ftfw_udp: Ours to Original, Ftfw over Udp;
    ours_to_original_ftfw_multicast: Ours to Original, Ftfw over Multicast;
    ours_to_original_notrack_udp: Ours to Original, Notrack over Udp;
    ours_to_original_notrack_multicast: Ours to Original, Notrack over Multicast;
    ours_to_original_notrack_tcp: Ours to Original, Notrack over Tcp;
    original_to_ours_ftfw_udp: Original to Ours, Ftfw over Udp;
    original_to_ours_ftfw_multicast: Original to Ours, Ftfw over Multicast;
    original_to_ours_notrack_udp: Original to Ours, Notrack over Udp;
    original_to_ours_notrack_multicast: Original to Ours, Notrack over Multicast;
    original_to_ours_notrack_tcp: Original to Ours, Notrack over Tcp;
    ours_to_original_alarm_udp: Ours to Original, Alarm over Udp;
    original_to_ours_alarm_udp: Original to Ours, Alarm over Udp;
    ours_to_ours_ftfw_udp: Ours to Ours, Ftfw over Udp;
    ours_to_ours_ftfw_udp6: Ours to Ours, Ftfw over Udp6;
    ours_to_ours_ftfw_multicast: Ours to Ours, Ftfw over Multicast;
    ours_to_ours_ftfw_tcp: Ours to Ours, Ftfw over Tcp;
    ours_to_ours_notrack_udp: Ours to Ours, Notrack over Udp;
    ours_to_ours_notrack_multicast: Ours to Ours, Notrack over Multicast;
    ours_to_ours_notrack_tcp: Ours to Ours, Notrack over Tcp;
}

/// One test per way that events leave the kernel and number of shards.
macro_rules! engines {
    ($($name:ident: $intake:literal with $shards:literal;)*) => {$(
        #[test]
        fn $name() {
            need_root!();
            let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
            setup.engine = format!("Intake {}\nShards {}", $intake, $shards);
            replicates(setup.clone(), setup, FLOWS);
        }
    )*};
}

engines! {
    engine_ring_1: "ring" with 1;
    engine_ring_2: "ring" with 2;
    engine_ring_4: "ring" with 4;
    engine_filter_1: "filter" with 1;
    engine_filter_2: "filter" with 2;
    engine_filter_4: "filter" with 4;
    engine_single_1: "single" with 1;
    engine_single_2: "single" with 2;
    engine_single_4: "single" with 4;
}
