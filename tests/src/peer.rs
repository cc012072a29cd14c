//! A daemon of either make in a namespace of its own, and pairs of them over a sync link.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use tempfile::TempDir;

use crate::cond::{wait_for, wait_until};
use crate::netns::Netns;

/// Device of the first sync link in every node.
pub const SYNC_DEVICE: &str = "sync0";
/// For the links of an original that sends a large table over TCP. What a link does not take at once
/// waits in this queue, and of more than the usual 128 buffers it throws the oldest away.
pub const LONG_ERROR_QUEUE: &str = "ErrorQueueLength 8192\n";
/// Time within which a node in mode ALARM tells everything again, less a second.
pub const REFRESH: Duration = Duration::from_secs(2);
/// Time after which a node in mode ALARM forgets what is not told again.
pub const EXPIRY: Duration = Duration::from_secs(6);
/// How long a daemon may take to answer for the first time, its reading of the table included.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest way of a line to the log.
const TOLD: Duration = Duration::from_secs(10);

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// The one built from this workspace.
    Ours,
    /// The one that the system has installed.
    Original,
}

impl Make {
    /// Path of a program, `conntrackd` or `conntrack`.
    pub fn program(self, name: &str) -> PathBuf {
        match self {
            Self::Ours => built(name),
            Self::Original => PathBuf::from("/usr/sbin").join(name),
        }
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

/// Directory of our programs: `SHARDTRACK_BIN_DIR`, or where the running test was built.
fn built(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("SHARDTRACK_BIN_DIR") {
        return PathBuf::from(directory).join(name);
    }
    let exe = std::env::current_exe().expect("a running program has a path");
    let mut directory = exe.parent().expect("a file is in a directory");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("deps is in the profile's directory");
    }
    directory.join(name)
}

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
            Link::Multicast6 => ("Multicast", format!("IPv6_address ff15::5{n}\nGroup {port}\n")),
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
                    sync_address6_of(n, index),
                    other(sync_address6_of(n, peer))
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

/// Removes the directories of test runs that were killed. What a failed one kept has another name.
fn sweep() {
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("st-").and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Device of sync link `n`, from 0.
pub fn sync_device(n: u8) -> String {
    format!("sync{n}")
}

/// IPv4 address of node `index` on the first sync link.
pub fn sync_address(index: u8) -> String {
    sync_address_of(0, index)
}

/// IPv4 address of node `index` on sync link `n`.
pub fn sync_address_of(n: u8, index: u8) -> String {
    format!("10.99.{n}.{index}")
}

/// IPv6 address of node `index` on sync link `n`.
pub fn sync_address6_of(n: u8, index: u8) -> String {
    format!("fd99:0:0:{n}::{index}")
}

/// A node: its namespace and, while it runs, its daemon.
#[derive(Debug)]
pub struct Node {
    /// 1 or 2.
    pub index: u8,
    /// Where it lives.
    pub ns: Netns,
    /// How it is configured from the next start on.
    pub setup: Setup,
    /// Whether the next start finds what a killed daemon left. Only ours can bear it.
    pub keep_files: bool,
    directory: Option<TempDir>,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet, in a new namespace with the rules that every test needs.
    pub fn new(index: u8, setup: Setup) -> Self {
        let ns = Netns::new(if index == 1 { "a" } else { "b" });
        ns.nft(BASE_RULES);
        Self::in_namespace(index, setup, ns)
    }

    /// A node in a namespace that its caller prepared.
    pub fn in_namespace(index: u8, setup: Setup, ns: Netns) -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        // Short, because the path of a UNIX socket ends at 107 bytes.
        let prefix = format!("st-{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp");
        let directory = directory.expect("/tmp is writable");
        Self { index, ns, setup, keep_files: false, directory: Some(directory), child: None }
    }

    /// Directory with the node's files.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("it is given up only by drop").path()
    }

    /// Starts the daemon without waiting for it.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "node {} runs", self.index);
        let directory = self.directory().to_owned();
        let config = directory.join("conf");
        fs::write(&config, self.setup.text(self.index, &directory)).expect("own directory");
        if !self.keep_files {
            // The original refuses to start beside what a killed one left.
            let _ = fs::remove_file(directory.join("lock"));
            let _ = fs::remove_file(directory.join("ctl"));
        }
        let program = self.setup.make.program("conntrackd");
        assert!(program.exists(), "{} is missing: build it first", program.display());
        let console = File::options().create(true).append(true).open(directory.join("console"));
        let console = console.expect("own directory");
        let child = self
            .ns
            .daemon(program)
            .arg("-C")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a file can be cloned"))
            .stderr(console)
            .spawn();
        self.child = Some(child.expect("nsenter can be started"));
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it said.
    #[track_caller]
    pub fn start(&mut self) {
        self.spawn();
        let ready = wait_for(START_LIMIT, || {
            if self.exited() {
                return Some(false);
            }
            self.request(30).filter(|answer| !answer.is_empty()).map(|_| true)
        });
        assert!(
            ready == Some(true),
            "node {} ({:?}) does not answer:\n{}{}",
            self.index,
            self.setup.make,
            self.file("console"),
            self.file("log")
        );
    }

    /// Sends one request over the control socket and gives the answer; `None` if nobody listens.
    /// Request numbers are those of the control protocol.
    pub fn request(&self, id: u32) -> Option<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = UnixStream::connect(self.directory().join("ctl")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(120))).ok()?;
        stream.write_all(&id.to_ne_bytes()).ok()?;
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Runs a client command of the node's own make.
    ///
    /// # Panics
    /// If the client fails.
    #[track_caller]
    pub fn client(&self, arguments: &[&str]) -> String {
        self.client_of(self.setup.make, arguments)
    }

    /// Runs a client command of either make.
    ///
    /// # Panics
    /// If the client fails.
    #[track_caller]
    pub fn client_of(&self, make: Make, arguments: &[&str]) -> String {
        // A daemon that does not answer shall fail the test, not stop it.
        let mut command = Command::new("timeout");
        command
            .arg("120")
            .arg(make.program("conntrackd"))
            .arg("-C")
            .arg(self.client_config(make))
            .args(arguments);
        let output = crate::netns::run(&mut command);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The node's configuration as a client of `make` can read it: the original refuses our
    /// section.
    fn client_config(&self, make: Make) -> PathBuf {
        if make == self.setup.make || self.setup.engine.is_empty() {
            return self.directory().join("conf");
        }
        let path = self.directory().join("conf-client");
        let plain = Setup { make, engine: String::new(), ..self.setup.clone() };
        fs::write(&path, plain.text(self.index, self.directory())).expect("own directory");
        path
    }

    /// Process id of the daemon.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// Whether the daemon ended by itself.
    pub fn exited(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Kills the daemon as a crash would.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the daemon in order.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn stop(&mut self) {
        self.request(20);
        wait_until(Duration::from_secs(10), "the daemon stops when asked", || self.exited());
        self.child = None;
    }

    /// CPU time that the daemon has used, all its threads together.
    ///
    /// # Panics
    /// If it does not run.
    pub fn cpu_time(&self) -> Duration {
        crate::proc::cpu_time(self.pid()).expect("the node runs")
    }

    /// Resident memory of the daemon in bytes.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resident(&self) -> u64 {
        crate::proc::resident(self.pid()).expect("the node runs")
    }

    /// A counter of `-s` output: the first number after `label` at the start of a line.
    pub fn counter(&self, request: u32, label: &str) -> Option<u64> {
        let answer = self.request(request)?;
        let line = answer.lines().find_map(|l| l.trim_start().strip_prefix(label))?;
        line.split(|c: char| !c.is_ascii_digit()).find(|w| !w.is_empty())?.parse().ok()
    }

    /// Flows in the internal (`true`) or external cache.
    pub fn cached(&self, internal: bool) -> u64 {
        let answer = self.request(21).unwrap_or_default();
        let name = if internal { "cache internal:" } else { "cache external:" };
        let line = answer.lines().skip_while(|line| !line.starts_with(name)).nth(1);
        line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(0)
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        self.file("log")
    }

    /// Waits for a line in the log, which a thread of its own writes.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn told(&self, line: &str) {
        wait_until(TOLD, &format!("`{line}' is in the log"), || self.log().contains(line));
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            let mut kept = directory.keep();
            let name = kept.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let other = kept.with_file_name(name.replacen("st-", "st-failed-", 1));
            if fs::rename(&kept, &other).is_ok() {
                kept = other;
            }
            eprintln!(
                "node {} ({:?}): files kept in {}; end of its log:",
                self.index,
                self.setup.make,
                kept.display()
            );
            let log = fs::read_to_string(kept.join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(20)..] {
                eprintln!("  {line}");
            }
        }
    }
}

/// Two nodes joined by a sync link.
#[derive(Debug)]
pub struct Pair {
    /// Node 1.
    pub a: Node,
    /// Node 2.
    pub b: Node,
}

impl Pair {
    /// Two nodes that do not run yet.
    pub fn new(a: Setup, b: Setup) -> Self {
        let (a, b) = (Node::new(1, a), Node::new(2, b));
        for n in 0..a.setup.links {
            let device = sync_device(n);
            let addresses = |index| {
                [
                    format!("{}/24", sync_address_of(n, index)),
                    format!("{}/64", sync_address6_of(n, index)),
                ]
            };
            let (one, two) = (addresses(1), addresses(2));
            Netns::wire(
                (&a.ns, &device, &[&one[0], &one[1]]),
                (&b.ns, &device, &[&two[0], &two[1]]),
            );
        }
        Self { a, b }
    }

    /// Two running nodes of these makes.
    pub fn running(a: Make, b: Make, mode: Mode, link: Link) -> Self {
        let mut pair = Self::new(Setup::new(a, mode, link), Setup::new(b, mode, link));
        pair.start();
        pair
    }

    /// Starts both and waits until they are connected.
    ///
    /// # Panics
    /// If one of them does not come up.
    #[track_caller]
    pub fn start(&mut self) {
        self.a.start();
        self.b.start();
        // In mode ALARM the original does not connect before it has something to say.
        let silent = self.a.setup.mode == Mode::Alarm;
        if self.a.setup.link.is_tcp() && !silent {
            for node in [&self.a, &self.b] {
                wait_until(Duration::from_secs(20), "the TCP link connects", || {
                    let stats = node.request(21).unwrap_or_default();
                    stats.contains("server=connected client=connected")
                });
            }
        }
    }
}

/// The sync links are not tracked; labels and NAT exist as soon as a flow wants them.
pub const BASE_RULES: &str = r#"
table inet base {
	chain raw_in {
		type filter hook prerouting priority raw;
		iifname "sync*" notrack
	}
	chain raw_out {
		type filter hook output priority raw;
		oifname "sync*" notrack
	}
	chain labels {
		type filter hook forward priority 0;
		meta mark 0xdead ct label set 127
	}
	chain source {
		type nat hook postrouting priority srcnat;
	}
	chain destination {
		type nat hook prerouting priority dstnat;
	}
}
"#;
