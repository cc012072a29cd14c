//! Events that come while the kernel's table is read.

use proto_ctnl::{Labels, ProtoInfo, Tcp};

use crate::cache::Change;

use super::*;

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
fn an_entry_that_only_an_update_made_is_completed_and_told() {
    // The update came before the reading, or while it runs, when it may be newer.
    for during in [false, true] {
        let mut b = bench();
        let mut whole = with_mark(kernel_tcp(1), 5);
        whole.present.insert(Present::MASTER);
        whole.master = kernel_tcp(21).orig;
        let update = with_mark(kernel_tcp(1), 9);
        b.table = vec![if during { whole } else { with_mark(whole, 9) }];
        if !during {
            b.caches.internal.merge(&update, 0).unwrap();
        }
        assert!(b.side.begin_dump(DumpPurpose::Reconcile, &mut b.caches));
        if during {
            b.caches.internal.merge(&update, 0).unwrap();
        }
        b.dump();
        b.side.dump_finished(b.now, &mut b.caches, true);
        b.run();
        let index = b.caches.internal.find(&whole.orig, 0).unwrap();
        let mut flow = Flow::default();
        b.caches.internal.load(index, &mut flow).unwrap();
        assert!(flow.present.has(Present::MASTER) && flow.mark == 9, "{during}");
        assert_eq!(b.changes(), [(Change::New, 1)]);
    }
}

/// An event tells labels and the protocol's state only when they change. Of those that changed before,
/// while events were lost, only the reading tells; of those that change while it runs, the event does,
/// as the reading may have passed the flow before.
#[test]
fn what_an_event_leaves_out_is_taken_from_the_reading_that_runs() {
    let tell = |state: u8, labels: u32| {
        let mut flow = kernel_tcp(1);
        flow.protoinfo = ProtoInfo::Tcp(Tcp { state, wscale: Some([7, 7]), flags: None });
        flow.labels = Labels([labels, 0, 0, 0]);
        flow.present.insert(Present(Present::PROTOINFO.0 | Present::LABELS.0));
        flow
    };
    let known = |flow: &Flow| {
        let ProtoInfo::Tcp(tcp) = flow.protoinfo else { panic!("{flow:?}") };
        (tcp.state, flow.labels.0[0], flow.mark)
    };
    for told in [Present::NONE, Present::PROTOINFO, Present::LABELS] {
        let mut b = bench();
        b.caches.internal.replace(&tell(1, 8), 0).unwrap();
        b.changes();
        // Older than the event.
        b.table = vec![with_mark(tell(3, 12), 4)];
        assert!(b.side.begin_dump(DumpPurpose::Reconcile, &mut b.caches));
        let mut event = with_mark(tell(5, 24), 9);
        event.present.0 &= !(Present::PROTOINFO.0 | Present::LABELS.0) | told.0;
        b.caches.internal.merge(&event, 0).unwrap();
        // And one more that leaves both out.
        event.present.0 &= !(Present::PROTOINFO.0 | Present::LABELS.0);
        b.caches.internal.merge(&event, 0).unwrap();
        b.dump();
        b.side.dump_finished(b.now, &mut b.caches, true);
        b.run();
        let index = b.caches.internal.find(&tcp(1).orig, 0).unwrap();
        let mut flow = Flow::default();
        b.caches.internal.load(index, &mut flow).unwrap();
        let state = if told == Present::PROTOINFO { 5 } else { 3 };
        let labels = if told == Present::LABELS { 24 } else { 12 };
        assert_eq!(known(&flow), (state, labels, 9), "{told:?}");
        assert_eq!(b.changes(), [(Change::New, 1)], "{told:?}");
    }
}
