//! What must hold for any octets: the body of the fuzz targets and of the tests that mutate
//! recorded messages. A broken law panics.

use crate::{
    Attrs, Content, CpuStats, Encoder, ErrorRef, Expect, ExpectRef, ExpectStats, Flow, FlowMasks,
    FlowRef, GlobalStats, Message, Messages, Present, shard_hash,
};

/// Nests deeper than this are not followed.
const DEPTH: usize = 6;

/// Decodes a datagram in every way there is, and checks that
/// - messages and attributes stay within the octets they were found in,
/// - what was decoded survives being encoded and decoded again,
/// - errors point into the datagram.
pub fn datagram(bytes: &[u8]) {
    let mut consumed = 0;
    for message in Messages::new(bytes) {
        match message {
            Ok(message) => {
                assert!(message.bytes.len() >= 16);
                consumed += message.bytes.len();
                assert!(consumed <= bytes.len());
                self::message(&message);
            }
            Err(error) => assert!(error.offset() <= bytes.len()),
        }
    }
}

fn message(message: &Message<'_>) {
    let end = message.bytes.len();
    if let Ok(attrs) = message.attrs() {
        assert_eq!(attrs_in(attrs, end, DEPTH), None);
    }
    match message.content() {
        Ok(Content::Flow(flow)) => flow_in(&flow),
        Ok(Content::Expect(expect)) => expect_in(&expect),
        Ok(Content::Error(error)) => {
            assert!(error.errno != 0 && error.request.len() <= end);
            assert_eq!(attrs_in(error.details, end, DEPTH), None);
        }
        Ok(_) => {}
        Err(error) => {
            assert!(error.offset() <= end, "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
    // Whatever the type says: the parsers take any message.
    if let Ok(flow) = FlowRef::parse_request(message) {
        flow_in(&flow);
    }
    if let Ok(expect) = ExpectRef::parse(message) {
        expect_in(&expect);
    }
    let _ = ErrorRef::parse(message);
    let _ = CpuStats::parse(message);
    let _ = GlobalStats::parse(message);
    let _ = ExpectStats::parse(message);
}

/// Walks attributes and what might be nested in them. Returns the first offset out of bounds.
fn attrs_in(attrs: Attrs<'_>, end: usize, depth: usize) -> Option<usize> {
    let mut last = 0;
    for attr in attrs {
        let Ok(attr) = attr else { return None };
        assert!(attr.offset >= last, "attributes go backwards");
        last = attr.offset;
        if attr.offset + 4 + attr.value.len() > end {
            return Some(attr.offset);
        }
        let _ = (attr.u8(), attr.u16_be(), attr.u32_be(), attr.u64_be(), attr.u32_host());
        let _ = (attr.text(), attr.name::<16>());
        if depth > 0 && attr.nested {
            let out = attrs_in(attr.attrs(), end, depth - 1);
            if out.is_some() {
                return out;
            }
        }
    }
    None
}

/// What a request cannot carry: only the kernel knows it.
const KERNEL_ONLY: Present = Present(
    Present::ID.0
        | Present::COUNTERS_ORIG.0
        | Present::COUNTERS_REPLY.0
        | Present::START.0
        | Present::STOP.0
        | Present::EVENT_TIME.0
        | Present::USE.0
        | Present::SECCTX.0,
);

fn flow_in(seen: &FlowRef<'_>) {
    let _ = (seen.what(), seen.port(), seen.zone(), seen.key_zone(), shard_hash(&seen.orig()));
    let _ = (seen.status(), seen.id(), seen.timeout(), seen.mark(), seen.reply());
    let mut flow = Flow::default();
    if let Err(error) = seen.write_to(&mut flow) {
        assert!(error.offset() <= seen.message().bytes.len(), "{error}");
        assert!(error.path().count() > 0, "{error}");
        return;
    }
    if flow.present.has(Present::ORIG) {
        assert_eq!(flow.orig, seen.orig());
    }
    flow.present.remove(KERNEL_ONLY);
    if !flow.orig.has_ports() {
        flow.present.remove(Present(Present::SPAT.0 | Present::DPAT.0));
    }
    let mut buf = [0xa5; 2048];
    let mut encoder = Encoder::new(&mut buf);
    assert!(encoder.flow_new(&flow, FlowMasks::default(), 0, 1).is_ok());
    let mut again = Flow::default();
    let decoded = Message::parse(encoder.bytes())
        .and_then(|message| FlowRef::parse_request(&message))
        .and_then(|seen| seen.write_to(&mut again));
    assert_eq!(decoded, Ok(()));
    assert_eq!(again, flow);
}

fn expect_in(seen: &ExpectRef<'_>) {
    let _ = (seen.what(), seen.port(), seen.master(), seen.tuple());
    let mut expect = Expect::default();
    if let Err(error) = seen.write_to(&mut expect) {
        assert!(error.offset() <= seen.message().bytes.len(), "{error}");
        return;
    }
    expect.present.0 &= !crate::ExpectPresent::ID.0;
    expect.id = 0;
    let mut buf = [0xa5; 2048];
    let mut encoder = Encoder::new(&mut buf);
    assert!(encoder.expect_new(&expect, 0, 1).is_ok());
    let mut again = Expect::default();
    let decoded = Message::parse(encoder.bytes())
        .and_then(|message| ExpectRef::parse(&message))
        .and_then(|seen| seen.write_to(&mut again));
    assert_eq!(decoded, Ok(()));
    assert_eq!(again, expect);
}
