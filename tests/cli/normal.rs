//! Compares what a case printed with what was recorded, without what differs from run to run.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::script::Seen;

/// Seconds by which a timeout may be off: it counts down while the case runs.
const SLACK: u64 = 6;

/// Rules by the word in `volatile`: a pattern and what stands for it.
const RULES: &[(&str, &str, &str)] = &[
    ("", r"conntrack v[0-9][0-9.]*(-[\w.]+)? \(conntrack-tools\)", "conntrack vX"),
    ("id", r"\bid=\d{5,}", "id=ID"),
    ("id", r"<id>\d+</id>", "<id>ID</id>"),
    ("use", r"\buse=\d+", "use=U"),
    ("use", r"<use>\d+</use>", "<use>U</use>"),
    ("portid", r" \[USERSPACE\] portid=\d+( progname=\S+)?", " [USERSPACE]"),
    ("when", r"<when>.*?</when>", "<when>W</when>"),
    ("evtime", r"^\[\d{8,}\.\d{6}( *)\]", "[SEC.USEC]"),
    ("evtime", r"^\[\d{8,} *\.\d{1,6} *\]", "[SEC.USEC]"),
    ("ktime", r"\[start=[^\]]*\]", "[start=S]"),
    ("ktime", r"\[stop=[^\]]*\]", "[stop=S]"),
    ("ktime", r"delta-time=\d+", "delta-time=N"),
    ("ktime", r"<start>\d+</start>", "<start>S</start>"),
    ("ktime", r"<stop>\d+</stop>", "<stop>S</stop>"),
    ("ktime", r"<deltatime>\d+</deltatime>", "<deltatime>N</deltatime>"),
    ("statnum", r"=\d+ ", "=N "),
    ("counters", r"packets=\d+ bytes=\d+", "packets=N bytes=N"),
    (
        "counters",
        r"<packets>\d+</packets><bytes>\d+</bytes>",
        "<packets>N</packets><bytes>N</bytes>",
    ),
    ("bufsize", r"set to \d+ bytes", "set to N bytes"),
];

static COMPILED: LazyLock<Vec<(&str, Regex, &str)>> = LazyLock::new(|| {
    let compile = |pattern: &str| Regex::new(&format!("(?m){pattern}")).expect("a valid pattern");
    RULES.iter().map(|(word, pattern, text)| (*word, compile(pattern), *text)).collect()
});

/// A timeout at its place in a line, between what stands before and behind it.
static TIMEOUT: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = concat!(
        r"(?m)(?P<before>^(?:\[[0-9A-Z.]+\]\t)?(?: *\[(?:NEW|UPDATE|DESTROY)\] )?",
        r"(?:ipv[46] +\d+ )?",
        r"(?:(?:tcp|udp|udplite|icmp|icmpv6|sctp|dccp|gre|unknown) +\d+ |-[AUD] -t )?)",
        r"(?P<line>\d+)(?P<behind> )|<timeout>(?P<xml>\d+)</timeout>"
    );
    Regex::new(pattern).expect("a valid pattern")
});

/// `Err` tells the difference.
pub(crate) fn compare(case: &Value, seen: &Seen) -> Result<(), String> {
    let want = if case["head"].is_object() { &case["head"] } else { case };
    let volatile: Vec<&str> =
        case["volatile"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut differences = String::new();
    if want["exit"].as_i64() != Some(seen.exit) {
        differences += &format!("\n  exit: want {} got {}", want["exit"], seen.exit);
    }
    let mut texts = vec![("stderr", &seen.stderr)];
    let unchecked = case["skip_stdout"].as_array().is_some_and(|v| v.contains(&"1.4.9".into()));
    if !unchecked {
        texts.push(("stdout", &seen.stdout));
    }
    if !want["after_out"].is_null() {
        texts.push(("after_out", &seen.after));
    }
    for (name, got) in texts {
        let (want, want_timeouts) = normal(want[name].as_str().unwrap_or(""), &volatile);
        let (got, got_timeouts) = normal(got, &volatile);
        let close = |(a, b): (&u64, &u64)| a.abs_diff(*b) <= SLACK;
        if want != got {
            differences += &format!("\n  {name}: want {want:?}\n  {name}: got  {got:?}");
        } else if !want_timeouts.iter().zip(&got_timeouts).all(close) {
            differences += &format!("\n  timeouts: want {want_timeouts:?} got {got_timeouts:?}");
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(format!("{}:{differences}", case["name"])) }
}

/// The text and the timeouts that were cut out of it.
fn normal(text: &str, volatile: &[&str]) -> (String, Vec<u64>) {
    let mut text = text.to_owned();
    for (word, pattern, replacement) in COMPILED.iter() {
        if word.is_empty() || volatile.contains(word) {
            text = pattern.replace_all(&text, *replacement).into_owned();
        }
    }
    if volatile.contains(&"order") {
        text = sorted(&text);
    }
    let mut timeouts = Vec::new();
    if volatile.contains(&"timeout") {
        text = cut_timeouts(&text, &mut timeouts);
    }
    (text, timeouts)
}

fn cut_timeouts(text: &str, timeouts: &mut Vec<u64>) -> String {
    let cut = |found: &regex::Captures<'_>| {
        let part = |name| found.name(name).map_or("", |m| m.as_str());
        timeouts.extend((part("line").to_owned() + part("xml")).parse::<u64>());
        format!("{}T{}", part("before"), part("behind"))
    };
    TIMEOUT.replace_all(text, cut).into_owned()
}

/// The lines between the head and the foot of a list, sorted by what does not change.
fn sorted(text: &str) -> String {
    let is_head = |l: &str| l.starts_with("<?xml") || l == "<conntrack>" || l == "<expect>";
    let is_foot = |l: &str| l == "</conntrack>" || l == "</expect>";
    let lines = || text.split('\n').filter(|l| !l.is_empty());
    let mut rows: Vec<&str> = lines().filter(|l| !is_head(l) && !is_foot(l)).collect();
    rows.sort_by_cached_key(|l| cut_timeouts(l, &mut Vec::new()));
    let all = lines().filter(|l| is_head(l)).chain(rows).chain(lines().filter(|l| is_foot(l)));
    all.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_cut_out() {
        let (text, timeouts) = normal(
            "tcp      6 599 ESTABLISHED src=1.1.1.1 use=2\nudp      17 29 src=2.2.2.2\n",
            &["use", "timeout", "order"],
        );
        assert_eq!(text, "tcp      6 T ESTABLISHED src=1.1.1.1 use=U\nudp      17 T src=2.2.2.2");
        assert_eq!(timeouts, [599, 29]);
    }

    #[test]
    fn other_differences_count() {
        let case = serde_json::json!({ "name": "x", "exit": 0, "stdout": "a\n", "stderr": "" });
        let seen = Seen { stdout: "a\n".into(), ..Seen::default() };
        assert!(compare(&case, &seen).is_ok());
        assert!(compare(&case, &Seen { exit: 1, stdout: "a\n".into(), ..seen }).is_err());
        let case = serde_json::json!({
            "name": "x", "exit": 0, "stdout": "udp      17 400 src\n", "stderr": "",
            "volatile": ["timeout"],
        });
        let printed = |s: &str| Seen { stdout: s.into(), ..Seen::default() };
        assert!(compare(&case, &printed("udp      17 399 src\n")).is_ok());
        assert!(compare(&case, &printed("udp      17 300 src\n")).is_err());
        assert!(compare(&case, &printed("udp      17 400 dst\n")).is_err());
    }
}
