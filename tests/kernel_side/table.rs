//! Agreement with the kernel's table: resync, silent flows, selective flush.

use engine::cache::Change;
use engine::config::{Filter, Policy};
use engine::filter::FlowFilter;
use engine::kernel::{AuditReport, DumpPurpose, KernelConfig, KernelEvent};
use io::{FlowLookup, RequestSocket};
use proto_ctnl::{Content, Messages};
use shardtrack_tests::flows::{Without, marked, mixture, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::privilege::skip;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::commit::RULES;
use crate::driver::Driver;

const EVENTS: &str = "net/netfilter/nf_conntrack_events";

/// Takes the events that wait on `socket` the way a shard does; gives their port ids.
fn take_events(socket: &RequestSocket, driver: &mut Driver) -> Vec<u32> {
    socket.set_receive_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = vec![0; 8192];
    let mut ports = Vec::new();
    while let Ok(got) = socket.receive(&mut buffer) {
        for message in Messages::new(&buffer[..got.bytes]) {
            let Ok(Content::Flow(flow)) = message.unwrap().content() else { continue };
            ports.push(flow.port());
            let mut owned = proto_ctnl::Flow::default();
            flow.write_to(&mut owned).unwrap();
            driver.caches.internal.merge(&owned, 0).unwrap();
        }
    }
    ports
}

#[test]
fn silent_flows_are_found_out_and_looked_after() {
    need_root!();
    let ns = Netns::new("silent");
    let mut kernel = Kernel::of(&ns);
    let flows = plain(0, 1000);
    let (silent, loud) = flows.split_at(600);
    ns.sysctl(EVENTS, 0);
    kernel.create(silent);
    ns.sysctl(EVENTS, 1);
    kernel.create(loud);
    let listener = ns.enter(|| RequestSocket::open(4 << 20, 0).unwrap());
    for group in 1..=3 {
        listener.subscribe(group).unwrap();
    }
    let config =
        KernelConfig { audit_period: Duration::from_millis(300), ..KernelConfig::default() };
    let mut driver = Driver::of(&ns, config);
    assert!(driver.side.begin_dump(DumpPurpose::Start, &mut driver.caches));
    driver.dump();
    let events = driver.run(true);
    let checked = |event: &KernelEvent| match event {
        KernelEvent::ClassifyDone(report) => Some(report.checked),
        _ => None,
    };
    assert_eq!(events.iter().find_map(checked), Some(1000), "{events:?}");
    let ports = take_events(&listener, &mut driver);
    assert_eq!(ports.len(), 400, "those that can raise an event did, and no others");
    assert!(ports.iter().all(|port| *port == driver.ports.audit), "ours, by our port id");
    assert_eq!(driver.caches.internal.silent_len(), 600);

    kernel.delete_at(&silent[..100], 0);
    let changed: Vec<_> = silent[100..150].iter().map(|flow| marked(flow, 7)).collect();
    kernel.update_at(&changed, 0);
    assert_eq!(take_events(&listener, &mut driver).len(), 0, "nothing tells of it");
    assert!(driver.side.start_audit(Instant::now(), &driver.caches));
    let events = driver.run(true);
    let Some(KernelEvent::AuditDone(report)) = events.last() else { panic!("{events:?}") };
    assert_eq!((report.checked, report.vanished, report.changed), (600, 100, 50));
    assert_eq!(report.failed, 0);
    let mut told = [0, 0];
    while let Some((index, change)) = driver.caches.internal.next_changed() {
        told[usize::from(change == Change::Delete)] += 1;
        driver.caches.internal.sent(index, false);
    }
    assert_eq!(told, [50, 100]);
    assert_eq!(driver.caches.internal.silent_len(), 500);

    // The same by a dump, which also shows what nobody told.
    kernel.delete_at(&silent[150..200], 0);
    ns.sysctl(EVENTS, 0);
    kernel.create(&plain(5000, 10));
    assert!(driver.side.begin_dump(DumpPurpose::Reconcile, &mut driver.caches));
    driver.dump();
    let events = driver.run(true);
    let Some(KernelEvent::ResyncDone(report)) = events.first() else { panic!("{events:?}") };
    assert_eq!((report.created, report.changed, report.vanished), (10, 0, 50));
    assert_eq!(events.iter().find_map(checked), Some(10), "only the new ones are asked");
    assert_eq!(driver.caches.internal.silent_len(), 460);
    driver.caches.internal.verify();
}

#[test]
fn silent_flows_are_looked_at_without_asking() {
    need_root!();
    let ns = Netns::new("look");
    ns.nft(RULES);
    let mut kernel = Kernel::of(&ns);
    ns.sysctl(EVENTS, 0);
    let made = mixture(2000, Without { lost_keys: false });
    kernel.create(&made.flows);
    let plain = plain(100_000, 1000);
    kernel.create(&plain);
    ns.enter(|| {
        let lookup = match FlowLookup::open() {
            Ok(lookup) => lookup,
            Err(error) => {
                skip("table::silent_flows_are_looked_at_without_asking", &error.to_string());
                return;
            }
        };
        let config =
            KernelConfig { audit_period: Duration::from_millis(300), ..KernelConfig::default() };
        let mut driver = Driver::here(config);
        driver.look_with(lookup);
        assert!(driver.side.begin_dump(DumpPurpose::Start, &mut driver.caches));
        driver.dump();
        driver.run(true);
        let all = u64::from(driver.caches.internal.silent_len());
        assert!(all >= 3000);

        let begin = Instant::now();
        assert!(driver.side.start_audit(begin, &driver.caches));
        let events = driver.run(true);
        let Some(KernelEvent::AuditDone(report)) = events.last() else { panic!("{events:?}") };
        let same = AuditReport { checked: all, ..AuditReport::default() };
        assert_eq!(*report, same, "what did not change does not seem to have");
        assert!(driver.looked > 1500, "{} looked at", driver.looked);
        let asked = driver.side.counters().requests - all;
        assert!(asked < all / 2, "{asked} of {all} asked for");

        kernel.delete_at(&plain[..300], 0);
        let changed: Vec<_> = plain[300..500].iter().map(|flow| marked(flow, 7)).collect();
        kernel.update_at(&changed, 0);
        let other: Vec<_> = made.flows.iter().filter(|flow| !flow.is_related()).collect();
        let changed: Vec<_> = other.iter().map(|flow| marked(flow, 0x77)).collect();
        kernel.update_at(&changed, 0);
        assert!(driver.side.start_audit(Instant::now(), &driver.caches));
        let events = driver.run(true);
        let Some(KernelEvent::AuditDone(report)) = events.last() else { panic!("{events:?}") };
        assert_eq!((report.vanished, report.changed), (300, 200 + changed.len() as u64));
        driver.caches.internal.verify();
    });
}

#[test]
fn a_flush_deletes_what_passes_the_filter() {
    need_root!();
    let ns = Netns::new("flush");
    let mut kernel = Kernel::of(&ns);
    kernel.create(&plain(0, 1000));
    let mut kept = plain(2000, 300);
    for flow in &mut kept {
        flow.orig.proto = 17;
        flow.present.remove(proto_ctnl::Present::PROTOINFO);
    }
    kernel.create(&kept);
    let filter = FlowFilter::new(&Filter {
        protocols: Some((Policy::Ignore, vec![17])),
        ..Filter::default()
    });
    let filter = Arc::new(filter);
    let mut driver = Driver::of(&ns, KernelConfig { filter, ..KernelConfig::default() });
    assert!(driver.side.start_flush());
    driver.dump();
    let events = driver.run(true);
    let Some(KernelEvent::FlushDone(report)) = events.last() else { panic!("{events:?}") };
    assert_eq!((report.deleted, report.absent, report.failed, report.kept), (1000, 0, 0, 300));
    let mut left = 0;
    kernel.read(|batch| batch.dump(), |_| left += 1);
    assert_eq!(left, 300);
}
