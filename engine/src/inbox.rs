//! Messages of the peer that wait to be injected, as they came.
//!
//! A peer tells its whole table in a fraction of the time that the kernel needs to take it. In a queue
//! of flows that would be a multiple of what a cache needs for them; and what is refused has to be told
//! again, so that a table above a certain size would be told again and again.

use proto_sync::{Messages, RawMessage};

/// Octets in front of the first message above which they are given back, if they are most of all.
const SLACK: usize = 1 << 20;

/// The messages, in their order.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Where the first message begins.
    at: usize,
    /// Octets of the messages that were taken, ever.
    taken: u64,
    /// Octets that may wait.
    max: usize,
}

impl Inbox {
    /// Room for `max` octets, taken as they come.
    pub(crate) const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), at: 0, taken: 0, max }
    }

    /// Puts messages behind the others; `false` if there is no room for all of them, and none is.
    pub(crate) fn push(&mut self, messages: &[u8]) -> bool {
        let fits = self.bytes.len() - self.at + messages.len() <= self.max;
        if fits {
            self.bytes.extend_from_slice(messages);
        }
        fits
    }

    /// How many octets of messages were taken, ever.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// How many have come.
    pub(crate) const fn come(&self) -> u64 {
        self.taken + (self.bytes.len() - self.at) as u64
    }

    /// Hands messages to `take` as long as it wants more.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(&RawMessage<'_>) -> bool) {
        let (mut more, begin) = (true, self.at);
        while more && let Some(Ok(message)) = Messages::new(&self.bytes[self.at..]).next() {
            self.at += message.bytes.len();
            more = take(&message);
        }
        if more {
            // The session has checked them: there is nothing left.
            self.at = self.bytes.len();
        }
        self.taken += (self.at - begin) as u64;
        if more {
            self.bytes.clear();
            self.bytes.shrink_to(SLACK);
            self.at = 0;
        } else if self.at > SLACK && self.at > self.bytes.len() / 2 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
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

    #[test]
    fn what_waits_comes_in_its_order_and_takes_no_more_than_it_may() {
        let mut inbox = Inbox::new(2 << 20);
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
            assert!(inbox.bytes.len() <= (2 << 20) + inbox.at);
            assert!(inbox.bytes.capacity() <= 16 << 20);
        }
        assert!(refused > 0 && sent + refused == 200_000);
        inbox.drain(|_| {
            next += 1;
            true
        });
        assert_eq!(next, sent);
        assert!(inbox.taken() > 2 << 20 && inbox.taken() == inbox.come());
        assert!(inbox.bytes.is_empty() && inbox.bytes.capacity() <= SLACK);
    }
}
