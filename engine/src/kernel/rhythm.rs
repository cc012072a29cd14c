//! Which silent flow is visited when.
//!
//! What counts is the time between two visits of the same flow, not the time that a pass takes.
//! So a flow has its moment in a pass by its place in the cache, which never changes, and not by
//! how many come before it: when half of them are gone, the others keep their moments. A pass that
//! follows one with other moments (the first, or one by a dump, which shows all at once) is
//! spread over less time, so that no flow waits longer than the limit.

use std::time::{Duration, Instant};

/// The moments of one pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    pub(super) begin: Instant,
    /// Time over which the pass is spread; zero for as fast as batches go.
    pub(super) spread: Duration,
    /// Places in the cache, at least one.
    span: u32,
    /// Shortest time between two batches.
    gap: Duration,
}

impl Rhythm {
    /// No flow waits for its moment, but batches come `gap` apart.
    pub(super) const fn at_once(begin: Instant, gap: Duration) -> Self {
        Self { begin, spread: Duration::ZERO, span: 1, gap }
    }

    pub(super) fn spread(begin: Instant, spread: Duration, span: u32, gap: Duration) -> Self {
        Self { begin, spread, span: span.max(1), gap }
    }

    /// The places below this one have had their moment.
    pub(super) fn reach(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.begin);
        if passed >= self.spread {
            return u32::MAX;
        }
        let places = passed.as_nanos() * u128::from(self.span) / self.spread.as_nanos();
        u32::try_from(places).unwrap_or(u32::MAX)
    }

    /// When the next batch is due, if the place to be visited next is `place`.
    pub(super) fn next(&self, now: Instant, place: u32, least: Duration) -> Instant {
        if place < self.reach(now) {
            return now + least;
        }
        let nanos = self.spread.as_nanos() * u128::from(place + 1) / u128::from(self.span);
        let moment = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        (self.begin + moment.min(self.spread)).max(now + self.gap)
    }
}

/// How flows were last seen: at their moments in a pass, or all at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) begin: Instant,
    pub(super) spread: Duration,
}

impl Seen {
    /// Over how much time a pass that begins now may be spread so that no flow has waited longer
    /// than `limit` when its moment comes.
    pub(super) fn spread_now(&self, now: Instant, period: Duration, limit: Duration) -> Duration {
        let ago = now.saturating_duration_since(self.begin);
        (self.spread + limit).saturating_sub(ago).min(period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(45);
    const LIMIT: Duration = Duration::from_secs(51);
    const GAP: Duration = Duration::from_millis(2);

    #[test]
    fn a_place_has_its_moment() {
        let begin = Instant::now();
        let rhythm = Rhythm::spread(begin, PERIOD, 1000, GAP);
        assert_eq!(rhythm.reach(begin), 0);
        assert_eq!(rhythm.reach(begin + PERIOD / 2), 500);
        assert_eq!(rhythm.reach(begin + PERIOD), u32::MAX);
        assert_eq!(rhythm.next(begin, 499, GAP), begin + PERIOD / 2);
        let late = begin + PERIOD * 3 / 4;
        assert_eq!(rhythm.next(late, 499, GAP), late + GAP, "its moment has passed");
        assert_eq!(rhythm.next(begin, 5000, GAP), begin + PERIOD, "beyond what the pass foresaw");
        assert_eq!(Rhythm::at_once(begin, GAP).reach(begin), u32::MAX);
    }

    #[test]
    fn nobody_waits_longer_than_the_limit() {
        let begin = Instant::now();
        let dump = Seen { begin, spread: Duration::ZERO };
        let soon = begin + Duration::from_secs(5);
        assert_eq!(dump.spread_now(soon, PERIOD, LIMIT), PERIOD);
        let late = begin + Duration::from_secs(47);
        let quick = dump.spread_now(late, PERIOD, LIMIT);
        assert_eq!(quick, Duration::from_secs(4));
        // From pass to pass the moments may move as long as the limit holds.
        let mut seen = Seen { begin: late, spread: quick };
        for _ in 0..20 {
            let next = seen.begin + Duration::from_secs(47);
            let spread = seen.spread_now(next, PERIOD, LIMIT);
            assert!(next + spread <= seen.begin + seen.spread + LIMIT);
            seen = Seen { begin: next, spread };
        }
        assert_eq!(seen.spread, PERIOD);
        assert_eq!(seen.spread_now(seen.begin + LIMIT * 3, PERIOD, LIMIT), Duration::ZERO);
    }
}
