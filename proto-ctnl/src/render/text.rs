//! The line form of a flow: what `conntrack -L` and `-E` print, and `conntrackd -i` and `-e`.

use super::addr::{address, decimal, hex};
use super::names::{proto_name, state_name};
use super::time::zero_padded;
use super::{EventKind, Parts, Render};
use crate::flow::{Counters, Flow, Present};
use crate::status::Status;
use crate::tuple::{Tuple, proto};

/// Appends the flow as one line, without a newline.
pub fn flow_text(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    // One check of the capacity for what nearly all lines need.
    out.reserve(512);
    event_prefix(render, out);
    let p = flow.present;
    if p.has(Present::ORIG) {
        if render.parts.has(Parts::LAYER3) {
            out.extend_from_slice(if flow.orig.is_v6() { b"ipv6     10 " } else { b"ipv4     2 " });
        }
        layer4(flow.orig.proto, out);
    }
    if p.has(Present::TIMEOUT) && render.parts.has(Parts::TIMEOUT) {
        decimal(flow.timeout, out);
        out.push(b' ');
    }
    if p.has(Present::PROTOINFO) {
        out.extend_from_slice(state_name(&flow.protoinfo).as_bytes());
        out.push(b' ');
    }
    directions(flow, render, out);
    tail(flow, render, out);
    if out.len() > begin && out.last() == Some(&b' ') {
        out.pop();
    }
}

/// Time column and event tag.
fn event_prefix(render: &Render<'_>, out: &mut Vec<u8>) {
    if let Some(time) = render.time {
        out.push(b'[');
        zero_padded(time.as_secs(), 8, out);
        out.push(b'.');
        zero_padded(u64::from(time.subsec_micros()), 6, out);
        out.extend_from_slice(b"]\t");
    }
    if let Some(kind) = render.event {
        out.extend_from_slice(tag(kind));
    }
}

pub(super) const fn tag(kind: EventKind) -> &'static [u8] {
    match kind {
        EventKind::New => b"    [NEW] ",
        EventKind::Update => b" [UPDATE] ",
        EventKind::Destroy => b"[DESTROY] ",
    }
}

/// Name and number of the protocol.
fn layer4(protocol: u8, out: &mut Vec<u8>) {
    let ready: &[u8] = match protocol {
        proto::TCP => b"tcp      6 ",
        proto::UDP => b"udp      17 ",
        proto::ICMP => b"icmp     1 ",
        proto::ICMPV6 => b"icmpv6   58 ",
        _ => {
            let name = proto_name(protocol).as_bytes();
            out.extend_from_slice(name);
            out.extend_from_slice(&b"         "[name.len()..]);
            decimal(protocol, out);
            out.push(b' ');
            return;
        }
    };
    out.extend_from_slice(ready);
}

fn directions(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    let p = flow.present;
    let counted = render.parts.has(Parts::COUNTERS);
    if p.has(Present::ORIG) {
        tuple(&flow.orig, out);
    }
    if p.has(Present::ORIG_ZONE) {
        number(b"zone-orig=", flow.orig_zone, out);
    }
    if counted && p.has(Present::COUNTERS_ORIG) {
        counters(&flow.counters[0], out);
    }
    if p.has(Present::STATUS) && !flow.status.has(Status::SEEN_REPLY) {
        out.extend_from_slice(b"[UNREPLIED] ");
    }
    if render.parts.has(Parts::REPLY) {
        if p.has(Present::REPLY) {
            tuple(&flow.reply, out);
        }
        if p.has(Present::REPLY_ZONE) {
            number(b"zone-reply=", flow.reply_zone, out);
        }
        if counted && p.has(Present::COUNTERS_REPLY) {
            counters(&flow.counters[1], out);
        }
    }
    if p.has(Present::STATUS) {
        if flow.status.has(Status::HW_OFFLOAD) {
            out.extend_from_slice(b"[HW_OFFLOAD] ");
        } else if flow.status.has(Status::OFFLOAD) {
            out.extend_from_slice(b"[OFFLOAD] ");
        } else if flow.status.has(Status::ASSURED) {
            out.extend_from_slice(b"[ASSURED] ");
        }
    }
}

/// What belongs to no direction.
fn tail(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    let p = flow.present;
    if p.has(Present::MARK) {
        number(b"mark=", flow.mark, out);
    }
    if p.has(Present::SECMARK) {
        number(b"secmark=", flow.secmark, out);
    }
    if p.has(Present::SECCTX) {
        text(b"secctx=", flow.secctx.as_bytes(), out);
    }
    if p.has(Present::ZONE) {
        number(b"zone=", flow.zone, out);
    }
    if p.any(Present::START.or(Present::STOP)) {
        times(flow, render, out);
    }
    if p.has(Present::HELPER) {
        text(b"helper=", flow.helper.as_bytes(), out);
    }
    if p.has(Present::USE) {
        number(b"use=", flow.use_count, out);
    }
    if p.has(Present::ID) && render.parts.has(Parts::ID) {
        number(b"id=", flow.id, out);
    }
    if p.has(Present::LABELS)
        && let Some(names) = render.labels
    {
        let mut separator = b'=';
        out.extend_from_slice(b"labels");
        for (_, name) in names.iter().filter(|(bit, _)| flow.labels.has(*bit)) {
            out.push(separator);
            out.extend_from_slice(name);
            separator = b',';
        }
        out.push(b' ');
    }
}

fn times(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    if let Some(seconds) = super::duration(flow, render) {
        number(b"delta-time=", seconds, out);
    }
    if !render.parts.has(Parts::KTIMESTAMP) {
        return;
    }
    let stamps = [(Present::START, flow.start), (Present::STOP, flow.stop)];
    for ((bit, nanoseconds), name) in stamps.into_iter().zip([b"[start=".as_slice(), b"[stop="]) {
        if flow.present.has(bit) {
            out.extend_from_slice(name);
            (render.local_time)(nanoseconds / 1_000_000_000).ctime(out);
            out.extend_from_slice(b"] ");
        }
    }
}

/// Addresses and key of one direction, followed by a blank.
#[inline]
fn tuple(t: &Tuple, out: &mut Vec<u8>) {
    out.extend_from_slice(b"src=");
    address(&t.src, out);
    out.extend_from_slice(b" dst=");
    address(&t.dst, out);
    out.push(b' ');
    key(t, out);
}

/// What the protocol adds to the addresses, followed by a blank unless it is nothing.
#[inline]
pub(super) fn key(t: &Tuple, out: &mut Vec<u8>) {
    if t.has_ports() {
        number(b"sport=", t.l4.a, out);
        number(b"dport=", t.l4.b, out);
    } else if t.is_icmp() {
        number(b"type=", t.l4.icmp_type(), out);
        number(b"code=", t.l4.icmp_code(), out);
        number(b"id=", t.l4.a, out);
    } else if t.proto == proto::GRE {
        out.extend_from_slice(b"srckey=0x");
        hex(t.l4.a, out);
        out.extend_from_slice(b" dstkey=0x");
        hex(t.l4.b, out);
        out.push(b' ');
    }
}

fn counters(c: &Counters, out: &mut Vec<u8>) {
    number(b"packets=", c.packets, out);
    number(b"bytes=", c.bytes, out);
}

#[inline]
pub(super) fn number(name: &[u8], n: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    decimal(n, out);
    out.push(b' ');
}

pub(super) fn text(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b' ');
}
