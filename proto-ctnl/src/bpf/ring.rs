//! The eBPF socket filter that sorts events into one ring buffer per shard.
//!
//! Stack: the first 104 octets of the message at `fp - 104`, the shard as map key at `fp - 112`.

use super::ebpf::reg::{CONTEXT, FRAME, LENGTH, R0, R1, R2, R3, R4, RING, SHARD};
use super::ebpf::{
    ADD64, ADD64_X, AND32, ATOMIC_ADD64, Assembler, Insn, JEQ, JGE, JGT, JLE, JLT, JNE, JNE_X,
    JNE32, LDX_B, LDX_H, LDX_W, LSH32, LSH64, Label, MOD32, MOV32_X, MOV64, MOV64_X, MUL32, OR32_X,
    RSH32, STX_W, TO_BE, XOR32_X,
};
use super::layout::{FAMILY, FIRST_ATTRIBUTE, KIND, Layout, SEQ, V4, V6, WITH_PORTS};
use super::ring_filter::{EventFilter, refuse_unwanted};
use crate::shard::{MUL_ADDRESS, MUL_FINAL, MUL_PORTS};

/// Shortest message that can be an event with an original tuple, in octets.
pub const EVENT_MIN: u16 = 104;
/// Longest message that goes by a ring, in octets; longer ones go by the socket.
pub const EVENT_MAX: u16 = 512;
/// Size of one shard's line in the control map, in octets.
pub const CONTROL_BYTES_PER_SHARD: u32 = 64;
/// Offset in such a line of the number of events lost because the ring was full, eight octets.
pub const CONTROL_LOST: i16 = 0;
/// Offset of the number of events that the filter refused, eight octets.
pub const CONTROL_FILTERED: i16 = 8;

/// Record sizes below the largest, each with the reserve call of its own that the verifier
/// wants. They follow the lengths that occur.
const CLASSES: [i32; 7] = [168, 200, 232, 264, 296, 328, 392];

const STACK_BASE: i16 = -104;
const STACK_KEY: i16 = -112;

pub(super) const MAP_FD: u8 = 1;
const MAP_VALUE: u8 = 2;

pub(super) const MAP_LOOKUP_ELEM: i32 = 1;
pub(super) const SKB_LOAD_BYTES: i32 = 26;
const RINGBUF_RESERVE: i32 = 131;
const RINGBUF_SUBMIT: i32 = 132;
const RINGBUF_DISCARD: i32 = 133;
const NO_WAKEUP: i32 = 1;

/// Result that keeps the whole message; any smaller number would cut it.
const KEEP: i32 = -1;
const DROP: i32 = 0;

/// The descriptors of the maps that the program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingMaps {
    /// An array of maps with a ring buffer for each shard.
    pub rings: i32,
    /// An array of one element with [`CONTROL_BYTES_PER_SHARD`] octets for each shard.
    pub control: i32,
    /// A trie of the IPv4 networks of the filter, if it has any.
    pub v4: Option<i32>,
    /// A trie of its IPv6 networks.
    pub v6: Option<i32>,
}

/// Where the parts of the program jump to.
struct Exits {
    /// Not an event of the known layout, or no ring: leave it to the socket.
    pass: Label,
    /// The ring is full.
    lost: Label,
    /// The message was copied, or not: look at the result.
    copied: Label,
    /// Nobody wants the flow.
    refuse: Label,
}

/// The program for `shards` shards (0 counts as 1).
///
/// What `filter` refuses is counted and goes nowhere. With `reliable` a message that finds its
/// ring full goes on to the socket after it was counted, so that a full socket tells the kernel to
/// try again later.
pub fn ring_program(
    shards: u32,
    maps: &RingMaps,
    reliable: bool,
    filter: &EventFilter,
) -> Vec<Insn> {
    let mut a = Assembler::default();
    let exits = Exits { pass: a.label(), lost: a.label(), copied: a.label(), refuse: a.label() };
    let (v6, mix) = (a.label(), a.label());

    load_header(&mut a, &exits);
    check_header(&mut a, &exits);
    a.memory(LDX_B, R1, FRAME, stack(FAMILY));
    a.jump_if(JEQ, R1, 10, v6);
    a.jump_if(JNE32, R1, 2, exits.pass);
    check_layout(&mut a, &V4, &exits);
    hash_addresses(&mut a, &V4);
    load_ports(&mut a, &V4, mix);
    a.jump(mix);
    a.place(v6);
    check_layout(&mut a, &V6, &exits);
    hash_addresses(&mut a, &V6);
    load_ports(&mut a, &V6, mix);
    a.place(mix);
    finish_hash(&mut a);
    find_ring(&mut a, shards.max(1), maps, &exits);
    if !filter.is_empty() {
        // Behind the hash, as the shard's own counter is not fought for by all cores.
        refuse_unwanted(&mut a, filter, maps, exits.refuse);
    }
    copy_to_ring(&mut a, &exits);
    ends(&mut a, &exits, if reliable { KEEP } else { DROP });
    if !filter.is_empty() {
        a.place(exits.refuse);
        count(&mut a, CONTROL_FILTERED);
        a.exit(DROP);
    }
    a.finish()
}

/// Keeps context and length, and copies the head of the message to the stack.
fn load_header(a: &mut Assembler, exits: &Exits) {
    a.op_x(MOV64_X, CONTEXT, R1);
    a.memory(LDX_W, LENGTH, R1, 0);
    a.jump_if(JLT, LENGTH, EVENT_MIN.into(), exits.pass);
    a.jump_if(JGT, LENGTH, EVENT_MAX.into(), exits.pass);
    a.op(MOV64, R2, 0);
    a.op_x(MOV64_X, R3, FRAME);
    a.op(ADD64, R3, STACK_BASE.into());
    a.op(MOV64, R4, EVENT_MIN.into());
    a.call(SKB_LOAD_BYTES);
    a.jump_if(JNE, R0, 0, exits.pass);
}

/// Passes on everything that is not a single conntrack event.
fn check_header(a: &mut Assembler, exits: &Exits) {
    a.memory(LDX_W, R1, FRAME, stack(0));
    a.jump_if_x(JNE_X, R1, LENGTH, exits.pass);
    // NEW or DELETE of subsystem 1, and no part of a dump.
    a.memory(LDX_W, R1, FRAME, stack(KIND));
    a.op(AND32, R1, pair(0xfffd, 0x0002));
    a.jump_if(JNE32, R1, pair(0x0100, 0), exits.pass);
    a.memory(LDX_W, R1, FRAME, stack(SEQ));
    a.jump_if(JNE32, R1, 0, exits.pass);
    a.memory(LDX_H, R1, FRAME, stack(FIRST_ATTRIBUTE));
    a.jump_if(JNE32, R1, 0x8001, exits.pass);
}

/// Passes on a message whose original tuple does not lie as expected.
fn check_layout(a: &mut Assembler, layout: &Layout, exits: &Exits) {
    for &(offset, length, kind) in &layout.headers {
        a.memory(LDX_W, R1, FRAME, stack(offset));
        a.jump_if(JNE32, R1, pair(length, kind), exits.pass);
    }
    a.memory(LDX_H, R1, FRAME, stack(layout.proto_nest + 2));
    a.jump_if(JNE32, R1, 0x8002, exits.pass);
    a.memory(LDX_W, R1, FRAME, stack(layout.number_header));
    a.jump_if(JNE32, R1, pair(5, 1), exits.pass);
}

/// Folds the words of both addresses into the hash.
fn hash_addresses(a: &mut Assembler, layout: &Layout) {
    let (first, rest) = layout.words.split_first().expect("addresses have words");
    a.memory(LDX_W, SHARD, FRAME, stack(*first));
    a.op(TO_BE, SHARD, 32);
    for &word in rest {
        a.op(MUL32, SHARD, MUL_ADDRESS.cast_signed());
        a.memory(LDX_W, R1, FRAME, stack(word));
        a.op(TO_BE, R1, 32);
        a.op_x(XOR32_X, SHARD, R1);
    }
}

/// Protocol number to R2, ports to R3: 0 for a protocol without.
fn load_ports(a: &mut Assembler, layout: &Layout, mix: Label) {
    a.memory(LDX_B, R2, FRAME, stack(layout.number));
    a.op(MOV64, R3, 0);
    a.memory(LDX_H, R1, FRAME, stack(layout.proto_nest));
    a.jump_if(JLT, R1, WITH_PORTS.into(), mix);
    a.memory(LDX_H, R3, FRAME, stack(layout.destination));
    a.op(TO_BE, R3, 16);
    a.op(LSH32, R3, 16);
    a.memory(LDX_H, R1, FRAME, stack(layout.source));
    a.op(TO_BE, R1, 16);
    a.op_x(OR32_X, R3, R1);
}

/// Mixes ports and protocol in, then all bits.
fn finish_hash(a: &mut Assembler) {
    a.op_x(XOR32_X, R3, R2);
    a.op(MUL32, R3, MUL_PORTS.cast_signed());
    a.op_x(XOR32_X, SHARD, R3);
    for (shift, multiplier) in [(16, Some(MUL_PORTS)), (13, Some(MUL_FINAL)), (16, None)] {
        a.op_x(MOV32_X, R1, SHARD);
        a.op(RSH32, R1, shift);
        a.op_x(XOR32_X, SHARD, R1);
        if let Some(multiplier) = multiplier {
            a.op(MUL32, SHARD, multiplier.cast_signed());
        }
    }
}

/// The shard's ring and control line.
fn find_ring(a: &mut Assembler, shards: u32, maps: &RingMaps, exits: &Exits) {
    let shards = shards.cast_signed();
    a.op(MOD32, SHARD, shards);
    // The verifier does not derive this bound from the operation before.
    a.jump_if(JGE, SHARD, shards, exits.pass);
    a.memory(STX_W, FRAME, SHARD, STACK_KEY);
    a.map(R1, MAP_FD, maps.rings);
    a.op_x(MOV64_X, R2, FRAME);
    a.op(ADD64, R2, STACK_KEY.into());
    a.call(MAP_LOOKUP_ELEM);
    a.jump_if(JEQ, R0, 0, exits.pass);
    a.op_x(MOV64_X, RING, R0);
    a.op(LSH64, SHARD, 6);
    a.map(R1, MAP_VALUE, maps.control);
    a.op_x(ADD64_X, SHARD, R1);
}

/// Reserves a record of the smallest class that holds the message and copies it there.
fn copy_to_ring(a: &mut Assembler, exits: &Exits) {
    let blocks = CLASSES.map(|_| a.label());
    for (&class, &block) in CLASSES.iter().zip(&blocks) {
        a.jump_if(JLE, LENGTH, class, block);
    }
    class_block(a, EVENT_MAX.into(), exits);
    for (class, block) in CLASSES.into_iter().zip(blocks) {
        a.place(block);
        class_block(a, class, exits);
    }
}

fn class_block(a: &mut Assembler, class: i32, exits: &Exits) {
    a.op_x(MOV64_X, R1, RING);
    a.op(MOV64, R2, class);
    a.op(MOV64, R3, 0);
    a.call(RINGBUF_RESERVE);
    a.jump_if(JEQ, R0, 0, exits.lost);
    a.op_x(MOV64_X, R1, CONTEXT);
    a.op(MOV64, R2, 0);
    a.op_x(MOV64_X, R3, R0);
    a.op_x(MOV64_X, R4, LENGTH);
    a.op_x(MOV64_X, LENGTH, R0);
    a.call(SKB_LOAD_BYTES);
    a.jump(exits.copied);
}

/// The ways out.
fn ends(a: &mut Assembler, exits: &Exits, lost: i32) {
    let discard = a.label();
    a.place(exits.copied);
    a.jump_if(JNE, R0, 0, discard);
    a.op(MOV64, R2, 0);
    a.op_x(MOV64_X, R1, LENGTH);
    a.call(RINGBUF_SUBMIT);
    a.exit(DROP);
    a.place(discard);
    a.op_x(MOV64_X, R1, LENGTH);
    a.op(MOV64, R2, NO_WAKEUP);
    a.call(RINGBUF_DISCARD);
    a.jump(exits.pass);
    a.place(exits.lost);
    count(a, CONTROL_LOST);
    a.exit(lost);
    a.place(exits.pass);
    a.exit(KEEP);
}

/// Adds one to a counter of the shard.
fn count(a: &mut Assembler, counter: i16) {
    a.op(MOV64, R1, 1);
    a.memory(ATOMIC_ADD64, SHARD, R1, counter);
}

/// Offset from the frame pointer of an octet of the message.
pub(super) fn stack(offset: i16) -> i16 {
    STACK_BASE + offset
}

/// Two 16-bit fields that lie side by side, as one load sees them.
pub(super) fn pair(first: u16, second: u16) -> i32 {
    let (a, b) = (first.to_ne_bytes(), second.to_ne_bytes());
    i32::from_ne_bytes([a[0], a[1], b[0], b[1]])
}
