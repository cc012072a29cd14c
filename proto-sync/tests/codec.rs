//! Recorded datagrams of the original decode as recorded and encode to the same octets.

#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use std::net::IpAddr;

use common::{list, number, scenario, scenarios, unhex};
use proto_ctnl::{Expect, Flow, Present, ProtoInfo};
use proto_sync::{
    EncodeOptions, ExpectPayload, FlowPayload, HEADER_LEN, Kind, Messages, PayloadError,
    PayloadErrorKind, RawMessage, encode_expect, encode_flow,
};
use serde_json::Value;

/// What the original sends that we leave out, each with a test of its own below.
const TRANSLATED_PORT_OF_ICMP: &str = "ports of a translated ICMP flow";

fn address(value: &Value) -> IpAddr {
    value.as_str().unwrap().parse().unwrap()
}

fn decode(payload: &[u8]) -> Flow {
    let mut flow = Flow::default();
    FlowPayload::parse(payload).unwrap().write_to(&mut flow);
    flow
}

/// Compares one attribute, as the recorder understood it, with the flow.
fn compare(flow: &Flow, attr: &Value) {
    let v = &attr["value"];
    let p = flow.present;
    let n = || number(v);
    let l4 = flow.orig.l4;
    let tcp = || match flow.protoinfo {
        ProtoInfo::Tcp(tcp) => tcp,
        _ => panic!("no TCP"),
    };
    let sctp = || match flow.protoinfo {
        ProtoInfo::Sctp(sctp) => sctp,
        _ => panic!("no SCTP"),
    };
    let dccp = || match flow.protoinfo {
        ProtoInfo::Dccp(dccp) => dccp,
        _ => panic!("no DCCP"),
    };
    match attr["name"].as_str().unwrap() {
        "IPV4" | "IPV6" => {
            assert!(p.has(Present::ORIG));
            assert_eq!((flow.orig.src, flow.orig.dst), (address(&v["src"]), address(&v["dst"])));
        }
        "L4PROTO" => assert_eq!(u64::from(flow.orig.proto), n()),
        "PORT" => assert_eq!(
            (u64::from(l4.a), u64::from(l4.b)),
            (number(&v["sport"]), number(&v["dport"]))
        ),
        "ICMP_TYPE" => assert_eq!(u64::from(l4.icmp_type()), n()),
        "ICMP_CODE" => assert_eq!(u64::from(l4.icmp_code()), n()),
        "ICMP_ID" => assert_eq!(u64::from(l4.a), n()),
        "TCP_STATE" | "SCTP_STATE" | "DCCP_STATE" => {
            assert!(p.has(Present::PROTOINFO));
            assert_eq!(u64::from(flow.protoinfo.state()), n());
        }
        "TCP_WSCALE_ORIG" => assert_eq!(u64::from(tcp().wscale.unwrap()[0]), n()),
        "TCP_WSCALE_REPL" => assert_eq!(u64::from(tcp().wscale.unwrap()[1]), n()),
        "SCTP_VTAG_ORIG" => assert_eq!(u64::from(sctp().vtag.unwrap()[0]), n()),
        "SCTP_VTAG_REPL" => assert_eq!(u64::from(sctp().vtag.unwrap()[1]), n()),
        "DCCP_ROLE" => assert_eq!(u64::from(dccp().role), n()),
        "STATUS" => {
            let digits = v.as_str().unwrap().trim_start_matches("0x");
            assert_eq!(flow.status.0, u32::from_str_radix(digits, 16).unwrap());
        }
        "TIMEOUT" => assert_eq!(u64::from(flow.timeout), n()),
        "MARK" => assert_eq!(u64::from(flow.mark), n()),
        "MASTER_IPV4" | "MASTER_IPV6" => {
            assert!(p.has(Present::MASTER));
            assert_eq!(
                (flow.master.src, flow.master.dst),
                (address(&v["src"]), address(&v["dst"]))
            );
        }
        "MASTER_L4PROTO" => assert_eq!(u64::from(flow.master.proto), n()),
        "MASTER_PORT" => assert_eq!(
            (u64::from(flow.master.l4.a), u64::from(flow.master.l4.b)),
            (number(&v["sport"]), number(&v["dport"]))
        ),
        "SNAT_IPV4" | "SNAT_IPV6" => assert!(p.has(Present::SNAT) && flow.snat == address(v)),
        "DNAT_IPV4" | "DNAT_IPV6" => assert!(p.has(Present::DNAT) && flow.dnat == address(v)),
        "SPAT_PORT" => assert!(p.has(Present::SPAT) && u64::from(flow.spat) == n()),
        "DPAT_PORT" => assert!(p.has(Present::DPAT) && u64::from(flow.dpat) == n()),
        "NAT_SEQ_ADJ" => {
            let [o, r] = flow.seqadj;
            let told: Vec<i64> = ["orig_pos", "orig_before", "orig_after"]
                .iter()
                .chain(&["repl_pos", "repl_before", "repl_after"])
                .map(|name| v[*name].as_i64().unwrap())
                .collect();
            let ours = [o.correction_pos, r.correction_pos].map(i64::from);
            assert_eq!([ours[0], ours[1]], [told[0], told[3]]);
            let ours = [o.offset_before, o.offset_after, r.offset_before, r.offset_after];
            assert_eq!(ours.map(i64::from), [told[1], told[2], told[4], told[5]]);
        }
        "HELPER_NAME" => {
            assert_eq!(flow.helper.as_bytes(), v.as_str().unwrap().as_bytes());
        }
        "LABELS" => {
            for (n, word) in list(&v["words"]).iter().take(4).enumerate() {
                let word = u32::from_str_radix(word.as_str().unwrap(), 16).unwrap();
                assert_eq!(flow.labels.0[n], word);
            }
        }
        "SYNPROXY" => {
            let s = flow.synproxy;
            let ours = [s.its, s.isn, s.tsoff].map(u64::from);
            assert_eq!(ours, ["its", "isn", "tsoff"].map(|name| number(&v[name])));
        }
        "ZONE" => assert_eq!(u64::from(flow.zone), n()),
        other => panic!("attribute {other} is not compared"),
    }
}

fn same_octets(message: &RawMessage<'_>, flow: &Flow, note: &str) {
    let kind = Kind::from_type(message.message_type).unwrap();
    // What the original's configuration left out is absent from the flow.
    let options = EncodeOptions { window_tracking: true, timeout: true };
    let mut out = [0; 1500];
    let len = encode_flow(kind, flow, &options, &mut out).unwrap();
    assert_eq!(out[HEADER_LEN..len], message.bytes[HEADER_LEN..], "{note}");
    assert_eq!(out[2..4], message.bytes[2..4]);
    for room in 0..len {
        assert_eq!(encode_flow(kind, flow, &options, &mut out[..room]), None);
    }
}

/// The datagrams that the original sent, over UDP.
fn sent_by_the_original() -> Vec<(&'static str, Vec<u8>, &'static Value)> {
    let mut all = Vec::new();
    for s in scenarios() {
        let name = s["scenario"].as_str().unwrap();
        let logs = list(&s["datagrams"]).iter().chain(list(&s["relay"]));
        for d in logs.filter(|d| d["transport"] != "tcp" && d["hex"].is_string()) {
            if name.contains("crafted") {
                continue;
            }
            all.push((name, unhex(d["hex"].as_str().unwrap()), d));
        }
    }
    assert!(all.len() > 500, "{}", all.len());
    all
}

#[test]
fn recorded_datagrams_decode_and_encode_to_the_same_octets() {
    let mut flows = 0;
    let mut expects = 0;
    let mut seen = std::collections::BTreeSet::new();
    for (name, octets, recorded) in sent_by_the_original() {
        let messages: Vec<_> = Messages::new(&octets).map(Result::unwrap).collect();
        let told = list(&recorded["messages"]);
        assert_eq!(messages.len(), told.len(), "{name}");
        for (message, told) in messages.iter().zip(told) {
            assert_eq!(u64::from(message.message_type), number(&told["type"]));
            assert_eq!(u64::from(message.seq), number(&told["seq"]));
            assert_eq!(message.bytes.len() as u64, number(&told["len"]));
            if !told["from"].is_null() {
                let (from, to) = message.range;
                assert_eq!(u64::from(from), number(&told["from"]));
                assert_eq!(u64::from(to), number(&told["to"]));
            }
            let attrs = list(&told["attrs"]);
            match Kind::from_type(message.message_type) {
                None => continue,
                Some(kind) if kind.is_expect() => {
                    same_expectation(kind, message, name);
                    expects += 1;
                    continue;
                }
                Some(_) => flows += 1,
            }
            let flow = decode(message.payload());
            for attr in attrs {
                seen.insert(attr["name"].as_str().unwrap());
                compare(&flow, attr);
            }
            let meaningless = flow.orig.is_icmp() && flow.present.any(Present::SPAT);
            if !meaningless {
                same_octets(message, &flow, name);
            }
        }
    }
    assert!(flows > 1000 && expects > 5, "{flows} {expects}");
    assert!(seen.len() >= 25, "{seen:?}");
}

fn same_expectation(kind: Kind, message: &RawMessage<'_>, note: &str) {
    let options = EncodeOptions { window_tracking: false, timeout: true };
    let mut expect = Expect::default();
    ExpectPayload::parse(message.payload()).unwrap().write_to(&mut expect);
    let mut out = [0; 1500];
    let len = encode_expect(kind, &expect, &options, &mut out).unwrap();
    assert_eq!(out[HEADER_LEN..len], message.bytes[HEADER_LEN..], "{note}");
    for room in 0..len {
        assert_eq!(encode_expect(kind, &expect, &options, &mut out[..room]), None);
    }
}

#[test]
fn the_reply_tuple_and_the_named_translation_give_the_same_octets() {
    let mut checked = 0;
    for (name, octets, _) in sent_by_the_original() {
        for message in Messages::new(&octets).map(Result::unwrap) {
            let Some(kind) = Kind::from_type(message.message_type) else { continue };
            if kind.is_expect() {
                continue;
            }
            let mut flow = decode(message.payload());
            let Some(mut reply) = flow.orig.inverted() else { continue };
            if flow.orig.is_icmp() && flow.present.any(Present::SPAT) {
                continue;
            }
            for (bit, end, new) in [
                (Present::SNAT, &mut reply.dst, flow.snat),
                (Present::DNAT, &mut reply.src, flow.dnat),
            ] {
                if flow.present.has(bit) {
                    *end = new;
                }
            }
            if flow.present.has(Present::SPAT) {
                reply.l4.b = flow.spat;
            }
            if flow.present.has(Present::DPAT) {
                reply.l4.a = flow.dpat;
            }
            checked += u32::from(flow.present.any(Present(Present::SNAT.0 | Present::DNAT.0)));
            flow.reply = reply;
            flow.present.insert(Present::REPLY);
            for bit in [Present::SNAT, Present::DNAT, Present::SPAT, Present::DPAT] {
                flow.present.remove(bit);
            }
            same_octets(&message, &flow, name);
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn a_translated_icmp_flow_has_no_ports() {
    let mut checked = 0;
    for (_, octets, _) in sent_by_the_original() {
        for message in Messages::new(&octets).map(Result::unwrap) {
            if Kind::from_type(message.message_type).is_none_or(Kind::is_expect) {
                continue;
            }
            let mut flow = decode(message.payload());
            if !flow.orig.is_icmp() || !flow.present.any(Present::SPAT) {
                continue;
            }
            let mut out = [0; 400];
            let options = EncodeOptions { window_tracking: true, timeout: true };
            let len = encode_flow(Kind::New, &flow, &options, &mut out).unwrap();
            let again = decode(&out[HEADER_LEN..len]);
            flow.present.remove(Present::SPAT);
            flow.present.remove(Present::DPAT);
            assert_eq!(again, flow, "{TRANSLATED_PORT_OF_ICMP}");
            checked += 1;
        }
    }
    assert!(checked > 0);
}

/// Hand-made messages that the original accepted or refused: the same here, and the same counted.
#[test]
fn hand_made_messages_are_judged_as_the_original_did() {
    let mut refused = 0;
    for case in list(&scenario("notrack-crafted")["cases"]) {
        let octets = unhex(case["hex"].as_str().unwrap());
        // Without addresses, or a master, it is refused here; the original keeps an entry that
        // nobody can use.
        let is_bad = |error: PayloadError| error.kind != PayloadErrorKind::Missing;
        let bad = Messages::new(&octets)
            .filter_map(Result::ok)
            .filter(|m| m.flags & !0x60 == 0)
            .filter(|m| match Kind::from_type(m.message_type) {
                Some(kind) if kind.is_expect() => {
                    ExpectPayload::parse(m.payload()).is_err_and(is_bad)
                }
                Some(_) => FlowPayload::parse(m.payload()).is_err_and(is_bad),
                None => false,
            })
            .count();
        let counted = case["counters"]["Malformed payload"].as_u64().unwrap_or(0);
        assert_eq!(bad as u64, counted, "{}", case["case"]);
        refused += counted;
        let whole = |m: &&Value| m["partial"].is_null() && number(&m["type"]) < 3;
        for told in list(&case["messages"]).iter().filter(whole) {
            let at = number(&told["offset"]) as usize;
            let end = at + number(&told["len"]) as usize;
            let Some(Ok(m)) = Messages::new(&octets[at..end]).next() else { continue };
            let Ok(payload) = FlowPayload::parse(m.payload()) else { continue };
            let mut flow = Flow::default();
            payload.write_to(&mut flow);
            let attrs = list(&told["attrs"]);
            for (n, attr) in attrs.iter().enumerate() {
                // The last of two counts, and an IPv6 address behind an IPv4 one replaces it.
                let name = attr["name"].as_str().unwrap();
                let family = |a: &str| if a == "IPV6" { "IPV4".to_owned() } else { a.to_owned() };
                let again = attrs[n + 1..]
                    .iter()
                    .any(|a| family(a["name"].as_str().unwrap()) == family(name));
                if !again && attr["value"]["error"].is_null() && flow.present.has(Present::ORIG) {
                    compare(&flow, attr);
                }
            }
        }
    }
    assert!(refused >= 9, "{refused}");
}

#[test]
fn an_update_tells_that_no_label_is_left() {
    let mut flow = Flow { present: Present::ORIG.or(Present::LABELS), ..Flow::default() };
    let told = |kind, flow: &Flow| {
        let mut room = [0; 200];
        let len = encode_flow(kind, flow, &EncodeOptions::default(), &mut room).unwrap();
        let mut back = Flow::default();
        back.labels.0[0] = 4;
        back.present = Present::LABELS;
        FlowPayload::parse(&room[8..len]).unwrap().write_to(&mut back);
        back.labels
    };
    assert!(told(Kind::Update, &flow).is_empty());
    assert!(!told(Kind::New, &flow).is_empty(), "nothing to take away from");
    flow.labels.0[1] = 1;
    assert_eq!(told(Kind::New, &flow), flow.labels);
}
