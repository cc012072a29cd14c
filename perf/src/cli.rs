//! The command lines of both makes, in turns on the same table.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::TableSize;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{BASE_RULES, Make};

use crate::{Options, report};

/// What is measured: a name, and the command line. Ours alone knows the last ones.
const LISTINGS: [(&str, &str); 6] = [
    ("-L", "-L"),
    ("-L -o extended", "-L -o extended"),
    ("-L -o xml", "-L -o xml"),
    ("-L -o save", "-L -o save"),
    ("-L of one port", "-L -f ipv4 -p udp --dport 53"),
    ("-L of one mark", "-L -m 77"),
];

/// Wall time and CPU time in user mode, in seconds.
type Spent = [f64; 2];

/// Measures all rounds and prints the medians.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let _size = TableSize::at_least(u64::from(options.flows) + 1000)?;
    let directory = std::env::temp_dir().join(format!("shardtrack-cli-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let result = measure(options, &directory);
    std::fs::remove_dir_all(&directory)?;
    let text = result?;
    println!("{text}");
    if options.record { report::append(&text) } else { Ok(()) }
}

fn measure(options: &Options, directory: &Path) -> io::Result<String> {
    let ns = Netns::new("cli");
    ns.nft(BASE_RULES);
    let mut kernel = Kernel::of(&ns);
    kernel.create(&plain(0, options.flows));
    let saved = directory.join("saved");
    time(&ns, Make::Ours, "-L -o save", &saved)?;
    let saved = saved.to_string_lossy().into_owned();
    let out = directory.join("out");
    let mut rows: Vec<(String, [Vec<Spent>; 2])> = Vec::new();
    let mut note = |name: &str, make: Make, spent: Spent| {
        let at = rows.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
            rows.push((name.to_owned(), Default::default()));
            rows.len() - 1
        });
        rows[at].1[usize::from(make == Make::Ours)].push(spent);
    };
    for _ in 0..options.rounds {
        for (name, line) in LISTINGS {
            for make in [Make::Original, Make::Ours] {
                note(name, make, time(&ns, make, line, &out)?);
            }
        }
        for make in [Make::Original, Make::Ours] {
            note("-D", make, time(&ns, make, "-D -f ipv4", &out)?);
            kernel.flush();
            note("-R", make, time(&ns, make, &format!("-R {saved}"), &out)?);
        }
    }
    kernel.flush();
    Ok(table(options, &rows))
}

fn table(options: &Options, rows: &[(String, [Vec<Spent>; 2])]) -> String {
    let mut text = format!(
        "## conntrack, {} flows, medians of {}\n\n\
         | command | original, s | ours, s | ratio | original, user s | ours, user s |\n\
         |---|---|---|---|---|---|\n",
        options.flows, options.rounds
    );
    for (name, spent) in rows {
        let median = |make: usize, which: usize| {
            let mut all: Vec<f64> = spent[make].iter().map(|s| s[which]).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let [theirs, ours] = [median(0, 0), median(1, 0)];
        let ratio = ours / theirs;
        let [their_user, our_user] = [median(0, 1), median(1, 1)];
        let _ = writeln!(
            text,
            "| `{name}` | {theirs:.2} | {ours:.2} | {ratio:.2} | {their_user:.2} | {our_user:.2} |"
        );
    }
    text
}

/// Runs a command line with its output in a file. The shell keeps the time.
fn time(ns: &Netns, make: Make, line: &str, out: &Path) -> io::Result<Spent> {
    let program = make.program("conntrack");
    let script = format!(
        "TIMEFORMAT='%3R %3U'; time {} {line} >{} 2>/dev/null",
        program.display(),
        out.display()
    );
    let output = ns.command("bash").args(["-c", &script]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    numbers[..].try_into().map_err(|_| io::Error::other(format!("{}: {said}", program.display())))
}
