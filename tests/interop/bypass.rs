//! `DisableInternalCache` and `DisableExternalCache` together: from kernel to kernel, and nothing is
//! kept on either node.

use std::collections::BTreeSet;
use std::time::Duration;

use shardtrack_tests::cond::{wait_equal, wait_for, wait_until};
use shardtrack_tests::flows::{Without, marked, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup};
use shardtrack_tests::snapshot::{Ignore, Snapshot};
use shardtrack_tests::table::difference;

const LIMIT: Duration = Duration::from_secs(15);

fn setup(make: Make) -> Setup {
    let mut setup = Setup::new(make, Mode::Notrack, Link::Udp);
    setup.mode_lines = "DisableInternalCache on\nDisableExternalCache on\n".into();
    // In this mode the original takes expectations for orphans.
    setup.options = String::new();
    setup
}

/// Waits until the receiver's kernel holds what the sender's does.
#[track_caller]
pub(crate) fn wait_same(from: &mut Kernel, into: &mut Kernel, sctp_tag: bool) {
    let ignore = Ignore { tcp_window: true, sctp_tag, lost_keys: true, seq_adjust: false };
    let mut differs = None;
    let same = wait_for(LIMIT, || {
        let (here, there) = (Snapshot::of(from, ignore), Snapshot::of(into, ignore));
        differs = difference(("the sender", &here.lines), ("the receiver", &there.lines), 8);
        assert!(here.lines.len() > 400, "only {} flows", here.lines.len());
        differs.is_none().then_some(())
    });
    assert!(same.is_some(), "{}", differs.unwrap_or_default());
}

/// A table's lines without what moves: the seconds left.
fn lines(table: &str) -> BTreeSet<String> {
    let still = |line: &str| {
        let words = line.split_whitespace().enumerate();
        words.filter(|(i, _)| *i != 2).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    };
    table.lines().map(still).collect()
}

fn bypassed(node: &Node) -> [u64; 3] {
    ["connections new:", "connections updated:", "connections destroyed:"].map(|label| {
        let text = node.request(21).unwrap_or_default();
        let (block, _) = text.split_once("external inject:").expect("a block for the injector");
        assert!(block.starts_with("internal bypass:\n"), "{text}");
        let line = block.lines().find_map(|line| line.strip_prefix(label)).expect("a line");
        line.trim().parse().expect("a number")
    })
}

fn follows(from: Make, to: Make) {
    let mut pair = Pair::new(setup(from), setup(to));
    pair.start();
    let mut flows = mixture(600, Without { lost_keys: true }).flows;
    if to == Make::Original {
        // The kernel's table is in no order, and the original makes no flow before its master.
        flows.retain(|flow| !flow.is_related());
    }
    let (mut a, mut b) = (Kernel::of(&pair.a.ns), Kernel::of(&pair.b.ns));
    a.create_at(&flows, 2000);
    let sctp_tag = from == Make::Original || to == Make::Original;
    wait_same(&mut a, &mut b, sctp_tag);
    assert_eq!(bypassed(&pair.a), [flows.len() as u64, 0, 0]);

    let changed: Vec<_> = flows[..50].iter().map(|flow| marked(flow, 0x77)).collect();
    a.update_at(&changed, 2000);
    a.delete_at(&flows[500..550], 2000);
    wait_same(&mut a, &mut b, sctp_tag);
    let [new, updated, destroyed] = bypassed(&pair.a);
    assert_eq!((new, destroyed), (flows.len() as u64, 50));
    assert!(updated >= 50, "{updated} updates");
    // What was put there by the daemon is told to nobody.
    assert_eq!(bypassed(&pair.b), [0, 0, 0]);

    // Nothing is kept, and the peer gets all of the kernel's table all the same.
    pair.b.stop();
    b.flush();
    pair.b.start();
    // Ours asks when it starts.
    if to == Make::Original {
        pair.a.client(&["-B"]);
    }
    wait_same(&mut a, &mut b, sctp_tag);
    if from == Make::Ours {
        commands(&pair, &mut a);
    }
}

/// The commands whose meaning is another one without an internal cache.
fn commands(pair: &Pair, kernel: &mut Kernel) {
    let internal = pair.a.client(&["-i"]);
    let conntrack = pair.a.ns.command("/usr/sbin/conntrack").arg("-L").output();
    let listed = conntrack.expect("conntrack runs").stdout;
    let (shown, listed) = (lines(&internal), lines(&String::from_utf8_lossy(&listed)));
    assert!(shown.len() > 400, "{} lines", shown.len());
    if let Some(text) = difference(("-i", &shown), ("conntrack -L", &listed), 8) {
        panic!("{text}");
    }
    assert_eq!(pair.a.client(&["-e"]), "");
    pair.a.client(&["-R", "ct"]);
    pair.a.told("resync is unsupported in this mode");
    pair.a.client(&["-f"]);
    wait_until(LIMIT, "-f empties the kernel's table", || {
        let mut left = 0;
        kernel.read(|batch| batch.dump(), |_| left += 1);
        left == 0
    });
    wait_equal(LIMIT, "lines of -i", &0, || pair.a.client(&["-i"]).lines().count());
}

#[test]
fn ours_without_caches_to_the_original() {
    need_root!();
    follows(Make::Ours, Make::Original);
}

#[test]
fn the_original_without_caches_to_ours() {
    need_root!();
    follows(Make::Original, Make::Ours);
}

#[test]
fn ours_without_caches_to_ours() {
    need_root!();
    follows(Make::Ours, Make::Ours);
}
