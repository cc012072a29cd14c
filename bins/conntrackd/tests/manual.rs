//! The manuals and completions leave nothing out, and the examples agree.

use std::collections::BTreeSet;

use conntrackd::args::{self, Action};
use conntrackd::conf::token::RESERVED;
use conntrackd::conf::vocabulary::{items_of, values_of};
use conntrackd::program::FILE_MAX;
use conntrackd::text::usage;
use serde_json::Value;

#[test]
fn the_manual_of_the_configuration_names_every_word() {
    let manual = include_str!("../conntrackd.conf.5");
    let mut plain = manual.to_owned();
    for font in ["\\fB", "\\fI", "\\fP"] {
        plain = plain.replace(font, "");
    }
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: BTreeSet<&str> = plain.split(|c| !is_of_word(c)).collect();
    let ours = items_of("Engine").iter().chain(values_of("Intake"));
    for word in RESERVED.iter().chain(values_of("Mode")).chain(ours) {
        // Sections are headed in capitals.
        let heading = format!(".SH {}", word.to_uppercase());
        assert!(named.contains(word) || manual.contains(&heading), "{word}");
    }
}

#[test]
fn the_manual_of_the_configuration_tells_each_deviation() {
    let manual = include_str!("../conntrackd.conf.5").replace("\\-", "-");
    let words: Vec<_> = manual.split_whitespace().collect();
    let manual = words.join(" ");
    let deviations = include_str!("../../../tests/vectors/conntrackd/deviations.json");
    let deviations: Vec<Value> = serde_json::from_str(deviations).expect("JSON");
    for deviation in deviations {
        let told = deviation["manual"].as_str().is_some_and(|words| manual.contains(words));
        assert!(told, "{deviation}");
    }
}

#[test]
fn manuals_and_deviations_know_the_size_of_a_file() {
    let size = format!(" {} MiB", FILE_MAX >> 20);
    for text in [
        include_str!("../conntrackd.8"),
        include_str!("../conntrackd.conf.5"),
        include_str!("../../../tests/vectors/conntrackd/deviations.json"),
    ] {
        let sizes: Vec<_> = text
            .lines()
            .filter(|line| line.contains("MiB") && line.to_lowercase().contains("file"))
            .collect();
        let all = sizes.iter().all(|line| line.contains(&size));
        assert!(!sizes.is_empty() && all, "{sizes:?}");
    }
}

#[test]
fn completions_and_manual_know_every_word_behind_an_option() {
    let manual = include_str!("../conntrackd.8");
    let bash = include_str!("../completions/conntrackd.bash");
    let zsh = include_str!("../completions/_conntrackd");
    let fish = include_str!("../completions/conntrackd.fish");
    let mut options = 0;
    for line in usage("conntrackd").lines() {
        let Some((option, rest)) = line.trim().split_once(" [") else { continue };
        let (words, _) = rest.split_once(']').expect("a list of words");
        if !option.starts_with('-') || !words.contains('|') {
            continue;
        }
        let list = words.replace('|', " ");
        let arm = |line: &&str| {
            let (options, _) = line.split_once(')').unwrap_or_default();
            options.trim().split('|').any(|other| other == option)
        };
        let arm = bash.lines().find(arm).unwrap_or_default();
        assert!(arm.contains(&format!("words=\"{list}\"")), "bash, {option}: {arm}");
        let line =
            zsh.lines().find(|line| line.contains(&format!("{option}["))).unwrap_or_default();
        assert!(line.contains(&format!(":({list})")), "zsh, {option}: {line}");
        let line = format!("complete -c conntrackd -n '__fish_prev_arg_in {option}' -a '{list}'");
        assert!(fish.lines().any(|other| other == line), "fish: {line}");
        for word in words.split('|') {
            let arguments = [option, word].map(Into::into);
            let command = args::parse(arguments, &mut Vec::new()).expect("the parser takes it");
            assert!(matches!(command.action, Action::Request(Some(_))), "{option} {word}");
            assert!(manual.contains(word), "the manual lacks {option} {word}");
        }
        options += 1;
    }
    assert_eq!(options, 7);
}

#[test]
fn unit_and_script_look_for_the_program_in_the_same_places() {
    let unit = include_str!("../dist/conntrackd.service");
    let script = include_str!("../dist/primary-backup.sh");
    let calls: Vec<_> = unit.lines().filter(|line| line.contains("=conntrackd -C ")).collect();
    assert_eq!(calls.len(), 2, "start and stop: {calls:?}");
    assert!(script.contains("\nconntrackd=${CONNTRACKD:-conntrackd}\n"));
    // The service manager's own list.
    assert!(
        script.contains("\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
    );
    for text in [unit, script] {
        assert!(!text.contains("sbin/conntrackd"), "a place of its own");
    }
}

#[test]
fn manual_and_completions_name_every_option() {
    let manual = include_str!("../conntrackd.8").replace("\\-", "-");
    let bash = include_str!("../completions/conntrackd.bash");
    let zsh = include_str!("../completions/_conntrackd");
    let fish = include_str!("../completions/conntrackd.fish");
    let mut options = 0;
    for line in usage("conntrackd").lines() {
        let Some(option) = line.strip_prefix("  -") else { continue };
        let name = option.split([' ', ',']).next().expect("a name");
        assert!(manual.contains(&format!(".B -{name}")) || "xo".contains(name), "-{name}");
        assert!(
            bash.contains(&format!("-{name} ")) || bash.contains(&format!("-{name}\"")),
            "-{name}"
        );
        assert!(zsh.contains(&format!("-{name}[")), "-{name}");
        let fish_name = match name.strip_prefix('-') {
            Some(long) => format!("-l {long} "),
            None => format!("-s {name} "),
        };
        assert!(fish.contains(&fish_name), "-{name}");
        options += 1;
    }
    assert_eq!(options, 18);
}
