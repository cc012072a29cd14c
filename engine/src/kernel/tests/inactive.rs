//! Expectations become active without an event.

use proto_sync::{ExpectPayload, Kind, Next as Sending};

use super::super::testing::{LONG, answer, expect_entry};
use super::read::Whole;
use super::*;

const PERMANENT: u32 = 1;
const INACTIVE: u32 = 2;
/// Octets of a message's header.
const HEADER: usize = 8;

/// What the registration of a phone expects.
fn registration(port: u16, flags: u32) -> Expect {
    Expect { flags, helper: Name::new(b"sip").unwrap(), ..ftp_expect(port) }
}

/// The kernel tells it by an event, and it is sent.
fn event(b: &mut Bench, expect: &Expect) {
    let stored = b.caches.expects_internal.replace(expect, 0).unwrap();
    b.side.read_if_inactive(b.now, stored.index, expect);
    told(b);
}

/// Flags of what peers would be told now, and are then.
fn told(b: &mut Bench) -> Vec<u32> {
    let expects = &mut b.caches.expects_internal;
    let mut all = Vec::new();
    while let Some((index, _)) = expects.next_changed() {
        all.push(expects.get(index).unwrap().0.flags);
        expects.sent(index, false);
    }
    all
}

/// What the peer is told next, if anything.
fn sent(w: &mut Whole) -> Option<(Kind, u32)> {
    let mut room = [0; 1024];
    let Sending::Message { len, .. } = w.shard.next_change(&mut room) else { return None };
    let kind = Kind::from_type(room[0] & 15).unwrap();
    let mut expect = Expect::default();
    ExpectPayload::parse(&room[HEADER..len]).unwrap().write_to(&mut expect);
    Some((kind, expect.flags))
}

/// After a fail-over no call reached the phone: for the peer the registrar had never agreed.
#[test]
fn a_registration_that_becomes_active_is_told() {
    let mut w = Whole::new(true);
    w.event(|e| e.expect_create(&registration(5060, PERMANENT | INACTIVE), 0, false).unwrap());
    assert_eq!(sent(&mut w), Some((Kind::ExpectNew, PERMANENT | INACTIVE)));
    let mut buffer = vec![0; 4096];
    assert_eq!(w.shard.poll_kernel(w.now, &mut buffer), None, "the registrar has to answer first");
    w.now += Duration::from_secs(1);
    assert!(w.shard.poll_timeout().is_some_and(|due| due <= w.now));
    let send = w.shard.poll_kernel(w.now, &mut buffer).expect("a question");
    let request = Messages::new(&buffer[..send.len]).next().unwrap().unwrap();
    assert_eq!((request.kind, send.lane), (msg::EXP_GET, Lane::Audit));
    let active = expect_entry(&registration(5060, PERMANENT), request.seq);
    w.shard.on_kernel_answer(w.now, &active);
    w.shard.on_kernel_answer(w.now, &answer(request.bytes, 0));
    assert_eq!(sent(&mut w), Some((Kind::ExpectUpdate, PERMANENT)));
    w.now += LONG;
    assert_eq!(w.shard.poll_kernel(w.now, &mut buffer), None, "there is nothing left to be asked");
    assert_eq!(w.shard.poll_timeout(), None);
}

#[test]
fn what_stays_inactive_is_asked_for_ever_less_and_not_for_ever() {
    let mut b = bench();
    let inactive = registration(5060, PERMANENT | INACTIVE);
    b.expects = vec![inactive];
    event(&mut b, &inactive);
    let mut at = Vec::new();
    for second in 1..200 {
        b.run_for(Duration::from_secs(1));
        at.resize(b.log.len(), second);
    }
    assert_eq!(at, [1, 3, 7, 15, 31, 63]);
    assert!(told(&mut b).is_empty(), "the same again is no news");
    assert_eq!(b.side.poll_timeout(), None);
    // It is made anew, and active in the end.
    event(&mut b, &inactive);
    b.run_for(Duration::from_secs(4));
    b.expects[0].flags = PERMANENT;
    b.run();
    assert_eq!((b.log.len(), told(&mut b)), (9, vec![PERMANENT]));
    b.caches.expects_internal.verify();
}

#[test]
fn only_what_is_there_and_inactive_is_asked_for() {
    let mut b = bench();
    event(&mut b, &registration(1, PERMANENT));
    for port in 2..=5 {
        event(&mut b, &registration(port, INACTIVE));
    }
    let expects = &mut b.caches.expects_internal;
    let find = |expects: &crate::expects::Expects, port| expects.find(&registration(port, 0));
    expects.kill(find(expects, 2).unwrap());
    expects.remove(find(expects, 3).unwrap());
    expects.merge(&registration(4, 0), 0).unwrap();
    b.run();
    assert!(b.log.iter().all(|asked| asked.expect.tuple == registration(5, 0).tuple));
    assert_eq!(b.log.len(), 6, "the kernel does not have it; its end comes by an event");
    assert_eq!(b.caches.expects_internal.alive_len(), 3);
    assert!(b.events.is_empty(), "{:?}", b.events);
}

#[test]
fn lost_answers_do_no_harm() {
    let mut b = bench();
    b.expects = vec![registration(5060, PERMANENT)];
    event(&mut b, &registration(5060, PERMANENT | INACTIVE));
    b.deaf = 5;
    b.run();
    assert_eq!(told(&mut b), [PERMANENT]);
}

/// A reading, at the operator's word or in place of events, took them and told nobody.
#[test]
fn a_reading_tells_flags_that_have_changed() {
    for (polls, purpose) in [
        (false, DumpPurpose::Merge),
        (false, DumpPurpose::Reconcile),
        (true, DumpPurpose::Reconcile),
    ] {
        let mut b = Bench::new(KernelConfig { polls, ..KernelConfig::default() });
        b.caches.internal.replace(&tcp(21), 0).unwrap();
        event(&mut b, &registration(1, PERMANENT | INACTIVE));
        event(&mut b, &registration(2, PERMANENT));
        assert!(b.side.begin_dump(purpose, &mut b.caches));
        for expect in [registration(1, PERMANENT), registration(2, PERMANENT)] {
            b.side.on_dump_datagram(b.now, &mut b.caches, &expect_entry(&expect, 7));
        }
        b.side.dump_finished(b.now, &mut b.caches, true);
        assert_eq!(told(&mut b), [PERMANENT], "one of the two: {polls} {purpose:?}");
        let at = b.caches.expects_internal.find(&registration(1, 0)).unwrap();
        assert_eq!(b.caches.expects_internal.get(at).unwrap().0.flags, PERMANENT);
    }
}

#[test]
fn what_a_reading_shows_inactive_is_asked_for_too() {
    let mut b = bench();
    b.caches.internal.replace(&tcp(21), 0).unwrap();
    b.expects = vec![registration(1, PERMANENT)];
    assert!(b.side.begin_dump(DumpPurpose::Start, &mut b.caches));
    let shown = expect_entry(&registration(1, PERMANENT | INACTIVE), 7);
    b.side.on_dump_datagram(b.now, &mut b.caches, &shown);
    b.side.dump_finished(b.now, &mut b.caches, true);
    assert!(told(&mut b).is_empty());
    b.run();
    assert_eq!(told(&mut b), [PERMANENT]);
}
