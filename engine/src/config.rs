//! The daemon's configuration as a typed value, with the defaults of the original.
//!
//! The text form is read by the `conntrackd` program; the engine only sees values that were
//! checked.

use std::net::IpAddr;
use std::path::PathBuf;

pub use crate::alarm::AlarmTimes;

/// A complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Control socket; `None` means that nobody can connect.
    pub control_path: Option<PathBuf>,
    /// Flows per cache, all shards together. 262144 unless configured.
    pub hash_limit: u32,
    /// Kernel event handling.
    pub events: Events,
    /// Replication; `None` if the configuration has no `Sync` section.
    pub sync: Option<Sync>,
    /// Whether flows are counted, and told when they end (`Stats`). Excludes replication.
    pub statistics: bool,
    /// Which events count.
    pub filter: Filter,
    /// Shards, pinning, intake.
    pub engine: Engine,
}

/// How kernel events are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// `NetlinkBufferSize` in bytes as the kernel reports it; `None` is the system's default.
    pub buffer_bytes: Option<u32>,
    /// `NetlinkBufferSizeMaxGrowth` in bytes; 0 forbids growth.
    pub buffer_max_bytes: u32,
    /// Seconds from an overrun to the re-reading of the table; `None` never re-reads.
    pub overrun_resync_secs: Option<u32>,
    /// Seconds between two readings of the table that take the place of events (`PollSecs`); `None`
    /// listens for events.
    pub poll_secs: Option<u32>,
    /// Whether events must not be lost (`NetlinkEventsReliable`).
    pub reliable: bool,
    /// Whether the daemon may set `net.netfilter.nf_conntrack_events` to 1 in its namespace.
    pub set_events_sysctl: bool,
}

/// The replication protocol's variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Send and forget.
    Notrack,
    /// Send, and repeat from time to time; nothing is asked for.
    Alarm(AlarmTimes),
    /// Acknowledged, with a resend queue.
    Ftfw {
        /// Messages per acknowledgement, 300 unless configured.
        ack_window: u32,
        /// Messages kept for resending, 131072 unless configured.
        resend_queue: u32,
    },
}

/// Replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Variant of the protocol.
    pub mode: SyncMode,
    /// Links in the order of the configuration, one to four, all of one kind.
    pub links: Vec<Link>,
    /// Index in `links` of the one that sends at first.
    pub default_link: usize,
    /// Fixed timeout of committed entries in seconds; `None` estimates it.
    pub commit_timeout_secs: Option<u32>,
    /// Seconds from a request for a delayed flush of the kernel's table to the flush.
    pub purge_timeout_secs: u32,
    /// Own flows are told and not kept; NOTRACK only.
    pub disable_internal_cache: bool,
    /// Received flows go straight into the kernel.
    pub disable_external_cache: bool,
    /// Whether the peer is asked for its flows at start; asked unless switched off.
    pub startup_resync: bool,
    /// Send and restore TCP window scales instead of committing liberal flows.
    pub tcp_window_tracking: bool,
    /// Expectations to replicate.
    pub expectations: Expectations,
    /// Buffers kept for a TCP link that is down, `ErrorQueueLength`, 128 unless configured.
    pub error_queue: u32,
}

/// Which expectations are replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectations {
    /// None.
    Off,
    /// All.
    All,
    /// Those whose helper's name begins with one of these words, in any case.
    Helpers(Vec<String>),
}

/// The kind of a link and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Multicast.
    Multicast {
        /// Group address.
        group: IpAddr,
        /// UDP port (`Group` in the configuration).
        port: u16,
        /// Local address of the device (IPv4 only).
        interface_address: Option<IpAddr>,
    },
    /// UDP.
    Udp {
        /// Address to listen at.
        local: IpAddr,
        /// Address of the peer.
        peer: IpAddr,
        /// Port of both.
        port: u16,
    },
    /// TCP.
    Tcp {
        /// Address to listen at.
        local: IpAddr,
        /// Address of the peer.
        peer: IpAddr,
        /// Port of both.
        port: u16,
    },
}

/// One dedicated link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kind and addresses.
    pub kind: LinkKind,
    /// Name of the device.
    pub interface: String,
    /// `SndSocketBuffer` in bytes, 0 for the system's default.
    pub send_buffer_bytes: u32,
    /// `RcvSocketBuffer` in bytes, 0 for our default.
    pub receive_buffer_bytes: u32,
    /// Whether UDP checksums are computed.
    pub checksum: bool,
}

/// Whether what a list names is kept or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Keep what is listed.
    Accept,
    /// Keep what is not listed.
    Ignore,
}

/// An address and the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Address.
    pub address: IpAddr,
    /// Leading bits, at most 32 or 128.
    pub prefix: u8,
}

/// Which events, dumped flows and flushes count: sets that are present are ANDed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// IP protocol numbers.
    pub protocols: Option<(Policy, Vec<u8>)>,
    /// Addresses and networks, compared with the original source and the reply source.
    pub addresses: Option<(Policy, Vec<Network>)>,
    /// TCP state numbers; other flows pass.
    pub tcp_states: Option<(Policy, Vec<u8>)>,
    /// `From Kernelspace`: the log tells if that can not be. The meaning is the same, and what the
    /// kernel can test it does in any case.
    pub kernelspace: bool,
}

/// How events leave the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intake {
    /// The first of the others that works.
    #[default]
    Auto,
    /// An eBPF program sorts events into one ring per shard.
    Ring,
    /// One socket per shard with a classic BPF filter.
    Filter,
    /// One socket, sorted in user space.
    Single,
}

/// The `Engine` section, ours alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Shards; `None` is one per core of the affinity mask, at most 4.
    pub shards: Option<u8>,
    /// Shard `k` is pinned to the `k`-th of these cores; empty leaves the mask alone.
    pub cpus: Vec<u16>,
    /// How events leave the kernel.
    pub intake: Intake,
    /// Memory for events not yet read, in bytes, all shards together; `None` is what
    /// `NetlinkBufferSize` says, and 32 MiB at least.
    pub intake_buffer_bytes: Option<u32>,
    /// Microseconds between two drains; 0 wakes per event.
    pub linger_us: u32,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            shards: None,
            cpus: Vec::new(),
            intake: Intake::Auto,
            intake_buffer_bytes: None,
            linger_us: 1000,
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            buffer_bytes: None,
            buffer_max_bytes: 0,
            overrun_resync_secs: Some(30),
            poll_secs: None,
            reliable: false,
            set_events_sysctl: true,
        }
    }
}

impl Config {
    /// Whether flows are neither replicated nor counted: nothing is done but to answer clients, and
    /// the kernel is left alone.
    pub const fn is_idle(&self) -> bool {
        self.sync.is_none() && !self.statistics
    }

    /// Whether the kernel's events are taken.
    pub const fn takes_events(&self) -> bool {
        !self.is_idle() && self.events.poll_secs.is_none()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            control_path: None,
            hash_limit: 262_144,
            events: Events::default(),
            sync: None,
            statistics: false,
            filter: Filter::default(),
            engine: Engine::default(),
        }
    }
}
