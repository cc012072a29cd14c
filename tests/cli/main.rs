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

#[cfg(test)]
mod normal;
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

    fn cases() -> Vec<Value> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrack-cli/cases.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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

    /// What ours does not do yet is said, in one line, and never swallowed.
    #[test]
    fn what_is_missing_is_said() {
        need_root!();
        let bench = script::Bench::new();
        let missing: &[&[&str]] = &[
            &["-D"],
            &["-U", "-m", "5"],
            &["-S"],
            &["-R", "/dev/null"],
            &["-G", "-s", "1.2.3.4", "-d", "1.2.3.5", "-p", "esp"],
            &["-A", "-s", "1.2.3.4", "-d", "1.2.3.5", "-p", "esp", "-t", "5"],
        ];
        for argv in missing {
            let seen = bench.run(&serde_json::json!({ "argv": argv }));
            assert_eq!(seen.exit, 2, "{argv:?}: {seen:?}");
            assert_eq!(seen.stdout, "");
            assert!(seen.stderr.contains("is not available in this version"), "{seen:?}");
            assert_eq!(seen.stderr.lines().count(), 1, "{seen:?}");
        }
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
