//! Network namespaces with names of their own, wired with veth pairs.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cond::wait_until;

/// What the names of all our namespaces start with; the process id follows.
const PREFIX: &str = "shardtrack-";
/// Where `ip netns` keeps them.
const DIRECTORY: &str = "/run/netns";

/// A network namespace, deleted with the value.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace whose loopback device is up. `role` is for whoever lists them.
    ///
    /// # Panics
    /// If it cannot be made: nothing that follows would make sense.
    pub fn new(role: &str) -> Self {
        static SWEPT: Once = Once::new();
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}-{role}", std::process::id());
        let ns = Self { name };
        run(Command::new("ip").args(["netns", "add", &ns.name]));
        ns.ip("link set lo up");
        ns
    }

    /// Its name, as `ip netns` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(DIRECTORY).join(&self.name)
    }

    /// A command that will run inside. `/sys` stays that of the machine.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Like [`Netns::command`], for what must not outlive the calling thread: the kernel kills it
    /// when that ends, however it ends.
    pub fn daemon(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// Runs a command inside, arguments parted by spaces, and gives its standard output.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command line has a program");
        text(run(self.command(program).args(words)))
    }

    /// Runs `ip -n THIS` with arguments parted by spaces.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ip(&self, line: &str) -> String {
        text(run(Command::new("ip").args(["-n", &self.name]).args(line.split_whitespace())))
    }

    /// Loads a rule set.
    ///
    /// # Panics
    /// If nft refuses it.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        feed(self.command("nft").args(["-f", "-"]), rules);
    }

    /// Sets a sysctl of the namespace, named by its path under `/proc/sys`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn sysctl(&self, path: &str, value: impl ToString) {
        let value = value.to_string();
        let path = format!("/proc/sys/{path}");
        self.enter(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{path} in {}: {error}", self.name));
    }

    /// Reads a sysctl of the namespace.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read_sysctl(&self, path: &str) -> String {
        let path = format!("/proc/sys/{path}");
        let value = self.enter(|| fs::read_to_string(&path));
        value.unwrap_or_else(|error| panic!("{path} in {}: {error}", self.name)).trim().to_owned()
    }

    /// Runs `work` on a thread inside. Sockets that it opens stay inside for life.
    ///
    /// # Panics
    /// If `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("the namespace lives as long as the value");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("whoever made a namespace may enter it");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Wires two namespaces with a veth pair, sets addresses (each with its prefix length) and
    /// brings both ends up. IPv6 addresses are usable at once.
    pub fn wire(a: (&Self, &str, &[&str]), b: (&Self, &str, &[&str])) {
        run(Command::new("ip").args(["link", "add", a.1, "netns", a.0.name()]).args([
            "type",
            "veth",
            "peer",
            "name",
            b.1,
            "netns",
            b.0.name(),
        ]));
        for (ns, device, addresses) in [a, b] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                ns.ip(&format!("addr add {address} dev {device} {nodad}"));
            }
            ns.ip(&format!("link set {device} up"));
        }
        for (ns, device, _) in [a, b] {
            ns.await_carrier(device);
        }
    }

    /// Adds a device without addresses that is up and has a carrier. Its other end, whose name has a
    /// `p` behind it, is here too.
    ///
    /// # Panics
    /// If it cannot be made.
    #[track_caller]
    pub fn add_device(&self, device: &str) {
        self.ip(&format!("link add {device} type veth peer name {device}p"));
        self.ip(&format!("link set {device} addrgenmode none"));
        self.ip(&format!("link set {device} up"));
        self.ip(&format!("link set {device}p up"));
        self.await_carrier(device);
    }

    /// Waits until the kernel has taken note that a device has a carrier, which it does some time after
    /// both ends are up. Until then it drops what is sent, and whoever looks finds none.
    #[track_caller]
    fn await_carrier(&self, device: &str) {
        wait_until(Duration::from_secs(10), "the device has a carrier", || {
            self.ip(&format!("-o link show {device}")).contains(" state UP ")
        });
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Its processes are their owners' business; the kernel frees it after the last of them.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Deletes the namespaces of processes that are gone.
fn sweep() {
    for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let gone = !PathBuf::from(format!("/proc/{owner}")).exists();
        if gone || owner == std::process::id() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started or fails, with what it said.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command with `input` on its standard input.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn feed(command: &mut Command, input: &str) {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it was asked for");
    stdin.write_all(input.as_bytes()).expect("the command reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("a child can be waited for");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
}

fn text(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
