//! What reading a configuration has to say, in the order of the file.

use engine::log::Level;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Warnings let the reading go on, errors end it.
    pub level: Level,
    /// The text; it may quote bytes of the file that are not UTF-8. A line feed at its end is
    /// printed, so that an empty line follows.
    pub text: Vec<u8>,
}

impl Diagnostic {
    /// A warning.
    pub fn warning(text: impl Into<Vec<u8>>) -> Self {
        Self { level: Level::Warning, text: text.into() }
    }

    /// An error.
    pub fn error(text: impl Into<Vec<u8>>) -> Self {
        Self { level: Level::Error, text: text.into() }
    }
}
