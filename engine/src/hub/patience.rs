//! How long to wait until the peer is asked again for what was dropped.
//!
//! Asked at once, for more than there is room for, it would never come to an end; and where there is
//! never room for all, each answer costs both nodes a transfer of everything.

use std::time::{Duration, Instant};

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait. So much time without a loss, beyond a wait, ends the matter.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Patience {
    next: Duration,
    dropped_at: Option<Instant>,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self { next: FIRST, dropped_at: None }
    }

    /// Messages were dropped. When to ask for them, if `asked_at` does not say so yet.
    pub(super) fn dropped(&mut self, now: Instant, asked_at: Option<Instant>) -> Instant {
        let before = self.dropped_at.replace(now);
        let quiet = before.map(|at| now.saturating_duration_since(at));
        if quiet.is_none_or(|quiet| quiet > self.next + LONGEST) {
            self.next = FIRST;
        }
        asked_at.unwrap_or_else(|| {
            let wait = self.next;
            self.next = (wait * 2).min(LONGEST);
            now + wait
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_never_room_for_is_asked_for_less_and_less_often() {
        let (mut patience, mut now) = (Patience::new(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let at = patience.dropped(now, None);
            waits.push((at - now).as_secs());
            // More of the same answer.
            assert_eq!(patience.dropped(now + Duration::from_millis(300), Some(at)), at);
            // The next one comes and is too much.
            now = at + Duration::from_secs(2);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        now += Duration::from_secs(50);
        assert_eq!(patience.dropped(now, None) - now, LONGEST, "that was an answer late");
        now += Duration::from_secs(121);
        assert_eq!(patience.dropped(now, None) - now, FIRST);
    }
}
