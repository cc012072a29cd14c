//! Injection: every answer of the kernel, and the order of what concerns one flow.

use std::net::{IpAddr, Ipv4Addr};

use super::super::errno::*;
use super::*;

#[test]
fn injection_follows_the_peer() {
    let mut b = injecting();
    b.side.inject(InjectKind::New, &with_mark(tcp(1), 1)).unwrap();
    b.side.inject(InjectKind::Update, &with_mark(tcp(1), 2)).unwrap();
    b.side.inject(InjectKind::New, &tcp(2)).unwrap();
    b.side.inject(InjectKind::Delete, &tcp(2)).unwrap();
    b.side.inject(InjectKind::Delete, &tcp(3)).unwrap();
    b.run();
    assert_eq!(steps(&b), ["create", "update", "create", "delete", "delete"]);
    assert_eq!(b.side.counters().batches, 1, "nobody waits for anybody");
    assert_eq!((b.table.len(), b.table[0].mark), (1, 2));
    assert_eq!((b.side.counters().injected().ok, b.side.counters().injected().failed), (5, 0));
    assert!(b.events.is_empty(), "what is gone already is no failure");
}

#[test]
fn an_injected_update_of_an_unknown_flow_creates_it() {
    let mut b = injecting();
    b.side.inject(InjectKind::Update, &with_snat(tcp(1), 9)).unwrap();
    b.run();
    assert_eq!(steps(&b), ["update", "create"]);
    assert_eq!(b.table[0].reply.dst, IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9)));
}

#[test]
fn an_injected_update_names_no_translation() {
    let mut b = injecting();
    let v6 = |last: u16| IpAddr::V6([0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into());
    let mut flow = with_helper(tcp(1), "ftp");
    (flow.orig.src, flow.orig.dst) = (v6(1), v6(2));
    flow.snat = v6(9);
    flow.present.insert(Present::SNAT);
    flow.status = Status(0xe | 0x10);
    b.side.inject(InjectKind::New, &flow).unwrap();
    b.side.inject(InjectKind::Update, &with_mark(flow, 5)).unwrap();
    b.run();
    assert_eq!(steps(&b), ["create", "update"], "IPv6 as well");
    assert_eq!(b.table[0].mark, 5);
    let update = &b.log[1].flow;
    assert!(!update.present.any(Present(Present::SNAT.0 | Present::HELPER.0 | Present::REPLY.0)));
}

#[test]
fn an_injected_update_that_is_refused_becomes_delete_and_create() {
    for errno in [EBUSY, EOPNOTSUPP, ENOSPC] {
        let mut b = injecting();
        b.table.push(kernel_tcp(1));
        b.script = Box::new(move |a| (a.kind == msg::CT_NEW && !a.creates()).then_some(errno));
        b.side.inject(InjectKind::Update, &tcp(1)).unwrap();
        b.run();
        assert_eq!(steps(&b), ["update", "delete", "create"]);
        assert_eq!(b.side.counters().injected().ok, 1);
    }
    let mut b = injecting();
    b.script = Box::new(|_| Some(EPERM));
    b.side.inject(InjectKind::Update, &tcp(1)).unwrap();
    b.side.inject(InjectKind::New, &tcp(2)).unwrap();
    b.side.inject(InjectKind::Delete, &tcp(3)).unwrap();
    b.run();
    assert_eq!(
        failures(&b),
        [
            ("could not add new ct entry", EPERM),
            ("could not destroy ct entry", EPERM),
            ("could not update ct entry, even when deleting it first", EPERM),
        ]
    );
    assert_eq!(b.side.counters().injected().failed, 3);
}

#[test]
fn an_injected_new_flow_takes_the_place_of_an_old_one() {
    let mut b = injecting();
    b.table.push(kernel_tcp(1));
    b.side.inject(InjectKind::New, &with_snat(tcp(1), 9)).unwrap();
    b.run();
    assert_eq!(b.table.len(), 1);
    assert_eq!(b.table[0].reply.dst, IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9)));
}

#[test]
fn a_later_word_about_a_flow_is_the_last_one() {
    // The first create is refused and needs more rounds. The deletion in the same batch comes
    // before them, and must hold in the end.
    let mut b = injecting();
    b.table.push(kernel_tcp(1));
    b.side.inject(InjectKind::New, &with_snat(tcp(1), 9)).unwrap();
    b.side.inject(InjectKind::Update, &with_mark(tcp(1), 4)).unwrap();
    b.side.inject(InjectKind::Delete, &tcp(1)).unwrap();
    b.run();
    assert!(b.table.is_empty(), "{:?}", steps(&b));

    let mut b = injecting();
    b.table.push(kernel_tcp(1));
    b.side.inject(InjectKind::New, &with_snat(with_mark(tcp(1), 3), 9)).unwrap();
    b.side.inject(InjectKind::Update, &with_mark(tcp(1), 4)).unwrap();
    b.run();
    assert_eq!((b.table.len(), b.table[0].mark), (1, 4));
    assert_eq!(b.table[0].reply.dst, IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9)));
}

/// A peer may keep the kernel busy for good with flows that take more than one request each.
#[test]
fn what_a_commit_waits_for_is_not_put_off_by_what_comes_after_it() {
    let mut b = injecting();
    b.table = (1..=9).map(kernel_tcp).collect();
    let tell = |b: &mut Bench, port: u16| {
        let flow = with_snat(with_mark(tcp(port), 7), port as u8);
        b.side.inject(InjectKind::New, &flow).unwrap();
    };
    tell(&mut b, 1);
    b.side.inject(InjectKind::New, &with_master(tcp(100), 99)).unwrap();
    let asked = b.side.injections();
    let mut settled = false;
    for port in 2..=9 {
        assert!(!settled && b.side.has_injected(0));
        tell(&mut b, port);
        b.send();
        let made = b.table.iter().any(|flow| flow.orig.l4.a == 1 && flow.mark == 7);
        settled = b.side.has_injected(asked);
        assert_eq!(settled, made, "after {:?}", steps(&b));
        if settled {
            assert!(!b.side.has_injected(b.side.injections()), "the last is not done");
            return;
        }
    }
    panic!("it is put off");
}

#[test]
fn a_full_queue_says_so() {
    let mut b =
        Bench::new(KernelConfig { inject: true, inject_queue_max: 2, ..KernelConfig::default() });
    assert_eq!(b.side.inject(InjectKind::New, &tcp(1)), Ok(()));
    assert_eq!(b.side.inject_expect(InjectKind::New, &ftp_expect(1)), Ok(()));
    assert_eq!(b.side.inject_room(), 0);
    assert_eq!(b.side.inject(InjectKind::Delete, &tcp(1)), Err(QueueFull));
    assert_eq!((b.side.counters().inject_refused, b.side.counters().inject_queue_max), (1, 2));
    b.run();
    assert_eq!(b.side.inject_room(), 2);
}

#[test]
fn what_comes_before_its_master_waits_for_it() {
    let mut b = injecting();
    b.side.inject(InjectKind::New, &with_master(tcp(2), 1)).unwrap();
    b.side.inject(InjectKind::New, &with_master(tcp(1), 0)).unwrap();
    b.side.inject(InjectKind::Update, &with_mark(with_master(tcp(1), 0), 7)).unwrap();
    b.side.inject_expect(InjectKind::New, &ftp_expect(1000)).unwrap();
    let mut absent = 2;
    b.script = Box::new(move |asked| {
        let refused = asked.kind == msg::EXP_NEW && absent > 0;
        absent -= u32::from(refused);
        refused.then_some(ENOENT)
    });
    b.run_for(Duration::from_secs(1));
    assert!(b.table.is_empty() && b.side.counters().injected().failed == 0);
    assert_eq!(b.side.counters().inject_expect.ok, 1, "it waited twice for its master");

    b.side.inject(InjectKind::New, &tcp(0)).unwrap();
    b.run();
    let mut table: Vec<_> =
        b.table.iter().map(|flow| (flow.orig.l4.a, flow.status.0, flow.mark)).collect();
    table.sort_unstable();
    assert_eq!(table, [(0, 0xe, 0), (1, 0xf, 7), (2, 0xf, 0)]);
    let counters = b.side.counters();
    assert_eq!((counters.orphaned, counters.without_master), (3, 0));
    assert_eq!((counters.injected().ok, counters.injected().failed), (5, 0));
    assert!(failures(&b).is_empty());
}

#[test]
fn a_master_that_never_comes_costs_the_master_and_not_the_flow() {
    let mut b = injecting();
    b.side.inject(InjectKind::New, &with_master(tcp(1), 0)).unwrap();
    b.side.inject_expect(InjectKind::New, &ftp_expect(1000)).unwrap();
    b.script = Box::new(|asked| (asked.kind == msg::EXP_NEW).then_some(ENOENT));
    let start = b.now;
    b.run();
    assert!(b.now - start < Duration::from_secs(13), "{:?}", b.now - start);
    assert_eq!(b.table[0].status, Status(0xe));
    let counters = b.side.counters();
    assert_eq!((counters.without_master, counters.inject_new.ok), (1, 1));
    assert_eq!(counters.inject_expect.failed, 1);
    assert_eq!(failures(&b), [("could not add new exp entry", ENOENT)]);
    assert_eq!(b.log.len(), 2 * 9 + 1, "each is asked nine times");
}

#[test]
fn a_later_word_about_what_waits_is_the_last_one() {
    let mut b = injecting();
    let orphan = with_master(tcp(1), 0);
    b.side.inject(InjectKind::New, &orphan).unwrap();
    b.run_for(Duration::from_millis(10));
    b.side.inject(InjectKind::Update, &with_mark(orphan, 3)).unwrap();
    b.run_for(Duration::from_millis(10));
    b.side.inject(InjectKind::Delete, &orphan).unwrap();
    b.side.inject(InjectKind::New, &tcp(0)).unwrap();
    b.run();
    let ports: Vec<_> = b.table.iter().map(|flow| flow.orig.l4.a).collect();
    assert_eq!(ports, [0], "what has ended does not come to life");

    let mut b = injecting();
    b.side.inject(InjectKind::New, &with_mark(orphan, 1)).unwrap();
    b.run_for(Duration::from_millis(10));
    b.side.inject(InjectKind::New, &with_mark(orphan, 2)).unwrap();
    b.side.inject(InjectKind::New, &tcp(0)).unwrap();
    b.run();
    let marks: Vec<_> = b.table.iter().map(|flow| (flow.orig.l4.a, flow.mark)).collect();
    assert_eq!(marks, [(0, 0), (1, 2)]);
    assert_eq!((b.side.counters().injected().ok, b.side.counters().injected().failed), (3, 0));
}

#[test]
fn what_went_in_without_its_master_is_updated_in_place() {
    let mut b = injecting();
    b.table.push(kernel_tcp(1));
    b.side.inject(InjectKind::Update, &with_mark(with_master(tcp(1), 0), 3)).unwrap();
    b.run();
    assert_eq!(steps(&b), ["update", "update"]);
    assert_eq!((b.table.len(), b.table[0].mark, b.table[0].status), (1, 3, Status(0xe)));
    assert_eq!(b.side.counters().without_master, 0, "it was so before");

    // One that has to be replaced is not missing until its master comes.
    let mut b = injecting();
    b.table.push(kernel_tcp(1));
    let mut flow = with_master(tcp(1), 0);
    flow.status = Status(0x9);
    b.side.inject(InjectKind::Update, &flow).unwrap();
    b.run_for(Duration::from_millis(10));
    assert_eq!(steps(&b), ["update", "update", "delete", "create", "create"]);
    assert_eq!((b.table.len(), b.table[0].status), (1, Status(0x8)));
    assert_eq!(b.side.counters().without_master, 1);
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let max = orphans::ORPHANS_MAX as u16;
    let mut b = injecting();
    for port in 1..=max + 50 {
        b.side.inject(InjectKind::New, &with_master(tcp(port), 0)).unwrap();
    }
    b.run_for(Duration::from_millis(10));
    assert_eq!(b.side.counters().without_master, 50, "those go in at once");
    // A change of what waits has no room either.
    b.side.inject(InjectKind::Update, &with_mark(with_master(tcp(1), 0), 3)).unwrap();
    b.run_for(Duration::from_millis(10));
    assert_eq!(b.side.counters().inject_update.failed, 1);
    b.side.inject(InjectKind::New, &tcp(0)).unwrap();
    b.run();
    assert_eq!(b.table.len(), usize::from(max) + 51);
    let related = b.table.iter().filter(|flow| flow.status.has(Status::EXPECTED)).count();
    assert_eq!(related, usize::from(max));
}
