//! Bounds and promises of a session, each by itself.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto_ctnl::{Flow, Present};
use proto_sync::{
    EncodeOptions, ExpectPayload, FlowPayload, Host, Kind, Messages, Mode, Next, Reassembler,
    ResendEntry, Session, SessionConfig, SessionEvent, Token, datagram_max, encode_flow, flag,
};

/// Objects that are one mark, 16 octets on the wire.
#[derive(Default)]
struct Owner {
    queue: VecDeque<u32>,
    received: Vec<u32>,
    acked: Vec<u32>,
    nacked: Vec<u32>,
    evicted: Vec<u32>,
    oversize: u32,
}

impl Owner {
    fn with(count: u32) -> Self {
        Self { queue: (0..count).collect(), ..Self::default() }
    }
}

impl Host for Owner {
    fn flow(&mut self, _: Kind, _: &[u8], payload: &FlowPayload<'_>) {
        let mut flow = Flow::default();
        payload.write_to(&mut flow);
        self.received.push(flow.mark);
    }

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {}

    fn next(&mut self, room: &mut [u8]) -> Next {
        let Some(&mark) = self.queue.front() else { return Next::Empty };
        let flow = Flow { present: Present::ORIG.or(Present::MARK), mark, ..Flow::default() };
        let Some(len) = encode_flow(Kind::New, &flow, &EncodeOptions::default(), room) else {
            return Next::NoRoom;
        };
        self.queue.pop_front();
        Next::Message { len, token: Token { index: mark, ..Token::default() } }
    }

    fn oversize(&mut self) {
        self.queue.pop_front();
        self.oversize += 1;
    }

    fn acked(&mut self, token: Token) {
        self.acked.push(token.index);
    }

    fn nacked(&mut self, token: Token) {
        self.nacked.push(token.index);
    }

    fn evicted(&mut self, token: Token) {
        self.evicted.push(token.index);
    }
}

fn session(mode: Mode, in_flight_max: u32, datagrams_per_ms: u32, now: Instant) -> Session {
    Session::new(&SessionConfig { mode, first_seq: 100, in_flight_max, datagrams_per_ms }, now)
}

const FTFW: Mode = Mode::Ftfw { ack_window: 300, resend_queue: 1000 };

/// Octets of the messages that an [`Owner`] has to send: addresses, a protocol and a mark.
const MESSAGE: usize = 36;

/// Everything the session has to send now.
fn drain(session: &mut Session, now: Instant, owner: &mut Owner) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 600];
    std::iter::from_fn(|| {
        let len = session.poll_transmit(now, &mut buffer, owner)?;
        Some(buffer[..len].to_vec())
    })
    .collect()
}

fn control(flags: u8, seq: u32, from: u32, to: u32) -> Vec<u8> {
    let mut m = vec![0x1a, flags, 0, 16];
    m.extend([seq, from, to].map(u32::to_be_bytes).concat());
    m
}

/// Flags and ranges of the control messages in datagrams.
fn controls(datagrams: &[Vec<u8>]) -> Vec<(u8, u32, u32)> {
    let messages = datagrams.iter().flat_map(|octets| Messages::new(octets));
    let control = messages.map(Result::unwrap).filter(|m| m.message_type == 10);
    control.map(|m| (m.flags, m.range.0, m.range.1)).collect()
}

#[test]
fn a_message_that_fits_no_datagram_is_dropped_and_counted() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::with(5);
    // 16 octets are the least that a session sends with.
    assert_eq!(session.poll_transmit(now, &mut [0; 15], &mut owner), None);
    assert_eq!((owner.queue.len(), owner.oversize), (5, 0));
    assert_eq!(session.poll_transmit(now, &mut [0; MESSAGE], &mut owner), Some(MESSAGE));
    let mut owner = Wide { left: 3, dropped: 0 };
    assert_eq!(session.poll_transmit(now, &mut [0; 100], &mut owner), None);
    assert_eq!((owner.left, owner.dropped), (0, 3));
    assert_eq!(session.counters().send_oversize, 3);
}

/// Has messages that never fit.
struct Wide {
    left: u32,
    dropped: u32,
}

impl Host for Wide {
    fn flow(&mut self, _: Kind, _: &[u8], _: &FlowPayload<'_>) {}

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {}

    fn next(&mut self, _: &mut [u8]) -> Next {
        if self.left == 0 { Next::Empty } else { Next::NoRoom }
    }

    fn oversize(&mut self) {
        self.left -= 1;
        self.dropped += 1;
    }

    fn acked(&mut self, _: Token) {}

    fn nacked(&mut self, _: Token) {}

    fn evicted(&mut self, _: Token) {}
}

#[test]
fn state_in_flight_is_bounded_until_the_peer_speaks_or_time_passes() {
    let now = Instant::now();
    let mut session = session(FTFW, 10, 0, now);
    let mut owner = Owner::with(100);
    drain(&mut session, now, &mut owner);
    assert_eq!(session.resend_depth(), (10, 10));
    // An acknowledgement lets as many follow.
    session.handle_datagram(now, &control(flag::ACK, 7, 100, 103), &mut owner);
    assert_eq!(owner.acked, [0, 1, 2, 3]);
    drain(&mut session, now, &mut owner);
    assert_eq!((session.resend_depth().0, owner.queue.len()), (10, 86));
    // And so do 100 ms, a window each.
    let deadline = session.poll_timeout().unwrap();
    assert_eq!(deadline, now + Duration::from_millis(100));
    for n in 1..=3 {
        let at = now + Duration::from_millis(100 * n);
        session.handle_timeout(at);
        drain(&mut session, at, &mut owner);
        assert_eq!((session.resend_depth().0, session.counters().reliefs), (10 + 10 * n as u32, n));
        assert_eq!(session.poll_timeout(), Some(at + Duration::from_millis(100)));
    }
}

#[test]
fn datagrams_are_paced() {
    let now = Instant::now();
    let mut session = session(Mode::Notrack, 0, 5, now);
    let mut owner = Owner::with(100_000);
    let mut at = now;
    let mut sent = 0;
    while at < now + Duration::from_millis(100) {
        sent += drain(&mut session, at, &mut owner).len();
        at = session.poll_timeout().unwrap();
    }
    assert!((500..=525).contains(&sent), "{sent}");
    assert!(!owner.queue.is_empty());
}

#[test]
fn a_keepalive_comes_after_a_second_of_silence_and_not_before() {
    let now = Instant::now();
    for mode in [Mode::Notrack, FTFW] {
        let mut session = session(mode, 0, 0, now);
        let mut owner = Owner::default();
        let early = now + Duration::from_millis(999);
        session.handle_timeout(early);
        assert_eq!(drain(&mut session, early, &mut owner).len(), 0);
        let due = session.poll_timeout().unwrap();
        assert_eq!(due, now + Duration::from_secs(1));
        session.handle_timeout(due);
        let sent = controls(&drain(&mut session, due, &mut owner));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].0 & flag::ALIVE, flag::ALIVE);
        assert_eq!(session.poll_timeout(), Some(due + Duration::from_secs(1)));
    }
    let mut alarm = session(Mode::Alarm, 0, 0, now);
    alarm.request_resync();
    assert_eq!(alarm.poll_timeout(), None);
    assert_eq!(drain(&mut alarm, now, &mut Owner::default()).len(), 0);
}

#[test]
fn repeated_control_messages_have_the_flags_of_now() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::default();
    session.request_resync();
    let first = controls(&drain(&mut session, now, &mut owner));
    assert_eq!(first, [(flag::RESYNC | flag::HELLO, 0, 0)]);
    let entries: Vec<_> = session.resend_queue().collect();
    assert_eq!(entries, [ResendEntry::Control { seq: 100, flags: flag::RESYNC | flag::HELLO }]);
    // The peer knows us, and lacks the request.
    session.handle_datagram(now, &control(flag::NACK | flag::HELLO_BACK, 7, 100, 100), &mut owner);
    assert!(session.is_greeted());
    assert_eq!(controls(&drain(&mut session, now, &mut owner)), [(flag::RESYNC, 0, 0)]);
}

#[test]
fn a_restarted_peer_gets_what_it_did_not_acknowledge() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::with(4);
    session.handle_datagram(now, &control(flag::RESYNC, 500, 0, 0), &mut owner);
    assert_eq!(session.poll_event(), Some(SessionEvent::PeerWantsResync));
    drain(&mut session, now, &mut owner);
    session.handle_datagram(now, &control(flag::ACK, 501, 100, 101), &mut owner);
    assert_eq!(owner.acked, [0, 1]);
    session.handle_datagram(now, &[0x1a, 0x30, 0, 8, 0, 0, 0, 9], &mut owner);
    assert_eq!(owner.nacked, [2, 3]);
    assert_eq!(session.poll_event(), Some(SessionEvent::PeerRestarted));
    assert_eq!(session.poll_event(), None);
    assert_eq!(session.last_received(), Some(9));
}

/// Each forged greeting once made a node send again all that was in flight, at once.
#[test]
fn everything_in_flight_is_repeated_once_a_second_however_many_greetings_come() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::with(4);
    let repeat = |owner: &mut Owner| owner.queue.extend(core::mem::take(&mut owner.nacked));
    drain(&mut session, now, &mut owner);
    let mut repeated = 0;
    for n in 0..100u32 {
        let at = now + Duration::from_millis(u64::from(n) * 5);
        let hello = [&[0x1a, 0x30, 0, 8][..], &(1000 + 100_000 * n).to_be_bytes()].concat();
        session.handle_datagram(at, &hello, &mut owner);
        drain(&mut session, at, &mut owner);
        repeated += owner.nacked.len();
        repeat(&mut owner);
    }
    assert_eq!((session.counters().peer_starts, repeated), (100, 4));
    // What the last of them is owed comes when the second has passed, without another message.
    let due = session.poll_timeout().unwrap();
    assert!(due <= now + Duration::from_secs(1));
    // A link that takes nothing is not asked again and again.
    session.handle_timeout(due);
    assert!(session.poll_timeout().unwrap() > due);
    drain(&mut session, now + Duration::from_secs(1), &mut owner);
    assert_eq!(owner.nacked.len(), 4);
    repeat(&mut owner);
    drain(&mut session, now + Duration::from_secs(1), &mut owner);
    drain(&mut session, now + Duration::from_secs(5), &mut owner);
    assert!(owner.nacked.is_empty());
}

#[test]
fn what_is_acknowledged_around_is_sent_again_after_a_while() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::with(4);
    drain(&mut session, now, &mut owner);
    // The first two were lost before the peer knew our numbers: it begins with the third.
    session.handle_datagram(now, &control(flag::ACK, 1, 102, 103), &mut owner);
    assert!(owner.nacked.is_empty());
    let later = now + Duration::from_millis(3100);
    session.handle_datagram(later, &control(flag::ACK, 2, 104, 104), &mut owner);
    assert_eq!(owner.nacked, [0, 1]);
    assert_eq!(session.resend_depth().0, 0);
}

#[test]
fn what_was_evicted_and_is_acknowledged_around_is_a_hole() {
    let now = Instant::now();
    let mut session = session(Mode::Ftfw { ack_window: 9, resend_queue: 2 }, 0, 0, now);
    let mut owner = Owner::with(5);
    // Two at a time, unless nothing is acknowledged for a while: 100 to 102 are evicted.
    for n in 0..4 {
        drain(&mut session, now + Duration::from_millis(200 * n), &mut owner);
    }
    assert_eq!(owner.evicted, [0, 1, 2]);
    // The first two were lost before the peer knew our numbers.
    session.handle_datagram(now, &control(flag::ACK | flag::HELLO_BACK, 1, 102, 104), &mut owner);
    assert_eq!(session.poll_event(), Some(SessionEvent::Hole));
    session.handle_datagram(now, &control(flag::ACK, 2, 102, 104), &mut owner);
    assert_eq!(session.poll_event(), None);
}

/// A node that has asked for everything and told three states, which took the place of the request in its
/// queue: the request, 100, is lost.
fn with_a_request_given_up(now: Instant) -> (Session, Owner) {
    let mut session = session(Mode::Ftfw { ack_window: 9, resend_queue: 2 }, 0, 0, now);
    let mut owner = Owner::with(3);
    session.request_resync();
    for n in 0..3 {
        drain(&mut session, now + Duration::from_millis(200 * n), &mut owner);
    }
    (session, owner)
}

/// A node with a small queue once asked for everything again, seconds after it had got everything.
#[test]
fn a_request_for_everything_stands_for_the_requests_that_were_given_up() {
    for asked_anew in [false, true] {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let (mut session, mut owner) = with_a_request_given_up(now);
        session.handle_datagram(at(500), &control(flag::ACK, 1, 101, 103), &mut owner);
        if asked_anew {
            session.request_resync();
            drain(&mut session, at(500), &mut owner);
            session.handle_datagram(at(500), &control(flag::ACK, 2, 104, 104), &mut owner);
        }
        assert_eq!(session.resend_depth().0, 0);
        // The peer has lost track, maybe of the request.
        session.handle_datagram(at(600), &control(flag::RESYNC, 3, 0, 0), &mut owner);
        session.handle_timeout(at(2000));
        let sent = controls(&drain(&mut session, at(2000), &mut owner));
        let asks = sent.iter().filter(|(flags, ..)| flags & flag::RESYNC != 0).count();
        assert_eq!(asks, usize::from(!asked_anew), "{sent:?}");
    }
}

/// Only a silent node once asked again, and one that always has something to tell never did.
#[test]
fn a_node_that_is_never_silent_asks_again_too() {
    let now = Instant::now();
    let at = |ms| now + Duration::from_millis(ms);
    let (mut session, mut owner) = with_a_request_given_up(now);
    let mut asks = |session: &mut Session, ms, message: &[u8]| {
        session.handle_datagram(at(ms), message, &mut owner);
        owner.queue.push_back(9);
        let sent = controls(&drain(session, at(ms), &mut owner));
        sent.iter().filter(|(flags, ..)| flags & flag::RESYNC != 0).count()
    };
    // The peer does not ask for anything.
    let ack = |n: u32| control(flag::ACK, n, 100 + n, 100 + n);
    assert_eq!(asks(&mut session, 500, &ack(1)), 0);
    assert_eq!(asks(&mut session, 500, &control(flag::RESYNC, 2, 0, 0)), 0);
    let all: usize = (3..9).map(|n| asks(&mut session, 500 + 100 * u64::from(n), &ack(n))).sum();
    assert_eq!(all, 1);
}

#[test]
fn a_late_copy_of_a_hello_changes_nothing() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::default();
    let hello = [0x1a, 0x30, 0, 8, 0, 0, 0, 100];
    session.handle_datagram(now, &hello, &mut owner);
    while session.poll_event().is_some() {}
    for seq in 101..=105 {
        session.handle_datagram(now, &[0x1a, 0x10, 0, 8, 0, 0, 0, seq], &mut owner);
    }
    drain(&mut session, now, &mut owner);
    assert!(!session.handle_datagram(now, &hello, &mut owner));
    session.handle_datagram(now, &[0x1a, 0x10, 0, 8, 0, 0, 0, 106], &mut owner);
    assert_eq!(session.poll_event(), None);
    let (counters, last) = (session.counters(), session.last_received());
    assert_eq!((counters.late_hellos, counters.before, counters.lost, last), (1, 1, 0, Some(106)));
    // The next acknowledgement has no hole.
    let tick = session.poll_timeout().unwrap();
    session.handle_timeout(tick);
    assert_eq!(controls(&drain(&mut session, tick, &mut owner))[0], (0x68, 100, 106));
}

/// A peer that starts twice within seconds: what it asks for in its second life looks like copies of
/// the first, and the third begins before that is clear.
#[test]
fn a_peer_whose_request_passed_for_a_late_copy_gets_everything() {
    let start = Instant::now();
    let (mut session, mut owner) = (session(FTFW, 0, 0, start), Owner::default());
    let mut hear = |secs, flags, seq| {
        let now = start + Duration::from_secs(secs);
        session.handle_datagram(now, &[0x1a, flags, 0, 8, 0, 0, 0, seq], &mut owner);
        std::iter::from_fn(|| session.poll_event()).collect::<Vec<_>>()
    };
    hear(0, 0x30, 100);
    for seq in 101..=120 {
        hear(0, 0x10, seq);
    }
    for seq in [101, 102, 103] {
        assert_eq!(hear(1, 0x30, seq), [], "{seq}");
    }
    assert_eq!(hear(2, 0x30, 102), []);
    // Still saying HELLO long after the first greeting.
    let told = hear(6, 0x30, 103);
    assert!(told.contains(&SessionEvent::PeerWantsResync), "{told:?}");
    // A restart of which nothing was dropped asks by itself.
    let told = hear(30, 0x30, 50);
    assert_eq!(told, [SessionEvent::PeerRestarted]);
}

/// What an original wrote into a connection that did not get through, before it went on by another
/// one, comes when the link is back.
#[test]
fn a_hello_that_waited_in_a_connection_is_no_restart() {
    let start = Instant::now();
    let (mut session, mut owner) = (session(FTFW, 0, 0, start), Owner::default());
    let (mut stuck, mut other) = (Reassembler::new(), Reassembler::new());
    stuck.begin(start);
    other.begin(start);
    let mut take = |stream: &mut Reassembler, secs, flags, seq| {
        let now = start + Duration::from_secs(secs);
        session.handle_stream(now, stream, &[0x1a, flags, 0, 8, 0, 0, 0, seq], &mut owner).unwrap();
        (session.counters().peer_starts, session.last_received())
    };
    assert_eq!(take(&mut other, 0, 0x30, 103), (1, Some(103)));
    for n in 1..20 {
        assert_eq!(take(&mut other, n, 0x10, 103 + n as u8), (1, Some(103 + n as u32)));
    }
    for seq in 100..103 {
        assert_eq!(take(&mut stuck, 20, 0x30, seq), (1, Some(122)));
    }
    assert_eq!(take(&mut other, 20, 0x10, 123), (1, Some(123)));
    // A peer that starts again connects again.
    other.begin(start + Duration::from_secs(30));
    assert_eq!(take(&mut other, 30, 0x30, 50), (2, Some(50)));
    // One that did not, and yet goes on so, is believed.
    stuck.begin(start + Duration::from_secs(31));
    take(&mut other, 40, 0x10, 51);
    assert_eq!(take(&mut stuck, 41, 0x30, 10), (2, Some(51)));
    assert_eq!(take(&mut stuck, 42, 0x30, 11), (3, Some(11)));
}

/// The peer has not noticed yet that this node has started again with numbers that it has had.
#[test]
fn what_is_acknowledged_of_a_former_life_did_not_arrive_in_this_one() {
    let now = Instant::now();
    let (mut session, mut owner) = (session(FTFW, 0, 0, now), Owner::with(3));
    session.request_resync();
    drain(&mut session, now, &mut owner);
    session.handle_datagram(now, &control(flag::ACK, 500, 90, 110), &mut owner);
    assert_eq!((owner.acked.len(), session.resend_depth().0), (0, 4));
    // It asks for what it took for late copies.
    session.handle_datagram(
        now,
        &control(flag::NACK | flag::HELLO_BACK, 501, 100, 102),
        &mut owner,
    );
    assert_eq!(owner.nacked.len(), 2);
    assert!(controls(&drain(&mut session, now, &mut owner)).contains(&(flag::RESYNC, 0, 0)));
    // Known by the peer, an original may begin with numbers of the former life.
    session.handle_datagram(now, &control(flag::ACK, 502, 90, 110), &mut owner);
    assert_eq!(session.resend_depth().0, 0);
}

#[test]
fn a_window_of_one_does_not_acknowledge_acknowledgements() {
    let now = Instant::now();
    let mut session = session(Mode::Ftfw { ack_window: 1, resend_queue: 10 }, 0, 0, now);
    let mut owner = Owner::default();
    session.handle_datagram(now, &[0x10, 0, 0, 8, 0, 0, 0, 1], &mut owner);
    assert_eq!(controls(&drain(&mut session, now, &mut owner)), [(0x28, 1, 1)]);
    session.handle_datagram(now, &control(flag::ACK, 2, 100, 100), &mut owner);
    assert_eq!(drain(&mut session, now, &mut owner).len(), 0);
    // A gap does not stop it: state is acknowledged at once as before.
    session.handle_datagram(now, &[0x10, 0, 0, 8, 0, 0, 0, 5], &mut owner);
    let sent = controls(&drain(&mut session, now, &mut owner));
    assert_eq!(sent, [(0x28, 2, 2), (0x24, 3, 4), (0x28, 5, 5)]);
}

#[test]
fn a_peer_whose_numbers_were_lost_is_followed_again() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::default();
    session.handle_datagram(now, &[0x1a, 0x10, 0, 8, 0, 0, 0, 10], &mut owner);
    // A number from nowhere: a late datagram of another life.
    session.handle_datagram(now, &[0x1a, 0x10, 0, 8, 0, 9, 0, 0], &mut owner);
    assert_eq!(session.last_received(), Some(0x9_0000));
    for n in 1..=3u8 {
        let at = now + Duration::from_secs(n.into());
        assert!(!session.handle_datagram(at, &[0x1a, 0x10, 0, 8, 0, 0, 0, 10 + n], &mut owner));
    }
    let at = now + Duration::from_secs(4);
    assert!(session.handle_datagram(at, &[0x1a, 0x10, 0, 8, 0, 0, 0, 14], &mut owner));
    assert_eq!((session.last_received(), session.counters().renumbered), (Some(14), 1));
    // What was dropped meanwhile is asked for.
    let sent = controls(&drain(&mut session, at, &mut owner));
    assert!(sent.contains(&(flag::NACK | flag::HELLO, 11, 13)), "{sent:?}");
}

#[test]
fn a_peer_that_lost_our_numbers_is_overtaken() {
    let now = Instant::now();
    let mut session = session(FTFW, 0, 0, now);
    let mut owner = Owner::with(3);
    drain(&mut session, now, &mut owner);
    session.handle_datagram(now, &control(flag::ACK | flag::HELLO_BACK, 1, 100, 100), &mut owner);
    // It claims to lack 103 to 110, which were never sent: so it has 111, of a former life.
    session.handle_datagram(now, &control(flag::NACK, 2, 103, 110), &mut owner);
    assert_eq!((session.next_seq(), session.counters().renumbered), (112, 1));
    assert_eq!(owner.nacked, [1, 2]);
}

#[test]
fn a_stream_is_followed_across_any_cut() {
    let now = Instant::now();
    let mut sender = session(Mode::Notrack, 0, 0, now);
    let mut owner = Owner::with(500);
    let stream = drain(&mut sender, now, &mut owner).concat();
    for cut in [1, 7, 16, 100, stream.len()] {
        let mut receiver = session(Mode::Notrack, 0, 0, now);
        let mut reassembler = Reassembler::new();
        let mut owner = Owner::default();
        for part in stream.chunks(cut) {
            receiver.handle_stream(now, &mut reassembler, part, &mut owner).unwrap();
        }
        assert!(owner.received.iter().copied().eq(0..500));
        assert_eq!(receiver.counters().lost, 0);
        let broken =
            receiver.handle_stream(now, &mut reassembler, &[0x10, 0, 0, 4, 0, 0, 0, 0], &mut owner);
        assert!(broken.is_err());
        assert_eq!(receiver.counters().bad_size, 1);
    }
}

#[test]
fn datagrams_are_filled_to_the_last_octet_that_the_original_fills() {
    // 15 messages of 92 octets at an MTU of 1500, 19 of 76, and 7 of 76 at an MTU of 600.
    for (mtu, message, count) in [(1500, 92, 15), (1500, 76, 19), (600, 76, 7)] {
        assert_eq!(datagram_max(mtu, false, false) / message, count);
    }
    let now = Instant::now();
    let mut session = session(Mode::Notrack, 0, 0, now);
    let mut owner = Owner::with(1000);
    let mut buffer = vec![0; datagram_max(1500, false, false)];
    let len = session.poll_transmit(now, &mut buffer, &mut owner).unwrap();
    assert_eq!(len, buffer.len() / MESSAGE * MESSAGE);
}
