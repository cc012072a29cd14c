//! Sequence adjustment, which events leave out, is read.

use std::time::Instant;

use proto_ctnl::consts::{
    CTA_COUNTERS_BYTES, CTA_COUNTERS_ORIG, CTA_COUNTERS_PACKETS, CTA_COUNTERS_REPLY, NLA_F_NESTED,
    flag, msg,
};
use proto_ctnl::{Encoder, FlowMasks, ProtoInfo, SeqAdj, Tcp};
use proto_sync::{EncodeOptions, FlowPayload, Next as Sending};

use crate::cache::{Change, FlowIndex};
use crate::clock::Moment;
use crate::config::Expectations;
use crate::mesh::Content as Source;
use crate::shard::{Shard, ShardConfig};

use super::super::testing::{LONG, answer};
use super::*;

/// Octets of a message's header.
const HEADER: usize = 8;

/// A control connection through NAT as an event tells it.
fn control(port: u16, adjusted: bool) -> Flow {
    let mut flow = with_helper(kernel_tcp(port), "ftp");
    flow.status = flow.status.with(Status::SRC_NAT);
    if adjusted {
        flow.status = flow.status.with(Status::SEQ_ADJUST);
    }
    flow
}

/// The same as the kernel tells it when it is asked.
fn by(flow: Flow, octets: i32) -> Flow {
    let mut flow = flow;
    flow.status = flow.status.with(Status::SEQ_ADJUST);
    flow.seqadj[0] = SeqAdj { correction_pos: 77, offset_before: octets - 1, offset_after: octets };
    flow.present.insert(Present::SEQADJ);
    flow
}

fn index(b: &Bench, port: u16) -> FlowIndex {
    b.caches.internal.find(&tcp(port).orig, 0).unwrap()
}

fn stored(b: &Bench, port: u16) -> Flow {
    let mut flow = Flow::default();
    b.caches.internal.load(index(b, port), &mut flow);
    flow
}

/// Lets an event of the kernel take effect on the cache, and what follows.
fn event(b: &mut Bench, flow: &Flow) {
    b.caches.internal.merge(flow, 0).unwrap();
    if b.caches.internal.has_unread() {
        b.side.read_soon(b.now);
    }
}

#[test]
fn what_an_event_leaves_out_is_read() {
    let mut b = bench();
    b.table = (0..200).map(|port| by(control(port, true), 3)).collect();
    b.table.push(kernel_tcp(500));
    for port in 0..200 {
        event(&mut b, &control(port, true));
    }
    event(&mut b, &kernel_tcp(500));
    for port in (0..200).chain([500]) {
        let told = index(&b, port);
        b.caches.internal.mark_changed(told);
    }
    b.changes();
    let begin = b.now;
    b.run();
    assert!(b.now - begin >= Duration::from_millis(5), "packets are rewritten meanwhile");
    assert_eq!(steps(&b), ["get"; 200], "each of those once");
    assert_eq!(b.side.counters().batches, 4, "64 at a time");
    assert!(b.log.iter().all(|asked| asked.lane == Lane::Audit));
    for port in 0..200 {
        assert_eq!(stored(&b, port).seqadj, b.table[usize::from(port)].seqadj);
    }
    let changes = b.changes();
    assert_eq!(changes.len(), 200);
    assert!(changes.iter().all(|(change, _)| *change == Change::Update));
    assert_eq!(b.side.poll_timeout(), None, "nothing is left to be done");
    b.caches.internal.verify();
}

#[test]
fn only_what_may_have_changed_is_read_again() {
    let mut b = bench();
    let mut plain = control(1, true);
    plain.present.remove(Present::HELPER);
    b.table = vec![by(plain, 3), by(control(2, true), 3)];
    for _ in 0..3 {
        event(&mut b, &plain);
        event(&mut b, &control(2, true));
        b.run();
    }
    let asked: Vec<_> = b.log.iter().map(|asked| asked.flow.orig.l4.a).collect();
    assert_eq!(asked, [1, 2, 2, 2], "a helper may adjust again");
    assert_eq!(b.changes().len(), 2);
    event(&mut b, &control(2, true));
    b.run();
    assert!(b.changes().is_empty(), "the same again is no news");
    b.table[1] = by(control(2, true), 8);
    event(&mut b, &control(2, true));
    b.changes();
    b.run();
    assert_eq!(b.changes(), [(Change::Update, 2)]);
    assert_eq!(stored(&b, 2).seqadj[0].offset_after, 8);
}

#[test]
fn events_are_newer_than_all_else_in_the_answer() {
    let mut b = bench();
    b.table = vec![by(control(1, true), 3)];
    let closing = ProtoInfo::Tcp(Tcp { state: 7, wscale: None, flags: None });
    let told = Flow { protoinfo: closing, timeout: 120, ..with_mark(control(1, true), 9) };
    event(&mut b, &told);
    b.run();
    let flow = stored(&b, 1);
    assert_eq!((flow.protoinfo, flow.mark, flow.timeout), (closing, 9, 120));
    assert_eq!(flow.seqadj[0].offset_after, 3);
}

#[test]
fn an_answer_about_the_flow_before_is_not_taken() {
    let mut b = bench();
    let mut latest = control(1, true);
    latest.id = 2;
    latest.present.insert(Present::ID);
    for (id, taken) in [(1u32, false), (2, true)] {
        event(&mut b, &latest);
        b.now += LONG;
        let mut buffer = vec![0; 4096];
        b.side.poll_send(b.now, &mut b.caches, &mut buffer).unwrap();
        let request = Messages::new(&buffer).next().unwrap().unwrap();
        let mut told = entry(&by(control(1, true), 3), request.seq);
        // `CTA_ID`, which requests to make an entry do not have.
        told.extend_from_slice(&[8u16.to_ne_bytes(), 12u16.to_ne_bytes()].concat());
        told.extend_from_slice(&id.to_be_bytes());
        let len = u32::try_from(told.len()).unwrap();
        told[..4].copy_from_slice(&len.to_ne_bytes());
        b.side.on_datagram(b.now, &mut b.caches, &told);
        b.side.on_datagram(b.now, &mut b.caches, &answer(request.bytes, 0));
        assert_eq!(stored(&b, 1).present.has(Present::SEQADJ), taken);
    }
}

#[test]
fn reading_does_not_make_a_flow_one_that_reports() {
    let mut b = bench();
    b.table = vec![control(1, false)];
    let silent = entry(&b.table[0], 7);
    assert!(b.side.begin_dump(DumpPurpose::Merge, &mut b.caches));
    b.side.on_dump_datagram(b.now, &mut b.caches, &silent);
    b.side.dump_finished(b.now, &mut b.caches, true);
    b.run();
    b.table[0] = by(b.table[0], 3);
    b.caches.internal.mark_unread(index(&b, 1));
    b.side.read_soon(b.now);
    b.run();
    let flow = stored(&b, 1);
    assert!(flow.status.has(Status::SEQ_ADJUST) && flow.present.has(Present::SEQADJ));
    assert_eq!(b.caches.internal.silent_len(), 1);
}

#[test]
fn reading_does_not_hide_what_a_dump_tells_after_lost_events() {
    let mut b = bench();
    event(&mut b, &control(1, true));
    b.table = vec![by(with_mark(control(1, true), 5), 3)];
    assert!(b.side.begin_dump(DumpPurpose::Reconcile, &mut b.caches));
    b.run();
    assert!(stored(&b, 1).present.has(Present::SEQADJ));
    b.dump();
    b.side.dump_finished(b.now, &mut b.caches, true);
    b.run();
    assert_eq!(stored(&b, 1).mark, 5);
}

#[test]
fn a_flow_that_ends_is_not_read() {
    let mut b = bench();
    for port in 1..=3 {
        event(&mut b, &control(port, true));
    }
    b.changes();
    b.caches.internal.kill(index(&b, 1));
    b.caches.internal.remove(index(&b, 2));
    b.caches.internal.verify();
    b.run();
    assert_eq!(b.log.len(), 1);
    assert_eq!(b.changes(), [(Change::Delete, 1)], "the kernel has none of them");
    event(&mut b, &control(4, true));
    b.caches.internal.clear();
    b.run();
    assert_eq!(b.log.len(), 1);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let mut b = bench();
    b.table = vec![by(control(1, true), 3)];
    event(&mut b, &control(1, true));
    b.deaf = 2;
    b.run();
    assert_eq!(stored(&b, 1).seqadj[0].offset_after, 3);
    event(&mut b, &control(1, true));
    b.deaf = 1000;
    b.run();
    assert_eq!(b.log.len(), 6, "not without end");
}

#[test]
fn an_audit_goes_on_beside_reading() {
    let mut b = half_silent(200);
    b.table.push(by(control(500, true), 3));
    event(&mut b, &control(500, true));
    assert!(b.side.start_audit(b.now, &b.caches));
    b.run();
    let done = AuditReport { checked: 100, ..AuditReport::default() };
    assert!(matches!(b.events[..], [KernelEvent::AuditDone(r)] if r == done), "{:?}", b.events);
    assert_eq!(b.log.len(), 101);
}

/// A shard that replicates, and what its kernel answers.
pub(super) struct Whole {
    pub(super) shard: Shard,
    pub(super) now: Instant,
    began: Instant,
    table: Flow,
}

impl Whole {
    pub(super) fn new(replicates: bool) -> Self {
        let began = Instant::now();
        let config = ShardConfig {
            id: 0,
            limit: 100,
            seed: Some(1),
            encode: EncodeOptions { window_tracking: false, timeout: true },
            acknowledged: false,
            replicates,
            bypass: false,
            alarm: None,
            kernel: KernelConfig::default(),
            expectations: Expectations::Helpers(vec!["sip".into()]),
            cpu: None,
            cpu_time: || Duration::ZERO,
            flow_log: None,
        };
        let shard = Shard::new(config, Ports { write: 1, flush: 2, audit: 3 }, began);
        Self { shard, now: began, began, table: control(1, false) }
    }

    pub(super) fn event(&mut self, write: impl FnOnce(&mut Encoder<'_>)) {
        let mut buffer = [0; 1024];
        let mut encoder = Encoder::new(&mut buffer);
        write(&mut encoder);
        let now = Moment::new(self.now, self.began);
        self.shard.on_kernel_datagram(now, Source::Events, encoder.bytes());
    }

    /// How many requests the kernel got in the next second.
    fn asked(&mut self) -> usize {
        self.now += Duration::from_secs(1);
        let mut buffer = vec![0; 4096];
        let Some(send) = self.shard.poll_kernel(self.now, &mut buffer) else { return 0 };
        let mut count = 0;
        for message in Messages::new(&buffer[..send.len]).map(|message| message.unwrap()) {
            assert_eq!((message.kind, send.lane), (msg::CT_GET, Lane::Audit));
            count += 1;
            self.shard.on_kernel_answer(self.now, &entry(&self.table, message.seq));
            if message.flags & flag::ACK != 0 {
                self.shard.on_kernel_answer(self.now, &answer(message.bytes, 0));
            }
        }
        count
    }

    /// The offset that peers are told, if they are told anything.
    fn told(&mut self) -> Option<i32> {
        let mut told = None;
        let mut room = [0; 1024];
        while let Sending::Message { len, .. } = self.shard.next_change(&mut room) {
            let mut flow = Flow::default();
            FlowPayload::parse(&room[HEADER..len]).unwrap().write_to(&mut flow);
            let known = flow.present.has(Present::SEQADJ);
            told = Some(if known { flow.seqadj[0].offset_after } else { 0 });
        }
        told
    }
}

#[test]
fn peers_are_told_what_a_status_announces() {
    let mut w = Whole::new(true);
    w.event(|e| e.flow_create(&control(1, true), 0, false).unwrap());
    assert_eq!(w.told(), Some(0));
    w.table = by(w.table, 3);
    assert_eq!((w.asked(), w.told()), (1, Some(3)));
    assert_eq!((w.asked(), w.told()), (0, None));
}

#[test]
fn an_expectation_is_a_reason_to_read_its_master() {
    let mut w = Whole::new(true);
    let mut expect = ftp_expect(4000);
    expect.master = tcp(1).orig;
    w.event(|e| e.expect_create(&expect, 0, false).unwrap());
    assert_eq!(w.asked(), 0, "its master is unknown");
    w.event(|e| e.flow_create(&control(1, false), 0, false).unwrap());
    w.told();
    for offset in [3, 4] {
        // Though this helper's expectations are not replicated, and no event shows the bit.
        w.event(|e| e.expect_create(&expect, 0, false).unwrap());
        w.table = by(w.table, offset);
        assert_eq!((w.asked(), w.told()), (1, Some(offset)));
    }
    // Of a connection that is not translated nothing is rewritten.
    let mut plain = kernel_tcp(2);
    plain.status = Status(0xe);
    expect.master = plain.orig;
    w.event(|e| e.flow_create(&plain, 0, false).unwrap());
    w.event(|e| e.expect_create(&expect, 0, false).unwrap());
    assert_eq!(w.asked(), 0);
}

#[test]
fn who_has_no_peer_does_not_read() {
    let mut w = Whole::new(false);
    w.event(|e| e.flow_create(&control(1, true), 0, false).unwrap());
    assert_eq!(w.asked(), 0);
    assert_eq!(w.shard.poll_timeout(), None);
}

/// The original keeps the lower 32 bits of what one flow has carried.
#[test]
fn traffic_that_ended_is_counted_in_full() {
    const CARRIED: u64 = 5 << 32 | 7;
    let mut w = Whole::new(true);
    let flow = kernel_tcp(1);
    w.event(|e| e.flow_create(&flow, 0, false).unwrap());
    let mut buffer = [0; 1024];
    let mut encoder = Encoder::new(&mut buffer);
    encoder.flow_delete(&flow.orig, 0, None, 0, false).unwrap();
    let mut end = encoder.bytes().to_vec();
    // Each counter is an attribute of 12 octets inside one for the direction.
    for direction in [CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY] {
        end.extend([28u16, direction | NLA_F_NESTED].map(u16::to_ne_bytes).concat());
        for counter in [CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES] {
            end.extend([12u16, counter].map(u16::to_ne_bytes).concat());
            end.extend(CARRIED.to_be_bytes());
        }
    }
    let len = end.len() as u32;
    end[..4].copy_from_slice(&len.to_ne_bytes());
    w.shard.on_kernel_datagram(Moment::new(w.now, w.began), Source::Events, &end);
    let traffic = w.shard.counters.traffic;
    assert_eq!((traffic.packets, traffic.bytes), (2 * CARRIED, 2 * CARRIED));
}

/// Only a change of the mark is told when it is zero, and that event may have been lost.
#[test]
fn an_update_without_a_mark_says_that_it_is_zero() {
    let mut whole = Whole::new(true);
    let mark = |whole: &Whole| {
        let internal = &whole.shard.caches().internal;
        let mut flow = Flow::default();
        internal.load(internal.find(&tcp(1).orig, 0).unwrap(), &mut flow);
        (flow.present.has(Present::MARK), flow.mark)
    };
    let event = |whole: &mut Whole, flow: &Flow, flags| {
        whole.event(|encoder| encoder.flow_new(flow, FlowMasks::default(), flags, 0).unwrap());
    };
    event(&mut whole, &with_mark(kernel_tcp(1), 263), flag::CREATE | flag::EXCL);
    assert_eq!(mark(&whole), (true, 263));
    event(&mut whole, &kernel_tcp(1), 0);
    assert_eq!(mark(&whole), (true, 0));
}
