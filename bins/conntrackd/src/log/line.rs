//! How a line looks.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::log::Level;
use io::process::local_time;

use super::Line;

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The name of a level in a line.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Notice => "notice",
        Level::Warning => "warning",
        Level::Error => "ERROR",
    }
}

/// A moment as `Mon Nov 23 21:14:14 2026`, in local time.
pub(super) fn moment(time: i64) -> String {
    format!("{} {}", short_moment(time, true), local_time(time).year)
}

/// A moment as `Nov 23 21:14:14`, with the day of the week in front if it is wanted.
pub(super) fn short_moment(time: i64, weekday: bool) -> String {
    let t = local_time(time);
    let name = |names: &'static [&str], at: u8| names.get(usize::from(at)).copied().unwrap_or("?");
    let mut text = String::new();
    if weekday {
        text += name(&DAYS, t.weekday);
        text.push(' ');
    }
    let month = name(&MONTHS, t.month);
    text + &format!("{month} {:>2} {:02}:{:02}:{:02}", t.day, t.hour, t.minute, t.second)
}

/// A line for the console or a file, without a line feed.
pub(super) fn full(line: &Line) -> Vec<u8> {
    if line.entry {
        return format!("{}\t{}", moment(line.time), line.text).into_bytes();
    }
    [head(line.level, line.time).as_bytes(), line.text.as_bytes()].concat()
}

fn head(level: Level, time: i64) -> String {
    let pid = std::process::id();
    format!("[{}] (pid={pid}) [{}] ", moment(time), level_name(level))
}

/// Writes a line to the console; for what is said before there is a log. The text may be any
/// bytes, since it may quote a file.
pub fn print_early(level: Level, text: &[u8]) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    to_console(level, [head(level, time).as_bytes(), text].concat());
}

/// Writes to standard output or, what is serious, to standard error.
pub(super) fn to_console(level: Level, mut line: Vec<u8>) {
    line.push(b'\n');
    // A console that is gone is no reason to stop.
    let _ = match level {
        Level::Info | Level::Notice => {
            let mut out = std::io::stdout().lock();
            out.write_all(&line).and_then(|()| out.flush())
        }
        Level::Warning | Level::Error => std::io::stderr().lock().write_all(&line),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_padded_with_a_space() {
        // The first of a month falls into one of 31 consecutive days in every time zone.
        let texts = (0..31).map(|day| moment(1_700_000_000 + day * 86_400));
        let first = texts.into_iter().find(|text| text.contains("  1 ")).expect("a first");
        assert_eq!(first.len(), "Mon Nov 23 21:14:14 2026".len());
        assert_eq!(&first[3..4], " ");
        assert!(MONTHS.contains(&&first[4..7]));
    }
}
