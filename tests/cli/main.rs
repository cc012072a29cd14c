//! Golden command lines: what the original `conntrack` printed and how it ended, asked of ours.
//!
//! Each case of `vectors/conntrack-cli/cases.jsonl` runs in network and mount namespaces of its
//! own, with the original to set the scene. A case is an object with these members:
//!
//! | member | meaning |
//! |---|---|
//! | `name` | its name |
//! | `files` | files by path, below `/etc` or below the scratch directory `$D` |
//! | `setup` | command lines that run before; `$CT` is the original |
//! | `argv`, `stdin` | arguments and input of the program under test |
//! | `during`, `signal`, `settle` | command lines that run beside it, the signal that ends it, how long to wait before that |
//! | `stdout_closed` | nobody reads its standard output |
//! | `uid` | whom it runs as |
//! | `after` | command lines that run after it; what they print is `after_out` |
//! | `exit`, `stdout`, `stderr`, `after_out` | what is expected; `head` replaces all four |
//! | `volatile` | what differs from run to run, see [`normal`] |
//!
//! `deviations.jsonl` has one object for each case in which ours does something else on purpose: what
//! it does, why, and the members of the case that differ.

#[cfg(test)]
mod changes;
#[cfg(test)]
mod expect;
#[cfg(test)]
mod features;
#[cfg(test)]
mod filters;
#[cfg(test)]
mod following;
#[cfg(test)]
mod json;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod normal;
#[cfg(test)]
mod output;
#[cfg(test)]
mod saved;
#[cfg(test)]
mod script;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::Path;
    use std::sync::Mutex;

    use serde_json::Value;
    use shardtrack_tests::need_root;

    use super::{normal, script};

    /// Cases that run beside each other. They wait more than they compute.
    const WORKERS: usize = 4;

    fn lines_of(file: &str) -> Vec<Value> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrack-cli");
        let text = std::fs::read_to_string(directory.join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The cases, with what ours does where that differs on purpose.
    fn cases() -> Vec<Value> {
        let mut cases = lines_of("cases.jsonl");
        for deviation in lines_of("deviations.jsonl") {
            let name = &deviation["case"];
            let case = cases.iter_mut().find(|case| case["name"] == *name);
            let case = case.unwrap_or_else(|| panic!("no case {name}"));
            assert!(deviation["why"].is_string() && deviation["does"].is_string(), "{name}");
            let members = ["exit", "stdout", "stderr", "after_out"];
            let mut want = serde_json::Map::new();
            for member in members {
                let recorded = if case["head"].is_object() { &case["head"] } else { &*case };
                let ours = &deviation[member];
                let value = if ours.is_null() { &recorded[member] } else { ours };
                want.insert(member.to_owned(), value.clone());
            }
            assert!(members.iter().any(|m| !deviation[*m].is_null()), "{name} deviates nowhere");
            case["head"] = want.into();
        }
        cases
    }

    #[test]
    fn command_lines_behave_as_recorded() {
        need_root!();
        let cases = cases();
        assert!(cases.len() > 500, "only {} cases", cases.len());
        let bench = script::Bench::new();
        let queue: Mutex<VecDeque<&Value>> = Mutex::new(cases.iter().collect());
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let Some(case) = queue.lock().unwrap().pop_front() else { break };
                        if !bench.can_run(case) {
                            continue;
                        }
                        let seen = bench.run(case);
                        if let Err(difference) = normal::compare(case, &seen) {
                            failures.lock().unwrap().push(difference);
                        }
                    }
                });
            }
        });
        let mut failures = failures.into_inner().unwrap();
        failures.sort();
        assert!(
            failures.is_empty(),
            "{} of {} cases:\n{}",
            failures.len(),
            cases.len(),
            failures.join("\n")
        );
    }

    /// Where ours is better on purpose.
    #[test]
    fn corrections() {
        need_root!();
        let bench = script::Bench::new();
        // The answer's type is derived from the query's, wherever the addresses stand.
        let seen = bench.run(&serde_json::json!({
            "argv": ["-I", "-p", "icmp", "--icmp-type", "8", "--icmp-code", "0", "-t", "60",
                     "-s", "192.0.2.1", "-d", "192.0.2.2"],
            "after": ["$CT -L 2>&1"],
        }));
        assert_eq!(seen.exit, 0, "{seen:?}");
        assert!(seen.after.contains("type=0 code=0"), "{seen:?}");
        // All names of a list count.
        let seen = bench.run(&serde_json::json!({
            "files": { "/etc/xtables/connlabel.conf": "1 one\n2 two\n" },
            "setup": ["nft add table ip t", "nft add chain ip t c",
                      "nft add rule ip t c ct label set 1"],
            "argv": ["-I", "-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1",
                     "--dport", "2", "-t", "60", "--label-add", "one,two"],
            "after": ["$CT -L -o labels 2>/dev/null"],
        }));
        assert!(seen.after.trim_end().ends_with("labels=one,two"), "{seen:?}");
        // A state without a name is an error and no crash.
        let seen = bench.run(&serde_json::json!({
            "argv": ["-L", "-p", "sctp", "--state", "OPEN"],
        }));
        assert_eq!(seen.exit, 2, "{seen:?}");
        assert!(seen.stderr.contains("unknown SCTP state `OPEN'"), "{seen:?}");
    }
}
