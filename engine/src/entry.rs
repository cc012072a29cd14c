//! The record of a flow: 80 octets, and what they say of a [`Flow`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{Dccp, Flow, L4, Present, ProtoInfo, Sctp, Status, Tcp, Tuple};

use crate::addr6::{Pair, Pairs, bits};
use crate::changes::{Head, Record};
use crate::index::{Key, KeyAddress};
use crate::side::{SIDE, Side, Sides};
use crate::slab::{FreeLink, NIL};

/// Members that an entry says are present. Traffic counters, times and the reference count are
/// not kept, nor are TCP flags.
const KEPT: Present = Present(
    SIDE.0
        | Present::ORIG.0
        | Present::STATUS.0
        | Present::TIMEOUT.0
        | Present::MARK.0
        | Present::ZONE.0
        | Present::ID.0
        | Present::PROTOINFO.0,
);

/// The translation, as a peer names it.
const NAT: Present = Present(Present::SNAT.0 | Present::DNAT.0 | Present::SPAT.0 | Present::DPAT.0);

/// The addresses are IPv6.
const V6: u8 = 1;
/// Which protocol [`Flow::protoinfo`] is of.
const KIND: u8 = 0b110;
const SCTP: u8 = 0b010;
const DCCP: u8 = 0b100;
/// Window scales are known.
const WSCALE: u8 = 1 << 3;
/// The tags of SCTP, or the handshake sequence number of DCCP, are known.
const EXTRA: u8 = 1 << 4;

/// While the kernel's table is read: members that events tell only when they change, and that none has
/// told since the reading began.
const UNTOLD_PROTOINFO: u8 = 1 << 5;
const UNTOLD_LABELS: u8 = 1 << 6;

/// Whose flows a cache holds. It decides which of the members of a flow are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Flows of this node's kernel: with the reply tuple, without translation members.
    Internal,
    /// Flows of a peer: with translation members, without the reply tuple.
    External,
    /// Flows of this node's kernel that are only counted and logged: as internal, without
    /// timeouts.
    Stats,
}

impl Role {
    const fn kept(self) -> Present {
        match self {
            Self::Internal => Present(KEPT.0 | Present::REPLY.0),
            Self::External => Present(KEPT.0 | NAT.0),
            Self::Stats => Present((KEPT.0 | Present::REPLY.0) & !Present::TIMEOUT.0),
        }
    }
}

/// One flow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Entry {
    /// Source and destination of the original direction. IPv6: slot of their pair, and nothing.
    addr: [u32; 2],
    l4: L4,
    /// That of the key, see [`Flow::key_zone`].
    zone: u16,
    proto: u8,
    bits: u8,
    /// Source and destination of the reply, or the translated source and destination. IPv6: slot
    /// of the pair or [`NIL`], and nothing.
    second: [u32; 2],
    /// Ports of the reply, or the translated ones.
    second_l4: L4,
    present: Present,
    status: u32,
    timeout: u32,
    mark: u32,
    id: u32,
    /// Slot of the rare members or [`NIL`].
    side: u32,
    pub(crate) created: u32,
    pub(crate) updated: u32,
    /// Its spare octets: protocol state, then window scales or the DCCP role.
    head: Head,
}

const _: () = assert!(size_of::<Entry>() == 80);

impl FreeLink for Entry {
    fn free_next(&self) -> u32 {
        self.id
    }
    fn set_free_next(&mut self, next: u32) {
        self.id = next;
    }
}

impl Record for Entry {
    fn head(&self) -> &Head {
        &self.head
    }
    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// What entries have beside them.
#[derive(Debug)]
pub(crate) struct Extras {
    pub(crate) pairs: Pairs,
    pub(crate) sides: Sides,
}

impl Extras {
    pub(crate) fn new() -> Self {
        Self { pairs: Pairs::new(0), sides: Sides::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.pairs.clear();
        self.sides.clear();
    }

    /// Frees what an entry has here.
    pub(crate) fn free(&mut self, entry: &Entry) {
        self.sides.free(entry.side);
        if entry.is_v6() {
            self.pairs.remove(entry.addr[0]);
            if entry.second[0] != NIL {
                self.pairs.remove(entry.second[0]);
            }
        }
    }
}

impl Entry {
    /// An entry that holds a key and nothing else.
    pub(crate) fn new(key: &Key, hash: u32, fresh: bool, extras: &mut Extras) -> Self {
        let (addr, bits, second) = match key.address {
            KeyAddress::V4(words) => (words, 0, [0; 2]),
            KeyAddress::V6(pair) => ([extras.pairs.insert(pair), 0], V6, [NIL, 0]),
        };
        Self {
            addr,
            l4: key.l4,
            zone: key.zone,
            proto: key.proto,
            bits,
            second,
            second_l4: L4::default(),
            present: Present::NONE,
            status: 0,
            timeout: 0,
            mark: 0,
            id: 0,
            side: NIL,
            created: 0,
            updated: 0,
            head: Head::new(hash, fresh),
        }
    }

    const fn is_v6(&self) -> bool {
        self.bits & V6 != 0
    }

    /// Whether this is the flow of `key`.
    pub(crate) fn is(&self, key: &Key, pairs: &Pairs) -> bool {
        let same = self.l4 == key.l4 && self.zone == key.zone && self.proto == key.proto;
        same && match &key.address {
            KeyAddress::V4(words) => !self.is_v6() && self.addr == *words,
            KeyAddress::V6(pair) => self.is_v6() && pairs.at(self.addr[0]) == pair,
        }
    }

    /// Whether `flow`, of the same key, is another one: a flow keeps its identifier, its reply
    /// tuple or translation and its master for life. Nothing is known of what either lacks.
    pub(crate) fn is_other(&self, flow: &Flow, extras: &Extras) -> bool {
        let pairs = &extras.pairs;
        let both = Present(self.present.0 & flow.present.0);
        if both.any(Present::ID) && self.id != flow.id {
            return true;
        }
        let either = Present(self.present.0 | flow.present.0);
        if either.any(Present::MASTER) && self.has_other_master(flow, both, &extras.sides) {
            return true;
        }
        let reply = &flow.reply;
        if !both.any(Present::REPLY) || !same_kind(reply, &flow.orig) {
            return self.has_other_translation(flow, both, pairs);
        }
        let same = match (reply.src, reply.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.second == [src.to_bits(), dst.to_bits()],
            (src, dst) if self.second[0] == NIL => {
                Pair::new(src, dst) == pairs.at(self.addr[0]).swapped()
            }
            (src, dst) => Pair::new(src, dst) == *pairs.at(self.second[0]),
        };
        !same || self.second_l4 != reply.l4
    }

    /// Whether one was expected by another flow than the other, or by none. An update may leave the
    /// master out, but says in its status that there is one.
    #[cold]
    fn has_other_master(&self, flow: &Flow, both: Present, sides: &Sides) -> bool {
        let expected = |status: Status| status.has(Status::EXPECTED);
        let side = sides.get(self.side).unwrap_or(&Side::EMPTY);
        both.any(Present::STATUS) && expected(self.status()) != expected(flow.status)
            || both.any(Present::MASTER) && side.master != flow.master
    }

    /// Whether a peer translates one and not the other, or otherwise. An update may leave the
    /// translation out, but says in its status whether there is one.
    fn has_other_translation(&self, flow: &Flow, both: Present, pairs: &Pairs) -> bool {
        let translated = Status::SRC_NAT.0 | Status::DST_NAT.0;
        let with_status = both.any(Present::STATUS);
        if with_status && (self.status ^ flow.status.0) & translated != 0 {
            return true;
        }
        let (had, mut has) = (self.present.0 & NAT.0, Present(flow.present.0 & NAT.0));
        for (bit, address) in [(Present::SNAT, flow.snat), (Present::DNAT, flow.dnat)] {
            if address.is_ipv6() != self.is_v6() {
                has.remove(bit);
            }
        }
        if had == 0 || has == Present::NONE {
            return false;
        }
        let mut known = Flow::default();
        self.load_nat(&mut known, pairs);
        let differs = |bit: Present, differs: bool| had & has.0 & bit.0 != 0 && differs;
        with_status && had != has.0
            || differs(Present::SNAT, known.snat != flow.snat)
            || differs(Present::DNAT, known.dnat != flow.dnat)
            || differs(Present::SPAT, known.spat != flow.spat)
            || differs(Present::DPAT, known.dpat != flow.dpat)
    }

    /// The original tuple.
    pub(crate) fn orig(&self, pairs: &Pairs) -> Tuple {
        let (src, dst) =
            if self.is_v6() { pairs.at(self.addr[0]).addresses() } else { v4_pair(self.addr) };
        Tuple { src, dst, proto: self.proto, l4: self.l4 }
    }

    pub(crate) const fn zone(&self) -> u16 {
        self.zone
    }

    pub(crate) const fn present(&self) -> Present {
        self.present
    }

    pub(crate) const fn status(&self) -> Status {
        Status(self.status)
    }

    /// Whether the flow has a record of rare members, and that one a security context.
    pub(crate) fn has_side(&self, sides: &Sides) -> (bool, bool) {
        let side = sides.get(self.side);
        (side.is_some(), side.is_some_and(|s| !sides.context(s).is_empty()))
    }

    /// Number of pairs of addresses that the flow has beside it.
    pub(crate) fn pairs(&self) -> u32 {
        if !self.is_v6() {
            return 0;
        }
        1 + u32::from(self.second[0] != NIL)
    }

    /// Takes what `flow` has. `replace` forgets what it has not; the key stays in either case.
    pub(crate) fn store(&mut self, flow: &Flow, role: Role, replace: bool, extras: &mut Extras) {
        let mut take = Present(flow.present.0 & role.kept().0);
        if take.any(Present::REPLY) && !same_kind(&flow.reply, &flow.orig) {
            take.remove(Present::REPLY);
        }
        self.store_protoinfo(flow, take, replace);
        self.side = extras.sides.store(self.side, flow, replace);
        if take.any(Present::LABELS) {
            self.bits &= !UNTOLD_LABELS;
        }
        if take.any(Present::STATUS) {
            self.status = flow.status.0;
        }
        if take.any(Present::TIMEOUT) {
            self.timeout = flow.timeout;
        }
        if take.any(Present::MARK) {
            self.mark = flow.mark;
        }
        if take.any(Present::ID) {
            self.id = flow.id;
        }
        if replace {
            self.present = Present::ORIG;
            if self.is_v6() {
                drop_second(&mut self.second[0], &mut extras.pairs);
            } else {
                self.second = [0; 2];
            }
            self.second_l4 = L4::default();
        }
        if role == Role::External {
            self.store_nat(flow, &mut take, &mut extras.pairs);
        } else if take.any(Present::REPLY) {
            self.store_reply(&flow.reply, &mut extras.pairs);
        }
        self.present.insert(take);
    }

    /// Nothing of the flow was told since the reading of the kernel's table began.
    pub(crate) const fn forget_told(&mut self) {
        self.bits |= UNTOLD_PROTOINFO | UNTOLD_LABELS;
    }

    /// Members that are stored and that no event has told since [`Self::forget_told`].
    pub(crate) fn untold(&self) -> Present {
        let bit = |bit: u8, member: Present| if self.bits & bit != 0 { member.0 } else { 0 };
        Present(bit(UNTOLD_PROTOINFO, Present::PROTOINFO) | bit(UNTOLD_LABELS, Present::LABELS))
    }

    /// The mark is zero. `known`: and not just one that nobody told, which stands for the same.
    pub(crate) fn unmark(&mut self, known: bool) {
        self.mark = 0;
        if known {
            self.present.insert(Present::MARK);
        }
    }

    fn store_protoinfo(&mut self, flow: &Flow, take: Present, replace: bool) {
        let had = self.present.any(Present::PROTOINFO);
        if replace {
            self.bits &= V6;
            self.head.aux = [0; 3];
        }
        if !take.any(Present::PROTOINFO) {
            return;
        }
        let kind = match flow.protoinfo {
            ProtoInfo::Tcp(_) => 0,
            ProtoInfo::Sctp(_) => SCTP,
            ProtoInfo::Dccp(_) => DCCP,
        };
        if had && self.bits & KIND != kind {
            self.bits &= !(WSCALE | EXTRA);
            self.head.aux = [0; 3];
        }
        self.bits = self.bits & !(KIND | UNTOLD_PROTOINFO) | kind;
        self.head.aux[0] = flow.protoinfo.state();
        match flow.protoinfo {
            ProtoInfo::Tcp(tcp) => {
                if let Some([orig, reply]) = tcp.wscale {
                    self.bits |= WSCALE;
                    self.head.aux = [tcp.state, orig, reply];
                }
            }
            ProtoInfo::Sctp(sctp) => {
                self.bits |= if sctp.vtag.is_some() { EXTRA } else { 0 };
            }
            ProtoInfo::Dccp(dccp) => {
                self.head.aux[1] = dccp.role;
                self.bits |= if dccp.handshake_seq.is_some() { EXTRA } else { 0 };
            }
        }
    }

    fn store_reply(&mut self, reply: &Tuple, pairs: &mut Pairs) {
        self.second_l4 = reply.l4;
        if self.is_v6() {
            let pair = Pair::new(reply.src, reply.dst);
            if pair == pairs.at(self.addr[0]).swapped() {
                drop_second(&mut self.second[0], pairs);
            } else {
                *second_pair(&mut self.second[0], pairs) = pair;
            }
        } else if let (IpAddr::V4(src), IpAddr::V4(dst)) = (reply.src, reply.dst) {
            self.second = [src.to_bits(), dst.to_bits()];
        }
    }

    /// Takes the translation. An address of the other family than the flow's is not taken.
    fn store_nat(&mut self, flow: &Flow, take: &mut Present, pairs: &mut Pairs) {
        if take.any(Present::SPAT) {
            self.second_l4.a = flow.spat;
        }
        if take.any(Present::DPAT) {
            self.second_l4.b = flow.dpat;
        }
        for (bit, address, at) in [(Present::SNAT, flow.snat, 0), (Present::DNAT, flow.dnat, 1)] {
            if !take.any(bit) {
                continue;
            }
            match address {
                IpAddr::V4(v4) if !self.is_v6() => self.second[at] = v4.to_bits(),
                IpAddr::V6(_) if self.is_v6() => {
                    let pair = second_pair(&mut self.second[0], pairs);
                    *(if at == 0 { &mut pair.src } else { &mut pair.dst }) = bits(address);
                }
                _ => take.remove(bit),
            }
        }
    }

    /// Writes the flow. Members that are not present have no meaning.
    pub(crate) fn load(&self, flow: &mut Flow, role: Role, extras: &Extras) {
        let p = self.present;
        flow.present = p;
        flow.orig = self.orig(&extras.pairs);
        flow.zone = self.zone;
        flow.status = Status(self.status);
        flow.timeout = self.timeout;
        flow.mark = self.mark;
        flow.id = self.id;
        if role == Role::External {
            if p.any(NAT) {
                self.load_nat(flow, &extras.pairs);
            }
        } else if p.any(Present::REPLY) {
            flow.reply = self.reply(&extras.pairs);
        }
        let side = extras.sides.get(self.side);
        if p.any(Present::PROTOINFO) {
            flow.protoinfo = self.protoinfo(side);
        }
        if p.any(SIDE) {
            load_side(flow, side, &extras.sides);
        }
    }

    fn reply(&self, pairs: &Pairs) -> Tuple {
        let (src, dst) = if !self.is_v6() {
            v4_pair(self.second)
        } else if self.second[0] == NIL {
            pairs.at(self.addr[0]).swapped().addresses()
        } else {
            pairs.at(self.second[0]).addresses()
        };
        Tuple { src, dst, proto: self.proto, l4: self.second_l4 }
    }

    fn load_nat(&self, flow: &mut Flow, pairs: &Pairs) {
        flow.spat = self.second_l4.a;
        flow.dpat = self.second_l4.b;
        let unset = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        (flow.snat, flow.dnat) = if !self.is_v6() {
            v4_pair(self.second)
        } else if self.second[0] == NIL {
            (unset, unset)
        } else {
            pairs.at(self.second[0]).addresses()
        };
    }

    fn protoinfo(&self, side: Option<&Side>) -> ProtoInfo {
        let [state, first, second] = self.head.aux;
        let extra = side.map_or([0; 2], |s| s.extra);
        let known = self.bits & EXTRA != 0;
        match self.bits & KIND {
            SCTP => ProtoInfo::Sctp(Sctp { state, vtag: known.then_some(extra) }),
            DCCP => {
                let seq = u64::from(extra[0]) << 32 | u64::from(extra[1]);
                ProtoInfo::Dccp(Dccp { state, role: first, handshake_seq: known.then_some(seq) })
            }
            _ => {
                let wscale = (self.bits & WSCALE != 0).then_some([first, second]);
                ProtoInfo::Tcp(Tcp { state, wscale, flags: None })
            }
        }
    }
}

fn load_side(flow: &mut Flow, side: Option<&Side>, sides: &Sides) {
    let side = side.unwrap_or(&Side::EMPTY);
    let p = flow.present;
    // Most flows with any of these have this one only.
    if p.any(Present::SYNPROXY) {
        flow.synproxy = side.synproxy;
    }
    if !p.any(Present(SIDE.0 & !Present::SYNPROXY.0)) {
        return;
    }
    flow.labels = side.labels;
    flow.helper = side.helper;
    flow.master = side.master;
    flow.seqadj = side.seqadj;
    flow.secmark = side.secmark;
    flow.orig_zone = side.orig_zone;
    flow.reply_zone = side.reply_zone;
    if p.any(Present::SECCTX) {
        flow.secctx = sides.context(side);
    }
}

/// Whether both tuples are of one family and protocol, as those of a flow are.
fn same_kind(a: &Tuple, b: &Tuple) -> bool {
    let family = |t: &Tuple| t.src.is_ipv6() || t.dst.is_ipv6();
    a.proto == b.proto && family(a) == family(b)
}

/// The second pair of a flow, made if there is none.
fn second_pair<'a>(slot: &mut u32, pairs: &'a mut Pairs) -> &'a mut Pair {
    if *slot == NIL {
        *slot = pairs.insert(Pair::default());
    }
    pairs.at_mut(*slot)
}

fn drop_second(slot: &mut u32, pairs: &mut Pairs) {
    if *slot != NIL {
        pairs.remove(*slot);
        *slot = NIL;
    }
}

const fn v4_pair([src, dst]: [u32; 2]) -> (IpAddr, IpAddr) {
    (IpAddr::V4(Ipv4Addr::from_bits(src)), IpAddr::V4(Ipv4Addr::from_bits(dst)))
}
