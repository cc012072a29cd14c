//! Whether lists, sets and counts agree, for tests.

use super::head::{PARKED, QUEUED, WAITING};
use super::{List, Record, Tracked, Waiting};
use crate::slab::NIL;

impl<T: Record, const SHIFT: u32> Tracked<T, SHIFT> {
    /// Panics unless lists, sets and counts agree.
    pub(crate) fn verify(&self) {
        assert_eq!(self.occupied.count(), self.slab.used(), "slots in use");
        assert_eq!(self.slab.count_free() + self.slab.used(), self.slab.len(), "free slots");
        let mut alive = 0;
        let mut flagged = [0; 3];
        let mut from = 0;
        while let Some(index) = self.occupied.next(from) {
            let head = self.slab.at(index).head();
            alive += u32::from(!head.is_dead());
            flagged[0] += u32::from(head.is_queued());
            flagged[1] += u32::from(head.is_waiting());
            let parked = head.flags & PARKED != 0;
            flagged[2] += u32::from(parked);
            let lists = (head.flags & (QUEUED | WAITING | PARKED)).count_ones();
            assert!(lists <= 1, "slot {index} is in two lists");
            assert!(head.is_dead() || !parked, "slot {index} is kept as dead and lives");
            assert!(!head.is_dead() || lists == 1, "slot {index} is dead and nobody waits for it");
            from = index + 1;
        }
        assert_eq!(alive, self.alive, "living records");
        let waiting: Vec<&List> = match &self.waiting {
            Waiting::Ack(list) | Waiting::Expiry(list) => vec![list],
            Waiting::Repeat(wheel) => wheel.slots().collect(),
        };
        let waiting_len: u32 = waiting.iter().map(|list| list.len).sum();
        assert_eq!(waiting_len, flagged[1], "records that wait");
        for (list, flag, flagged) in waiting
            .into_iter()
            .map(|list| (list, WAITING, list.len))
            .chain([(&self.queue, QUEUED, flagged[0]), (&self.parked, PARKED, flagged[2])])
        {
            let mut prev = NIL;
            let mut at = list.first;
            let mut len = 0;
            while at != NIL {
                assert!(self.exists(at), "slot {at} is listed and free");
                let head = self.slab.at(at).head();
                assert!(head.flags & flag != 0, "slot {at} is in a list it does not know of");
                assert_eq!(head.prev, prev, "slot {at}");
                prev = at;
                at = head.next;
                len += 1;
                assert!(len <= list.len, "a list is longer than it says");
            }
            assert_eq!((prev, len, flagged), (list.last, list.len, list.len), "list");
        }
        for set in [&self.bulk, &self.stale] {
            let mut from = 0;
            while let Some(index) = set.next(from) {
                assert!(self.exists(index), "slot {index} is in a set and free");
                from = index + 1;
            }
        }
    }
}
