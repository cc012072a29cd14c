//! What is wrong with a message, octet and attribute: one row for each way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto_ctnl::consts::*;
use proto_ctnl::{
    Content, DecodeError, Encoder, Expect, ExpectRef, Flow, FlowRef, Message, Request, Writer,
};

/// Appends a tuple of TCP over IPv4.
fn tuple(w: &mut Writer<'_>, kind: u16) {
    w.nest(kind, |w| {
        w.nest(CTA_TUPLE_IP, |w| {
            w.put(CTA_IP_V4_SRC, &[10, 0, 0, 1]);
            w.put(CTA_IP_V4_DST, &[10, 0, 0, 2]);
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.u8(CTA_PROTO_NUM, 6);
            w.u16_be(CTA_PROTO_SRC_PORT, 1003);
            w.u16_be(CTA_PROTO_DST_PORT, 80);
        });
    });
}

fn flow_error(bytes: &[u8]) -> DecodeError {
    let message = Message::parse(bytes).unwrap();
    FlowRef::parse(&message).and_then(|seen| seen.write_to(&mut Flow::default())).unwrap_err()
}

/// The error's text for a new flow with a good original tuple and `attrs` behind it (octet 72).
fn flow_text(attrs: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut buf = [0; 512];
    let mut encoder = Encoder::new(&mut buf);
    let request = Request { kind: msg::CT_NEW, ..Request::default() };
    encoder
        .request(&request, |w| {
            tuple(w, CTA_TUPLE_ORIG);
            attrs(w);
        })
        .unwrap();
    flow_error(encoder.bytes()).to_string()
}

#[test]
fn short_values_of_a_flow() {
    for (kind, name, len) in [
        (CTA_STATUS, "CTA_STATUS", 3),
        (CTA_TIMEOUT, "CTA_TIMEOUT", 2),
        (CTA_MARK, "CTA_MARK", 0),
        (CTA_USE, "CTA_USE", 3),
        (CTA_ID, "CTA_ID", 1),
        (CTA_SECMARK, "CTA_SECMARK", 3),
        (CTA_ZONE, "CTA_ZONE", 1),
        (CTA_TIMESTAMP_EVENT, "CTA_TIMESTAMP_EVENT", 7),
    ] {
        let text = flow_text(|w| w.put(kind, &[0; 8][..len]));
        assert_eq!(text, format!("value too short at octet 72 in {name}"));
    }
}

#[test]
fn short_values_inside_nests() {
    type Row = (u16, u16, &'static str, usize);
    let rows: [Row; 12] = [
        (CTA_COUNTERS_ORIG, 1, "CTA_COUNTERS_ORIG.CTA_COUNTERS_PACKETS", 4),
        (CTA_COUNTERS_REPLY, 2, "CTA_COUNTERS_REPLY.CTA_COUNTERS_BYTES", 7),
        (CTA_COUNTERS_REPLY, 3, "CTA_COUNTERS_REPLY.CTA_COUNTERS32_PACKETS", 3),
        (CTA_TIMESTAMP, 1, "CTA_TIMESTAMP.CTA_TIMESTAMP_START", 4),
        (CTA_TIMESTAMP, 2, "CTA_TIMESTAMP.CTA_TIMESTAMP_STOP", 0),
        (CTA_SYNPROXY, 1, "CTA_SYNPROXY.CTA_SYNPROXY_ISN", 2),
        (CTA_SYNPROXY, 3, "CTA_SYNPROXY.CTA_SYNPROXY_TSOFF", 3),
        (CTA_NAT_SRC, 1, "CTA_NAT_SRC.CTA_NAT_V4_MINIP", 3),
        (CTA_NAT_DST, 4, "CTA_NAT_DST.CTA_NAT_V6_MINIP", 8),
        (CTA_TUPLE_REPLY, 1, "CTA_TUPLE_REPLY.CTA_TUPLE_IP", 0),
        (CTA_TUPLE_REPLY, 3, "CTA_TUPLE_REPLY.CTA_TUPLE_ZONE", 1),
        (CTA_TUPLE_MASTER, 2, "CTA_TUPLE_MASTER.CTA_TUPLE_PROTO", 0),
    ];
    for (nest, kind, path, len) in rows {
        let text = flow_text(|w| w.nest(nest, |w| w.put(kind, &[0; 8][..len])));
        let is_nest = matches!(nest, CTA_TUPLE_REPLY | CTA_TUPLE_MASTER) && kind != 3;
        if is_nest {
            assert!(text.starts_with("missing at octet 76 in ") && text.contains(path), "{text}");
        } else {
            assert_eq!(text, format!("value too short at octet 76 in {path}"));
        }
    }
    let text = flow_text(|w| {
        w.nest(CTA_PROTOINFO, |w| w.nest(CTA_PROTOINFO_TCP, |w| w.put(1, &[])));
    });
    assert_eq!(
        text,
        "value too short at octet 80 in CTA_PROTOINFO.CTA_PROTOINFO_TCP.CTA_PROTOINFO_TCP_STATE"
    );
    let text = flow_text(|w| w.nest(CTA_NAT_SRC, |w| w.nest(CTA_NAT_PROTO, |w| w.put(1, &[1]))));
    assert_eq!(
        text,
        "value too short at octet 80 in CTA_NAT_SRC.CTA_NAT_PROTO.CTA_PROTONAT_PORT_MIN"
    );
}

#[test]
fn parts_of_a_tuple_that_are_missing() {
    let text = flow_text(|w| w.nest(CTA_TUPLE_REPLY, |_| {}));
    assert_eq!(text, "missing at octet 72 in CTA_TUPLE_REPLY.CTA_TUPLE_IP");
    let text = flow_text(|w| {
        w.nest(CTA_TUPLE_REPLY, |w| {
            w.nest(CTA_TUPLE_IP, |w| {
                w.put(CTA_IP_V4_SRC, &[0; 4]);
                w.put(CTA_IP_V6_DST, &[0; 16]);
            });
        });
    });
    assert_eq!(text, "missing at octet 76 in CTA_TUPLE_REPLY.CTA_TUPLE_IP.CTA_IP_V4_DST");
    let text = flow_text(|w| {
        w.nest(CTA_TUPLE_REPLY, |w| {
            w.nest(CTA_TUPLE_IP, |w| {
                w.put(CTA_IP_V4_SRC, &[0; 4]);
                w.put(CTA_IP_V4_DST, &[0; 4]);
            });
            w.nest(CTA_TUPLE_PROTO, |w| w.u16_be(CTA_PROTO_SRC_PORT, 1));
        });
    });
    assert_eq!(text, "missing at octet 96 in CTA_TUPLE_REPLY.CTA_TUPLE_PROTO.CTA_PROTO_NUM");
}

#[test]
fn names_and_labels() {
    let text = flow_text(|w| w.nest(CTA_HELP, |w| w.text(CTA_HELP_NAME, &[b'a'; 17])));
    assert_eq!(text, "name too long at octet 76 in CTA_HELP.CTA_HELP_NAME");
    let text = flow_text(|w| w.put(CTA_LABELS, &[1, 1, 1]));
    assert_eq!(text, "labels are not whole words at octet 72 in CTA_LABELS");
    // A context too long for us is cut, because nothing depends on it.
    let mut buf = [0; 512];
    let mut encoder = Encoder::new(&mut buf);
    let request = Request { kind: msg::CT_NEW, ..Request::default() };
    encoder
        .request(&request, |w| {
            tuple(w, CTA_TUPLE_ORIG);
            w.nest(CTA_SECCTX, |w| w.text(CTA_SECCTX_NAME, &[b'a'; 100]));
            w.put(CTA_LABELS, &[1, 0, 0, 0, 2, 0, 0, 0]);
        })
        .unwrap();
    let mut flow = Flow::default();
    let message = Message::parse(encoder.bytes()).unwrap();
    FlowRef::parse(&message).unwrap().write_to(&mut flow).unwrap();
    assert_eq!(flow.secctx.as_bytes(), [b'a'; 64]);
    assert_eq!(flow.labels.0, [1u32.to_le(), 2u32.to_le(), 0, 0]);
}

#[test]
fn a_flow_without_its_original_tuple() {
    let mut buf = [0; 128];
    let mut encoder = Encoder::new(&mut buf);
    let request = Request { kind: msg::CT_DELETE, ..Request::default() };
    encoder.request(&request, |w| w.u32_be(CTA_STATUS, 8)).unwrap();
    let message = Message::parse(encoder.bytes()).unwrap();
    assert_eq!(message.content().unwrap_err().to_string(), "missing at octet 28 in CTA_TUPLE_ORIG");
    assert!(FlowRef::parse_request(&message).is_ok());
}

#[test]
fn lengths_of_attributes_and_messages() {
    let mut buf = [0; 128];
    let mut encoder = Encoder::new(&mut buf);
    let request = Request { kind: msg::CT_NEW, ..Request::default() };
    encoder.request(&request, |w| tuple(w, CTA_TUPLE_ORIG)).unwrap();
    let good = encoder.bytes().to_vec();
    let with = |at: usize, octet: u8| {
        let mut bytes = good.clone();
        bytes[at] = octet;
        flow_error(&bytes).to_string()
    };
    assert_eq!(with(20, 3), "bad attribute length at octet 20 in CTA_TUPLE_ORIG");
    assert_eq!(with(20, 53), "bad attribute length at octet 20 in CTA_TUPLE_ORIG");
    let inner = "bad attribute length at octet 28 in CTA_TUPLE_ORIG.CTA_TUPLE_IP.CTA_IP_V4_SRC";
    assert_eq!(with(28, 17), inner);
    assert_eq!(with(28, 2), inner);
    // The length of an attribute that has no name here.
    let mut short = good.clone();
    (short[0], short[20], short[22]) = (28, 9, 99);
    assert_eq!(flow_error(&short).to_string(), "bad attribute length at octet 20 in attribute 99");
    // No room for the header of nfnetlink.
    let mut bare = good[..16].to_vec();
    bare[0] = 16;
    assert_eq!(flow_error(&bare).to_string(), "header cut short at octet 16");
}

#[test]
fn expectations() {
    let text = |attrs: &dyn Fn(&mut Writer<'_>)| {
        let mut buf = [0; 256];
        let mut encoder = Encoder::new(&mut buf);
        let request = Request { kind: msg::EXP_NEW, ..Request::default() };
        encoder.request(&request, |w| attrs(w)).unwrap();
        let message = Message::parse(encoder.bytes()).unwrap();
        let seen = ExpectRef::parse(&message).unwrap();
        seen.write_to(&mut Expect::default()).unwrap_err().to_string()
    };
    assert_eq!(
        text(&|w| w.put(CTA_EXPECT_TIMEOUT, &[0; 3])),
        "value too short at octet 20 in CTA_EXPECT_TIMEOUT"
    );
    assert_eq!(
        text(&|w| w.nest(CTA_EXPECT_NAT, |w| w.u32_be(CTA_EXPECT_NAT_DIR, 1))),
        "missing at octet 20 in CTA_EXPECT_NAT.CTA_EXPECT_NAT_TUPLE"
    );
    assert_eq!(
        text(&|w| w.nest(CTA_EXPECT_NAT, |w| w.nest(CTA_EXPECT_NAT_TUPLE, |w| {
            w.nest(CTA_TUPLE_IP, |w| w.put(CTA_IP_V4_SRC, &[1]));
        }))),
        "value too short at octet 32 in \
         CTA_EXPECT_NAT.CTA_EXPECT_NAT_TUPLE.CTA_TUPLE_IP.CTA_IP_V4_SRC"
    );
    assert_eq!(
        text(&|w| w.text(CTA_EXPECT_FN, &[b'x'; 33])),
        "name too long at octet 20 in CTA_EXPECT_FN"
    );
}

#[test]
fn control_messages() {
    let message = |kind: u16, payload: &[u8]| {
        let mut bytes = vec![0; 16];
        bytes[..4].copy_from_slice(&(16 + payload.len() as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes
    };
    let text = |kind, payload: &[u8]| {
        let bytes = message(kind, payload);
        Message::parse(&bytes).unwrap().content().unwrap_err().to_string()
    };
    assert_eq!(text(nlmsg::DONE, &[0; 3]), "value too short at octet 16");
    assert_eq!(text(nlmsg::ERROR, &[0; 3]), "header cut short at octet 16");
    assert_eq!(text(nlmsg::ERROR, &[0; 19]), "header cut short at octet 20");
    let done = message(nlmsg::DONE, &(-16i32).to_ne_bytes());
    let content = Message::parse(&done).unwrap().content();
    assert!(matches!(content, Ok(Content::Done { errno: 16 })), "{content:?}");
    let done = message(nlmsg::DONE, &[]);
    let content = Message::parse(&done).unwrap().content();
    assert!(matches!(content, Ok(Content::Done { errno: 0 })), "{content:?}");
    let noop = message(nlmsg::NOOP, &[]);
    assert!(matches!(Message::parse(&noop).unwrap().content(), Ok(Content::Noop)));
    let overrun = message(nlmsg::OVERRUN, &[]);
    assert!(matches!(Message::parse(&overrun).unwrap().content(), Ok(Content::Overrun)));
}
