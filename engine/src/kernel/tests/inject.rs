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
