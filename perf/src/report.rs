//! What was measured, as text for people and for `perf/RESULTS.md`.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    /// Overruns of either node.
    pub(crate) overruns: u64,
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
            overruns: all.iter().map(|f| f.overruns).sum(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "active {:.2} us/event, backup {:.2} us/state, {:.0} bytes/flow, commit {:.3} s, \
             {} overruns",
            self.active, self.backup, self.memory, self.commit, self.overruns
        )
    }
}

/// The median of some times.
pub(crate) fn median(times: Vec<Duration>) -> f64 {
    middle(times.iter().map(Duration::as_secs_f64).collect())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table of a comparison. `floor` is the time of the bare loop in seconds.
pub(crate) fn text(
    flows: u32,
    rounds: u32,
    original: &Figures,
    ours: &Figures,
    floor: f64,
) -> String {
    let row = |name: &str, original: f64, ours: f64, digits: usize| {
        format!("| {name} | {original:.digits$} | {ours:.digits$} | {:.2} |\n", ours / original)
    };
    let mut text = format!(
        "## {}: {flows} IPv4 TCP flows, FTFW over UDP\n\n{}; median of {rounds}, in turns.\n\n\
         | | original | ours | ours / original |\n|---|---|---|---|\n",
        date(),
        machine()
    );
    text += &row("active: CPU per NEW event, us", original.active, ours.active, 2);
    text += &row("backup: CPU per state received, us", original.backup, ours.backup, 2);
    text += &row("backup: resident bytes per flow", original.memory, ours.memory, 0);
    text += &row("commit, s", original.commit, ours.commit, 3);
    text += &format!(
        "\nBare loop of batched inserts: {floor:.3} s; our commit takes {:.2} of it. Overruns: \
         original {}, ours {}.\n",
        ours.commit / floor,
        original.overruns,
        ours.overruns
    );
    text
}

/// Appends to the record of the checkout that the program was built from.
pub(crate) fn append(text: &str) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
    let new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    if new {
        file.write_all(b"# Results\n")?;
    }
    write!(file, "\n{text}")?;
    println!("appended to {}", path.display());
    Ok(())
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{name}, {cores} cores, Linux {}", kernel.trim())
}

/// Today, by the proleptic Gregorian calendar, UTC.
fn date() -> String {
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
        let original =
            Figures { active: 6.0, backup: 4.0, memory: 490.0, commit: 6.0, overruns: 0 };
        let ours = Figures { active: 1.5, backup: 1.0, memory: 98.0, commit: 1.2, overruns: 0 };
        let text = text(500_000, 3, &original, &ours, 1.0);
        assert!(text.contains("| active: CPU per NEW event, us | 6.00 | 1.50 | 0.25 |"), "{text}");
        assert!(text.contains("takes 1.20 of it"), "{text}");
    }
}
