//! Injection of what a peer tells, event by event.

use engine::kernel::{InjectKind, KernelConfig, Origin};
use shardtrack_tests::flows::marked;
use shardtrack_tests::need_root;
use shardtrack_tests::snapshot::{Ignore, Snapshot};
use shardtrack_tests::table::assert_same;

use crate::commit::two_kernels;
use crate::driver::{Driver, as_told_by_peer};

#[test]
fn injected_flows_are_followed() {
    need_root!();
    let (_a, mut from, b, mut into) = two_kernels("inject", 2000);
    let config = KernelConfig { inject: true, ..KernelConfig::default() };
    let mut driver = Driver::of(&b, config);
    assert_eq!(driver.side.origin(driver.ports.write, &driver.ports), Origin::Inject);
    let ignore = Ignore { tcp_window: true, sctp_tag: false, lost_keys: true, seq_adjust: false };
    let told = as_told_by_peer(&mut from);
    // What stands alone first: the peer tells masters before what they expected.
    let (alone, related): (Vec<_>, Vec<_>) = told.iter().partition(|flow| !flow.is_related());
    for flow in alone.into_iter().chain(related) {
        driver.side.inject(InjectKind::New, flow).unwrap();
    }
    driver.run(true);
    let (there, here) = (Snapshot::of(&mut from, ignore), Snapshot::of(&mut into, ignore));
    assert_same(("the peer's kernel", &there.lines), ("this kernel", &here.lines));

    // Updates that the kernel takes, one that it does not know, and the end of some.
    for flow in told.iter().step_by(3) {
        driver.side.inject(InjectKind::Update, &marked(flow, 0x55)).unwrap();
    }
    for flow in told.iter().skip(1).step_by(3).filter(|flow| !flow.is_related()) {
        driver.side.inject(InjectKind::Delete, flow).unwrap();
        driver.side.inject(InjectKind::Delete, flow).unwrap();
    }
    driver.run(true);
    assert_eq!(driver.side.counters().injected().failed, 0);
    let here = Snapshot::of(&mut into, ignore);
    let marks = here.lines.iter().filter(|line| line.contains("mark=00000055")).count();
    assert!(marks > told.len() / 4, "{marks} of {}", told.len());
    assert!(here.lines.len() < told.len() * 3 / 4);
}
