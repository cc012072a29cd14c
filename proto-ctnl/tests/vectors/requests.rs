//! The encoder against requests that a kernel accepted, and against what a kernel sends.

use std::collections::BTreeMap;

use proto_ctnl::consts::*;
use proto_ctnl::{
    DumpFilter, Encoder, Expect, ExpectRef, Flow, FlowMasks, FlowRef, Full, Labels, Masked,
    Message, TupleFields, TupleFilter,
};

use crate::load::{Vector, vectors};

/// The outermost attributes of a message, by number, as their octets.
fn attributes<'a>(message: &Message<'a>) -> BTreeMap<u16, &'a [u8]> {
    message.attrs().unwrap().map(|attr| attr.map(|a| (a.kind, a.value)).unwrap()).collect()
}

fn order(message: &Message<'_>) -> Vec<u16> {
    message.attrs().unwrap().map(|attr| attr.unwrap().kind).collect()
}

/// The masks and filters of a recorded request.
fn masked(message: &Message<'_>, value: u16, mask: u16) -> Option<Masked> {
    let word = |kind| {
        let attr = message.attrs().unwrap().find_map(|a| a.ok().filter(|a| a.kind == kind))?;
        attr.u32_be().ok()
    };
    Some(Masked { value: word(value)?, mask: word(mask)? })
}

fn dump_filter(message: &Message<'_>) -> DumpFilter {
    let attr = |kind| message.attrs().unwrap().find_map(|a| a.ok().filter(|a| a.kind == kind));
    let flags = attr(CTA_FILTER)
        .and_then(|nest| nest.attrs().next()?.ok())
        .and_then(|flags| flags.u32_host().ok());
    DumpFilter {
        family: message.family().unwrap(),
        mark: masked(message, CTA_MARK, CTA_MARK_MASK),
        status: masked(message, CTA_STATUS, CTA_STATUS_MASK),
        zone: attr(CTA_ZONE).and_then(|zone| zone.u16_be().ok()),
        orig: flags.map(|fields| TupleFilter {
            tuple: FlowRef::parse_request(message).unwrap().orig(),
            zone: 0,
            fields: TupleFields(fields),
        }),
        reply: None,
    }
}

fn encode_flow(message: &Message<'_>, out: &mut Encoder<'_>) -> Result<(), Full> {
    let seen = FlowRef::parse_request(message).unwrap();
    let mut flow = Flow::default();
    seen.write_to(&mut flow).unwrap();
    let attrs = attributes(message);
    let mask = attrs.get(&CTA_LABELS_MASK).map(|octets| {
        Labels(core::array::from_fn(|i| {
            u32::from_ne_bytes(octets[4 * i..4 * i + 4].try_into().unwrap())
        }))
    });
    let masks = FlowMasks { mark: None, labels: mask };
    let (seq, ack) = (message.seq, message.flags & flag::ACK != 0);
    match message.flags & !(flag::REQUEST | flag::ACK) {
        0x600 => out.flow_create(&flow, seq, ack),
        0 if masks == FlowMasks::default() => out.flow_update(&flow, seq, ack),
        flags => out.flow_new(&flow, masks, flags | message.flags & flag::ACK, seq),
    }
}

/// Makes the recorded request with the encoder; `false` if that has no such request.
fn encode(message: &Message<'_>, out: &mut Encoder<'_>) -> bool {
    let (seq, ack) = (message.seq, message.flags & flag::ACK != 0);
    let dump = message.flags & flag::DUMP == flag::DUMP;
    let attrs = attributes(message);
    let flow = FlowRef::parse_request(message);
    let mut expect = Expect::default();
    if message.subsystem() == subsys::CTNETLINK_EXP {
        ExpectRef::parse(message).unwrap().write_to(&mut expect).unwrap();
    }
    let family = message.family().unwrap();
    match message.kind {
        msg::CT_NEW => encode_flow(message, out),
        msg::CT_GET if dump => out.flow_dump(&dump_filter(message), seq),
        msg::CT_GET_CTRZERO => out.flow_dump_zero(&dump_filter(message), seq),
        msg::CT_GET if attrs.contains_key(&CTA_TUPLE_ORIG) => {
            out.flow_get(&flow.unwrap().orig(), 0, seq, ack)
        }
        msg::CT_GET => out.flow_get_by_reply(&flow.unwrap().reply().unwrap().unwrap(), 0, seq, ack),
        msg::CT_DELETE => {
            let flow = flow.unwrap();
            out.flow_delete(&flow.orig(), 0, flow.id(), seq, ack)
        }
        msg::CT_GET_STATS_CPU => out.stats_cpu(seq),
        msg::CT_GET_STATS => out.stats_global(seq),
        msg::CT_GET_DYING if dump => out.flow_dump_dying(family, seq),
        msg::CT_GET_UNCONFIRMED => out.flow_dump_unconfirmed(family, seq),
        msg::EXP_NEW if message.flags & flag::CREATE != 0 => out.expect_create(&expect, seq, ack),
        msg::EXP_NEW => out.expect_new(&expect, message.flags, seq),
        msg::EXP_GET if attrs.contains_key(&CTA_EXPECT_MASTER) => {
            out.expect_dump_of(&expect.master, 0, seq)
        }
        msg::EXP_GET if dump => out.expect_dump(family, seq),
        msg::EXP_GET => out.expect_get(&expect.tuple, 0, seq, ack),
        msg::EXP_DELETE if attrs.contains_key(&CTA_EXPECT_HELP_NAME) => {
            out.expect_delete_by_helper(expect.helper.as_bytes(), family, seq, ack)
        }
        msg::EXP_DELETE => out.expect_delete(&expect.tuple, 0, None, seq, ack),
        msg::EXP_GET_STATS_CPU => out.expect_stats_cpu(seq),
        _ => return false,
    }
    .unwrap();
    true
}

/// Recorded requests that the encoder does not make, and why.
fn excused(vector: &Vector) -> Option<&'static str> {
    let s = vector.scenario.as_str();
    Some(match s {
        "err_labels_len" | "err_extack_len" | "err_extack_capped" => "a value is cut short",
        "err_extack_reject_ts" => "a time of an event, which the kernel refuses",
        "err_family" => "a family that does not fit the tuple",
        "err_dying_no_dump" => "no dump, which the kernel refuses",
        "ctn_filter_without_tuple" => "a filter without its tuple",
        "ctn_filter_family0" => "a tuple filter without a family, which the kernel refuses",
        "ctn_create_dccp4" | "ctn_create_dccp6" => "no ports, which DCCP has where it is tracked",
        "ctn_create_nat" => "a highest address, which defaults to the lowest",
        _ => return None,
    })
}

#[test]
fn requests_are_encoded_as_recorded() {
    let (mut same, mut reordered, mut skipped) = (0, 0, 0);
    for vector in vectors() {
        let kind = vector.number("type");
        if vector.kind != "request" || !matches!(kind >> 8, 1 | 2) {
            continue;
        }
        let label = vector.label();
        if excused(&vector).is_some() {
            skipped += 1;
            continue;
        }
        let recorded = Message::parse(&vector.bytes).unwrap();
        let mut buf = [0xee; 1024];
        let mut encoder = Encoder::new(&mut buf);
        assert!(encode(&recorded, &mut encoder), "{label}");
        assert_eq!(encoder.count(), 1, "{label}");
        let made = Message::parse(encoder.bytes()).unwrap();
        if encoder.bytes() == vector.bytes {
            same += 1;
            continue;
        }
        // The recorder chose another order of attributes; all octets must still be there.
        assert_ne!(order(&made), order(&recorded), "{label}: same order, other octets");
        assert_eq!(made.bytes[..20], recorded.bytes[..20], "{label}");
        assert_eq!(attributes(&made), attributes(&recorded), "{label}");
        reordered += 1;
    }
    assert!(
        same >= 51 && reordered <= 14 && skipped <= 11,
        "{same} the same, {reordered} reordered, {skipped} skipped"
    );
}

#[test]
fn flows_are_encoded_as_the_kernel_encodes_them() {
    let mut checked = 0;
    for vector in vectors() {
        if !matches!(vector.kind.as_str(), "event_new" | "event_update" | "event_destroy" | "dump")
        {
            continue;
        }
        let label = vector.label();
        let theirs = Message::parse(&vector.bytes).unwrap();
        let mut flow = Flow::default();
        FlowRef::parse(&theirs).unwrap().write_to(&mut flow).unwrap();
        let mut buf = [0xee; 1024];
        let mut encoder = Encoder::new(&mut buf);
        encoder.flow_create(&flow, 1, false).unwrap();
        let ours = attributes(&Message::parse(encoder.bytes()).unwrap());
        let mut theirs = attributes(&theirs);
        for unsent in [
            CTA_ID,
            CTA_USE,
            CTA_COUNTERS_ORIG,
            CTA_COUNTERS_REPLY,
            CTA_TIMESTAMP,
            CTA_TIMESTAMP_EVENT,
        ] {
            theirs.remove(&unsent);
        }
        // This kernel does not track DCCP and tells no ports.
        if flow.orig.proto == proto_ctnl::proto::DCCP {
            continue;
        }
        assert_eq!(ours, theirs, "{label}");
        checked += 1;
    }
    assert!(checked >= 270, "{checked}");
}

#[test]
fn expectations_are_encoded_as_the_kernel_encodes_them() {
    let mut checked = 0;
    for vector in vectors() {
        if !matches!(vector.kind.as_str(), "exp_event_new" | "exp_event_destroy" | "exp_dump") {
            continue;
        }
        let theirs = Message::parse(&vector.bytes).unwrap();
        let mut expect = Expect::default();
        ExpectRef::parse(&theirs).unwrap().write_to(&mut expect).unwrap();
        let mut buf = [0xee; 1024];
        let mut encoder = Encoder::new(&mut buf);
        encoder.expect_create(&expect, 1, false).unwrap();
        let ours = attributes(&Message::parse(encoder.bytes()).unwrap());
        let mut theirs = attributes(&theirs);
        theirs.remove(&CTA_EXPECT_ID);
        assert_eq!(ours, theirs, "{}", vector.label());
        checked += 1;
    }
    assert!(checked >= 15, "{checked}");
}
