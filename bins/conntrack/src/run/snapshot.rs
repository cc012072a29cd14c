//! What a snapshot has shown, as far as events may yet tell of it.
//!
//! A flow that begins while the table is read may be in what is read, and has an event besides. Which
//! these are is found without keeping the table: a socket of its own tells which flows have begun since
//! events are heard, and of what was shown only the last second is kept, as events of it may be on
//! their way. So what is kept is bounded by how fast the kernel tells of flows, not by how many it has.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use proto_ctnl::render::EventKind;
use proto_ctnl::{Flow, Present};

/// How long after a flow is in the table the event may come that tells of it: the kernel puts it there
/// first.
const BELATED: Duration = Duration::from_secs(1);
/// How long flows are gathered that are then kept and given up together.
const SHIFT: Duration = Duration::from_millis(125);
/// Flows among which one may stand twice: where one of a chain of the kernel's table goes at the end of
/// a part, the next part begins with the chain. Chains are much shorter.
const NEIGHBOURS: usize = 8192;

/// Tells flows from others. Identifiers alone, of 32 bits, are the same for some of a large table.
type Key = u64;

/// Flows that were shown together, in order, and when the last of them was.
struct Shift {
    keys: Vec<Key>,
    ended: Instant,
}

/// What was shown.
pub(super) struct Shown {
    hasher: RandomState,
    /// The last of them, and as many before.
    last: [HashSet<Key>; 2],
    open: Vec<Key>,
    /// Since when they are gathered; when the table is shown, since when that is so.
    opened: Instant,
    recent: Vec<Shift>,
    /// Flows that began since events are heard, by a part of their keys: another flow may have it too,
    /// and is then kept for nothing.
    begun: HashSet<u32>,
    /// Not all of those are known: whatever was shown may be told of again.
    blind: bool,
    /// Those of them that were shown and are not among the recent ones.
    doubles: HashSet<Key>,
    /// Those whose event was passed over, or which ended.
    told: HashSet<Key>,
}

impl Shown {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            hasher: RandomState::new(),
            last: [HashSet::new(), HashSet::new()],
            open: Vec::new(),
            opened: now,
            recent: Vec::new(),
            begun: HashSet::new(),
            blind: false,
            doubles: HashSet::new(),
            told: HashSet::new(),
        }
    }

    fn key(&self, flow: &Flow) -> Option<Key> {
        let key = || self.hasher.hash_one((flow.id, flow.orig, flow.key_zone()));
        flow.present.has(Present::ID).then(key)
    }

    /// Notes a flow of the table; whether it was not shown yet.
    pub(super) fn add(&mut self, flow: &Flow) -> bool {
        let Some(key) = self.key(flow) else { return true };
        let [last, before] = &mut self.last;
        if before.contains(&key) || !last.insert(key) {
            return false;
        }
        if last.len() >= NEIGHBOURS {
            self.last.swap(0, 1);
            self.last[0].clear();
        }
        self.open.push(key);
        true
    }

    /// Notes a flow that began.
    pub(super) fn begins(&mut self, flow: &Flow) {
        if let Some(key) = self.key(flow) {
            self.begun.insert(key as u32);
        }
    }

    /// It was not heard of all flows that began.
    pub(super) const fn lost(&mut self) {
        self.blind = true;
    }

    /// To be called now and then while the table is read, with a time by which all flows were noted that
    /// had begun.
    pub(super) fn settle(&mut self, now: Instant) {
        if now.saturating_duration_since(self.opened) >= SHIFT {
            self.close(now);
        }
        let Self { recent, begun, blind, doubles, .. } = self;
        recent.retain(|shift| {
            let waits = now.saturating_duration_since(shift.ended) < BELATED;
            if !waits {
                let may_come = |key: &&Key| *blind || begun.contains(&(**key as u32));
                doubles.extend(shift.keys.iter().filter(may_come));
            }
            waits
        });
    }

    fn close(&mut self, now: Instant) {
        let mut keys = std::mem::take(&mut self.open);
        keys.sort_unstable();
        if !keys.is_empty() {
            self.recent.push(Shift { keys, ended: now });
        }
        self.opened = now;
    }

    /// The whole table is shown.
    pub(super) fn finish(&mut self, now: Instant) {
        self.close(now);
        self.begun = HashSet::new();
        self.last = [HashSet::new(), HashSet::new()];
    }

    /// Notes an event; whether it tells once more what was shown.
    pub(super) fn is_double(&mut self, kind: EventKind, flow: &Flow) -> bool {
        let Some(key) = self.key(flow) else { return false };
        let is_recent = || self.recent.iter().any(|shift| shift.keys.binary_search(&key).is_ok());
        match kind {
            // A later flow may be the same in all that is compared.
            EventKind::New | EventKind::Destroy => {
                let double = self.doubles.contains(&key) || is_recent();
                double && self.told.insert(key) && kind == EventKind::New
            }
            EventKind::Update => false,
        }
    }

    /// Whether all is told that could be told twice, if no event was waiting at that time.
    pub(super) fn is_over(&self, time: Instant) -> bool {
        time.saturating_duration_since(self.opened) >= BELATED
    }
}

#[cfg(test)]
mod tests {
    use proto_ctnl::Tuple;

    use super::*;

    fn flow(id: u32, port: u16) -> Flow {
        let mut flow = Flow { id, ..Flow::default() };
        flow.orig = Tuple { l4: proto_ctnl::L4::ports(port, 53), ..Tuple::default() };
        flow.present.insert(Present::ID);
        flow
    }

    /// What is kept, in flows.
    fn kept(shown: &Shown) -> usize {
        let recent: usize = shown.recent.iter().map(|shift| shift.keys.len()).sum();
        recent + shown.open.len() + shown.doubles.len() + shown.last[0].len() + shown.last[1].len()
    }

    #[test]
    fn no_more_than_the_last_second_is_kept_of_any_table() {
        let begin = Instant::now();
        let mut shown = Shown::new(begin);
        let a_second = 20_000;
        for n in 0..10 * a_second {
            assert!(shown.add(&flow(n, 1)));
            if n % 100 == 0 {
                shown.settle(begin + Duration::from_secs(1) * n / a_second);
                assert!(kept(&shown) < 2 * a_second as usize + 2 * NEIGHBOURS, "at {n}");
            }
        }
    }

    #[test]
    fn a_flow_is_told_once_however_late_its_event() {
        let begin = Instant::now();
        let later = |ms| begin + Duration::from_millis(ms);
        let (old, early, late) = (flow(1, 1), flow(2, 2), flow(3, 3));
        let mut shown = Shown::new(begin);
        // Its event had come before it was read from the table.
        shown.begins(&early);
        for (ms, flow) in [(0, &old), (0, &early), (3000, &late)] {
            assert!(shown.add(flow));
            shown.settle(later(ms + 200));
        }
        shown.settle(later(3900));
        assert_eq!(shown.recent.len(), 1, "only what an event may be on its way of");
        shown.finish(later(3900));
        assert!(shown.is_double(EventKind::New, &early));
        assert!(!shown.is_double(EventKind::Update, &late));
        assert!(!shown.is_over(later(4100)));
        assert!(shown.is_double(EventKind::New, &late));
        // Others may have the same identifier.
        assert!(!shown.is_double(EventKind::New, &flow(3, 4)));
        assert!(!shown.is_double(EventKind::New, &old));
        assert!(shown.is_over(later(4900)));
    }

    #[test]
    fn a_flow_is_told_once_if_its_beginning_was_lost() {
        let begin = Instant::now();
        let mut shown = Shown::new(begin);
        assert!(shown.add(&flow(1, 1)));
        shown.lost();
        for ms in [200, 3000] {
            shown.settle(begin + Duration::from_millis(ms));
        }
        shown.finish(begin + Duration::from_secs(3));
        assert!(shown.is_double(EventKind::New, &flow(1, 1)));
    }

    #[test]
    fn a_flow_that_is_the_same_as_an_ended_one_is_told() {
        let begin = Instant::now();
        for ends in [EventKind::Destroy, EventKind::New] {
            let mut shown = Shown::new(begin);
            let flow = flow(1, 1);
            assert!(shown.add(&flow));
            shown.finish(begin);
            assert_eq!(shown.is_double(ends, &flow), ends == EventKind::New);
            assert!(!shown.is_double(EventKind::New, &flow));
        }
    }

    #[test]
    fn neighbours_that_come_again_are_known() {
        let mut shown = Shown::new(Instant::now());
        for n in 0..100_000 {
            assert!(shown.add(&flow(n, 1)));
            for again in n.saturating_sub(NEIGHBOURS as u32 / 2)..=n {
                if again % 1000 == 7 {
                    assert!(!shown.add(&flow(again, 1)), "{again} after {n}");
                }
            }
        }
    }
}
