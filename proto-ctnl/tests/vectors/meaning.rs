//! What messages mean: flows, expectations, statistics, ends of dumps.

use std::net::IpAddr;

use proto_ctnl::consts::*;
use proto_ctnl::{
    Content, Counters, Dccp, DecodeErrorKind, Expect, ExpectMessage, ExpectPresent, Flow,
    FlowMessage, FlowRef, L4, Labels, Message, Name, Present, ProtoInfo, Sctp, SeqAdj, Status,
    Synproxy, Tcp, TcpFlags, Tuple, proto,
};
use serde_json::Value;

use crate::load::{Vector, unhex, vectors};

/// The recorded attribute of a name among `attrs`.
fn find<'v>(attrs: &'v Value, name: &str) -> Option<&'v Value> {
    attrs.as_array()?.iter().find(|attr| attr["name"] == name)
}

fn number<T: TryFrom<u64>>(attrs: &Value, name: &str) -> Option<T> {
    let value = &find(attrs, name)?["value"];
    // The recorder writes 64-bit numbers as text.
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap();
    Some(T::try_from(number).ok().unwrap())
}

fn signed(attrs: &Value, name: &str) -> i32 {
    i32::try_from(find(attrs, name).unwrap()["value"].as_i64().unwrap()).unwrap()
}

fn text<const N: usize>(attrs: &Value, name: &str) -> Option<Name<N>> {
    Name::new(find(attrs, name)?["value"].as_str().unwrap().as_bytes())
}

/// The tuple and zone of a recorded tuple attribute.
fn tuple(attr: &Value) -> (Tuple, Option<u16>) {
    let inside = &attr["attrs"];
    let ip = &find(inside, "CTA_TUPLE_IP").unwrap()["attrs"];
    let address = |v4, v6| -> IpAddr {
        let attr = find(ip, v4).or_else(|| find(ip, v6)).unwrap();
        attr["value"].as_str().unwrap().parse().unwrap()
    };
    let l4 = &find(inside, "CTA_TUPLE_PROTO").unwrap()["attrs"];
    let num = number(l4, "CTA_PROTO_NUM").unwrap();
    let icmp = |id, kind, code| {
        L4::icmp(number(l4, id).unwrap(), number(l4, kind).unwrap(), number(l4, code).unwrap())
    };
    let l4 = match num {
        proto::ICMP => icmp("CTA_PROTO_ICMP_ID", "CTA_PROTO_ICMP_TYPE", "CTA_PROTO_ICMP_CODE"),
        proto::ICMPV6 => {
            icmp("CTA_PROTO_ICMPV6_ID", "CTA_PROTO_ICMPV6_TYPE", "CTA_PROTO_ICMPV6_CODE")
        }
        _ => L4::ports(
            number(l4, "CTA_PROTO_SRC_PORT").unwrap_or(0),
            number(l4, "CTA_PROTO_DST_PORT").unwrap_or(0),
        ),
    };
    let src = address("CTA_IP_V4_SRC", "CTA_IP_V6_SRC");
    let dst = address("CTA_IP_V4_DST", "CTA_IP_V6_DST");
    (Tuple { src, dst, proto: num, l4 }, number(inside, "CTA_TUPLE_ZONE"))
}

fn protoinfo(attrs: &Value) -> ProtoInfo {
    if let Some(tcp) = find(attrs, "CTA_PROTOINFO_TCP") {
        let tcp = &tcp["attrs"];
        let flags = |name| {
            let value = &find(tcp, name)?["value"];
            let octet = |key: &str| u8::try_from(value[key].as_u64().unwrap()).unwrap();
            Some(TcpFlags { flags: octet("flags"), mask: octet("mask") })
        };
        return ProtoInfo::Tcp(Tcp {
            state: number(tcp, "CTA_PROTOINFO_TCP_STATE").unwrap(),
            wscale: number(tcp, "CTA_PROTOINFO_TCP_WSCALE_ORIGINAL")
                .map(|o| [o, number(tcp, "CTA_PROTOINFO_TCP_WSCALE_REPLY").unwrap()]),
            flags: flags("CTA_PROTOINFO_TCP_FLAGS_ORIGINAL")
                .map(|o| [o, flags("CTA_PROTOINFO_TCP_FLAGS_REPLY").unwrap()]),
        });
    }
    if let Some(sctp) = find(attrs, "CTA_PROTOINFO_SCTP") {
        let sctp = &sctp["attrs"];
        return ProtoInfo::Sctp(Sctp {
            state: number(sctp, "CTA_PROTOINFO_SCTP_STATE").unwrap(),
            vtag: number(sctp, "CTA_PROTOINFO_SCTP_VTAG_ORIGINAL")
                .map(|o| [o, number(sctp, "CTA_PROTOINFO_SCTP_VTAG_REPLY").unwrap()]),
        });
    }
    let dccp = &find(attrs, "CTA_PROTOINFO_DCCP").unwrap()["attrs"];
    ProtoInfo::Dccp(Dccp {
        state: number(dccp, "CTA_PROTOINFO_DCCP_STATE").unwrap(),
        role: number(dccp, "CTA_PROTOINFO_DCCP_ROLE").unwrap(),
        handshake_seq: number(dccp, "CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ"),
    })
}

fn nat(attr: &Value) -> (Option<IpAddr>, Option<u16>) {
    let inside = &attr["attrs"];
    let address = find(inside, "CTA_NAT_V4_MINIP").or_else(|| find(inside, "CTA_NAT_V6_MINIP"));
    let ports = find(inside, "CTA_NAT_PROTO").map(|ports| &ports["attrs"]);
    (
        address.map(|attr| attr["value"].as_str().unwrap().parse().unwrap()),
        ports.and_then(|ports| number(ports, "CTA_PROTONAT_PORT_MIN")),
    )
}

/// Writes one recorded attribute of a flow into `flow`, and says what it was.
fn add(flow: &mut Flow, attr: &Value, attrs: &Value) -> Present {
    let name = attr["name"].as_str().unwrap();
    let word = || number(attrs, name).unwrap();
    match name {
        "CTA_STATUS" => set(&mut flow.status, Status(word()), Present::STATUS),
        "CTA_TIMEOUT" => set(&mut flow.timeout, word(), Present::TIMEOUT),
        "CTA_MARK" => set(&mut flow.mark, word(), Present::MARK),
        "CTA_ID" => set(&mut flow.id, word(), Present::ID),
        "CTA_USE" => set(&mut flow.use_count, word(), Present::USE),
        "CTA_ZONE" => set(&mut flow.zone, number(attrs, name).unwrap(), Present::ZONE),
        "CTA_TIMESTAMP_EVENT" => {
            set(&mut flow.event_time, number(attrs, name).unwrap(), Present::EVENT_TIME)
        }
        "CTA_TUPLE_ORIG" | "CTA_TUPLE_REPLY" | "CTA_TUPLE_MASTER" => add_tuple(flow, name, attr),
        "CTA_NAT_SRC" | "CTA_NAT_DST" => add_nat(flow, name, attr),
        "CTA_LABELS" => {
            let octets = unhex(attr["hex"].as_str().unwrap());
            let words = octets.chunks_exact(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap()));
            let words = words.collect::<Vec<_>>().try_into().unwrap();
            set(&mut flow.labels, Labels(words), Present::LABELS)
        }
        // Not of the flow but of the request.
        "CTA_MARK_MASK" | "CTA_LABELS_MASK" | "CTA_STATUS_MASK" | "CTA_FILTER" => Present::NONE,
        _ => add_nest(flow, name, &attr["attrs"]),
    }
}

fn set<T>(member: &mut T, value: T, bit: Present) -> Present {
    *member = value;
    bit
}

fn add_nest(flow: &mut Flow, name: &str, inside: &Value) -> Present {
    let reply = usize::from(name.ends_with("_REPLY"));
    let word = |name| number(inside, name).unwrap();
    match name {
        "CTA_PROTOINFO" => set(&mut flow.protoinfo, protoinfo(inside), Present::PROTOINFO),
        "CTA_HELP" => {
            set(&mut flow.helper, text(inside, "CTA_HELP_NAME").unwrap(), Present::HELPER)
        }
        "CTA_COUNTERS_ORIG" | "CTA_COUNTERS_REPLY" => {
            let counters = Counters {
                packets: number(inside, "CTA_COUNTERS_PACKETS").unwrap(),
                bytes: number(inside, "CTA_COUNTERS_BYTES").unwrap(),
            };
            let bit = [Present::COUNTERS_ORIG, Present::COUNTERS_REPLY][reply];
            set(&mut flow.counters[reply], counters, bit)
        }
        "CTA_SEQ_ADJ_ORIG" | "CTA_SEQ_ADJ_REPLY" => {
            let adj = SeqAdj {
                correction_pos: word("CTA_SEQADJ_CORRECTION_POS"),
                offset_before: signed(inside, "CTA_SEQADJ_OFFSET_BEFORE"),
                offset_after: signed(inside, "CTA_SEQADJ_OFFSET_AFTER"),
            };
            set(&mut flow.seqadj[reply], adj, Present::SEQADJ)
        }
        "CTA_SYNPROXY" => {
            let state = Synproxy {
                isn: word("CTA_SYNPROXY_ISN"),
                its: word("CTA_SYNPROXY_ITS"),
                tsoff: word("CTA_SYNPROXY_TSOFF"),
            };
            set(&mut flow.synproxy, state, Present::SYNPROXY)
        }
        "CTA_TIMESTAMP" => {
            flow.start = number(inside, "CTA_TIMESTAMP_START").unwrap();
            match number(inside, "CTA_TIMESTAMP_STOP") {
                Some(stop) => {
                    set(&mut flow.stop, stop, Present(Present::START.0 | Present::STOP.0))
                }
                None => Present::START,
            }
        }
        other => panic!("{other} is not compared"),
    }
}

fn add_tuple(flow: &mut Flow, name: &str, attr: &Value) -> Present {
    let (tuple, zone) = tuple(attr);
    let (bit, zone_bit) = match name {
        "CTA_TUPLE_ORIG" => (set(&mut flow.orig, tuple, Present::ORIG), Present::ORIG_ZONE),
        "CTA_TUPLE_REPLY" => (set(&mut flow.reply, tuple, Present::REPLY), Present::REPLY_ZONE),
        _ => return set(&mut flow.master, tuple, Present::MASTER),
    };
    let Some(zone) = zone else { return bit };
    *(if bit == Present::ORIG { &mut flow.orig_zone } else { &mut flow.reply_zone }) = zone;
    Present(bit.0 | zone_bit.0)
}

fn add_nat(flow: &mut Flow, name: &str, attr: &Value) -> Present {
    let (address, port) = nat(attr);
    let is_src = name == "CTA_NAT_SRC";
    let mut bits = Present::NONE;
    if let Some(address) = address {
        *(if is_src { &mut flow.snat } else { &mut flow.dnat }) = address;
        bits.insert(if is_src { Present::SNAT } else { Present::DNAT });
    }
    if let Some(port) = port {
        *(if is_src { &mut flow.spat } else { &mut flow.dpat }) = port;
        bits.insert(if is_src { Present::SPAT } else { Present::DPAT });
    }
    bits
}

/// The flow that the independent decoding tells.
fn recorded_flow(vector: &Vector) -> Flow {
    let mut flow = Flow::default();
    for attr in vector.attrs() {
        let bits = add(&mut flow, attr, &vector.decoded["attrs"]);
        flow.present.insert(bits);
    }
    flow
}

fn recorded_expect(vector: &Vector) -> Expect {
    let attrs = &vector.decoded["attrs"];
    let mut expect = Expect::default();
    let mut set = |bit| expect.present.insert(bit);
    for (name, bit, member) in [
        ("CTA_EXPECT_MASTER", ExpectPresent::MASTER, &mut expect.master),
        ("CTA_EXPECT_TUPLE", ExpectPresent::TUPLE, &mut expect.tuple),
        ("CTA_EXPECT_MASK", ExpectPresent::MASK, &mut expect.mask),
    ] {
        if let Some(attr) = find(attrs, name) {
            *member = tuple(attr).0;
            set(bit);
        }
    }
    for (name, bit, member) in [
        ("CTA_EXPECT_TIMEOUT", ExpectPresent::TIMEOUT, &mut expect.timeout),
        ("CTA_EXPECT_ID", ExpectPresent::ID, &mut expect.id),
        ("CTA_EXPECT_FLAGS", ExpectPresent::FLAGS, &mut expect.flags),
        ("CTA_EXPECT_CLASS", ExpectPresent::CLASS, &mut expect.class),
    ] {
        if let Some(value) = number(attrs, name) {
            *member = value;
            set(bit);
        }
    }
    if let Some(name) = text(attrs, "CTA_EXPECT_HELP_NAME") {
        expect.helper = name;
        set(ExpectPresent::HELPER);
    }
    if let Some(name) = text(attrs, "CTA_EXPECT_FN") {
        expect.function = name;
        set(ExpectPresent::FUNCTION);
    }
    if let Some(nat) = find(attrs, "CTA_EXPECT_NAT") {
        expect.nat_dir = number(&nat["attrs"], "CTA_EXPECT_NAT_DIR").unwrap();
        expect.nat = tuple(find(&nat["attrs"], "CTA_EXPECT_NAT_TUPLE").unwrap()).0;
        set(ExpectPresent::NAT);
    }
    expect
}

/// Requests whose values are bad on purpose: number, scenario and what is found.
const BAD: [(&str, DecodeErrorKind, u16); 3] = [
    ("err_labels_len", DecodeErrorKind::LabelLength, CTA_LABELS),
    ("err_extack_len", DecodeErrorKind::ShortValue, CTA_TIMEOUT),
    ("err_extack_capped", DecodeErrorKind::ShortValue, CTA_TIMEOUT),
];

fn check_flow(vector: &Vector) {
    let label = vector.label();
    let message = Message::parse(&vector.bytes).unwrap();
    let mut flow = Flow::default();
    let result =
        FlowRef::parse_request(&message).and_then(|seen| seen.write_to(&mut flow).map(|()| seen));
    if let Some((_, kind, attr)) =
        BAD.iter().find(|bad| bad.0 == vector.scenario && vector.kind == "request")
    {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.path().collect()), (*kind, vec![*attr]), "{label}");
        assert_eq!(error.offset(), 72, "{label}");
        return;
    }
    let seen = result.unwrap_or_else(|e| panic!("{label}: {e}"));
    let recorded = recorded_flow(vector);
    assert_eq!(flow, recorded, "{label}");
    // The getters tell the same.
    let has = |bit| recorded.present.has(bit);
    assert_eq!(seen.zone(), if has(Present::ZONE) { recorded.zone } else { 0 }, "{label}");
    let key_zone = if has(Present::ORIG_ZONE) { recorded.orig_zone } else { seen.zone() };
    assert_eq!(seen.key_zone(), key_zone, "{label}");
    assert_eq!(seen.status(), has(Present::STATUS).then_some(recorded.status), "{label}");
    assert_eq!(seen.timeout(), has(Present::TIMEOUT).then_some(recorded.timeout), "{label}");
    assert_eq!(seen.mark(), has(Present::MARK).then_some(recorded.mark), "{label}");
    assert_eq!(seen.id(), has(Present::ID).then_some(recorded.id), "{label}");
    assert_eq!(seen.reply().unwrap(), has(Present::REPLY).then_some(recorded.reply), "{label}");
    assert_eq!(u64::from(seen.port()), vector.number("pid"), "{label}");
    if has(Present::ORIG) {
        assert_eq!(seen.orig(), recorded.orig, "{label}");
    }
    let what = match vector.kind.as_str() {
        "event_new" => FlowMessage::New,
        "event_update" => FlowMessage::Update,
        "event_destroy" => FlowMessage::Destroy,
        "dump" | "dump_ctrzero" | "reply" => FlowMessage::Dump,
        _ => return,
    };
    assert_eq!(seen.what(), what, "{label}");
    assert!(matches!(message.content(), Ok(Content::Flow(_))), "{label}");
}

fn check_expect(vector: &Vector) {
    let label = vector.label();
    let message = Message::parse(&vector.bytes).unwrap();
    let seen = proto_ctnl::ExpectRef::parse(&message).unwrap();
    let mut expect = Expect::default();
    seen.write_to(&mut expect).unwrap_or_else(|e| panic!("{label}: {e}"));
    let recorded = recorded_expect(vector);
    assert_eq!(expect, recorded, "{label}");
    assert_eq!(
        seen.master().ok(),
        expect.present.has(ExpectPresent::MASTER).then_some(recorded.master)
    );
    assert_eq!(
        seen.tuple().ok(),
        expect.present.has(ExpectPresent::TUPLE).then_some(recorded.tuple)
    );
    assert_eq!(u64::from(seen.port()), vector.number("pid"), "{label}");
    let what = match vector.kind.as_str() {
        "exp_event_new" => ExpectMessage::New,
        "exp_event_destroy" => ExpectMessage::Destroy,
        "exp_dump" => ExpectMessage::Dump,
        _ => return,
    };
    assert_eq!(seen.what(), what, "{label}");
    assert!(matches!(message.content(), Ok(Content::Expect(_))), "{label}");
}

#[test]
fn flows_and_expectations_are_decoded_as_recorded() {
    let (mut flows, mut expects) = (0, 0);
    for vector in vectors() {
        match u16::try_from(vector.number("type")).unwrap() {
            msg::CT_NEW | msg::CT_GET | msg::CT_DELETE => {
                check_flow(&vector);
                flows += 1;
            }
            msg::EXP_NEW | msg::EXP_GET | msg::EXP_DELETE => {
                check_expect(&vector);
                expects += 1;
            }
            _ => {}
        }
    }
    assert!(flows >= 330 && expects >= 30, "{flows} {expects}");
}

#[test]
fn statistics_and_ends_are_decoded_as_recorded() {
    let mut counts = [0; 5];
    for vector in vectors() {
        let label = vector.label();
        let message = Message::parse(&vector.bytes).unwrap();
        let attrs = &vector.decoded["attrs"];
        let of = |name| number::<u32>(attrs, name).unwrap();
        match (vector.kind.as_str(), message.content().ok()) {
            ("stats_cpu", Some(Content::CpuStats(stats))) => {
                assert_eq!(stats.cpu, vector.decoded["nfgen"]["res_id"], "{label}");
                let mut present = 0;
                for attr in vector.attrs() {
                    let kind = u16::try_from(attr["type"].as_u64().unwrap()).unwrap();
                    assert!(stats.has(kind), "{label}");
                    assert_eq!(stats.get(kind), attr["value"], "{label}");
                    present |= 1 << kind;
                }
                assert_eq!(stats.present, present, "{label}");
                counts[0] += 1;
            }
            ("exp_stats", Some(Content::ExpectStats(stats))) => {
                assert_eq!(stats.cpu, vector.decoded["nfgen"]["res_id"], "{label}");
                assert_eq!(stats.new, of("CTA_STATS_EXP_NEW"), "{label}");
                assert_eq!(stats.create, of("CTA_STATS_EXP_CREATE"), "{label}");
                assert_eq!(stats.delete, of("CTA_STATS_EXP_DELETE"), "{label}");
                counts[1] += 1;
            }
            ("reply", Some(Content::GlobalStats(stats))) => {
                assert_eq!(stats.entries, of("CTA_STATS_GLOBAL_ENTRIES"), "{label}");
                assert_eq!(stats.max_entries, Some(of("CTA_STATS_GLOBAL_MAX_ENTRIES")), "{label}");
                counts[2] += 1;
            }
            ("done", Some(Content::Done { errno })) => {
                assert_eq!(i64::from(-errno), vector.decoded["error"].as_i64().unwrap(), "{label}");
                counts[3] += 1;
            }
            ("ack", Some(Content::Ack { seq })) => {
                assert_eq!(seq, vector.decoded["orig_header"]["seq"], "{label}");
                counts[4] += 1;
            }
            ("error", Some(Content::Error(_))) => {}
            ("stats_cpu" | "exp_stats" | "done" | "ack" | "error", other) => {
                panic!("{label}: {other:?}")
            }
            _ => {}
        }
    }
    assert!(counts >= [2, 2, 1, 66, 47], "{counts:?}");
}
