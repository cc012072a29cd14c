//! `-E` while flows are made at a high rate.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use shardtrack_tests::cond::wait_until;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

use super::MAKES;
use super::spent::command;

/// Events per second.
const RATE: u32 = 100_000;
/// Events of one run.
const COUNT: u32 = 300_000;

/// Events that were lost, by make, in one round.
pub(super) fn round(ns: &Netns, out: &Path) -> io::Result<[u64; 2]> {
    let mut lost = [0; 2];
    for (make, lost) in MAKES.into_iter().zip(&mut lost) {
        *lost = u64::from(COUNT) - shown(ns, make, out)?;
    }
    Ok(lost)
}

fn shown(ns: &Netns, make: Make, out: &Path) -> io::Result<u64> {
    let flows = plain(0, COUNT);
    let mut kernel = Kernel::of(ns);
    let mut child = command(ns, make, "-E -e NEW", out)?.spawn()?;
    // Its socket is among those that have joined a group.
    let listens = || ns.run("cat /proc/net/netlink").lines().skip(1).any(is_listener);
    wait_until(Duration::from_secs(10), "the command listens", listens);
    kernel.create_at(&flows, RATE);
    // What waits in the socket is shown yet.
    sleep(Duration::from_secs(1));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    child.wait()?;
    kernel.flush();
    Ok(BufReader::new(File::open(out)?).split(b'\n').count() as u64)
}

/// Whether a line is about a netfilter socket with groups.
fn is_listener(line: &str) -> bool {
    let mut columns = line.split_whitespace().skip(1);
    columns.next() == Some("12")
        && columns.nth(1).is_some_and(|groups| !groups.starts_with("00000000"))
}

/// The losses of all rounds.
pub(super) fn text(losses: &[[u64; 2]]) -> String {
    if losses.is_empty() {
        return String::new();
    }
    let all = |make: usize| losses.iter().map(|lost| lost[make]).sum::<u64>();
    format!(
        "\n`-E -e NEW`, default buffer, {COUNT} events at {RATE}/s: the original loses {} in all rounds, \
         ours {}.\n",
        all(0),
        all(1)
    )
}
