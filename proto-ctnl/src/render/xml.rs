//! The XML form of a flow, one element a line. Nothing is escaped, as the original does not.

use super::addr::{address, decimal, hex};
use super::names::{proto_name, xml_state_name};
use super::{EventKind, Parts, Render};
use crate::flow::{Counters, Flow, Present};
use crate::status::Status;
use crate::tuple::{Tuple, proto};

/// Appends the flow as one element, without a newline.
pub fn flow_xml(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    out.reserve(1024);
    open_flow(render.event, out);
    let p = flow.present;
    let zone = |bit, zone| p.has(bit).then_some(zone);
    let counted = p.has(Present::COUNTERS_ORIG) && render.parts.has(Parts::COUNTERS);

    out.extend_from_slice(b"<meta direction=\"original\">");
    let orig = p.has(Present::ORIG).then_some(&flow.orig);
    direction(orig, zone(Present::ORIG_ZONE, flow.orig_zone), out);
    if counted {
        counters(&flow.counters[0], out);
    }
    out.extend_from_slice(b"</meta><meta direction=\"reply\">");
    let reply = (p.has(Present::REPLY) && render.parts.has(Parts::REPLY)).then_some(&flow.reply);
    direction(reply, zone(Present::REPLY_ZONE, flow.reply_zone), out);
    if counted {
        counters(&flow.counters[1], out);
    }
    out.extend_from_slice(b"</meta>");
    independent(flow, render, out);
    if let Some(time) = render.time {
        (render.local_time)(time.as_secs()).xml_when(out);
    }
    if p.has(Present::HELPER) {
        out.extend_from_slice(b"<helper>");
        out.extend_from_slice(flow.helper.as_bytes());
        out.extend_from_slice(b"</helper>");
    }
    out.extend_from_slice(b"</flow>");
}

pub(super) fn open_flow(event: Option<EventKind>, out: &mut Vec<u8>) {
    out.extend_from_slice(match event {
        None => b"<flow>".as_slice(),
        Some(EventKind::New) => b"<flow type=\"new\">",
        Some(EventKind::Update) => b"<flow type=\"update\">",
        Some(EventKind::Destroy) => b"<flow type=\"destroy\">",
    });
}

/// Both layers of one direction; a direction that is not known has empty ones.
fn direction(tuple: Option<&Tuple>, zone: Option<u16>, out: &mut Vec<u8>) {
    match tuple {
        Some(t) => {
            open_layer3(t, out);
            addresses(t, out);
            out.extend_from_slice(b"</layer3>");
            open_layer4(t.proto, out);
            key(t, out);
            out.extend_from_slice(b"</layer4>");
        }
        None => out.extend_from_slice(
            b"<layer3 protonum=\"0\" protoname=\"unknown\"><src></src><dst></dst></layer3>\
              <layer4 protonum=\"0\" protoname=\"unknown\"></layer4>",
        ),
    }
    if let Some(zone) = zone {
        element("zone", zone, out);
    }
}

pub(super) fn open_layer3(t: &Tuple, out: &mut Vec<u8>) {
    out.extend_from_slice(if t.is_v6() {
        b"<layer3 protonum=\"10\" protoname=\"ipv6\">".as_slice()
    } else {
        b"<layer3 protonum=\"2\" protoname=\"ipv4\">"
    });
}

pub(super) fn open_layer4(protocol: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<layer4 protonum=\"");
    decimal(protocol, out);
    out.extend_from_slice(b"\" protoname=\"");
    out.extend_from_slice(proto_name(protocol).as_bytes());
    out.extend_from_slice(b"\">");
}

pub(super) fn addresses(t: &Tuple, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<src>");
    address(&t.src, out);
    out.extend_from_slice(b"</src><dst>");
    address(&t.dst, out);
    out.extend_from_slice(b"</dst>");
}

/// Ports or keys; ICMP fields have no element.
pub(super) fn key(t: &Tuple, out: &mut Vec<u8>) {
    if t.has_ports() {
        element("sport", t.l4.a, out);
        element("dport", t.l4.b, out);
    } else if t.proto == proto::GRE {
        out.extend_from_slice(b"<srckey>0x");
        hex(t.l4.a, out);
        out.extend_from_slice(b"</srckey><dstkey>0x");
        hex(t.l4.b, out);
        out.extend_from_slice(b"</dstkey>");
    }
}

fn counters(c: &Counters, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<counters>");
    element("packets", c.packets, out);
    element("bytes", c.bytes, out);
    out.extend_from_slice(b"</counters>");
}

/// The block of what belongs to no direction, if there is anything.
fn independent(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    const ANY: Present = Present::PROTOINFO
        .or(Present::TIMEOUT)
        .or(Present::MARK)
        .or(Present::SECMARK)
        .or(Present::ZONE)
        .or(Present::USE)
        .or(Present::STATUS)
        .or(Present::ID)
        .or(Present::LABELS)
        .or(Present::START)
        .or(Present::STOP);
    let p = flow.present;
    if !p.any(ANY) {
        return;
    }
    out.extend_from_slice(b"<meta direction=\"independent\">");
    if p.has(Present::PROTOINFO) {
        text_element("state", xml_state_name(&flow.protoinfo).as_bytes(), out);
    }
    if p.has(Present::TIMEOUT) && render.parts.has(Parts::TIMEOUT) {
        element("timeout", flow.timeout, out);
    }
    if p.has(Present::MARK) {
        element("mark", flow.mark, out);
    }
    labels(flow, render, out);
    if p.has(Present::SECMARK) {
        element("secmark", flow.secmark, out);
    }
    if p.has(Present::SECCTX) {
        text_element("secctx", flow.secctx.as_bytes(), out);
    }
    if p.has(Present::ZONE) {
        element("zone", flow.zone, out);
    }
    if p.has(Present::USE) {
        element("use", flow.use_count, out);
    }
    if p.has(Present::ID) {
        element("id", flow.id, out);
    }
    if p.has(Present::STATUS) {
        if flow.status.has(Status::ASSURED) {
            out.extend_from_slice(b"<assured/>");
        }
        if !flow.status.has(Status::SEEN_REPLY) {
            out.extend_from_slice(b"<unreplied/>");
        }
    }
    times(flow, render, out);
    out.extend_from_slice(b"</meta>");
}

fn labels(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    let Some(names) = render.labels else { return };
    if !flow.present.has(Present::LABELS) {
        return;
    }
    out.extend_from_slice(b"<labels>");
    for (_, name) in names.iter().filter(|(bit, _)| flow.labels.has(*bit)) {
        text_element("label", name, out);
    }
    out.extend_from_slice(b"</labels>");
}

fn times(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    let p = flow.present;
    if render.parts.has(Parts::KTIMESTAMP) && p.any(Present::START.or(Present::STOP)) {
        out.extend_from_slice(b"<timestamp>");
        if p.has(Present::START) {
            element("start", flow.start, out);
        }
        if p.has(Present::STOP) {
            element("stop", flow.stop, out);
        }
        out.extend_from_slice(b"</timestamp>");
    }
    if let Some(seconds) = super::duration(flow, render) {
        element("deltatime", seconds, out);
    }
}

pub(super) fn element(name: &str, n: impl itoa::Integer, out: &mut Vec<u8>) {
    open(name, out);
    decimal(n, out);
    close(name, out);
}

pub(super) fn text_element(name: &str, value: &[u8], out: &mut Vec<u8>) {
    open(name, out);
    out.extend_from_slice(value);
    close(name, out);
}

pub(super) fn open(name: &str, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

pub(super) fn close(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}
