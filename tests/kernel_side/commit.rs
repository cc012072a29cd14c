//! Commit of flows of every kind.

use engine::kernel::{CommitReport, KernelConfig, KernelEvent, Pass};
use shardtrack_tests::flows::{Without, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::snapshot::{Ignore, Snapshot, expectations};

use crate::driver::{Driver, as_told_by_peer, expects_as_told_by_peer};

/// Labels need a rule that uses them, translation a chain that translates.
pub(crate) const RULES: &str = "table inet t { chain c { type filter hook prerouting priority 0; \
     ct label set 1 accept; }\n\
     chain n { type nat hook postrouting priority 100; }\n}\n";

const IGNORE: Ignore =
    Ignore { tcp_window: true, sctp_tag: false, lost_keys: true, seq_adjust: false };

/// Two namespaces: one with flows of every kind, one that is empty.
pub(crate) fn two_kernels(role: &str, count: u32) -> (Netns, Kernel, Netns, Kernel) {
    let (a, b) = (Netns::new(&format!("{role}-a")), Netns::new(&format!("{role}-b")));
    for ns in [&a, &b] {
        ns.nft(RULES);
    }
    let (mut from, into) = (Kernel::of(&a), Kernel::of(&b));
    let made = mixture(count, Without { lost_keys: true });
    from.create(&made.flows);
    from.expect(&made.expectations);
    (a, from, b, into)
}

fn commit(driver: &mut Driver, pass: Pass) -> CommitReport {
    assert!(driver.side.start_commit(pass));
    let events = driver.run(true);
    for event in &events {
        if let KernelEvent::Failed(failure) = event {
            println!("{:?} {:?}", failure.errno, failure);
        }
    }
    match events.last() {
        Some(KernelEvent::CommitDone(report)) => *report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_makes_the_tables_equal() {
    need_root!();
    let (_a, mut from, b, mut into) = two_kernels("commit", 3000);
    let mut driver = Driver::of(&b, KernelConfig::default());
    let told = as_told_by_peer(&mut from);
    for flow in &told {
        driver.caches.external.replace(flow, 0).unwrap();
    }
    for expect in expects_as_told_by_peer(&mut from) {
        driver.caches.expects_external.replace(&expect, 0).unwrap();
    }
    // The wire loses what tells some flows of these protocols apart.
    let stored = driver.caches.external.alive_len();
    let mut report = commit(&mut driver, Pass::Unrelated);
    report.add(&commit(&mut driver, Pass::Related));
    let all = CommitReport { committed: u64::from(stored), ..CommitReport::default() };
    assert_eq!(report, all);
    assert!(driver.side.start_commit_expects());
    let events = driver.run(true);
    let wanted = u64::from(driver.caches.expects_external.alive_len());
    assert!(wanted > 10);
    assert!(
        matches!(events.last(), Some(KernelEvent::CommitExpectsDone(r)) if r.committed == wanted),
        "{events:?}"
    );
    let (before, after) = (Snapshot::of(&mut from, IGNORE), Snapshot::of(&mut into, IGNORE));
    let missing: Vec<_> = before.lines.difference(&after.lines).take(5).collect();
    let surplus: Vec<_> = after.lines.difference(&before.lines).take(5).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "{missing:#?}\n{surplus:#?}");
    assert_eq!(before.expiries_apart(&after, 3), Vec::<String>::new());
    assert_eq!(expectations(&mut from), expectations(&mut into));

    // Once more: everything is there, and nothing becomes different.
    let mut again = commit(&mut driver, Pass::Unrelated);
    again.add(&commit(&mut driver, Pass::Related));
    assert_eq!((again.committed, again.failed), (u64::from(stored), 0));
    assert!(again.updated > u64::from(stored) / 2, "{again:?}");
    assert_eq!(Snapshot::of(&mut into, IGNORE).lines, after.lines);
}

#[test]
fn what_differs_in_the_kernel_is_overruled() {
    need_root!();
    let (_a, mut from, b, mut into) = two_kernels("overrule", 1000);
    let mut driver = Driver::of(&b, KernelConfig::default());
    let told = as_told_by_peer(&mut from);
    // The same flows as they were long ago: other marks, no translation, seen in one direction.
    let stale: Vec<_> = told
        .iter()
        .filter(|flow| !flow.is_related())
        .map(|flow| {
            let mut flow = *flow;
            for bit in [
                proto_ctnl::Present::SNAT,
                proto_ctnl::Present::DNAT,
                proto_ctnl::Present::SPAT,
                proto_ctnl::Present::DPAT,
                proto_ctnl::Present::HELPER,
                proto_ctnl::Present::SEQADJ,
                proto_ctnl::Present::LABELS,
            ] {
                flow.present.remove(bit);
            }
            flow.status = proto_ctnl::Status::CONFIRMED;
            flow.mark = 0xdead;
            flow.present.insert(proto_ctnl::Present::MARK);
            flow
        })
        .collect();
    into.create(&stale);
    for flow in &told {
        driver.caches.external.replace(flow, 0).unwrap();
    }
    let stored = u64::from(driver.caches.external.alive_len());
    let mut report = commit(&mut driver, Pass::Unrelated);
    report.add(&commit(&mut driver, Pass::Related));
    assert_eq!((report.committed, report.failed), (stored, 0));
    let (before, after) = (Snapshot::of(&mut from, IGNORE), Snapshot::of(&mut into, IGNORE));
    let strip = |lines: &std::collections::BTreeSet<String>| -> Vec<String> {
        lines.iter().cloned().collect()
    };
    let (before, after) = (strip(&before.lines), strip(&after.lines));
    let missing: Vec<_> = before.iter().filter(|l| !after.contains(l)).take(5).collect();
    let surplus: Vec<_> = after.iter().filter(|l| !before.contains(l)).take(5).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "{missing:#?}\n{surplus:#?}");
}
