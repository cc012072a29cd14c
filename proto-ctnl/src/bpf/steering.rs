//! The classic filter of one socket per shard.

use super::classic::{
    Assembler, LD_B_ABS, LD_H_ABS, LD_IMM, LD_MEM, LD_W_ABS, LSH_K, MOD_K, MUL_K, OR_X, RET_K,
    RSH_K, ST, SockFilter, TAX, XOR_X,
};
use super::layout::{FAMILY, Layout, PORTLESS, V4, V6};
use crate::shard::{MUL_ADDRESS, MUL_FINAL, MUL_PORTS};

/// Scratch word of the mixed addresses.
const ADDRESSES: u32 = 0;
/// Scratch word of the ports.
const PORTS: u32 = 1;

/// The filter that keeps the events of flows of `shard`, one of `shards`, and drops all others.
///
/// It reads fixed offsets without checking the layout, so it belongs on sockets that receive
/// conntrack events and nothing else: answers to requests would be dropped. `shards` of 0
/// counts as 1.
pub fn steering_filter(shards: u32, shard: u32) -> Vec<SockFilter> {
    let mut a = Assembler::default();
    a.op(LD_B_ABS, at(FAMILY));
    let not_v4 = a.unless_eq(2);
    addresses(&mut a, &V4);
    let v4_ports = a.jump();
    a.land(not_v4);
    addresses(&mut a, &V6);
    ports(&mut a, &V6);
    let mix = a.jump();
    a.land(v4_ports);
    ports(&mut a, &V4);
    a.land(mix);

    a.op(TAX, 0).op(LD_MEM, PORTS).op(XOR_X, 0).op(MUL_K, MUL_PORTS);
    a.op(TAX, 0).op(LD_MEM, ADDRESSES).op(XOR_X, 0);
    a.op(TAX, 0).op(RSH_K, 16).op(XOR_X, 0).op(MUL_K, MUL_PORTS);
    a.op(TAX, 0).op(RSH_K, 13).op(XOR_X, 0).op(MUL_K, MUL_FINAL);
    a.op(TAX, 0).op(RSH_K, 16).op(XOR_X, 0).op(MOD_K, shards.max(1));
    let other = a.unless_eq(shard);
    a.op(RET_K, u32::MAX);
    a.land(other);
    a.op(RET_K, 0);
    a.finish()
}

/// Folds the words of both addresses into a scratch word.
fn addresses(a: &mut Assembler, layout: &Layout) {
    for (i, &word) in layout.words.iter().enumerate() {
        if i > 0 {
            a.op(MUL_K, MUL_ADDRESS).op(TAX, 0);
        }
        a.op(LD_W_ABS, at(word));
        if i > 0 {
            a.op(XOR_X, 0);
        }
    }
    a.op(ST, ADDRESSES);
}

/// Stores both ports, 0 for a protocol without, and leaves the protocol in A.
fn ports(a: &mut Assembler, layout: &Layout) {
    // A load converts from network order, but the length of an attribute is in host order.
    let portless = u16::from_be_bytes(PORTLESS.to_ne_bytes());
    a.op(LD_H_ABS, at(layout.proto_nest));
    let with_ports = a.unless_eq(u32::from(portless));
    a.op(LD_IMM, 0);
    let store = a.jump();
    a.land(with_ports);
    a.op(LD_H_ABS, at(layout.destination)).op(LSH_K, 16).op(TAX, 0);
    a.op(LD_H_ABS, at(layout.source)).op(OR_X, 0);
    a.land(store);
    a.op(ST, PORTS).op(LD_B_ABS, at(layout.number));
}

fn at(offset: i16) -> u32 {
    offset.unsigned_abs().into()
}
