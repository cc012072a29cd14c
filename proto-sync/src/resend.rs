//! The resend queue: what was sent and is not acknowledged.
//!
//! Each sequence number has its slot, at the number modulo the capacity, so that a range finds its
//! elements without a search. Slots that were given back carry the number at which a scan goes
//! on, so that ranges named again and again cost next to nothing. The memory is taken once.

use crate::frame::before;
use crate::session::Token;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Slot {
    /// Nothing to keep; `a` is where a scan goes on.
    Free,
    Object,
    Ack,
    Nack,
    Resync,
}

/// Twelve octets per message sent. Its number is where it stands.
#[derive(Clone, Copy, Debug)]
struct Record {
    a: u32,
    b: u32,
    shard: u8,
    slot: Slot,
    flags: u8,
}

const _: () = assert!(size_of::<Record>() == 12, "a record grew");

const FREE: Record = Record { a: 0, b: 0, shard: 0, slot: Slot::Free, flags: 0 };

/// An unacknowledged message, by what repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// State of an object of the owner.
    Object(Token),
    /// Acknowledgement of a range.
    Ack(u32, u32),
    /// Request for a range.
    Nack(u32, u32),
    /// Request for everything.
    Resync,
}

/// An element as `-s rsqueue` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendEntry {
    /// State of a flow or an expectation.
    Object {
        /// Its sequence number.
        seq: u32,
    },
    /// A control message.
    Control {
        /// Its sequence number.
        seq: u32,
        /// The flags it was sent with.
        flags: u8,
    },
}

/// What left the queue before the peer said anything about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// State of objects.
    pub(crate) objects: bool,
    /// NACK or RESYNC.
    pub(crate) requests: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ResendQueue {
    slots: Box<[Record]>,
    mask: u32,
    /// Oldest number that may be held.
    tail: u32,
    /// The number after the newest.
    head: u32,
    /// Elements held.
    live: u32,
    max: u32,
    peak: u32,
    /// Lowest and highest number of the objects evicted and not accounted for.
    objects: Option<(u32, u32)>,
    /// The same of requests to the peer.
    requests: Option<(u32, u32)>,
}

/// Slots that even the smallest queue has: numbers of keepalives take slots too.
const SLOTS_MIN: u32 = 64;
/// More than any configuration needs: 16 million elements, 192 MiB.
const SLOTS_MAX: u32 = 1 << 24;

impl ResendQueue {
    /// Room for `max` elements; the first number will be `seq`.
    pub(crate) fn new(max: u32, seq: u32) -> Self {
        let max = max.clamp(1, SLOTS_MAX);
        let capacity = max.next_power_of_two().max(SLOTS_MIN);
        Self {
            slots: vec![FREE; capacity as usize].into_boxed_slice(),
            mask: capacity - 1,
            tail: seq,
            head: seq,
            live: 0,
            max,
            peak: 0,
            objects: None,
            requests: None,
        }
    }

    /// Elements held.
    pub(crate) const fn len(&self) -> u32 {
        self.live
    }

    /// Most elements that were held at once.
    pub(crate) const fn peak(&self) -> u32 {
        self.peak
    }

    fn slot(&mut self, seq: u32) -> &mut Record {
        // The mask keeps the index in range, and the length is not 0.
        &mut self.slots[(seq & self.mask) as usize]
    }

    /// Records that message `seq`, the next number, was sent with `flags`; `None` for a message
    /// that nobody repeats. Gives what had to make room.
    pub(crate) fn push(&mut self, seq: u32, sent: Option<Sent>, flags: u8) -> Option<(u32, Sent)> {
        debug_assert_eq!(seq, self.head, "numbers are consecutive");
        let mut out = None;
        if sent.is_some() && self.live == self.max {
            out = self.evict();
        }
        if out.is_none() && self.head.wrapping_sub(self.tail) > self.mask {
            // Far behind the others: the peer acknowledged around it.
            out = self.evict();
        }
        if sent == Some(Sent::Resync) {
            // It brings what they asked for.
            self.requests = None;
        }
        let record = match sent {
            None => Record { a: seq.wrapping_add(1), ..FREE },
            Some(Sent::Object(t)) => {
                Record { a: t.index, b: t.pos, shard: t.shard, slot: Slot::Object, ..FREE }
            }
            Some(Sent::Ack(a, b)) => Record { a, b, slot: Slot::Ack, ..FREE },
            Some(Sent::Nack(a, b)) => Record { a, b, slot: Slot::Nack, ..FREE },
            Some(Sent::Resync) => Record { slot: Slot::Resync, ..FREE },
        };
        *self.slot(seq) = Record { flags, ..record };
        self.head = seq.wrapping_add(1);
        if sent.is_some() {
            self.live += 1;
            self.peak = self.peak.max(self.live);
        } else {
            self.advance();
        }
        out
    }

    /// Removes the oldest element.
    fn evict(&mut self) -> Option<(u32, Sent)> {
        self.advance();
        let seq = self.tail;
        let sent = self.free(seq)?;
        self.advance();
        let evicted = match sent {
            Sent::Object(_) => &mut self.objects,
            Sent::Nack(..) | Sent::Resync => &mut self.requests,
            Sent::Ack(..) => return Some((seq, sent)),
        };
        *evicted = Some((evicted.map_or(seq, |(lo, _)| lo), seq));
        Some((seq, sent))
    }

    /// Gives the slot of `seq` back.
    fn free(&mut self, seq: u32) -> Option<Sent> {
        let record = self.slot(seq);
        let sent = match record.slot {
            Slot::Free => return None,
            Slot::Object => {
                Sent::Object(Token { shard: record.shard, index: record.a, pos: record.b })
            }
            Slot::Ack => Sent::Ack(record.a, record.b),
            Slot::Nack => Sent::Nack(record.a, record.b),
            Slot::Resync => Sent::Resync,
        };
        record.slot = Slot::Free;
        record.a = seq.wrapping_add(1);
        self.live -= 1;
        Some(sent)
    }

    /// Moves the tail over what was given back.
    fn advance(&mut self) {
        while self.tail != self.head {
            let record = *self.slot(self.tail);
            if record.slot != Slot::Free {
                return;
            }
            self.tail = record.a;
        }
    }

    /// Removes every element of `from..=to` and passes it on, in order. Gives how many there were.
    pub(crate) fn take(&mut self, from: u32, to: u32, mut each: impl FnMut(Sent)) -> u32 {
        let from = if before(from, self.tail) { self.tail } else { from };
        // Whether one number comes before another is only known of close ones: an end of a forged
        // range may be far from everything, and must not be compared with the other end alone.
        if !self.spans(from) {
            return 0;
        }
        let newest = self.head.wrapping_sub(1);
        let to = if before(newest, to) { newest } else { to };
        if before(to, from) {
            return 0;
        }
        let live = self.live;
        let mut seq = from;
        while !before(to, seq) {
            match self.free(seq) {
                Some(sent) => {
                    each(sent);
                    seq = seq.wrapping_add(1);
                }
                None => seq = self.slot(seq).a,
            }
        }
        // The whole range is free now: the next scan passes it in one step.
        let first = self.slot(from);
        if before(first.a, seq) {
            first.a = seq;
        }
        self.advance();
        live - self.live
    }

    /// Removes everything; requests for everything only if `resync`.
    pub(crate) fn take_all(&mut self, resync: bool, mut each: impl FnMut(Sent)) -> u32 {
        let live = self.live;
        let mut seq = self.tail;
        while seq != self.head {
            if self.slot(seq).slot == Slot::Resync && !resync {
                seq = seq.wrapping_add(1);
                continue;
            }
            match self.free(seq) {
                Some(sent) => {
                    each(sent);
                    seq = seq.wrapping_add(1);
                }
                None => seq = self.slot(seq).a,
            }
        }
        self.advance();
        live - self.live
    }

    /// The next number will be `seq`. Nothing may be held.
    pub(crate) fn restart(&mut self, seq: u32) {
        debug_assert_eq!(self.live, 0, "nothing is held");
        self.tail = seq;
        self.head = seq;
    }

    /// Removes every element before `seq`.
    pub(crate) fn take_before(&mut self, seq: u32, each: impl FnMut(Sent)) -> u32 {
        if before(self.tail, seq) { self.take(self.tail, seq.wrapping_sub(1), each) } else { 0 }
    }

    /// Whether `seq` is a number that an element has or had lately.
    pub(crate) const fn spans(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.tail) < self.head.wrapping_sub(self.tail)
    }

    /// The peer has `from..=to`: what of it was evicted is not missing.
    pub(crate) fn confirm(&mut self, from: u32, to: u32) {
        for evicted in [&mut self.objects, &mut self.requests] {
            let Some((lo, hi)) = *evicted else { continue };
            if !before(to, hi) && !before(hi, from) {
                *evicted = before(lo, from).then_some((lo, from.wrapping_sub(1)));
            }
        }
    }

    /// What was evicted under the numbers `from..=to`.
    pub(crate) fn evicted_in(&self, from: u32, to: u32) -> Evicted {
        let within = |range: Option<(u32, u32)>| {
            range.is_some_and(|(lo, hi)| !before(hi, from) && !before(to, lo))
        };
        Evicted { objects: within(self.objects), requests: within(self.requests) }
    }

    /// What was evicted and not accounted for, if all of it had numbers before `seq`.
    pub(crate) fn evicted_before(&self, seq: u32) -> Evicted {
        let behind = |range: Option<(u32, u32)>| range.is_some_and(|(_, hi)| before(hi, seq));
        Evicted { objects: behind(self.objects), requests: behind(self.requests) }
    }

    /// What was evicted and not accounted for.
    pub(crate) const fn evicted(&self) -> Evicted {
        Evicted { objects: self.objects.is_some(), requests: self.requests.is_some() }
    }

    /// The evictions are accounted for.
    pub(crate) fn forgive(&mut self, evicted: Evicted) {
        if evicted.objects {
            self.objects = None;
        }
        if evicted.requests {
            self.requests = None;
        }
    }

    /// The elements in order of sending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ResendEntry> + '_ {
        let count = self.head.wrapping_sub(self.tail);
        (0..count).filter_map(|n| {
            let seq = self.tail.wrapping_add(n);
            let record = self.slots.get((seq & self.mask) as usize)?;
            match record.slot {
                Slot::Free => None,
                Slot::Object => Some(ResendEntry::Object { seq }),
                _ => Some(ResendEntry::Control { seq, flags: record.flags }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: u32) -> Option<Sent> {
        Some(Sent::Object(Token { shard: 1, index: n, pos: 2 }))
    }

    fn numbers(q: &ResendQueue) -> Vec<u32> {
        q.iter()
            .map(|e| match e {
                ResendEntry::Object { seq } | ResendEntry::Control { seq, .. } => seq,
            })
            .collect()
    }

    #[test]
    fn an_acknowledgement_frees_exactly_its_range() {
        let start = u32::MAX - 3;
        let mut q = ResendQueue::new(100, start);
        for n in 0..10 {
            assert_eq!(q.push(start.wrapping_add(n), object(n), 0), None);
        }
        let mut seen = Vec::new();
        assert_eq!(q.take(start.wrapping_add(3), start.wrapping_add(5), |s| seen.push(s)), 3);
        assert_eq!(seen, [object(3).unwrap(), object(4).unwrap(), object(5).unwrap()]);
        assert_eq!(q.len(), 7);
        assert_eq!(q.take(start.wrapping_sub(9), start.wrapping_add(4), |_| ()), 3);
        assert_eq!(q.take(start, start.wrapping_add(500), |_| ()), 4);
        assert_eq!((q.len(), q.peak()), (0, 10));
        assert_eq!(q.take(start, start.wrapping_add(500), |_| ()), 0);
    }

    /// A forged range: such ends once made a scan that went round and round.
    #[test]
    fn ends_far_from_everything_free_nothing_but_what_is_between() {
        const HALF: u32 = 1 << 31;
        let far = [HALF - 9, HALF - 1, HALF, HALF + 1, HALF + 9, u32::MAX - 9];
        for start in [0, 7, HALF, u32::MAX - 3] {
            for (a, b) in far.iter().flat_map(|a| far.iter().map(move |b| (*a, *b))) {
                let mut q = ResendQueue::new(100, start);
                for n in 0..10 {
                    q.push(start.wrapping_add(n), object(n), 0);
                }
                let freed = q.take(start.wrapping_add(a), start.wrapping_add(b), |_| ());
                assert_eq!(q.len(), 10 - freed, "{start} {a} {b}");
                // Still whole.
                assert_eq!(q.take(start, start.wrapping_add(9), |_| ()), 10 - freed);
            }
        }
    }

    #[test]
    fn what_does_not_fit_comes_out_oldest_first() {
        let mut q = ResendQueue::new(2, 7);
        assert_eq!(q.push(7, object(7), 0), None);
        assert_eq!(q.push(8, None, 0), None);
        assert_eq!(q.push(9, object(9), 0), None);
        assert_eq!(q.push(10, object(10), 0), Some((7, object(7).unwrap())));
        assert_eq!(numbers(&q), [9, 10]);
        let objects = Evicted { objects: true, requests: false };
        let nothing = Evicted { objects: false, requests: false };
        assert_eq!(q.evicted_in(5, 7), objects);
        assert_eq!(q.evicted_in(7, 9), objects);
        assert_eq!(q.evicted_in(8, 9), nothing);
        q.confirm(8, 9);
        assert_eq!(q.evicted(), objects);
        q.confirm(7, 9);
        assert_eq!(q.evicted(), nothing);
        assert_eq!(q.push(11, object(11), 0), Some((9, object(9).unwrap())));
        q.forgive(q.evicted());
        assert_eq!(q.evicted(), nothing);
    }

    #[test]
    fn an_element_left_behind_does_not_outlive_the_ring() {
        let mut q = ResendQueue::new(64, 0);
        assert_eq!(q.push(0, object(0), 0), None);
        for n in 1..64 {
            assert_eq!(q.push(n, object(n), 0), None);
            q.take(n, n, |_| ());
        }
        assert_eq!(q.push(64, None, 0), Some((0, object(0).unwrap())));
        assert_eq!(q.len(), 0);
    }

    #[test]
    fn agrees_with_a_list() {
        let mut state = 12345u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut q = ResendQueue::new(50, 0);
        let mut model: Vec<u32> = Vec::new();
        let mut next = 0;
        for _ in 0..20_000 {
            if random() % 3 > 0 {
                let keep = random() % 4 > 0;
                let out = q.push(next, if keep { object(next) } else { None }, 0);
                if let Some((seq, _)) = out {
                    assert_eq!(model.remove(0), seq);
                }
                if keep {
                    model.push(next);
                }
                next += 1;
            } else {
                let from = next.saturating_sub(random() % 80);
                let to = from + random() % 10;
                let mut taken = Vec::new();
                q.take(from, to, |s| match s {
                    Sent::Object(t) => taken.push(t.index),
                    _ => unreachable!(),
                });
                let expected: Vec<_> =
                    model.iter().copied().filter(|n| (from..=to).contains(n)).collect();
                assert_eq!(taken, expected);
                model.retain(|n| !(from..=to).contains(n));
            }
            assert_eq!(numbers(&q), model);
            assert_eq!(q.len() as usize, model.len());
        }
    }
}
