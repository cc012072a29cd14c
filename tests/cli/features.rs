//! What ours can do beyond the original.

use std::path::Path;

use serde_json::json;
use shardtrack_tests::need_root;

use crate::script::{Bench, Seen};

/// Flows of several kinds.
pub(crate) const TABLE: [&str; 7] = [
    "$CT -I -p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 1000 --dport 80 --state ESTABLISHED -t 100 -u SEEN_REPLY,ASSURED -m 1",
    "$CT -I -p tcp -s 192.0.2.2 -d 198.51.100.1 --sport 1001 --dport 443 --state SYN_SENT -t 200 -m 2",
    "$CT -I -p udp -s 192.0.2.1 -d 198.51.100.2 --sport 1002 --dport 53 -t 300",
    "$CT -I -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 1003 --dport 8050 -t 400 -u SEEN_REPLY",
    "$CT -I -p icmp -s 192.0.2.9 -d 192.0.2.1 --icmp-type 8 --icmp-code 0 --icmp-id 7 -t 500",
    "$CT -I -p gre -s 192.0.2.3 -d 198.51.100.3 --srckey 1 --dstkey 2 -t 600 -w 5",
    "$CT -I -p tcp -s 192.0.2.4 -d 198.51.100.4 --sport 1004 --dport 8001 --state CLOSE -t 700 -n 203.0.113.1",
];

fn run(bench: &Bench, line: &str) -> Seen {
    let argv: Vec<&str> = line.split(' ').collect();
    bench.run(&json!({ "setup": TABLE, "argv": argv, "after": ["$CT -C"] }))
}

/// How many lines a listing has.
fn shown(bench: &Bench, options: &str) -> usize {
    let seen = run(bench, &format!("-L {options}"));
    assert_eq!(seen.exit, 0, "{options}: {seen:?}");
    seen.stdout.lines().count()
}

#[test]
fn filters() {
    need_root!();
    let bench = Bench::new();
    for (options, count) in [
        ("-p tcp --dport 80,443,8000-8100", 3),
        ("-p tcp ! --dport 80", 2),
        ("! -p tcp", 4),
        ("! -s 192.0.2.1", 5),
        ("--any-addr 192.0.2.1", 3),
        ("--any-addr 203.0.113.0/24", 1),
        ("--timeout-below 250", 2),
        ("--timeout-above 350 -p udp", 1),
        ("-u UNREPLIED", 5),
        ("! -m 0", 2),
        ("! -f ipv4", 1),
        ("! -f ipv6 ! -p tcp", 3),
        ("! -s 2001:db8::1 ! -f ipv6", 6),
        ("! --timeout-below 250", 5),
        ("! --timeout-above 250 --timeout-below 150", 1),
        ("! --bytes-above 0", 7),
        ("-w 5", 1),
        ("-p gre --srckey 2", 0),
        ("-n", 1),
        ("-j 203.0.113.1 -p tcp", 1),
        ("--helper ftp", 0),
        ("--limit 3", 3),
    ] {
        assert_eq!(shown(&bench, options), count, "{options}");
    }
}

/// The kernel's filter saves messages and decides nothing: what it is not asked for is the same.
#[test]
fn the_kernel_filters_as_we_do() {
    need_root!();
    let bench = Bench::new();
    for (exact, range) in [
        ("-p tcp --dport 80", "-p tcp --dport 80-80,80"),
        ("-p udp --sport 1003", "-p udp --sport 1003,1003"),
        ("-s 192.0.2.1", "! -p 255 -s 192.0.2.1/31 --mask-src 255.255.255.255"),
        ("-s 2001:db8::1", "-s 2001:db8::1/64 --mask-src ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ] {
        let (a, b) = (shown(&bench, exact), shown(&bench, range));
        assert!(a == b && a > 0, "{exact}: {a}, {range}: {b}");
    }
}

#[test]
fn removal_means_what_it_says() {
    need_root!();
    let bench = Bench::new();
    for (line, left) in [
        ("-D -u UNREPLIED", "2"),
        ("-D -u !ASSURED", "1"),
        ("-D -t 5", "7"),
        ("-D -u UNSET", "7"),
        ("-D ! -u UNSET", "7"),
        ("-D -p tcp --dport 1-500", "5"),
        ("-D ! -t 5", "0"),
        ("-F ! -f ipv4", "6"),
        ("-D --any-addr 192.0.2.1", "4"),
        ("-F -f ipv6", "6"),
    ] {
        let seen = run(&bench, line);
        assert_eq!(seen.after.trim(), left, "{line}: {seen:?}");
    }
}

#[test]
fn orders_and_counts() {
    need_root!();
    let bench = Bench::new();
    let seen = run(&bench, "-L --sort -timeout --limit 2");
    let states: Vec<bool> = seen.stdout.lines().map(|l| l.contains("CLOSE")).collect();
    assert_eq!(states, [true, false], "{seen:?}");
    assert!(seen.stdout.lines().nth(1).unwrap().starts_with("gre"), "{seen:?}");
    for (key, last) in [
        ("timeout", "dst=198.51.100.4"),
        ("source", "src=2001:db8::1"),
        ("destination", "dst=2001:db8::2"),
        ("sport", "sport=1004"),
        ("dport", "dport=8050"),
        ("protocol", "gre"),
        ("state", "CLOSE"),
        ("zone", "zone=5"),
        ("mark", "mark=2"),
    ] {
        let rows = |options: &str| {
            let seen = run(&bench, &format!("-L --sort {options}"));
            seen.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (up, down) = (rows(key), rows(&format!("-{key}")));
        assert!(up.len() == 7 && up[6].contains(last), "{key}: {up:?}");
        assert!(down.len() == 7 && down[0].contains(last), "-{key}: {down:?}");
        assert_eq!(rows(&format!("{key} --limit 3")).len(), 3, "{key}");
    }
    for (key, counts) in [
        ("protocol", "3 tcp\n2 udp\n1 icmp\n1 gre\n"),
        ("port", "2 -\n1 53\n1 80\n1 443\n1 8001\n1 8050\n"),
        ("state", "4 -\n1 CLOSE\n1 ESTABLISHED\n1 SYN_SENT\n"),
        ("zone", "6 0\n1 5\n"),
        ("mark", "5 0\n1 1\n1 2\n"),
        ("source --limit 1", "2 192.0.2.1\n"),
        ("destination --limit 1", "2 198.51.100.1\n"),
    ] {
        let seen = run(&bench, &format!("-L --count-by {key}"));
        assert_eq!(seen.stdout, counts, "{key}");
    }
}

#[test]
fn a_file_of_conditions() {
    need_root!();
    let bench = Bench::new();
    let seen = bench.run(&json!({
        "files": { "$D/f": "# web and names\n-p tcp --dport 80\n-p udp --dport 53\n" },
        "setup": TABLE,
        "argv": ["-D", "--filter-file", "$D/f"],
        "after": ["$CT -C"],
    }));
    assert_eq!((seen.exit, seen.after.trim()), (0, "5"), "{seen:?}");
}

/// It would be one that all flows meet.
#[test]
fn a_line_without_a_condition_is_refused() {
    need_root!();
    let bench = Bench::new();
    for line in ["conntrack", "expect", "d", "--", "-a 5", "-M /dev/null"] {
        let seen = bench.run(&json!({
            "files": { "$D/f": format!("-p udp\n{line}\n") },
            "setup": TABLE,
            "argv": ["-D", "--filter-file", "$D/f"],
            "after": ["$CT -C"],
        }));
        assert_eq!((seen.exit, seen.after.trim()), (2, "7"), "{line}: {seen:?}");
        assert!(seen.stderr.contains("only options that match entries go here"), "{seen:?}");
    }
}

/// Long files are read ahead, in pieces.
#[test]
fn a_bad_line_of_a_long_file_is_named_and_nothing_is_done() {
    need_root!();
    let bench = Bench::new();
    let line = |n: u32| {
        format!("-A -p udp -s 10.0.0.{} -d 10.1.0.1 --sport {n} --dport 5 -t 60\n", n % 250)
    };
    let good: String = (1..9000).map(line).collect();
    for (bad, said) in [
        ("-A --bogus".to_owned(), "unknown option `--bogus'"),
        (format!("-A {}", "w".repeat(1024)), "Parameter too long!"),
    ] {
        let seen = bench.run(&json!({
            "files": { "$D/f": format!("{good}{bad}\n{good}") },
            "argv": ["-R", "$D/f"],
            "after": ["$CT -C"],
        }));
        let (place, text) = seen.stderr.split_once('\n').unwrap();
        assert!(place.ends_with("line 9000 of $D/f:"), "{seen:?}");
        assert!(text.contains(said), "{seen:?}");
        assert_eq!((seen.exit, seen.after.trim()), (2, "0"));
    }
}

/// Lines that tell whole tuples do not read the table: thousands of them, between others, would
/// take minutes. They find flows of all zones, also of one that the file makes.
#[test]
fn lines_with_whole_tuples_find_flows_of_all_zones() {
    need_root!();
    let bench = Bench::new();
    let tuple =
        |n: u32| format!("-p udp -s 10.0.{}.{} -d 10.1.0.1 --sport 6 --dport 5", n / 250, n % 250);
    let lines = |from, to, word: &str, options: &str| -> String {
        (from..to).map(|n| format!("{word} {} {options}\n", tuple(n))).collect()
    };
    let made = lines(0, 8000, "-A", "-t 600 -u SEEN_REPLY") + &lines(0, 1, "-A", "-t 600 -w 3");
    let interleaved: String = (0..4000)
        .map(|n| format!("-D {0}\n-A {0} -t 300 -w 7\n-U {0} -m 9\n-D {0} -w 7\n", tuple(n)))
        .collect();
    let rest = lines(4000, 7999, "-D", "")
        // Nothing of these is so.
        + &lines(7999, 8000, "-D", "-u ASSURED")
        + &lines(7999, 8000, "-D", "-w 3")
        + &lines(7999, 8000, "-D", "-f ipv4 ! -m 0");
    let seen = bench.run(&json!({
        "files": { "$D/made": made, "$D/f": interleaved + &rest },
        "setup": [format!("{} -R $D/made", bench.program_path())],
        "argv": ["-R", "$D/f"],
        "after": ["$CT -L -o save 2>/dev/null"],
    }));
    assert_eq!((seen.exit, seen.stderr.as_str()), (0, ""));
    let count = |what: &[&str]| {
        seen.stdout.lines().filter(|l| what.iter().all(|what| l.contains(what))).count()
    };
    // Of the first there is one in another zone as well, which is removed with it.
    assert_eq!(count(&["mark=0 zone=3 "]), 1);
    assert_eq!(count(&["mark=9 zone=7 use=2"]), 4000);
    assert_eq!(count(&["mark=9 zone=7 use=1"]), 4000);
    assert_eq!(seen.stdout.lines().count(), 4000 + 1 + 8000 + 3999);
    assert_eq!(seen.after.lines().count(), 1, "{}", seen.after);
    assert!(seen.after.contains("-s 10.0.31.249 "), "{}", seen.after);
}

#[test]
fn saved_tables_load_as_they_were() {
    need_root!();
    let bench = Bench::new();
    let program = bench.program_path();
    let list = "-L 2>/dev/null | sed 's/ [0-9]* src/ src/; s/  *[0-9]* [A-Z_]* src/ src/; s/ [0-9]* src/ src/' | sort";
    let seen = bench.run(&json!({
        "setup": TABLE,
        "argv": ["-L", "-o", "save"],
        "after": [
            format!("$CT {list} > before; $CT -F 2>/dev/null; {program} -R .out; $CT {list} > after; wc -l < after; diff before after"),
        ],
    }));
    assert_eq!(seen.after.trim(), "7", "{seen:?}");
}

#[test]
fn a_snapshot_and_then_the_events() {
    need_root!();
    let bench = Bench::new();
    let seen = bench.run(&json!({
        "setup": TABLE,
        "argv": ["-E", "--snapshot", "-e", "DESTROY"],
        "during": ["$CT -D -p udp -f ipv6"],
        "signal": "INT",
    }));
    assert_eq!(seen.exit, 0, "{seen:?}");
    assert_eq!(seen.stdout.lines().count(), 8, "{seen:?}");
    assert!(seen.stdout.lines().last().unwrap().starts_with("[DESTROY] udp"), "{seen:?}");
    assert!(seen.stderr.ends_with("1 flow events have been shown.\n"), "{seen:?}");
}

/// Who asks for labels by name sees them, without -o labels.
#[test]
fn labels_that_are_asked_for_are_shown() {
    need_root!();
    let bench = Bench::new();
    let tuple = "-p udp -s 192.0.2.10 -d 198.51.100.53 --sport 5353 --dport 53";
    let make = format!("$CT -A {tuple} -t 400 --label-add bulk");
    for line in [
        "-L -l bulk".to_owned(),
        "-L -l bulk -o id".to_owned(),
        "-L -l bulk -o xml".to_owned(),
        format!("-G {tuple} -l bulk"),
        "-U -f ipv4 -l bulk -m 5".to_owned(),
        // What has none is not changed and not told.
        "-U -f ipv4 --label-del".to_owned(),
        "-D -l bulk".to_owned(),
    ] {
        let by = |program: &str| {
            let seen = bench.run(&json!({
                "files": { "/etc/xtables/connlabel.conf": "2 bulk\n" },
                "setup": [
                    "nft add table ip l".to_owned(),
                    "nft add chain ip l c \"{ type filter hook output priority 0; }\"".to_owned(),
                    "nft add rule ip l c ct label set 127".to_owned(),
                    make,
                    "$CT -I -p udp -s 192.0.2.11 -d 198.51.100.53 --sport 5353 --dport 53 -t 400".to_owned(),
                ],
                "argv": ["-V"],
                "after": [format!("{program} {line} 2>/dev/null | sed -E 's/id.[0-9]+/ID/; s/17 [0-9]+/17/; s/out.[0-9]+/OUT/'")],
            }));
            seen.after
        };
        let theirs = by("$CT");
        let has = !line.starts_with("-D") && !line.ends_with("-del");
        assert_eq!(theirs.contains("labels"), has, "{line}: {theirs}");
        assert_eq!(by(&bench.program_path()), theirs, "{line}");
    }
}

/// What is said of a line with two faults is what the original says first.
#[test]
fn the_first_of_two_faults_is_told() {
    need_root!();
    let bench = Bench::new();
    let seen = run(&bench, "-L -z --mask-dst 255.0.0.0 -p tcp");
    assert!(seen.stderr.contains("Can't use -z with filtering parameters"), "{seen:?}");
    for part in ["--limit 1", "--sort id --limit 1", "--count-by mark"] {
        let seen = run(&bench, &format!("-L -z {part}"));
        assert!(seen.stderr.contains("Can't use -z with filtering parameters"), "{seen:?}");
    }
    let seen = run(&bench, "-E -b 100000 --mask-dst 255.0.0.0");
    let mut lines = seen.stderr.lines();
    let told = |line: Option<&str>, text| line.is_some_and(|line| line.contains(text));
    assert!(told(lines.next(), "NOTICE: Netlink socket buffer size"), "{seen:?}");
    assert!(told(lines.next(), "Can't use --mask-dst without --dst"), "{seen:?}");
    for (line, told) in [
        ("-L -D foo", "unknown type `foo'"),
        ("-D -E dying", "Can't do that command with tables"),
        ("-L -A expect", "Can't do --add on expectations"),
        ("-L dying -D", "Invalid commands combination"),
        ("-L expect -A", "Invalid commands combination"),
    ] {
        let seen = run(&bench, line);
        assert!(seen.exit == 2 && seen.stderr.contains(told), "{line}: {seen:?}");
    }
    // All lines of a file are read before it is said that one of them has no place there.
    let seen = bench.run(&json!({
        "files": { "$D/f": "-L\n-D -s foo\n" },
        "argv": ["-R", "$D/f"],
    }));
    assert!(seen.exit == 2 && seen.stderr.contains("Invalid IP address `foo'"), "{seen:?}");
    // A line of nothing but operands has no command whose name could be told.
    let seen = bench.run(&json!({ "files": { "$D/f": "foo\n" }, "argv": ["-R", "$D/f"] }));
    let told = seen.stderr.contains("Cannot use command `unknown' with --load-file");
    assert!(seen.exit == 2 && told, "{seen:?}");
}

/// What can not be done with the main table is passed over where it has no meaning.
#[test]
fn other_tables_are_not_particular() {
    need_root!();
    let bench = Bench::new();
    for table in ["dying", "unconfirmed"] {
        for options in ["--mask-src 255.0.0.0", "--mask-dst ffff::", "-u UNSET", "-z -p tcp"] {
            let seen = run(&bench, &format!("-L {table} {options}"));
            let told = seen.stderr.ends_with(": 0 flow entries have been shown.\n");
            assert!(seen.exit == 0 && told, "{table} {options}: {seen:?}");
        }
    }
}

#[test]
fn bad_values_are_named() {
    need_root!();
    let bench = Bench::new();
    for (line, said) in [
        ("-L -p tcp --sport http", "unexpected value 'http' with --sport option"),
        ("-L --limit x", "unexpected value 'x' with --limit option"),
        ("-L --sort color", "unexpected value 'color' with --sort option"),
        ("-U -t soon", "unexpected value 'soon' with -t option"),
        ("-L -p tcp --dport 9-8", "unexpected value '9-8' with --dport option"),
    ] {
        let seen = run(&bench, line);
        assert_eq!(seen.exit, 1, "{line}: {seen:?}");
        assert!(seen.stderr.trim_end().ends_with(said), "{line}: {seen:?}");
    }
}

/// Whatever would not be done is refused: nothing is passed over in silence.
#[test]
fn nothing_is_passed_over() {
    need_root!();
    let bench = Bench::new();
    let misplaced = "`!' stands in front of options that match entries";
    let once = "an option with `!' can only be given once";
    for (line, exit, said) in [
        ("-D !", 2, misplaced),
        ("-D ! ! -p tcp", 2, misplaced),
        ("-D ! x -p tcp", 2, misplaced),
        ("-D ! -F", 2, misplaced),
        ("-D ! -o id", 2, misplaced),
        ("-D ! -s 192.0.2.1 -s 192.0.2.2", 2, once),
        ("-D -m 1 ! -m 2", 2, once),
        ("-D -p tcp ! --dport 80 ! --dport 443", 2, once),
        ("-U ! -t 5", 2, "`!' does not go with what `-U' sets"),
        ("-U -p tcp ! --state CLOSE", 2, "`!' does not go with what `-U' sets"),
        ("-L --count-by source --sort bytes", 2, "`--sort' does not go with `--count-by'"),
        ("-L --count-by source -o xml", 2, "only `-o json' goes with `--count-by'"),
        ("-L --count-by source -o json,id", 2, "only `-o json' goes with `--count-by'"),
        // Such a file opens, and fails when it is read.
        ("-R /proc/self/mem", 1, "can't read further: Input/output error"),
        ("-D --filter-file /proc/self/mem", 1, "can't read further: Input/output error"),
    ] {
        let seen = run(&bench, line);
        assert_eq!((seen.exit, seen.after.trim()), (exit, "7"), "{line}: {seen:?}");
        assert!(seen.stderr.contains(said), "{line}: {seen:?}");
    }
}

/// Each line of the manual's examples ends well, one after the other in one namespace.
#[test]
fn the_examples_of_the_manual() {
    need_root!();
    let bench = Bench::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/conntrack/conntrack.8");
    let manual = std::fs::read_to_string(path).unwrap().replace("\\-", "-");
    let (_, examples) = manual.split_once(".EX\n").unwrap();
    let (examples, _) = examples.split_once(".EE").unwrap();
    let program = bench.program_path();
    let lines: Vec<String> = examples
        .lines()
        .map(|l| {
            l.replacen("conntrack", &program, 1)
                + " >/dev/null 2>.said || { echo failed: $?; cat .said; }"
        })
        .collect();
    assert!(lines.len() > 10);
    let seen = bench.run(&json!({ "argv": ["-V"], "after": lines }));
    assert_eq!(seen.after, "", "{seen:?}");
}

#[test]
fn the_usage_says_whose_program_it_is() {
    need_root!();
    let bench = Bench::new();
    for line in ["-h", "--help", "--help=D", "-h -p tcp"] {
        let seen = run(&bench, line);
        assert_eq!(seen.exit, 0, "{line}: {seen:?}");
        assert!(seen.stdout.contains("\nshardtrack's program"), "{line}: {seen:?}");
    }
}
