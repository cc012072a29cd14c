//! Bounded queues between the hub (the thread of shard 0, which owns the link) and the other
//! shards. What travels are filled blocks, never single events; blocks are allocated once and
//! go round.
//!
//! ```text
//!   hub  ──ToShard──▶  shard k      peer messages, dump parts, feedback, commands
//!   hub  ◀──ToHub────  shard k      changes to send, replies, empty blocks
//! ```
//!
//! Each ordered pair has a queue of its own, so a push never contends with a push. A full queue
//! is back-pressure: the sender keeps the block and tries again in its next turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use proto_sync::Token;

use crate::order::{Order, Outcome};

/// Octets of a block of messages.
pub const BLOCK_BYTES: usize = 32 * 1024;
/// Messages that a block of changes holds at most.
pub const BLOCK_MESSAGES: usize = 1024;
/// Blocks of changes that one shard may have filled or under way.
pub const CHANGE_BLOCKS: usize = 8;
/// Blocks of inbound messages that go round between the hub and one shard.
pub const INBOUND_BLOCKS: usize = 64;

/// Messages on their way to the peer: whole, unstamped, each with what its shard wants to be
/// told about it later.
#[derive(Debug)]
pub struct Changes {
    /// The messages, one behind the other.
    pub bytes: Vec<u8>,
    /// Length and token of each message.
    pub messages: Vec<(u32, Token)>,
    /// How many of `messages` were taken.
    pub taken: usize,
    /// How many of `bytes` were taken.
    pub offset: usize,
}

impl Changes {
    /// An empty block with room for [`BLOCK_MESSAGES`].
    pub fn new() -> Self {
        Self {
            bytes: vec![0; BLOCK_BYTES],
            messages: Vec::with_capacity(BLOCK_MESSAGES),
            taken: 0,
            offset: 0,
        }
    }

    /// Forgets the messages.
    pub fn reset(&mut self) {
        self.messages.clear();
        self.taken = 0;
        self.offset = 0;
    }

    /// The message that is next to be sent.
    pub fn peek(&self) -> Option<(&[u8], Token)> {
        let &(len, token) = self.messages.get(self.taken)?;
        let bytes = self.bytes.get(self.offset..self.offset + len as usize)?;
        Some((bytes, token))
    }

    /// Steps over the message that [`Self::peek`] shows.
    pub fn advance(&mut self) {
        if let Some(&(len, _)) = self.messages.get(self.taken) {
            self.taken += 1;
            self.offset += len as usize;
        }
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The peer has it.
    Acked,
    /// The peer wants it again.
    Nacked,
    /// It left the resend queue unacknowledged.
    Evicted,
}

/// What a block of inbound messages holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Replication messages.
    Peer,
    /// Kernel events that the intake did not sort, or that only come by the socket.
    Events,
    /// Entries of a kernel dump.
    Dump,
}

/// Inbound messages of one shard.
#[derive(Debug)]
pub struct Inbound {
    /// What they are.
    pub content: Content,
    /// The messages, one behind the other; each tells its own length.
    pub bytes: Vec<u8>,
}

/// From the hub to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// Messages.
    Inbound(Inbound),
    /// What became of messages sent.
    Feedback(Vec<(Fate, Token)>),
    /// An emptied block of changes.
    Emptied(Changes),
    /// Something to do.
    Order(Order),
}

/// From a shard to the hub.
#[derive(Debug)]
pub enum ToHub {
    /// Messages to send.
    Changes(Changes),
    /// An emptied block of inbound messages.
    Emptied(Vec<u8>),
    /// An emptied block of feedback.
    FeedbackEmptied(Vec<(Fate, Token)>),
    /// What came of an order.
    Outcome(Outcome),
}

/// Whether a thread sleeps in its ring, so that who gives it work wakes it once.
#[derive(Debug, Default)]
pub struct Sleep {
    asleep: AtomicBool,
}

impl Sleep {
    /// Called by the owner before it looks at its queues a last time and sleeps.
    pub fn announce(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Called by the owner when it is awake again.
    pub fn end(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Called after a push; `true` if the caller has to wake the owner.
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

/// One direction between two threads.
#[derive(Debug)]
pub struct Pipe<T> {
    queue: ArrayQueue<T>,
    high_water: AtomicUsize,
    receiver: Arc<Sleep>,
}

impl<T> Pipe<T> {
    /// A pipe of `capacity` places to the thread that `receiver` belongs to.
    pub fn new(capacity: usize, receiver: Arc<Sleep>) -> Self {
        Self { queue: ArrayQueue::new(capacity), high_water: AtomicUsize::new(0), receiver }
    }

    /// Hands `item` over, or gives it back when the pipe is full. On success tells whether the
    /// receiver sleeps and has to be woken.
    pub fn push(&self, item: T) -> Result<bool, T> {
        self.queue.push(item)?;
        let depth = self.queue.len();
        if depth > self.high_water.load(Ordering::Relaxed) {
            self.high_water.store(depth, Ordering::Relaxed);
        }
        Ok(self.receiver.must_wake())
    }

    /// Like [`Self::push`], for what the receiver need not look at soon.
    pub fn push_quietly(&self, item: T) -> Result<(), T> {
        self.queue.push(item)
    }

    /// The oldest item.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The most items that ever waited.
    pub fn high_water(&self) -> usize {
        self.high_water.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_gives_the_item_back_and_a_sleeper_is_woken_once() {
        let sleep = Arc::new(Sleep::default());
        let pipe = Pipe::new(2, Arc::clone(&sleep));
        assert_eq!(pipe.push(1), Ok(false));
        sleep.announce();
        assert_eq!(pipe.push(2), Ok(true));
        assert_eq!(pipe.push(3), Err(3));
        assert_eq!((pipe.pop(), pipe.pop(), pipe.pop()), (Some(1), Some(2), None));
        assert_eq!(pipe.push(4), Ok(false), "the first push ended the sleep");
        assert_eq!(pipe.high_water(), 2);
    }

    #[test]
    fn changes_are_taken_in_order() {
        let mut changes = Changes::new();
        for (i, len) in [8u32, 12].into_iter().enumerate() {
            changes.messages.push((len, Token { shard: 1, index: i as u32, pos: 0 }));
        }
        assert_eq!(changes.peek().map(|(b, t)| (b.len(), t.index)), Some((8, 0)));
        changes.advance();
        assert_eq!(changes.peek().map(|(b, t)| (b.len(), t.index)), Some((12, 1)));
        changes.advance();
        assert!(changes.peek().is_none());
        changes.advance();
        changes.reset();
        assert!(changes.peek().is_none());
    }
}
