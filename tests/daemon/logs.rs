//! The general log and the flow log of a running daemon: both destinations at once, and SIGHUP.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{BASE_RULES, Make};

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(20);
const CONFIG: &str = "Stats {\nLogFile HERE/flows\nSyslog local3\n}\n\
                      General {\nLogFile HERE/log\nSyslog local4\n}\n";

fn hang_up(place: &Place) {
    let pid = Pid::from_raw(place.pid() as i32).expect("a process id");
    kill_process(pid, Signal::HUP).expect("our daemon");
}

#[test]
fn both_logs_go_to_file_and_system_log_and_are_opened_again() {
    need_root!();
    let ns = Netns::new("logs");
    ns.nft(BASE_RULES);
    let mut place = Place::start(&ns, Make::Ours, CONFIG);
    let mut kernel = Kernel::of(&ns);
    let mut end = |place: &Place, first, lines: usize| {
        kernel.create(&plain(first, 10));
        wait_until(LIMIT, "the flows are known", || {
            place.client(&["-i"]).stdout.iter().filter(|&&b| b == b'\n').count() == 10
        });
        kernel.flush();
        wait_equal(LIMIT, "lines of flows", &lines, || place.read("flows").lines().count());
    };
    end(&place, 0, 10);
    let mut said = Vec::new();
    wait_until(LIMIT, "the system log has what the files have", || {
        said.extend(place.system_log());
        // local3.info and local4.notice.
        let of = |priority: &str| said.iter().filter(|line| line.starts_with(priority)).count();
        of("<158>") == 10 && of("<165>") > 0
    });
    assert!(said.iter().any(|line| line.contains("initialization completed")), "{said:?}");
    assert!(place.read("log").contains("initialization completed"));
    for name in ["log", "flows"] {
        fs::rename(place.path(name), place.path(&format!("{name}.1"))).expect("own directory");
    }
    hang_up(&place);
    wait_until(LIMIT, "both are opened again", || {
        place.path("log").exists() && place.path("flows").exists()
    });
    end(&place, 100, 10);
    assert_eq!(place.read("flows.1").lines().count(), 10);
    // Where no file can be opened the old ones go on, and say so.
    for name in ["log", "flows"] {
        fs::rename(place.path(name), place.path(&format!("{name}.2"))).expect("own directory");
        fs::create_dir(place.path(name)).expect("own directory");
    }
    hang_up(&place);
    for name in ["log", "flows"] {
        let told = format!(
            "[ERROR] can't open logfile `{}' again, the old one goes on: Is a directory",
            place.path(name).display()
        );
        wait_until(LIMIT, &told, || place.read("log.2").contains(&told));
    }
    place.stop();
    assert!(place.read("log.2").contains("---- shutdown received ----"));
}

#[test]
fn a_line_that_repeats_itself_is_summed() {
    need_root!();
    const TIMES: usize = 200;
    const FLUSH_KERNEL: u32 = 0;
    let ns = Netns::new("repeat");
    let place = Place::start(&ns, Make::Ours, CONFIG);
    for _ in 0..TIMES {
        assert!(place.ask(FLUSH_KERNEL).is_some());
    }
    // Nothing else is logged meanwhile: that time has passed brings the sum.
    let accounted = |lines: &[String]| {
        let of = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        let written = of("flushing kernel conntrack table");
        let hidden = |line: &String| {
            let (_, rest) = line.split_once("the last line came ")?;
            rest.split_once(" more times")?.0.parse::<usize>().ok()
        };
        (written, written + lines.iter().filter_map(hidden).sum::<usize>())
    };
    wait_until(LIMIT, "the file has the sum", || {
        let log: Vec<_> = place.read("log").lines().map(str::to_owned).collect();
        let (written, sum) = accounted(&log);
        // Ten in ten seconds; the requests may take longer than that.
        assert!(written <= TIMES / 2, "{written} lines");
        sum == TIMES
    });
    let mut said = Vec::new();
    wait_until(LIMIT, "the system log has it too", || {
        said.extend(place.system_log());
        let (written, sum) = accounted(&said);
        written <= TIMES / 2 && sum == TIMES
    });
}
