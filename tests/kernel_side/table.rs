//! Agreement with the kernel's table: resync, silent flows, selective flush.

use engine::cache::Change;
use engine::config::{Filter, Policy};
use engine::filter::FlowFilter;
use engine::kernel::{DumpPurpose, KernelConfig, KernelEvent};
use io::RequestSocket;
use proto_ctnl::{Content, Messages};
use shardtrack_tests::flows::{marked, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use std::time::{Duration, Instant};

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
