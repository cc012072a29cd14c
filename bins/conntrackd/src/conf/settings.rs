//! Everything that a configuration file says, with the defaults of the original.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine::config::{Engine, Filter};

use super::token::Place;

/// Where the log goes when `LogFile on` does not say it.
pub const LOG_FILE: &str = "/var/log/conntrackd.log";
/// Where finished flows are logged when `LogFile on` does not say it.
pub const STATS_LOG_FILE: &str = "/var/log/conntrackd-stats.log";
/// The lock file unless configured.
pub const LOCK_FILE: &str = "/var/lock/conntrackd.lock";

/// A value and the line of the file that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The line, from 1.
    pub line: u32,
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Buckets of each cache in the original; ours grow as needed.
    pub hash_size: u32,
    /// Objects per cache.
    pub hash_limit: u32,
    /// Log file.
    pub log_file: Option<PathBuf>,
    /// System log.
    pub syslog: Option<Facility>,
    /// Lock file.
    pub lock_file: PathBuf,
    /// Control socket.
    pub control_path: Option<PathBuf>,
    /// Event buffer in bytes, 0 for the system's default.
    pub buffer_bytes: u32,
    /// What the event buffer may grow to, in bytes.
    pub buffer_max_bytes: u32,
    /// Seconds from an overrun to a re-reading; `None` never re-reads.
    pub overrun_resync_secs: Option<u32>,
    /// Events must not be lost.
    pub reliable: bool,
    /// Events and datagrams taken in one go, if the file says so.
    pub iteration_limit: Option<u32>,
    /// The table is polled every so many seconds instead of listening for events.
    pub poll_secs: Option<At<u32>>,
    /// Real-time scheduling; nothing unless a type is named.
    pub scheduler: Option<Scheduler>,
    /// `Priority` of a `Scheduler` block.
    pub priority: u32,
    /// Whether systemd is told what happens; it is unless this says no.
    pub systemd: bool,
    /// Which events count.
    pub filter: Filter,
    /// Replication.
    pub sync: Option<Sync>,
    /// Statistics mode.
    pub stats: Option<At<Stats>>,
    /// User-space helpers, in the order of the file.
    pub helpers: Vec<Helper>,
    /// Whether the kernel is told the length of helpers' private data.
    pub helper_setup: bool,
    /// Our own section.
    pub engine: Engine,
    /// Whether the daemon may set `net.netfilter.nf_conntrack_events`.
    pub events_sysctl: bool,
    /// What the file says and the daemon does otherwise, for its log: numbers that do not fit.
    pub remarks: Vec<String>,
}

/// A system log's facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

impl Facility {
    /// What `Syslog on` means.
    pub const DAEMON: Self = Self(3);

    /// The facility of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "daemon" => Some(Self::DAEMON),
            _ => match name.strip_prefix("local")?.as_bytes() {
                [digit @ b'0'..=b'7'] => Some(Self(16 + digit - b'0')),
                _ => None,
            },
        }
    }
}

/// How the kernel is asked to schedule the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin.
    RoundRobin,
    /// First in, first out.
    Fifo,
}

/// The `Sync` sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Line of a `Mode` block for each mode: alarm, ftfw, notrack.
    pub modes: [Option<u32>; 3],
    /// Seconds between two sends of an entry, alarm mode.
    pub refresh_secs: u32,
    /// Seconds that an external entry lives, alarm mode.
    pub cache_secs: u32,
    /// Fixed timeout of committed entries in seconds, 0 for an estimate.
    pub commit_secs: u32,
    /// Seconds from `-t` to the flush.
    pub purge_secs: u32,
    /// Objects kept for resending.
    pub resend_queue: u32,
    /// Messages per acknowledgement.
    pub ack_window: u32,
    /// Kernel events go straight to the link.
    pub disable_internal_cache: At<bool>,
    /// Received flows go straight into the kernel.
    pub disable_external_cache: bool,
    /// The peer is asked for its flows at start.
    pub startup_resync: Option<bool>,
    /// Window tracking is replicated.
    pub tcp_window_tracking: bool,
    /// Expectations are replicated.
    pub expectations: bool,
    /// Words that helpers' names must begin with; empty lets all pass.
    pub expectation_helpers: Vec<String>,
    /// Sends kept while a TCP link is down.
    pub error_queue: u32,
    /// Links in the order of the file.
    pub links: Vec<Link>,
    /// Index of the link that sends at first.
    pub default_link: usize,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            modes: [None; 3],
            refresh_secs: 60,
            cache_secs: 180,
            commit_secs: 0,
            purge_secs: 60,
            resend_queue: 131_072,
            ack_window: 300,
            disable_internal_cache: At { value: false, line: 0 },
            disable_external_cache: false,
            startup_resync: None,
            tcp_window_tracking: false,
            expectations: false,
            expectation_helpers: Vec::new(),
            error_queue: 128,
            links: Vec::new(),
            default_link: 0,
        }
    }
}

/// Kind of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Multicast.
    Multicast,
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl LinkKind {
    /// The name of its block.
    pub fn name(self) -> &'static str {
        match self {
            Self::Multicast => "Multicast",
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kind.
    pub kind: LinkKind,
    /// Line of its block.
    pub line: u32,
    /// Whether the block is about IPv6; `None` until an address says so.
    pub ipv6: Option<bool>,
    /// Addresses of both families were mixed in a multicast block.
    pub mixed: bool,
    /// Group or listen address.
    pub address_v4: Ipv4Addr,
    /// Group or listen address.
    pub address_v6: Ipv6Addr,
    /// Peer.
    pub peer_v4: Ipv4Addr,
    /// Peer.
    pub peer_v6: Ipv6Addr,
    /// Local address of the sending device, multicast.
    pub interface_v4: Option<Ipv4Addr>,
    /// Device.
    pub interface: Option<String>,
    /// Whether the index of the device was recorded.
    pub index_known: bool,
    /// UDP or TCP port.
    pub port: u16,
    /// Send buffer in bytes, 0 for the system's.
    pub send_buffer: u32,
    /// Receive buffer in bytes, 0 for the system's.
    pub receive_buffer: u32,
    /// UDP checksums.
    pub checksum: bool,
}

impl Link {
    /// A link before its options were read.
    pub fn new(kind: LinkKind, line: u32) -> Self {
        Self {
            kind,
            line,
            ipv6: None,
            mixed: false,
            address_v4: Ipv4Addr::UNSPECIFIED,
            address_v6: Ipv6Addr::UNSPECIFIED,
            peer_v4: Ipv4Addr::UNSPECIFIED,
            peer_v6: Ipv6Addr::UNSPECIFIED,
            interface_v4: None,
            interface: None,
            index_known: false,
            port: 0,
            send_buffer: 0,
            receive_buffer: 0,
            checksum: true,
        }
    }
}

/// The `Stats` sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Where finished flows are logged.
    pub log_file: Option<PathBuf>,
    /// Whether finished flows are logged to the system log.
    pub syslog: Option<Facility>,
}

/// One user-space helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// Name.
    pub name: String,
    /// Where its `Type` stands.
    pub place: Place,
    /// Whether it helps IPv6 flows.
    pub ipv6: bool,
    /// IP protocol number.
    pub protocol: u8,
    /// Queue that the kernel hands packets to.
    pub queue_num: u32,
    /// Length of that queue, 0 for the kernel's default.
    pub queue_len: u32,
    /// What replaces the helper's own limits.
    pub policies: Vec<Policy>,
}

/// Limits of a helper's expectations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Name of the policy.
    pub name: String,
    /// Most expectations per flow.
    pub max: u32,
    /// Their life in seconds.
    pub timeout_secs: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hash_size: 65_536,
            hash_limit: 262_144,
            log_file: None,
            syslog: None,
            lock_file: PathBuf::from(LOCK_FILE),
            control_path: None,
            buffer_bytes: 0,
            buffer_max_bytes: 0,
            overrun_resync_secs: Some(30),
            reliable: false,
            iteration_limit: None,
            poll_secs: None,
            scheduler: None,
            priority: 0,
            systemd: true,
            filter: Filter::default(),
            sync: None,
            stats: None,
            helpers: Vec::new(),
            helper_setup: false,
            engine: Engine::default(),
            events_sysctl: true,
            remarks: Vec::new(),
        }
    }
}

/// A path as it stands in the file.
pub fn path(text: &[u8]) -> PathBuf {
    Path::new(std::ffi::OsStr::from_bytes(text)).to_path_buf()
}
