//! How many datagrams may leave per millisecond.

use std::time::{Duration, Instant};

/// Time whose share may leave at once, after a pause.
const BURST: Duration = Duration::from_millis(4);

/// A bucket of datagrams that fills with time. With a rate of 0 it is bottomless.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Time that one datagram costs.
    cost: Duration,
    /// When the bucket would be full.
    full_at: Instant,
}

impl Pace {
    pub(crate) fn new(per_ms: u32, now: Instant) -> Self {
        let cost = Duration::from_millis(1).checked_div(per_ms).unwrap_or_default();
        Self { cost, full_at: now }
    }

    /// When the next datagram may leave; `None` if it may at `now`.
    pub(crate) fn wait(&self, now: Instant) -> Option<Instant> {
        self.next().filter(|&at| at > now)
    }

    /// When the bucket has room for a datagram.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.full_at.checked_sub(BURST)
    }

    /// One datagram left.
    pub(crate) fn spend(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        let mut now = start;
        let mut sent = 0;
        while now < start + Duration::from_millis(100) {
            match pace.wait(now) {
                Some(at) => now = at,
                None => {
                    pace.spend(now);
                    sent += 1;
                }
            }
        }
        assert!((1000..=1045).contains(&sent), "{sent}");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let now = Instant::now();
        let mut pace = Pace::new(0, now);
        for _ in 0..100_000 {
            assert_eq!(pace.wait(now), None);
            pace.spend(now);
        }
    }
}
