//! What mode ALARM adds to a shard: own objects are told again and again, and the peer's are
//! forgotten when they are no longer told.
//!
//! Nothing is asked for and nothing acknowledged, so this is what repairs losses. The timers are
//! lists through the caches' entries.

use std::time::{Duration, Instant};

use crate::cache::Meta;
use crate::caches::Caches;

/// Objects of a kind that are forgotten in one go.
const EXPIRY_SLICE: usize = 1024;

/// The times of mode ALARM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmTimes {
    /// An own object is told again after a random time of 1.2 seconds up to this many seconds and
    /// one (`RefreshTime`); at least 1.
    pub refresh_secs: u32,
    /// An object of the peer is forgotten so many seconds after it was last told of
    /// (`CacheTimeout`). Has to be above the peer's `refresh_secs` and one.
    pub cache_secs: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Alarm {
    life: u32,
    began: Instant,
}

impl Alarm {
    /// Makes the caches, which must be empty, keep timers. `seed` spreads the repetitions.
    pub(crate) fn new(times: AlarmTimes, caches: &mut Caches, seed: u64, began: Instant) -> Self {
        caches.internal.table.repeat_within(times.refresh_secs, seed);
        caches.expects_internal.table.repeat_within(times.refresh_secs, seed);
        caches.external.table.order_by_change();
        caches.expects_external.table.order_by_change();
        Self { life: times.cache_secs, began }
    }

    /// Queues what is to be told again, until `budget` objects of a kind are queued, and forgets
    /// what has not been told of for too long.
    pub(crate) fn work(&self, now: Instant, caches: &mut Caches, budget: u32) {
        let since = now.saturating_duration_since(self.began);
        caches.internal.table.repeat_due(since, budget);
        caches.expects_internal.table.repeat_due(since, budget);
        let last = since.as_secs().saturating_sub(u64::from(self.life));
        for _ in 0..EXPIRY_SLICE {
            match caches.external.oldest() {
                Some((index, updated)) if u64::from(updated) < last => {
                    caches.external.remove(index);
                }
                _ => break,
            }
        }
        for _ in 0..EXPIRY_SLICE {
            match caches.expects_external.oldest() {
                Some((index, updated)) if u64::from(updated) < last => {
                    caches.expects_external.remove(index);
                }
                _ => break,
            }
        }
    }

    /// When [`Self::work`] has something to do.
    pub(crate) fn poll_timeout(&self, caches: &Caches) -> Option<Instant> {
        let oldest = [
            caches.external.oldest().map(|(_, updated)| updated),
            caches.expects_external.oldest().map(|(_, updated)| updated),
        ];
        let oldest = oldest.into_iter().flatten().min();
        let end = oldest
            .map(|updated| Duration::from_secs(u64::from(updated) + u64::from(self.life) + 1));
        let repeats =
            [caches.internal.table.next_repeat(), caches.expects_internal.table.next_repeat()];
        let next = repeats.into_iter().flatten().chain(end).min()?;
        Some(self.began + next)
    }

    /// Seconds until an object of the peer is forgotten.
    pub(crate) const fn left(&self, meta: &Meta, now_secs: u32) -> u32 {
        self.life.saturating_sub(now_secs.saturating_sub(meta.updated))
    }
}

#[cfg(test)]
mod tests {
    use proto_ctnl::{Flow, L4, Present, Tuple};

    use super::*;

    const REFRESH: u32 = 10;

    fn flow(number: u16) -> Flow {
        let orig = Tuple { proto: 17, l4: L4::ports(number, 53), ..Tuple::default() };
        Flow { orig, present: Present::ORIG, ..Flow::default() }
    }

    fn alarm(caches: &mut Caches) -> Alarm {
        let times = AlarmTimes { refresh_secs: REFRESH, cache_secs: 30 };
        Alarm::new(times, caches, 7, Instant::now())
    }

    #[test]
    fn every_flow_is_told_again_within_its_time_and_not_all_at_once() {
        let mut caches = Caches::new(5000, Some(1));
        let alarm = alarm(&mut caches);
        for number in 0..1000 {
            // As a reading of the table puts them there: nothing is marked.
            caches.internal.merge(&flow(number), 0).unwrap();
        }
        let mut told = vec![Duration::ZERO; 1000];
        let mut rounds = 0;
        let mut most = 0;
        for step in 1..=400 {
            let now = Duration::from_millis(100 * step);
            alarm.work(alarm.began + now, &mut caches, 5000);
            most = most.max(caches.internal.pending_len());
            while let Some((index, _)) = caches.internal.next_changed() {
                let since = now - std::mem::replace(&mut told[index.raw() as usize], now);
                assert!(since >= Duration::from_secs(1), "again after {since:?}");
                assert!(since <= Duration::from_millis(11_300), "only after {since:?}");
                caches.internal.sent(index, false);
                rounds += 1;
            }
        }
        caches.internal.verify();
        assert!(told.iter().all(|at| *at > Duration::from_secs(28)), "some are no longer told");
        assert!((5000..10_000).contains(&rounds), "{rounds} in 40 seconds, 6.1 on average");
        assert!(most < 200, "{most} at once");
    }

    #[test]
    fn a_change_starts_the_timer_anew_and_an_end_stops_it() {
        let mut caches = Caches::new(100, Some(1));
        let alarm = alarm(&mut caches);
        let [busy, ended] = [1, 2].map(|n| caches.internal.replace(&flow(n), 0).unwrap().index);
        for index in [busy, ended] {
            caches.internal.mark_changed(index);
            caches.internal.sent(index, false);
        }
        caches.internal.kill(ended);
        caches.internal.sent(ended, false);
        assert_eq!(caches.internal.len(), 1);
        // Changed once a second it is never due.
        for step in 1..300 {
            let now = alarm.began + Duration::from_millis(100 * step);
            alarm.work(now, &mut caches, 100);
            assert_eq!(caches.internal.pending_len(), 0, "after {step} steps");
            if step % 10 == 0 {
                caches.internal.merge(&flow(1), 0).unwrap();
                caches.internal.mark_changed(busy);
                caches.internal.sent(busy, false);
            }
        }
        caches.internal.verify();
        let next = alarm.poll_timeout(&caches).unwrap() - alarm.began;
        assert!(next > Duration::from_millis(29_900) && next <= Duration::from_millis(30_200));
        caches.internal.clear();
        assert_eq!(alarm.poll_timeout(&caches), None);
        caches.internal.verify();
    }

    #[test]
    fn what_the_peer_no_longer_tells_is_forgotten() {
        let mut caches = Caches::new(100, Some(1));
        let alarm = alarm(&mut caches);
        for number in 1..=3 {
            caches.external.replace(&flow(number), 0).unwrap();
        }
        let kept = caches.external.merge(&flow(2), 5).unwrap().index;
        caches.external.replace(&flow(1), 7).unwrap();
        let at = |secs| alarm.began + Duration::from_secs(secs);
        assert_eq!(alarm.poll_timeout(&caches), Some(at(31)));
        for (secs, left) in [(30, 3), (31, 2), (35, 2), (36, 1), (37, 1), (38, 0)] {
            alarm.work(at(secs), &mut caches, 100);
            assert_eq!(caches.external.len(), left, "after {secs} seconds");
            caches.external.verify();
            if let Some(meta) = caches.external.meta(kept) {
                assert_eq!(u64::from(alarm.left(&meta, secs as u32)), 35 - secs.min(35));
            }
        }
        assert_eq!(caches.external.counters().destroyed, 4, "one was replaced");
    }
}
