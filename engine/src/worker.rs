//! A shard that is not the hub's: takes blocks from its pipe, fills blocks of changes.

use std::collections::VecDeque;
use std::sync::Arc;

use proto_sync::Next;

use crate::clock::Moment;
use crate::mesh::{BLOCK_MESSAGES, CHANGE_BLOCKS, Changes, Content, Inbound, Pipe, ToHub, ToShard};
use crate::order::Order;
use crate::shard::Shard;

/// What a worker has to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// More work waits: turn again at once.
    Busy,
    /// Nothing waits.
    Idle,
    /// The thread is to end.
    Stop,
}

/// What a worker took from its pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Took {
    /// Nothing.
    #[default]
    Nothing,
    /// Messages of the peer, and what became of messages to it.
    Received,
    /// Other things as well.
    Other,
}

impl ToShard {
    const fn weight(&self) -> Took {
        match self {
            Self::Inbound(Inbound { content: Content::Peer, .. }) | Self::Feedback(_) => {
                Took::Received
            }
            Self::Inbound(_) | Self::Emptied(_) | Self::Order(_) => Took::Other,
        }
    }
}

/// A shard behind pipes.
#[derive(Debug)]
pub struct Worker {
    /// The shard.
    pub shard: Shard,
    from_hub: Arc<Pipe<ToShard>>,
    to_hub: Arc<Pipe<ToHub>>,
    /// Blocks of changes that are empty.
    free: Vec<Changes>,
    /// What the pipe had no place for, oldest first.
    backlog: VecDeque<ToHub>,
    /// Blocks of a dump that are not given back yet.
    held: Vec<Vec<u8>>,
    took: Took,
    stopping: bool,
}

impl Worker {
    /// The shard's end of the two pipes.
    pub fn new(shard: Shard, from_hub: Arc<Pipe<ToShard>>, to_hub: Arc<Pipe<ToHub>>) -> Self {
        Self {
            shard,
            from_hub,
            to_hub,
            free: (0..CHANGE_BLOCKS).map(|_| Changes::new()).collect(),
            backlog: VecDeque::with_capacity(4 * CHANGE_BLOCKS),
            held: Vec::new(),
            took: Took::Nothing,
            stopping: false,
        }
    }

    /// Whether the hub sent something that was not yet looked at.
    pub fn has_inbound(&self) -> bool {
        !self.from_hub.is_empty()
    }

    /// What the last turn took from the hub.
    pub const fn took(&self) -> Took {
        self.took
    }

    /// Takes at most `blocks` items from the hub and hands over what is ready. `wake` is called
    /// if the hub sleeps.
    pub fn turn(&mut self, now: Moment, blocks: usize, mut wake: impl FnMut()) -> Pace {
        let mut wanted = false;
        self.took = Took::Nothing;
        for _ in 0..blocks {
            let Some(item) = self.from_hub.pop() else { break };
            self.took = self.took.max(item.weight());
            self.take(now, item);
        }
        self.shard.work(now.at);
        if !self.shard.is_saturated() {
            self.backlog.extend(self.held.drain(..).map(ToHub::Emptied));
        }
        // In front of the messages that are written now: those in front of the word that a cache is
        // empty are of what was in it.
        while let Some(outcome) = self.shard.poll_outcome() {
            self.backlog.push_back(ToHub::Outcome(outcome));
        }
        self.fill();
        while let Some(item) = self.backlog.pop_front() {
            match self.hand_over(item) {
                Ok(asleep) => wanted |= asleep,
                Err(item) => {
                    self.backlog.push_front(item);
                    break;
                }
            }
        }
        if wanted {
            wake();
        }
        if self.stopping {
            Pace::Stop
        } else if self.has_inbound() || !self.backlog.is_empty() || self.shard.is_busy() {
            Pace::Busy
        } else {
            Pace::Idle
        }
    }

    /// Empty blocks are no reason to wake the hub.
    fn hand_over(&self, item: ToHub) -> Result<bool, ToHub> {
        match item {
            ToHub::Emptied(_) | ToHub::FeedbackEmptied(_) => {
                self.to_hub.push_quietly(item).map(|()| false)
            }
            ToHub::Changes(_) | ToHub::Outcome(_) => self.to_hub.push(item),
        }
    }

    fn take(&mut self, now: Moment, item: ToShard) {
        match item {
            ToShard::Inbound(Inbound { content, bytes }) => {
                match content {
                    Content::Peer => self.shard.on_peer_messages(now, &bytes),
                    Content::Events | Content::Dump => {
                        self.shard.on_kernel_datagram(now, content, &bytes);
                    }
                }
                // While deletions lag behind, blocks of the dump are kept, so that the hub stops
                // reading it.
                if content == Content::Dump && self.shard.is_saturated() {
                    self.held.push(bytes);
                } else {
                    self.backlog.push_back(ToHub::Emptied(bytes));
                }
            }
            ToShard::Feedback(fates) => {
                for &(fate, token) in &fates {
                    self.shard.fate(fate, token);
                }
                self.backlog.push_back(ToHub::FeedbackEmptied(fates));
            }
            ToShard::Emptied(block) => self.free.push(block),
            ToShard::Order(Order::Stop) => self.stopping = true,
            ToShard::Order(order) => self.shard.order(now, order),
        }
    }

    fn fill(&mut self) {
        while let Some(mut block) = self.free.pop() {
            while block.messages.len() < BLOCK_MESSAGES {
                let end = block.offset;
                match self.shard.next_change(&mut block.bytes[end..]) {
                    Next::Message { len, token } => {
                        block.messages.push((len as u32, token));
                        block.offset += len;
                    }
                    Next::NoRoom | Next::Empty => break,
                }
            }
            block.offset = 0;
            if block.messages.is_empty() {
                self.free.push(block);
                return;
            }
            self.backlog.push_back(ToHub::Changes(block));
        }
    }
}
