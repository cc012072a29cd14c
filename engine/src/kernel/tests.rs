//! Whole jobs against a kernel made of rules: what ends up in its table, and what is told.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use proto_ctnl::consts::msg;
use proto_ctnl::{Expect, ExpectPresent, Flow, L4, Name, Present, ProtoInfo, Sctp, Status, Tcp};

use crate::cache::Change;
use crate::config::{Filter, Policy};
use crate::filter::FlowFilter;

use super::errno::*;
use super::testing::{Asked, Bench, LONG, entry, kernel_tcp, tcp};
use super::*;

fn bench() -> Bench {
    Bench::new(KernelConfig::default())
}

fn injecting() -> Bench {
    Bench::new(KernelConfig { inject: true, ..KernelConfig::default() })
}

fn commit(bench: &mut Bench, pass: Pass) -> CommitReport {
    assert!(bench.side.start_commit(pass));
    bench.run();
    let done = bench.events.iter().rev().find_map(|event| match event {
        KernelEvent::CommitDone(report) => Some(*report),
        _ => None,
    });
    done.expect("a commit ends")
}

fn failures(bench: &Bench) -> Vec<(&'static str, i32)> {
    let told = bench.events.iter().filter_map(|event| match event {
        KernelEvent::Failed(failure) => Some((failure.operation.text(), failure.errno)),
        _ => None,
    });
    told.collect()
}

/// The steps that the kernel saw, in order.
fn steps(bench: &Bench) -> Vec<&'static str> {
    let name = |asked: &Asked| match asked.kind {
        msg::CT_NEW | msg::EXP_NEW if asked.creates() => "create",
        msg::CT_NEW => "update",
        msg::CT_DELETE | msg::EXP_DELETE => "delete",
        msg::CT_GET => "get",
        _ => "other",
    };
    bench.log.iter().map(name).collect()
}

fn with_mark(mut flow: Flow, mark: u32) -> Flow {
    flow.mark = mark;
    flow.present.insert(Present::MARK);
    flow
}

fn with_helper(mut flow: Flow, helper: &str) -> Flow {
    flow.helper = Name::new(helper.as_bytes()).unwrap();
    flow.present.insert(Present::HELPER);
    flow
}

fn with_snat(mut flow: Flow, last: u8) -> Flow {
    flow.snat = IpAddr::V4(Ipv4Addr::new(198, 18, 0, last));
    flow.present.insert(Present::SNAT);
    flow
}

fn with_master(mut flow: Flow, master: u16) -> Flow {
    flow.master = tcp(master).orig;
    flow.present.insert(Present::MASTER);
    flow.status = flow.status.with(Status::EXPECTED);
    flow
}

#[test]
fn a_commit_of_new_flows_is_one_request_each_in_full_batches() {
    let mut b = bench();
    for port in 0..250 {
        b.external(&tcp(port));
    }
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!(report, CommitReport { committed: 250, ..CommitReport::default() });
    assert_eq!((b.table.len(), b.log.len()), (250, 250));
    assert_eq!((b.side.counters().batches, b.side.counters().requests), (3, 250));
    assert!(b.log.iter().all(|asked| asked.lane == Lane::Write));
}

#[test]
fn masters_come_before_what_they_expected() {
    let mut b = bench();
    b.external(&with_master(tcp(20), 21));
    b.external(&tcp(21));
    assert_eq!(commit(&mut b, Pass::Unrelated).committed, 1);
    assert_eq!(commit(&mut b, Pass::Related).committed, 1);
    assert_eq!(b.table[1].status, Status(0xf), "EXPECTED follows from the master");
}

#[test]
fn what_the_kernel_refuses_is_told_and_the_rest_goes_on() {
    let mut b = bench();
    for port in 0..6 {
        b.external(&tcp(port));
    }
    b.external(&with_master(tcp(20), 21));
    b.script = Box::new(|asked| match asked.flow.orig.l4.a {
        1 => Some(EINVAL),
        2 => Some(ERANGE),
        3 => Some(ENOMEM),
        4 => Some(ETIME),
        _ => None,
    });
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.failed), (2, 4));
    let report = commit(&mut b, Pass::Related);
    assert_eq!((report.committed, report.failed), (0, 1), "its master is missing");
    let errors = [EINVAL, ERANGE, ENOMEM, ETIME, ENOENT].map(|errno| ("commit-create", errno));
    assert_eq!(failures(&b), errors);
}

#[test]
fn an_icmp_type_without_an_answer_never_reaches_the_kernel() {
    let mut b = bench();
    let mut flow = tcp(1);
    flow.orig.proto = 1;
    flow.orig.l4 = L4::icmp(7, 3, 0);
    b.external(&flow);
    assert_eq!(commit(&mut b, Pass::Unrelated).failed, 1);
    assert!(b.log.is_empty());
    assert_eq!(failures(&b), [("commit-create", EINVAL)]);
}

#[test]
fn the_status_of_a_peer_is_made_acceptable() {
    let mut b = bench();
    let mut dying = tcp(1);
    dying.status = Status(0x2 | 0x4 | 0x200);
    b.external(&dying);
    let mut unknown = tcp(2);
    unknown.present.remove(Present::STATUS);
    unknown.present.remove(Present::TIMEOUT);
    b.external(&unknown);
    assert_eq!(commit(&mut b, Pass::Unrelated).committed, 2);
    assert_eq!(b.table[0].status, Status(0xe));
    assert!(!b.log[1].flow.present.has(Present::STATUS), "what is not known is not said");
    assert_eq!(b.log[1].flow.timeout, 60);
}

#[test]
fn a_helper_the_kernel_lacks_costs_the_helper() {
    let mut b = bench();
    b.external(&with_helper(tcp(1), "sip"));
    b.external(&with_helper(tcp(2), "ftp"));
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.without_helper, report.failed), (2, 1, 0));
    assert_eq!(b.side.counters().without_helper, 1);
    assert!(failures(&b).is_empty());
}

#[test]
fn what_has_run_out_is_not_revived() {
    let mut b = bench();
    b.external(&tcp(1));
    b.now += Duration::from_secs(100);
    b.external(&tcp(2));
    b.now += Duration::from_secs(250);
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.expired), (1, 1));
    assert_eq!((b.table[0].orig.l4.a, b.table[0].timeout), (2, 50));
}

#[test]
fn a_fixed_timeout_holds_for_all() {
    let mut b =
        Bench::new(KernelConfig { commit_timeout_secs: Some(180), ..KernelConfig::default() });
    b.external(&tcp(1));
    b.now += LONG;
    assert_eq!(commit(&mut b, Pass::Unrelated).committed, 1);
    assert_eq!(b.table[0].timeout, 180);
}

#[test]
fn an_entry_in_the_way_is_updated_if_it_is_translated_alike() {
    // Not in the internal cache, so it is read first.
    let mut b = bench();
    b.table.push(kernel_tcp(1));
    b.external(&with_mark(tcp(1), 7));
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.updated), (1, 1));
    assert_eq!(steps(&b), ["create", "get", "update"]);
    assert_eq!((b.table.len(), b.table[0].mark), (1, 7));

    // In the internal cache.
    let mut b = bench();
    b.table.push(kernel_tcp(1));
    b.caches.internal.replace(&kernel_tcp(1), 0).unwrap();
    b.external(&with_mark(tcp(1), 7));
    assert_eq!(commit(&mut b, Pass::Unrelated).updated, 1);
    assert_eq!(steps(&b), ["create", "update"]);
}

#[test]
fn an_entry_translated_otherwise_is_replaced() {
    for cached in [false, true] {
        let mut b = bench();
        b.table.push(kernel_tcp(1));
        if cached {
            b.caches.internal.replace(&kernel_tcp(1), 0).unwrap();
        }
        b.external(&with_snat(tcp(1), 9));
        let report = commit(&mut b, Pass::Unrelated);
        assert_eq!((report.committed, report.updated), (1, 0));
        let expected: &[_] = if cached {
            &["create", "delete", "create"]
        } else {
            &["create", "get", "delete", "create"]
        };
        assert_eq!(steps(&b), expected);
        assert_eq!(b.table.len(), 1);
        assert_eq!(b.table[0].reply.dst, IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9)));
    }
}

#[test]
fn an_update_that_is_refused_becomes_delete_and_create() {
    let mut b = bench();
    let mut entry = kernel_tcp(1);
    entry.status = Status(0xe);
    b.table.push(entry);
    let mut flow = tcp(1);
    flow.status = Status(0x8);
    b.external(&flow);
    assert_eq!(commit(&mut b, Pass::Unrelated).committed, 1);
    assert_eq!(steps(&b), ["create", "get", "update", "delete", "create"]);
    assert_eq!(b.table[0].status, Status(0x8), "bits that cannot be cleared are");
}

#[test]
fn a_reply_tuple_that_is_taken_fails_once() {
    let mut b = bench();
    let mut other = kernel_tcp(2);
    other.reply = with_snat(tcp(1), 9).orig.inverted().unwrap();
    other.reply.dst = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9));
    b.table.push(other);
    b.external(&with_snat(tcp(1), 9));
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.failed), (0, 1));
    assert_eq!(steps(&b), ["create", "get", "create"]);
    assert_eq!(failures(&b), [("commit-create", EEXIST)]);
}

#[test]
fn what_cannot_be_deleted_is_told_so() {
    let mut b = bench();
    b.table.push(kernel_tcp(1));
    b.external(&with_snat(tcp(1), 9));
    b.script = Box::new(|asked| (asked.kind == msg::CT_DELETE).then_some(EPERM));
    assert_eq!(commit(&mut b, Pass::Unrelated).failed, 1);
    assert_eq!(failures(&b), [("commit-destroy", EPERM)]);
}

#[test]
fn protocol_states_arrive_as_sent() {
    let mut b = bench();
    b.external(&tcp(1));
    let mut sctp = tcp(2);
    sctp.orig.proto = 132;
    let state = Sctp { state: 4, vtag: Some([0x1010_1010, 0x2020_2020]) };
    sctp.protoinfo = ProtoInfo::Sctp(state);
    b.external(&sctp);
    assert_eq!(commit(&mut b, Pass::Unrelated).committed, 2);
    let ProtoInfo::Tcp(Tcp { flags: Some(flags), .. }) = b.table[0].protoinfo else { panic!() };
    assert!(flags.iter().all(|f| f.flags == 8 && f.mask == 8));
    assert_eq!(b.table[1].protoinfo, ProtoInfo::Sctp(state));
}

#[test]
fn lost_answers_are_not_waited_for_and_change_nothing() {
    let mut b = bench();
    for port in 0..150 {
        b.external(&with_mark(tcp(port), 3));
    }
    b.deaf = 2;
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.failed), (150, 0));
    assert_eq!(report.updated, 100, "found there and brought up to date");
    assert_eq!(b.side.counters().unanswered, 2);
    assert_eq!(b.table.len(), 150);

    let mut b = bench();
    b.external(&tcp(1));
    b.deaf = 3;
    assert_eq!(commit(&mut b, Pass::Unrelated).failed, 1);
    assert_eq!(failures(&b), [("commit-create", ETIMEDOUT)]);
}

#[test]
fn only_one_commit_at_a_time() {
    let mut b = bench();
    assert!(b.side.start_commit(Pass::Unrelated));
    assert!(!b.side.start_commit(Pass::Related) && !b.side.start_commit_expects());
    b.run();
    assert!(!b.side.committing());
    assert!(matches!(b.events[..], [KernelEvent::CommitDone(_)]), "even an empty one ends");
}

fn ftp_expect(port: u16) -> Expect {
    let mut expect = Expect::default();
    for bit in [
        ExpectPresent::MASTER,
        ExpectPresent::TUPLE,
        ExpectPresent::MASK,
        ExpectPresent::TIMEOUT,
        ExpectPresent::ID,
        ExpectPresent::HELPER,
        ExpectPresent::CLASS,
        ExpectPresent::NAT,
        ExpectPresent::FUNCTION,
        ExpectPresent::FLAGS,
    ] {
        expect.present.insert(bit);
    }
    expect.master = tcp(21).orig;
    expect.tuple = tcp(0).orig;
    expect.tuple.l4 = L4::ports(0, port);
    expect.mask = expect.tuple;
    expect.timeout = 300;
    expect.class = 1;
    expect.flags = 4 | 1;
    expect.helper = Name::new(b"ftp").unwrap();
    expect.nat = tcp(5).orig;
    expect.function = Name::new(b"nat-follow-master").unwrap();
    expect
}

#[test]
fn expectations_are_committed_whole() {
    let mut b = bench();
    for port in [1000, 2000, 3000] {
        b.caches.expects_external.replace(&ftp_expect(port), 0).unwrap();
    }
    let mut first = true;
    b.script = Box::new(move |asked| match (asked.expect.tuple.l4.b, asked.creates()) {
        (2000, true) => Some(EOPNOTSUPP),
        (3000, true) if std::mem::take(&mut first) => Some(EEXIST),
        (3000, false) => Some(ENOENT),
        _ => None,
    });
    assert!(b.side.start_commit_expects());
    b.run();
    let Some(KernelEvent::CommitExpectsDone(report)) = b.events.last() else { panic!() };
    assert_eq!((report.committed, report.failed), (2, 1));
    assert_eq!(b.side.counters().expects_without_helper, 1);
    assert_eq!(steps(&b), ["create", "create", "create", "delete", "create"]);
    let sent = b.log[0].expect;
    let kept = ExpectPresent(ftp_expect(1000).present.0 & !ExpectPresent::ID.0);
    assert_eq!(sent.present, kept, "class, translation and function included");
    assert_eq!((sent.class, sent.flags, sent.nat_dir), (1, 1, 0));
    assert_eq!(sent.function.as_bytes(), b"nat-follow-master");
}

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
    assert_eq!((b.side.counters().injected, b.side.counters().inject_failed), (5, 0));
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
        assert_eq!(b.side.counters().injected, 1);
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
    assert_eq!(b.side.counters().inject_failed, 3);
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

fn resync(bench: &mut Bench, purpose: DumpPurpose) -> ResyncReport {
    assert!(bench.side.begin_dump(purpose, &mut bench.caches));
    bench.dump();
    bench.side.dump_finished(bench.now, &mut bench.caches, true);
    bench.run();
    let done = bench.events.iter().rev().find_map(|event| match event {
        KernelEvent::ResyncDone(report) => Some(*report),
        _ => None,
    });
    done.expect("a resync ends")
}

#[test]
fn the_first_dump_fills_the_cache_and_tells_nobody() {
    let mut b = bench();
    b.table = (1..=3).map(kernel_tcp).collect();
    let report = resync(&mut b, DumpPurpose::Start);
    assert_eq!((report.seen, report.created, report.vanished), (3, 3, 0));
    assert_eq!(b.caches.internal.alive_len(), 3);
    assert!(b.changes().is_empty());
    assert_eq!(b.caches.internal.silent_len(), 3, "until an event shows them");
}

#[test]
fn after_an_overrun_only_differences_are_told() {
    let mut b = bench();
    b.table = (1..=3).map(kernel_tcp).collect();
    for flow in b.table.clone() {
        b.caches.internal.replace(&flow, 0).unwrap();
    }
    b.changes();
    b.table.remove(0);
    b.table[0].timeout = 17;
    b.table[1] = with_mark(b.table[1], 9);
    b.table.push(kernel_tcp(4));
    let report = resync(&mut b, DumpPurpose::Reconcile);
    let expected =
        ResyncReport { seen: 3, created: 1, changed: 1, vanished: 1, ..ResyncReport::default() };
    assert_eq!(report, expected);
    let mut changes = b.changes();
    changes.sort_by_key(|(_, port)| *port);
    assert_eq!(changes, [(Change::Delete, 1), (Change::Update, 3), (Change::New, 4)]);

    let report = resync(&mut b, DumpPurpose::Reconcile);
    assert_eq!((report.created, report.changed, report.vanished), (0, 0, 0));
    assert!(b.changes().is_empty(), "the second time there is nothing to tell");
}

#[test]
fn a_resync_on_command_merges_only() {
    let mut b = bench();
    b.caches.internal.replace(&kernel_tcp(1), 0).unwrap();
    b.changes();
    b.table.push(kernel_tcp(2));
    let report = resync(&mut b, DumpPurpose::Merge);
    assert_eq!((report.created, report.vanished), (1, 0));
    assert_eq!(b.caches.internal.alive_len(), 2);
    assert!(b.changes().is_empty());
}

#[test]
fn a_dump_that_breaks_off_removes_nothing() {
    let mut b = bench();
    b.caches.internal.replace(&kernel_tcp(1), 0).unwrap();
    assert!(b.side.begin_dump(DumpPurpose::Reconcile, &mut b.caches));
    assert!(!b.side.begin_dump(DumpPurpose::Merge, &mut b.caches), "one at a time");
    b.side.dump_finished(b.now, &mut b.caches, false);
    b.run();
    assert!(matches!(b.events[..], [KernelEvent::ResyncDone(r)] if r.repeat && r.vanished == 0));
    assert_eq!(b.caches.internal.alive_len(), 1);
}

#[test]
fn events_are_newer_than_the_dump() {
    let mut b = bench();
    for port in 1..=2 {
        b.caches.internal.replace(&kernel_tcp(port), 0).unwrap();
    }
    b.changes();
    b.table = (1..=2).map(kernel_tcp).collect();
    assert!(b.side.begin_dump(DumpPurpose::Reconcile, &mut b.caches));
    let index = b.caches.internal.find(&tcp(1).orig, 0).unwrap();
    b.caches.internal.kill(index);
    b.caches.internal.merge(&with_mark(kernel_tcp(2), 5), 0).unwrap();
    b.caches.internal.replace(&kernel_tcp(3), 0).unwrap();
    b.dump();
    b.side.dump_finished(b.now, &mut b.caches, true);
    b.run();
    assert!(b.caches.internal.find(&tcp(1).orig, 0).is_none(), "not brought back");
    let index = b.caches.internal.find(&tcp(2).orig, 0).unwrap();
    let mut flow = Flow::default();
    b.caches.internal.load(index, &mut flow);
    assert_eq!(flow.mark, 5, "not overwritten");
    assert!(b.caches.internal.find(&tcp(3).orig, 0).is_some(), "not stale");
}

#[test]
fn a_shard_looks_at_its_own_slice() {
    let mut seen = 0;
    for shard in 0..4 {
        let config = KernelConfig { shard, shards: 4, ..KernelConfig::default() };
        let mut b = Bench::new(config);
        b.table = (0..100).map(kernel_tcp).collect();
        let report = resync(&mut b, DumpPurpose::Start);
        assert!(report.seen > 0 && report.seen < 100);
        seen += report.seen;
    }
    assert_eq!(seen, 100);
}

#[test]
fn labels_that_are_gone_differ() {
    let mut b = bench();
    let mut flow = kernel_tcp(1);
    flow.labels = proto_ctnl::Labels([8, 0, 0, 0]);
    flow.present.insert(Present::LABELS);
    b.caches.internal.replace(&flow, 0).unwrap();
    b.changes();
    b.table.push(kernel_tcp(1));
    assert_eq!(resync(&mut b, DumpPurpose::Reconcile).changed, 1);
    assert_eq!(resync(&mut b, DumpPurpose::Reconcile).changed, 0);
}

/// A kernel with flows that a dump showed: those with odd ports tell nothing.
fn half_silent(flows: u16) -> Bench {
    let mut b = bench();
    b.table = (0..flows).map(kernel_tcp).collect();
    resync(&mut b, DumpPurpose::Start);
    for flow in b.table.clone() {
        if flow.orig.l4.a % 2 == 0 {
            b.caches.internal.merge(&flow, 0).unwrap();
        }
    }
    b.changes();
    b.events.clear();
    b.log.clear();
    b
}

#[test]
fn after_a_dump_the_kernel_is_asked_which_flows_are_silent() {
    let mut b = bench();
    b.table = (0..150).map(kernel_tcp).collect();
    resync(&mut b, DumpPurpose::Start);
    assert_eq!(b.log.len(), 150);
    let harmless =
        |a: &Asked| a.lane == Lane::Audit && !a.creates() && a.flow.present == Present::ORIG;
    assert!(b.log.iter().all(harmless), "updates without content");
    let done = AuditReport { checked: 150, ..AuditReport::default() };
    assert!(matches!(b.events[..], [_, KernelEvent::ClassifyDone(r)] if r == done));

    // What was found silent is not asked again when a later dump shows something new.
    b.log.clear();
    b.table.push(kernel_tcp(200));
    resync(&mut b, DumpPurpose::Reconcile);
    assert_eq!(b.log.len(), 1);
}

#[test]
fn an_audit_finds_what_silent_flows_do_not_tell() {
    let mut b = half_silent(200);
    b.table.retain(|flow| ![1, 2, 199].contains(&flow.orig.l4.a));
    for flow in &mut b.table {
        if [5, 6].contains(&flow.orig.l4.a) {
            *flow = with_mark(*flow, 3);
        }
    }
    let begin = b.now;
    assert!(b.side.start_audit(b.now, &b.caches));
    assert!(!b.side.start_audit(b.now, &b.caches));
    b.run();
    assert_eq!(b.log.len(), 100, "silent flows only");
    let done = AuditReport { checked: 100, vanished: 2, changed: 1, failed: 0 };
    assert!(matches!(b.events[..], [KernelEvent::AuditDone(r)] if r == done), "{:?}", b.events);
    let mut changes = b.changes();
    changes.sort_by_key(|(_, port)| *port);
    assert_eq!(changes, [(Change::Delete, 1), (Change::Update, 5), (Change::Delete, 199)]);
    let took = b.now - begin;
    let period = KernelConfig::default().audit_period;
    assert!(took >= period / 3 && took <= period, "spread over the period: {took:?}");
    assert_eq!(b.caches.internal.silent_len(), 98);
}

#[test]
fn no_silent_flows_no_audit() {
    let mut b = half_silent(1);
    assert!(!b.side.start_audit(b.now, &b.caches));
    assert_eq!(b.side.poll_timeout(), None);
}

#[test]
fn an_event_is_newer_than_an_audit() {
    let mut b = half_silent(2);
    b.table.clear();
    assert!(b.side.start_audit(b.now, &b.caches));
    let mut buffer = vec![0; 4096];
    let send = b.side.poll_send(b.now, &mut b.caches, &mut buffer).unwrap();
    // While the request is on its way, the tuple is used again and the kernel says so.
    b.caches.internal.replace(&kernel_tcp(1), 1).unwrap();
    let request = buffer[..send.len].to_vec();
    let mut gone = [0u8; 36];
    gone[0..4].copy_from_slice(&36u32.to_ne_bytes());
    gone[4..6].copy_from_slice(&2u16.to_ne_bytes());
    gone[6..8].copy_from_slice(&0x100u16.to_ne_bytes());
    gone[16..20].copy_from_slice(&(-ENOENT).to_ne_bytes());
    gone[20..36].copy_from_slice(&request[..16]);
    b.side.on_datagram(b.now, &mut b.caches, &gone);
    b.run();
    assert!(b.caches.internal.find(&tcp(1).orig, 0).is_some());
}

#[test]
fn an_audit_without_answers_is_over_all_the_same() {
    let mut b = half_silent(4);
    b.deaf = 1;
    assert!(b.side.start_audit(b.now, &b.caches));
    b.run();
    let done = AuditReport { checked: 2, failed: 2, ..AuditReport::default() };
    assert!(matches!(b.events[..], [KernelEvent::AuditDone(r)] if r == done));
    assert_eq!(b.caches.internal.silent_len(), 2);
}

#[test]
fn a_flush_spares_what_the_filter_excludes() {
    let filter = FlowFilter::new(&Filter {
        protocols: Some((Policy::Ignore, vec![17])),
        ..Filter::default()
    });
    let mut b = Bench::new(KernelConfig { filter, ..KernelConfig::default() });
    b.table = (0..300).map(kernel_tcp).collect();
    for flow in b.table.iter_mut().take(100) {
        flow.orig.proto = 17;
        flow.reply.proto = 17;
    }
    assert!(b.side.start_flush());
    assert!(!b.side.start_flush());
    b.dump();
    assert!(!b.side.flush_saturated());
    b.table.pop();
    b.side.dump_finished(b.now, &mut b.caches, true);
    b.run();
    let done = FlushReport { deleted: 199, absent: 1, failed: 0, kept: 100 };
    assert!(matches!(b.events[..], [KernelEvent::FlushDone(r)] if r == done), "{:?}", b.events);
    assert_eq!(b.table.len(), 100);
    assert!(b.log.iter().all(|asked| asked.lane == Lane::Flush));
}

#[test]
fn expectations_are_flushed_by_one_request() {
    let mut b = bench();
    b.side.start_flush_expects();
    b.run();
    assert!(matches!(b.events[..], [KernelEvent::FlushExpectsDone(0)]));
    assert_eq!((b.log.len(), b.log[0].kind, b.log[0].lane), (1, msg::EXP_DELETE, Lane::Flush));
}

#[test]
fn a_small_buffer_makes_small_batches() {
    let mut b = bench();
    for port in 0..10 {
        b.external(&tcp(port));
    }
    b.side.start_commit(Pass::Unrelated);
    let mut buffer = [0; 512];
    let send = b.side.poll_send(b.now, &mut b.caches, &mut buffer).unwrap();
    assert!(send.len <= 512 && b.side.counters().requests < 10);
    assert_eq!(b.side.poll_send(b.now, &mut b.caches, &mut buffer), None, "one at a time");
    b.side.answers_lost(b.now, &mut b.caches);
    b.run();
    assert_eq!(b.table.len(), 10);
}

proptest! {
    #[test]
    fn whatever_the_kernel_answers_everything_ends(answers in proptest::collection::vec(
        prop_oneof![Just(None), (0i32..133).prop_map(Some)], 1..200
    ), deaf in 0u32..3) {
        let mut b = injecting();
        for port in 0..40 {
            b.external(&with_helper(tcp(port), "sip"));
            b.side.inject(InjectKind::New, &tcp(port)).unwrap();
            b.side.inject(InjectKind::Update, &tcp(port)).unwrap();
        }
        let mut turn = 0;
        b.script = Box::new(move |_| { turn += 1; answers[turn % answers.len()] });
        b.script = Box::new({
            let mut script = std::mem::replace(&mut b.script, Box::new(|_| None));
            // A read that succeeds needs an entry to tell.
            move |asked| script(asked).filter(|&e| e != 0 || asked.kind != msg::CT_GET)
        });
        b.deaf = deaf;
        let report = commit(&mut b, Pass::Unrelated);
        prop_assert_eq!(report.committed + report.failed, 40);
        let counters = b.side.counters();
        prop_assert_eq!(counters.injected + counters.inject_failed, 80);
    }

    #[test]
    fn any_bytes_are_survived(noise in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..300) {
        let mut b = half_silent(4);
        b.side.start_audit(b.now, &b.caches);
        let mut buffer = vec![0; 4096];
        b.side.poll_send(b.now, &mut b.caches, &mut buffer);
        b.side.on_datagram(b.now, &mut b.caches, &noise);
        let mut mutated = entry(&kernel_tcp(1), 1);
        for (i, octet) in noise.iter().enumerate() {
            if let Some(place) = mutated.get_mut(at + i) {
                *place = *octet;
            }
        }
        b.side.on_datagram(b.now, &mut b.caches, &mutated);
        b.side.begin_dump(DumpPurpose::Reconcile, &mut b.caches);
        b.side.on_dump_datagram(b.now, &mut b.caches, &mutated);
        b.side.dump_finished(b.now, &mut b.caches, true);
        b.run();
        b.caches.internal.verify();
    }
}
