//! The manuals and completions leave nothing out, and the examples agree.

use conntrackd::conf::token::RESERVED;
use conntrackd::conf::vocabulary::items_of;
use conntrackd::text::usage;

#[test]
fn the_manual_of_the_configuration_names_every_word() {
    let manual = include_str!("../conntrackd.conf.5");
    for word in RESERVED.iter().chain(items_of("Engine")) {
        // Sections are headed in capitals.
        let heading = format!(".SH {}", word.to_uppercase());
        assert!(manual.contains(word) || manual.contains(&heading), "{word}");
    }
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
