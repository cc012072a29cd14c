//! Messages of the peer that wait to be injected, as they came.
//!
//! A peer tells its whole table in a fraction of the time that the kernel needs to take it. In a queue
//! of flows that would be a multiple of what a cache needs for them; and what is refused has to be told
//! again, so that a table above a certain size would be told again and again.

use std::collections::VecDeque;

use proto_sync::{Messages, RawMessage};

use crate::mesh::BLOCK_BYTES;

/// Octets that may wait, for each flow that a cache may hold: what that would need.
const FLOW_BYTES: usize = 128;
/// And at least: some of the blocks in which messages come.
const ROOM_MIN: usize = 32 * BLOCK_BYTES;
/// And at most, all shards together: two million flows.
const ROOM_MAX: usize = 256 << 20;
/// Octets that are taken from the allocator at once, and given back when their messages are taken.
const CHUNK: usize = 256 << 10;

/// The messages, in their order.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Whole messages in each.
    chunks: VecDeque<Vec<u8>>,
    /// Where the first message begins in the first of them.
    at: usize,
    /// Octets that wait.
    len: usize,
    /// Octets of the messages that were taken, ever.
    taken: u64,
    /// Octets that may wait.
    max: usize,
}

impl Inbox {
    /// Room for what `limit` flows need, on one of so many shards; memory is taken as they come.
    pub(crate) fn new(limit: u32, shards: u32) -> Self {
        let most = ROOM_MAX / shards.max(1) as usize;
        Self::of(most.min(FLOW_BYTES.saturating_mul(limit as usize)).max(ROOM_MIN))
    }

    /// Room for so many octets.
    const fn of(max: usize) -> Self {
        Self { chunks: VecDeque::new(), at: 0, len: 0, taken: 0, max }
    }

    /// Puts messages behind the others; `false` if there is no room for all of them, and none is.
    pub(crate) fn push(&mut self, messages: &[u8]) -> bool {
        let fits = messages.len() <= self.max - self.len;
        if fits {
            self.append(messages);
        }
        fits
    }

    fn append(&mut self, messages: &[u8]) {
        self.len += messages.len();
        let room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len();
        match self.chunks.back_mut().filter(|chunk| room(chunk) >= messages.len()) {
            Some(chunk) => chunk.extend_from_slice(messages),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK.max(messages.len()));
                chunk.extend_from_slice(messages);
                self.chunks.push_back(chunk);
            }
        }
    }

    /// How many octets of messages were taken, ever.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// How many have come.
    pub(crate) const fn come(&self) -> u64 {
        self.taken + self.len as u64
    }

    /// Hands messages to `take` as long as it wants more.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(&RawMessage<'_>) -> bool) {
        let (mut more, before) = (true, self.len);
        while more && let Some(chunk) = self.chunks.front_mut() {
            let begin = self.at;
            while more && let Some(Ok(message)) = Messages::new(&chunk[self.at..]).next() {
                self.at += message.bytes.len();
                more = take(&message);
            }
            if more {
                // The session has checked them: there is nothing left.
                self.at = chunk.len();
            }
            self.len -= self.at - begin;
            if self.at < chunk.len() {
                break;
            }
            self.at = 0;
            chunk.clear();
            if self.len == 0 {
                break;
            }
            self.chunks.pop_front();
        }
        self.taken += (before - self.len) as u64;
    }

    /// Forgets all but what `keep` holds.
    pub(crate) fn retain(&mut self, keep: impl Fn(&RawMessage<'_>) -> bool) {
        let mut kept = Self::of(self.max);
        self.drain(|message| {
            if keep(message) {
                kept.append(message.bytes);
            }
            true
        });
        self.taken -= kept.len as u64;
        (self.chunks, self.len) = (kept.chunks, kept.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state message of `len` octets.
    fn message(seq: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0x10, 0, 0, len as u8];
        bytes.extend(seq.to_be_bytes());
        bytes.resize(len, 0);
        bytes
    }

    impl Inbox {
        fn allocated(&self) -> usize {
            self.chunks.iter().map(Vec::capacity).sum()
        }
    }

    #[test]
    fn there_is_an_end_to_what_may_wait() {
        assert_eq!(Inbox::new(1_048_576, 1).max, 128 << 20);
        assert_eq!(Inbox::new(u32::MAX, 2).max, 128 << 20, "256 megaoctets for both");
        assert_eq!(Inbox::new(1, 1).max, 1 << 20);
    }

    #[test]
    fn what_is_kept_stays_in_its_order() {
        let mut inbox = Inbox::of(2 << 20);
        let mut sent = 0;
        while inbox.push(&message(sent, 100)) {
            sent += 1;
        }
        let (come, mut left) = (inbox.come(), 50);
        inbox.drain(|_| {
            left -= 1;
            left > 0
        });
        inbox.retain(|message| message.seq % 1000 == 0);
        assert_eq!(inbox.come(), come);
        assert!(inbox.allocated() <= CHUNK);
        assert!(inbox.push(&message(sent, 100)));
        let mut seen = Vec::new();
        inbox.drain(|message| {
            seen.push(message.seq);
            true
        });
        let kept = (50..sent).filter(|seq| seq % 1000 == 0).chain([sent]);
        assert!(seen.iter().copied().eq(kept), "{seen:?}");
        assert_eq!(inbox.taken(), come + 100);
    }

    #[test]
    fn what_waits_comes_in_its_order_and_takes_no_more_than_it_may() {
        let mut inbox = Inbox::of(2 << 20);
        let (mut sent, mut refused, mut next) = (0, 0, 0);
        for round in 0..200_000_u32 {
            if inbox.push(&message(sent, 40 + round as usize % 30)) {
                sent += 1;
            } else {
                refused += 1;
            }
            let mut left = if round < 150_000 { round % 2 } else { 5 };
            if left == 0 {
                continue;
            }
            inbox.drain(|message| {
                assert_eq!(message.seq, next);
                next += 1;
                left -= 1;
                left > 0
            });
            assert!(inbox.allocated() <= (2 << 20) + 2 * CHUNK);
        }
        assert!(refused > 0 && sent + refused == 200_000);
        inbox.drain(|_| {
            next += 1;
            true
        });
        assert_eq!(next, sent);
        assert!(inbox.taken() > 2 << 20 && inbox.taken() == inbox.come());
        assert!(inbox.allocated() <= CHUNK);
    }
}
