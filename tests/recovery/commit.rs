//! A takeover with traffic: what begins while the backup commits is known afterwards, and what was
//! committed reports its end.

use std::process::{Command, Stdio};
use std::time::Duration;

use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup};
use shardtrack_tests::snapshot::{Ignore, Snapshot};
use shardtrack_tests::table::{Masks, cache_lines};

const FLOWS: u32 = 100_000;
/// Flows that begin during the commit.
const OTHERS: u32 = 10_000;
/// A request of the control protocol.
const FLUSH_INTERNAL: u32 = 33;

fn nothing_is_missed(intake: &str) {
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.engine = format!("Intake {intake}");
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    Kernel::of(&pair.a.ns).create_at(&plain(0, FLOWS), 50_000);
    let (all, limit) = (u64::from(FLOWS), Duration::from_secs(20));
    wait_equal(limit, "flows of the backup", &all, || pair.b.cached(false));
    pair.a.kill9();
    let mut kernel = Kernel::of(&pair.b.ns);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| kernel.create_at(&plain(FLOWS, OTHERS), 20_000));
        pair.b.client(&["-c"]);
        traffic.join().expect("the kernel takes them");
    });
    let all = u64::from(FLOWS + OTHERS);
    wait_equal(limit, "own flows of the new primary", &all, || pair.b.cached(true));
    let known = cache_lines(&pair.b.client(&["-i"]), Masks::NONE);
    assert_eq!(Snapshot::of(&mut kernel, Ignore::default()).lines.len(), known.len());
    assert_eq!(pair.b.counter(30, "netlink overrun:"), Some(0));
    // Looking for the end of silent flows takes a minute.
    kernel.flush();
    wait_equal(Duration::from_secs(10), "own flows after their end", &0, || pair.b.cached(true));
}

#[test]
fn a_takeover_with_traffic_misses_nothing_ring() {
    need_root!();
    let _alone = alone();
    nothing_is_missed("ring");
}

#[test]
fn a_takeover_with_traffic_misses_nothing_filter() {
    need_root!();
    let _alone = alone();
    nothing_is_missed("filter");
}

#[test]
fn a_takeover_with_traffic_misses_nothing_single() {
    need_root!();
    let _alone = alone();
    nothing_is_missed("single");
}

/// A flush takes away what a dump shows, and the dump shows what is committed meanwhile.
#[test]
fn a_commit_waits_for_a_flush() {
    need_root!();
    let _alone = alone();
    let pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, Link::Udp);
    let (committed, flushed) = (50_000, 150_000);
    let mut kernel = Kernel::of(&pair.b.ns);
    Kernel::of(&pair.a.ns).create_at(&plain(0, committed), 50_000);
    kernel.create_at(&plain(committed, flushed), 0);
    let limit = Duration::from_secs(20);
    wait_equal(limit, "own flows of the backup", &flushed.into(), || pair.b.cached(true));
    wait_equal(limit, "flows of the other", &committed.into(), || pair.b.cached(false));
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| pair.b.client(&["-F"]));
        wait_until(limit, "the flush is under way", || pair.b.cached(true) < flushed.into());
        pair.b.client(&["-c"]);
        assert!(flush.is_finished(), "the flush was first");
    });
    let left = Snapshot::of(&mut kernel, Ignore::default()).lines.len();
    assert_eq!(left, committed as usize);
}

/// Whether the node's kernel has flows; to read them would take as long as a commit of them.
fn has_flows(node: &Node) -> bool {
    node.ns.read_sysctl("net/netfilter/nf_conntrack_count") != "0"
}

/// Without an internal cache `-f internal` empties the kernel's table, as `-F` does, and is as little
/// to be done during a commit.
#[test]
fn a_commit_goes_before_a_flush_of_what_stands_for_the_internal_cache() {
    need_root!();
    let _alone = alone();
    let teller = Setup::new(Make::Ours, Mode::Notrack, Link::Udp);
    let mut taker = teller.clone();
    taker.mode_lines = "DisableInternalCache on\n".into();
    let mut pair = Pair::new(teller, taker);
    pair.start();
    let flows = 200_000;
    Kernel::of(&pair.a.ns).create_at(&plain(0, flows), 50_000);
    wait_equal(Duration::from_secs(20), "flows of the other", &flows.into(), || {
        pair.b.cached(false)
    });
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| pair.b.client(&["-c"]));
        wait_until(Duration::from_secs(5), "the commit is under way", || has_flows(&pair.b));
        pair.b.request(FLUSH_INTERNAL);
        assert!(!commit.is_finished(), "the commit was first");
    });
    pair.b.told("ignoring flush command, commit still in progress");
    let left = Snapshot::of(&mut Kernel::of(&pair.b.ns), Ignore::default()).lines.len();
    assert_eq!(left, flows as usize);
}

/// Who waits for a commit is not told that there is no daemon, and not that it was done.
#[test]
fn a_commit_that_the_end_of_the_daemon_cuts_short_has_failed() {
    need_root!();
    let _alone = alone();
    let mut pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, Link::Udp);
    let flows = 200_000;
    Kernel::of(&pair.a.ns).create_at(&plain(0, flows), 50_000);
    wait_equal(Duration::from_secs(20), "flows of the other", &flows.into(), || {
        pair.b.cached(false)
    });
    let mut client = Command::new(Make::Ours.program("conntrackd"));
    client.arg("-C").arg(pair.b.directory().join("conf")).arg("-c");
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(Duration::from_secs(5), "the commit is under way", || has_flows(&pair.b));
    pair.b.stop();
    let output = client.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the daemon could not do all of it"), "{told}");
}
