//! A daemon with a system log of its own, in a namespace that another may share.

use std::fs;
use std::io::Read as _;
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use shardtrack_tests::cond::wait_until;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;
use tempfile::TempDir;

/// How long a daemon may take to start or to end.
const LIMIT: Duration = Duration::from_secs(20);
/// Makes `/dev` a folder with `null`, `full` and the system log, then becomes the daemon.
const OWN_DEV: &str = r#"
mkdir "$0/dev" && touch "$0/dev/null" "$0/dev/full" &&
mount --bind /dev/null "$0/dev/null" && mount --bind /dev/full "$0/dev/full" &&
ln -s "$0/syslog" "$0/dev/log" && mount --rbind "$0/dev" /dev && exec "$@"
"#;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Place {
    make: Make,
    /// The namespace's file.
    namespace: PathBuf,
    directory: TempDir,
    daemon: Child,
    syslog: Arc<Mutex<Vec<String>>>,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Place {
    /// Starts a daemon of `make`. `HERE` in the configuration is its directory; where it listens
    /// and its lock are added.
    pub(crate) fn start(ns: &Netns, make: Make, config: &str) -> Self {
        Self::limited(ns, make, config, "")
    }

    /// The same under a limit, written as a shell command.
    pub(crate) fn limited(ns: &Netns, make: Make, config: &str, limit: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("std-").tempdir_in("/tmp");
        let directory = directory.expect("/tmp is writable");
        let here = directory.path();
        let text = format!(
            "General {{\nLockFile {0}/lock\nUNIX {{\nPath {0}/ctl\n}}\n}}\n{1}",
            here.display(),
            config.replace("HERE", &here.display().to_string())
        );
        fs::write(here.join("conf"), text).expect("own directory");
        let syslog = collect(&here.join("syslog"));
        let notices = collect(&here.join("notify"));
        let console = fs::File::create(here.join("console")).expect("own directory");
        let mut command = ns.daemon("unshare");
        let script = format!("{limit}{OWN_DEV}");
        command.args(["--mount", "sh", "-c", &script]).arg(here).arg(make.program("conntrackd"));
        command.env("NOTIFY_SOCKET", here.join("notify"));
        command.arg("-C").arg(here.join("conf")).stdin(Stdio::null());
        command.stdout(console.try_clone().expect("a file")).stderr(console);
        let daemon = command.spawn().expect("nsenter can be started");
        let mut place = Self { make, namespace: ns.path(), directory, daemon, syslog, notices };
        wait_until(LIMIT, "the daemon starts", || {
            assert!(!place.ended(), "it ended: {}", place.read("console"));
            place.is_ready() && place.ask(30).is_some_and(|answer| !answer.is_empty())
        });
        place
    }

    /// Whether it has read the kernel's table. Ours answers before, and tells everything to its peer
    /// when it has: a flow that begins meanwhile is told twice. All of its threads have begun to when
    /// they answer after that.
    fn is_ready(&self) -> bool {
        let told = self.notices.lock().expect("nobody panics with it");
        self.make == Make::Original || told.iter().any(|state| state == "READY=1")
    }

    /// A file of the daemon's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What is in it; empty if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Messages to the system log since the last call, up to the line feed that may end them.
    pub(crate) fn system_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.syslog.lock().expect("nobody panics with it"))
    }

    /// What the service manager was told since the last call.
    pub(crate) fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().expect("nobody panics with it"))
    }

    /// Runs a client command of the daemon's own make, where it sees the daemon's devices.
    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display())).args(["--", "timeout", "60"]);
        command.arg(self.make.program("conntrackd")).arg("-C").arg(self.path("conf"));
        command.args(arguments).output().expect("nsenter can be started")
    }

    /// The answer to a request; `None` if nobody listens.
    pub(crate) fn ask(&self, id: u32) -> Option<String> {
        use std::io::Write as _;
        let mut stream = UnixStream::connect(self.path("ctl")).ok()?;
        stream.write_all(&id.to_ne_bytes()).ok()?;
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Process id of the daemon.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Whether the daemon has ended.
    pub(crate) fn ended(&mut self) -> bool {
        matches!(self.daemon.try_wait(), Ok(Some(_)))
    }

    /// Ends the daemon by a client command.
    pub(crate) fn stop(&mut self) {
        assert!(self.client(&["-k"]).status.success());
        wait_until(LIMIT, "the daemon ends", || self.ended());
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The messages to a socket, until the test's process ends. Its queue is short, and the original
/// waits while it is full.
fn collect(path: &Path) -> Arc<Mutex<Vec<String>>> {
    let socket = UnixDatagram::bind(path).expect("own directory");
    let messages = Arc::new(Mutex::new(Vec::new()));
    let collected = messages.clone();
    thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            collected.lock().expect("nobody panics with it").push(text);
        }
    });
    messages
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if thread::panicking() {
            eprintln!("{:?} in {}: {}", self.make, self.directory().display(), self.read("log"));
        }
    }
}
