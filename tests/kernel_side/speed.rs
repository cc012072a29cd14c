//! What commit costs beside a loop that does nothing but insert.

use std::time::{Duration, Instant};

use engine::kernel::{DumpPurpose, KernelConfig, KernelEvent, Pass};
use io::FlowLookup;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::{TableSize, alone};
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::privilege::skip;
use shardtrack_tests::proc::cpu_time;

use crate::driver::Driver;

const FLOWS: u32 = 500_000;

#[test]
#[ignore = "measures; run it optimised and alone"]
fn a_commit_is_as_fast_as_inserting() {
    need_root!();
    let _alone = alone();
    let Ok(_size) = TableSize::at_least(u64::from(FLOWS) + 100_000) else {
        skip("speed of a commit", "nf_conntrack_max is not ours to raise");
        return;
    };
    let ns = Netns::new("speed");
    let mut kernel = Kernel::of(&ns);
    let flows = plain(0, FLOWS);
    let mut driver = Driver::of(&ns, KernelConfig::default());
    for flow in &flows {
        driver.caches.external.replace(flow, 0).unwrap();
    }
    for round in 0..3 {
        let bare = timed(|| kernel.create(&flows));
        kernel.flush();
        let mut updated = 0;
        let mut commit = || {
            assert!(driver.side.start_commit(Pass::Unrelated));
            let events = driver.run(true);
            let Some(KernelEvent::CommitDone(report)) = events.last() else { panic!("{events:?}") };
            assert_eq!(report.committed, u64::from(FLOWS));
            updated = report.updated;
        };
        let first = timed(&mut commit);
        let again = timed(&mut commit);
        assert_eq!(updated, u64::from(FLOWS));
        kernel.flush();
        let ratio = |at: fn(&Spent) -> Duration| at(&first).as_secs_f64() / at(&bare).as_secs_f64();
        println!(
            "{round}: bare loop {bare:?}, commit {first:?}, ratio {:.2} (processor {:.2}), over \
             what exists {again:?}",
            ratio(|spent| spent.wall),
            ratio(|spent| spent.processor),
        );
    }
}

#[test]
#[ignore = "measures; run it optimised and alone"]
fn what_silent_flows_cost() {
    need_root!();
    let _alone = alone();
    let ns = Netns::new("cost");
    let mut kernel = Kernel::of(&ns);
    ns.sysctl("net/netfilter/nf_conntrack_events", 0);
    let flows = plain(0, 200_000);
    kernel.create(&flows);
    ns.enter(|| {
        let config = KernelConfig { audit_period: Duration::ZERO, ..KernelConfig::default() };
        let mut driver = Driver::here(config);
        let each = |what: &str, spent: Spent| {
            let processor = spent.processor.as_secs_f64() * 1e6 / flows.len() as f64;
            println!(
                "{what}: {processor:.2} us per flow, {:.2} % of a core per million in 52 s",
                processor / 52.0 * 100.0
            );
        };
        assert!(driver.side.begin_dump(DumpPurpose::Start, &mut driver.caches));
        driver.dump();
        each("classified", timed(|| drop(driver.run(true))));
        for _ in 0..3 {
            let asked = timed(|| {
                assert!(driver.side.start_audit(Instant::now(), &driver.caches));
                driver.run(true);
            });
            each("asked", asked);
            let dumped = timed(|| {
                assert!(driver.side.begin_dump(DumpPurpose::Reconcile, &mut driver.caches));
                driver.dump();
                driver.run(true);
            });
            each("dumped", dumped);
        }
        let Ok(lookup) = FlowLookup::open() else { return };
        driver.look_with(lookup);
        for _ in 0..5 {
            let looked = timed(|| {
                assert!(driver.side.start_audit(Instant::now(), &driver.caches));
                driver.run(true);
            });
            each("looked at", looked);
        }
    });
}

/// Time that passed, and time that this process had a core.
#[derive(Debug)]
struct Spent {
    wall: Duration,
    processor: Duration,
}

fn timed(work: impl FnOnce()) -> Spent {
    let processor = || cpu_time(std::process::id()).unwrap();
    let (begin, before) = (Instant::now(), processor());
    work();
    Spent { wall: begin.elapsed(), processor: processor() - before }
}
