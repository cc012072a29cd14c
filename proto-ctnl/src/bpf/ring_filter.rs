//! The part of the ring program that refuses the events of unwanted flows, so that they cost
//! neither room in a ring nor a wake-up.
//!
//! It tests what every event of a flow has in common and what never changes: the protocol and the
//! sources of both directions. User space judges again whatever comes, so what the program cannot
//! be sure of goes on.
//!
//! Stack: the head of the reply tuple at `fp - 144`, whose source is the key of a look-up at
//! `fp - 136`.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::ebpf::reg::{CONTEXT, FRAME, R0, R1, R2, R3, R4};
use super::ebpf::{
    ADD64, AND32, Assembler, JEQ, JLT, JNE, JNE32, LDX_B, LDX_H, LDX_W, Label, MOV64, MOV64_X,
    RSH64_X, ST_W,
};
use super::layout::{FAMILY, FIRST_LENGTH, Layout, V4, V6};
use super::ring::{MAP_FD, MAP_LOOKUP_ELEM, RingMaps, SKB_LOAD_BYTES, pair, stack};

/// Offset of the head of the reply tuple: three headers and an address.
const REPLY: i16 = -144;
/// Octets of its three headers: of the tuple, of the addresses, of the source.
const REPLY_HEADERS: i16 = 12;
/// Octets of a header, which a look-up uses as the length of its key in bits.
const HEADER: i16 = 4;

/// Which flows are wanted: all tests that there are have to be passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The protocols that pass, a bit each, the lowest number in the lowest bit of the first word.
    pub protocols: Option<[u64; 4]>,
    /// The addresses.
    pub addresses: Option<AddressFilter>,
}

/// Networks for the sources of both directions. A flow is listed if one of them is in a network of
/// its family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressFilter {
    /// Whether what is listed passes, or what is not.
    pub keep_listed: bool,
    /// IPv4 networks: an address and the number of its leading bits that count. None twice.
    pub v4: Vec<(Ipv4Addr, u8)>,
    /// IPv6 networks.
    pub v6: Vec<(Ipv6Addr, u8)>,
}

impl EventFilter {
    /// Whether every flow passes because nothing is tested.
    pub fn is_empty(&self) -> bool {
        let keeps_all =
            |list: &AddressFilter| !list.keep_listed && list.v4.is_empty() && list.v6.is_empty();
        self.protocols.is_none() && self.addresses.as_ref().is_none_or(keeps_all)
    }
}

/// Jumps to `refuse` for an event of a flow that is not wanted, and falls through otherwise. The
/// filter must not be empty: the verifier wants every instruction to be reachable.
pub(super) fn refuse_unwanted(
    a: &mut Assembler,
    filter: &EventFilter,
    maps: &RingMaps,
    refuse: Label,
) {
    let (v6, keep) = (a.label(), a.label());
    let ends = Ends { keep, refuse };
    a.memory(LDX_B, R1, FRAME, stack(FAMILY));
    a.jump_if(JEQ, R1, 10, v6);
    judge(a, filter, &V4, maps.v4, &ends);
    a.place(v6);
    judge(a, filter, &V6, maps.v6, &ends);
    a.place(keep);
}

/// Where a verdict leads to.
struct Ends {
    keep: Label,
    refuse: Label,
}

fn judge(
    a: &mut Assembler,
    filter: &EventFilter,
    layout: &Layout,
    networks: Option<i32>,
    ends: &Ends,
) {
    if let Some(kept) = &filter.protocols {
        test_protocol(a, kept, layout, ends);
    }
    match (&filter.addresses, networks) {
        (Some(addresses), Some(networks)) => {
            let (listed, unlisted) = if addresses.keep_listed {
                (ends.keep, ends.refuse)
            } else {
                (ends.refuse, ends.keep)
            };
            find_sources(a, layout, networks, listed, ends.keep);
            a.jump(unlisted);
        }
        (Some(addresses), None) => {
            if addresses.keep_listed {
                // Always taken, but what lies behind keeps a way to it, as the verifier wants.
                a.op(MOV64, R1, 0);
                a.jump_if(JEQ, R1, 0, ends.refuse);
            }
            a.jump(ends.keep);
        }
        (None, _) => a.jump(ends.keep),
    }
}

/// Picks the word of the protocol's bit and shifts the bit down.
fn test_protocol(a: &mut Assembler, kept: &[u64; 4], layout: &Layout, ends: &Ends) {
    let found = a.label();
    a.memory(LDX_B, R2, FRAME, stack(layout.number));
    for (word, end) in kept.iter().zip([64, 128, 192, 256]) {
        a.wide(R1, *word);
        if end < 256 {
            a.jump_if(JLT, R2, end, found);
        }
    }
    a.place(found);
    a.op(AND32, R2, 63);
    a.op_x(RSH64_X, R1, R2);
    a.op(AND32, R1, 1);
    a.jump_if(JEQ, R1, 0, ends.refuse);
}

/// Jumps to `listed` if a source is in a network, to `unsure` if the reply tuple is not where the
/// kernel writes it, and falls through otherwise.
fn find_sources(a: &mut Assembler, layout: &Layout, networks: i32, listed: Label, unsure: Label) {
    let [(_, addresses_length, addresses), (source, source_length, kind), _] = layout.headers;
    let octets = i32::from(source_length) - i32::from(HEADER);
    // The header in front of the address was checked and is not needed any more.
    look_up(a, networks, stack(source), octets, listed);
    // The original tuple may hold a zone, so where the reply tuple begins follows from its length:
    // 20 + the length, which are the octets before it and its own, rounded up to four.
    a.memory(LDX_H, R2, FRAME, stack(FIRST_LENGTH));
    a.op(ADD64, R2, i32::from(FIRST_LENGTH) + 3);
    a.op(AND32, R2, !3);
    a.op_x(MOV64_X, R1, CONTEXT);
    a.op_x(MOV64_X, R3, FRAME);
    a.op(ADD64, R3, REPLY.into());
    a.op(MOV64, R4, i32::from(REPLY_HEADERS) + octets);
    a.call(SKB_LOAD_BYTES);
    a.jump_if(JNE, R0, 0, unsure);
    a.memory(LDX_H, R1, FRAME, REPLY + 2);
    a.jump_if(JNE32, R1, 0x8002, unsure);
    for (at, length, kind) in
        [(HEADER, addresses_length, addresses), (2 * HEADER, source_length, kind)]
    {
        a.memory(LDX_W, R1, FRAME, REPLY + at);
        a.jump_if(JNE32, R1, pair(length, kind), unsure);
    }
    look_up(a, networks, REPLY + 2 * HEADER, octets, listed);
}

/// Looks the address behind the header at `key` up and jumps if a network holds it.
fn look_up(a: &mut Assembler, networks: i32, key: i16, octets: i32, found: Label) {
    a.store(ST_W, FRAME, key, 8 * octets);
    a.map(R1, MAP_FD, networks);
    a.op_x(MOV64_X, R2, FRAME);
    a.op(ADD64, R2, key.into());
    a.call(MAP_LOOKUP_ELEM);
    a.jump_if(JNE, R0, 0, found);
}
