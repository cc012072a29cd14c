//! What reading a configuration has to say, in the order of the file.

use engine::log::Level;

use super::token::Place;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Warnings let the reading go on, errors end it.
    pub level: Level,
    /// The text; it may quote bytes of the file that are not UTF-8. A line feed at its end is
    /// printed, so that an empty line follows.
    pub text: Vec<u8>,
    /// Where the word is that it is about.
    pub place: Place,
    /// What to do about it, for a second line.
    pub hint: Option<String>,
    /// Whether it is about a setting that does nothing, here and in the original: it may stay.
    pub moot: bool,
}

impl Diagnostic {
    /// A warning.
    pub fn warning(place: Place, text: impl Into<Vec<u8>>) -> Self {
        Self { level: Level::Warning, text: text.into(), place, hint: None, moot: false }
    }

    /// An error.
    pub fn error(place: Place, text: impl Into<Vec<u8>>) -> Self {
        Self { level: Level::Error, text: text.into(), place, hint: None, moot: false }
    }
}
