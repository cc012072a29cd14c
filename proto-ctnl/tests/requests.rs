//! Batches of requests, filters and flushes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use proto_ctnl::consts::*;
use proto_ctnl::{
    DumpFilter, Encoder, Flow, FlowMasks, FlushFilter, Full, L4, Labels, Masked, Message, Messages,
    Present, Tuple, TupleFields, TupleFilter, proto,
};

fn tuple(v6: bool) -> Tuple {
    let address = |n: u8| match v6 {
        false => IpAddr::from([10, 0, 0, n]),
        true => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]),
    };
    Tuple { src: address(1), dst: address(2), proto: proto::TCP, l4: L4::ports(1003, 80) }
}

/// The attribute of number `kind` of the first message.
fn value(bytes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let message = Message::parse(bytes).unwrap();
    let mut attrs = message.attrs().unwrap().map(|attr| attr.unwrap());
    attrs.find(|attr| attr.kind == kind).map(|attr| attr.value.to_vec())
}

#[test]
fn a_batch_fills_the_buffer_and_starts_again() {
    let mut buf = [0xff; 500];
    let mut encoder = Encoder::new(&mut buf);
    let mut sent = 0;
    while encoder.flow_delete(&tuple(false), 7, None, sent, false) != Err(Full) {
        sent += 1;
    }
    // 20 of headers, 52 of tuple, 8 of zone.
    assert_eq!((sent, encoder.count(), encoder.len()), (6, 6, 480));
    encoder.ack_last();
    let seen: Vec<_> =
        Messages::new(encoder.bytes()).map(|m| m.map(|m| (m.seq, m.flags)).unwrap()).collect();
    assert_eq!(seen[..5], [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(seen[5], (5, flag::REQUEST | flag::ACK));

    encoder.clear();
    assert!(encoder.is_empty() && encoder.bytes().is_empty());
    encoder.ack_last();
    encoder.stats_global(9).unwrap();
    assert_eq!(encoder.bytes().len(), 20);
    assert_eq!(Message::parse(encoder.bytes()).unwrap().flags, flag::REQUEST);
}

#[test]
fn masks_go_with_their_values() {
    let mut flow = Flow { orig: tuple(false), mark: 0x12, ..Flow::default() };
    flow.labels = Labels([1 << 3, 0, 0, 0]);
    flow.present = Present(Present::ORIG.0 | Present::MARK.0 | Present::LABELS.0);
    let masks = FlowMasks { mark: Some(0xff), labels: Some(Labels([8, 0, 0, 0])) };
    let mut buf = [0; 300];
    let mut encoder = Encoder::new(&mut buf);
    encoder.flow_new(&flow, masks, flag::ACK, 1).unwrap();
    assert_eq!(value(encoder.bytes(), CTA_MARK_MASK).unwrap(), [0, 0, 0, 0xff]);
    assert_eq!(value(encoder.bytes(), CTA_LABELS_MASK), value(encoder.bytes(), CTA_LABELS));
    // Without the value there is nothing to mask.
    flow.present = Present::ORIG;
    encoder.clear();
    encoder.flow_new(&flow, masks, flag::ACK, 1).unwrap();
    assert_eq!(value(encoder.bytes(), CTA_MARK_MASK), None);
    assert_eq!(value(encoder.bytes(), CTA_LABELS_MASK), None);
}

#[test]
fn a_translated_port_needs_a_protocol_with_ports() {
    let mut flow = Flow { orig: tuple(false), spat: 4000, ..Flow::default() };
    flow.present = Present(Present::ORIG.0 | Present::SPAT.0);
    let mut buf = [0; 300];
    let mut encoder = Encoder::new(&mut buf);
    encoder.flow_create(&flow, 1, false).unwrap();
    let nat = value(encoder.bytes(), CTA_NAT_SRC).unwrap();
    assert_eq!(nat, *b"\x14\0\x03\x80\x06\0\x01\0\x0f\xa0\0\0\x06\0\x02\0\x0f\xa0\0\0");
    flow.orig.proto = proto::ICMP;
    encoder.clear();
    encoder.flow_create(&flow, 1, false).unwrap();
    assert_eq!(value(encoder.bytes(), CTA_NAT_SRC), None);
}

/// The flags of the original direction in the filter that a dump of `filter` carries.
fn filter_flags(filter: &DumpFilter) -> Option<u32> {
    let mut buf = [0; 512];
    let mut encoder = Encoder::new(&mut buf);
    encoder.flow_dump(filter, 1).unwrap();
    let message = Message::parse(encoder.bytes()).unwrap();
    let nest = message.attrs().unwrap().map(|a| a.unwrap()).find(|a| a.kind == CTA_FILTER)?;
    assert!(nest.nested, "the kernel refuses a filter that is not flagged as a nest");
    let has_tuple = value(encoder.bytes(), CTA_TUPLE_ORIG).is_some();
    let flags = nest.attrs().map(|a| a.unwrap()).find(|a| a.kind == CTA_FILTER_ORIG_FLAGS)?;
    assert!(has_tuple, "flags without their tuple are refused");
    Some(flags.u32_host().unwrap())
}

#[test]
fn a_dump_leaves_out_what_kernels_get_wrong() {
    let ends = TupleFields::SRC.with(TupleFields::DST);
    let ports = TupleFields::SRC_PORT.with(TupleFields::DST_PORT);
    let filter = |v6, family, fields| DumpFilter {
        family,
        orig: Some(TupleFilter { tuple: tuple(v6), zone: 0, fields }),
        ..DumpFilter::default()
    };
    let with_proto = ends.with(ports).with(TupleFields::PROTO);
    assert_eq!(filter_flags(&filter(false, family::INET, with_proto)), Some(0x3b));
    // IPv6 addresses are compared the wrong way round.
    assert_eq!(filter_flags(&filter(true, family::INET6, with_proto)), Some(0x38));
    assert_eq!(filter_flags(&filter(true, family::INET6, ends)), None);
    // Ports need a protocol, a tuple needs a family.
    assert_eq!(filter_flags(&filter(false, family::INET, ends.with(ports))), Some(0x03));
    assert_eq!(filter_flags(&filter(false, family::INET, ports)), None);
    assert_eq!(filter_flags(&filter(false, family::UNSPEC, with_proto)), None);
}

#[test]
fn a_dump_filters_by_the_zone_of_a_direction() {
    let reply = TupleFilter { tuple: tuple(false), zone: 11, fields: TupleFields::ZONE };
    let filter = DumpFilter { family: family::INET, reply: Some(reply), ..DumpFilter::default() };
    let mut buf = [0; 512];
    let mut encoder = Encoder::new(&mut buf);
    encoder.flow_dump(&filter, 1).unwrap();
    let tuple = value(encoder.bytes(), CTA_TUPLE_REPLY).unwrap();
    assert_eq!(tuple[tuple.len() - 8..], *b"\x06\0\x03\0\0\x0b\0\0");
    let nest = value(encoder.bytes(), CTA_FILTER).unwrap();
    assert_eq!(nest[4..], 4u32.to_ne_bytes());
    assert_eq!(nest[2..4], CTA_FILTER_REPLY_FLAGS.to_ne_bytes());
}

#[test]
fn an_empty_status_mask_is_not_sent() {
    let filter =
        |value, mask| DumpFilter { status: Some(Masked { value, mask }), ..DumpFilter::default() };
    let mut buf = [0; 512];
    let mut encoder = Encoder::new(&mut buf);
    encoder.flow_dump(&filter(0, 0), 1).unwrap();
    assert_eq!(encoder.len(), 20);
    encoder.clear();
    // Unset bits can be asked for.
    encoder.flow_dump(&filter(0, 4), 1).unwrap();
    assert_eq!(value(encoder.bytes(), CTA_STATUS).unwrap(), [0; 4]);
    assert_eq!(value(encoder.bytes(), CTA_STATUS_MASK).unwrap(), [0, 0, 0, 4]);
}

#[test]
fn a_flush_of_one_family_says_so_in_the_version() {
    let mut buf = [0; 512];
    let mut encoder = Encoder::new(&mut buf);
    encoder.flow_flush(&FlushFilter::default(), 1, true).unwrap();
    let all = Message::parse(encoder.bytes()).unwrap();
    assert_eq!((all.family(), all.version(), all.kind), (Ok(0), Ok(0), msg::CT_DELETE));
    encoder.clear();
    let filter = FlushFilter {
        family: family::INET6,
        zone: Some(3),
        mark: Some(Masked { value: 1, mask: 0xff }),
        status: None,
    };
    encoder.flow_flush(&filter, 1, true).unwrap();
    let one = Message::parse(encoder.bytes()).unwrap();
    assert_eq!((one.family(), one.version()), (Ok(family::INET6), Ok(1)));
    assert_eq!(value(encoder.bytes(), CTA_ZONE).unwrap(), [0, 3]);
    assert_eq!(value(encoder.bytes(), CTA_MARK).unwrap(), [0, 0, 0, 1]);
    assert_eq!(value(encoder.bytes(), CTA_MARK_MASK).unwrap(), [0, 0, 0, 0xff]);
}
