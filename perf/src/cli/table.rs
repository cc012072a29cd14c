//! The table of results.

use std::fmt::Write as _;

use shardtrack_tests::peer::Make;

use super::spent::Spent;
use crate::report::{date, machine, middle, verdict};
use crate::{Options, Part};

/// The highest ratios that are wanted; NaN where none is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Of the original's wall time.
    pub(super) original: f64,
    /// Of the bare loop's.
    pub(super) floor: f64,
}

/// The most memory that a command may take, in MiB.
pub(super) const PEAK_MAX: f64 = 16.0;

#[derive(Debug)]
struct Row {
    name: String,
    wanted: Wanted,
    original: Vec<Spent>,
    ours: Vec<Spent>,
    floor: Vec<f64>,
}

/// What was measured of each command.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Row>);

impl Rows {
    /// Notes one run.
    pub(super) fn note(&mut self, name: &str, wanted: Wanted, make: Make, spent: Spent) {
        let row = self.row(name);
        row.wanted = wanted;
        if make == Make::Ours { &mut row.ours } else { &mut row.original }.push(spent);
    }

    /// Notes what a bare loop took, in seconds.
    pub(super) fn floor(&mut self, name: &str, seconds: f64) {
        self.row(name).floor.push(seconds);
    }

    fn row(&mut self, name: &str) -> &mut Row {
        let at = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            let wanted = Wanted { original: f64::NAN, floor: f64::NAN };
            let (name, floor) = (name.to_owned(), Vec::new());
            self.0.push(Row { name, wanted, original: Vec::new(), ours: Vec::new(), floor });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// The table of medians; empty if nothing was measured.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.0.is_empty() {
            text += "| command | original, s | ours, s | ratio | wanted | bare loop, s | ratio | wanted \
                     | original, user s | ours, user s | original, peak MiB | ours, peak MiB | |\n\
                     |---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
        }
        for row in &self.0 {
            text += &row.text();
        }
        if self.0.iter().any(|row| row.name == "-L -m 77") {
            text += "\nMark and status are compared by the kernel for the original as well, so that both \
                     take as long as the kernel's walk: nothing is left to be saved.\n";
        }
        text
    }
}

impl Row {
    fn text(&self) -> String {
        let median =
            |spent: &[Spent], of: fn(&Spent) -> f64| middle(spent.iter().map(of).collect());
        let highest = |spent: &[Spent]| spent.iter().fold(0.0, |most: f64, s| most.max(s.peak));
        let (theirs, ours) = (median(&self.original, |s| s.wall), median(&self.ours, |s| s.wall));
        let floor = middle(self.floor.clone());
        // What fails at once is no measure.
        let failed = self.original.iter().any(|s| !s.succeeded);
        let to_original = if failed { f64::NAN } else { ours / theirs };
        let to_floor = ours / floor;
        let peak = highest(&self.ours);
        let met = self.ours.iter().all(|s| s.succeeded)
            && !(to_original > self.wanted.original || to_floor > self.wanted.floor)
            && peak <= PEAK_MAX;
        let original = if failed { "fails".into() } else { cell(theirs) };
        let mut text = format!("| `{}` | {original} ", self.name);
        for value in [
            ours,
            to_original,
            self.wanted.original,
            floor,
            to_floor,
            self.wanted.floor,
            median(&self.original, |s| s.user),
            median(&self.ours, |s| s.user),
        ] {
            let _ = write!(text, "| {} ", cell(value));
        }
        let _ = writeln!(text, "| {:.1} | {peak:.1} | {} |", highest(&self.original), verdict(met));
        text
    }
}

fn cell(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.2}") }
}

/// What was measured, how and where.
pub(super) fn heading(options: &Options) -> String {
    let Options { flows, rounds, .. } = options;
    let part = match options.part {
        None => "",
        Some(Part::Listings) => " --part listings",
        Some(Part::Changes) => " --part changes",
        Some(Part::Events) => " --part events",
    };
    format!(
        "## {}: conntrack, {flows} flows\n\n`shardtrack-perf cli --flows {flows} --rounds \
         {rounds}{part} --record`; {}. Medians of {rounds} rounds, in which original, ours and bare loop \
         take turns; output goes to files.\n\n",
        date(),
        machine()
    )
}
