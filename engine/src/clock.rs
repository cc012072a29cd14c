//! The time of a turn: read once, handed down.

use std::time::Instant;

/// One moment in the two forms in which it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For deadlines.
    pub at: Instant,
    /// Whole seconds since the engine's start, for stamps in entries.
    pub secs: u32,
}

impl Moment {
    /// `at`, counted from `began`.
    pub fn new(at: Instant, began: Instant) -> Self {
        let secs = at.saturating_duration_since(began).as_secs();
        Self { at, secs: u32::try_from(secs).unwrap_or(u32::MAX) }
    }
}
