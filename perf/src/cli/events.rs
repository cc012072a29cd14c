//! `-E` while flows are made at a high rate.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use proto_ctnl::Flow;
use shardtrack_tests::cond::{settle, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

use super::MAKES;
use super::spent::{command, watch};
use super::table::PEAK_MAX;
use crate::report::verdict;

/// Events per second.
const RATE: u32 = 100_000;
/// Events of one run.
const COUNT: u32 = 300_000;

/// Flows that begin while a snapshot is taken.
pub(super) const BEGINNING: u32 = 100_000;

/// What one round showed.
pub(super) struct Round {
    /// Events that were lost, by make.
    lost: [u64; 2],
    /// Memory of ours at its peak, in MiB.
    peak: f64,
    /// The same of a snapshot.
    snapshot: f64,
    /// Flows of the snapshot.
    flows: usize,
}

/// Measures both makes, and a snapshot of the flows.
pub(super) fn round(ns: &Netns, flows: &[Flow], out: &Path) -> io::Result<Round> {
    let (mut lost, mut peak) = ([0; 2], 0.0);
    for (make, lost) in MAKES.into_iter().zip(&mut lost) {
        let shown = followed(ns, make, "-E -e NEW", out, |kernel| {
            kernel.create_at(&plain(0, COUNT), RATE);
        })?;
        *lost = u64::from(COUNT) - shown.lines;
        peak = shown.peak;
    }
    Kernel::of(ns).create(flows);
    let shown = followed(ns, Make::Ours, "-E --snapshot", out, |kernel| {
        kernel.create_at(&plain(flows.len() as u32, BEGINNING), RATE);
    })?;
    let wanted = flows.len() as u64 + u64::from(BEGINNING);
    if shown.lines != wanted {
        let text = format!("a snapshot and events of {wanted} flows have {} lines", shown.lines);
        return Err(io::Error::other(text));
    }
    Ok(Round { lost, peak, snapshot: shown.peak, flows: flows.len() })
}

/// What a command that follows events has printed, and its memory.
struct Shown {
    lines: u64,
    peak: f64,
}

/// Runs a command line beside work that makes events, and empties the table.
fn followed(
    ns: &Netns,
    make: Make,
    line: &str,
    out: &Path,
    work: impl FnOnce(&mut Kernel),
) -> io::Result<Shown> {
    let mut kernel = Kernel::of(ns);
    let mut child = command(ns, make, line, out)?.spawn()?;
    let peak = watch(&child);
    // Its socket is among those that have joined a group.
    let listens = || ns.run("cat /proc/net/netlink").lines().skip(1).any(is_listener);
    wait_until(Duration::from_secs(10), "the command listens", listens);
    work(&mut kernel);
    // What waits in the socket is shown yet, and what the table still has.
    settle(Duration::from_secs(60), Duration::from_secs(1), || {
        std::fs::metadata(out).map_or(0, |file| file.len())
    });
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    child.wait()?;
    let peak = peak.finish();
    kernel.flush();
    Ok(Shown { lines: BufReader::new(File::open(out)?).split(b'\n').count() as u64, peak })
}

/// Whether a line is about a netfilter socket with groups.
fn is_listener(line: &str) -> bool {
    let mut columns = line.split_whitespace().skip(1);
    columns.next() == Some("12")
        && columns.nth(1).is_some_and(|groups| !groups.starts_with("00000000"))
}

/// What all rounds showed.
pub(super) fn text(rounds: &[Round]) -> String {
    let Some(last) = rounds.last() else { return String::new() };
    let all = |make: usize| rounds.iter().map(|round| round.lost[make]).sum::<u64>();
    let highest = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let (peak, snapshot) = (highest(|r| r.peak), highest(|r| r.snapshot));
    format!(
        "\n`-E -e NEW`, default buffer, {COUNT} events at {RATE}/s: the original loses {} in all rounds, \
         ours {}; memory of ours at its peak {peak:.1} MiB.\n\n`-E --snapshot` of {} flows while \
         {BEGINNING} others begin at {RATE}/s: every flow once; memory at its peak {snapshot:.1} MiB \
         (wanted {PEAK_MAX}: {}).\n",
        all(0),
        all(1),
        last.flows,
        verdict(peak.max(snapshot) <= PEAK_MAX)
    )
}
