//! Acknowledgements and requests that wait to be sent.

use std::collections::VecDeque;

/// An ACK or a NACK of the numbers `from..=to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) nack: bool,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// A bounded queue of ranges, in order.
#[derive(Debug)]
pub(crate) struct ControlQueue {
    ranges: VecDeque<Range>,
}

/// Ranges that wait at most. Only a datagram that skips a number with every message makes more.
const RANGES_MAX: usize = 256;

impl ControlQueue {
    pub(crate) fn new() -> Self {
        Self { ranges: VecDeque::with_capacity(RANGES_MAX) }
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    pub(crate) fn pop(&mut self) -> Option<Range> {
        self.ranges.pop_front()
    }

    /// Queues an acknowledgement; one that continues the last is joined to it.
    pub(crate) fn ack(&mut self, from: u32, to: u32) {
        if let Some(last) = self.ranges.back_mut()
            && !last.nack
            && last.to.wrapping_add(1) == from
        {
            last.to = to;
            return;
        }
        self.push(Range { nack: false, from, to });
    }

    /// Queues a request to repeat.
    pub(crate) fn nack(&mut self, from: u32, to: u32) {
        self.push(Range { nack: true, from, to });
    }

    fn push(&mut self, range: Range) {
        if self.ranges.len() < RANGES_MAX {
            self.ranges.push_back(range);
        } else if let Some(last) = self.ranges.back_mut() {
            // Asking for what has arrived costs a repetition; acknowledging what has not would
            // lose it.
            *last = Range { nack: true, from: last.from, to: range.to };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_acknowledgements_become_one() {
        let mut q = ControlQueue::new();
        q.ack(1, 3);
        q.ack(4, 6);
        q.ack(8, 9);
        q.nack(10, 11);
        q.ack(12, 12);
        let all: Vec<_> = core::iter::from_fn(|| q.pop()).map(|r| (r.nack, r.from, r.to)).collect();
        assert_eq!(all, [(false, 1, 6), (false, 8, 9), (true, 10, 11), (false, 12, 12)]);
    }

    #[test]
    fn a_full_queue_asks_again_instead_of_forgetting() {
        let mut q = ControlQueue::new();
        for n in 0..1000 {
            q.nack(2 * n, 2 * n);
            q.ack(2 * n + 1, 2 * n + 1);
        }
        let all: Vec<_> = core::iter::from_fn(|| q.pop()).collect();
        assert_eq!(all.len(), RANGES_MAX);
        let last = all.last().unwrap();
        assert_eq!((last.nack, last.from, last.to), (true, 255, 1999));
    }
}
