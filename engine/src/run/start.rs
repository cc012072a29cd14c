//! Opening everything in the order in which an operator can tell what is missing.

mod session;

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use io::{
    Channel, ChannelKind, ChannelOptions, EventIntake, Fd, FlowLookup, IntakeKind, IntakeOptions,
    IoError, Ring, RingConfig, Signals, Waker, cpu, sysctl,
};
use proto_sync::{EncodeOptions, datagram_max};

use super::clients::{Clients, SENDING_MAX};
use super::dump::{BUCKETS, DumpReader};
use super::events_switch::EventsSwitch;
use super::hub_thread::{HubThread, SIGNALS};
use super::pace::Pacer;
use super::peers::Peers;
use super::shard_io::{Growth, ShardIo};
use super::tokens::Token;
use super::worker_thread::{WorkerParts, WorkerThread};
use crate::clock::Moment;
use crate::config::{Config, Expectations, Intake, LinkKind, Sync, SyncMode};
use crate::console::Console;
use crate::filter::FlowFilter;
use crate::hub::{Hub, HubParts};
use crate::kernel::KernelConfig;
use crate::link::{Link, LinkSet};
use crate::log::{FlowLog, Log};
use crate::mesh::{CHANGE_BLOCKS, INBOUND_BLOCKS, Pipe, Sleep};
use crate::order::Order;
use crate::shard::{Shard, ShardConfig};
use crate::shards::{Remote, Shards};
use crate::snapshot::{
    CacheFigures, ExternalFigures, InternalFigures, LinkTransport, OkFailed, Queue, Snapshot,
    SyncFigures,
};

/// Shards unless configured, at most.
const SHARDS_DEFAULT_MAX: usize = 4;

/// Send buffers of the hub: what a link may hold while the peer takes nothing, and enough besides
/// for clients, for a batch of requests and for the reading of a table.
const SEND_BUFFERS: u16 = (io::CHANNEL_BUFFERS_MAX + SENDING_MAX + 2) as u16;

/// What a daemon is made of.
pub struct Parts {
    /// What to do.
    pub config: Config,
    /// Where clients connect.
    pub control: Option<UnixListener>,
    /// Takes lines.
    pub log: Arc<dyn Log>,
    /// Takes flows that have ended.
    pub flow_log: Option<Arc<dyn FlowLog>>,
    /// Writes figures.
    pub console: Box<dyn Console>,
    /// Goes up with every turn of the hub.
    pub heartbeat: Arc<AtomicU64>,
}

/// Why a daemon did not start.
#[derive(Debug)]
pub enum StartError {
    /// A link could not be opened.
    Link(IoError),
    /// The kernel's events or table can not be read.
    Kernel(IoError),
    /// Anything else.
    System(IoError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => write!(f, "can't open channel socket: {error}"),
            Self::Kernel(error) => {
                write!(f, "can't get kernel conntrack table (e.g. no privileges): {error}")
            }
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// A daemon that has read the kernel's table and is ready to run.
pub struct Daemon {
    hub: HubThread,
    workers: Vec<JoinHandle<Result<(), IoError>>>,
}

impl Daemon {
    /// Opens everything and reads the kernel's table. The calling thread has to be the one that
    /// calls [`Daemon::run`]; it gets shard 0.
    ///
    /// # Errors
    /// What could not be opened; whatever was is closed again.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let signals = Signals::block(&SIGNALS).map_err(StartError::System)?;
        let may_set = parts.config.events.set_events_sysctl;
        let events_switch = parts
            .config
            .takes_events()
            .then(|| EventsSwitch::new(may_set, Instant::now(), &*parts.log));
        let channels = open_channels(parts.config.sync.as_ref()).map_err(StartError::Link)?;
        let plan = Plan::new(&parts.config, parts.log.clone(), parts.flow_log.clone());
        let mut hub_ring =
            Ring::new(&RingConfig { send_buffers: SEND_BUFFERS, ..RingConfig::default() })
                .map_err(StartError::System)?;
        let hub_waker = hub_ring.waker(Token::Wake.raw()).map_err(StartError::System)?;
        let intake = EventIntake::open(&plan.intake).map_err(StartError::Kernel)?;
        super::intake::tell(&plan.config, &intake, &plan.intake, &*plan.log);
        let base = plan.snapshot(&intake);
        let mut intakes = intake.into_shards().into_iter();
        let Some(own) = intakes.next() else {
            let none = IoError::new("open the event intake", "", std::io::ErrorKind::NotFound);
            return Err(StartError::Kernel(none));
        };
        pin(plan.cpu(0), 0, &*parts.log);
        let sleep = Arc::new(Sleep::default());
        let mut remotes = Vec::new();
        let mut crew = Crew::default();
        for (k, intake) in intakes.enumerate() {
            let lanes = Lanes::new(Arc::clone(&sleep));
            let worker = WorkerParts {
                config: plan.shard(k + 1),
                intake,
                growth: plan.growth(),
                cpu: plan.cpu(k + 1),
                linger: plan.linger,
                began: plan.began,
                from_hub: Arc::clone(&lanes.to_shard),
                to_hub: Arc::clone(&lanes.to_hub),
                sleep: lanes.sleep,
                hub: hub_waker.clone(),
                lookup: plan.lookup().map_err(StartError::Kernel)?,
                log: parts.log.clone(),
            };
            crew.hire(k + 1, worker).map_err(StartError::Kernel)?;
            remotes.push(Remote::new(lanes.to_shard, lanes.to_hub));
        }
        let lookup = plan.lookup().map_err(StartError::Kernel)?;
        let io = ShardIo::open(own, plan.growth(), lookup).map_err(StartError::Kernel)?;
        let local = Shard::new(plan.shard(0), io.ports(), plan.began);
        let now = Moment::new(plan.began, plan.began);
        let shards = Shards::new(local, remotes, now);
        let links = plan.links(&channels);
        let hub = Hub::new(plan.hub(shards, links, base, parts.console), plan.began);
        let expectations = plan.expectations != Expectations::Off;
        let mut hub = HubThread {
            hub,
            io,
            ring: hub_ring,
            peers: Peers::new(channels).map_err(StartError::Link)?,
            dump: DumpReader::open(expectations).map_err(StartError::Kernel)?,
            dump_waits: None,
            dump_stuck: false,
            clients: Clients::new(),
            listener: parts.control.map(|listener| Fd::from(OwnedFd::from(listener))),
            accept_again: None,
            signals,
            events_switch,
            pacer: Pacer::new(plan.linger, Instant::now()),
            heartbeat: parts.heartbeat,
            sleep,
            workers: crew.wakers,
            log: parts.log,
            flow_log: parts.flow_log,
            stopping: false,
        };
        let started = hub.start().and_then(|()| {
            // Only now it is known whether there is a link to ask over.
            plan.ask(&mut hub.hub);
            hub.settle()
        });
        let daemon = Self { hub, workers: crew.threads };
        match started {
            Ok(()) => Ok(daemon),
            Err(error) => {
                let _ = daemon.dismiss();
                Err(StartError::Kernel(error))
            }
        }
    }

    /// Runs until a client or a signal asks for the end.
    ///
    /// # Errors
    /// What made going on impossible.
    pub fn run(mut self) -> Result<(), IoError> {
        let ran = self.hub.run();
        let dismissed = self.dismiss();
        ran.and(dismissed)
    }

    fn dismiss(mut self) -> Result<(), IoError> {
        let shards = &mut self.hub.hub.shards;
        for k in 1..shards.count() {
            shards.order(k, Order::Stop);
        }
        let wakers = &self.hub.workers;
        shards.flush(|k| wakers[k - 1].wake());
        let mut result = Ok(());
        for thread in self.workers {
            match thread.join() {
                Ok(ended) => result = result.and(ended),
                Err(_) => {
                    let lost = std::io::ErrorKind::Other;
                    result = result.and(Err(IoError::new("run a shard's thread", "", lost)));
                }
            }
        }
        result
    }
}

/// The pipes between the hub and one other shard.
struct Lanes {
    to_shard: Arc<Pipe<crate::mesh::ToShard>>,
    to_hub: Arc<Pipe<crate::mesh::ToHub>>,
    sleep: Arc<Sleep>,
}

impl Lanes {
    fn new(hub: Arc<Sleep>) -> Self {
        let sleep = Arc::new(Sleep::default());
        Self {
            to_shard: Arc::new(Pipe::new(2 * INBOUND_BLOCKS, Arc::clone(&sleep))),
            to_hub: Arc::new(Pipe::new(2 * INBOUND_BLOCKS + 2 * CHANGE_BLOCKS, hub)),
            sleep,
        }
    }
}

/// The other shards' threads.
#[derive(Default)]
struct Crew {
    threads: Vec<JoinHandle<Result<(), IoError>>>,
    wakers: Vec<Waker>,
}

impl Crew {
    /// Starts a thread and waits until it has opened everything.
    fn hire(&mut self, k: usize, parts: WorkerParts) -> Result<(), IoError> {
        let (tell, told) = mpsc::sync_channel(1);
        let body = move || match WorkerThread::open(parts) {
            Ok((worker, waker)) => {
                let _ = tell.send(Ok(waker));
                worker.run()
            }
            Err(error) => {
                let _ = tell.send(Err(error));
                Ok(())
            }
        };
        let thread = thread::Builder::new()
            .name(format!("shard-{k}"))
            .spawn(body)
            .map_err(|error| IoError::new("start a thread", "", error))?;
        self.threads.push(thread);
        let waker = told.recv().unwrap_or_else(|_| {
            Err(IoError::new("start a shard's thread", "", std::io::ErrorKind::Other))
        })?;
        self.wakers.push(waker);
        Ok(())
    }
}

/// A program that looks at silent flows, whatever way events take. Where none may be loaded, they
/// are asked for one by one or read with the whole table, at two to three times the cost.
fn open_lookup(log: &dyn Log) -> Option<FlowLookup> {
    match FlowLookup::open() {
        Ok(lookup) => Some(lookup),
        Err(error) => {
            log.info(format_args!("silent flows will be read by netlink: {error}"));
            None
        }
    }
}

/// Pins the calling thread; `k` is its shard.
pub(super) fn pin(core: Option<u16>, k: usize, log: &dyn Log) {
    if let Some(Err(error)) = core.map(cpu::pin_to_core) {
        log.warning(format_args!("shard {k} is not pinned: {error}"));
    }
}

fn open_channels(sync: Option<&Sync>) -> Result<Vec<Channel>, IoError> {
    let Some(sync) = sync else { return Ok(Vec::new()) };
    let open = |link: &crate::config::Link| {
        Channel::open(&ChannelOptions {
            kind: match link.kind {
                LinkKind::Multicast { group, port, interface_address } => {
                    ChannelKind::Multicast { group, port, interface_address }
                }
                LinkKind::Udp { local, peer, port } => ChannelKind::Udp { local, peer, port },
                LinkKind::Tcp { local, peer, port } => ChannelKind::Tcp { local, peer, port },
            },
            interface: link.interface.clone(),
            send_buffer_bytes: link.send_buffer_bytes,
            receive_buffer_bytes: link.receive_buffer_bytes,
            checksum: link.checksum,
            backlog: sync.error_queue as usize,
        })
    };
    sync.links.iter().map(open).collect()
}

/// Everything that follows from the configuration.
struct Plan {
    config: Config,
    shards: usize,
    intake: IntakeOptions,
    expectations: Expectations,
    filter: Arc<FlowFilter>,
    linger: Duration,
    /// How shards look at silent flows without asking for each, if the kernel permits.
    lookup: Option<FlowLookup>,
    began: Instant,
    log: Arc<dyn Log>,
    flow_log: Option<Arc<dyn FlowLog>>,
}

impl Plan {
    fn new(config: &Config, log: Arc<dyn Log>, flow_log: Option<Arc<dyn FlowLog>>) -> Self {
        let cores = cpu::available_cores().len();
        let shards = config
            .engine
            .shards
            .map_or(cores.min(SHARDS_DEFAULT_MAX), |shards| usize::from(shards.max(1)));
        let expectations =
            config.sync.as_ref().map_or(Expectations::Off, |sync| sync.expectations.clone());
        let filter = Arc::new(FlowFilter::new(&config.filter));
        let intake = super::intake::options(config, shards as u8, &filter);
        Self {
            config: config.clone(),
            shards,
            intake,
            expectations,
            filter,
            lookup: if config.takes_events() { open_lookup(&*log) } else { None },
            linger: Duration::from_micros(u64::from(config.engine.linger_us)),
            began: Instant::now(),
            log,
            flow_log,
        }
    }

    fn cpu(&self, k: usize) -> Option<u16> {
        let cpus = &self.config.engine.cpus;
        cpus.get(k % cpus.len().max(1)).copied()
    }

    /// How far a shard's event socket may grow, and where to tell it.
    fn growth(&self) -> Growth {
        let shards = self.shards as u32;
        Growth {
            bytes: self.intake.buffer_bytes / shards,
            max_bytes: self.config.events.buffer_max_bytes / shards,
            log: Arc::clone(&self.log),
            ended: false,
        }
    }

    fn bypasses(&self) -> bool {
        self.config.sync.as_ref().is_some_and(|sync| sync.disable_internal_cache)
    }

    fn injects(&self) -> bool {
        self.config.sync.as_ref().is_some_and(|sync| sync.disable_external_cache)
    }

    fn acknowledges(&self) -> bool {
        let ftfw = |sync: &Sync| matches!(sync.mode, SyncMode::Ftfw { .. });
        self.config.sync.as_ref().is_some_and(ftfw)
    }

    fn shard(&self, k: usize) -> ShardConfig {
        let sync = self.config.sync.as_ref();
        let window_tracking = sync.is_some_and(|sync| sync.tcp_window_tracking);
        let commit_timeout_secs = sync.and_then(|sync| sync.commit_timeout_secs);
        ShardConfig {
            id: k as u8,
            limit: self.config.hash_limit.div_ceil(self.shards as u32),
            seed: None,
            encode: EncodeOptions { window_tracking, timeout: commit_timeout_secs.is_none() },
            acknowledged: self.acknowledges(),
            replicates: sync.is_some(),
            bypass: self.bypasses(),
            alarm: sync.and_then(|sync| match sync.mode {
                SyncMode::Alarm(times) => Some(times),
                SyncMode::Notrack | SyncMode::Ftfw { .. } => None,
            }),
            kernel: KernelConfig {
                shard: k as u32,
                shards: self.shards as u32,
                window_tracking,
                commit_timeout_secs,
                inject: self.injects(),
                filter: self.filter.clone(),
                look: self.lookup.is_some(),
                polls: self.config.events.poll_secs.is_some(),
                ..KernelConfig::default()
            },
            expectations: self.expectations.clone(),
            cpu: self.cpu(k),
            cpu_time: cpu::thread_cpu_time,
            flow_log: self.flow_log.clone(),
        }
    }

    fn lookup(&self) -> Result<Option<FlowLookup>, IoError> {
        self.lookup.as_ref().map(FlowLookup::try_clone).transpose()
    }

    fn links(&self, channels: &[Channel]) -> LinkSet {
        let Some(sync) = &self.config.sync else { return LinkSet::default() };
        let link = |(link, channel): (&crate::config::Link, &Channel)| {
            let (transport, address) = match link.kind {
                LinkKind::Multicast { group, .. } => (LinkTransport::Multicast, group),
                LinkKind::Udp { peer, .. } => (LinkTransport::Udp, peer),
                LinkKind::Tcp { peer, .. } => {
                    let tcp =
                        LinkTransport::Tcp { server_connected: false, client_connected: false };
                    (tcp, peer)
                }
            };
            let mtu = channel.interface().mtu();
            let max = datagram_max(mtu, address.is_ipv6(), channel.is_stream());
            Link::new(transport, link.interface.clone(), max)
        };
        let links = sync.links.iter().zip(channels).map(link).collect();
        LinkSet::new(links, sync.default_link)
    }

    /// The figures as they are before anything happened.
    fn snapshot(&self, intake: &EventIntake) -> Snapshot {
        let mut snapshot = Snapshot { pid: std::process::id(), ..Snapshot::default() };
        snapshot.engine.intake = match intake.kind() {
            IntakeKind::Ring => Intake::Ring,
            IntakeKind::Filter => Intake::Filter,
            IntakeKind::Single => Intake::Single,
        };
        snapshot.engine.intake_reason = intake.reason().to_owned();
        snapshot.engine.filtering = super::intake::filtering(&self.config.filter, intake);
        snapshot.netlink.buffer_bytes = u64::from(self.intake.buffer_bytes);
        snapshot.statistics = self.config.statistics.then(CacheFigures::default);
        if self.config.is_idle() {
            snapshot.engine.intake_reason = "neither Sync nor Stats: no events are taken".into();
        } else if self.config.events.poll_secs.is_some() {
            snapshot.engine.intake_reason = "PollSecs: no events are taken".into();
            snapshot.netlink.buffer_bytes = self.config.events.buffer_bytes.unwrap_or(0).into();
        }
        let Some(sync) = &self.config.sync else { return snapshot };
        let external = || {
            if sync.disable_external_cache {
                let none = OkFailed::default();
                ExternalFigures::Inject { created: none, updated: none, destroyed: none }
            } else {
                ExternalFigures::Cache(CacheFigures::default())
            }
        };
        let internal = || {
            if sync.disable_internal_cache {
                InternalFigures::Bypass { created: 0, updated: 0, destroyed: 0 }
            } else {
                InternalFigures::default()
            }
        };
        let mut figures =
            SyncFigures { internal: internal(), external: external(), ..SyncFigures::default() };
        if self.expectations != Expectations::Off {
            figures.expects = Some((internal(), external()));
        }
        figures.queues.error.limit = u64::from(sync.error_queue);
        if let SyncMode::Ftfw { resend_queue, .. } = sync.mode {
            let limit = u64::from(resend_queue);
            figures.queues.resend = Some(Queue { elements: 0, limit, no_space: 0 });
            figures.resend = Some(Vec::new());
        }
        snapshot.sync = Some(figures);
        snapshot
    }

    fn hub(
        &self,
        shards: Shards,
        links: LinkSet,
        base: Snapshot,
        console: Box<dyn Console>,
    ) -> HubParts {
        let buckets = sysctl::read(BUCKETS).ok().and_then(|text| text.parse().ok());
        HubParts {
            shards,
            links,
            session: self.session(),
            poll: self.config.events.poll_secs.map(|secs| Duration::from_secs(secs.into())),
            overrun_resync: self
                .config
                .events
                .overrun_resync_secs
                .map(|secs| Duration::from_secs(u64::from(secs))),
            buckets: buckets.unwrap_or(0),
            look: self.lookup.is_some(),
            inject: self.injects(),
            bypass: self.bypasses(),
            filter: self.filter.clone(),
            acknowledged: self.acknowledges(),
            expectations: self.expectations != Expectations::Off,
            purge_delay: Duration::from_secs(
                self.config.sync.as_ref().map_or(0, |sync| u64::from(sync.purge_timeout_secs)),
            ),
            log: Arc::clone(&self.log),
            console,
            base,
        }
    }
}
