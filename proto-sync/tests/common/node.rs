//! A model of the owner of a session: flows of its own, and a table of what the peer told.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use proto_ctnl::{Flow, L4, Present, Status, Tuple, proto};
use proto_sync::{EncodeOptions, ExpectPayload, FlowPayload, Host, Kind, Next, Token, encode_flow};

use super::Random;

/// Flows that a node may have.
pub(crate) const KEYS: u32 = 60;

/// A flow of the node's own.
#[derive(Clone, Copy, Default)]
pub(crate) struct Slot {
    /// What the node sent, or will send, says this; `None` for a flow that is gone.
    pub(crate) mark: Option<u32>,
    /// Updated since it was created.
    pub(crate) updated: bool,
    pub(crate) queued: bool,
    /// Counts the messages about it; a token names one of them.
    pub(crate) sent: u32,
    /// The flow is gone and its DEL is not acknowledged.
    pub(crate) dying: bool,
}

/// The owner of a session.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) own: Vec<Slot>,
    pub(crate) queue: VecDeque<u32>,
    pub(crate) foreign: BTreeMap<u16, u32>,
    pub(crate) messages: u64,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { own: vec![Slot::default(); KEYS as usize], ..Self::default() }
    }

    pub(crate) fn enqueue(&mut self, key: u32) {
        let slot = &mut self.own[key as usize];
        if !slot.queued {
            slot.queued = true;
            self.queue.push_back(key);
        }
    }

    pub(crate) fn change(&mut self, random: &mut Random) {
        let key = random.below(u64::from(KEYS)) as u32;
        let mark = random.next() as u32;
        let slot = &mut self.own[key as usize];
        if slot.mark.is_some() && random.chance(30) {
            slot.mark = None;
            slot.dying = true;
        } else {
            slot.updated = slot.mark.is_some();
            slot.mark = Some(mark);
            slot.dying = false;
        }
        self.enqueue(key);
    }

    pub(crate) fn bulk(&mut self) {
        for key in 0..KEYS {
            let slot = &self.own[key as usize];
            if slot.mark.is_some() || slot.dying {
                self.enqueue(key);
            }
        }
    }

    /// The flows that the peer has to know.
    pub(crate) fn told(&self) -> BTreeMap<u16, u32> {
        let flows = self.own.iter().enumerate();
        flows.filter_map(|(key, slot)| Some((key as u16, slot.mark?))).collect()
    }
}

pub(crate) fn flow(key: u32, mark: u32) -> Flow {
    Flow {
        present: Present(Present::ORIG.0 | Present::STATUS.0 | Present::MARK.0),
        orig: Tuple {
            src: Ipv4Addr::new(10, 0, 0, 1).into(),
            dst: Ipv4Addr::new(10, 0, 0, 2).into(),
            proto: proto::UDP,
            l4: L4::ports(key as u16, 53),
        },
        status: Status::CONFIRMED,
        mark,
        ..Flow::default()
    }
}

impl Host for Node {
    fn flow(&mut self, kind: Kind, _: &[u8], payload: &FlowPayload<'_>) {
        self.messages += 1;
        let mut flow = Flow::default();
        payload.write_to(&mut flow);
        let key = flow.orig.l4.a;
        match kind {
            Kind::Delete => self.foreign.remove(&key),
            _ => self.foreign.insert(key, flow.mark),
        };
    }

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {
        panic!("no expectation was sent");
    }

    fn next(&mut self, room: &mut [u8]) -> Next {
        let Some(&key) = self.queue.front() else { return Next::Empty };
        let slot = &mut self.own[key as usize];
        let kind = match (slot.mark, slot.updated) {
            (None, _) => Kind::Delete,
            (_, false) => Kind::New,
            (_, true) => Kind::Update,
        };
        let flow = flow(key, slot.mark.unwrap_or(0));
        let Some(len) = encode_flow(kind, &flow, &EncodeOptions::default(), room) else {
            return Next::NoRoom;
        };
        self.queue.pop_front();
        slot.queued = false;
        slot.sent += 1;
        Next::Message { len, token: Token { shard: 0, index: key, pos: slot.sent } }
    }

    fn oversize(&mut self) {
        panic!("every message fits");
    }

    fn acked(&mut self, token: Token) {
        let slot = &mut self.own[token.index as usize];
        if token.pos == slot.sent && !slot.queued {
            slot.dying = false;
        }
    }

    fn nacked(&mut self, token: Token) {
        if token.pos == self.own[token.index as usize].sent {
            self.enqueue(token.index);
        }
    }

    fn evicted(&mut self, _: Token) {
        // A flow that is gone stays `dying`, and the bulk transfer that a hole asks for tells it
        // again.
    }
}
