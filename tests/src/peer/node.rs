//! A daemon of either make in a namespace of its own.

use std::fs::{self, File};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use tempfile::TempDir;

use super::make::Make;
use super::setup::Setup;
use crate::cond::{wait_for, wait_until};
use crate::netns::Netns;

/// How long a daemon may take to answer for the first time, its reading of the table included.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest way of a line to the log.
const TOLD: Duration = Duration::from_secs(10);
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
