//! Recorded dialogues between two originals, with one of them replaced by a [`Session`].
//!
//! The session gets what the replaced node got, when it got it, and its objects change when that
//! node's did. What it sends must be what the node sent: types, flags, numbers, ranges. Where a
//! correction makes it differ, the difference is written down below, with the reason.

#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use common::{list, scenario, scenarios, unhex};
use proto_ctnl::{Flow, Present};
use proto_sync::{
    ExpectPayload, FlowPayload, Host, Kind, Messages, Mode, Next, RawMessage, Session,
    SessionConfig, SessionEvent, Token, datagram_max, flag,
};
use serde_json::Value;

/// A message, as far as it is compared. Its object is told by the payload of state messages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    seq: u32,
    text: String,
}

fn line(m: &RawMessage<'_>) -> Line {
    let text = match Kind::from_type(m.message_type) {
        Some(kind) => format!("{kind:?} {:02x} {}", m.flags, m.payload().escape_ascii()),
        None => format!("{:02x} {:?}", m.flags, m.range),
    };
    Line { seq: m.seq, text }
}

/// Octets that name the object of a state message.
fn key(m: &RawMessage<'_>) -> Vec<u8> {
    if Kind::from_type(m.message_type).is_some_and(Kind::is_expect) {
        return m.payload().to_vec();
    }
    let payload = FlowPayload::parse(m.payload()).unwrap();
    format!("{:?} {}", payload.orig_tuple(), payload.zone()).into_bytes()
}

/// Objects by key, each with its last message, and the queue of changed ones.
#[derive(Default)]
struct Objects {
    keys: BTreeMap<Vec<u8>, u32>,
    messages: Vec<Vec<u8>>,
    queue: VecDeque<u32>,
    flows_received: u32,
    evicted: u32,
}

impl Objects {
    fn change(&mut self, m: &RawMessage<'_>) {
        let next = self.messages.len() as u32;
        let index = *self.keys.entry(key(m)).or_insert(next);
        if index == next {
            self.messages.push(Vec::new());
        }
        self.messages[index as usize] = m.bytes.to_vec();
        self.queue_again(index);
    }

    fn queue_again(&mut self, index: u32) {
        if !self.queue.contains(&index) {
            self.queue.push_back(index);
        }
    }
}

impl Host for Objects {
    fn flow(&mut self, _: Kind, _: &[u8], payload: &FlowPayload<'_>) {
        let mut flow = Flow::default();
        payload.write_to(&mut flow);
        assert!(flow.present.has(Present::ORIG));
        self.flows_received += 1;
    }

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {}

    fn next(&mut self, room: &mut [u8]) -> Next {
        let Some(&index) = self.queue.front() else { return Next::Empty };
        let message = &self.messages[index as usize];
        let Some(cell) = room.get_mut(..message.len()) else { return Next::NoRoom };
        cell.copy_from_slice(message);
        self.queue.pop_front();
        Next::Message { len: message.len(), token: Token { index, ..Token::default() } }
    }

    fn oversize(&mut self) {
        panic!("everything recorded fits");
    }

    fn acked(&mut self, _: Token) {}

    fn nacked(&mut self, token: Token) {
        self.queue_again(token.index);
    }

    fn evicted(&mut self, _: Token) {
        self.evicted += 1;
    }
}

/// One node of a scenario, replayed.
struct Replay {
    session: Session,
    objects: Objects,
    ours: Vec<Line>,
    theirs: Vec<Line>,
    events: Vec<SessionEvent>,
    /// Milliseconds by which a timer precedes a datagram that came at the same time.
    slack: i64,
}

fn setting(scenario: &Value, node: &str, name: &str) -> Option<u32> {
    let text = scenario["configs"][node].as_str()?;
    let mut words = text.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

impl Replay {
    /// Replays `node` of a scenario up to its first restart.
    fn run(scenario: &Value, node: &str, slack: i64) -> Self {
        let entries = match &scenario["relay"] {
            Value::Array(entries) => entries,
            _ => list(&scenario["datagrams"]),
        };
        let from_node = |d: &Value| d["from"].as_str().is_some_and(|f| f.starts_with(node));
        let first = entries.iter().find(|d| from_node(d)).unwrap();
        let octets = unhex(first["hex"].as_str().unwrap());
        let first_seq = Messages::new(&octets).next().unwrap().unwrap().seq;
        let mode = if scenario["configs"][node].as_str().unwrap().contains("FTFW") {
            Mode::Ftfw {
                ack_window: setting(scenario, node, "ACKWindowSize").unwrap_or(300),
                resend_queue: setting(scenario, node, "ResendQueueSize").unwrap_or(131_072),
            }
        } else {
            Mode::Notrack
        };
        let config = SessionConfig { mode, first_seq, in_flight_max: 0, datagrams_per_ms: 0 };
        let start = Instant::now() + Duration::from_secs(10);
        let at = |t: &Value| start + Duration::from_secs_f64(t.as_f64().unwrap());
        // A keepalive comes a second after the start, a request for everything at once.
        let resync = first["messages"][0]["flag_names"][0] == "RESYNC";
        let begin = at(&first["t"]) - Duration::from_millis(if resync { 10 } else { 1000 });
        let mut replay = Self {
            session: Session::new(&config, begin),
            objects: Objects::default(),
            ours: Vec::new(),
            theirs: Vec::new(),
            events: Vec::new(),
            slack,
        };
        for entry in entries {
            let Some(hex) = entry["hex"].as_str() else { continue };
            let octets = unhex(hex);
            let now = at(&entry["t"]);
            if now < begin {
                continue;
            }
            let action = entry["action"].as_str().unwrap_or("forward");
            if from_node(entry) {
                if action != "delivered late" && !replay.node_sent(now, &octets) {
                    break;
                }
            } else if action != "drop" && !action.starts_with("delay") {
                replay.node_got(now, &octets);
                if action == "duplicate" {
                    replay.node_got(now, &octets);
                }
            }
        }
        replay
    }

    fn send(&mut self, now: Instant) {
        let mut buffer = vec![0; datagram_max(1500, false, false)];
        while let Some(len) = self.session.poll_transmit(now, &mut buffer, &mut self.objects) {
            self.ours.extend(Messages::new(&buffer[..len]).map(|m| line(&m.unwrap())));
        }
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
    }

    /// The node sent this: make it happen, unless the session has already sent that much. `false`
    /// if the node has restarted.
    fn node_sent(&mut self, now: Instant, octets: &[u8]) -> bool {
        for m in Messages::new(octets) {
            let m = m.unwrap();
            if self.theirs.last().is_some_and(|last| m.seq != last.seq.wrapping_add(1)) {
                return false;
            }
            self.theirs.push(line(&m));
            if self.ours.len() + self.objects.queue.len() >= self.theirs.len() {
                continue;
            }
            if Kind::from_type(m.message_type).is_some() {
                self.objects.change(&m);
            } else if m.flags & flag::RESYNC != 0 {
                self.session.request_resync();
            } else if self.session.poll_timeout().unwrap() <= now + Duration::from_millis(20) {
                self.session.handle_timeout(now + Duration::from_millis(20));
            }
        }
        self.send(now);
        true
    }

    fn node_got(&mut self, now: Instant, octets: &[u8]) {
        // `deadline < now + slack`, in unsigned time.
        let ten = Duration::from_millis(10);
        let slack = Duration::from_micros((10_000 + self.slack).unsigned_abs());
        if self.session.poll_timeout().unwrap() + ten < now + slack {
            self.session.handle_timeout(now + ten);
            self.send(now);
        }
        self.session.handle_datagram(now, octets, &mut self.objects);
        self.send(now);
    }
}

/// Where a session differs from the original: scenario, node, index of the first message that
/// differs, ours, why. All others are equal.
const DIFFERENT: [(&str, &str, usize, &str, &str); 11] = [
    (
        "ftfw-udp-resync",
        "A",
        16,
        "44 ",
        "a HELLO does not hide a gap: the missing number is asked for",
    ),
    ("ftfw-udp-resync", "B", 5, "08 ", "the node is stopped here; the session goes on"),
    ("notrack-nointernal", "A", 3, "Update 00 ", "state does not wait for a keepalive to be sent"),
    (
        "ftfw-crafted-wrap",
        "B",
        2,
        "64 ",
        "a restarted peer gets no acknowledgement of its old numbers",
    ),
    ("ftfw-loss-ack", "B", 5, "08 (1795468614, 1795468617)", "adjacent acknowledgements are one"),
    (
        "ftfw-loss-hello",
        "A",
        6,
        "44 ",
        "a HELLO does not hide a gap: the missing number is asked for",
    ),
    (
        "ftfw-loss-update-delete",
        "B",
        5,
        "02 ",
        "what was lost right behind the greeting may be forgotten by the peer: all is asked for",
    ),
    (
        "ftfw-resendqueue-purge",
        "B",
        4,
        "02 ",
        "what was lost right behind the greeting may be forgotten by the peer: all is asked for",
    ),
    ("ftfw-timers-flush", "A", 9, "08 ", "the node is stopped here; the session goes on"),
    ("ftfw-window1-gap", "A", 1, "48 ", "acknowledgements are not acknowledged at once"),
    ("ftfw-window1-gap", "B", 1, "", "acknowledgements are not acknowledged at once"),
];

/// The recorder saw a datagram and the node's timer fired within a millisecond or so, in either
/// order: microseconds by which the timer is taken for the earlier one.
const SLACKS: [i64; 3] = [-9_000, 600, 3_000];

fn first_difference(replay: &Replay) -> Option<usize> {
    let both = replay.ours.iter().zip(&replay.theirs);
    let at = both.clone().position(|(a, b)| a != b);
    at.or((replay.ours.len() != replay.theirs.len()).then_some(both.len()))
}

#[test]
fn answers_are_those_of_the_original() {
    let mut compared = 0;
    let mut different = 0;
    for s in scenarios() {
        let name = s["scenario"].as_str().unwrap();
        let entries = if s["relay"].is_array() { &s["relay"] } else { &s["datagrams"] };
        if name.starts_with("alarm") || name == "ftfw-tcp" {
            continue;
        }
        for node in ["A", "B"] {
            let has = |d: &Value| d["from"].as_str().is_some_and(|from| from.starts_with(node));
            if !list(entries).iter().any(has) || s["configs"][node].is_null() {
                continue;
            }
            let mut replays = SLACKS.iter().map(|&slack| Replay::run(s, node, slack));
            let listed = DIFFERENT.iter().find(|row| (row.0, row.1) == (name, node));
            if let Some(&(_, _, at, ours, why)) = listed {
                let first = replays.next().unwrap();
                assert_eq!(first_difference(&first), Some(at), "{name} {node}: {why}");
                let line = first.ours.get(at).map_or("", |line| &line.text);
                assert!(line.starts_with(ours), "{name} {node}: {line} instead of {ours}");
                different += 1;
                continue;
            }
            let equal = replays.find(|replay| first_difference(replay).is_none());
            let Some(replay) = equal else {
                let replay = Replay::run(s, node, SLACKS[0]);
                let at = first_difference(&replay).unwrap();
                let (ours, theirs) = (replay.ours.get(at), replay.theirs.get(at));
                panic!("{name} {node} {at}: {ours:?} instead of {theirs:?}");
            };
            compared += replay.ours.len();
        }
    }
    assert_eq!(different, DIFFERENT.len());
    assert!(compared > 1200, "{compared}");
}

#[test]
fn evicted_state_that_the_peer_asks_for_is_reported_as_a_hole() {
    let replay = Replay::run(scenario("ftfw-resendqueue-purge"), "A", SLACKS[0]);
    assert!(replay.objects.evicted > 0);
    assert!(replay.events.contains(&SessionEvent::Hole), "{:?}", replay.events);
    assert_eq!(replay.session.counters().holes, 1);
}

#[test]
fn lost_numbers_are_counted_exactly() {
    // The original prints two more per gap.
    for (name, node, lost, before) in [
        ("ftfw-loss-single", "B", 1, 0),
        ("ftfw-loss-range", "B", 3, 0),
        ("ftfw-reorder", "B", 1, 1),
        ("ftfw-duplicate", "B", 0, 1),
        ("notrack-loss", "B", 2, 1),
    ] {
        let replay = Replay::run(scenario(name), node, SLACKS[0]);
        let counters = replay.session.counters();
        assert_eq!((counters.lost, counters.before), (lost, before), "{name}");
        assert!(replay.objects.flows_received > 0);
    }
}

/// A flow without addresses, an expectation without a master: refused here as a bad payload; the
/// original keeps an entry that nobody can use.
const WITHOUT_ADDRESSES: [&str; 4] = [
    "EXP_NEW header only",
    "empty message: header only, CT_NEW",
    "no address attribute at all",
    "len field 8 over a longer datagram: rest is read as another message",
];

/// Hand-made datagrams: what the original counted for each is counted here.
#[test]
fn refused_messages_are_counted_in_the_same_class() {
    let mut refused = 0;
    for (name, mode) in [("notrack-crafted", Mode::Notrack), ("alarm-crafted", Mode::Alarm)] {
        let now = Instant::now();
        let config = SessionConfig { mode, first_seq: 1, in_flight_max: 0, datagrams_per_ms: 0 };
        let mut session = Session::new(&config, now);
        let mut sink = Sink::default();
        for case in list(&scenario(name)["cases"]) {
            let old = *session.counters();
            for hex in case["hex"].as_str().unwrap().split(' ') {
                session.handle_datagram(now, &unhex(hex), &mut sink);
            }
            let new = session.counters();
            for (class, ours) in [
                ("Wrong protocol version", new.wrong_version - old.wrong_version),
                ("Malformed header", new.malformed_header - old.malformed_header),
                ("Malformed payload", new.malformed_payload - old.malformed_payload),
                ("Bad message type", new.bad_type - old.bad_type),
                ("Truncated message", new.truncated - old.truncated),
                ("Bad message size", new.bad_size - old.bad_size),
                ("Malformed messages", new.malformed() - old.malformed()),
            ] {
                let mut theirs = case["counters"][class].as_u64().unwrap_or(0);
                let nobodys = WITHOUT_ADDRESSES.contains(&case["case"].as_str().unwrap());
                if nobodys && matches!(class, "Malformed payload" | "Malformed messages") {
                    theirs += 1;
                }
                assert_eq!(ours, theirs, "{name}: {}: {class}", case["case"]);
                refused += ours;
            }
        }
        assert!(sink.0 > 0);
    }
    assert!(refused > 30, "{refused}");
}

/// Counts what comes and has nothing to say.
#[derive(Default)]
struct Sink(u32);

impl Host for Sink {
    fn flow(&mut self, _: Kind, _: &[u8], payload: &FlowPayload<'_>) {
        payload.write_to(&mut Flow::default());
        self.0 += 1;
    }

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {
        self.0 += 1;
    }

    fn next(&mut self, _: &mut [u8]) -> Next {
        Next::Empty
    }

    fn oversize(&mut self) {}

    fn acked(&mut self, _: Token) {}

    fn nacked(&mut self, _: Token) {}

    fn evicted(&mut self, _: Token) {}
}
