//! `-E --snapshot` beside changes, and how much of a table `--limit` reads.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::{self, Netns};
use shardtrack_tests::peer::Make;

/// Flows that nothing changes: they make the dump take its time.
const STILL: u32 = 20_000;
/// Flows that are removed, made and marked over and over.
const MOVING: u32 = 2000;
/// Snapshots that are taken meanwhile.
const SNAPSHOTS: usize = 4;
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line about the flow of a number.
fn line(word: &str, number: u32, options: &str) -> String {
    let [_, a, b, c] = number.to_be_bytes();
    format!("{word} -p udp -s 10.{a}.{b}.{c} -d 10.255.0.1 --sport 7 --dport 9 {options}\n")
}

fn conntrack(ns: &Netns) -> Command {
    ns.command(Make::Ours.program("conntrack"))
}

fn load(ns: &Netns, file: &Path, lines: &str) {
    fs::write(file, lines).expect("the directory is ours");
    netns::run(conntrack(ns).arg("-R").arg(file));
}

fn table(ns: &Netns, file: &Path, flows: u32) {
    let lines: String = (0..flows).map(|n| line("-A", n, "-t 9000")).collect();
    load(ns, file, &lines);
}

fn wait_for(what: &str, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < end, "waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// One that follows, and is ended in any case.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Flows, and their marks. An identifier alone, of 32 bits, stands for two of so many once in twenty
/// tables.
type Marks = HashMap<(u64, String), u64>;

fn marks(ns: &Netns) -> Marks {
    let output = netns::run(conntrack(ns).args(["-L", "-o", "json,id"]));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines().map(parse).map(|flow| (identity(&flow), number(&flow, "mark"))).collect()
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn number(flow: &Value, key: &str) -> u64 {
    flow[key].as_u64().unwrap_or_else(|| panic!("no {key}: {flow}"))
}

fn identity(flow: &Value) -> (u64, String) {
    (number(flow, "id"), flow["src"].to_string())
}

/// What is left when the events are applied to the snapshot, and how many made a flow.
fn replay(text: &str) -> (Marks, usize) {
    let (mut marks, mut made, mut events) = (Marks::new(), 0, false);
    for line in text.lines() {
        let flow = parse(line);
        let (id, event) = (identity(&flow), flow["event"].as_str());
        events |= event.is_some();
        match event {
            Some("destroy") => {
                marks.remove(&id);
            }
            Some("update") => {
                marks.insert(id, number(&flow, "mark"));
            }
            _ => {
                assert!(event.is_some() || !events, "a flow of the snapshot among events: {line}");
                let known = marks.insert(id, number(&flow, "mark"));
                assert_eq!(known, None, "shown twice: {line}");
                made += usize::from(event.is_some());
            }
        }
    }
    (marks, made)
}

#[test]
fn a_snapshot_amid_changes_has_no_gap_and_no_double() {
    need_root!();
    let ns = Netns::new("amid");
    ns.sysctl("net/netfilter/nf_conntrack_events", 1);
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let at = |name: &str| directory.path().join(name);
    table(&ns, &at("still"), STILL);
    let mut changes = String::new();
    for n in STILL..STILL + MOVING {
        // Gone, or still there from the round before.
        changes += &line("-A", n, "-t 9000");
        changes += &line("-U", n - n % 2, &format!("-m {}", n % 7 + 1));
        if n % 3 == 0 {
            changes += &line("-D", n, "");
            changes += &line("-A", n, "-t 9000");
        }
    }
    let removals: String = (STILL..STILL + MOVING).map(|n| line("-D", n, "")).collect();
    let stop = AtomicBool::new(false);
    let mut watchers = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                load(&ns, &at("changes"), &changes);
                load(&ns, &at("removals"), &removals);
            }
            load(&ns, &at("changes"), &changes);
        });
        // The changes end also if what follows fails.
        let _end = Ending(&stop);
        for n in 0..SNAPSHOTS {
            let path = at(&n.to_string());
            let out = File::create(&path).expect("the directory is ours");
            let errors = File::create(path.with_extension("said")).expect("the directory is ours");
            let mut command = conntrack(&ns);
            // On a busy machine more events wait than the default has room for.
            command.args(["-E", "--snapshot", "-o", "json,id", "-b", "268435456"]);
            command.stdout(out).stderr(errors);
            watchers.push((Watcher(command.spawn().expect("the program was built")), path.clone()));
            wait_for("events", || {
                fs::read_to_string(&path).is_ok_and(|text| text.contains("\"event\""))
            });
        }
    });
    load(&ns, &at("last"), &line("-A", 0x00ff_0000, "-t 9000 -m 77"));
    let last = marks(&ns);
    for (mut watcher, path) in watchers {
        let text = || fs::read_to_string(&path).expect("it was created");
        wait_for("the last event", || text().contains("\"mark\":77"));
        netns::run(Command::new("kill").args(["-INT", &watcher.0.id().to_string()]));
        watcher.0.wait().expect("it is our child");
        let said = fs::read_to_string(path.with_extension("said")).expect("it was created");
        assert!(said.ends_with(" flow events have been shown.\n"), "{said}");
        assert!(!said.contains("buffer size is too small"), "events were lost: {said}");
        let (have, made) = replay(&text());
        assert!(made >= MOVING as usize, "only {made} flows were made meanwhile");
        let differ = |a: &Marks, b: &Marks| a.iter().filter(|(id, m)| b.get(id) != Some(m)).count();
        assert_eq!((differ(&have, &last), differ(&last, &have)), (0, 0), "of {}", last.len());
    }
}

/// Tells the one that makes changes that it is time to end.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Seconds of processor time of ten runs of a command line, in which `$P` is the program.
fn cost(ns: &Netns, line: &str) -> f64 {
    let program = Make::Ours.program("conntrack");
    let line = line.replace("$P", &program.to_string_lossy());
    let run = format!("{line} >/dev/null 2>&1");
    let script = format!("for n in 1 2 3 4 5 6 7 8 9 10; do {run} || exit 1; done; times");
    let output = netns::run(ns.command("sh").args(["-c", &script]));
    let text = String::from_utf8(output.stdout).expect("the shell prints ASCII");
    let children = text.lines().nth(1).expect("the second line is that of the children");
    let seconds = |time: &str| -> f64 {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').expect("0m0.0s");
        minutes.parse::<f64>().expect("minutes") * 60.0 + seconds.parse::<f64>().expect("seconds")
    };
    children.split_whitespace().map(seconds).sum()
}

/// What is not shown is not asked of the kernel either, whose part in the time is the greatest.
#[test]
fn a_limit_ends_the_reading() {
    need_root!();
    let ns = Netns::new("limit");
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    table(&ns, &directory.path().join("flows"), 40_000);
    let (all, few) = (cost(&ns, "$P -L"), cost(&ns, "$P -L --limit 3"));
    assert!(few < all / 4.0, "{few} s of {all} s");
    let shown = netns::run(conntrack(&ns).args(["-L", "--limit", "3"])).stdout;
    assert_eq!(shown.iter().filter(|&&b| b == b'\n').count(), 3);
}

/// Also where the filter refuses all of the table. The signal waits when the program begins.
#[test]
fn a_signal_ends_the_reading_of_a_snapshot() {
    need_root!();
    let ns = Netns::new("signal");
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    table(&ns, &directory.path().join("flows"), 40_000);
    let ended = |filter: &str| {
        let script = format!("kill -INT $$; exec $P -E --snapshot {filter}");
        cost(&ns, &format!("env --block-signal=INT sh -c '{script}'"))
    };
    let all = cost(&ns, "$P -L");
    for filter in ["", "-p udp --sport 1-3"] {
        let seen = ended(filter);
        assert!(seen < all / 3.0, "{filter}: {seen} s of {all} s");
    }
}
