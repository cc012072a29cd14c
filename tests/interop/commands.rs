//! Every command, given to a pair of ours and to a pair of originals with the same flows: the
//! answers are the same to the byte, apart from the figures, and so is the success.

use std::time::Duration;

use regex::Regex;
use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::{Without, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair};

const LIMIT: Duration = Duration::from_secs(20);
const FLOWS: u32 = 60;

/// What changes nothing.
const READ: &[&str] = &[
    "-s",
    "-s network",
    "-s cache",
    "-s runtime",
    "-s link",
    "-s queue",
    "-s process",
    "-s ct",
    "-s expect",
    "-s multicast",
    "-s rs",
    "-s n",
    "-i",
    "-i ct",
    "-i expect",
    "-i -x",
    "-i ct -x",
    "-i expect -x",
    "-e",
    "-e ct",
    "-e expect",
    "-e -x",
    "-e ct -x",
    "-e expect -x",
];
/// What does, and what is read again after it.
const CHANGE: &[&str] = &[
    "-n",
    "-B",
    "-R",
    "-R ct",
    "-R expect",
    "-c",
    "-c ct",
    "-c expect",
    "-t",
    "-t",
    "-f",
    "-f internal",
    "-f external",
    "-F ct",
    "-F expect",
    "-F",
    "-s",
    "-s cache",
    "-s queue",
];

/// The lines of an answer without order and figures: a column keeps its width, other numbers do
/// not.
fn shape(answer: &str) -> Vec<String> {
    let number = Regex::new(r" *\d+").expect("an expression");
    let mut lines: Vec<_> = answer
        .lines()
        // Which messages wait for an acknowledgement is a matter of the moment.
        .filter(|line| !line.contains(" -> seq:"))
        .map(|line| {
            let masked = number.replace_all(line, |found: &regex::Captures<'_>| {
                let width = found[0].len();
                if width < 12 { "N".to_owned() } else { "#".repeat(width) }
            });
            masked.into_owned()
        })
        .collect();
    lines.sort();
    lines
}

fn answers(node: &Node, commands: &[&str]) -> Vec<(String, Vec<String>)> {
    let ask = |line: &&str| {
        let words: Vec<_> = line.split(' ').collect();
        (format!("{line} at node {}", node.index), shape(&node.client(&words)))
    };
    commands.iter().map(ask).collect()
}

fn all_answers(make: Make, mode: Mode, link: Link) -> Vec<(String, Vec<String>)> {
    let pair = Pair::running(make, make, mode, link);
    for node in [&pair.a, &pair.b] {
        wait_until(LIMIT, "the kernel has told of the carrier", || {
            node.request(31).unwrap_or_default().contains("status=RUNNING")
        });
    }
    let mixture = mixture(FLOWS, Without::default());
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create_at(&mixture.flows, 2000);
    kernel.expect(&mixture.expectations);
    let flows = mixture.flows.len() as u64;
    wait_equal(LIMIT, "flows of the sender", &flows, || pair.a.cached(true));
    wait_equal(LIMIT, "flows of the receiver", &flows, || pair.b.cached(false));
    let expectations = mixture.expectations.len();
    wait_equal(LIMIT, "expectations of the receiver", &expectations, || {
        pair.b.client(&["-e", "expect"]).lines().count()
    });
    let mut all = answers(&pair.a, READ);
    all.extend(answers(&pair.b, READ));
    all.extend(answers(&pair.b, CHANGE));
    all
}

fn answers_alike(ours: Make, original: Make, mode: Mode, link: Link) {
    let (ours, original) = (all_answers(ours, mode, link), all_answers(original, mode, link));
    for (ours, original) in ours.iter().zip(&original) {
        assert_eq!(ours, original, "ours, the original");
    }
    assert_eq!(ours.len(), 2 * READ.len() + CHANGE.len());
}

cases! {
    answers_alike;
    ours_answers_as_the_original_ftfw: Ours to Original, Ftfw over Udp;
    ours_answers_as_the_original_notrack: Ours to Original, Notrack over Multicast;
    ours_answers_as_the_original_alarm: Ours to Original, Alarm over Udp;
}
