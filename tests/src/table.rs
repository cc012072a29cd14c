//! Tables as sets of lines, and comparisons that say what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A set of flows or expectations, each as a line without what may differ between two nodes.
pub type Lines = BTreeSet<String>;

/// What two daemons may print differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// The protocol carries neither the ports of UDP-Lite nor the keys of GRE.
    pub lost_keys: bool,
    /// A mark of zero may be known or not.
    pub zero_mark: bool,
}

impl Masks {
    /// What the protocol does not carry.
    pub const PROTOCOL: Self = Self { lost_keys: true, zero_mark: false };
    /// Nothing.
    pub const NONE: Self = Self { lost_keys: false, zero_mark: false };
}

/// The lines of a cache dump (`-i`, `-e`), the internal one reduced to what the external one
/// prints: without the reply direction and the ages.
pub fn cache_lines(dump: &str, masks: Masks) -> Lines {
    dump.lines().filter(|line| !line.trim().is_empty()).map(|line| flow_line(line, masks)).collect()
}

fn flow_line(line: &str, masks: Masks) -> String {
    let line = line.split(" [active since ").next().unwrap_or(line);
    let line = line.split(" [expires in ").next().unwrap_or(line);
    let mut words = Vec::new();
    let mut tuples = 0;
    let mut in_reply = false;
    for word in line.split_whitespace() {
        if word.starts_with("src=") {
            tuples += 1;
            in_reply = tuples == 2;
        }
        let key = word.split_once('=').map_or("", |(key, _)| key);
        let of_tuple = matches!(
            key,
            "src" | "dst" | "sport" | "dport" | "type" | "code" | "id" | "srckey" | "dstkey"
        );
        if of_tuple && in_reply {
            continue;
        }
        if masks.zero_mark && word == "mark=0" {
            continue;
        }
        words.push(word);
    }
    let lossy = matches!(words.first(), Some(&"gre" | &"udplite"));
    if masks.lost_keys && lossy {
        words.retain(|w| {
            !["sport=", "dport=", "srckey=", "dstkey="].iter().any(|key| w.starts_with(key))
        });
    }
    words.join(" ")
}

/// The lines of an expectation dump, without ages.
pub fn expect_lines(dump: &str) -> Lines {
    dump.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split(" [active since ").next().unwrap_or(line))
        .map(|line| line.split(" [expires in ").next().unwrap_or(line).trim().to_owned())
        .collect()
}

/// How many lines each dump has that begin alike: for messages about big tables.
pub fn by_protocol(lines: &Lines) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line.split(' ').next().unwrap_or("")).or_insert(0) += 1;
    }
    counts
}

/// What stands in one set only, at most `show` lines of each side. `None` if they are equal.
pub fn difference(left: (&str, &Lines), right: (&str, &Lines), show: usize) -> Option<String> {
    if left.1 == right.1 {
        return None;
    }
    let mut text = String::new();
    for ((name, here), (_, there)) in [(left, right), (right, left)] {
        let only: Vec<_> = here.difference(there).collect();
        let _ = writeln!(text, "only in {name}: {} of {}", only.len(), here.len());
        for line in only.iter().take(show) {
            let _ = writeln!(text, "  {line}");
        }
    }
    Some(text)
}

/// Asserts that two sets are equal.
///
/// # Panics
/// If they are not, with what differs.
#[track_caller]
pub fn assert_same(left: (&str, &Lines), right: (&str, &Lines)) {
    if let Some(text) = difference(left, right, 8) {
        panic!("tables differ\n{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_and_external_lines_meet() {
        let internal = "icmp     1 src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id=4242 [UNREPLIED] \
            src=10.2.0.2 dst=10.1.0.2 type=0 code=0 id=4242 mark=7 zone=3 [active since 3s]\n";
        let external = "icmp     1 src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id=4242 [UNREPLIED] \
            mark=7 zone=3 [active since 9s]\n";
        let left = cache_lines(internal, Masks::NONE);
        assert_eq!(left, cache_lines(external, Masks::NONE));
        assert!(
            left.first().is_some_and(|line| line.contains("id=4242 [UNREPLIED] mark=7 zone=3"))
        );
    }

    #[test]
    fn only_masked_keys_are_dropped() {
        let full = "gre      47 src=1.1.1.1 dst=2.2.2.2 srckey=0xa dstkey=0xb [active since 1s]\n";
        let lost = "gre      47 src=1.1.1.1 dst=2.2.2.2 srckey=0x0 dstkey=0x0 [active since 1s]\n";
        assert_eq!(cache_lines(full, Masks::PROTOCOL), cache_lines(lost, Masks::PROTOCOL));
        let difference = difference(
            ("full", &cache_lines(full, Masks::NONE)),
            ("lost", &cache_lines(lost, Masks::NONE)),
            8,
        );
        assert!(difference.is_some_and(|text| text.contains("only in full: 1 of 1")));
    }
}
