//! What a node's configuration says, and its text.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::address::{link_local_address_of, sync_address_of, sync_address6_of, sync_device};
use super::make::Make;

/// For the links of an original that sends a large table over TCP. What a link does not take at once
/// waits in this queue, and of more than the usual 128 buffers it throws the oldest away.
pub const LONG_ERROR_QUEUE: &str = "ErrorQueueLength 8192\n";
/// Time within which a node in mode ALARM tells everything again, less a second.
pub const REFRESH: Duration = Duration::from_secs(2);
/// Time after which a node in mode ALARM forgets what is not told again.
pub const EXPIRY: Duration = Duration::from_secs(6);

/// The protocol's variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Acknowledged.
    Ftfw,
    /// Send and forget.
    Notrack,
    /// Send, and repeat within [`REFRESH`]; forget after [`EXPIRY`].
    Alarm,
}

/// The kind of the sync link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
    /// Multicast over IPv4.
    Multicast,
    /// Multicast over IPv6.
    Multicast6,
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6.
    Tcp6,
}

impl Link {
    /// The same over the other family.
    const fn other_family(self) -> Self {
        match self {
            Self::Udp => Self::Udp6,
            Self::Udp6 => Self::Udp,
            Self::Multicast => Self::Multicast6,
            Self::Multicast6 => Self::Multicast,
            Self::Tcp => Self::Tcp6,
            Self::Tcp6 => Self::Tcp,
        }
    }

    /// Whether it is connected.
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Tcp6)
    }
}

/// What a node's configuration says.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whose daemon.
    pub make: Make,
    /// Protocol.
    pub mode: Mode,
    /// The word for it that an older release used.
    pub mode_word: Option<&'static str>,
    /// Kind of the links.
    pub link: Link,
    /// How many there are, at most 4.
    pub links: u8,
    /// Every second one is of the other family.
    pub both_families: bool,
    /// The IPv6 addresses of the links are those that only their device makes unique.
    pub link_local: bool,
    /// The one that is marked as `Default`.
    pub preferred: Option<u8>,
    /// Port where the node listens.
    pub port: u16,
    /// Port to which the node sends: other than `port` only with a relay between, and then only
    /// by [`Setup::peer_address`], as the configuration knows one port.
    pub peer_address: Option<String>,
    /// Lines for the block of every link.
    pub link_lines: String,
    /// Lines for the mode's block.
    pub mode_lines: String,
    /// Lines for the `Options` block.
    pub options: String,
    /// Lines for the `General` section.
    pub general: String,
    /// Largest number of flows per cache.
    pub hash_limit: u32,
    /// Buckets, which only the original has.
    pub hash_size: u32,
    /// Bytes of the event socket's buffer.
    pub event_buffer: u32,
    /// The `Engine` section, which only ours has, without its braces.
    pub engine: String,
}

impl Setup {
    /// A plain node.
    pub fn new(make: Make, mode: Mode, link: Link) -> Self {
        let engine = if make == Make::Ours { forced_engine() } else { String::new() };
        Self {
            make,
            mode,
            mode_word: None,
            link,
            links: 1,
            both_families: false,
            link_local: false,
            preferred: None,
            port: 3780,
            peer_address: None,
            link_lines: String::new(),
            mode_lines: String::new(),
            options: "ExpectationSync On\n".into(),
            general: String::new(),
            hash_limit: 1 << 20,
            hash_size: 65_536,
            event_buffer: 64 << 20,
            engine,
        }
    }

    /// The block of link `n`.
    fn link_block(&self, index: u8, n: u8) -> String {
        let peer = 3 - index;
        // The original hears all groups on a port.
        let port = self.port + u16::from(n);
        let device = sync_device(n);
        // The original does not start where it may not have them.
        let buffers = if crate::privilege::is_inside() {
            ""
        } else {
            "SndSocketBuffer 8388608\nRcvSocketBuffer 8388608\n"
        };
        let other = |default: String| self.peer_address.clone().unwrap_or(default);
        let (address6, group6): (fn(u8, u8) -> String, _) = match self.link_local {
            true => (link_local_address_of, "ff12"),
            false => (sync_address6_of, "ff15"),
        };
        let preferred = if self.preferred == Some(n) { "Default " } else { "" };
        let turned = self.both_families && n % 2 == 1;
        let link = if turned { self.link.other_family() } else { self.link };
        let (word, addresses) = match link {
            Link::Multicast => (
                "Multicast",
                format!(
                    "IPv4_address 225.0.0.5{n}\nGroup {port}\nIPv4_interface {}\n",
                    sync_address_of(n, index)
                ),
            ),
            Link::Multicast6 => {
                ("Multicast", format!("IPv6_address {group6}::5{n}\nGroup {port}\n"))
            }
            Link::Udp | Link::Tcp => (
                if link == Link::Udp { "UDP" } else { "TCP" },
                format!(
                    "IPv4_address {}\nIPv4_Destination_Address {}\nPort {port}\n",
                    sync_address_of(n, index),
                    other(sync_address_of(n, peer))
                ),
            ),
            Link::Udp6 | Link::Tcp6 => (
                if link == Link::Udp6 { "UDP" } else { "TCP" },
                format!(
                    "IPv6_address {}\nIPv6_Destination_Address {}\nPort {port}\n",
                    address6(n, index),
                    other(address6(n, peer))
                ),
            ),
        };
        format!(
            "{word} {preferred}{{\n{addresses}Interface {device}\n{buffers}Checksum on\n{}}}\n",
            self.link_lines
        )
    }

    /// The configuration of node `index`, 1 or 2, with its files in `directory`.
    pub fn text(&self, index: u8, directory: &Path) -> String {
        let mode = self.mode_word.unwrap_or(match self.mode {
            Mode::Ftfw => "FTFW",
            Mode::Notrack => "NOTRACK",
            Mode::Alarm => "ALARM",
        });
        let times = match self.mode {
            Mode::Ftfw | Mode::Notrack => String::new(),
            Mode::Alarm => {
                format!("RefreshTime {}\nCacheTimeout {}\n", REFRESH.as_secs(), EXPIRY.as_secs())
            }
        };
        let mut text = String::new();
        let links: String = (0..self.links).map(|n| self.link_block(index, n)).collect();
        let _ = write!(
            text,
            "Sync {{\nMode {mode} {{\n{times}{}}}\n{}Options {{\n{}}}\n}}\n",
            self.mode_lines, links, self.options
        );
        let d = directory.display();
        let _ = write!(
            text,
            "General {{\nHashSize {}\nHashLimit {}\nLogFile {d}/log\nLockFile {d}/lock\n\
             UNIX {{\nPath {d}/ctl\n}}\nNetlinkBufferSize {}\nNetlinkBufferSizeMaxGrowth {}\n\
             {}\
             Filter From Userspace {{\nAddress Ignore {{\nIPv4_address 127.0.0.1\n\
             IPv4_address 10.99.0.0/16\nIPv4_address 225.0.0.50\n\
             IPv6_address ::1\nIPv6_address fd99::/48\n}}\n}}\n}}\n",
            self.hash_size, self.hash_limit, self.event_buffer, self.event_buffer, self.general
        );
        if self.make == Make::Ours && !self.engine.is_empty() {
            let _ = write!(text, "Engine {{\n{}\n}}\n", self.engine);
        }
        text
    }
}

/// What every node of ours gets in its `Engine` section: an intake (`SHARDTRACK_INTAKE`) and a
/// number of shards (`SHARDTRACK_SHARDS`) to force on all tests that do not choose themselves.
fn forced_engine() -> String {
    let word = |name: &str, variable| {
        std::env::var(variable).map(|value| format!("{name} {value}\n")).unwrap_or_default()
    };
    word("Intake", "SHARDTRACK_INTAKE") + &word("Shards", "SHARDTRACK_SHARDS")
}
