//! How the engine tells what happens, without knowing where the lines go.

use std::fmt;
use std::time::Instant;

use proto_ctnl::Flow;

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Says what is normal.
    Info,
    /// Says what an operator wants to know.
    Notice,
    /// Something did not work; the daemon goes on.
    Warning,
    /// Something that was asked for failed.
    Error,
}

/// Takes lines. Never blocks: an implementation drops and counts what it has no room for.
///
/// Formatting allocates, so nothing is logged per event; what may repeat is logged once per burst.
pub trait Log: Send + Sync {
    /// Takes one line, without a line feed at its end.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);

    /// Takes a line of level [`Level::Info`].
    fn info(&self, line: fmt::Arguments<'_>) {
        self.log(Level::Info, line);
    }

    /// Takes a line of level [`Level::Notice`].
    fn notice(&self, line: fmt::Arguments<'_>) {
        self.log(Level::Notice, line);
    }

    /// Takes a line of level [`Level::Warning`].
    fn warning(&self, line: fmt::Arguments<'_>) {
        self.log(Level::Warning, line);
    }

    /// Takes a line of level [`Level::Error`].
    fn error(&self, line: fmt::Arguments<'_>) {
        self.log(Level::Error, line);
    }

    /// Opens the log file again after it was moved away; called on SIGHUP.
    fn reopen(&self) {}

    /// Lines dropped so far for lack of room.
    fn dropped(&self) -> u64 {
        0
    }

    /// Takes the entry that the error before it was about, as a dump prints it. Such lines have a
    /// form of their own in log files.
    fn entry(&self, line: fmt::Arguments<'_>) {
        self.log(Level::Error, line);
    }
}

/// Takes the flows that have ended, for a daemon that counts and tells of each of them.
///
/// Called once per flow on a shard's thread: an implementation copies the flow to where another
/// thread finds it, and allocates, locks, formats and waits for nothing.
pub trait FlowLog: fmt::Debug + Send + Sync {
    /// This flow has ended, as the turn that began at `at` learned. One that only a reading of the
    /// kernel's table missed is told as it was stored, so without counters.
    fn ended(&self, at: Instant, flow: &Flow);

    /// Whether many more flows find room: those that can wait are held back until they do.
    fn has_room(&self) -> bool;

    /// Opens the file again after it was moved away; called on SIGHUP.
    fn reopen(&self);

    /// Lines dropped so far because the queue had no room or a log took none.
    fn dropped(&self) -> u64;
}

/// Forgets every line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Log for Silent {
    fn log(&self, _level: Level, _line: fmt::Arguments<'_>) {}
}
