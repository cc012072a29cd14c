//! A session against a model of the original, with the original's own habits: it keeps old flags on
//! repeated control messages, forgets its resend queue at a HELLO, counts its window down through
//! its timer, and moves an object between its two queues.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use common::Random;
use common::node::{KEYS, Node, flow};
use proto_ctnl::Flow;
use proto_sync::{
    EncodeOptions, FlowPayload, Header, Kind, Messages, Mode, RawMessage, Session, SessionConfig,
    SessionEvent, before, encode_flow, flag,
};

/// What its queues hold.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Element {
    Object(u32),
    Control { flags: u8, from: u32, to: u32 },
}

struct Original {
    node: Node,
    window_size: u32,
    said: bool,
    greeted: bool,
    say_back: bool,
    next_seq: u32,
    last_recv: Option<u32>,
    window: u32,
    ack_from: Option<u32>,
    unacked: VecDeque<(u32, Element)>,
    tx: VecDeque<Element>,
    alive_at: Instant,
}

impl Original {
    fn new(window_size: u32, next_seq: u32, now: Instant) -> Self {
        Self {
            node: Node::new(),
            window_size,
            said: false,
            greeted: false,
            say_back: false,
            next_seq,
            last_recv: None,
            window: window_size,
            ack_from: None,
            unacked: VecDeque::new(),
            tx: VecDeque::new(),
            alive_at: now + Duration::from_secs(1),
        }
    }

    fn control(&mut self, flags: u8, from: u32, to: u32) {
        self.tx.push_back(Element::Control { flags, from, to });
    }

    fn timer(&mut self, now: Instant) {
        if now < self.alive_at {
            return;
        }
        match (self.ack_from.take(), self.last_recv) {
            (Some(from), Some(to)) => self.control(flag::ACK, from, to),
            _ => self.control(flag::ALIVE, 0, 0),
        }
        self.alive_at = now + Duration::from_secs(1);
    }

    /// Changed objects go to the end of the queue, out of the other one.
    fn collect(&mut self) {
        while let Some(key) = self.node.queue.pop_front() {
            self.node.own[key as usize].queued = false;
            self.unacked.retain(|&(_, e)| e != Element::Object(key));
            if !self.tx.contains(&Element::Object(key)) {
                self.tx.push_back(Element::Object(key));
            }
        }
    }

    /// Everything that waits, in datagrams.
    fn send(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.collect();
        let mut all = vec![Vec::new()];
        while let Some(element) = self.tx.pop_front() {
            let mut greeting = if self.greeted { 0 } else { flag::HELLO };
            self.said = true;
            if std::mem::take(&mut self.say_back) {
                greeting |= flag::HELLO_BACK;
            }
            let seq = self.next_seq;
            self.next_seq = seq.wrapping_add(1);
            let mut message = match element {
                Element::Object(key) => self.object(key),
                Element::Control { flags, from, to } => {
                    let ranged = flags & flag::ALIVE == 0;
                    let mut m = vec![0x1a, flags, 0, if ranged { 16 } else { 8 }, 0, 0, 0, 0];
                    if ranged {
                        m.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
                    }
                    m
                }
            };
            message[1] |= greeting;
            message[4..8].copy_from_slice(&seq.to_be_bytes());
            match element {
                // The flags stay in it.
                Element::Control { flags, from, to } if flags & flag::ALIVE == 0 => {
                    let flags = flags | greeting;
                    self.unacked.push_back((seq, Element::Control { flags, from, to }));
                }
                Element::Object(_) => self.unacked.push_back((seq, element)),
                Element::Control { .. } => {}
            }
            if all.last().unwrap().len() + message.len() >= 600 {
                all.push(Vec::new());
            }
            all.last_mut().unwrap().extend(message);
        }
        all.retain(|octets| !octets.is_empty());
        if !all.is_empty() {
            self.alive_at = now + Duration::from_secs(1);
        }
        all
    }

    fn object(&self, key: u32) -> Vec<u8> {
        let slot = &self.node.own[key as usize];
        let kind = match (slot.mark, slot.updated) {
            (None, _) => Kind::Delete,
            (_, false) => Kind::New,
            (_, true) => Kind::Update,
        };
        let mut out = vec![0; 400];
        let flow = flow(key, slot.mark.unwrap_or(0));
        let len = encode_flow(kind, &flow, &EncodeOptions::default(), &mut out).unwrap();
        out.truncate(len);
        out
    }

    fn receive(&mut self, octets: &[u8]) {
        for m in Messages::new(octets) {
            self.message(&m.unwrap());
        }
    }

    fn message(&mut self, m: &RawMessage<'_>) {
        if m.flags & flag::HELLO != 0 {
            self.say_back = true;
        }
        if m.flags & flag::HELLO_BACK != 0 && self.said {
            self.greeted = true;
        }
        if m.flags & flag::HELLO != 0 {
            if self.ack_from.is_some_and(|from| before(m.seq, from)) {
                self.window = self.window_size - 1;
                self.ack_from = Some(m.seq);
            }
            self.unacked.clear();
        } else if let Some(last) = self.last_recv {
            let next = last.wrapping_add(1);
            if before(m.seq, next) {
                return;
            }
            if m.seq != next {
                self.digest(m);
                if let Some(from) = self.ack_from {
                    self.control(flag::ACK, from, last);
                }
                self.control(flag::NACK, next, m.seq.wrapping_sub(1));
                self.window = self.window_size - 1;
                self.ack_from = Some(m.seq);
                self.last_recv = Some(m.seq);
                return;
            }
        }
        self.digest(m);
        let from = *self.ack_from.get_or_insert(m.seq);
        self.window = self.window.wrapping_sub(1);
        if self.window == 0 {
            self.control(flag::ACK, from, m.seq);
            self.window = self.window_size;
            self.ack_from = None;
        }
        self.last_recv = Some(m.seq);
    }

    fn digest(&mut self, m: &RawMessage<'_>) {
        let (from, to) = m.range;
        let within = |seq: u32| !before(seq, from) && !before(to, seq);
        if m.message_type != 10 {
            let mut flow = Flow::default();
            FlowPayload::parse(m.payload()).unwrap().write_to(&mut flow);
            match Kind::from_type(m.message_type).unwrap() {
                Kind::Delete => self.node.foreign.remove(&flow.orig.l4.a),
                _ => self.node.foreign.insert(flow.orig.l4.a, flow.mark),
            };
        } else if m.flags & flag::ACK != 0 {
            self.unacked.retain(|&(seq, _)| !within(seq));
        } else if m.flags & flag::NACK != 0 {
            let (again, keep) = self.unacked.iter().partition(|&&(seq, _)| within(seq));
            self.unacked = keep;
            self.tx.extend(VecDeque::into_iter(again).map(|(_, element)| element));
        } else if m.flags & flag::RESYNC != 0 {
            self.node.bulk();
        }
    }
}

struct Run {
    random: Random,
    loss: u64,
    now: Instant,
    session: Session,
    node: Node,
    original: Original,
    wire: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    wired: u64,
    datagrams: u64,
}

impl Run {
    fn put(&mut self, to_original: bool, octets: Vec<u8>) {
        self.datagrams += 1;
        assert!(self.datagrams < 100_000, "storm: {:#?}", self.session.counters());
        if !self.random.chance(self.loss) {
            self.wired += 1;
            let at = self.now + Duration::from_micros(50);
            self.wire.insert((at, self.wired), (to_original, octets));
        }
    }

    fn send(&mut self) {
        let mut buffer = [0; 600];
        loop {
            while let Some(event) = self.session.poll_event() {
                // Missing state, or a peer that has none: tell everything.
                assert!(
                    [
                        SessionEvent::PeerRestarted,
                        SessionEvent::PeerWantsResync,
                        SessionEvent::Hole
                    ]
                    .contains(&event)
                );
                self.node.bulk();
            }
            let len = self.session.poll_transmit(self.now, &mut buffer, &mut self.node);
            let Some(len) = len else { break };
            self.put(true, buffer[..len].to_vec());
        }
        for octets in self.original.send(self.now) {
            self.put(false, octets);
        }
    }

    /// Until `end`; changes on both sides if `busy`.
    fn until(&mut self, end: Instant, busy: bool) {
        let mut change_at = self.now;
        loop {
            let arrival = self.wire.first_key_value().map(|(&(at, _), _)| at);
            let timers = [self.session.poll_timeout(), Some(self.original.alive_at)];
            let change = busy.then_some(change_at);
            let next = timers.into_iter().chain([arrival, change]).flatten().min().unwrap();
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if change.is_some_and(|at| at <= self.now) {
                for _ in 0..=self.random.below(4) {
                    match self.random.chance(50) {
                        true => self.node.change(&mut self.random),
                        false => self.original.node.change(&mut self.random),
                    }
                }
                change_at = self.now + Duration::from_micros(self.random.below(20_000));
            }
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, (to_original, octets)) = self.wire.pop_first().unwrap();
                if to_original {
                    self.original.receive(&octets);
                } else {
                    self.session.handle_datagram(self.now, &octets, &mut self.node);
                }
            }
            if timers[0].is_some_and(|at| at <= self.now) {
                self.session.handle_timeout(self.now);
            }
            self.original.timer(self.now);
            self.send();
        }
    }

    fn new(seed: u64, ours: u32, theirs: u32, in_flight_max: u32) -> Self {
        let now = Instant::now();
        let mode = Mode::Ftfw { ack_window: ours, resend_queue: 131_072 };
        let config = SessionConfig { mode, first_seq: 4000, in_flight_max, datagrams_per_ms: 0 };
        Self {
            random: Random::new(seed),
            loss: 0,
            now,
            session: Session::new(&config, now),
            node: Node::new(),
            original: Original::new(theirs, u32::MAX - 50, now),
            wire: BTreeMap::new(),
            wired: 0,
            datagrams: 0,
        }
    }

    fn seconds(&self, n: u64) -> Instant {
        self.now + Duration::from_secs(n)
    }

    fn assert_equal(&self, note: &str) {
        let counters = self.session.counters();
        assert_eq!(self.original.node.foreign, self.node.told(), "{note}: ours {counters:#?}");
        assert_eq!(self.node.foreign, self.original.node.told(), "{note}: theirs {counters:#?}");
    }
}

#[test]
fn both_tables_are_equal_after_loss() {
    for seed in 0..160 {
        let ours = [1, 3, 20, 300][seed as usize % 4];
        // A window of one is the original's own storm.
        let theirs = [3, 20, 300][seed as usize / 4 % 3];
        let in_flight_max = [0, 16, 512][seed as usize / 12 % 3];
        let mut run = Run::new(seed, ours, theirs, in_flight_max);
        // The original can not repair what is lost while it greets.
        run.until(run.seconds(4), true);
        run.loss = [0, 10, 25][seed as usize % 3];
        run.until(run.seconds(6), true);
        run.until(run.seconds(6), false);
        run.loss = 0;
        run.until(run.seconds(12), false);
        run.assert_equal(&format!("seed {seed} windows {ours} {theirs}"));
        let datagrams = run.datagrams;
        run.until(run.seconds(10), false);
        let quiet = run.datagrams - datagrams;
        assert!(quiet <= 32, "{quiet} datagrams in ten quiet seconds, windows {ours} {theirs}");
        assert!(run.session.resend_depth().0 <= 2);
        assert!(run.original.unacked.len() <= 2, "{:?}", run.original.unacked);
    }
}

/// A HELLO empties the original's resend queue: it can not repeat what it told before and was lost,
/// and says nothing of that. Where its first messages went to a link that had just failed, hundreds of
/// flows were never heard of.
#[test]
fn what_the_original_told_in_vain_while_both_greet_is_asked_for() {
    for seed in 0..160 {
        let mut run = Run::new(seed, [3, 300][seed as usize % 2], 300, 0);
        run.session.request_resync();
        // Some of what is lost is lost in a row, as by a link.
        let quiet = run.seconds(1 + seed / 4 % 3);
        while run.now < quiet {
            run.loss = if run.loss == 0 { [50, 100][seed as usize / 2 % 2] } else { 0 };
            let end = run.now + Duration::from_millis(run.random.below(600));
            run.until(end, true);
        }
        run.loss = 0;
        run.until(run.seconds(3), seed % 3 == 0);
        run.until(run.seconds(12), false);
        let counters = run.session.counters();
        for (key, mark) in run.original.node.told() {
            assert_eq!(run.node.foreign.get(&key), Some(&mark), "seed {seed}: {counters:#?}");
        }
        // Of what it missed itself it says that it came. And there is an end to the asking.
        let asked = counters.resyncs_sent;
        run.until(run.seconds(10), true);
        assert_eq!(run.session.counters().resyncs_sent, asked, "seed {seed}");
    }
}

#[test]
fn a_restarted_original_is_told_everything() {
    for seed in 0..60 {
        let mut run = Run::new(seed, 300, 300, 0);
        run.until(run.seconds(4 + seed % 3), true);
        // It comes back with what it had in its kernel and nothing of ours, at a number of its own
        // choice: lower, higher, or the very next.
        let next_seq = match seed % 3 {
            0 => u32::MAX - 50,
            1 => run.original.next_seq.wrapping_add(86_400),
            _ => run.original.next_seq,
        };
        let own = std::mem::take(&mut run.original.node.own);
        run.original = Original::new(300, next_seq, run.now);
        run.original.node.own = own;
        run.original.node.queue.clear();
        for key in 0..KEYS {
            run.original.node.own[key as usize].queued = false;
        }
        run.node.foreign.clear();
        run.session.request_resync();
        run.until(run.seconds(3), seed % 2 == 0);
        run.until(run.seconds(10), false);
        run.assert_equal(&format!("seed {seed}"));
        assert!(run.session.counters().peer_starts >= 2);
    }
}

#[test]
fn a_window_of_one_at_both_ends_is_no_storm_of_ours() {
    // The original acknowledges each of our messages at once, acknowledgements too. We do not.
    let mut run = Run::new(1, 1, 1, 0);
    run.until(run.seconds(3), true);
    run.until(run.seconds(3), false);
    let datagrams = run.datagrams;
    run.until(run.seconds(10), false);
    assert!(run.datagrams - datagrams <= 40, "{}", run.datagrams - datagrams);
    run.assert_equal("quiet");
}

/// The header is what is written here by hand.
#[test]
fn the_header_is_eight_octets() {
    use zerocopy::IntoBytes;
    let header = Header::new(10, flag::ALIVE | flag::HELLO, 8, 0x6b04_afcf);
    assert_eq!(header.as_bytes(), [0x1a, 0x30, 0, 8, 0x6b, 4, 0xaf, 0xcf]);
}
