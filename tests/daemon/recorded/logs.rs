//! What a replayed run left in its logs, line by line: shape, text and order are the recorded ones.

use regex::Regex;
use shardtrack_tests::cond::wait_until;

use super::{Figures, LIMIT, deviations, expected, folder, read, shape};
use crate::place::Place;

/// Lines about what the original does not do at all.
const OURS_ALONE: [&str; 4] = [
    // How events leave the kernel.
    r"^(?:\[notice\] |<\d+>)\d+ shards, intake: ",
    // Whether it has to be set depends on the kernel.
    "net.netfilter.nf_conntrack_events set to 1",
    // The original notices and does not tell.
    "^.notice. the other node has started again$",
    // A busy machine may take so long from the start of one node to that of the other.
    r"^\[(?:warning|notice)\] the other node (?:was not heard for 5 seconds|is heard again)$",
];
const BULK: &str = "[notice] sending bulk update";

/// A recorded log, `name`, with the deviations of ours from what `parse` finds in it.
fn recorded(run: &str, name: &str, parse: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let files = std::fs::read_dir(folder(run)).expect("the run's folder");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let file = names.into_iter().find(|file| file.ends_with(&format!("-{name}.txt")));
    let file = file.unwrap_or_else(|| panic!("{run} has no {name}"));
    let step = file.split('-').next().and_then(|step| step.parse().ok());
    let deviations = deviations(run);
    let here: Vec<_> = deviations.iter().filter(|other| Some(other.step) == step).collect();
    let lines = expected(&parse(&read(run, &file)).join("\n"), &here);
    lines.lines().map(str::to_owned).collect()
}

/// What of a line is the same in every run: not how long a commit took, nor where events are tested,
/// which follows from the intake. The recorded daemons were started with `-d`; these are children of
/// the test.
fn lasting(text: &str) -> String {
    let time = Regex::new(r"taken \d+\.\d{6} seconds").expect("an expression");
    let side = Regex::new("using (?:kernel|user)-space").expect("an expression");
    let text = time.replace(text, "taken # seconds");
    side.replace(&text, "using #-space").replace("in daemon mode", "in console mode")
}

/// Level and text of each line; every head must be in the original's shape.
fn texts(log: &str) -> Vec<String> {
    let head = Regex::new(
        r"^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d \d{4}\] \(pid=\d+\) (\[(?:info|notice|warning|ERROR)\] .+)$",
    );
    let head = head.expect("an expression");
    let text = |line: &str| {
        let found = head.captures(line).unwrap_or_else(|| panic!("not in shape: {line}"));
        lasting(&found[1])
    };
    log.lines().map(text).collect()
}

/// Takes what is ours alone out of the lines of a log.
fn shared(mut lines: Vec<String>) -> Vec<String> {
    let patterns = OURS_ALONE.map(|pattern| Regex::new(pattern).expect("an expression"));
    lines.retain(|line| !patterns.iter().any(|pattern| pattern.is_match(line)));
    // A daemon of ours sends all that it has when it starts.
    let start = lines.iter().position(|line| line.ends_with("initialization completed"));
    let start = start.expect("every run begins with it");
    if let Some(bulk) = lines[..start].iter().position(|line| line == BULK) {
        lines.remove(bulk);
    }
    lines
}

/// The general log of a daemon that has ended.
pub(super) fn compare(run: &str, name: &str, place: &Place) {
    let ended = || place.read("log").contains("---- shutdown received ----");
    wait_until(LIMIT, "the last line is written", ended);
    let mut ours = shared(texts(&place.read("log")));
    if (run, name) == ("alarm-tcp", "b-logfile") {
        // Once more when a link is connected anew, at some moment.
        ours.retain(|line| line != BULK);
    }
    assert_eq!(ours, recorded(run, name, texts), "{name} of {run}: ours, the original");
}

/// The log of ended flows: their order is that of the kernel's table.
pub(super) fn compare_flows(run: &str, name: &str, place: &Place) {
    let lines = |log: &str| -> Vec<String> {
        let flows = log.lines().filter_map(|line| line.split_once('\t'));
        let mut flows: Vec<_> =
            flows.flat_map(|(_, flow)| shape("", &["-i"], Figures::Exact, flow)).collect();
        flows.sort();
        flows
    };
    assert_eq!(lines(&place.read("flows")), recorded(run, name, lines), "ours, the original");
}

/// Priority and text of datagrams for the system log: those of the general log in their order,
/// then those of flows, whose own line feeds are shown.
fn messages(datagrams: &[String]) -> Vec<String> {
    let head = Regex::new(
        r"^(<\d+>)[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d conntrack-tools\[\d+\]: ((?s:.+))$",
    );
    let head = head.expect("an expression");
    let (mut general, mut flows) = (Vec::new(), Vec::new());
    for datagram in datagrams {
        let found = head.captures(datagram).unwrap_or_else(|| panic!("not in shape: {datagram}"));
        let (priority, text) = (&found[1], &found[2]);
        if text.contains(" src=") {
            let end = if text.ends_with('\n') { "\\n" } else { "" };
            let flow = shape("", &["-i"], Figures::Exact, text).concat();
            flows.push(format!("{priority}{flow}{end}"));
        } else {
            general.push(format!("{priority}{}", lasting(text)));
        }
    }
    flows.sort();
    general.extend(flows);
    general
}

/// What went to the system log.
pub(super) fn compare_system_log(run: &str, name: &str, place: &Place) {
    // The recording ends each datagram by a line feed; flows have one of their own.
    let datagrams = |log: &str| {
        let mut datagrams: Vec<String> = Vec::new();
        for line in log.lines() {
            match datagrams.last_mut() {
                Some(last) if line.is_empty() => last.push('\n'),
                _ => datagrams.push(line.to_owned()),
            }
        }
        messages(&datagrams)
    };
    let mut told = Vec::new();
    wait_until(LIMIT, "the last datagram is there", || {
        told.extend(place.system_log());
        told.iter().any(|message| message.contains("---- shutdown received ----"))
    });
    let ours = shared(messages(&told));
    assert_eq!(ours, recorded(run, name, datagrams), "{name} of {run}: ours, the original");
}
