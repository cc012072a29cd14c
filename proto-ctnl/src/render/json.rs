//! One JSON object for a flow or an expectation, with flat keys.
//!
//! `conntrack.schema.json` in the program's directory describes the keys.

use super::addr::{address, decimal};
use super::names::{proto_name, state_name};
use super::{EventKind, Parts, Render};
use crate::expect::{Expect, ExpectPresent};
use crate::flow::{Counters, Flow, Present};
use crate::status::Status;
use crate::tuple::{Tuple, proto};

/// Status bits that have a name.
const STATUS: [(Status, &str); 13] = [
    (Status::EXPECTED, "EXPECTED"),
    (Status::SEEN_REPLY, "SEEN_REPLY"),
    (Status::ASSURED, "ASSURED"),
    (Status::CONFIRMED, "CONFIRMED"),
    (Status::SRC_NAT, "SRC_NAT"),
    (Status::DST_NAT, "DST_NAT"),
    (Status::SRC_NAT_DONE, "SRC_NAT_DONE"),
    (Status::DST_NAT_DONE, "DST_NAT_DONE"),
    (Status::DYING, "DYING"),
    (Status::FIXED_TIMEOUT, "FIXED_TIMEOUT"),
    (Status::HELPER, "HELPER"),
    (Status::OFFLOAD, "OFFLOAD"),
    (Status::HW_OFFLOAD, "HW_OFFLOAD"),
];

/// Appends the flow as one object, without a newline.
pub fn flow_json(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    out.reserve(768);
    let p = flow.present;
    out.push(b'{');
    event(render, out);
    if p.has(Present::ORIG) {
        protocols(&flow.orig, out);
    }
    if p.has(Present::TIMEOUT) {
        number("timeout", flow.timeout, out);
    }
    if p.has(Present::PROTOINFO) {
        word("state", state_name(&flow.protoinfo), out);
    }
    if p.has(Present::ORIG) {
        tuple("", &flow.orig, out);
    }
    if p.has(Present::ORIG_ZONE) {
        number("zone_orig", flow.orig_zone, out);
    }
    if p.has(Present::COUNTERS_ORIG) {
        counters("", &flow.counters[0], out);
    }
    if p.has(Present::REPLY) {
        tuple("reply_", &flow.reply, out);
    }
    if p.has(Present::REPLY_ZONE) {
        number("zone_reply", flow.reply_zone, out);
    }
    if p.has(Present::COUNTERS_REPLY) {
        counters("reply_", &flow.counters[1], out);
    }
    rest(flow, render, out);
    close(out);
}

/// What belongs to no direction.
fn rest(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    let p = flow.present;
    if p.has(Present::STATUS) {
        let names = STATUS.iter().filter(|(bit, _)| flow.status.has(*bit));
        list("status", names.map(|(_, name)| name.as_bytes()), out);
    }
    for (bit, name, value) in [
        (Present::MARK, "mark", flow.mark),
        (Present::SECMARK, "secmark", flow.secmark),
        (Present::ZONE, "zone", flow.zone.into()),
    ] {
        if p.has(bit) {
            number(name, value, out);
        }
    }
    if p.has(Present::SECCTX) {
        text("secctx", flow.secctx.as_bytes(), out);
    }
    if let Some(seconds) = super::duration(flow, render) {
        number("delta_time", seconds, out);
    }
    if render.parts.has(Parts::KTIMESTAMP) {
        for (bit, name, value) in
            [(Present::START, "start", flow.start), (Present::STOP, "stop", flow.stop)]
        {
            if p.has(bit) {
                number(name, value, out);
            }
        }
    }
    if p.has(Present::HELPER) {
        text("helper", flow.helper.as_bytes(), out);
    }
    if p.has(Present::USE) {
        number("use", flow.use_count, out);
    }
    if p.has(Present::ID) && render.parts.has(Parts::ID) {
        number("id", flow.id, out);
    }
    if p.has(Present::LABELS)
        && let Some(names) = render.labels
    {
        let names = names.iter().filter(|(bit, _)| flow.labels.has(*bit));
        list("labels", names.map(|(_, name)| name), out);
    }
}

/// Appends the expectation as one object, without a newline.
pub fn expect_json(expect: &Expect, render: &Render<'_>, out: &mut Vec<u8>) {
    let p = expect.present;
    out.push(b'{');
    event(render, out);
    if p.has(ExpectPresent::TUPLE) {
        protocols(&expect.tuple, out);
    }
    if p.has(ExpectPresent::TIMEOUT) {
        number("timeout", expect.timeout, out);
    }
    let mask = Tuple { proto: expect.tuple.proto, ..expect.mask };
    for (bit, prefix, t) in [
        (ExpectPresent::TUPLE, "", &expect.tuple),
        (ExpectPresent::MASK, "mask_", &mask),
        (ExpectPresent::MASTER, "master_", &expect.master),
    ] {
        if p.has(bit) {
            tuple(prefix, t, out);
        }
    }
    if p.has(ExpectPresent::ZONE) {
        number("zone", expect.zone, out);
    }
    if p.has(ExpectPresent::FLAGS) {
        let flags = [(1, "PERMANENT"), (2, "INACTIVE"), (4, "USERSPACE")];
        let set = flags.iter().filter(|(bit, _)| expect.flags & bit != 0);
        list("flags", set.map(|(_, name)| name.as_bytes()), out);
    }
    if p.has(ExpectPresent::CLASS) {
        number("class", expect.class, out);
    }
    if p.has(ExpectPresent::HELPER) {
        text("helper", expect.helper.as_bytes(), out);
    }
    if p.has(ExpectPresent::ID) && render.parts.has(Parts::ID) {
        number("id", expect.id, out);
    }
    close(out);
}

/// Adds to the object that was written last which program caused the event.
pub fn json_origin(port: u32, program: Option<&[u8]>, out: &mut Vec<u8>) {
    out.pop();
    out.push(b',');
    number("portid", port, out);
    if let Some(name) = program {
        text("progname", name, out);
    }
    close(out);
}

fn event(render: &Render<'_>, out: &mut Vec<u8>) {
    if let Some(kind) = render.event {
        let kind = match kind {
            EventKind::New => "new",
            EventKind::Update => "update",
            EventKind::Destroy => "destroy",
        };
        word("event", kind, out);
    }
    if let Some(time) = render.time {
        number("time", u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), out);
    }
}

fn protocols(t: &Tuple, out: &mut Vec<u8>) {
    word("family", if t.is_v6() { "ipv6" } else { "ipv4" }, out);
    word("protocol", proto_name(t.proto), out);
    number("protonum", t.proto, out);
}

fn tuple(prefix: &str, t: &Tuple, out: &mut Vec<u8>) {
    for (name, end) in [("src", &t.src), ("dst", &t.dst)] {
        key(prefix, name, out);
        out.push(b'"');
        address(end, out);
        out.extend_from_slice(b"\",");
    }
    let words = |names: [&str; 2], out: &mut Vec<u8>| {
        for (name, value) in names.into_iter().zip([t.l4.a, t.l4.b]) {
            key(prefix, name, out);
            decimal(value, out);
            out.push(b',');
        }
    };
    if t.has_ports() {
        words(["sport", "dport"], out);
    } else if t.proto == proto::GRE {
        words(["srckey", "dstkey"], out);
    } else if t.is_icmp() {
        for (name, value) in [
            ("icmp_type", t.l4.icmp_type().into()),
            ("icmp_code", t.l4.icmp_code().into()),
            ("icmp_id", t.l4.a),
        ] {
            key(prefix, name, out);
            decimal(value, out);
            out.push(b',');
        }
    }
}

fn counters(prefix: &str, c: &Counters, out: &mut Vec<u8>) {
    for (name, value) in [("packets", c.packets), ("bytes", c.bytes)] {
        key(prefix, name, out);
        decimal(value, out);
        out.push(b',');
    }
}

fn key(prefix: &str, name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(name: &str, value: impl itoa::Integer, out: &mut Vec<u8>) {
    key("", name, out);
    decimal(value, out);
    out.push(b',');
}

/// A value that needs no escape.
fn word(name: &str, value: &str, out: &mut Vec<u8>) {
    key("", name, out);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\",");
}

fn text(name: &str, value: &[u8], out: &mut Vec<u8>) {
    key("", name, out);
    quoted(value, out);
    out.push(b',');
}

fn list<'a>(name: &str, values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    key("", name, out);
    out.push(b'[');
    let begin = out.len();
    for value in values {
        quoted(value, out);
        out.push(b',');
    }
    if out.len() > begin {
        out.pop();
    }
    out.extend_from_slice(b"],");
}

/// A JSON string. Octets beyond ASCII, of which the encoding is unknown, count as Latin-1.
fn quoted(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &b in value {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b' '..=b'~' => out.push(b),
            _ => {
                let digit = |n: u8| DIGITS[usize::from(n)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(b >> 4), digit(b & 15)]);
            }
        }
    }
    out.push(b'"');
}

/// The last member has a comma behind it.
fn close(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        quoted(b"a\"\\\n\xe4", &mut out);
        assert_eq!(out, br#""a\"\\\u000a\u00e4""#);
    }

    #[test]
    fn an_origin_is_added() {
        let mut out = Vec::new();
        flow_json(&Flow::default(), &Render::default(), &mut out);
        assert_eq!(out, b"{}");
        let flow = Flow { mark: 3, present: Present::MARK, ..Flow::default() };
        out.clear();
        flow_json(&flow, &Render::default(), &mut out);
        json_origin(7, Some(b"x"), &mut out);
        assert_eq!(out, br#"{"mark":3,"portid":7,"progname":"x"}"#);
    }
}
