//! What must not happen silently and is no error of anything here: objects that find no room, a
//! peer that is not heard, messages that never came. Each is counted, told when it begins, and
//! summed while it goes on.

use std::time::{Duration, Instant};

use proto_sync::Session;

use crate::log::Log;
use crate::snapshot::Conditions;

/// A peer sends at least once a second. After so long it is told to be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// What goes on is told once in so long.
const GAP: Duration = Duration::from_secs(10);

/// Occurrences that come by the thousand.
#[derive(Debug, Default)]
struct Burst {
    untold: u64,
    told_at: Option<Instant>,
}

impl Burst {
    /// How many to tell of now.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let early = self.told_at.is_some_and(|at| now < at + GAP);
        if self.untold == 0 || early {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Watch {
    began: Instant,
    full: Burst,
    /// How often a shard's cache was nearly full.
    nearly: Burst,
    holes: Burst,
    /// Missing messages that were counted.
    lost: u64,
    silent: bool,
    silences: u64,
}

impl Watch {
    /// Nothing has happened yet.
    pub(super) fn new(now: Instant) -> Self {
        let burst = Burst::default;
        let (full, nearly, holes) = (burst(), burst(), burst());
        Self { began: now, full, nearly, holes, lost: 0, silent: false, silences: 0 }
    }

    /// So many objects found no room in a cache.
    pub(super) const fn no_space(&mut self, objects: u64) {
        self.full.untold += objects;
    }

    /// A shard's cache is nearly full.
    pub(super) const fn nearly_full(&mut self) {
        self.nearly.untold += 1;
    }

    /// Looks at the session and tells what is due.
    pub(super) fn turn(&mut self, now: Instant, session: Option<&Session>, log: &dyn Log) {
        if self.nearly.due(now).is_some() {
            log.warning(format_args!("a cache is 80 % full, see HashLimit"));
        }
        if let Some(objects) = self.full.due(now) {
            log.warning(format_args!(
                "no space left in cache: {objects} objects were refused, see HashLimit"
            ));
        }
        let Some(session) = session else { return };
        let lost = session.counters().lost;
        self.holes.untold += lost.saturating_sub(self.lost);
        self.lost = lost;
        if let Some(messages) = self.holes.due(now) {
            log.warning(format_args!(
                "{messages} messages of the other node did not come in order"
            ));
        }
        if !session.keeps_alive() {
            return;
        }
        let heard = session.last_heard().unwrap_or(self.began);
        let silent = now.saturating_duration_since(heard) > SILENCE;
        if silent && !self.silent {
            self.silences += 1;
            let secs = SILENCE.as_secs();
            log.warning(format_args!("the other node was not heard for {secs} seconds"));
        } else if self.silent && !silent {
            log.notice(format_args!("the other node is heard again"));
        }
        self.silent = silent;
    }

    /// Copies the figures.
    pub(super) fn figures(
        &self,
        now: Instant,
        session: Option<&Session>,
        conditions: &mut Conditions,
    ) {
        conditions.peer_silences = self.silences;
        let session = session.filter(|session| session.keeps_alive());
        conditions.peer_silent = session.map(|_| self.silent);
        conditions.peer_heard_ms = session
            .and_then(Session::last_heard)
            .map(|heard| now.saturating_duration_since(heard).as_millis() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_summed() {
        let begin = Instant::now();
        let mut burst = Burst::default();
        assert_eq!(burst.due(begin), None);
        burst.untold += 3;
        assert_eq!(burst.due(begin), Some(3));
        burst.untold += 4;
        assert_eq!(burst.due(begin + Duration::from_secs(9)), None);
        burst.untold += 5;
        assert_eq!(burst.due(begin + Duration::from_secs(10)), Some(9));
        assert_eq!(burst.due(begin + Duration::from_secs(30)), None);
    }
}
