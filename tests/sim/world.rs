//! Two firewalls and the link between them in virtual time, and what happens to them.

use std::time::{Duration, Instant};

use engine::command::{Request, Scope, StatKind};
use proto_ctnl::{Present, Tuple};
use proto_sync::Mode;
use shardtrack_tests::random::Random;

use crate::kernel::{Kernel, Key};
use crate::network::Network;
use crate::node::Node;
use crate::settings::Settings;
use crate::traffic;

/// More turns than any run needs.
const TURNS_MAX: u64 = 3_000_000;

/// What an operator has to repair, because no protocol can.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repair {
    /// The peer never heard of flows that this node has.
    pub(crate) bulk: bool,
    /// This node's external cache holds flows that are gone, or lacks some.
    pub(crate) external: bool,
    /// This node's internal cache was emptied, or had no room.
    pub(crate) internal: bool,
}

/// See the module's description.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) random: Random,
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) network: Network,
    pub(crate) kernels: [Kernel; 2],
    pub(crate) nodes: [Option<Node>; 2],
    lives: [u32; 2],
    /// When a node that is down starts again.
    up_at: [Option<Instant>; 2],
    /// Events that are lost from now on.
    losing: [usize; 2],
    /// Where packets go.
    pub(crate) active: usize,
    pub(crate) repair: [Repair; 2],
    /// The run so far, for who looks for a bug.
    pub(crate) story: Vec<String>,
    turns: u64,
    unix: u32,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let start = Instant::now();
        let mut random = Random::new(settings.seed);
        let network = Network::new(settings.weather, random.word());
        let unix = if random.chance(300) { u32::MAX - 5 } else { 1_700_000_000 };
        let mut world = Self {
            kernels: [0, 1].map(|_| Kernel::new(settings.lazy_events)),
            random,
            start,
            now: start,
            network,
            nodes: [None, None],
            lives: [0; 2],
            up_at: [None; 2],
            losing: [0; 2],
            active: 0,
            repair: [Repair::default(); 2],
            story: Vec::new(),
            turns: 0,
            unix,
            settings,
        };
        for id in 0..2 {
            // There is traffic already.
            for _ in 0..world.random.below(world.settings.keys as usize / 4 + 1) {
                world.begin_flow();
            }
            world.boot(id);
        }
        world
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let ms = (self.now - self.start).as_micros();
        self.story.push(format!("{:>10} us  {}", ms, what()));
    }

    /// The daemon of a node starts.
    pub(crate) fn boot(&mut self, id: usize) {
        self.lives[id] += 1;
        self.up_at[id] = None;
        let unix = self.unix.wrapping_add((self.now - self.start).as_secs() as u32);
        let kernel = &mut self.kernels[id];
        let node = Node::start(&self.settings, id, self.lives[id], unix, self.now, kernel);
        self.nodes[id] = Some(node);
        self.note(|| format!("node {id} starts"));
    }

    fn crash(&mut self, id: usize) {
        if self.nodes[id].take().is_none() {
            return;
        }
        self.kernels[id].listened = false;
        self.kernels[id].raised.clear();
        self.losing[id] = 0;
        let down = Duration::from_millis(self.random.below(4000) as u64);
        self.up_at[id] = Some(self.now + down);
        // What ends while it is down it can not tell.
        self.repair[1 - id].external = true;
        self.note(|| format!("node {id} crashes, down for {down:?}"));
    }

    /// Events that the kernel raised go to the daemon.
    fn pump(&mut self, id: usize) {
        let Some(node) = &mut self.nodes[id] else {
            self.kernels[id].raised.clear();
            return;
        };
        for (tuple, event) in self.kernels[id].raised.drain(..) {
            let lose = self.losing[id] > 0;
            self.losing[id] -= usize::from(lose);
            node.event(self.now, &tuple, event, lose);
        }
    }

    /// Lets time pass until `end`. While `busy`, things happen.
    pub(crate) fn run(&mut self, end: Instant, busy: bool) {
        let mut action_at = busy.then_some(self.now);
        loop {
            let mut next = [
                action_at,
                self.network.next_arrival(),
                self.kernels[0].next_expiry(),
                self.kernels[1].next_expiry(),
                self.up_at[0],
                self.up_at[1],
            ]
            .into_iter()
            .chain(self.nodes.iter().flatten().map(Node::next_wake))
            .flatten()
            .min();
            next = next.filter(|&at| at < end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.step();
            if action_at.is_some_and(|at| at <= self.now) {
                self.act();
                let pause = self.random.below(self.settings.pause_us) as u64;
                action_at = Some(self.now + Duration::from_micros(1 + pause));
            }
        }
    }

    fn step(&mut self) {
        while let Some((to, datagram)) = self.network.arrived(self.now) {
            if let Some(node) = &mut self.nodes[to] {
                node.deliver(self.now, datagram);
            }
        }
        for id in 0..2 {
            if self.up_at[id].is_some_and(|at| at <= self.now) {
                self.boot(id);
            }
            self.kernels[id].expire(self.now);
            self.pump(id);
            if let Some(node) = &mut self.nodes[id] {
                let before = node.turns;
                let kernel = &mut self.kernels[id];
                node.run(self.now, kernel, &mut self.network, id, &mut self.random);
                self.turns += node.turns - before;
            }
            self.pump(id);
        }
        assert!(self.turns < TURNS_MAX, "it never comes to rest: {:?}", self.settings);
    }

    /// A key of the active node's table.
    fn some_key(&mut self) -> Option<Key> {
        let table = &self.kernels[self.active].table;
        if table.is_empty() {
            return None;
        }
        let at = self.random.below(table.len());
        table.keys().nth(at).copied()
    }

    fn begin_flow(&mut self) {
        let key = traffic::key_of(self.random.below(self.settings.keys as usize) as u32);
        self.begin(key);
    }

    pub(crate) fn begin(&mut self, key: Key) {
        if self.kernels[self.active].table.contains_key(&key) {
            return;
        }
        let master = self.some_key();
        let master: Option<Tuple> = if self.random.chance(50) {
            let table = &self.kernels[self.active].table;
            let alone = |key: &Key| !table[key].flow.is_related();
            master.filter(|master| master.1 == key.1 && alone(master)).map(|(orig, _)| orig)
        } else {
            None
        };
        let flow = traffic::new_flow(key, master, &mut self.random);
        let now = self.now;
        self.note(|| format!("new {key:?} mark {}", flow.mark));
        self.kernels[self.active].make(now, &flow, 0);
    }

    pub(crate) fn change(&mut self, key: Key) {
        let (now, active) = (self.now, self.active);
        let random = &mut self.random;
        let mut told = Present::NONE;
        self.kernels[active].change(now, key, |flow| {
            told = traffic::change(flow, random);
            told
        });
        self.note(|| format!("change {key:?} {told:?}"));
    }

    pub(crate) fn end_flow(&mut self, id: usize, key: Key) {
        let now = self.now;
        self.note(|| format!("end at {id} {key:?}"));
        self.kernels[id].end(now, key, 0);
    }

    pub(crate) fn ask(&mut self, id: usize, request: Request) {
        self.note(|| format!("node {id} is asked for {request:?}"));
        let now = self.now;
        if let Some(node) = &mut self.nodes[id] {
            node.ask(now, request);
        }
    }

    fn act(&mut self) {
        let weights = self.settings.weights.list();
        let mut at = self.random.below(weights.iter().sum::<u32>() as usize) as u32;
        let mut kind = 0;
        while at >= weights[kind] {
            at -= weights[kind];
            kind += 1;
        }
        let id = self.random.below(2);
        match kind {
            0..=4 => {
                for _ in 0..=self.random.below(self.settings.burst) {
                    self.packets(kind);
                }
                self.pump(self.active);
            }
            5 => {
                self.losing[id] += 1 + self.random.below(20);
                let count = self.losing[id];
                self.note(|| format!("node {id} loses {count} events"));
            }
            6 => {
                let until = self.now + Duration::from_millis(self.random.below(5000) as u64);
                self.network.cut(id, until);
                if self.random.chance(500) {
                    self.network.cut(1 - id, until);
                }
                self.note(|| format!("link cut from {id}"));
            }
            7 => self.crash(id),
            8 => self.ask(id, Request::Resync(Scope::Flows)),
            9 => self.ask(id, Request::RequestResync),
            10 => self.ask(id, Request::Bulk),
            11 => {
                self.repair[id].external = true;
                self.ask(id, Request::FlushExternal);
            }
            12 => {
                self.repair[id].internal = true;
                self.repair[1 - id].external = true;
                self.ask(id, Request::FlushInternal);
                self.ask(id, Request::Resync(Scope::Flows));
            }
            13 => {
                // It tells nobody what it deletes.
                self.repair[1 - id].external = true;
                self.ask(id, Request::FlushKernel(Scope::Flows));
            }
            14 => self.take_over(),
            _ => self.ask(id, Request::Statistics(StatKind::Flows)),
        }
    }

    /// The other node commits, and packets go there.
    fn take_over(&mut self) {
        let to = 1 - self.active;
        if self.nodes[to].is_none() {
            return;
        }
        self.ask(to, Request::Commit(Scope::Flows));
        self.repair[to].bulk = true;
        self.active = to;
        self.note(|| format!("node {to} takes over"));
    }

    fn packets(&mut self, kind: usize) {
        if kind == 0 {
            self.begin_flow();
            return;
        }
        let Some(key) = self.some_key() else { return };
        let (now, active) = (self.now, self.active);
        match kind {
            1 => self.change(key),
            2 => self.end_flow(active, key),
            3 => {
                self.end_flow(active, key);
                self.begin(key);
            }
            _ => self.kernels[active].refresh(now, key),
        }
    }

    /// Whether the protocol alone makes both nodes agree, whatever the link did.
    pub(crate) const fn is_acknowledged(&self) -> bool {
        matches!(self.settings.mode, Mode::Ftfw { .. })
    }

    /// Nothing goes wrong any more, nothing happens any more, both daemons run, no flow runs out.
    pub(crate) fn calm(&mut self) {
        self.network.heal();
        self.losing = [0; 2];
        self.settings.lost_answers = 0;
        for id in 0..2 {
            if self.nodes[id].is_none() {
                self.boot(id);
            }
            if let Some(node) = &mut self.nodes[id] {
                node.calm();
            }
            self.kernels[id].keep_alive(self.now);
        }
        self.note(|| "calm".into());
    }

    pub(crate) fn node(&self, id: usize) -> &Node {
        self.nodes[id].as_ref().expect("it is up")
    }
}
