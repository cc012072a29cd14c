//! The life of a daemon around its engine: start, background, lock, log, service manager, end.
//!
//! The test calls itself with an engine that answers two requests and does nothing else.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use conntrackd::daemon::{Engine, Running, Start, StartError};
use conntrackd::program;
use engine::command::{Request, StatKind};
use engine::snapshot::Snapshot;
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// How an aborted process ends.
const SIGABRT: i32 = 6;
/// Set in the environment of the calls that are daemons or clients.
const CALLED: &str = "LIFE_TEST_IS_THE_PROGRAM";

struct Fake;

impl Engine for Fake {
    type Running = FakeRunning;

    fn start(self, start: Start) -> Result<FakeRunning, StartError> {
        match std::env::var("LIFE_TEST_FAILS") {
            Ok(_) => Err(StartError::Other("the engine says no".to_owned())),
            Err(_) => Ok(FakeRunning(start)),
        }
    }
}

struct FakeRunning(Start);

impl Running for FakeRunning {
    fn run(self) -> Result<(), String> {
        let Start { control, log, console, heartbeat, .. } = self.0;
        let control = control.ok_or("no socket")?;
        if std::env::var_os("LIFE_TEST_BUG").is_some() {
            let shard = std::thread::Builder::new().name("shard 1".to_owned());
            shard.spawn(|| panic!("two and two make five")).expect("a thread");
        }
        for client in control.incoming() {
            heartbeat.fetch_add(1, Ordering::Relaxed);
            let mut client = client.map_err(|error| error.to_string())?;
            let mut id = [0; 4];
            if client.read_exact(&mut id).is_err() {
                continue;
            }
            match Request::from_id(u32::from_ne_bytes(id)) {
                Some(Request::Stop) => return Ok(()),
                Some(Request::Statistics(StatKind::Runtime)) => {
                    log.warning(format_args!("somebody asks"));
                    let mut out = Vec::new();
                    console.statistics(StatKind::Runtime, &Snapshot::default(), &mut out);
                    let _ = client.write_all(&out);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// One place for one daemon.
struct Place(tempfile::TempDir);

impl Place {
    fn new(general: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        let folder = place.0.path().display().to_string();
        let text = format!(
            "General {{\n LockFile {folder}/lock\n UNIX {{\n Path {folder}/ctl\n }}\n{}\n}}\n",
            general.replace("HERE", &folder)
        );
        fs::write(place.file("conf"), text).expect("a configuration");
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command
            .env(CALLED, "1")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_PID")
            .arg("-C")
            .arg(self.file("conf"));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    /// Stops the daemon and waits until its files are gone.
    fn stop(&self) {
        assert!(self.call(&["-k"]).status.success());
        wait("the end", || !self.file("lock").exists() && !self.file("ctl").exists());
    }
}

fn wait(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a log without their times and process ids.
fn lines(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.split_once(") ").map_or(line, |(_, rest)| rest)).collect()
}

fn in_the_foreground() {
    let place = Place::new("");
    let daemon = place.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let daemon = daemon.expect("a daemon");
    wait("the socket", || place.call(&["-s", "r"]).status.success());
    let mode = fs::metadata(place.file("ctl")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let answer = place.call(&["-s", "runtime"]);
    assert!(text(&answer.stdout).starts_with("daemon uptime: 0 min\n"));
    assert_eq!(place.call(&["-s", "engine"]).stdout, b"");
    let second = place.call(&[]);
    let refusal = format!(
        "[ERROR] lockfile `{}' exists, perhaps conntrackd already running?",
        place.file("lock").display()
    );
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(lines(&text(&second.stderr)), [refusal]);
    place.stop();
    let output = daemon.wait_with_output().expect("an end");
    assert!(output.status.success());
    let told = [
        "[notice] initialization completed",
        "[notice] -- starting in console mode --",
        "[notice] ---- shutdown received ----",
    ];
    assert_eq!(lines(&text(&output.stdout)), told);
    assert_eq!(lines(&text(&output.stderr)), ["[warning] somebody asks"; 2]);
}

fn in_the_background() {
    let place = Place::new(" LogFile HERE/log");
    let start = place.call(&["-d"]);
    assert!(start.status.success(), "{start:?}");
    assert_eq!((text(&start.stdout), text(&start.stderr)), Default::default());
    assert!(place.call(&["-s", "runtime"]).status.success());
    let second = place.call(&["-d"]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(text(&second.stdout).is_empty() && said.lines().count() == 1, "{said}");
    assert!(said.contains("[ERROR] lockfile") && said.contains("already running?"), "{said}");
    place.stop();
    let path = place.file("log");
    wait("the last line", || {
        fs::read_to_string(&path).is_ok_and(|log| log.contains("shutdown received"))
    });
    let log = fs::read_to_string(&path).expect("a log");
    let told = lines(&log);
    assert!(told.contains(&"[notice] -- starting in daemon mode --"), "{log}");
    assert!(told.contains(&"[warning] somebody asks"), "{log}");
    assert!(log.contains("perhaps conntrackd already running?"), "{log}");
    let mode = fs::metadata(&path).expect("a log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A log that nobody reads yet does not hold up the start.
fn a_log_that_is_a_fifo() {
    let place = Place::new(" LogFile HERE/log");
    let path = place.file("log");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    assert!(place.call(&["-d"]).status.success());
    let mut log = fs::File::open(&path).expect("the daemon writes");
    place.stop();
    let mut told = String::new();
    log.read_to_string(&mut told).expect("a log");
    assert_eq!(lines(&told).last(), Some(&"[notice] ---- shutdown received ----"), "{told}");
}

fn a_start_that_fails() {
    let place = Place::new("");
    let start = place.command(&[]).env("LIFE_TEST_FAILS", "1").output().expect("it runs");
    assert_eq!(start.status.code(), Some(1));
    let told = [
        "[ERROR] the engine says no",
        "[ERROR] conntrackd cannot start, please review your configuration",
    ];
    assert_eq!(lines(&text(&start.stderr)), told);
    assert!(!place.file("lock").exists() && !place.file("ctl").exists());
    let start = place.command(&["-d"]).env("LIFE_TEST_FAILS", "1").output().expect("it runs");
    assert_eq!(start.status.code(), Some(1));
    let place = Place::new("");
    fs::write(place.file("ctl"), "not ours").expect("a file");
    let start = place.call(&[]);
    assert_eq!(start.status.code(), Some(1));
    let told = [
        &format!("[ERROR] `{}' exists and is no socket", place.file("ctl").display()),
        "[ERROR] can't open unix socket!",
        "[ERROR] conntrackd cannot start, please review your configuration",
    ];
    assert_eq!(lines(&text(&start.stderr)), told);
    assert_eq!(fs::read_to_string(place.file("ctl")).expect("it is left alone"), "not ours");
    let place = Place::new(" LogFile HERE/none/log");
    let start = place.call(&[]);
    assert_eq!(start.status.code(), Some(1));
    let log = place.file("none/log");
    let told = format!(
        "ERROR: can't open logfile `{}'.Reason: No such file or directory\n",
        log.display()
    );
    assert_eq!(text(&start.stderr), told);
}

/// What the file says and the daemon does otherwise is in its log.
fn what_is_meant_otherwise() {
    let place = Place::new("");
    let lock = place.file("lock").display().to_string();
    let text_of_file = format!(
        "General {{\n LockFile {lock}\n HashLimit 4294967396\n}}\n\
         Sync {{\n UDP {{\n  Interface lo\n  Port 69316\n }}\n}}\n"
    );
    fs::write(place.file("conf"), text_of_file).expect("a configuration");
    let start = place.command(&[]).env("LIFE_TEST_FAILS", "1").output().expect("it runs");
    let told = [
        "[notice] there is no control socket (UNIX { Path }): no client can reach this daemon",
        "[notice] line 3: `4294967396' is too large: it is read as 100",
        "[notice] line 8: there is no port 69316: 3780 is used",
    ];
    assert_eq!(lines(&text(&start.stdout))[..3], told);
}

fn after_a_kill() {
    let place = Place::new("");
    let mut daemon = place.command(&[]).stdout(Stdio::null()).spawn().expect("a daemon");
    wait("the socket", || place.call(&["-s", "network"]).status.success());
    daemon.kill().expect("a kill");
    daemon.wait().expect("an end");
    assert!(place.file("lock").exists() && place.file("ctl").exists());
    assert_eq!(place.call(&["-s"]).status.code(), Some(1));
    assert!(place.call(&["-d"]).status.success());
    place.stop();
}

/// A daemon does not live on without one of its threads.
fn a_bug_in_a_thread() {
    let place = Place::new(" LogFile HERE/log");
    let daemon = place.command(&[]).env("LIFE_TEST_BUG", "1").output().expect("it runs");
    assert_eq!(daemon.status.signal(), Some(SIGABRT), "{daemon:?}");
    let log = fs::read_to_string(place.file("log")).expect("a log");
    let told = lines(&log).into_iter().next_back().unwrap_or_default();
    assert!(told.starts_with("[ERROR] this is a bug: thread `shard 1' gives up at "), "{log}");
    assert!(told.ends_with(": two and two make five"), "{log}");
    assert!(place.call(&["-d"]).status.success(), "the next one starts");
    place.stop();
}

fn under_a_service_manager() {
    let place = Place::new("");
    let path = place.file("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let state = || {
        let mut state = [0; 100];
        let length = manager.recv(&mut state).expect("a state");
        text(&state[..length])
    };
    let managed = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
        command.stdout(Stdio::null()).spawn().expect("a daemon")
    };
    let mut daemon = managed(&[]);
    assert_eq!(state(), "READY=1");
    assert_eq!(state(), "WATCHDOG=1");
    // The loop of this engine turns only for its clients.
    assert!(place.call(&["-s", "runtime"]).status.success());
    assert_eq!(state(), "WATCHDOG=1");
    place.stop();
    assert!(daemon.wait().expect("an end").success());
    let mut last = state();
    while last == "WATCHDOG=1" {
        last = state();
    }
    assert_eq!(last, "STOPPING=1");
    let mut parent = managed(&["-d"]);
    assert!(parent.wait().expect("an end").success());
    let mut states = vec![state(), state()];
    states.retain(|state| state != "READY=1" && state != "WATCHDOG=1");
    assert!(states[0].starts_with("MAINPID="), "{states:?}");
    place.stop();
}

const TESTS: [(&str, fn()); 8] = [
    ("in_the_foreground", in_the_foreground),
    ("in_the_background", in_the_background),
    ("a_log_that_is_a_fifo", a_log_that_is_a_fifo),
    ("a_start_that_fails", a_start_that_fails),
    ("what_is_meant_otherwise", what_is_meant_otherwise),
    ("after_a_kill", after_a_kill),
    ("a_bug_in_a_thread", a_bug_in_a_thread),
    ("under_a_service_manager", under_a_service_manager),
];

/// Understands what test runners say to a test binary: a list, one test by name, all tests.
fn main() -> ExitCode {
    if std::env::var_os(CALLED).is_some() {
        return program::run(std::env::args_os(), Fake);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let said = |word: &str| arguments.iter().any(|argument| argument == word);
    let is_wanted = |name: &str| !TESTS.iter().any(|(other, _)| said(other)) || said(name);
    for (name, test) in TESTS.iter().filter(|(name, _)| is_wanted(name)) {
        if said("--list") {
            // None is ignored.
            if !said("--ignored") {
                println!("{name}: test");
            }
            continue;
        }
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}
