//! Standard output: whole lines collected in one buffer and written in large pieces.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use crate::failure::{Failure, errno_text};

/// Octets that are collected.
const CAPACITY: usize = 64 << 10;
/// Octets from which the next line might not fit.
const FULL: usize = CAPACITY - 8192;

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

    /// To be called after each line.
    #[inline]
    pub(crate) fn line_done(&mut self) -> Result<(), Failure> {
        if self.buffer.len() < FULL { Ok(()) } else { self.flush() }
    }

    /// Writes what was collected.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let result = self.file.write_all(&self.buffer);
        self.buffer.clear();
        result.map_err(|e| failure(&e))
    }
}

fn failure(error: &io::Error) -> Failure {
    let reason = errno_text(error.raw_os_error().unwrap_or(0));
    Failure::other(&[b"can't write to standard output: ", reason.as_bytes()])
}
