//! A daemon: the hub and its workers on one thread, doing what their threads do around them.
//!
//! Everything that belongs to the process is here, so dropping it is a crash.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::clock::Moment;
use engine::command::{Request, StatKind};
use engine::config::{Expectations, Intake};
use engine::console::Console;
use engine::hub::{Hub, HubEvent, HubParts, Then};
use engine::kernel::{KernelConfig, Lane, Ports};
use engine::link::{Link, LinkSet};
use engine::log::Silent;
use engine::mesh::{CHANGE_BLOCKS, Content, INBOUND_BLOCKS, Pipe, Sleep};
use engine::order::Asker;
use engine::shard::{Shard, ShardConfig};
use engine::shards::{Remote, Shards};
use engine::snapshot::{
    CacheFigures, ExternalFigures, LinkStatus, LinkTransport, OkFailed, Queue, Snapshot,
    SyncFigures,
};
use engine::worker::{Pace, Worker};
use proto_ctnl::{Tuple, shard_of};
use proto_sync::{EncodeOptions, Mode, Session, SessionConfig, datagram_max};
use shardtrack_tests::random::Random;

use crate::dump::DumpReader;
use crate::kernel::Kernel;
use crate::network::Network;
use crate::settings::Settings;
use crate::wire;

/// Datagrams taken and sent in one turn.
const DATAGRAMS_PER_TURN: usize = 16;
/// Blocks taken from the hub in one turn, as the thread of a worker does.
const BLOCKS_PER_TURN: usize = 4;
/// Events taken in one turn.
const EVENTS_PER_TURN: usize = 128;
/// Time that work left over waits.
const BUSY: Duration = Duration::from_micros(20);
/// Time after a turn that found something, in which more may come together.
const LINGER: Duration = Duration::from_millis(1);
/// Octets of a batch of requests.
const BATCH_BYTES: usize = 32 * 1024;

/// What one thread has.
#[derive(Debug)]
struct Seat {
    /// Events that the kernel raised for it.
    intake: VecDeque<Vec<u8>>,
    /// Events taken from it.
    taken: u64,
    /// Events lost and not told.
    lost: u64,
    answers: VecDeque<Vec<u8>>,
    /// No messages are made about new flows.
    deaf_to_new: bool,
    /// Answers to requests were lost, and the socket says so.
    deaf: bool,
    wake_at: Option<Instant>,
    sleep: Arc<Sleep>,
    ports: Ports,
}

impl Seat {
    fn take_event(&mut self) -> Option<Vec<u8>> {
        let event = self.intake.pop_front()?;
        self.taken += 1;
        Some(event)
    }

    /// How far events were taken, and how many have come.
    fn intake_at(&self) -> (u64, u64) {
        (self.taken, self.taken + self.intake.len() as u64)
    }

    fn wake(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

/// Keeps the last figures.
struct Figures(Arc<Mutex<Option<Snapshot>>>);

impl Console for Figures {
    fn statistics(&self, _: StatKind, snapshot: &Snapshot, _: &mut Vec<u8>) {
        *self.0.lock().expect("one thread") = Some(snapshot.clone());
    }
}

/// See the module's description.
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) workers: Vec<Worker>,
    seats: Vec<Seat>,
    began: Instant,
    dump: DumpReader,
    inbox: VecDeque<Vec<u8>>,
    figures: Arc<Mutex<Option<Snapshot>>>,
    /// Commands without an answer yet.
    pub(crate) open: Vec<(Asker, Request)>,
    asked: u32,
    settings: Settings,
    /// Events handed to the intake, lost ones not included.
    pub(crate) events: u64,
    /// Turns taken.
    pub(crate) turns: u64,
}

impl Node {
    /// A daemon that starts at `now`. `life` tells its starts apart; `unix` is the time of day.
    pub(crate) fn start(
        settings: &Settings,
        id: usize,
        life: u32,
        unix: u32,
        now: Instant,
        kernel: &mut Kernel,
    ) -> Self {
        kernel.listened = true;
        let shards = settings.shards[id];
        let port =
            |k: usize, lane: u32| 1 + ((id as u32) << 24 | life << 8 | (k as u32) << 4 | lane);
        let ports = |k| Ports { write: port(k, 0), flush: port(k, 1), audit: port(k, 2) };
        let sleep = Arc::new(Sleep::default());
        let mut seats = vec![Seat::new(Arc::clone(&sleep), ports(0))];
        let (mut remotes, mut workers) = (Vec::new(), Vec::new());
        for k in 1..shards {
            let own = Arc::new(Sleep::default());
            let to_shard = Arc::new(Pipe::new(2 * INBOUND_BLOCKS, Arc::clone(&own)));
            let places = 2 * INBOUND_BLOCKS + 2 * CHANGE_BLOCKS;
            let to_hub = Arc::new(Pipe::new(places, Arc::clone(&sleep)));
            let shard = Shard::new(shard_config(settings, id, k), ports(k), now);
            workers.push(Worker::new(shard, Arc::clone(&to_shard), Arc::clone(&to_hub)));
            remotes.push(Remote::new(to_shard, to_hub));
            seats.push(Seat::new(own, ports(k)));
        }
        let local = Shard::new(shard_config(settings, id, 0), ports(0), now);
        let figures = Arc::new(Mutex::new(None));
        let parts = HubParts {
            shards: Shards::new(local, remotes, Moment::new(now, now)),
            links: LinkSet::new(
                vec![Link::new(
                    LinkTransport::Udp,
                    "sync".into(),
                    datagram_max(1500, false, false),
                )],
                0,
            ),
            session: Some(session(settings, unix, now)),
            bypass: false,
            filter: Arc::default(),
            poll: None,
            overrun_resync: Some(Duration::from_secs(5)),
            buckets: 64,
            look: false,
            inject: settings.inject,
            acknowledged: matches!(settings.mode, Mode::Ftfw { .. }),
            expectations: false,
            purge_delay: Duration::from_secs(60),
            log: Arc::new(Silent),
            console: Box::new(Figures(Arc::clone(&figures))),
            base: base(settings),
        };
        for seat in &mut seats {
            seat.wake(now);
        }
        let mut hub = Hub::new(parts, now);
        hub.device_is(now, 0, LinkStatus::Running);
        hub.choose_link(now);
        Self {
            hub,
            workers,
            seats,
            began: now,
            dump: DumpReader::default(),
            inbox: VecDeque::new(),
            figures,
            open: Vec::new(),
            asked: 0,
            settings: settings.clone(),
            events: 0,
            turns: 0,
        }
    }

    /// Nothing goes wrong from now on.
    pub(crate) const fn calm(&mut self) {
        self.settings.stalls = 0;
        self.settings.lost_answers = 0;
        self.settings.broken_dumps = 0;
        self.settings.intake = usize::MAX;
        self.settings.inbox = usize::MAX;
    }

    /// All shards, in their order.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        std::iter::once(&self.hub.shards.local).chain(self.workers.iter().map(|w| &w.shard))
    }

    /// Whole seconds since its start.
    pub(crate) fn age_secs(&self, now: Instant) -> u32 {
        Moment::new(now, self.began).secs
    }

    /// Asks for something as a client does.
    pub(crate) fn ask(&mut self, now: Instant, request: Request) {
        self.asked += 1;
        let asker = Asker(self.asked);
        self.open.push((asker, request));
        self.hub.begin_turn(now);
        self.hub.request(now, asker, request.id().expect("it has a number"));
        self.seats[0].wake(now);
    }

    /// The figures that the last request for statistics gave.
    pub(crate) fn figures(&self) -> Option<Snapshot> {
        self.figures.lock().expect("one thread").clone()
    }

    /// The next time that one of the threads has something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.seats.iter().filter_map(|seat| seat.wake_at).min()
    }

    /// Whether messages are made about new flows, for every thread.
    pub(crate) fn hears_new(&self) -> bool {
        !self.seats.iter().any(|seat| seat.deaf_to_new)
    }

    /// Nothing waits anywhere: the daemon has done all that it can at the moment.
    pub(crate) fn is_idle(&self) -> bool {
        let quiet = |seat: &Seat| seat.intake.is_empty() && seat.answers.is_empty();
        // What waits for an acknowledgement may wait in a block still, or have to be told again.
        let written = |shard: &Shard| {
            let internal = &shard.caches().internal;
            internal.pending_len() + internal.unacked_len() == 0 && !shard.is_busy()
        };
        self.seats.iter().all(quiet)
            && self.inbox.is_empty()
            && self.open.is_empty()
            && !self.dump.is_running()
            && self.shards().all(written)
    }

    /// A datagram arrives.
    pub(crate) fn deliver(&mut self, now: Instant, datagram: Vec<u8>) {
        if self.inbox.len() < self.settings.inbox {
            self.inbox.push_back(datagram);
        }
        self.seats[0].wake(now);
    }

    /// The kernel raises an event about the flow of `tuple`; `lose` loses it.
    pub(crate) fn event(&mut self, now: Instant, tuple: &Tuple, event: Vec<u8>, lose: bool) {
        let count = self.seats.len() as u32;
        let k = if self.settings.sorted { shard_of(tuple, count) as usize } else { 0 };
        let seat = &mut self.seats[k];
        if seat.deaf_to_new && wire::is_new(&event) {
            return;
        }
        if lose || seat.intake.len() >= self.settings.intake {
            seat.lost += 1;
        } else {
            seat.intake.push_back(event);
            self.events += 1;
        }
        seat.wake(now + BUSY);
    }

    /// Lets the threads run whose time has come.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        kernel: &mut Kernel,
        network: &mut Network,
        id: usize,
        random: &mut Random,
    ) {
        let due = |seat: &Seat| seat.wake_at.is_some_and(|at| at <= now);
        let first = random.below(self.seats.len());
        for n in 0..self.seats.len() {
            let k = (first + n) % self.seats.len();
            if !due(&self.seats[k]) {
                continue;
            }
            self.seats[k].wake_at = None;
            if random.chance(self.settings.stalls) {
                // The thread is kept from running.
                let late = Duration::from_micros(random.below(20_000) as u64);
                self.seats[k].wake(now + late);
                continue;
            }
            self.seats[k].sleep.end();
            self.turns += 1;
            if k == 0 {
                self.hub_turn(now, kernel, network, id, random);
            } else {
                self.worker_turn(now, k, kernel, random);
            }
        }
    }

    fn hub_turn(
        &mut self,
        now: Instant,
        kernel: &mut Kernel,
        network: &mut Network,
        id: usize,
        random: &mut Random,
    ) {
        let moment = self.hub.begin_turn(now);
        let mut any = false;
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = self.seats[0].take_event() else { break };
            any = true;
            if self.settings.sorted {
                self.hub.shards.local.on_kernel_datagram(moment, Content::Events, &event);
            } else {
                self.hub.on_events(&event);
            }
        }
        let more = !self.seats[0].intake.is_empty();
        let (taken, come) = self.seats[0].intake_at();
        self.hub.intake_is_at(taken, come);
        any |= take_answers(now, &mut self.seats[0], &mut self.hub.shards.local);
        any |=
            self.dump.take(now, kernel, &mut self.hub, random.chance(self.settings.broken_dumps));
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(datagram) = self.inbox.pop_front() else { break };
            any = true;
            self.hub.on_peer(now, 0, &datagram).expect("it is no stream");
        }
        any |= self.hub.shards.has_inbound();
        self.hub.shards.work();
        self.hub.turn(now);
        while let Some(event) = self.hub.poll_event() {
            match event {
                HubEvent::StartDump => self.dump.begin(now, kernel),
                HubEvent::Stop => {}
            }
        }
        if self.dump.is_running() && self.hub.has_room_for_dump() {
            self.dump.ask();
        }
        let seat = &mut self.seats[0];
        let sent =
            send_requests(now, seat, &mut self.hub.shards.local, kernel, random, &self.settings);
        let blocked = self.transmit(now, network, id);
        while let Some(answer) = self.hub.poll_answer() {
            any = true;
            if answer.then != Then::More {
                self.open.retain(|(asker, _)| *asker != answer.asker);
            } else {
                self.hub.answered(answer.asker);
            }
        }
        let seats = &mut self.seats;
        self.hub.shards.flush(|k| seats[k].wake(now));
        let busy = more || sent || self.dump.is_running() || !self.inbox.is_empty();
        let busy = busy || self.hub.shards.local.is_busy() && !blocked;
        let busy = busy || self.hub.waits_for_events();
        let deadlines = [self.hub.poll_timeout(), self.hub.shards.local.poll_timeout()];
        let deadline = deadlines.into_iter().flatten().min();
        let seat = &mut self.seats[0];
        if busy || blocked {
            seat.wake(now + BUSY);
        } else if any || self.hub.shards.has_backlog() {
            seat.wake(now + LINGER);
        }
        seat.sleep.announce();
        if self.hub.shards.has_inbound() {
            seat.wake(now + BUSY);
        }
        if let Some(at) = deadline {
            seat.wake(at.max(now + BUSY));
        }
    }

    fn transmit(&mut self, now: Instant, network: &mut Network, id: usize) -> bool {
        let mut room = [0; 2048];
        let most = self.hub.links.links[0].datagram_max;
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(len) = self.hub.poll_transmit(now, &mut room[..most]) else { return false };
            network.send(now, id, &room[..len]);
        }
        true
    }

    fn worker_turn(&mut self, now: Instant, k: usize, kernel: &mut Kernel, random: &mut Random) {
        let moment = Moment::new(now, self.began);
        let worker = &mut self.workers[k - 1];
        let mut any = false;
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = self.seats[k].take_event() else { break };
            any = true;
            worker.shard.on_kernel_datagram(moment, Content::Events, &event);
        }
        let more = !self.seats[k].intake.is_empty();
        let (taken, come) = self.seats[k].intake_at();
        worker.shard.intake_is_at(taken, come);
        any |= take_answers(now, &mut self.seats[k], &mut worker.shard);
        any |= worker.has_inbound();
        let mut wake_hub = false;
        let pace = worker.turn(moment, BLOCKS_PER_TURN, || wake_hub = true);
        let sent = send_requests(
            now,
            &mut self.seats[k],
            &mut worker.shard,
            kernel,
            random,
            &self.settings,
        );
        let deadline = worker.shard.poll_timeout();
        let seat = &mut self.seats[k];
        if more || sent || pace == Pace::Busy {
            seat.wake(now + BUSY);
        } else if any {
            seat.wake(now + LINGER);
        }
        seat.sleep.announce();
        if worker.has_inbound() {
            seat.wake(now + BUSY);
        }
        if let Some(at) = deadline {
            seat.wake(at.max(now + BUSY));
        }
        if wake_hub {
            self.seats[0].wake(now);
        }
    }
}

impl Seat {
    fn new(sleep: Arc<Sleep>, ports: Ports) -> Self {
        Self {
            intake: VecDeque::new(),
            taken: 0,
            lost: 0,
            answers: VecDeque::new(),
            deaf_to_new: false,
            deaf: false,
            wake_at: None,
            sleep,
            ports,
        }
    }
}

/// Answers and news of losses; tells whether there were any.
fn take_answers(now: Instant, seat: &mut Seat, shard: &mut Shard) -> bool {
    let any = !seat.answers.is_empty() || seat.deaf || seat.lost > 0;
    for answer in seat.answers.drain(..) {
        shard.on_kernel_answer(now, &answer);
    }
    if std::mem::take(&mut seat.deaf) {
        shard.kernel_answers_lost(now);
    }
    if seat.lost > 0 {
        shard.lost(std::mem::take(&mut seat.lost));
    }
    any
}

/// Sends the shard's next batch, if there is one; the kernel obeys at once.
fn send_requests(
    now: Instant,
    seat: &mut Seat,
    shard: &mut Shard,
    kernel: &mut Kernel,
    random: &mut Random,
    settings: &Settings,
) -> bool {
    if let Some(hear) = shard.poll_hear_new() {
        seat.deaf_to_new = !hear;
        return true;
    }
    let mut room = vec![0; BATCH_BYTES];
    let Some(send) = shard.poll_kernel(now, &mut room) else { return false };
    let port = match send.lane {
        Lane::Write => seat.ports.write,
        Lane::Flush => seat.ports.flush,
        Lane::Audit => seat.ports.audit,
    };
    let answers = kernel.serve(now, port, &room[..send.len]);
    if random.chance(settings.lost_answers) {
        // The socket's buffer was full from some answer on; sometimes it is not even told.
        let kept = random.below(answers.len() + 1);
        seat.answers.extend(answers.into_iter().take(kept));
        seat.deaf = random.chance(700);
    } else {
        seat.answers.extend(answers);
    }
    true
}

fn session(settings: &Settings, unix: u32, now: Instant) -> Session {
    let (in_flight_max, datagrams_per_ms) = match settings.mode {
        Mode::Ftfw { ack_window, resend_queue } => {
            (ack_window.saturating_mul(4).max(1400).min(resend_queue).max(1), 0)
        }
        _ => (0, 12),
    };
    let config =
        SessionConfig { mode: settings.mode, first_seq: unix, in_flight_max, datagrams_per_ms };
    let mut session = Session::new(&config, now);
    session.request_resync();
    session
}

fn shard_config(settings: &Settings, id: usize, k: usize) -> ShardConfig {
    let shards = settings.shards[id];
    ShardConfig {
        id: k as u8,
        limit: settings.limit.div_ceil(shards as u32),
        seed: Some(settings.seed ^ (k as u64) << 8 ^ id as u64),
        encode: encode_options(settings),
        acknowledged: matches!(settings.mode, Mode::Ftfw { .. }),
        replicates: true,
        bypass: false,
        alarm: None,
        kernel: KernelConfig {
            shard: k as u32,
            shards: shards as u32,
            commit_timeout_secs: settings.commit_timeout,
            inject: settings.inject,
            inject_queue_max: settings.inject_queue,
            ..KernelConfig::default()
        },
        expectations: Expectations::Off,
        cpu: None,
        cpu_time: || Duration::ZERO,
        flow_log: None,
    }
}

/// What messages carry under these settings.
pub(crate) const fn encode_options(settings: &Settings) -> EncodeOptions {
    EncodeOptions { window_tracking: false, timeout: settings.commit_timeout.is_none() }
}

fn base(settings: &Settings) -> Snapshot {
    let external = if settings.inject {
        let none = OkFailed::default();
        ExternalFigures::Inject { created: none, updated: none, destroyed: none }
    } else {
        ExternalFigures::Cache(CacheFigures::default())
    };
    let mut figures = SyncFigures { external, ..SyncFigures::default() };
    if let Mode::Ftfw { resend_queue, .. } = settings.mode {
        let limit = u64::from(resend_queue);
        figures.queues.resend = Some(Queue { elements: 0, limit, no_space: 0 });
        figures.resend = Some(Vec::new());
    }
    let mut base = Snapshot { sync: Some(figures), ..Snapshot::default() };
    base.engine.intake = if settings.sorted { Intake::Ring } else { Intake::Single };
    base
}
