//! A daemon that meets the limits of its process: it says so, or goes on with less.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;
use shardtrack_tests::cond::wait_until;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(20);
/// Requests of the control protocol.
const FLUSH_KERNEL: u32 = 0;

#[test]
fn a_start_in_the_background_that_fails_says_why_on_the_terminal() {
    need_root!();
    let ns = Netns::new("dfail");
    ns.ip("link set lo up");
    let sync = |address: &str| {
        format!(
            "Sync {{\n UDP {{\n IPv4_address {address}\n IPv4_Destination_Address 127.0.0.2\n \
             Port 3780\n Interface lo\n }}\n}}\n"
        )
    };
    let cases = [
        ("", sync("203.0.113.9"), "Cannot assign requested address"),
        ("ulimit -n 24; ", sync("127.0.0.1"), "Too many open files"),
    ];
    for (limit, sync, reason) in cases {
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        let here = folder.path().display();
        let file = folder.path().join("conf");
        let general = format!(
            "General {{\n LockFile {here}/lock\n LogFile {here}/log\n UNIX {{\n Path {here}/ctl\n }}\n}}\n"
        );
        fs::write(&file, general + &sync).expect("own folder");
        let mut command = ns.daemon("sh");
        command.arg("-c").arg(format!("{limit}exec \"$0\" -d -C \"$1\""));
        command.arg(Make::Ours.program("conntrackd")).arg(&file).stdin(Stdio::null());
        let output = command.output().expect("nsenter can be started");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("[ERROR]") && told.contains(reason), "{limit}: {told}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "only errors are told");
        let log = fs::read_to_string(folder.path().join("log")).expect("a log");
        assert!(log.contains(reason), "{limit}: {log}");
    }
}

#[test]
fn a_log_that_may_not_grow_costs_lines_and_not_the_daemon() {
    need_root!();
    let ns = Netns::new("fsize");
    let config = "Stats {\n}\nGeneral {\nLogFile HERE/log\n}\n";
    let mut place = Place::limited(&ns, Make::Ours, config, "ulimit -f 1");
    wait_until(LIMIT, "lines are dropped", || {
        assert!(place.ask(FLUSH_KERNEL).is_some(), "it goes on");
        let figures = String::from_utf8_lossy(&place.client(&["-s", "engine"]).stdout).into_owned();
        figures
            .lines()
            .find_map(|line| line.strip_prefix("log lines dropped: "))
            .is_some_and(|count| count != "0")
    });
    place.stop();
    assert!(!place.path("lock").exists() && !place.path("ctl").exists());
}

/// The link and its log are all that an operator has of it.
#[test]
fn a_connection_that_can_not_be_tried_is_counted_and_told_once() {
    need_root!();
    let ns = Netns::new("noconn");
    ns.ip("link set lo up");
    let config = "Sync {\nMode NOTRACK {\n}\nTCP {\nIPv4_address 127.0.0.1\n\
                  IPv4_Destination_Address 127.0.0.2\nPort 3780\nInterface lo\n}\n}\n\
                  General {\nLogFile HERE/log\n}\n";
    let mut place = Place::start(&ns, Make::Ours, config);
    let pid = Pid::from_raw(place.pid() as i32);
    let all = getrlimit(Resource::Nofile);
    let limit = |current| prlimit(pid, Resource::Nofile, Rlimit { current, ..all });
    limit(Some(3)).expect("it runs");
    let told = || place.read("log").matches("cannot connect to the other node").count();
    wait_until(LIMIT, "it is told", || told() > 0);
    std::thread::sleep(Duration::from_secs(3));
    limit(all.current).expect("it runs");
    assert_eq!(told(), 1, "{}", place.read("log"));
    assert!(
        place.read("log").contains("over `lo', trying again: open a connecting socket: Too many")
    );
    let figures = place.client(&["-s", "json"]).stdout;
    let figures: Value = serde_json::from_slice(&figures).expect("JSON");
    assert!(figures["links"][0]["send_errors"].as_u64() >= Some(3), "{figures}");
    place.stop();
}

#[test]
fn silent_clients_make_room_when_descriptors_run_out() {
    need_root!();
    let ns = Netns::new("nofile");
    let mut place = Place::limited(&ns, Make::Ours, "Stats {\n}\n", "ulimit -n 60");
    let silent: Vec<_> =
        (0..100).map(|_| UnixStream::connect(place.path("ctl")).expect("it listens")).collect();
    let mut figures = String::new();
    wait_until(LIMIT, "another client is answered", || {
        figures = String::from_utf8_lossy(&place.client(&["-s", "engine"]).stdout).into_owned();
        !figures.is_empty()
    });
    let dropped = figures.lines().find_map(|line| line.strip_prefix("clients dropped: "));
    assert!(dropped.is_some_and(|count| count != "0"), "{figures}");
    // Nor does it wait for them when it ends.
    place.stop();
    drop(silent);
}
