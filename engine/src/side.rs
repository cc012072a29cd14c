//! What few flows have, beside the entries.
//!
//! A member that is present but zero needs no record: the entry's presence bits say so. That
//! matters, as every flow made through ctnetlink carries a SYN proxy of three zeros.

use core::net::{IpAddr, Ipv4Addr};

use proto_ctnl::{Flow, L4, Labels, Name, Present, ProtoInfo, SeqAdj, Synproxy, Tuple};

use crate::slab::{FreeLink, NIL, Slab};

/// Members of a flow that a [`Side`] keeps.
pub(crate) const SIDE: Present = Present(
    Present::HELPER.0
        | Present::MASTER.0
        | Present::LABELS.0
        | Present::SEQADJ.0
        | Present::SYNPROXY.0
        | Present::SECCTX.0
        | Present::SECMARK.0
        | Present::ORIG_ZONE.0
        | Present::REPLY_ZONE.0,
);

/// The rare members of one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) master: Tuple,
    pub(crate) helper: Name<16>,
    pub(crate) labels: Labels,
    pub(crate) seqadj: [SeqAdj; 2],
    pub(crate) synproxy: Synproxy,
    pub(crate) secmark: u32,
    /// Slot of the security context.
    secctx: u32,
    pub(crate) orig_zone: u16,
    pub(crate) reply_zone: u16,
    /// Verification tags of SCTP, or the handshake sequence number of DCCP, high word first.
    pub(crate) extra: [u32; 2],
}

impl Side {
    /// Nothing but zeros: no record at all.
    pub(crate) const EMPTY: Self = Self {
        master: Tuple {
            src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            proto: 0,
            l4: L4 { a: 0, b: 0 },
        },
        helper: Name::EMPTY,
        labels: Labels([0; 4]),
        seqadj: [SeqAdj { correction_pos: 0, offset_before: 0, offset_after: 0 }; 2],
        synproxy: Synproxy { isn: 0, its: 0, tsoff: 0 },
        secmark: 0,
        secctx: NIL,
        orig_zone: 0,
        reply_zone: 0,
        extra: [0; 2],
    };
}

impl FreeLink for Side {
    fn free_next(&self) -> u32 {
        self.secctx
    }
    fn set_free_next(&mut self, next: u32) {
        self.secctx = next;
    }
}

/// A security context, which is long and of which most machines have none.
#[derive(Clone, Copy, Debug)]
struct SecCtx {
    name: Name<64>,
    next: u32,
}

impl FreeLink for SecCtx {
    fn free_next(&self) -> u32 {
        self.next
    }
    fn set_free_next(&mut self, next: u32) {
        self.next = next;
    }
}

/// The records of all flows.
#[derive(Debug)]
pub(crate) struct Sides {
    sides: Slab<Side, 8>,
    contexts: Slab<SecCtx, 8>,
}

impl Sides {
    pub(crate) fn new() -> Self {
        Self { sides: Slab::new(0), contexts: Slab::new(0) }
    }

    pub(crate) fn allocated(&self) -> usize {
        self.sides.allocated() + self.contexts.allocated()
    }

    pub(crate) fn clear(&mut self) {
        self.sides.clear();
        self.contexts.clear();
    }

    /// The record of a slot; none for [`NIL`].
    pub(crate) fn get(&self, slot: u32) -> Option<&Side> {
        (slot != NIL).then(|| self.sides.at(slot))
    }

    /// The security context of a record.
    pub(crate) fn context(&self, side: &Side) -> Name<64> {
        if side.secctx == NIL { Name::EMPTY } else { self.contexts.at(side.secctx).name }
    }

    pub(crate) fn free(&mut self, slot: u32) {
        if slot == NIL {
            return;
        }
        let context = self.sides.at(slot).secctx;
        if context != NIL {
            self.contexts.remove(context);
        }
        self.sides.remove(slot);
    }

    /// Takes the rare members of `flow` into the record `slot`, or drops what that held if
    /// `replace`. Gives the slot afterwards.
    pub(crate) fn store(&mut self, slot: u32, flow: &Flow, replace: bool) -> u32 {
        let extra = extra_of(flow);
        let idle = !flow.present.any(SIDE) && extra.is_none();
        if slot == NIL && (idle || !carries(flow, extra)) {
            return NIL;
        }
        if replace {
            self.free(slot);
            if idle || !carries(flow, extra) {
                return NIL;
            }
        } else if idle {
            return slot;
        }
        let old = if replace { NIL } else { slot };
        let mut side = self.get(old).copied().unwrap_or(Side::EMPTY);
        self.apply(&mut side, flow, extra);
        if side == Side::EMPTY {
            // The context went when it became empty, so there is nothing else to free.
            if old != NIL {
                self.sides.remove(old);
            }
            return NIL;
        }
        if old == NIL {
            return self.sides.insert(side);
        }
        *self.sides.at_mut(old) = side;
        old
    }

    fn apply(&mut self, side: &mut Side, flow: &Flow, extra: Option<[u32; 2]>) {
        let p = flow.present;
        let take = |bit: Present| p.any(bit);
        if take(Present::MASTER) {
            side.master = flow.master;
        }
        if take(Present::HELPER) {
            side.helper = flow.helper;
        }
        if take(Present::LABELS) {
            side.labels = flow.labels;
        }
        if take(Present::SEQADJ) {
            side.seqadj = flow.seqadj;
        }
        if take(Present::SYNPROXY) {
            side.synproxy = flow.synproxy;
        }
        if take(Present::SECMARK) {
            side.secmark = flow.secmark;
        }
        if take(Present::ORIG_ZONE) {
            side.orig_zone = flow.orig_zone;
        }
        if take(Present::REPLY_ZONE) {
            side.reply_zone = flow.reply_zone;
        }
        if let Some(extra) = extra {
            side.extra = extra;
        }
        if take(Present::SECCTX) {
            side.secctx = self.set_context(side.secctx, flow.secctx);
        }
    }

    fn set_context(&mut self, slot: u32, name: Name<64>) -> u32 {
        match (slot, name.is_empty()) {
            (NIL, true) => NIL,
            (NIL, false) => self.contexts.insert(SecCtx { name, next: NIL }),
            (slot, true) => {
                self.contexts.remove(slot);
                NIL
            }
            (slot, false) => {
                self.contexts.at_mut(slot).name = name;
                slot
            }
        }
    }

    /// Panics unless the slots agree with the number of flows that have a record.
    pub(crate) fn verify(&self, expected: u32, contexts: u32) {
        assert_eq!(self.sides.used(), expected, "side records in use");
        assert_eq!(self.contexts.used(), contexts, "security contexts in use");
        assert_eq!(self.sides.count_free() + self.sides.used(), self.sides.len(), "free sides");
        let contexts = &self.contexts;
        assert_eq!(contexts.count_free() + contexts.used(), contexts.len(), "free contexts");
    }
}

/// What the protocol adds beyond the entry's room.
fn extra_of(flow: &Flow) -> Option<[u32; 2]> {
    if !flow.present.any(Present::PROTOINFO) {
        return None;
    }
    match flow.protoinfo {
        ProtoInfo::Tcp(_) => None,
        ProtoInfo::Sctp(sctp) => sctp.vtag,
        ProtoInfo::Dccp(dccp) => dccp.handshake_seq.map(|s| [(s >> 32) as u32, s as u32]),
    }
}

/// Whether any rare member is present and not zero.
fn carries(flow: &Flow, extra: Option<[u32; 2]>) -> bool {
    let p = flow.present;
    let has = |bit: Present, nonzero: bool| p.any(bit) && nonzero;
    has(Present::SYNPROXY, flow.synproxy != Synproxy::default())
        || has(Present::LABELS, !flow.labels.is_empty())
        || has(Present::HELPER, !flow.helper.is_empty())
        || has(Present::MASTER, flow.master != Side::EMPTY.master)
        || has(Present::SEQADJ, flow.seqadj != [SeqAdj::default(); 2])
        || has(Present::SECCTX, !flow.secctx.is_empty())
        || has(Present::SECMARK, flow.secmark != 0)
        || has(Present::ORIG_ZONE, flow.orig_zone != 0)
        || has(Present::REPLY_ZONE, flow.reply_zone != 0)
        || extra.is_some_and(|e| e != [0; 2])
}
