//! Commit: every answer of the kernel.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proto_ctnl::{ExpectPresent, L4, ProtoInfo, Sctp, Tcp};

use super::super::errno::*;
use super::super::testing::LONG;
use super::*;

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

/// It ends in a call that finds nothing to send: who sleeps until the next deadline sleeps on it.
#[test]
fn the_end_of_a_pass_is_told_at_once() {
    let mut b = bench();
    assert!(b.side.start_commit(Pass::Unrelated));
    b.side.handle_timeout(b.now, &mut b.caches);
    assert_eq!(b.side.poll_send(b.now, &mut b.caches, &mut [0; 1024]), None);
    assert_eq!(b.side.poll_timeout(), Some(b.now));
    assert!(matches!(b.side.poll_event(), Some(KernelEvent::CommitDone(_))));
    assert_eq!(b.side.poll_timeout(), None);
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

/// An FTP flow's helper expects a flow, whose helper expects one, and so on, as those of H.323 do.
fn generations(b: &mut Bench) {
    // The youngest first in the cache.
    for port in (1..=4).rev() {
        b.external(&with_master(tcp(port), port - 1));
    }
    b.external(&tcp(0));
}

#[test]
fn the_expected_of_the_expected_come_after_their_masters() {
    let mut b = bench();
    generations(&mut b);
    assert_eq!(commit(&mut b, Pass::Unrelated).committed, 1);
    let mut report = commit(&mut b, Pass::Related);
    assert_eq!((report.committed, report.orphaned, report.failed), (1, 3, 0));
    for left in (0..3).rev() {
        report = commit(&mut b, Pass::Orphans(Coming::Any));
        assert_eq!((report.committed, report.orphaned), (1, left));
    }
    assert_eq!(b.table.iter().filter(|flow| flow.status == Status(0xf)).count(), 4);
    assert!(failures(&b).is_empty());
}

#[test]
fn a_master_that_is_gone_costs_the_master_and_not_the_flow() {
    let mut b = bench();
    b.external(&with_helper(with_master(tcp(20), 21), "sip"));
    assert_eq!(commit(&mut b, Pass::Related).orphaned, 1);
    let report = commit(&mut b, Pass::Orphans(Coming::Any));
    assert_eq!((report.orphaned, report.without_master), (1, 0));
    let report = commit(&mut b, Pass::Orphans(Coming::None));
    let lacking = (report.without_master, report.without_helper);
    assert_eq!((report.committed, report.failed, lacking), (1, 0, (1, 1)));
    assert_eq!((b.table.len(), b.table[0].status), (1, Status(0xe)), "it is not EXPECTED");
    assert_eq!(b.side.counters().without_master, 1);
    assert_eq!(commit(&mut b, Pass::Orphans(Coming::None)), CommitReport::default());
}

/// The oldest is missing; its child goes in without it, and the others follow that one.
#[test]
fn a_master_goes_in_without_its_own_before_what_it_expected_does() {
    let mut b = bench();
    for port in (2..=4).rev() {
        b.external(&with_master(tcp(port), port - 1));
    }
    assert_eq!(commit(&mut b, Pass::Related).orphaned, 3);
    let left: HashSet<FlowKey> = b.side.left(&b.caches).into_iter().collect();
    assert_eq!(left.len(), 3);
    let report = commit(&mut b, Pass::Orphans(Coming::Left(Arc::new(left))));
    assert_eq!((report.committed, report.without_master, report.orphaned), (1, 1, 2));
    for left in (0..2).rev() {
        let report = commit(&mut b, Pass::Orphans(Coming::Any));
        assert_eq!((report.committed, report.without_master, report.orphaned), (1, 0, left));
    }
    assert_eq!(b.table[0].orig, tcp(2).orig, "the first");
    assert_eq!(b.table.iter().filter(|flow| flow.status == Status(0xf)).count(), 2);
}

#[test]
fn what_the_kernel_refuses_is_told_and_the_rest_goes_on() {
    let mut b = bench();
    for port in 0..6 {
        b.external(&tcp(port));
    }
    b.script = Box::new(|asked| match asked.flow.orig.l4.a {
        1 => Some(EINVAL),
        2 => Some(ERANGE),
        3 => Some(ENOMEM),
        4 => Some(ETIME),
        _ => None,
    });
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.failed), (2, 4));
    let errors = [EINVAL, ERANGE, ENOMEM, ETIME].map(|errno| ("commit-create", errno));
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
    let mut unassured = tcp(1);
    unassured.status = unassured.status.without(Status::ASSURED);
    b.external(&unassured);
    // Traffic may have prolonged this one, and nobody reported its end.
    b.external(&tcp(3));
    b.now += Duration::from_secs(100);
    b.external(&tcp(2));
    b.now += Duration::from_secs(250);
    let report = commit(&mut b, Pass::Unrelated);
    assert_eq!((report.committed, report.expired), (2, 1));
    let mut left: Vec<_> = b.table.iter().map(|flow| (flow.orig.l4.a, flow.timeout)).collect();
    left.sort_unstable();
    assert_eq!(left, [(2, 50), (3, 60)]);
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
fn a_flow_without_a_mark_takes_the_mark_of_what_was_there_away() {
    let mut b = bench();
    b.table.push(with_mark(kernel_tcp(1), 7));
    b.external(&tcp(1));
    assert_eq!(commit(&mut b, Pass::Unrelated).updated, 1);
    assert_eq!(b.table[0].mark, 0);
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
