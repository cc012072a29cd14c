//! Two sessions, virtual time and a bad link: whatever the link does, both ends agree afterwards.
//!
//! Each node has flows of its own, which come, change and go, and a table of what the peer told it.
//! A seed is a whole run: settings, changes, losses, copies, delays, restarts.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::Random;
use proto_ctnl::{Flow, L4, Present, Status, Tuple, proto};
use proto_sync::{
    EncodeOptions, ExpectPayload, FlowPayload, Host, Kind, Mode, Next, Session, SessionConfig,
    SessionEvent, SyncCounters, Token, encode_flow,
};

/// Flows that a node may have.
const KEYS: u32 = 60;

/// A flow of the node's own.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// What the node sent, or will send, says this; `None` for a flow that is gone.
    mark: Option<u32>,
    /// Updated since it was created.
    updated: bool,
    queued: bool,
    /// Counts the messages about it; a token names one of them.
    sent: u32,
    /// The flow is gone and its DEL is not acknowledged.
    dying: bool,
}

/// The owner of a session.
#[derive(Default)]
struct Node {
    own: Vec<Slot>,
    queue: VecDeque<u32>,
    foreign: BTreeMap<u16, u32>,
    messages: u64,
}

impl Node {
    fn new() -> Self {
        Self { own: vec![Slot::default(); KEYS as usize], ..Self::default() }
    }

    fn enqueue(&mut self, key: u32) {
        let slot = &mut self.own[key as usize];
        if !slot.queued {
            slot.queued = true;
            self.queue.push_back(key);
        }
    }

    fn change(&mut self, random: &mut Random) {
        let key = random.below(u64::from(KEYS)) as u32;
        let mark = random.next() as u32;
        let slot = &mut self.own[key as usize];
        if slot.mark.is_some() && random.chance(30) {
            slot.mark = None;
            slot.dying = true;
        } else {
            slot.updated = slot.mark.is_some();
            slot.mark = Some(mark);
            slot.dying = false;
        }
        self.enqueue(key);
    }

    fn bulk(&mut self) {
        for key in 0..KEYS {
            let slot = &self.own[key as usize];
            if slot.mark.is_some() || slot.dying {
                self.enqueue(key);
            }
        }
    }

    /// The flows that the peer has to know.
    fn told(&self) -> BTreeMap<u16, u32> {
        let flows = self.own.iter().enumerate();
        flows.filter_map(|(key, slot)| Some((key as u16, slot.mark?))).collect()
    }
}

fn flow(key: u32, mark: u32) -> Flow {
    Flow {
        present: Present(Present::ORIG.0 | Present::STATUS.0 | Present::MARK.0),
        orig: Tuple {
            src: Ipv4Addr::new(10, 0, 0, 1).into(),
            dst: Ipv4Addr::new(10, 0, 0, 2).into(),
            proto: proto::UDP,
            l4: L4::ports(key as u16, 53),
        },
        status: Status::CONFIRMED,
        mark,
        ..Flow::default()
    }
}

impl Host for Node {
    fn flow(&mut self, kind: Kind, _: &[u8], payload: &FlowPayload<'_>) {
        self.messages += 1;
        let mut flow = Flow::default();
        payload.write_to(&mut flow);
        let key = flow.orig.l4.a;
        match kind {
            Kind::Delete => self.foreign.remove(&key),
            _ => self.foreign.insert(key, flow.mark),
        };
    }

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {
        panic!("no expectation was sent");
    }

    fn next(&mut self, room: &mut [u8]) -> Next {
        let Some(&key) = self.queue.front() else { return Next::Empty };
        let slot = &mut self.own[key as usize];
        let kind = match (slot.mark, slot.updated) {
            (None, _) => Kind::Delete,
            (_, false) => Kind::New,
            (_, true) => Kind::Update,
        };
        let flow = flow(key, slot.mark.unwrap_or(0));
        let Some(len) = encode_flow(kind, &flow, &EncodeOptions::default(), room) else {
            return Next::NoRoom;
        };
        self.queue.pop_front();
        slot.queued = false;
        slot.sent += 1;
        Next::Message { len, token: Token { shard: 0, index: key, pos: slot.sent } }
    }

    fn oversize(&mut self) {
        panic!("every message fits");
    }

    fn acked(&mut self, token: Token) {
        let slot = &mut self.own[token.index as usize];
        if token.pos == slot.sent && !slot.queued {
            slot.dying = false;
        }
    }

    fn nacked(&mut self, token: Token) {
        if token.pos == self.own[token.index as usize].sent {
            self.enqueue(token.index);
        }
    }

    fn evicted(&mut self, _: Token) {
        // A flow that is gone stays `dying`, and the bulk transfer that a hole asks for tells it
        // again.
    }
}

/// What may go wrong on the link, in percent.
#[derive(Clone, Copy, Debug)]
struct Link {
    loss: u64,
    copies: u64,
    late: u64,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    mode: Mode,
    in_flight_max: u32,
    link: Link,
    /// Seconds with changes.
    busy: u64,
    /// Changes per millisecond, at most.
    rate: u64,
    /// Restarts of one of the nodes.
    restarts: u64,
}

struct Pair {
    settings: Settings,
    random: Random,
    start: Instant,
    now: Instant,
    nodes: [Node; 2],
    sessions: [Session; 2],
    /// Datagrams under way, by arrival: (destination, octets).
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    wired: u64,
    datagrams: u64,
}

/// More than any run needs.
const DATAGRAMS_MAX: u64 = 200_000;

/// Unix time of the start of every run.
const EPOCH: u32 = 0xffff_fff0;

impl Pair {
    fn new(settings: Settings, seed: u64) -> Self {
        let start = Instant::now();
        let session = || Self::session(&settings, start, start);
        Self {
            settings,
            random: Random::new(seed),
            start,
            now: start,
            nodes: [Node::new(), Node::new()],
            sessions: [session(), session()],
            wire: BTreeMap::new(),
            wired: 0,
            datagrams: 0,
        }
    }

    fn session(settings: &Settings, start: Instant, now: Instant) -> Session {
        let config = SessionConfig {
            mode: settings.mode,
            first_seq: EPOCH.wrapping_add((now - start).as_secs() as u32),
            in_flight_max: settings.in_flight_max,
            datagrams_per_ms: 0,
        };
        Session::new(&config, now)
    }

    /// The node loses what it was told and what its session knew; its own flows are the kernel's.
    fn restart(&mut self, node: usize) {
        self.sessions[node] = Self::session(&self.settings, self.start, self.now);
        self.sessions[node].request_resync();
        let node = &mut self.nodes[node];
        node.foreign.clear();
        node.queue.clear();
        for slot in &mut node.own {
            *slot = Slot { mark: slot.mark, ..Slot::default() };
        }
    }

    fn send(&mut self, from: usize) {
        let mut buffer = [0; 600];
        loop {
            self.events(from);
            let node = &mut self.nodes[from];
            let Some(len) = self.sessions[from].poll_transmit(self.now, &mut buffer, node) else {
                return;
            };
            self.datagrams += 1;
            let counters = [0, 1].map(|n| self.sessions[n].counters());
            assert!(self.datagrams < DATAGRAMS_MAX, "storm: {:?} {counters:#?}", self.settings);
            let link = self.settings.link;
            let copies = 1 + usize::from(self.random.chance(link.copies));
            for _ in 0..copies {
                if self.random.chance(link.loss) {
                    continue;
                }
                let delay =
                    if self.random.chance(link.late) { self.random.below(300_000) } else { 50 };
                let at = self.now + Duration::from_micros(delay);
                self.wired += 1;
                self.wire.insert((at, self.wired), (1 - from, buffer[..len].to_vec()));
            }
        }
    }

    fn events(&mut self, node: usize) {
        while let Some(event) = self.sessions[node].poll_event() {
            match event {
                SessionEvent::PeerWantsResync | SessionEvent::Hole => self.nodes[node].bulk(),
                SessionEvent::PeerRestarted => {
                    // What it deleted meanwhile it can not tell any more.
                    self.nodes[node].foreign.clear();
                    self.sessions[node].request_resync();
                    self.nodes[node].bulk();
                }
            }
        }
    }

    /// Runs until `end`; changes happen until `busy`.
    fn run(&mut self, busy: Instant, end: Instant) {
        let mut change_at = self.now;
        loop {
            let arrival = self.wire.first_key_value().map(|(&(at, _), _)| at);
            let timeouts = [0, 1].map(|n| self.sessions[n].poll_timeout());
            let change = (change_at < busy).then_some(change_at);
            let next = [arrival, timeouts[0], timeouts[1], change].into_iter().flatten().min();
            let Some(next) = next.filter(|&at| at < end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if change.is_some_and(|at| at <= self.now) {
                let node = self.random.below(2) as usize;
                for _ in 0..=self.random.below(self.settings.rate) {
                    self.nodes[node].change(&mut self.random);
                }
                let pause = if self.random.chance(2) { 700_000 } else { 1000 };
                change_at = self.now + Duration::from_micros(self.random.below(pause));
            }
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, (to, octets)) = self.wire.pop_first().unwrap();
                self.sessions[to].handle_datagram(self.now, &octets, &mut self.nodes[to]);
            }
            for (n, timeout) in timeouts.into_iter().enumerate() {
                if timeout.is_some_and(|at| at <= self.now) {
                    self.sessions[n].handle_timeout(self.now);
                }
                self.send(n);
            }
        }
    }

    /// The whole life; panics if the tables differ at the end.
    fn live(settings: Settings, seed: u64) -> Self {
        let mut pair = Self::new(settings, seed);
        let busy = pair.start + Duration::from_secs(settings.busy);
        for n in 0..settings.restarts {
            let share = Duration::from_millis(pair.random.below(1000 * settings.busy));
            let quick = n > 0 && pair.random.chance(50);
            let pause = if quick { share / 20 } else { share / (settings.restarts as u32) };
            pair.run(busy, pair.now + pause);
            let node = pair.random.below(2) as usize;
            pair.restart(node);
        }
        pair.run(busy, busy.max(pair.now) + Duration::from_secs(8));
        // The link gets well, and nothing changes any more.
        pair.settings.link = Link { loss: 0, copies: 0, late: 0 };
        pair.run(busy, pair.now + Duration::from_secs(12));
        for n in 0..2 {
            let told = pair.nodes[n].told();
            let counters = [0, 1].map(|n| *pair.sessions[n].counters());
            assert_eq!(
                pair.nodes[1 - n].foreign,
                told,
                "seed {seed} node {n} {settings:?} {counters:#?}"
            );
        }
        pair
    }

    fn counters(&self) -> [&SyncCounters; 2] {
        [self.sessions[0].counters(), self.sessions[1].counters()]
    }
}

fn ftfw(ack_window: u32) -> Settings {
    Settings {
        mode: Mode::Ftfw { ack_window, resend_queue: 4096 },
        in_flight_max: 512,
        link: Link { loss: 0, copies: 0, late: 0 },
        busy: 6,
        rate: 8,
        restarts: 0,
    }
}

/// After the run the nodes have nothing to say but a keepalive or an acknowledgement a second, and
/// one more each time that these fill a window.
fn assert_quiet(mut pair: Pair) {
    let before = pair.datagrams;
    let end = pair.now + Duration::from_secs(10);
    pair.run(pair.now, end);
    let sent = pair.datagrams - before;
    assert!(sent <= 32, "{sent} datagrams in ten quiet seconds, {:?}", pair.settings);
    for session in &pair.sessions {
        assert!(session.resend_depth().0 <= 2, "{:?}", session.resend_queue().collect::<Vec<_>>());
    }
}

#[test]
fn a_good_link_loses_nothing_and_repeats_nothing() {
    for window in [1, 3, 20, 300] {
        for seed in 0..10 {
            let pair = Pair::live(ftfw(window), seed);
            for c in pair.counters() {
                assert_eq!((c.lost, c.before, c.nacks_sent, c.malformed()), (0, 0, 0, 0));
                assert_eq!((c.evicted, c.holes), (0, 0));
            }
            assert_quiet(pair);
        }
    }
}

#[test]
fn loss_copies_and_reordering_are_repaired() {
    let mut lost = 0;
    for loss in [1, 5, 10, 25] {
        for window in [1, 3, 20, 300] {
            for seed in 0..16 {
                let link = Link { loss, copies: seed % 4 * 5, late: seed / 4 * 3 };
                let settings = Settings { link, ..ftfw(window) };
                let pair = Pair::live(settings, seed ^ loss << 32 ^ u64::from(window) << 40);
                lost += pair.counters().iter().map(|c| c.lost).sum::<u64>();
                for c in pair.counters() {
                    assert_eq!(c.malformed(), 0);
                }
                assert_quiet(pair);
            }
        }
    }
    assert!(lost > 10_000, "{lost}");
}

#[test]
fn restarts_are_survived() {
    let mut starts = 0;
    for seed in 0..200 {
        let link = Link { loss: seed % 3 * 10, copies: seed % 5 * 3, late: seed % 7 };
        let window = [1, 3, 20, 300][seed as usize % 4];
        let settings = Settings { link, restarts: 1 + seed % 4, ..ftfw(window) };
        let pair = Pair::live(settings, seed + 1000);
        starts += pair.counters().iter().map(|c| c.peer_starts).sum::<u64>();
        assert_quiet(pair);
    }
    assert!(starts > 400, "{starts}");
}

#[test]
fn a_tiny_resend_queue_leaves_no_hole() {
    let mut evicted = 0;
    let mut holes = 0;
    for seed in 0..150 {
        let link = Link { loss: [0, 5, 15][seed as usize % 3], copies: 2, late: 2 };
        let window = [3, 20, 300][seed as usize / 3 % 3];
        let resend_queue = [2, 5, 16][seed as usize / 9 % 3];
        // No limit in flight, so that much is evicted; or one.
        let in_flight_max = [0, 64][seed as usize % 2];
        let mode = Mode::Ftfw { ack_window: window, resend_queue };
        let settings = Settings { link, mode, in_flight_max, ..ftfw(window) };
        let mut pair = Pair::live(settings, seed + 2000);
        for c in pair.counters() {
            evicted += c.evicted;
            holes += c.holes;
        }
        // Two objects every 100 ms take their time.
        let end = pair.now + Duration::from_secs(20);
        pair.run(pair.now, end);
        assert_quiet(pair);
    }
    assert!(evicted > 1000 && holes > 50, "{evicted} {holes}");
}

#[test]
fn notrack_tells_everything_once_on_a_good_link() {
    let settings = Settings { mode: Mode::Notrack, ..ftfw(1) };
    for seed in 0..10 {
        let pair = Pair::live(settings, seed);
        for n in 0..2 {
            let sent = pair.sessions[n].counters().state_sent;
            assert_eq!(pair.nodes[1 - n].messages, sent);
            assert_eq!(pair.sessions[n].counters().lost, 0);
        }
    }
}
