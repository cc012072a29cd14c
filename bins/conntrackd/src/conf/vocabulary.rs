//! Which words stand where, to name the right one to whoever wrote a wrong one.

/// The words that can begin an item of a block, by the block's own first word. Modes have blocks
/// of their own.
const BLOCKS: [(&str, &[&str]); 22] = [
    ("", &["General", "Sync", "Stats", "Helper", "Engine"]),
    (
        "General",
        &[
            "HashSize",
            "HashLimit",
            "LogFile",
            "Syslog",
            "LockFile",
            "UNIX",
            "NetlinkBufferSize",
            "NetlinkBufferSizeMaxGrowth",
            "SocketBufferSize",
            "SocketBufferSizeMaxGrown",
            "SocketBufferSizeMaxGrowth",
            "NetlinkOverrunResync",
            "NetlinkEventsReliable",
            "EventIterationLimit",
            "PollSecs",
            "Nice",
            "Scheduler",
            "Systemd",
            "Filter",
        ],
    ),
    ("UNIX", &["Path", "Backlog"]),
    ("Scheduler", &["Type", "Priority"]),
    ("Filter", &["Protocol", "Address", "State"]),
    ("Protocol", &["TCP", "UDP"]),
    ("Address", &["IPv4_address", "IPv6_address"]),
    (
        "State",
        &[
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "FIN_WAIT",
            "CLOSE_WAIT",
            "LAST_ACK",
            "TIME_WAIT",
            "CLOSE",
            "CLOSED",
            "LISTEN",
            "for",
        ],
    ),
    (
        "Sync",
        &[
            "Mode",
            "Multicast",
            "UDP",
            "TCP",
            "Options",
            "RefreshTime",
            "CacheTimeout",
            "CommitTimeout",
            "PurgeTimeout",
        ],
    ),
    ("ALARM", &["RefreshTime", "CacheTimeout", "CommitTimeout", "PurgeTimeout"]),
    (
        "FTFW",
        &[
            "ResendQueueSize",
            "ACKWindowSize",
            "CommitTimeout",
            "PurgeTimeout",
            "DisableExternalCache",
            "StartupResync",
        ],
    ),
    (
        "NOTRACK",
        &[
            "CommitTimeout",
            "PurgeTimeout",
            "DisableInternalCache",
            "DisableExternalCache",
            "StartupResync",
        ],
    ),
    (
        "Multicast",
        &[
            "IPv4_address",
            "IPv6_address",
            "IPv4_interface",
            "IPv6_interface",
            "Interface",
            "Group",
            "SndSocketBuffer",
            "RcvSocketBuffer",
            "Checksum",
        ],
    ),
    (
        "UDP",
        &[
            "IPv4_address",
            "IPv6_address",
            "IPv4_Destination_Address",
            "IPv6_Destination_Address",
            "Interface",
            "Port",
            "SndSocketBuffer",
            "RcvSocketBuffer",
            "Checksum",
        ],
    ),
    (
        "TCP",
        &[
            "IPv4_address",
            "IPv6_address",
            "IPv4_Destination_Address",
            "IPv6_Destination_Address",
            "Interface",
            "Port",
            "SndSocketBuffer",
            "RcvSocketBuffer",
            "Checksum",
            "ErrorQueueLength",
        ],
    ),
    ("Options", &["TCPWindowTracking", "ExpectationSync"]),
    ("Stats", &["LogFile", "Syslog"]),
    ("Helper", &["Type", "Setup", "QueueNum", "QueueLen", "Policy"]),
    ("Type", &["Type", "QueueNum", "QueueLen", "Policy"]),
    ("Policy", &["ExpectMax", "ExpectTimeout"]),
    ("Engine", &["Shards", "CPUs", "Intake", "IntakeBuffer", "Linger", "EventsSysctl"]),
    ("ExpectationSync", &[]),
];

/// The words that can follow a word.
const VALUES: [(&str, &[&str]); 9] = [
    ("Mode", &["ALARM", "FTFW", "NOTRACK"]),
    ("Filter", &["From", "Userspace", "Kernelspace"]),
    ("Protocol", &["Accept", "Ignore"]),
    ("Address", &["Accept", "Ignore"]),
    ("State", &["Accept", "Ignore"]),
    ("Multicast", &["Default"]),
    ("UDP", &["Default"]),
    ("TCP", &["Default"]),
    ("Intake", &["auto", "ring", "filter", "single"]),
];

/// Words of old releases, and what is written instead.
const REMOVED: [(&str, &str); 14] = [
    ("CacheWriteThrough", "DisableExternalCache"),
    ("DelayDestroyMessages", ""),
    ("DestroyTimeout", ""),
    ("Family", ""),
    ("IgnoreProtocol", "Filter { Protocol Ignore { ... } } in General"),
    ("IgnoreTrafficFor", "Filter { Address Ignore { ... } } in General"),
    ("ListenTo", "IPv4_address in a link"),
    ("LogFileBufferSize", ""),
    ("McastRcvSocketBuffer", "RcvSocketBuffer in a link"),
    ("McastSndSocketBuffer", "SndSocketBuffer in a link"),
    ("RelaxTransitions", ""),
    ("Replicate", "Filter { State Accept { ... } } in General"),
    ("ResendBufferSize", "ResendQueueSize"),
    ("StripNAT", ""),
];

/// The words that can begin an item of a block.
pub fn items_of(block: &str) -> &'static [&'static str] {
    lookup(&BLOCKS, block)
}

/// The words that can follow a word.
pub fn values_of(word: &str) -> &'static [&'static str] {
    lookup(&VALUES, word)
}

fn lookup(table: &[(&str, &'static [&'static str])], key: &str) -> &'static [&'static str] {
    table.iter().find(|(name, _)| *name == key).map_or(&[], |(_, words)| words)
}

/// The blocks in which a word can begin an item.
pub fn homes_of(word: &str) -> Vec<&'static str> {
    let holds = |(_, words): &&(&str, &[&str])| words.contains(&word);
    BLOCKS.iter().filter(holds).map(|(block, _)| *block).collect()
}

/// What is written instead of a word of an old release; empty if nothing is.
pub fn replaced(word: &str) -> Option<&'static str> {
    REMOVED.iter().find(|(old, _)| *old == word).map(|(_, new)| *new)
}

/// The word that is written most like `text`, and by how many letters it differs; a letter of the
/// wrong case is none, and the rest of a word that was cut off is one.
pub fn nearest<'a>(text: &str, words: &[&'a str]) -> Option<(&'a str, usize)> {
    let measure = |word: &&'a str| {
        let is_cut = text.len() >= 3 && word.len() > text.len() && word.starts_with(text);
        (*word, if is_cut { 1 } else { distance(text, word) })
    };
    words.iter().map(measure).min_by_key(|(_, distance)| *distance)
}

/// The word that was probably meant: one that differs by few letters.
pub fn meant<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    let (word, distance) = nearest(text, words)?;
    (distance <= text.len() / 3).then_some(word)
}

/// Letters to insert, remove, replace or swap to make one text of another, in any case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf;
    use crate::conf::environment::Machine;
    use crate::conf::token::RESERVED;

    #[test]
    fn the_nearest_word_is_found_over_slips() {
        let general = items_of("General");
        assert_eq!(nearest("Hashsize", general), Some(("HashSize", 0)));
        assert_eq!(nearest("HahsLimit", general), Some(("HashLimit", 1)));
        assert_eq!(nearest("LckFile", general), Some(("LockFile", 1)));
        assert_eq!(nearest("x", &[]), None);
    }

    /// How a file begins up to the items of a block.
    fn opening(block: &str) -> Option<&'static str> {
        Some(match block {
            "" => "",
            "General" => "General {",
            "UNIX" => "General { UNIX {",
            "Scheduler" => "General { Scheduler {",
            "Filter" => "General { Filter {",
            "Protocol" => "General { Filter { Protocol Accept {",
            "Address" => "General { Filter { Address Accept {",
            "State" => "General { Filter { State Accept {",
            "Sync" => "Sync {",
            "ALARM" => "Sync { Mode ALARM {",
            "FTFW" => "Sync { Mode FTFW {",
            "NOTRACK" => "Sync { Mode NOTRACK {",
            "Multicast" => "Sync { Multicast {",
            "UDP" => "Sync { UDP {",
            "TCP" => "Sync { TCP {",
            "Options" => "Sync { Options {",
            "Stats" => "Stats {",
            "Helper" => "Helper {",
            "Type" => "Helper { Type ftp inet tcp {",
            "Policy" => "Helper { Policy ftp {",
            "Engine" => "Engine {",
            _ => return None,
        })
    }

    #[test]
    fn words_stand_where_the_parser_takes_them() {
        let refused = |text: String, word: &str| {
            let reading = conf::read(text.as_bytes(), &Machine);
            let last = reading.diagnostics.last().expect("the file is not whole");
            String::from_utf8_lossy(&last.text).contains(&format!("symbol '{word}'"))
        };
        for (block, words) in BLOCKS {
            let Some(opening) = opening(block) else { continue };
            for word in words {
                assert!(!refused(format!("{opening} {word} ;"), word), "{word} in {block}");
            }
            for word in RESERVED.iter().filter(|word| !words.contains(word)) {
                assert!(refused(format!("{opening} {word} ;"), word), "{word} in {block}");
            }
        }
    }
}
