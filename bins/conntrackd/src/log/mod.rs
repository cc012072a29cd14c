//! The log: console, file and system log, written by a thread of its own so that nobody who logs
//! ever waits for a disk or a terminal.
//!
//! Until [`Logger::start_writer`] lines are written at once, by whoever logs: a daemon that is
//! about to leave its terminal must not have threads yet.

mod flows;
mod line;
mod line_file;
mod repeats;
mod sink;
mod syslog;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::log::{Level, Log};

pub use flows::FlowLogger;
pub use line::print_early;
use repeats::Repeats;
pub use sink::{Destinations, Sink, Terminal};

use crate::system::error_text;

/// Lines that may wait for the writer.
const QUEUE: usize = 1024;
/// Longest text of a line in bytes.
const TEXT_MAX: usize = 1023;
/// What destinations refuse is told once in so long.
const REFUSALS_GAP: Duration = Duration::from_secs(60);
/// How long the end of the daemon waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    level: Level,
    /// Whether it is an entry that an error was about.
    entry: bool,
    /// Seconds since 1970.
    time: i64,
    text: String,
}

enum Item {
    Line(Line),
    Reopen,
    /// Everything before this was written when the other end hears of it.
    End(Sender<()>),
}

/// Takes lines from any thread.
pub struct Logger {
    queue: OnceLock<SyncSender<Item>>,
    dropped: Arc<AtomicU64>,
    /// Until the writer takes it.
    sink: Mutex<Option<Sink>>,
}

impl Logger {
    /// A log to some destinations.
    pub fn new(sink: Sink) -> Self {
        Self {
            queue: OnceLock::new(),
            dropped: Arc::new(AtomicU64::new(0)),
            sink: Mutex::new(Some(sink)),
        }
    }

    /// From now on a thread writes. Signals that must not hit it are blocked before.
    pub fn start_writer(&self) -> io::Result<()> {
        let mut own = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sink) = own.take() else {
            return Ok(());
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let refused = self.dropped();
        let writer = Writer {
            sink,
            repeats: Repeats::new(),
            dropped: self.dropped.clone(),
            told: refused,
            refused,
            refused_told: None,
        };
        let spawned = thread::Builder::new().name("log".to_owned()).spawn(|| writer.run(receiver));
        spawned?;
        let _ = self.queue.set(sender);
        Ok(())
    }

    /// What the console gets from now on, for a daemon that leaves its terminal. Nothing changes
    /// once the writer has started.
    pub fn set_console(&self, console: Terminal) {
        let mut own = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = &mut *own {
            sink.set_console(console);
        }
    }

    /// Waits until all lines so far are written, or for two seconds.
    pub fn finish(&self) {
        let Some(queue) = self.queue.get() else {
            return;
        };
        let (done, wait) = channel();
        if queue.try_send(Item::End(done)).is_ok() {
            let _ = wait.recv_timeout(LAST_LINES);
        }
    }

    fn take(&self, level: Level, entry: bool, text: fmt::Arguments<'_>) {
        let time = seconds();
        let mut text = text.to_string();
        cut(&mut text);
        let line = Line { level, entry, time, text };
        if self.queue.get().is_none() {
            let mut own = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sink) = &mut *own {
                if !sink.write(&line) {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
        }
        // The queue is set whenever the sink is gone.
        if let Some(queue) = self.queue.get()
            && queue.try_send(Item::Line(line)).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Log for Logger {
    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.take(level, false, line);
    }

    fn reopen(&self) {
        if let Some(queue) = self.queue.get()
            && queue.try_send(Item::Reopen).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn entry(&self, line: fmt::Arguments<'_>) {
        self.take(Level::Error, true, line);
    }
}

/// The thread.
struct Writer {
    sink: Sink,
    repeats: Repeats,
    dropped: Arc<AtomicU64>,
    /// How many of the dropped lines were told, or refused by a destination.
    told: u64,
    /// How many lines a destination refused that were not told yet.
    refused: u64,
    /// When such were told.
    refused_told: Option<Instant>,
}

impl Writer {
    fn run(mut self, items: Receiver<Item>) {
        loop {
            match items.recv_timeout(Duration::from_secs(1)) {
                Ok(Item::Line(line)) => self.line(line),
                Ok(Item::Reopen) => self.reopen(),
                Ok(Item::End(done)) => {
                    self.idle(true);
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.idle(false),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn line(&mut self, line: Line) {
        self.tell_dropped(line.time);
        let verdict = self.repeats.judge(Instant::now(), &line);
        if let Some(hidden) = verdict.tell {
            self.write(&hidden);
        }
        if verdict.write {
            self.write(&line);
        }
    }

    /// What a destination did not take is counted; a line about it each time would be the next.
    fn write(&mut self, line: &Line) {
        if !self.sink.write(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.told += 1;
            self.refused += 1;
        }
    }

    /// Opens the file again. If that fails the old one takes the line that says so.
    fn reopen(&mut self) {
        if let Err((path, error)) = self.sink.reopen() {
            let text = format!(
                "can't open logfile `{}' again, the old one goes on: {}",
                path.display(),
                error_text(&error)
            );
            self.write(&Line { level: Level::Error, entry: false, time: seconds(), text });
        }
    }

    fn idle(&mut self, last: bool) {
        if let Some(hidden) = self.repeats.flush(Instant::now(), last) {
            self.write(&hidden);
        }
    }

    fn tell_dropped(&mut self, time: i64) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let new = dropped.saturating_sub(self.told);
        if new > 0 {
            self.told = dropped;
            let text = format!("{new} log lines were dropped, they came faster than the log goes");
            self.write(&Line { level: Level::Warning, entry: false, time, text });
        }
        let now = Instant::now();
        let early = self.refused_told.is_some_and(|at| now < at + REFUSALS_GAP);
        if self.refused > 0 && !early {
            let refused = std::mem::take(&mut self.refused);
            self.refused_told = Some(now);
            let text = format!(
                "{refused} log lines were dropped, the log file or the system log did not take them"
            );
            // The destination that refused them will hardly take this; another one may.
            self.sink.write(&Line { level: Level::Warning, entry: false, time, text });
        }
    }
}

/// Seconds since 1970.
fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Cuts a text to the longest that a line takes.
fn cut(text: &mut String) {
    let mut end = TEXT_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn logger(path: &std::path::Path) -> Logger {
        let destinations = Destinations {
            console: Terminal::Nothing,
            file: Some(path.to_owned()),
            facility: None,
        };
        Logger::new(Sink::open(destinations).expect("a file"))
    }

    #[test]
    fn lines_reach_the_file_in_order_before_and_after_the_writer_starts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let logger = logger(&path);
        logger.notice(format_args!("one"));
        logger.start_writer().expect("a thread");
        logger.warning(format_args!("two"));
        logger.error(format_args!("{}", "x".repeat(2000)));
        logger.entry(format_args!("tcp      6 src=1.2.3.4"));
        logger.finish();
        let text = fs::read_to_string(&path).expect("a log");
        let lines: Vec<_> = text.lines().collect();
        let pid = std::process::id();
        assert!(lines[0].ends_with(&format!("] (pid={pid}) [notice] one")), "{text}");
        assert!(lines[1].ends_with("[warning] two"));
        assert!(lines[2].ends_with(&format!("[ERROR] {}", "x".repeat(1023))));
        assert!(lines[3].ends_with("\ttcp      6 src=1.2.3.4") && !lines[3].contains('['));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let logger = logger(&path);
        logger.start_writer().expect("a thread");
        logger.notice(format_args!("old"));
        logger.finish();
        fs::rename(&path, folder.path().join("log.1")).expect("a rename");
        logger.reopen();
        logger.notice(format_args!("new"));
        logger.finish();
        assert!(fs::read_to_string(&path).expect("a log").ends_with("[notice] new\n"));
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_says_so_in_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let logger = logger(&path);
        logger.start_writer().expect("a thread");
        let moved = folder.path().join("log.1");
        fs::rename(&path, &moved).expect("a rename");
        fs::create_dir(&path).expect("a folder in its place");
        logger.reopen();
        logger.notice(format_args!("goes on"));
        logger.finish();
        let text = fs::read_to_string(&moved).expect("a log");
        let told = format!(
            "[ERROR] can't open logfile `{}' again, the old one goes on: Is a directory\n",
            path.display()
        );
        assert!(text.contains(&told), "{text}");
        assert!(text.ends_with("[notice] goes on\n"), "{text}");
    }

    #[test]
    fn lines_that_a_destination_refuses_are_counted_and_not_said_to_be_too_fast() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut logger = logger(&path);
        // A destination refused these before the writer began.
        logger.dropped = Arc::new(AtomicU64::new(3));
        logger.start_writer().expect("a thread");
        logger.notice(format_args!("one"));
        logger.notice(format_args!("two"));
        logger.finish();
        let text = fs::read_to_string(&path).expect("a log");
        let told =
            "[warning] 3 log lines were dropped, the log file or the system log did not take";
        assert_eq!(text.matches(told).count(), 1, "{text}");
        assert!(!text.contains("faster"), "{text}");
        assert_eq!((text.lines().count(), logger.dropped()), (3, 3), "{text}");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let logger =
            Logger { queue: OnceLock::new(), dropped: Arc::default(), sink: Mutex::new(None) };
        let (sender, receiver) = sync_channel(2);
        logger.queue.set(sender).expect("the first");
        for number in 0..5 {
            logger.notice(format_args!("{number}"));
        }
        assert_eq!(logger.dropped(), 3);
        assert_eq!(receiver.try_iter().count(), 2);
    }
}
