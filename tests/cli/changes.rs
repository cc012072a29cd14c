//! What is asked for flows that exist.

use serde_json::json;
use shardtrack_tests::need_root;

use crate::script::{Bench, Seen};

const LABELS: &str = "1 one\n2 two\n";
const TUPLE: &str = "-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2";

fn run(bench: &Bench, setup: &[String], line: &str) -> Seen {
    let words: Vec<&str> = line.split(' ').map(|w| w.trim_matches('\'')).collect();
    bench.run(&json!({
        "files": { "/etc/xtables/connlabel.conf": LABELS },
        "setup": setup,
        "argv": words,
        "after": ["$CT -L -o labels 2>/dev/null"],
    }))
}

/// An empty word names no label. It may come from a variable that is not set, and is not to remove all.
#[test]
fn an_empty_list_of_labels_removes_none() {
    need_root!();
    let bench = Bench::new();
    let setup = [
        "nft add table ip t",
        "nft add chain ip t c",
        "nft add rule ip t c ct label set 1",
        &format!("$CT -I {TUPLE} -t 600 --label-add one"),
    ]
    .map(str::to_owned);
    for line in ["-U --label-del ''", "-U --label-del=", "-U --label-del one,"] {
        let seen = run(&bench, &setup, line);
        assert_eq!(seen.exit, 2, "{line}: {seen:?}");
        assert!(seen.stderr.contains("unknown label ''"), "{line}: {seen:?}");
        assert!(seen.after.trim_end().ends_with("labels=one"), "{line}: {seen:?}");
    }
    let seen = run(&bench, &setup, "-U --label-del");
    assert!(seen.exit == 0 && !seen.after.contains("labels=one"), "{seen:?}");
}

/// The kernel finds a flow by its original direction. So a reply that lacks its ports, with which none
/// can be made, does no harm if the flow exists.
#[test]
fn half_a_reply_names_a_flow_that_exists() {
    need_root!();
    let bench = Bench::new();
    let setup = [format!("$CT -I {TUPLE} -t 600 -m 7")];
    for half in ["-r 192.0.2.2", "-r 192.0.2.2 -q 192.0.2.1", "-q 9.9.9.9"] {
        let seen = run(&bench, &setup, &format!("-A {TUPLE} -t 600 -m 8 {half}"));
        assert_eq!(seen.exit, 0, "{half}: {seen:?}");
        assert!(seen.stderr.ends_with(": 1 flow entries have been added.\n"), "{half}: {seen:?}");
        assert!(
            seen.after.contains("src=192.0.2.2 dst=192.0.2.1 sport=2 dport=1 mark=8"),
            "{seen:?}"
        );
        let seen = run(&bench, &setup, &format!("-I {TUPLE} -t 600 -m 8 {half}"));
        assert_eq!(seen.exit, 1, "{half}: {seen:?}");
        assert!(seen.stderr.contains("Such conntrack exists"), "{half}: {seen:?}");
        assert!(seen.after.contains("mark=7"), "{half}: {seen:?}");
        for (command, said) in [("-A", "Invalid argument"), ("-I", "invalid parameters")] {
            let seen = run(&bench, &[], &format!("{command} {TUPLE} -t 600 {half}"));
            assert_eq!((seen.exit, seen.after.as_str()), (1, ""), "{half}: {seen:?}");
            assert!(seen.stderr.trim_end().ends_with(said), "{half}: {seen:?}");
        }
    }
}

/// The kernel takes a state of SCTP whole or not at all.
#[test]
fn what_is_not_named_of_an_sctp_state_stays() {
    need_root!();
    let bench = Bench::new();
    let make = "-p sctp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 600";
    let setup =
        [format!("$CT -I {make} --state ESTABLISHED --orig-vtag 16777216 --reply-vtag 33554432")];
    for (change, state) in [
        ("--state CLOSED", "CLOSED --orig-vtag 1 --reply-vtag 2"),
        ("--orig-vtag 5", "ESTABLISHED --orig-vtag 5 --reply-vtag 2"),
        ("--reply-vtag 5 -m 3", "ESTABLISHED --orig-vtag 1 --reply-vtag 5 -m 3"),
        ("--state CLOSED --orig-vtag 5 --reply-vtag 6", "CLOSED --orig-vtag 5 --reply-vtag 6"),
    ] {
        let seen = run(&bench, &setup, &format!("-U -p sctp {change} -o save"));
        assert_eq!(seen.exit, 0, "{change}: {seen:?}");
        assert!(
            seen.stdout.trim_end().ends_with(&format!("--state {state}")),
            "{change}: {seen:?}"
        );
    }
    let seen = run(&bench, &setup, "-U -p sctp --orig-vtag 1");
    assert!(seen.exit == 1 && seen.stderr.contains(": 0 flow entries"), "{seen:?}");
}

/// A mask that does not fit into 64 bits is the largest, as the C library reads it.
#[test]
fn a_mask_beyond_all_bits_has_all() {
    need_root!();
    let bench = Bench::new();
    let setup = [format!("$CT -I {TUPLE} -t 600 -m 0xff")];
    for mask in ["18446744073709551616", "-99999999999999999999", "4294967295"] {
        let seen = run(&bench, &setup, &format!("-U -f ipv4 -m 5/{mask}"));
        assert!(seen.exit == 0 && seen.after.contains("mark=5 "), "{mask}: {seen:?}");
    }
}
