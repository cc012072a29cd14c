//! Rules of the house that no compiler checks.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use shardtrack_tests::privilege::skip;

    /// No file is longer than this; one idea fits.
    const MAX_LINES: usize = 800;

    fn root() -> PathBuf {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        manifest.parent().expect("the crate is in the workspace").to_owned()
    }

    /// Files below `directory` that end in `suffix`, without what builds leave.
    fn files(directory: &Path, suffix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![directory.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with('.') || name == "target" {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                } else if name.ends_with(suffix) {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        assert!(!found.is_empty(), "no {suffix} below {}", directory.display());
        found
    }

    /// Asserts that no file breaks a rule; `broken` says how.
    fn check(files: &[PathBuf], broken: impl Fn(&Path, &str) -> Vec<String>) {
        let mut complaints = Vec::new();
        for file in files {
            let text = fs::read_to_string(file).unwrap();
            let name = file.strip_prefix(root()).unwrap();
            for complaint in broken(name, &text) {
                complaints.push(format!("{}: {complaint}", name.display()));
            }
        }
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }

    #[test]
    fn every_file_says_what_it_is() {
        check(&files(&root(), ".rs"), |_, text| {
            let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or("");
            if first.starts_with("//!") { vec![] } else { vec!["does not begin with //!".into()] }
        });
    }

    #[test]
    fn no_file_holds_two_ideas() {
        check(&files(&root(), ".rs"), |_, text| {
            let lines = text.lines().count();
            if lines < MAX_LINES { vec![] } else { vec![format!("{lines} lines")] }
        });
    }

    #[test]
    fn shells_understand_the_completions() {
        for (shell, suffix) in [("bash", ".bash"), ("zsh", ""), ("fish", ".fish")] {
            if Command::new(shell).args(["-c", "true"]).output().is_err() {
                skip("shells_understand_the_completions", &format!("{shell} is not installed"));
                continue;
            }
            for program in ["conntrack", "conntrackd"] {
                let name = if suffix.is_empty() { format!("_{program}") } else { program.into() };
                let folder = root().join("bins").join(program).join("completions");
                let file = folder.join(name + suffix);
                let output = Command::new(shell).arg("-n").arg(&file).output().unwrap();
                assert!(
                    output.status.success() && output.stderr.is_empty(),
                    "{file:?}: {output:?}"
                );
            }
        }
    }

    /// What fish offers behind a line.
    fn offered(line: &str) -> Vec<String> {
        let script = "for file in $argv[2..]; source $file; end; complete -C $argv[1]";
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", script, line]);
        for program in ["conntrack", "conntrackd"] {
            let file = format!("bins/{program}/completions/{program}.fish");
            fish.arg(root().join(file));
        }
        let output = fish.output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.split('\t').next().map(str::to_owned)).collect()
    }

    #[test]
    fn fish_offers_the_words_of_an_option() {
        if Command::new("fish").args(["-c", "true"]).output().is_err() {
            return skip("fish_offers_the_words_of_an_option", "fish is not installed");
        }
        for (line, words) in [
            ("conntrackd -i ", "ct expect"),
            ("conntrackd -f ", "external internal"),
            ("conntrackd -o ", "json"),
            ("conntrackd -i expect ", ""),
            ("conntrack --dump ", "conntrack dying expect unconfirmed"),
            ("conntrack --family ", "ipv4 ipv6"),
            ("conntrack --load-file Cargo.t", "Cargo.toml"),
            ("conntrack --labelmap Cargo.t", "Cargo.toml"),
            ("conntrack -p tcp --sp", "--sport"),
        ] {
            assert_eq!(offered(line).join(" "), words, "{line}");
        }
    }

    #[test]
    fn nothing_is_left_undone() {
        // Parted so that this file is no hit.
        let words = [
            concat!("to", "do!("),
            concat!("unimple", "mented!("),
            concat!("db", "g!("),
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("XX", "X:"),
        ];
        check(&files(&root(), ".rs"), |_, text| {
            let lines = text.lines().enumerate();
            lines
                .filter_map(|(number, line)| {
                    let word = words.iter().find(|word| line.contains(**word))?;
                    Some(format!("line {}: {word}", number + 1))
                })
                .collect()
        });
    }

    #[test]
    fn unsafe_code_stands_in_io_and_says_why() {
        let keyword = concat!("un", "safe");
        let opening = [format!("{keyword} {{"), format!("{keyword} impl"), format!("{keyword} fn")];
        check(&files(&root(), ".rs"), |name, text| {
            let mut complaints = Vec::new();
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                if !opening.iter().any(|word| code.contains(word.as_str())) {
                    continue;
                }
                if !name.starts_with("io") {
                    complaints.push(format!("line {}: {keyword} outside io", number + 1));
                } else if !reason_above(&lines, number) {
                    complaints.push(format!("line {}: no SAFETY reason", number + 1));
                }
            }
            complaints
        });
    }

    /// Whether a SAFETY comment stands on the line or in the few above it.
    fn reason_above(lines: &[&str], number: usize) -> bool {
        let from = number.saturating_sub(8);
        lines[from..=number].iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety"))
    }

    #[test]
    fn crates_forbid_unsafe_code() {
        let mut roots = 0;
        for name in ["lib.rs", "main.rs"] {
            for file in files(&root(), name) {
                let relative = file.strip_prefix(root()).unwrap();
                let is_root = file.parent().is_some_and(|p| p.ends_with("src"));
                if !is_root || relative.starts_with("io") {
                    continue;
                }
                roots += 1;
                let text = fs::read_to_string(&file).unwrap();
                assert!(
                    text.contains("#![forbid(unsafe_code)]"),
                    "{} does not forbid unsafe code",
                    relative.display()
                );
            }
        }
        assert!(roots >= 5, "only {roots} crate roots found");
    }

    #[test]
    fn protocol_crates_touch_no_system() {
        for crate_name in ["proto-ctnl", "proto-sync"] {
            check(&files(&root().join(crate_name).join("src"), ".rs"), |name, text| {
                // The bodies of the fuzz targets are no part of the crate's work.
                if name.ends_with("fuzzing.rs") {
                    return vec![];
                }
                let code = text.split("#[cfg(test)]").next().unwrap_or("");
                ["std::net::Udp", "std::fs", "std::thread", "Instant::now", "SystemTime::now"]
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("uses {word}"))
                    .collect()
            });
        }
    }

    /// Where the wall clock is read. It jumps when somebody sets it, so that nothing may wait for it
    /// or measure by it.
    const WALL_CLOCK: [(&str, &str); 6] = [
        (
            "bins/conntrack/src/show.rs",
            "the kernel's stamps, which are of that clock, are compared",
        ),
        ("bins/conntrackd/src/log/flows.rs", "stamps of lines"),
        ("bins/conntrackd/src/log/line.rs", "stamps of lines"),
        ("bins/conntrackd/src/log/mod.rs", "stamps of lines"),
        ("engine/src/run/start/session.rs", "the number of the first message; any would do"),
        ("perf/src/report.rs", "the date of a record"),
    ];

    #[test]
    fn nothing_is_decided_by_the_wall_clock() {
        // Parted so that this file is no hit.
        let words = [
            concat!("System", "Time"),
            concat!("UNIX_", "EPOCH"),
            concat!("CLOCK_", "REALTIME"),
            concat!("Clock", "Id::Realtime"),
            concat!("gettime", "ofday"),
            // What a wait in a ring can be told to go by.
            concat!("Timeout", "Flags"),
        ];
        let mut used = Vec::new();
        for folder in ["bins", "engine", "io", "perf", "proto-ctnl", "proto-sync"] {
            for file in files(&root().join(folder), ".rs") {
                let text = fs::read_to_string(&file).unwrap();
                let name = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                if words.iter().any(|word| text.contains(word)) {
                    used.push(name);
                }
            }
        }
        let allowed: Vec<_> = WALL_CLOCK.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(used, allowed);
    }

    #[test]
    fn dependencies_are_versioned_once() {
        check(&files(&root(), "Cargo.toml"), |name, text| {
            if name == Path::new("Cargo.toml") || name.starts_with("tests/fuzz") {
                return vec![];
            }
            text.lines()
                .filter(|line| line.contains("version = \""))
                .map(|line| format!("has its own version: {line}"))
                .collect()
        });
    }
}
