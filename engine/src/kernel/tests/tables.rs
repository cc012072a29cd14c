//! Agreement with the kernel's table: resync, silent flows, flush.

use std::sync::Arc;

use crate::cache::Change;
use crate::config::{Filter, Policy};
use crate::filter::FlowFilter;

use super::super::errno::ENOENT;
use super::super::testing::LONG;
use proto_ctnl::{ProtoInfo, Tcp};

use super::*;

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

/// What peers are told of a flow that begins and ends at once, and of one that is updated at once.
fn told_of_two(b: &mut Bench) -> Vec<(Change, u16)> {
    let cache = &mut b.caches.internal;
    let [short, long] = [1, 2].map(|port| {
        let index = cache.replace(&kernel_tcp(port), 0).unwrap().index;
        cache.mark_changed(index);
        index
    });
    cache.kill(short);
    cache.merge(&kernel_tcp(2), 0).unwrap();
    let told = b.changes();
    b.caches.internal.remove(long);
    told
}

/// Peers may have anything that a cache had before it was emptied, until it has all that goes on.
#[test]
fn after_the_next_reading_of_the_table_short_flows_are_told_to_nobody_again() {
    let mut b = bench();
    assert_eq!(told_of_two(&mut b), [(Change::New, 2)]);
    b.caches.internal.clear();
    let both = [(Change::Delete, 1), (Change::New, 2)];
    assert_eq!(told_of_two(&mut b), both);

    assert!(b.side.begin_dump(DumpPurpose::Merge, &mut b.caches));
    b.side.dump_finished(b.now, &mut b.caches, false);
    b.run();
    assert_eq!(told_of_two(&mut b), both, "the reading broke off");

    assert!(b.side.begin_dump(DumpPurpose::Merge, &mut b.caches));
    b.caches.internal.clear();
    b.side.dump_finished(b.now, &mut b.caches, true);
    b.run();
    assert_eq!(told_of_two(&mut b), both, "what it showed first is forgotten again");

    resync(&mut b, DumpPurpose::Merge);
    let told = told_of_two(&mut b);
    assert_eq!(told, [(Change::New, 2)], "it may be in the place of one that has ended");
}

#[test]
fn of_a_flow_whose_end_was_missed_nothing_stays_with_the_next_one_of_its_tuple() {
    let mut b = bench();
    let mut old = kernel_tcp(1);
    old.present.insert(Present::SEQADJ);
    old.present.insert(Present::MARK);
    b.caches.internal.replace(&old, 0).unwrap();
    b.changes();
    b.table = vec![kernel_tcp(1)];
    let report = resync(&mut b, DumpPurpose::Reconcile);
    assert_eq!((report.created, report.changed, report.vanished), (1, 0, 0));
    let (index, change) = b.caches.internal.next_changed().unwrap();
    assert_eq!(change, Change::New, "the peer must not mix them");
    let mut now = Flow::default();
    b.caches.internal.load(index, &mut now).unwrap();
    assert!(!now.present.any(Present::SEQADJ));
}

#[test]
fn after_a_commit_the_peer_is_told_what_is_not_its_own() {
    let mut b = bench();
    b.caches.external.replace(&tcp(1), 0).unwrap();
    b.table = vec![kernel_tcp(1), kernel_tcp(2)];
    assert!(b.side.begin_dump(DumpPurpose::Committed, &mut b.caches));
    b.dump();
    b.side.dump_finished(b.now, &mut b.caches, true);
    assert_eq!(b.caches.internal.alive_len(), 2);
    assert_eq!(b.caches.internal.silent_len(), 1, "events were on when the commit made its own");
    assert_eq!(b.changes(), [(Change::New, 2)]);
}

#[test]
fn after_an_overrun_only_differences_are_told() {
    let mut b = bench();
    b.table = (1..=3).map(kernel_tcp).collect();
    for flow in b.table.clone() {
        let stored = b.caches.internal.replace(&flow, 0).unwrap();
        b.caches.internal.mark_changed(stored.index);
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

    // Nobody else would find this difference after it; and once it is known that events were lost,
    // what was found and not told is.
    b.table[0] = with_mark(kernel_tcp(2), 9);
    b.table.push(kernel_tcp(3));
    assert_eq!(resync(&mut b, DumpPurpose::Merge).changed, 1);
    assert_eq!(b.changes(), [(Change::New, 2)]);
    resync(&mut b, DumpPurpose::Reconcile);
    let mut changes = b.changes();
    changes.sort_by_key(|(_, port)| *port);
    assert_eq!(changes, [(Change::Delete, 1), (Change::New, 3)]);
}

#[test]
fn one_that_begins_where_another_ended_is_told_whoever_finds_it() {
    for purpose in [DumpPurpose::Merge, DumpPurpose::Reconcile] {
        let mut b = bench();
        let index = b.caches.internal.replace(&kernel_tcp(1), 0).unwrap().index;
        b.caches.internal.sent(index, false);
        b.caches.internal.kill(index);
        b.caches.internal.sent(index, true);
        b.table = vec![kernel_tcp(1)];
        assert_eq!(resync(&mut b, purpose).created, 1, "its event was lost");
        assert_eq!(b.changes(), [(Change::New, 1)], "{purpose:?}");
    }
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
pub(super) fn half_silent(flows: u16) -> Bench {
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
    b.run();
    assert_eq!(b.log.len(), 100, "silent flows only");
    let done = AuditReport { checked: 100, vanished: 2, changed: 1, failed: 0 };
    assert!(matches!(b.events[..], [KernelEvent::AuditDone(r)] if r == done), "{:?}", b.events);
    let mut changes = b.changes();
    changes.sort_by_key(|(_, port)| *port);
    assert_eq!(changes, [(Change::Delete, 1), (Change::New, 5), (Change::Delete, 199)]);
    let took = b.now - begin;
    let period = KernelConfig::default().audit_period;
    assert!(took >= period / 3 && took <= period, "spread over the period: {took:?}");
    assert_eq!(b.caches.internal.silent_len(), 98);
}

#[test]
fn looking_spares_the_questions() {
    let mut b = half_silent(2000);
    b.side.allow_look(true);
    b.table.retain(|flow| flow.orig.l4.a != 1001);
    for flow in &mut b.table {
        match flow.orig.l4.a {
            1 => *flow = with_mark(*flow, 3),
            3 => flow.status = flow.status.with(Status::FIXED_TIMEOUT),
            5 => flow.protoinfo = ProtoInfo::Tcp(Tcp { state: 7, ..Tcp::default() }),
            _ => {}
        }
    }
    let begin = b.now;
    assert!(b.side.start_audit(b.now, &b.caches));
    b.run();
    let done = AuditReport { checked: 1000, vanished: 1, changed: 3, failed: 0 };
    assert!(matches!(b.events[..], [KernelEvent::AuditDone(r)] if r == done), "{:?}", b.events);
    let mut changes = b.changes();
    changes.sort_by_key(|(_, port)| *port);
    let updates = [1, 3, 5].map(|port| (Change::New, port));
    assert_eq!(changes[..3], updates);
    assert_eq!(changes[3..], [(Change::Delete, 1001)]);
    assert!(b.looked >= 1000 * 14 / 16, "{} looked at", b.looked);
    assert!(b.log.len() <= 1000 * 2 / 16 + 3, "{} asked for", b.log.len());
    let took = b.now - begin;
    let period = KernelConfig::default().audit_period;
    assert!(took >= period / 3 && took <= period, "spread over the period: {took:?}");

    // Now that all is known, and over some passes everything is asked for once.
    (b.looked, b.log) = (0, Vec::new());
    for _ in 0..32 {
        b.events.clear();
        assert!(b.side.start_audit(b.now, &b.caches));
        b.run();
        assert!(matches!(b.events[..], [KernelEvent::AuditDone(r)] if r.changed == 0));
    }
    assert_eq!((b.looked, b.log.len()), (31 * 999, 999));
}

#[test]
fn what_looking_cannot_judge_is_asked_for() {
    let mut b = half_silent(2);
    b.side.allow_look(true);
    let mut labelled = kernel_tcp(11);
    labelled.labels = proto_ctnl::Labels([8, 0, 0, 0]);
    labelled.present.insert(Present::LABELS);
    let mut sctp = kernel_tcp(13);
    (sctp.orig.proto, sctp.reply.proto) = (132, 132);
    sctp.present.remove(Present::PROTOINFO);
    b.table.extend([labelled, sctp]);
    resync(&mut b, DumpPurpose::Start);
    b.log.clear();
    b.events.clear();
    b.table[2].labels.0[0] = 9;
    b.table[3].mark = 4;
    b.table[3].present.insert(Present::MARK);
    assert!(b.side.start_audit(b.now, &b.caches));
    b.run();
    assert!(matches!(b.events[..], [KernelEvent::AuditDone(r)] if r.changed == 2));
    let asked: Vec<_> = b.log.iter().map(|asked| asked.flow.orig.l4.a).collect();
    assert!(asked.contains(&11) && asked.contains(&13), "{asked:?}");
}

#[test]
fn an_audit_that_is_asked_for_early_follows() {
    let mut b = half_silent(200);
    assert!(b.side.start_audit(b.now, &b.caches));
    assert!(b.side.start_audit(b.now, &b.caches));
    b.run();
    assert!(matches!(b.events[..], [KernelEvent::AuditDone(_), KernelEvent::AuditDone(_)]));
}

#[test]
fn a_flow_keeps_its_moment_when_others_are_gone() {
    let seconds = Duration::from_secs;
    for look in [false, true] {
        let mut b = half_silent(4000);
        b.side.allow_look(look);
        assert!(b.side.start_audit(b.now, &b.caches));
        b.run_for(seconds(20));
        let visited = b.log.len() + b.looked;
        assert!((700..900).contains(&visited), "{visited} in two fifths of the time");
        b.table.clear();
        b.run_for(seconds(32));
        let left = b.caches.internal.silent_len();
        assert!((700..900).contains(&left), "{left} were visited before they ended");
        assert!(b.side.start_audit(b.now, &b.caches));
        b.run_for(seconds(21));
        assert_eq!(b.caches.internal.silent_len(), 0, "all within 53 s");
    }
}

#[test]
fn another_flow_whose_answers_have_the_tuple_is_not_taken_for_it() {
    // Between the dump and the audit the flow ended, and the server opened one of its own. The
    // kernel finds that one when it is asked for the tuple.
    let mut b = half_silent(2);
    b.script = Box::new(|_| Some(0));
    b.table[1].orig = kernel_tcp(1).reply;
    b.answer_with = Some(b.table[1]);
    assert!(b.side.start_audit(b.now, &b.caches));
    b.run();
    assert_eq!(b.changes(), [(Change::Delete, 1)]);
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
    b.now += LONG;
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
    b.deaf = 2;
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
    let filter = Arc::new(filter);
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
    let done = FlushReport { deleted: 199, absent: 1, failed: 0, kept: 100, repeat: false };
    assert!(matches!(b.events[..], [KernelEvent::FlushDone(r)] if r == done), "{:?}", b.events);
    assert_eq!(b.table.len(), 100);
    assert!(b.log.iter().all(|asked| asked.lane == Lane::Flush));
    // What was not read is left.
    b.events.clear();
    assert!(b.side.start_flush());
    b.side.dump_finished(b.now, &mut b.caches, false);
    b.run();
    assert!(matches!(b.events[..], [KernelEvent::FlushDone(r)] if r.repeat), "{:?}", b.events);
}

#[test]
fn expectations_are_flushed_by_one_request() {
    let mut b = bench();
    b.side.start_flush_expects();
    b.run();
    assert!(matches!(b.events[..], [KernelEvent::FlushExpectsDone(0)]));
    assert_eq!((b.log.len(), b.log[0].kind, b.log[0].lane), (1, msg::EXP_DELETE, Lane::Flush));
}
