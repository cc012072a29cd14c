//! All figures of a running daemon at one moment, as plain numbers.
//!
//! The engine fills the value on request; the program renders it. Every counter counts from the
//! start of the daemon.

use crate::config::Intake;
use crate::kernel::CommitReport;

/// All figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Process id of the daemon.
    pub pid: u32,
    /// `None` if the daemon replicates nothing.
    pub sync: Option<SyncFigures>,
    /// The cache of a daemon that only counts.
    pub statistics: Option<CacheFigures>,
    /// Bytes and packets of flows that ended.
    pub traffic: Traffic,
    /// Kernel events and requests, summed over the shards.
    pub netlink: NetlinkFigures,
    /// The process itself.
    pub runtime: RuntimeFigures,
    /// Children that run now, the newest first. Ours has none but keeps the form.
    pub children: Vec<Child>,
    /// The engine's own figures.
    pub engine: EngineFigures,
    /// What must not go unnoticed.
    pub conditions: Conditions,
}

/// What an operator wants to be woken for. The log tells each when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Objects refused because a cache was full, all caches together.
    pub cache_full: u64,
    /// Whether the peer is silent for more than 5 s; `None` where it need not say anything.
    pub peer_silent: Option<bool>,
    /// Times that it became silent.
    pub peer_silences: u64,
    /// Milliseconds since it was heard; `None` if it never was.
    pub peer_heard_ms: Option<u64>,
    /// Whether the kernel's table is being read, or will be because events were lost.
    pub resync_running: bool,
    /// Whether a commit is under way.
    pub commit_running: bool,
    /// What came of the commits that have ended.
    pub commits: CommitFigures,
}

/// All commits together: entries and expectations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitFigures {
    /// Commits.
    pub count: u64,
    /// What came of them.
    pub total: CommitReport,
}

/// What was special about flows and expectations that went straight into the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InjectionFigures {
    /// Flows without the helper they had, because the kernel lacks it.
    pub without_helper: u64,
    /// Flows without the master they had, because it did not come.
    pub without_master: u64,
    /// Flows and expectations that came before their master and waited for it.
    pub waited: u64,
    /// Flows and expectations that came faster than the kernel took them. The peer is asked for
    /// them again.
    pub refused: u64,
}

/// What a replicating daemon counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncFigures {
    /// Internal flow cache.
    pub internal: InternalFigures,
    /// External flow cache.
    pub external: ExternalFigures,
    /// What was injected, if `external` is [`ExternalFigures::Inject`].
    pub injection: InjectionFigures,
    /// Expectation caches, internal and external, if expectations are replicated.
    pub expects: Option<(InternalFigures, ExternalFigures)>,
    /// Links in the order of the configuration.
    pub links: Vec<LinkFigures>,
    /// Index in `links` of the one in use.
    pub active_link: usize,
    /// How often another link came into use.
    pub link_switches: u64,
    /// Messages that were not understood.
    pub network: NetworkFigures,
    /// Queues.
    pub queues: QueueFigures,
    /// The resend queue, oldest first, if the protocol has one.
    pub resend: Option<Vec<Resend>>,
}

/// The internal flow cache, or what replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InternalFigures {
    /// Flows are kept.
    Cache(CacheFigures),
    /// Events go straight to the link (`DisableInternalCache`).
    Bypass {
        /// Flows that began.
        created: u64,
        /// Flows that changed.
        updated: u64,
        /// Flows that ended.
        destroyed: u64,
    },
}

/// The external flow cache, or what replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalFigures {
    /// Flows are kept until a commit.
    Cache(CacheFigures),
    /// Flows go straight into the kernel (`DisableExternalCache`).
    Inject {
        /// Entries created.
        created: OkFailed,
        /// Entries updated.
        updated: OkFailed,
        /// Entries deleted.
        destroyed: OkFailed,
    },
}

/// How often something worked and how often it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OkFailed {
    /// Worked.
    pub ok: u64,
    /// Did not work.
    pub failed: u64,
}

/// One cache, all shards together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Objects that have memory, those kept only for a queue included.
    pub objects: u64,
    /// Objects alive.
    pub active: u64,
    /// Objects in the table, those dead but not yet acknowledged included.
    pub total: u64,
    /// Insertions.
    pub created: OkFailed,
    /// Insertions that failed for lack of memory.
    pub no_memory: u64,
    /// Insertions that failed because the cache was full.
    pub no_space: u64,
    /// Changes.
    pub updated: OkFailed,
    /// Changes of what was not there.
    pub update_missing: u64,
    /// Removals.
    pub deleted: OkFailed,
    /// Removals of what was not there.
    pub delete_missing: u64,
}

/// Bytes and packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// The transport of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkTransport {
    /// Multicast.
    #[default]
    Multicast,
    /// UDP.
    Udp,
    /// TCP with the state of the two connections.
    Tcp {
        /// Whether the peer is connected to us.
        server_connected: bool,
        /// Whether we are connected to the peer.
        client_connected: bool,
    },
}

/// The state of a link's device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkStatus {
    /// Up with carrier.
    #[default]
    Running,
    /// Up without carrier.
    NoCarrier,
    /// Down.
    Down,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFigures {
    /// Transport.
    pub transport: LinkTransport,
    /// Name of the device.
    pub device: String,
    /// State of the device.
    pub status: LinkStatus,
    /// Sent; packets are datagrams, or calls with TCP.
    pub sent: Traffic,
    /// Received.
    pub received: Traffic,
    /// Sends that failed.
    pub send_errors: u64,
    /// Receives that failed.
    pub receive_errors: u64,
}

/// Messages from the peers that were not understood, and gaps in their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkFigures {
    /// Version that is not ours.
    pub bad_version: u64,
    /// Header that is not one.
    pub bad_header: u64,
    /// Contents that are not a flow or an expectation.
    pub bad_payload: u64,
    /// Unknown message types.
    pub bad_type: u64,
    /// Messages longer than their datagram.
    pub truncated: u64,
    /// Message lengths that cannot be.
    pub bad_size: u64,
    /// Objects that could not be encoded.
    pub send_malformed: u64,
    /// Messages lost.
    pub lost: u64,
    /// Messages older than the newest seen.
    pub before: u64,
}

impl NetworkFigures {
    /// All received messages that were not understood.
    pub fn malformed(&self) -> u64 {
        [
            self.bad_version,
            self.bad_header,
            self.bad_payload,
            self.bad_type,
            self.truncated,
            self.bad_size,
        ]
        .iter()
        .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Events and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetlinkFigures {
    /// Events of the kernel, those that the filter left out included.
    pub events: u64,
    /// Events that the filter left out, in the kernel or in user space.
    pub filtered: u64,
    /// Events of unknown type.
    pub unknown_events: u64,
    /// Failed receives of events, overruns included.
    pub event_errors: u64,
    /// Unknown messages in dumps.
    pub unknown_dumps: u64,
    /// Times that the kernel had events and no room for them.
    pub overruns: u64,
    /// Flushes of the kernel's tables.
    pub flushes: u64,
    /// Re-readings of the kernel's table.
    pub resyncs: u64,
    /// Event buffer in bytes.
    pub buffer_bytes: u64,
}

/// The process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeFigures {
    /// Children that ended badly.
    pub child_failed: u64,
    /// Of these, by SIGSEGV.
    pub child_segfault: u64,
    /// Of these, by a signal that asks to end.
    pub child_termsig: u64,
    /// Failed waits for work.
    pub wait_ready_failed: u64,
    /// Failed waits for children.
    pub wait_child_failed: u64,
    /// Control connections that closed before their request was complete.
    pub local_read_failed: u64,
    /// Requests with an unknown number.
    pub local_unknown: u64,
}

/// A running child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its process id.
    pub pid: u32,
    /// Whether it flushes the kernel's table; others write dumps.
    pub flush: bool,
}

/// One queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Elements now.
    pub elements: u64,
    /// Bound.
    pub limit: u64,
    /// Elements that found no room.
    pub no_space: u64,
}

/// The queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Elements in all queues.
    pub nodes: u64,
    /// Waiting to be sent.
    pub transmit: Queue,
    /// Waiting for a TCP link to come back.
    pub error: Queue,
    /// Sent and not acknowledged, if the protocol has that.
    pub resend: Option<Queue>,
}

/// One element of the resend queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    /// Sequence number.
    pub seq: u32,
    /// Flags of a control message; `None` for an object.
    pub control_flags: Option<u8>,
}

/// Where events are filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Nowhere: everything counts.
    #[default]
    Nothing,
    /// In user space.
    User,
    /// In the kernel.
    Kernel,
    /// In the kernel, but for TCP states.
    Both,
}

/// Figures that the original does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineFigures {
    /// How events leave the kernel; never [`Intake::Auto`] once the daemon runs.
    pub intake: Intake,
    /// Why this way, in a few words.
    pub intake_reason: String,
    /// Where events are filtered.
    pub filtering: Filtering,
    /// Times that the kernel's events were off while the daemon ran, and on again.
    pub events_off: u64,
    /// Flows of the kernel without events that are watched by reading the table.
    pub silent_flows: u64,
    /// CPU time of threads that are not shards, in nanoseconds.
    pub other_cpu_ns: u64,
    /// Control clients dropped because they did not read, or said nothing, and others waited.
    pub clients_dropped: u64,
    /// Log lines dropped because the writer was behind.
    pub log_dropped: u64,
    /// Lines about ended flows dropped for this reason, or because their file took none.
    pub flow_log_dropped: u64,
    /// One per shard.
    pub shards: Vec<ShardFigures>,
    /// The replication session; `None` without a `Sync` section.
    pub session: Option<SessionFigures>,
}

/// One shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardFigures {
    /// The core it is pinned to.
    pub cpu: Option<u16>,
    /// Events taken.
    pub events: u64,
    /// Drains of the intake that found events.
    pub drains: u64,
    /// Events that the kernel could not hand over.
    pub lost: u64,
    /// Bursts of such events.
    pub overruns: u64,
    /// Flows sent to peers.
    pub sent: u64,
    /// Flows received from peers.
    pub received: u64,
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Live flows, internal cache.
    pub internal: u64,
    /// Live flows, external cache.
    pub external: u64,
    /// Memory of both caches in bytes.
    pub cache_bytes: u64,
    /// Changed flows not yet sent.
    pub dirty: u64,
    /// The most there ever were.
    pub dirty_max: u64,
    /// The most blocks ever waiting for the link.
    pub to_link_max: u64,
    /// The most messages ever waiting from the link.
    pub from_link_max: u64,
    /// Longest time between two drains in microseconds.
    pub turn_max_us: u64,
}

/// The replication session beyond what the original counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFigures {
    /// Objects sent again.
    pub resent: u64,
    /// Objects that fell out of the resend queue unacknowledged.
    pub evicted: u64,
    /// Acknowledgements received.
    pub acks: u64,
    /// Negative acknowledgements received.
    pub nacks: u64,
    /// Restarts of the peer that were noticed.
    pub peer_restarts: u64,
    /// Bulk transfers begun.
    pub bulks: u64,
    /// Messages received twice.
    pub duplicates: u64,
}

impl Default for InternalFigures {
    fn default() -> Self {
        Self::Cache(CacheFigures::default())
    }
}

impl Default for ExternalFigures {
    fn default() -> Self {
        Self::Cache(CacheFigures::default())
    }
}
