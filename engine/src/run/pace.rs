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
/// How many flows of the peer a thread that only receives lets come together, as far as their rate
/// tells: nobody waits for what a backup knows, and a wake-up costs as much as dozens of flows.
const RECEIVED_TOGETHER: u32 = 256;
/// How many lingers it waits for them at most. In a burst it waits for less: the peer has only so
/// much under way until it is acknowledged.
const RECEIVED_LINGERS: u32 = 8;
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

/// A turn, at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// How busy it was.
    pub(super) load: Load,
    /// When it began.
    pub(super) began: Instant,
    /// How many flows the peer has sent to this shard, ever.
    pub(super) received: u64,
}

/// What the thread does behind a turn.
#[derive(Debug)]
pub(super) struct Pacer {
    linger: Duration,
    /// How busy the last turn was that had work.
    last: Load,
    /// When the last turn began.
    turned: Instant,
    /// How many flows the peer had sent by its end.
    received: u64,
    /// How long more of them were waited for.
    together: Duration,
}

impl Pacer {
    /// `linger` of 0 wakes for each event.
    pub(super) const fn new(linger: Duration, now: Instant) -> Self {
        Self { linger, last: Load::None, turned: now, received: 0, together: linger }
    }

    /// Submits what is queued and waits as `turn` says, until `deadline` at the latest. `sleep` is
    /// called before a sleep that only something new ends; it announces the sleep and tells whether
    /// nothing came in the meantime. `true` if it was called.
    pub(super) fn rest(
        &mut self,
        ring: &mut Ring,
        turn: &Turn,
        deadline: Option<Instant>,
        sleep: impl FnOnce() -> bool,
    ) -> Result<bool, IoError> {
        let Turn { load, began: now, .. } = *turn;
        let together = self.for_more_of_the_peer(turn);
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
            Load::Received if only_receives => (RECEIVED_BATCH, together),
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

    /// How long the peer takes to send as many flows as are worth a wake-up, at the rate of the
    /// last turn. A pause in a burst is none of its end: the wait grows only step by step.
    fn for_more_of_the_peer(&mut self, turn: &Turn) -> Duration {
        let elapsed = turn.began.saturating_duration_since(self.turned);
        let received = turn.received.wrapping_sub(self.received);
        (self.turned, self.received) = (turn.began, turn.received);
        let most = self.linger.saturating_mul(RECEIVED_LINGERS).min(2 * self.together);
        self.together = match u32::try_from(received) {
            Ok(0) => most,
            Ok(n) => (elapsed.saturating_mul(RECEIVED_TOGETHER) / n).clamp(self.linger, most),
            Err(_) => self.linger,
        };
        self.together
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rests between turns a millisecond apart that bring so many flows each.
    fn lingers(flows: &[u64]) -> Vec<Duration> {
        let mut began = Instant::now();
        let mut pacer = Pacer::new(Duration::from_millis(1), began);
        let mut received = 0;
        let mut rest = |n| {
            began += Duration::from_millis(1);
            received += n;
            pacer.for_more_of_the_peer(&Turn { load: Load::Received, began, received })
        };
        flows.iter().map(|&n| rest(n)).collect()
    }

    #[test]
    fn a_backup_waits_for_a_fair_number_of_flows_but_not_for_long() {
        let ms = Duration::from_millis;
        assert_eq!(
            lingers(&[0, 1, 32, 64, 128, 256, 10_000, 64]),
            [2, 4, 8, 4, 2, 1, 1, 2].map(ms)
        );
    }

    #[test]
    fn who_does_not_linger_does_not_wait_for_the_peer_either() {
        let began = Instant::now();
        let mut pacer = Pacer::new(Duration::ZERO, began);
        let turn = Turn { load: Load::Received, began: began + SLEEP_MAX, received: 1 };
        assert_eq!(pacer.for_more_of_the_peer(&turn), Duration::ZERO);
    }
}
