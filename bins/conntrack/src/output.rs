//! Standard output: lines collected in one buffer and written in large pieces; and the
//! progress that is told beside it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::failure::{Failure, complain, errno_text};

/// Octets that are written with one call. File systems cache even pieces of this size in large
/// pages, in half of the time that odd ones take.
const PIECE: usize = 128 << 10;
/// Octets that are collected: a piece, and the line that goes beyond it.
const CAPACITY: usize = PIECE + 8192;

/// The buffer. Lines are appended to [`Out::buffer`].
pub(crate) struct Out {
    pub(crate) buffer: Vec<u8>,
    // Not the standard library's stream, which would collect what was collected already.
    file: File,
}

impl Out {
    pub(crate) fn new() -> Result<Self, Failure> {
        let fd = io::stdout().as_fd().try_clone_to_owned().map_err(|e| failure(&e))?;
        Ok(Self { buffer: Vec::with_capacity(CAPACITY), file: fd.into() })
    }

    /// Whether what was collected is written after this line.
    #[inline]
    pub(crate) const fn is_full(&self) -> bool {
        self.buffer.len() >= PIECE
    }

    /// To be called after each line.
    #[inline]
    pub(crate) fn line_done(&mut self) -> Result<(), Failure> {
        if self.is_full() { self.write(self.buffer.len() / PIECE * PIECE) } else { Ok(()) }
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        self.buffer.extend_from_slice(lines);
        self.line_done()
    }

    /// Writes what was collected.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.write(self.buffer.len())
    }

    /// Writes so many octets of what was collected.
    fn write(&mut self, count: usize) -> Result<(), Failure> {
        let result = self.file.write_all(&self.buffer[..count]);
        self.buffer.drain(..count);
        result.map_err(|e| failure(&e))
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
    /// `what` stands behind the number.
    pub(crate) fn new(what: &'static str) -> Self {
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
    pub(crate) fn done(&self) {
        if self.told {
            complain(b"\r\x1b[K");
        }
    }
}
