//! What went wrong, where.

use std::fmt;
use std::io;

/// A system call that failed: what was tried, on what, and the system's reason.
#[derive(Debug)]
pub struct IoError {
    doing: &'static str,
    on: String,
    source: io::Error,
}

impl IoError {
    /// An error met while `doing` something `on` something; `on` may be empty.
    pub fn new(doing: &'static str, on: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { doing, on: on.into(), source: source.into() }
    }

    /// The system's error number, if it was the system that refused.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.doing)?;
        if !self.on.is_empty() {
            write!(f, " {}", self.on)?;
        }
        write!(f, ": {}", self.source)
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Names what was being done when a call failed.
pub(crate) trait Context<T> {
    /// Turns the error into an [`IoError`].
    fn doing(self, doing: &'static str) -> Result<T, IoError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, IoError> {
        self.map_err(|error| IoError::new(doing, "", error))
    }
}
