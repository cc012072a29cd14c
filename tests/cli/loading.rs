//! Files with a line that the kernel refuses.

use serde_json::json;
use shardtrack_tests::need_root;

use crate::script::Bench;

fn line(word: &str, number: u32, options: &str) -> String {
    format!("{word} -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {number} --dport 7 {options}\n")
}

/// In files of this length many requests go together, which the kernel works off all the same.
#[test]
fn nothing_behind_a_refused_line_is_done() {
    need_root!();
    let bench = Bench::new();
    // Every twentieth flow exists.
    let there: String = (20..=400).step_by(20).map(|n| line("-A", n, "-t 600 -m 1")).collect();
    let busy = line("-A", 1000, "-t 60 -u EXPECTED");
    for (bad, said) in [
        (line("-I", 100, "-t 60"), "Such conntrack exists, try -U to update"),
        (busy.clone(), "Device or resource busy"),
        // It exists, and only the change is refused.
        (line("-A", 20, "-t 60 -u EXPECTED"), "Device or resource busy"),
        // One more behind the first changes nothing.
        (busy.clone() + &busy, "Device or resource busy"),
    ] {
        let made = |from, to| -> String {
            let line = |n| line(if n % 20 == 0 { "-A" } else { "-I" }, n, "-t 60 -m 2");
            (from..to).map(line).collect()
        };
        let seen = bench.run(&json!({
            "files": { "$D/there": there, "$D/f": made(1, 200) + &bad + &made(200, 401) },
            "setup": [format!("{} -R $D/there", bench.program_path())],
            "argv": ["-R", "$D/f"],
            "after": ["$CT -L 2>/dev/null | sed -E 's/.* dport=([0-9]+) .*mark=([0-9]) .*/\\1 \\2/' | sort -n"],
        }));
        assert_eq!((seen.exit, seen.stdout.as_str()), (1, ""), "{bad}");
        let lines: Vec<&str> = seen.stderr.lines().collect();
        assert!(lines.len() == 2 && lines[0].ends_with(": line 200:"), "{bad}: {lines:?}");
        assert!(lines[1].ends_with(&format!("Operation failed: {said}")), "{bad}: {lines:?}");
        let expected: String = (1..=400)
            .filter(|n| *n < 200 || n % 20 == 0)
            .map(|n| format!("{n} {}\n", if n < 200 { 2 } else { 1 }))
            .collect();
        assert_eq!(seen.after, expected, "{bad}");
    }
}

/// Where most flows exist, they are changed together.
#[test]
fn changes_behind_a_refused_one_are_told() {
    need_root!();
    let bench = Bench::new();
    let lines = |mark: u32| -> String {
        (1..=400).map(|n| line("-A", n, &format!("-t 600 -m {mark}"))).collect()
    };
    let bad = line("-A", 20, "-t 60 -u EXPECTED");
    let made = line("-A", 999, "-t 600 -m 2");
    let seen = bench.run(&json!({
        "files": { "$D/there": lines(1), "$D/f": lines(2) + &bad + &made + &lines(3) },
        "setup": [format!("{} -R $D/there", bench.program_path())],
        "argv": ["-R", "$D/f"],
        "after": ["$CT -L 2>/dev/null | grep -o mark=. | sort | uniq -c"],
    }));
    let lines: Vec<&str> = seen.stderr.lines().collect();
    assert_eq!((seen.exit, lines.len()), (1, 3), "{seen:?}");
    assert!(lines[0].ends_with(": line 401:"), "{lines:?}");
    let told = lines[1].strip_suffix(" lines behind it are done all the same");
    let told: usize = told.and_then(|l| l.rsplit_once(' ')?.1.parse().ok()).expect("a number");
    // What did not exist is not there.
    let counts: Vec<usize> =
        seen.after.split_whitespace().step_by(2).map(|n| n.parse().expect("a number")).collect();
    assert_eq!(counts, [400 - told, told], "{seen:?}");
    assert!(told > 0 && told < 256, "{told}");
    assert!(lines[2].ends_with("Operation failed: Device or resource busy"), "{lines:?}");
}

/// What makes no flow tells the number of its line as well.
#[test]
fn any_refused_line_of_a_long_file_is_named() {
    need_root!();
    let bench = Bench::new();
    let many: String = (1..=150).map(|n| line("-A", n, "-t 60")).collect();
    for bad in [
        "-D --mask-src 255.0.0.0".to_owned(),
        "-I -p icmp --icmp-type 3 --icmp-code 0 -s 10.0.0.1 -d 10.0.0.2 -t 60".to_owned(),
    ] {
        let seen = bench.run(&json!({
            "files": { "$D/f": format!("{many}{bad}\n{many}") },
            "argv": ["-R", "$D/f"],
            "after": ["$CT -C"],
        }));
        assert_ne!(seen.exit, 0, "{bad}");
        assert!(seen.stderr.lines().next().is_some_and(|l| l.ends_with(": line 151:")), "{seen:?}");
        assert_eq!(seen.after.trim(), "150", "{bad}");
    }
}

/// The original ends the line there and says nothing.
#[test]
fn a_line_with_a_nul_octet_is_named_and_nothing_is_done() {
    need_root!();
    let bench = Bench::new();
    let bad = line("-A", 2, "-t 60 \0 -m 5");
    let all = line("-A", 1, "-t 60") + "# \0\n" + &bad + &line("-A", 3, "-t 60");
    let seen = bench.run(&json!({
        "files": { "$D/f": all },
        "argv": ["-R", "$D/f"],
        "after": ["$CT -C"],
    }));
    assert_eq!((seen.exit, seen.stdout.as_str(), seen.after.trim()), (1, "", "0"), "{seen:?}");
    assert!(seen.stderr.ends_with(": line 3 has a NUL octet\n"), "{seen:?}");
    assert_eq!(seen.stderr.lines().count(), 1, "{seen:?}");
}
