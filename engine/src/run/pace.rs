//! When a shard's thread sleeps, and how.
//!
//! After a turn that found work the thread lets more of it come together for one linger: a
//! wake-up per event costs more than the event. Only when a linger brought nothing does it sleep
//! until something happens.

use std::time::{Duration, Instant};

use io::{IoError, Ring};

/// Completions that end a linger before its time.
const BATCH: usize = 256;
/// Longest sleep. Readiness of a BPF ring is reported once; should a report be missed, this bounds
/// what that costs.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// How busy a turn was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Work is left over.
    Busy,
    /// There was work, and none is left.
    Some,
    /// There was none.
    None,
}

/// What the thread does behind a turn.
#[derive(Debug)]
pub(super) struct Pacer {
    linger: Duration,
}

impl Pacer {
    /// `linger` of 0 wakes for each event.
    pub(super) const fn new(linger: Duration) -> Self {
        Self { linger }
    }

    /// Submits what is queued and waits as `load` says, until `deadline` at the latest. `sleep` is
    /// called before a sleep that only something new ends; it announces the sleep and tells whether
    /// nothing came in the meantime. `true` if it was called.
    pub(super) fn rest(
        &mut self,
        ring: &mut Ring,
        load: Load,
        now: Instant,
        deadline: Option<Instant>,
        sleep: impl FnOnce() -> bool,
    ) -> Result<bool, IoError> {
        let left = deadline.map_or(SLEEP_MAX, |at| at.saturating_duration_since(now));
        if load == Load::Busy || left.is_zero() {
            ring.submit()?;
            return Ok(false);
        }
        if load == Load::Some && !self.linger.is_zero() {
            ring.wait(BATCH, self.linger.min(left))?;
            return Ok(false);
        }
        if sleep() {
            ring.wait(1, left.min(SLEEP_MAX))?;
        } else {
            ring.submit()?;
        }
        Ok(true)
    }
}
