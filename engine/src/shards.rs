//! All shards as the hub sees them: its own, called directly, and the others behind pipes.
//!
//! Routes what comes in by the shard function and gathers what goes out, so that the session
//! above knows one stream of changes and the shards know nothing of each other. With one shard
//! there is no pipe.

use std::collections::VecDeque;
use std::sync::Arc;

use proto_ctnl::{Tuple, shard_of};
use proto_sync::{ExpectPayload, FlowPayload, Host, Kind, Next, Token};

use crate::clock::Moment;
use crate::mesh::{
    BLOCK_BYTES, BLOCK_MESSAGES, Changes, Content, Fate, INBOUND_BLOCKS, Inbound, Pipe, ToHub,
    ToShard,
};
use crate::order::{Order, Outcome};
use crate::shard::{Shard, is_of_flow};

/// Most inbound blocks of a shard, made when they are needed for the first time.
const INBOUND_BLOCKS_MAX: usize = 16 * INBOUND_BLOCKS;
/// Blocks that a dump leaves to the peer's messages.
const DUMP_RESERVE: usize = INBOUND_BLOCKS / 2;

/// A shard on another thread.
#[derive(Debug)]
pub struct Remote {
    to: Arc<Pipe<ToShard>>,
    from: Arc<Pipe<ToHub>>,
    /// Blocks of changes to send, oldest first.
    ready: VecDeque<Changes>,
    /// So many of them, from the front, were written before the flows were forgotten.
    forgotten: usize,
    /// Inbound blocks that are empty.
    free: Vec<Vec<u8>>,
    /// Inbound blocks there are.
    blocks: usize,
    /// The inbound block that is being filled.
    open: Option<Inbound>,
    feedback: Vec<(Fate, Token)>,
    free_feedback: Vec<Vec<(Fate, Token)>>,
    /// What the pipe had no place for, oldest first. Holds at most the blocks there are, and the
    /// orders, of which each command has one under way.
    backlog: VecDeque<ToShard>,
    wake: bool,
}

impl Remote {
    /// The hub's end of the two pipes.
    pub fn new(to: Arc<Pipe<ToShard>>, from: Arc<Pipe<ToHub>>) -> Self {
        Self {
            to,
            from,
            ready: VecDeque::with_capacity(crate::mesh::CHANGE_BLOCKS),
            forgotten: 0,
            free: (0..INBOUND_BLOCKS).map(|_| Vec::with_capacity(BLOCK_BYTES)).collect(),
            blocks: INBOUND_BLOCKS,
            open: None,
            feedback: Vec::with_capacity(BLOCK_MESSAGES),
            free_feedback: (0..INBOUND_BLOCKS)
                .map(|_| Vec::with_capacity(BLOCK_MESSAGES))
                .collect(),
            backlog: VecDeque::with_capacity(4 * INBOUND_BLOCKS),
            wake: false,
        }
    }

    /// Adds a message to the open block; `false` if no block is free.
    fn inbound(&mut self, content: Content, message: &[u8]) -> bool {
        let fits = self.open.as_ref().is_some_and(|open| {
            open.content == content && open.bytes.len() + message.len() <= BLOCK_BYTES
        });
        if !fits {
            self.close();
            let Some(bytes) = self.free.pop().or_else(|| self.new_block()) else { return false };
            self.open = Some(Inbound { content, bytes });
        }
        if let Some(open) = &mut self.open {
            open.bytes.extend_from_slice(message);
        }
        true
    }

    /// When the shard's thread does not get a core for a while, there is more than usual to be
    /// kept for it.
    fn new_block(&mut self) -> Option<Vec<u8>> {
        if self.blocks >= INBOUND_BLOCKS_MAX {
            return None;
        }
        self.blocks += 1;
        Some(Vec::with_capacity(BLOCK_BYTES))
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.push(ToShard::Inbound(open));
        }
    }

    fn fate(&mut self, fate: Fate, token: Token) {
        if self.feedback.len() == BLOCK_MESSAGES {
            self.close_feedback();
        }
        self.feedback.push((fate, token));
    }

    fn close_feedback(&mut self) {
        if !self.feedback.is_empty() {
            let empty =
                self.free_feedback.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_MESSAGES));
            let full = std::mem::replace(&mut self.feedback, empty);
            self.push(ToShard::Feedback(full));
        }
    }

    fn push(&mut self, item: ToShard) {
        self.backlog.push_back(item);
        self.drain_backlog();
    }

    fn drain_backlog(&mut self) {
        while let Some(item) = self.backlog.pop_front() {
            match self.to.push(item) {
                Ok(wake) => self.wake |= wake,
                Err(item) => {
                    self.backlog.push_front(item);
                    return;
                }
            }
        }
    }

    fn skip_change(&mut self) {
        if let Some(block) = self.ready.front_mut() {
            block.advance();
        }
    }

    fn next_change(&mut self, room: &mut [u8]) -> Next {
        while let Some(block) = self.ready.front_mut() {
            let Some((bytes, token)) = block.peek() else {
                if let Some(mut empty) = self.ready.pop_front() {
                    self.forgotten = self.forgotten.saturating_sub(1);
                    empty.reset();
                    self.push(ToShard::Emptied(empty));
                }
                continue;
            };
            if self.forgotten > 0 && is_of_flow(token) {
                block.advance();
                continue;
            }
            let Some(place) = room.get_mut(..bytes.len()) else { return Next::NoRoom };
            place.copy_from_slice(bytes);
            let len = bytes.len();
            block.advance();
            return Next::Message { len, token };
        }
        Next::Empty
    }
}

/// Messages that had to be dropped because a shard did not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// From the peer.
    pub peer: u64,
    /// From the kernel.
    pub events: u64,
}

/// The hub's shard and the others.
#[derive(Debug)]
pub struct Shards {
    /// Shard 0.
    pub local: Shard,
    /// Messages of the peer for shard 0.
    gathered: Vec<u8>,
    remotes: Vec<Remote>,
    now: Moment,
    /// Which shard is asked for changes first.
    source: usize,
    dropped: Dropped,
    stirred: bool,
}

impl Shards {
    /// `local` is shard 0, `remotes` are the shards from 1 on.
    pub fn new(local: Shard, remotes: Vec<Remote>, now: Moment) -> Self {
        Self {
            local,
            gathered: Vec::with_capacity(BLOCK_BYTES),
            remotes,
            now,
            source: 0,
            dropped: Dropped { peer: 0, events: 0 },
            stirred: false,
        }
    }

    /// Sets the time of this turn.
    pub fn begin_turn(&mut self, now: Moment) {
        self.now = now;
        self.source = (self.source + 1) % self.count();
    }

    /// How many shards there are.
    pub const fn count(&self) -> usize {
        1 + self.remotes.len()
    }

    /// What was dropped since the last call.
    pub const fn take_dropped(&mut self) -> Dropped {
        std::mem::replace(&mut self.dropped, Dropped { peer: 0, events: 0 })
    }

    fn route(&self, tuple: &Tuple) -> usize {
        match self.remotes.len() {
            0 => 0,
            others => shard_of(tuple, others as u32 + 1) as usize,
        }
    }

    /// A kernel message, an event or an entry of a dump, for the shard that `tuple` belongs to.
    pub fn kernel_message(&mut self, content: Content, tuple: &Tuple, message: &[u8]) {
        match self.route(tuple) {
            0 => self.local.on_kernel_datagram(self.now, content, message),
            k => {
                if !self.remotes[k - 1].inbound(content, message) {
                    self.dropped.events += 1;
                }
            }
        }
    }

    /// Events of shard 0.
    pub fn own_events(&mut self, datagram: &[u8]) {
        self.local.on_kernel_datagram(self.now, Content::Events, datagram);
    }

    /// Adds a message of the peer to those for shard 0.
    fn gather(&mut self, message: &[u8]) {
        if self.gathered.len() + message.len() > BLOCK_BYTES {
            self.give_gathered();
        }
        self.gathered.extend_from_slice(message);
    }

    /// Does what became due in shard 0, behind what arrived for it in this turn.
    pub fn work(&mut self) {
        self.give_gathered();
        self.local.work(self.now.at);
    }

    /// Gives shard 0 what was gathered for it.
    fn give_gathered(&mut self) {
        self.local.on_peer_messages(self.now, &self.gathered);
        self.gathered.clear();
    }

    /// Whether every shard has room for another datagram of a dump.
    pub fn has_room_for_dump(&self) -> bool {
        !self.local.is_saturated()
            && self.remotes.iter().all(|remote| remote.free.len() >= DUMP_RESERVE)
    }

    /// Gives an order to shard `k`. Shard 0 answers at once where it can.
    pub fn order(&mut self, k: usize, order: Order) {
        match k {
            0 => {
                self.give_gathered();
                self.local.order(self.now, order);
            }
            k => {
                let remote = &mut self.remotes[k - 1];
                remote.close();
                remote.push(ToShard::Order(order));
            }
        }
    }

    /// Takes what the other shards sent, and gives the next outcome with the shard it is from.
    pub fn poll_outcome(&mut self) -> Option<(usize, Outcome)> {
        if let Some(outcome) = self.local.poll_outcome() {
            return Some((0, outcome));
        }
        for (i, remote) in self.remotes.iter_mut().enumerate() {
            while let Some(item) = remote.from.pop() {
                match item {
                    ToHub::Changes(block) => {
                        self.stirred = true;
                        remote.ready.push_back(block);
                    }
                    ToHub::Emptied(mut block) => {
                        block.clear();
                        remote.free.push(block);
                    }
                    ToHub::FeedbackEmptied(mut block) => {
                        block.clear();
                        remote.free_feedback.push(block);
                    }
                    ToHub::Outcome(outcome) => {
                        self.stirred = true;
                        // A peer that is flushed next would hear of flows whose end is told by nobody.
                        if matches!(outcome, Outcome::Flushed(which) if which.internal) {
                            remote.forgotten = remote.ready.len();
                        }
                        return Some((i + 1, outcome));
                    }
                }
            }
        }
        None
    }

    /// Whether another shard sent more than empty blocks since the last call.
    pub const fn take_stirred(&mut self) -> bool {
        std::mem::replace(&mut self.stirred, false)
    }

    /// Hands over what was gathered in this turn; `wake` is called for each shard that sleeps.
    pub fn flush(&mut self, mut wake: impl FnMut(usize)) {
        for (i, remote) in self.remotes.iter_mut().enumerate() {
            remote.close();
            remote.close_feedback();
            remote.drain_backlog();
            if std::mem::take(&mut remote.wake) {
                wake(i + 1);
            }
        }
    }

    /// Whether anything waits in a pipe to the hub.
    pub fn has_inbound(&self) -> bool {
        self.remotes.iter().any(|remote| !remote.from.is_empty())
    }

    /// Whether something could not be handed over and has to be tried again soon.
    pub fn has_backlog(&self) -> bool {
        self.remotes.iter().any(|remote| !remote.backlog.is_empty())
    }

    /// The most items that ever waited for shard `k`.
    pub fn high_water(&self, k: usize) -> usize {
        k.checked_sub(1).map_or(0, |i| self.remotes[i].to.high_water())
    }

    fn fate(&mut self, fate: Fate, token: Token) {
        match usize::from(token.shard) {
            0 => self.local.fate(fate, token),
            k => {
                if let Some(remote) = self.remotes.get_mut(k - 1) {
                    remote.fate(fate, token);
                }
            }
        }
    }
}

impl Host for Shards {
    fn flow(&mut self, _kind: Kind, message: &[u8], payload: &FlowPayload<'_>) {
        match self.route(&payload.orig_tuple()) {
            0 => self.gather(message),
            k => {
                if !self.remotes[k - 1].inbound(Content::Peer, message) {
                    self.dropped.peer += 1;
                }
            }
        }
    }

    fn expect(&mut self, _kind: Kind, message: &[u8], payload: &ExpectPayload<'_>) {
        match self.route(&payload.master().unwrap_or_default()) {
            0 => self.gather(message),
            k => {
                if !self.remotes[k - 1].inbound(Content::Peer, message) {
                    self.dropped.peer += 1;
                }
            }
        }
    }

    /// Takes from one shard until it has nothing more, then from the next. None starves: a remote
    /// shard has at most the blocks that go round, and the hub's own is asked last in a turn.
    fn next(&mut self, room: &mut [u8]) -> Next {
        for _ in 0..self.count() {
            let next = match self.source {
                0 => self.local.next_change(room),
                k => self.remotes[k - 1].next_change(room),
            };
            if !matches!(next, Next::Empty) {
                return next;
            }
            self.source = (self.source + 1) % self.count();
        }
        Next::Empty
    }

    fn oversize(&mut self) {
        match self.source {
            0 => self.local.skip_change(),
            k => self.remotes[k - 1].skip_change(),
        }
    }

    fn acked(&mut self, token: Token) {
        self.fate(Fate::Acked, token);
    }

    fn nacked(&mut self, token: Token) {
        self.fate(Fate::Nacked, token);
    }

    fn evicted(&mut self, token: Token) {
        self.fate(Fate::Evicted, token);
    }
}
