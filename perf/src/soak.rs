//! A pair of ours under steady change for as long as it is wanted.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use shardtrack_tests::churn::ALIVE;
use shardtrack_tests::soak::{GROWTH_MAX, Outcome};

use crate::{Options, report};

/// Events per second.
const RATE: u32 = 20_000;

/// Runs it, and fails with what it found to be wrong.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let rate = options.rate.unwrap_or(RATE);
    let seconds = options.seconds;
    let outcome = Outcome::of(options.mode, Duration::from_secs(seconds.into()), rate);
    let mode = format!("{:?}", options.mode).to_lowercase();
    let kib = |bytes: [u64; 2]| bytes.map(|bytes| bytes / 1024);
    let ([sender, receiver], [sender_end, receiver_end]) = (kib(outcome.warm), kib(outcome.last));
    let mut text = format!(
        "## Soak: {mode}, {rate} events per second for {seconds} s\n\n\
         `shardtrack-perf soak --mode {mode} --seconds {seconds} --rate {rate}`: {} flows began, \
         changed and ended, {} events per second in fact, 20,000 flows alive at a time.\n\n\
         | | sender | receiver |\n|---|---|---|\n\
         | resident after the first minute, KiB | {sender} | {receiver} |\n\
         | resident at the end, KiB (at most {} more) | {sender_end} | {receiver_end} |\n\n",
        outcome.flows,
        // The last ones are alive.
        (3 * outcome.flows).saturating_sub(ALIVE.into()) / u64::from(seconds.max(1)),
        GROWTH_MAX / 1024,
    );
    let tables = if outcome.apart.is_none() { "equal" } else { "**different**" };
    let _ = writeln!(
        text,
        "Tables at the end: {tables}. Error lines: {}. Losses of events: {}.",
        outcome.errors.len(),
        outcome.overruns
    );
    println!("{text}");
    if options.record {
        report::append(&text)?;
    }
    let faults = outcome.faults();
    if faults.is_empty() { Ok(()) } else { Err(io::Error::other(faults)) }
}
