//! Runs of the original that were recorded, made again by ours: same configurations, same traffic
//! through the node, same commands in the same order, same answers.
//!
//! ```text
//!  client ── A ── server      10.1.0.2 ── 10.1.0.1, 10.2.0.1 ── 10.2.0.2
//!            ║                and 2001:db8:1::/64, 2001:db8:2::/64
//!            B
//! ```

mod logs;
mod stage;

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::{Captures, Regex};
use serde_json::Value;
use shardtrack_tests::cond::{wait_equal, wait_for, wait_until};
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

use self::stage::{Stage, close};
use crate::place::Place;

/// How long an answer may take to become the recorded one.
const LIMIT: Duration = Duration::from_secs(10);
/// After so long a node has told what it read at the start, of which it would tell what comes meanwhile
/// once more, has acknowledged what it got, and has heard that the other did.
const SETTLED: Duration = Duration::from_secs(2);

fn folder(run: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrackd/runs").join(run)
}

fn read(run: &str, file: &str) -> String {
    fs::read_to_string(folder(run).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A recorded configuration with its files in the daemon's directory, for node A or B. Nobody asks
/// for everything at the start, as nobody did in the original.
fn config(recorded: &str, node_b: bool) -> String {
    let mut text = recorded.to_owned();
    for (recorded, ours) in [
        ("/var/log/A.log", "HERE/log"),
        ("/var/log/flows.log", "HERE/flows"),
        ("/var/lock/A.lock", "HERE/lock"),
        ("/var/run/A.ctl", "HERE/ctl"),
        ("Mode FTFW {\n", "Mode FTFW {\nStartupResync off\n"),
        ("Mode NOTRACK {\n", "Mode NOTRACK {\nStartupResync off\n"),
    ] {
        text = text.replace(recorded, ours);
    }
    if node_b {
        let host = Regex::new(r"(192\.0\.2|198\.51\.100)\.([12])\n").expect("an expression");
        let other = |found: &Captures<'_>| {
            format!("{}.{}\n", &found[1], if &found[2] == "1" { 2 } else { 1 })
        };
        text = host.replace_all(&text, other).into_owned();
    }
    text
}

/// A deviation of ours from a recorded run; `deviations.json` has the reason.
struct Deviation {
    step: u64,
    /// Parts of the recorded text, in their order, and what ours has there.
    replaced: Vec<[String; 2]>,
    /// What of the figures may be another, if anything.
    figures: Option<Figures>,
}

fn deviations(run: &str) -> Vec<Deviation> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrackd/deviations.json");
    let text = fs::read_to_string(path).expect("the list of deviations");
    let all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let of_run = all.into_iter().filter(|entry| entry["run"] == run);
    let deviations = of_run.flat_map(|entry| {
        let replaced: Vec<[String; 2]> = match entry.get("replaced") {
            Some(pairs) => serde_json::from_value(pairs.clone()).expect("recorded and ours"),
            None => Vec::new(),
        };
        let steps: Vec<u64> = serde_json::from_value(entry["steps"].clone()).expect("steps");
        let figures = match entry["any"].as_str() {
            None => None,
            Some("updates") => Some(Figures::ButUpdates),
            Some("internal") => Some(Figures::ButInternal),
            Some("external") => Some(Figures::ButExternal),
            Some(other) => panic!("{other}"),
        };
        let of = move |step| Deviation { step, replaced: replaced.clone(), figures };
        steps.into_iter().map(of)
    });
    deviations.collect()
}

/// What ours should answer where the original answered `recorded`.
fn expected(recorded: &str, deviations: &[&Deviation]) -> String {
    // Without an `IntakeBuffer` of its own the event buffer is of the default one's size.
    let mut text =
        recorded.replace("     2097152", "    33554432").replace("to 2097152 b", "to 33554432 b");
    for deviation in deviations {
        let mut from = 0;
        for [theirs, ours] in &deviation.replaced {
            let place = text[from..].find(theirs.as_str());
            let place = from + place.unwrap_or_else(|| panic!("not in {recorded}: {theirs}"));
            text.replace_range(place..place + theirs.len(), ours);
            from = place + ours.len();
        }
    }
    text
}

/// How much of an answer is the same in every run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figures {
    /// All but what depends on the moment.
    Exact,
    /// But not how often the external cache, or the kernel in its place, was updated. Changes of a
    /// flow that come soon after each other go in one message, of the original's as of ours, and
    /// how many do depends on how fast the machine is. (Without an internal cache the original
    /// sends each by itself; that ours does not is a deviation of its own.)
    ButReceived,
    /// But not how often either cache was updated.
    ButUpdates,
    /// But nothing of the internal cache except for how much is in it.
    ButInternal,
    /// But nothing of the external cache.
    ButExternal,
}

/// The lines of an answer with what differs from run to run masked, a column of figures in its
/// width; those of a dump sorted.
fn shape(run: &str, arguments: &[&str], figures: Figures, answer: &str) -> Vec<String> {
    let is_dump = matches!(arguments[0], "-i" | "-e" | "-L");
    let volatile = match run {
        // Ages and times left; what the kernel numbers flows by; and how many packets a connection
        // takes, as acknowledgements ride on what is there to ride on.
        _ if is_dump => {
            r"((?:active since|expires in) |<id>|^(?:tcp|udp|icmp) +\d+ |(?:packets|bytes)=)[1-9]\d*"
        }
        // There is no link, and no filter.
        "stats-mode" => r"(uptime: ) *\d+| *\d+( (?:Bytes|Pckts))",
        // Messages that wait for an acknowledgement come and go, whether anything happens or not.
        "ftfw-udp" => {
            r"(uptime: |len=|(?:nodes|elements|received|filtered):\t+) *\d+| *\d+( (?:Bytes|Pckts))"
        }
        // Octets and packets on the link follow from how many changes go in one message. Events of
        // the link itself, which the filter ignores, are as many as there are packets of it before
        // its flow is known, and where a commit hears of no new flows they are missing.
        _ => r"(uptime: |(?:received|filtered):\t+) *\d+| *\d+( (?:Bytes|Pckts))",
    };
    let volatile = Regex::new(volatile).expect("an expression");
    let updates = Regex::new(r"(updated|update OK/failed):(\t+) *\d+").expect("an expression");
    let figure = Regex::new(r" *\d+").expect("an expression");
    let (mut is_internal, mut is_external) = (false, false);
    let mask = |line: &str| {
        is_internal = line.starts_with("cache internal:") || is_internal && !line.is_empty();
        if is_internal && figures == Figures::ButInternal && !line.starts_with("current ") {
            return figure.replace_all(line, "#").into_owned();
        }
        let names = ["cache external:", "cache:external", "external inject:"];
        let begins = names.iter().any(|name| line.starts_with(name));
        is_external = begins || is_external && !line.is_empty();
        if is_external && figures == Figures::ButExternal {
            return figure.replace_all(line, "#").into_owned();
        }
        let is_any = match figures {
            Figures::Exact => false,
            Figures::ButReceived | Figures::ButInternal | Figures::ButExternal => is_external,
            Figures::ButUpdates => true,
        };
        if is_any && updates.is_match(line) {
            return updates.replace(line, "$1:$2#").into_owned();
        }
        let column = |found: &Captures<'_>| {
            let before = found.get(1).map_or("", |before| before.as_str());
            let after = found.get(2).map_or("", |after| after.as_str());
            let width = found[0].len() - before.len() - after.len();
            let width = if is_dump || width < 12 { 1 } else { width };
            format!("{before}{}{after}", "#".repeat(width))
        };
        volatile.replace_all(line, column).into_owned()
    };
    // Which messages wait for an acknowledgement depends on the moment.
    let mut lines: Vec<_> =
        answer.lines().filter(|line| !line.contains(" -> seq:")).map(mask).collect();
    if is_dump {
        lines.sort();
    }
    lines
}

/// Gives each command of a run to the daemon of its node. `before` is called with its number first.
fn replay(run: &str, nodes: &[(&Place, &Netns)], mut before: impl FnMut(u64)) {
    let index: Value = serde_json::from_str(&read(run, "index.json")).expect("JSON");
    let deviations = deviations(run);
    let time = Regex::new(r"(?m)^\[.*?\] \(pid=\d+\) ").expect("an expression");
    let mut changed = false;
    for step in index["steps"].as_array().expect("steps") {
        let n = step["n"].as_u64().expect("a number");
        before(n);
        let (node, arguments, file) = match step["args"].as_array() {
            Some(arguments) => {
                let words = arguments.iter().map(|word| word.as_str().expect("a word")).collect();
                (usize::from(step["node"] == "B"), words, &step["stdout_file"])
            }
            None if step["external"].as_str().is_some_and(|name| name.starts_with("b-kernel")) => {
                (1, vec!["-L"], &step["file"])
            }
            None => continue,
        };
        let here: Vec<_> = deviations.iter().filter(|deviation| deviation.step == n).collect();
        let (place, ns) = nodes[node];
        let is_reading = matches!(arguments[0], "-s" | "-i" | "-e" | "-L");
        changed |= !is_reading;
        let usual = if changed || node == 1 { Figures::ButReceived } else { Figures::Exact };
        let figures = here.iter().find_map(|here| here.figures).unwrap_or(usual);
        let recorded = read(run, file.as_str().expect("a file"));
        let stderr = step["stderr"].as_str().unwrap_or_default().to_owned();
        let exit = step["exit"].as_i64().unwrap_or(0);
        let want = (exit, stderr, shape(run, &arguments, figures, &expected(&recorded, &here)));
        let mut last = None;
        let limit = if is_reading { LIMIT } else { Duration::ZERO };
        let reached = wait_for(limit, || {
            let output = if arguments[0] == "-L" {
                ns.command(Make::Ours.program("conntrack")).arg("-L").output().expect("it starts")
            } else {
                place.client(&arguments)
            };
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            // The table's own closing line goes there.
            let stderr = if arguments[0] == "-L" { String::new() } else { text(&output.stderr) };
            let exit = output.status.code().map_or(-1, i64::from);
            let mut lines = shape(run, &arguments, figures, &text(&output.stdout));
            lines.retain(|line| !line.contains("=192.0.2."));
            let got = (exit, time.replace_all(&stderr, "").into_owned(), lines);
            let same = (got.0, &got.1) == (want.0, &want.1)
                && got.2.iter().eq(want.2.iter().filter(|line| !line.contains("=192.0.2.")));
            last = Some(got);
            same.then_some(())
        });
        if reached.is_none() {
            assert_eq!(last, Some(want), "step {n} of {run}, {arguments:?}: ours, the original");
        }
    }
}

/// A recorded run of two nodes.
fn pair(run: &str) {
    let stage = Stage::new();
    let recorded = read(run, "01-a-conf.txt");
    let b = Place::start(&stage.b, Make::Ours, &config(&recorded, true));
    let a = Place::start(&stage.a, Make::Ours, &config(&recorded, false));
    if recorded.contains("Mode FTFW") {
        // What is told before both have heard that the other one is new is told once more.
        for node in [&a, &b] {
            let greeted = || node.read("log").contains("the other node has started again");
            wait_until(LIMIT, "they know each other", greeted);
        }
    }
    std::thread::sleep(SETTLED);
    // It stays open until the end.
    let _open = stage.traffic();
    replay(run, &[(&a, &stage.a), (&b, &stage.b)], |_| {});
    logs::compare(run, "a-logfile", &a);
    logs::compare(run, "b-logfile", &b);
}

#[test]
fn ftfw_over_two_links_runs_as_recorded() {
    need_root!();
    pair("ftfw-udp");
}

#[test]
fn notrack_over_multicast_runs_as_recorded() {
    need_root!();
    pair("notrack-multicast");
}

#[test]
fn alarm_over_two_tcp_links_runs_as_recorded() {
    need_root!();
    pair("alarm-tcp");
}

#[test]
fn notrack_without_caches_runs_as_recorded() {
    need_root!();
    pair("notrack-nocache-udp");
}

#[test]
fn statistics_run_as_recorded() {
    need_root!();
    const RUN: &str = "stats-mode";
    let stage = Stage::new();
    let a = Place::start(&stage.a, Make::Ours, &config(&read(RUN, "01-conf.txt"), false));
    let mut open = stage.traffic();
    replay(RUN, &[(&a, &stage.a)], |n| match n {
        24 => {
            open.drain(..).for_each(close);
            let conntrack = Make::Ours.program("conntrack").display().to_string();
            wait_equal(LIMIT, "connections that have ended", &5, || {
                stage.a.run(&format!("{conntrack} -L")).matches("TIME_WAIT").count()
            });
            stage.a.run(&format!("{conntrack} -F"));
        }
        32 => {
            for request in [&99u32.to_ne_bytes()[..], &27u32.to_ne_bytes(), b"", b"\x15"] {
                let mut client = UnixStream::connect(a.path("ctl")).expect("the daemon listens");
                client.write_all(request).expect("room");
            }
        }
        _ => {}
    });
    logs::compare(RUN, "A.log", &a);
    logs::compare_flows(RUN, "flows.log", &a);
    logs::compare_system_log(RUN, "syslog", &a);
}
