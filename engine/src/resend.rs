//! When everything is sent to the peer once more.

use std::time::{Duration, Instant};

/// Time from a failure of a link to the sending of everything: a link that has just come up may
/// work at this end alone.
pub(crate) const DELAY: Duration = Duration::from_secs(1);

/// What is to be sent once more, and when.
#[derive(Debug, Default)]
pub(crate) struct Resend {
    at: Option<Instant>,
    /// When all that failed so far is made good.
    made_good: Option<Instant>,
}

impl Resend {
    /// What was sent up to `now` may not have arrived. Failures that follow each other do not put
    /// the sending off; it is repeated after the last of them.
    pub(crate) fn failed(&mut self, now: Instant) {
        let due = now + DELAY;
        self.wanted(due);
        self.made_good = Some(due);
    }

    /// Everything is wanted, at `at` or before.
    pub(crate) fn wanted(&mut self, at: Instant) {
        self.at.get_or_insert(at);
    }

    /// Whether it is time. Whoever asks then sends.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            self.at = self.made_good.take().filter(|at| *at > now);
        }
        is_due
    }

    /// When it is time.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_sent_after_the_last_failure_too() {
        let (mut resend, now) = (Resend::default(), Instant::now());
        let at = |quarter: u32| now + DELAY / 4 * quarter;
        assert!(!resend.is_due(now));
        for quarter in [0, 1, 3] {
            resend.failed(at(quarter));
            assert!(!resend.is_due(at(quarter)));
        }
        assert_eq!(resend.poll_timeout(), Some(at(4)));
        assert!(resend.is_due(at(4)));
        assert_eq!(resend.poll_timeout(), Some(at(7)), "the link failed again after at(0)");
        assert!(!resend.is_due(at(6)));
        assert!(resend.is_due(at(7)));
        assert_eq!(resend.poll_timeout(), None);
    }

    #[test]
    fn one_failure_is_made_good_once() {
        let (mut resend, now) = (Resend::default(), Instant::now());
        resend.failed(now);
        resend.wanted(now + DELAY * 9);
        assert!(resend.is_due(now + DELAY));
        assert_eq!(resend.poll_timeout(), None);
        resend.wanted(now);
        assert!(resend.is_due(now));
        assert_eq!(resend.poll_timeout(), None);
    }
}
