//! Output that cannot be written, readers that leave, and what is told on a terminal.

use serde_json::json;
use shardtrack_tests::need_root;

use crate::features::TABLE;
use crate::script::Bench;

/// What command lines print, run by a shell in a namespace with some flows.
fn printed(bench: &Bench, setup: &[&str], script: &str) -> String {
    let script = script.replace("$P", &bench.program_path());
    let case = json!({ "setup": setup, "argv": ["-V"], "after": [script] });
    bench.run(&case).after
}

#[test]
fn a_full_disk_is_told_and_changes_nothing_else() {
    need_root!();
    let bench = Bench::new();
    let no_room = "can't write to standard output: No space left on device";
    for (line, left) in [
        ("-L", 7),
        ("-L -o xml", 7),
        ("-L -o json", 7),
        ("-L --count-by source", 7),
        ("-L --sort bytes", 7),
        ("-G -p udp -s 192.0.2.1 -d 198.51.100.2 --sport 1002 --dport 53", 7),
        ("-C", 7),
        ("-C expect", 7),
        ("-S", 7),
        ("-S expect", 7),
        ("-h", 7),
        ("-V", 7),
        ("-E --snapshot", 7),
        ("-U -m 9", 7),
        ("-U -t 9", 7),
        ("-D -p tcp", 4),
        ("-R lines", 4),
    ] {
        let script = format!(
            "echo '-D -p tcp' >lines; {{ $P {line} ; }} >/dev/full 2>said; echo $?; cat said; $CT -C"
        );
        let seen = printed(&bench, &TABLE, &script);
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines.first(), Some(&"1"), "{line}: {seen}");
        assert_eq!(lines.last(), Some(&&*left.to_string()), "{line}: {seen}");
        assert!(lines.iter().any(|l| l.ends_with(no_room)), "{line}: {seen}");
    }
}

/// More than is written at once.
#[test]
fn all_is_removed_though_nobody_can_be_told() {
    need_root!();
    let bench = Bench::new();
    let lines =
        "seq 1 6000 | sed 's/.*/-A -p udp -s 10.0.0.1 -d 10.0.0.2 --sport & --dport 7 -t 90/'";
    let script = format!("{lines} | $P -R -; $P -D >/dev/full 2>said; echo $?; cat said; $CT -C");
    let seen = printed(&bench, &[], &script);
    assert!(seen.starts_with("1\n") && seen.ends_with("\n0\n"), "{seen}");
    assert!(seen.contains(": 6000 flow entries have been deleted.\n"), "{seen}");
}

#[test]
fn a_reader_that_leaves_ends_events_quietly() {
    need_root!();
    let bench = Bench::new();
    let make = "$CT -I -p udp -s 10.0.0.1 -d 10.0.0.2 --dport 7 -t 90 --sport";
    // It listens; then each event is another try to write.
    let script = format!(
        "{{ $P -E 2>said; echo $? >status; }} | head -n 1 & \
         until awk '$2 == 12 && $4 !~ /^0*$/ {{ f = 1 }} END {{ exit !f }}' /proc/net/netlink; \
         do sleep 0.02; done; n=0; \
         until [ -e status ] || [ $n -ge 100 ]; do n=$((n+1)); {make} $n 2>/dev/null; sleep 0.05; done; \
         wait; cat said status"
    );
    let seen = printed(&bench, &[], &script);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 2, "{seen}");
    assert!(lines[0].starts_with("    [NEW] udp"), "{seen}");
    assert_eq!(lines[1], "141", "{seen}");
}

/// Where both outputs go to one place.
#[test]
fn the_closing_line_stands_where_that_of_the_original_does() {
    need_root!();
    let bench = Bench::new();
    let flow = "-p udp -s 192.0.2.1 -d 198.51.100.2 --sport 1002 --dport 53";
    let make = format!("$CT -I {flow} -t 300 -u SEEN_REPLY,ASSURED");
    for line in [
        "-L".to_owned(),
        "-L -o xml".to_owned(),
        "-L -o xml -p tcp".to_owned(),
        "-L -o save".to_owned(),
        format!("-G {flow}"),
        format!("-G {flow} -o xml"),
        "-D -o xml".to_owned(),
        "-D".to_owned(),
    ] {
        let by = |program: &str| {
            let script = format!(
                "{program} {line} 2>&1 | sed -E 's/ v[0-9.]+ / vX /; s/17 [0-9]+/17 T/; s/-t [0-9]+/-t T/; \
                 s/<timeout>[0-9]+/<timeout>T/; s/<id>[0-9]+/<id>I/'"
            );
            printed(&bench, &[&make], &script)
        };
        let theirs = by("$CT");
        assert!(theirs.contains("flow entries have been"), "{line}: {theirs}");
        assert_eq!(by("$P"), theirs, "{line}");
    }
}

/// More events than a pipe takes wait to be written; the last reader takes some all the time.
#[test]
fn events_that_nobody_reads_do_not_keep_it_from_ending() {
    need_root!();
    let bench = Bench::new();
    let lines =
        "seq 1 3000 | sed 's/.*/-A -p udp -s 10.0.0.1 -d 10.0.0.2 --sport & --dport 7 -t 90/'";
    let slow = "for n in `seq 18`; do dd bs=4096 count=1 >nowhere 2>&1; sleep 0.5; done";
    for (options, reader) in [("", "sleep 9"), ("--snapshot", "sleep 9"), ("", slow)] {
        let script = format!(
            "[ -z '{options}' ] || {lines} | $P -R -; mkfifo pipe; ( {reader} ) <pipe & reader=$!; \
             $P -E {options} >pipe 2>said & pid=$!; \
             until awk '$2 == 12 && $4 !~ /^0*$/ {{ f = 1 }} END {{ exit !f }}' /proc/net/netlink; \
             do sleep 0.02; done; {lines} | $P -R -; sleep 0.3; \
             kill -TERM $pid; wait $pid; echo $?; kill $reader && echo in time; cat said"
        );
        let seen = printed(&bench, &[], &script);
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[..2], ["0", "in time"], "{options} {reader}: {seen}");
        assert!(lines[2].ends_with(" flow events have been shown."), "{options}: {seen}");
    }
}

/// The reader is slow, so that the command takes longer than it is silent.
#[test]
fn progress_is_told_on_a_terminal_alone() {
    need_root!();
    let bench = Bench::new();
    let lines =
        "seq 1 6000 | sed 's/.*/-A -p udp -s 10.0.0.1 -d 10.0.0.2 --sport & --dport 7 -t 90/'";
    let list = "$P -L | { sleep 1.3; cat >/dev/null; }";
    let script = format!(
        "{lines} | $P -R -; echo '{list}' >list; \
         script -qec 'sh ./list' /dev/null </dev/null | cat -v; sh ./list 2>&1 | cat -v"
    );
    let seen = printed(&bench, &[], &script);
    let told: Vec<&str> = seen.lines().collect();
    assert_eq!(told.len(), 2, "{seen}");
    assert!(told[0].contains(" shown^[[K") && !told[1].contains('^'), "{seen}");
    for line in told {
        assert!(
            line.trim_end_matches("^M").ends_with("6000 flow entries have been shown."),
            "{seen}"
        );
    }
}
