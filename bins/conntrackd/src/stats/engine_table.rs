//! `-s engine`: what each shard does and what it costs. The original has nothing like it.

use std::io::{Result, Write};

use engine::config::Intake;
use engine::snapshot::{EngineFigures, Filtering, SessionFigures, ShardFigures};

/// Names of the columns, each as wide as its values.
const COLUMNS: [(&str, usize); 16] = [
    ("shard", 5),
    ("cpu", 4),
    ("events", 12),
    ("drains", 10),
    ("lost", 8),
    ("overruns", 8),
    ("sent", 12),
    ("received", 12),
    ("cpu-ms", 9),
    ("internal", 9),
    ("external", 9),
    ("cache-KiB", 9),
    ("dirty", 8),
    ("dirty-max", 9),
    ("queue-max", 11),
    ("turn-max-us", 11),
];

/// Writes the figures.
pub(super) fn render(figures: &EngineFigures, out: &mut Vec<u8>) -> Result<()> {
    let intake = match figures.intake {
        Intake::Auto => "auto",
        Intake::Ring => "ring",
        Intake::Filter => "filter",
        Intake::Single => "single",
    };
    write!(out, "intake: {intake}")?;
    if !figures.intake_reason.is_empty() {
        write!(out, " ({})", figures.intake_reason)?;
    }
    let filtering = match figures.filtering {
        Filtering::Nothing => "none",
        Filtering::User => "in user space",
        Filtering::Kernel => "in the kernel",
        Filtering::Both => "in the kernel, TCP states in user space",
    };
    writeln!(out, "\nfilter: {filtering}")?;
    writeln!(out, "events switched off: {}", figures.events_off)?;
    writeln!(out, "silent flows: {}", figures.silent_flows)?;
    writeln!(out, "cpu outside of shards: {} ms", figures.other_cpu_ns / 1_000_000)?;
    writeln!(out, "clients dropped: {}", figures.clients_dropped)?;
    writeln!(out, "log lines dropped: {}", figures.log_dropped)?;
    writeln!(out, "flow log lines dropped: {}\n", figures.flow_log_dropped)?;
    let header = COLUMNS.map(|(name, width)| format!("{name:>width$}"));
    writeln!(out, "{}", header.join(" "))?;
    for (index, shard) in figures.shards.iter().enumerate() {
        row(index, shard, out)?;
    }
    writeln!(out)?;
    match &figures.session {
        Some(session) => session_figures(session, out),
        None => Ok(()),
    }
}

fn row(index: usize, shard: &ShardFigures, out: &mut Vec<u8>) -> Result<()> {
    let values = [
        index.to_string(),
        shard.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string()),
        shard.events.to_string(),
        shard.drains.to_string(),
        shard.lost.to_string(),
        shard.overruns.to_string(),
        shard.sent.to_string(),
        shard.received.to_string(),
        (shard.cpu_ns / 1_000_000).to_string(),
        shard.internal.to_string(),
        shard.external.to_string(),
        (shard.cache_bytes / 1024).to_string(),
        shard.dirty.to_string(),
        shard.dirty_max.to_string(),
        format!("{}/{}", shard.to_link_max, shard.from_link_max),
        shard.turn_max_us.to_string(),
    ];
    let cells = values.iter().zip(COLUMNS).map(|(value, (_, width))| format!("{value:>width$}"));
    writeln!(out, "{}", cells.collect::<Vec<_>>().join(" "))
}

fn session_figures(session: &SessionFigures, out: &mut Vec<u8>) -> Result<()> {
    writeln!(out, "session:")?;
    let rows = [
        ("resent", session.resent),
        ("evicted", session.evicted),
        ("acks", session.acks),
        ("nacks", session.nacks),
        ("peer restarts", session.peer_restarts),
        ("bulk transfers", session.bulks),
        ("duplicates", session.duplicates),
    ];
    for (name, count) in rows {
        writeln!(out, "{:>16} {count:>12}", format!("{name}:"))?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_a_line_with_a_value_per_column() {
        let figures = EngineFigures {
            intake: Intake::Filter,
            intake_reason: "bpf(2) is not permitted".to_owned(),
            filtering: Filtering::User,
            shards: vec![ShardFigures { cpu: Some(3), events: 7, ..Default::default() }; 2],
            session: Some(SessionFigures::default()),
            ..Default::default()
        };
        let mut out = Vec::new();
        render(&figures, &mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.starts_with("intake: filter (bpf(2) is not permitted)\nfilter: in user space\n")
        );
        let lines: Vec<_> = text.lines().collect();
        let header = lines.iter().position(|line| line.contains("overruns")).expect("a header");
        for line in &lines[header..=header + 2] {
            assert_eq!(line.split_whitespace().count(), COLUMNS.len());
            assert_eq!(line.len(), lines[header].len());
        }
        assert!(lines[header + 2].trim_start().starts_with("1    3"));
    }
}
