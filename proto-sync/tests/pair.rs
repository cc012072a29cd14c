//! Two sessions, virtual time and a bad link: whatever the link does, both ends agree afterwards.
//!
//! Each node has flows of its own, which come, change and go, and a table of what the peer told it.
//! A seed is a whole run: settings, changes, losses, copies, delays, restarts.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::Random;
use common::node::{Node, Slot};
use proto_sync::{Mode, Session, SessionConfig, SessionEvent, SyncCounters};

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
    /// Before a restart somebody sets the clock, whose time is the first number.
    clock_is_set: bool,
}

struct Pair {
    settings: Settings,
    random: Random,
    start: Instant,
    now: Instant,
    nodes: [Node; 2],
    sessions: [Session; 2],
    /// Seconds that the clock was set forward, or back.
    clock: u32,
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
        let session = || Self::session(&settings, EPOCH, start);
        Self {
            settings,
            random: Random::new(seed),
            start,
            now: start,
            nodes: [Node::new(), Node::new()],
            sessions: [session(), session()],
            clock: 0,
            wire: BTreeMap::new(),
            wired: 0,
            datagrams: 0,
        }
    }

    fn session(settings: &Settings, first_seq: u32, now: Instant) -> Session {
        let config = SessionConfig {
            mode: settings.mode,
            first_seq,
            in_flight_max: settings.in_flight_max,
            datagrams_per_ms: 0,
        };
        Session::new(&config, now)
    }

    /// The node loses what it was told and what its session knew; its own flows are the kernel's.
    fn restart(&mut self, node: usize) {
        let lived = (self.now - self.start).as_secs() as u32;
        if self.settings.clock_is_set {
            // By up to nine hours, or back to the very start.
            self.clock = match self.random.below(3) {
                0 => self.clock.wrapping_add(self.random.below(32_000) as u32),
                1 => self.clock.wrapping_sub(self.random.below(32_000) as u32),
                _ => 0_u32.wrapping_sub(lived),
            };
        }
        let first_seq = EPOCH.wrapping_add(lived).wrapping_add(self.clock);
        self.sessions[node] = Self::session(&self.settings, first_seq, self.now);
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
        clock_is_set: false,
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

/// Nodes that start again, each by each, on links of every quality.
fn restart(first_seed: u64, clock_is_set: bool) {
    let mut starts = 0;
    for seed in 0..200 {
        let link = Link { loss: seed % 3 * 10, copies: seed % 5 * 3, late: seed % 7 };
        let window = [1, 3, 20, 300][seed as usize % 4];
        let restarts = 1 + seed % 4;
        let settings = Settings { link, restarts, clock_is_set, ..ftfw(window) };
        let pair = Pair::live(settings, first_seed + seed);
        starts += pair.counters().iter().map(|c| c.peer_starts).sum::<u64>();
        assert_quiet(pair);
    }
    assert!(starts > 350, "{starts}");
}

#[test]
fn restarts_are_survived() {
    restart(1000, false);
}

#[test]
fn restarts_with_a_clock_that_was_set_are_survived() {
    restart(3000, true);
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
