//! What the kernel knows of a daemon's settings: how it is scheduled, and whose events it keeps.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shardtrack_tests::cond::{settle, wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(20);
/// More than there is room for.
const FLOWS: u32 = 5000;
/// The policies, as `sched(7)` numbers them.
const OTHER: i64 = 0;
const FIFO: i64 = 1;
const ROUND_ROBIN: i64 = 2;

/// Nice value, real-time priority and policy of each thread of a process.
fn scheduled(pid: u32) -> Vec<(i64, i64, i64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
    let of = |stat: String| {
        // The name before may hold anything, the state behind it is the third field of proc(5).
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let fields: Vec<_> = fields.split(' ').collect();
        let field = |number: usize| fields[number - 3].trim().parse().expect("a number");
        (field(19), field(40), field(41))
    };
    let stats = threads.filter_map(|thread| {
        // A thread may end meanwhile.
        fs::read_to_string(thread.ok()?.path().join("stat")).ok()
    });
    stats.map(of).collect()
}

#[test]
fn every_thread_is_scheduled_as_configured() {
    need_root!();
    let ns = Netns::new("sched");
    let nice = scheduled(std::process::id())[0].0;
    let config = |lines: &str| {
        format!(
            "General {{\nLogFile HERE/log\n{lines}\n}}\nStats {{\nLogFile HERE/flows\n}}\n\
             Engine {{\nShards 2\n}}\n"
        )
    };
    for (lines, expected) in [
        ("Scheduler {\nType FIFO\nPriority 7\n}", (nice, 7, FIFO)),
        ("Scheduler {\nType RR\nPriority 3\n}", (nice, 3, ROUND_ROBIN)),
        // The original does not follow it any more either: it is inherited, and that is told.
        ("Nice -11", (nice, 0, OTHER)),
    ] {
        let place = Place::start(&ns, Make::Ours, &config(lines));
        // The thread that writes the log is the last to start.
        let written = || place.read("log").contains("-- starting in console mode --");
        wait_until(LIMIT, "the daemon has all its threads", written);
        let threads = scheduled(place.pid());
        assert!(threads.len() > 2, "{threads:?}");
        assert!(threads.iter().all(|&thread| thread == expected), "{lines}: {threads:?}");
        let told = place.read("console") + &place.read("log");
        let ignored = told.contains("deprecated nice configuration, ignoring");
        assert_eq!(ignored, lines.starts_with("Nice"), "{told}");
    }
}

/// [`FLOWS`] flows end while the daemon stands still, with too little room for them. How many of
/// the ends it logs when it goes on.
fn ends_kept(ns: &Netns, intake: &str, reliable: bool) -> usize {
    let word = if reliable { "on" } else { "off" };
    // Without reading the table again there is nothing else that tells of an end.
    let config = format!(
        "Stats {{\nLogFile HERE/flows\n}}\nGeneral {{\nLogFile HERE/log\n\
         NetlinkBufferSize 65536\nNetlinkOverrunResync off\nNetlinkEventsReliable {word}\n}}\n\
         Engine {{\nIntake {intake}\nIntakeBuffer 65536\nShards 2\n}}\n"
    );
    let place = Place::start(ns, Make::Ours, &config);
    let told = place.read("log").contains("reliable ctnetlink event delivery is ENABLED.");
    assert_eq!(told, reliable);
    let mut kernel = Kernel::of(ns);
    let known = || {
        let answer = place.ask(21).unwrap_or_default();
        let line = answer.lines().find(|line| line.contains("active connections:"));
        line.and_then(|line| line.split_whitespace().last()?.parse::<u32>().ok())
    };
    for first in (0..FLOWS).step_by(20) {
        kernel.create(&plain(first, 20));
        wait_until(LIMIT, "the flows are known", || known() == Some(first + 20));
    }
    let pid = Pid::from_raw(place.pid() as i32).expect("a process id");
    kill_process(pid, Signal::STOP).expect("our daemon");
    kernel.flush();
    kill_process(pid, Signal::CONT).expect("our daemon");
    let logged = || place.read("flows").lines().count();
    if reliable {
        wait_equal(LIMIT, "ends that are logged", &(FLOWS as usize), logged);
    } else {
        settle(LIMIT, Duration::from_secs(2), logged);
    }
    logged()
}

#[test]
fn ends_of_flows_are_kept_for_a_reader_that_asks() {
    need_root!();
    let ns = Netns::new("reliable");
    for intake in ["ring", "filter", "single"] {
        assert_eq!(ends_kept(&ns, intake, true), FLOWS as usize, "{intake}");
        assert!(ends_kept(&ns, intake, false) < FLOWS as usize, "{intake}: no event was lost");
    }
}

#[test]
fn the_event_buffer_doubles_after_each_loss_up_to_its_limit() {
    need_root!();
    let ns = Netns::new("growth");
    let config = "Stats {\nLogFile HERE/flows\n}\nGeneral {\nLogFile HERE/log\n\
                  NetlinkBufferSize 65536\nNetlinkBufferSizeMaxGrowth 262144\n\
                  NetlinkOverrunResync off\n}\n\
                  Engine {\nIntake single\nIntakeBuffer 65536\nShards 1\n}\n";
    let place = Place::start(&ns, Make::Ours, config);
    let mut kernel = Kernel::of(&ns);
    let pid = Pid::from_raw(place.pid() as i32).expect("a process id");
    let size = "netlink event socket buffer size";
    let losses = || {
        let answer = place.ask(30).unwrap_or_default();
        let count = answer.lines().find_map(|line| line.trim().strip_prefix("netlink overrun:"));
        count.and_then(|count| count.trim().parse::<u64>().ok())
    };
    let end = format!("[warning] {size} cannot be doubled further since it will exceed");
    let told = [
        Some(format!("[notice] {size} has been doubled to 131072 bytes")),
        Some(format!("[notice] {size} has been doubled to 262144 bytes")),
        Some(end.clone()),
        // It does not grow, and that was told.
        None,
    ];
    for (n, told) in told.iter().enumerate() {
        if let Some(told) = told {
            assert!(!place.read("log").contains(told), "before loss {n}: {told}");
        }
        let before = losses().expect("a number");
        kill_process(pid, Signal::STOP).expect("our daemon");
        kernel.create(&plain(n as u32 * FLOWS, FLOWS));
        kill_process(pid, Signal::CONT).expect("our daemon");
        wait_until(LIMIT, "a loss", || losses() > Some(before));
        if let Some(told) = told {
            wait_until(LIMIT, told, || place.read("log").contains(told));
        }
        // What waits was lost in one go: the next loss is another one.
        settle(LIMIT, Duration::from_secs(1), losses);
    }
    // The log has its own thread: what comes after all of it is there at last.
    assert!(place.client(&["-f"]).status.success());
    wait_until(LIMIT, "the next line", || place.read("log").contains("flushing"));
    assert_eq!(place.read("log").matches(&end).count(), 1);
}
