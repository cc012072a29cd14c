//! Headers and attributes, of every subsystem: number, name, nesting and value.

use proto_ctnl::{Attr, AttrSet, Attrs, ErrorRef, Message, Messages};
use serde_json::Value;

use crate::load::{unhex, vectors};

/// The value of an attribute that is no nest, in the recorder's form.
fn value_of(attr: &Attr<'_>, recorded: &Value, set: AttrSet) -> Value {
    let v = attr.value;
    if recorded.get("hex").is_some() {
        return Value::from(v.iter().map(|b| format!("{b:02x}")).collect::<String>());
    }
    match &recorded["value"] {
        Value::Object(_) => {
            let [flags, mask] = attr.octets::<2>().unwrap();
            serde_json::json!({"flags": flags, "mask": mask})
        }
        Value::String(_) if recorded.get("nul_terminated").is_some() => {
            assert_eq!(recorded["nul_terminated"], v.last() == Some(&0));
            Value::from(String::from_utf8(attr.text().to_vec()).unwrap())
        }
        Value::String(text) if text.contains(['.', ':']) => match v.len() {
            4 => std::net::IpAddr::from(attr.octets::<4>().unwrap()).to_string().into(),
            _ => std::net::IpAddr::from(attr.octets::<16>().unwrap()).to_string().into(),
        },
        Value::String(_) => Value::from(attr.u64_be().unwrap().to_string()),
        Value::Number(_) => match (set, v.len()) {
            (AttrSet::Filter | AttrSet::ExtAck, 4) => attr.u32_host().unwrap().into(),
            (AttrSet::SeqAdj, 4) if attr.kind != 1 => attr.u32_be().unwrap().cast_signed().into(),
            (_, 1) => attr.u8().unwrap().into(),
            (_, 2) => attr.u16_be().unwrap().into(),
            (_, 4) => attr.u32_be().unwrap().into(),
            (_, 8) => attr.u64_be().unwrap().into(),
            (_, len) => panic!("number of {len} octets"),
        },
        other => panic!("unexpected {other}"),
    }
}

/// Compares attributes with their recorded decoding and returns how many there were.
fn same(attrs: Attrs<'_>, recorded: &[Value], set: AttrSet, label: &str) -> usize {
    let mut count = 0;
    let mut expected = recorded.iter();
    for attr in attrs {
        let attr = attr.unwrap_or_else(|e| panic!("{label}: {e}"));
        let want = expected.next().unwrap_or_else(|| panic!("{label}: extra {attr:?}"));
        let label = format!("{label}.{}", want["name"]);
        assert_eq!(u64::from(attr.kind), want["type"].as_u64().unwrap(), "{label}");
        assert_eq!(attr.nested, want.get("nested_flag").is_some_and(|f| f == true), "{label}");
        if set != AttrSet::Unknown {
            assert_eq!(set.name(attr.kind), want["name"].as_str(), "{label}");
        }
        match want["attrs"].as_array() {
            Some(inner) => count += same(attr.attrs(), inner, set.inside(attr.kind), &label),
            None => {
                let key = if want.get("hex").is_some() { "hex" } else { "value" };
                assert_eq!(value_of(&attr, want, set), want[key], "{label}");
            }
        }
        count += 1;
    }
    assert_eq!(expected.next(), None, "{label}: missing attribute");
    count
}

#[test]
fn headers_and_attributes_are_read_as_recorded() {
    let mut attributes = 0;
    for vector in vectors() {
        let label = vector.label();
        let mut messages = Messages::new(&vector.bytes);
        let message = messages.next().unwrap().unwrap();
        assert!(messages.next().is_none(), "{label}: more than one message");
        assert_eq!(message.bytes, vector.bytes, "{label}");
        assert_eq!(message.bytes.len() as u64, vector.number("len"), "{label}");
        assert_eq!(u64::from(message.kind), vector.number("type"), "{label}");
        assert_eq!(u64::from(message.flags), vector.number("flags"), "{label}");
        assert_eq!(u64::from(message.seq), vector.number("seq"), "{label}");
        assert_eq!(u64::from(message.port), vector.number("pid"), "{label}");
        let Some(nfgen) = vector.decoded.get("nfgen") else { continue };
        assert_eq!(u64::from(message.subsystem()), vector.number("subsys"), "{label}");
        assert_eq!(message.family().unwrap(), nfgen["family"], "{label}");
        assert_eq!(message.version().unwrap(), nfgen["version"], "{label}");
        assert_eq!(message.resource().unwrap(), nfgen["res_id"], "{label}");
        let set = AttrSet::of_message(message.kind);
        attributes += same(message.attrs().unwrap(), vector.attrs(), set, &label);
    }
    assert!(attributes > 8000, "only {attributes} attributes");
}

#[test]
fn errors_are_read_as_recorded() {
    let (mut acks, mut errors, mut detailed) = (0, 0, 0);
    for vector in vectors() {
        let Some(head) = vector.decoded.get("orig_header") else { continue };
        let label = vector.label();
        let error = ErrorRef::parse(&Message::parse(&vector.bytes).unwrap()).unwrap();
        assert_eq!(i64::from(-error.errno), vector.decoded["error"].as_i64().unwrap(), "{label}");
        assert_eq!(error.seq, head["seq"], "{label}");
        assert_eq!(error.request_kind, head["type"], "{label}");
        assert_eq!(error.request_flags, head["flags"], "{label}");
        assert_eq!(error.request_port, head["pid"], "{label}");
        assert_eq!(error.request_len, head["len"], "{label}");
        assert_eq!(!error.request.is_empty(), vector.decoded["payload_echoed"], "{label}");
        if !error.request.is_empty() {
            assert_eq!(error.request.len() + 16, error.request_len as usize, "{label}");
        }
        if error.errno == 0 {
            acks += 1
        } else {
            errors += 1
        }
        let Some(details) = vector.decoded.get("extack") else {
            assert_eq!((error.text, error.offset), (None, None), "{label}");
            continue;
        };
        detailed += 1;
        let details = details.as_array().unwrap();
        same(error.details, details, AttrSet::ExtAck, &label);
        let text = details.iter().find(|a| a["name"] == "NLMSGERR_ATTR_MSG").unwrap();
        assert_eq!(error.text.unwrap(), text["value"].as_str().unwrap().as_bytes(), "{label}");
        let offset = details.iter().find(|a| a["name"] == "NLMSGERR_ATTR_OFFS").unwrap();
        assert_eq!(u64::from(error.offset.unwrap()), offset["value"].as_u64().unwrap(), "{label}");
    }
    assert!((acks, errors, detailed) >= (47, 45, 3), "{acks} {errors} {detailed}");
}

#[test]
fn an_echoed_request_is_the_request_that_failed() {
    let vectors = vectors();
    let mut checked = 0;
    for pair in vectors.windows(2) {
        let [request, answer] = pair else { unreachable!() };
        if request.kind != "request" || answer.kind != "error" {
            continue;
        }
        let error = ErrorRef::parse(&Message::parse(&answer.bytes).unwrap()).unwrap();
        if !error.request.is_empty() {
            assert_eq!(error.request, &request.bytes[16..], "{}", answer.label());
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn hexadecimal_is_read() {
    assert_eq!(unhex("00ff1a"), [0, 255, 26]);
}
