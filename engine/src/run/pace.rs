//! When a shard's thread sleeps, and how.
//!
//! After a turn that found work the thread lets more of it come together for one linger: a
//! wake-up per event costs more than the event. Only when a linger brought nothing does it sleep
//! until something happens.

use std::time::{Duration, Instant};

use io::{IoError, Ring};

/// Completions that end a linger before its time.
const BATCH: usize = 256;
/// The same for a thread that only receives: at a high rate each is up to 64 KiB of messages.
const RECEIVED_BATCH: usize = 8;
/// How many lingers a thread that only receives waits: nobody waits for what a backup knows, and
/// a wake-up costs as much as a dozen messages.
const RECEIVED_LINGERS: u32 = 4;
/// Longest sleep. Readiness of a BPF ring is reported once; should a report be missed, this bounds
/// what that costs.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// How busy a turn was, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    /// There was no work.
    None,
    /// There was work, all of it messages of the peer, and none is left.
    Received,
    /// There was other work, and none is left.
    Some,
    /// Work is left over.
    Busy,
}

/// What the thread does behind a turn.
#[derive(Debug)]
pub(super) struct Pacer {
    linger: Duration,
    /// How busy the last turn was that had work.
    last: Load,
}

impl Pacer {
    /// `linger` of 0 wakes for each event.
    pub(super) const fn new(linger: Duration) -> Self {
        Self { linger, last: Load::None }
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
        // An active node receives acknowledgements between its events, and those are not to wait.
        let only_receives = load == Load::Received && self.last <= Load::Received;
        if load != Load::None {
            self.last = load;
        }
        let left = deadline.map_or(SLEEP_MAX, |at| at.saturating_duration_since(now));
        if load == Load::Busy || left.is_zero() {
            ring.submit()?;
            return Ok(false);
        }
        let (batch, linger) = match load {
            Load::Received if only_receives => (RECEIVED_BATCH, self.linger * RECEIVED_LINGERS),
            Load::Received | Load::Some => (BATCH, self.linger),
            Load::None | Load::Busy => (0, Duration::ZERO),
        };
        if !linger.is_zero() {
            ring.wait(batch, linger.min(left))?;
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
