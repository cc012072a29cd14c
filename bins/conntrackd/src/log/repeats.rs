//! Keeps a line that repeats itself from filling the log.

use std::time::{Duration, Instant};

use engine::log::Level;

use super::Line;

/// How often a line may follow itself within [`WINDOW`].
const ALLOWED: u32 = 10;
/// After so long the counting begins anew.
const WINDOW: Duration = Duration::from_secs(10);

/// The line before, and how often it came.
pub(super) struct Repeats {
    last: Option<Line>,
    since: Instant,
    count: u32,
    hidden: u32,
}

/// What to do with a line.
pub(super) struct Verdict {
    /// Write this first.
    pub(super) tell: Option<Line>,
    /// Write the line.
    pub(super) write: bool,
}

impl Repeats {
    /// Nothing was seen yet.
    pub(super) fn new() -> Self {
        Self { last: None, since: Instant::now(), count: 0, hidden: 0 }
    }

    /// Judges the next line.
    pub(super) fn judge(&mut self, now: Instant, line: &Line) -> Verdict {
        let same = self.last.as_ref().is_some_and(|last| {
            last.level == line.level && last.entry == line.entry && last.text == line.text
        });
        let tell = if same { self.flush(now, false) } else { self.flush(now, true) };
        if !same {
            self.last = Some(line.clone());
            self.since = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        let write = self.count <= ALLOWED;
        if !write {
            self.hidden = self.hidden.saturating_add(1);
        }
        Verdict { tell, write }
    }

    /// Begins anew if it is time or if asked to, and tells how often the line before was hidden.
    pub(super) fn flush(&mut self, now: Instant, at_once: bool) -> Option<Line> {
        if !at_once && now.saturating_duration_since(self.since) < WINDOW {
            return None;
        }
        self.since = now;
        self.count = 0;
        let hidden = std::mem::take(&mut self.hidden);
        let last = self.last.as_ref()?;
        (hidden > 0).then(|| Line {
            level: Level::Notice,
            entry: false,
            time: last.time,
            text: format!("the last line came {hidden} more times"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { level: Level::Warning, entry: false, time: 0, text: text.to_owned() }
    }

    #[test]
    fn a_line_that_goes_on_and_on_is_counted_instead() {
        let start = Instant::now();
        let mut repeats = Repeats::new();
        let written = (0..100).filter(|_| repeats.judge(start, &line("same")).write).count();
        assert_eq!(written, 10);
        let verdict = repeats.judge(start, &line("other"));
        assert!(verdict.write);
        let told = verdict.tell.expect("a count");
        assert_eq!(told.text, "the last line came 90 more times");
        assert!(repeats.flush(start, true).is_none());
    }

    #[test]
    fn after_a_while_the_line_is_written_again() {
        let start = Instant::now();
        let mut repeats = Repeats::new();
        for _ in 0..20 {
            repeats.judge(start, &line("same"));
        }
        assert!(repeats.flush(start + Duration::from_secs(9), false).is_none());
        let verdict = repeats.judge(start + Duration::from_secs(11), &line("same"));
        assert!(verdict.write && verdict.tell.is_some());
    }
}
