//! What was measured, as text for people and for `perf/RESULTS.md`.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HEADING: &str = "# Results\n\n\
    Written by `make perf`. A round starts two nodes of a make in namespaces of their own, joined by \
    one link. CPU times are those of the whole process, all threads, as the scheduler accounts for \
    them. Absolute figures vary with the machine and what else it does; ratios within one run are \
    what counts.\n";

/// What one run of a pair gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// CPU time of the active node per event, in microseconds.
    pub(crate) active: f64,
    /// CPU time of the backup per state received, in microseconds.
    pub(crate) backup: f64,
    /// Resident memory of the backup per flow, in bytes.
    pub(crate) memory: f64,
    /// Time of the commit, in seconds.
    pub(crate) commit: f64,
    /// Time until both nodes know flows that were created as fast as possible, in seconds.
    pub(crate) flood: f64,
    /// How often events were lost: at the steady rate, during the commit, in the flood.
    pub(crate) overruns: [u64; 3],
}

impl Figures {
    /// The median of each figure; all overruns.
    pub(crate) fn median(all: &[Self]) -> Self {
        let middle = |figure: fn(&Self) -> f64| middle(all.iter().map(figure).collect());
        Self {
            active: middle(|f| f.active),
            backup: middle(|f| f.backup),
            memory: middle(|f| f.memory),
            commit: middle(|f| f.commit),
            flood: middle(|f| f.flood),
            overruns: std::array::from_fn(|k| all.iter().map(|f| f.overruns[k]).sum()),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "active {:.2} us/event, backup {:.2} us/state, {:.0} bytes/flow, commit {:.3} s, \
             flood {:.1} s, overruns {:?}",
            self.active, self.backup, self.memory, self.commit, self.flood, self.overruns
        )
    }
}

/// The median of some times.
pub(crate) fn median(times: Vec<Duration>) -> f64 {
    middle(times.iter().map(Duration::as_secs_f64).collect())
}

/// The median of some values; NaN of none.
pub(crate) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What was compared.
pub(crate) struct Comparison {
    /// Flows of a round.
    pub(crate) flows: u32,
    /// New flows per second while CPU time is measured.
    pub(crate) rate: u32,
    /// Rounds.
    pub(crate) rounds: u32,
    /// `HashSize` of both.
    pub(crate) hash_size: u32,
    /// Medians of the original.
    pub(crate) original: Figures,
    /// Medians of ours.
    pub(crate) ours: Figures,
    /// Times of the bare loop, in seconds: without a listener for events, and with one.
    pub(crate) floors: [f64; 2],
}

impl Comparison {
    /// The record of the comparison; what is not as it should be is marked.
    pub(crate) fn text(&self) -> String {
        let Self { flows, rate, rounds, hash_size, original, ours, floors } = self;
        let [silent, listened] = floors;
        let mut text = format!(
            "## {}: {flows} IPv4 TCP flows, FTFW over UDP, default shards\n\n\
             `shardtrack-perf compare --flows {flows} --rate {rate} --rounds {rounds} --hash-size {hash_size} --record`; \
             {}. Medians of {rounds} rounds, in which original, ours and bare loop take turns.\n\n\
             | | original | ours | ratio | wanted | |\n|---|---|---|---|---|---|\n",
            date(),
            machine()
        );
        let third = 1.0 / 3.0;
        text += &row("active: CPU per NEW event, us", original.active, ours.active, third);
        text += &row("backup: CPU per state received, us", original.backup, ours.backup, third);
        text += &row("commit, s", original.commit, ours.commit, 0.25);
        text += &row("bare loop with events raised, and commit, s", *listened, ours.commit, 1.3);
        text += &row("bare loop without any listener, and commit, s", *silent, ours.commit, 1.3);
        text += &format!(
            "| backup: resident bytes per flow | {:.0} | {:.0} | {:.2} | 200 bytes | {} |\n",
            original.memory,
            ours.memory,
            ours.memory / original.memory,
            verdict(ours.memory <= 200.0)
        );
        text += &format!(
            "| flood: both nodes know all, s | {:.1} | {:.1} | {:.2} | | |\n",
            original.flood,
            ours.flood,
            ours.flood / original.flood
        );
        let names = [format!("at {rate}/s"), "during the commit".into(), "in the flood".into()];
        for (k, name) in names.iter().enumerate() {
            let (theirs, own) = (original.overruns[k], ours.overruns[k]);
            text += &format!(
                "| losses of events {name}, all rounds | {theirs} | {own} | | 0 | {} |\n",
                verdict(own == 0)
            );
        }
        text += &format!(
            "\nThe bare loop with events raised, as a running daemon makes the kernel do, takes {:.2} \
             of the original's commit. {} hash buckets.\n",
            listened / original.commit,
            fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_buckets")
                .unwrap_or_default()
                .trim()
        );
        text
    }
}

/// A row about times, of which the second is to be at most `wanted` of the first.
fn row(name: &str, first: f64, second: f64, wanted: f64) -> String {
    let ratio = second / first;
    let verdict = verdict(ratio <= wanted);
    format!("| {name} | {first:.2} | {second:.2} | {ratio:.2} | {wanted:.2} | {verdict} |\n")
}

/// How it is said that a target is met.
pub(crate) const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**falls short**" }
}

/// Appends to the record of the checkout that the program was built from.
pub(crate) fn append(text: &str) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
    let new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    if new {
        file.write_all(HEADING.as_bytes())?;
    }
    write!(file, "\n{text}")?;
    println!("appended to {}", path.display());
    Ok(())
}

/// The machine that it was measured on.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    // What follows the number names a build.
    let version = kernel.trim().split('-').next().unwrap_or_default();
    format!("{name}, {cores} cores, Linux {version}")
}

/// Today, by the proleptic Gregorian calendar, UTC.
pub(crate) fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    // Days since 1 March of year 0: a year then ends with its leap day.
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_and_ratios_are_right() {
        assert!((middle(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        let original = Figures {
            active: 6.0,
            backup: 4.0,
            memory: 490.0,
            commit: 6.0,
            flood: 9.0,
            overruns: [2, 0, 1],
        };
        let ours = Figures { active: 1.5, commit: 1.8, overruns: [0, 0, 1], ..original.clone() };
        let comparison = Comparison {
            flows: 500_000,
            rate: 60_000,
            rounds: 3,
            hash_size: 1 << 19,
            original,
            ours,
            floors: [1.0, 1.5],
        };
        let text = comparison.text();
        for line in [
            "| active: CPU per NEW event, us | 6.00 | 1.50 | 0.25 | 0.33 | met |",
            "| commit, s | 6.00 | 1.80 | 0.30 | 0.25 | **falls short** |",
            "| bare loop with events raised, and commit, s | 1.50 | 1.80 | 1.20 | 1.30 | met |",
            "| losses of events in the flood, all rounds | 1 | 1 | | 0 | **falls short** |",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
