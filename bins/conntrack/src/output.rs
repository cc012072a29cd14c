//! Standard output: lines collected in one buffer and written in large pieces; and the
//! progress that is told beside it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::io::Interrupts;

use crate::failure::{Failure, complain, errno_text};

/// Octets that are written with one call. File systems cache even pieces of this size in large
/// pages, in half of the time that odd ones take.
const PIECE: usize = 128 << 10;
/// Octets that are collected: a piece, and the line that goes beyond it.
const CAPACITY: usize = PIECE + 8192;

/// How long a reader that does not read, or not all, is waited for after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// Whether something could not be written to standard output, of which a process has one. Told once.
static INCOMPLETE: AtomicBool = AtomicBool::new(false);

/// Whether something could not be written: the command has not done all of what it was for.
pub(crate) fn is_incomplete() -> bool {
    INCOMPLETE.load(Ordering::Relaxed)
}

/// The buffer. Lines are appended to [`Out::buffer`].
pub(crate) struct Out {
    pub(crate) buffer: Vec<u8>,
    // Not the standard library's stream, which would collect what was collected already.
    file: File,
    /// When the grace ends, once a signal was noticed.
    leave_at: Option<Instant>,
}

impl Out {
    pub(crate) fn new() -> Result<Self, Failure> {
        let fd = io::stdout().as_fd().try_clone_to_owned().map_err(|e| failure(&e))?;
        let buffer = Vec::with_capacity(CAPACITY);
        Ok(Self { buffer, file: fd.into(), leave_at: None })
    }

    /// Whether what was collected is written after this line.
    #[inline]
    pub(crate) const fn is_full(&self) -> bool {
        self.buffer.len() >= PIECE
    }

    /// To be called after each line.
    #[inline]
    pub(crate) fn line_done(&mut self) {
        if self.is_full() {
            self.write(self.buffer.len() / PIECE * PIECE);
        }
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) {
        self.buffer.extend_from_slice(lines);
        self.line_done();
    }

    /// Writes what was collected.
    pub(crate) fn flush(&mut self) {
        self.write(self.buffer.len());
    }

    /// Writes what was collected, unless nobody reads it when a signal arrives. Answers whether it was
    /// written; for commands that only end when they are told to, or when there is no room.
    pub(crate) fn drain(&mut self, interrupts: &Interrupts) -> Result<bool, Failure> {
        // What a pipe or a terminal takes at least when it is ready.
        let all = self.file.metadata().is_ok_and(|file| file.is_file());
        let most = if all { usize::MAX } else { 4096 };
        let mut written = 0;
        for part in self.buffer.chunks(most) {
            let now = Instant::now();
            if interrupts.arrived() {
                self.leave_at.get_or_insert(now + GRACE);
            }
            let left = self.leave_at.map_or(GRACE, |at| at.saturating_duration_since(now));
            if left.is_zero()
                || !interrupts.wait_to_write(&self.file, left).map_err(|e| failure(&e))?
            {
                break;
            }
            self.file.write_all(part).map_err(|e| failure(&e))?;
            written += part.len();
        }
        self.buffer.drain(..written);
        Ok(self.buffer.is_empty())
    }

    /// Writes so many octets of what was collected. Where that fails, the command goes on, so that
    /// what it changes is not left half done.
    fn write(&mut self, count: usize) {
        if !is_incomplete()
            && let Err(error) = self.file.write_all(&self.buffer[..count])
        {
            INCOMPLETE.store(true, Ordering::Relaxed);
            complain(&failure(&error).text);
        }
        self.buffer.drain(..count);
    }
}

fn failure(error: &io::Error) -> Failure {
    let reason = errno_text(error.raw_os_error().unwrap_or(0));
    Failure::other(&[b"can't write to standard output: ", reason.as_bytes()])
}

/// How long a command runs before it tells how far it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it tells.
const PACE: Duration = Duration::from_millis(200);

/// Tells on a terminal how far a command is, if that takes long.
pub(crate) struct Progress {
    what: &'static str,
    next: Option<Instant>,
    told: bool,
}

impl Progress {
    /// Of a command that prints. `what` stands behind the number. Where what is printed goes to a
    /// terminal, that is progress enough.
    pub(crate) fn beside_output(what: &'static str) -> Self {
        let mut progress = Self::of_silence(what);
        progress.next = progress.next.filter(|_| !io::stdout().is_terminal());
        progress
    }

    /// Of a command that prints nothing.
    pub(crate) fn of_silence(what: &'static str) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + PATIENCE);
        Self { what, next, told: false }
    }

    /// Tells the number if it is time.
    pub(crate) fn show(&mut self, count: u64) {
        let Some(next) = self.next else { return };
        let now = Instant::now();
        if now >= next {
            complain(format!("\r{count} {}\x1b[K", self.what).as_bytes());
            self.told = true;
            self.next = Some(now + PACE);
        }
    }

    /// Takes the number away.
    pub(crate) fn done(&mut self) {
        if std::mem::take(&mut self.told) {
            complain(b"\r\x1b[K");
        }
    }
}

/// What is said of a failure does not stand behind the number.
impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}
