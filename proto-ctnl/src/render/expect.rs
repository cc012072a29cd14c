//! Text and XML forms of an expectation.

use super::addr::{address, decimal};
use super::text::{key as text_key, number, tag, text};
use super::time::left_aligned;
use super::xml::{addresses, close, element, key as xml_key, open, open_flow, open_layer3};
use super::xml::{open_layer4, text_element};
use super::{Parts, Render};
use crate::expect::{Expect, ExpectPresent};
use crate::tuple::Tuple;

/// Flags that have a name, `NF_CT_EXPECT_*`.
const FLAGS: [(u32, &str, &str); 3] =
    [(1, "PERMANENT", "permanent"), (2, "INACTIVE", "inactive"), (4, "USERSPACE", "userspace")];

/// Appends the expectation as one line, without a newline.
pub fn expect_text(expect: &Expect, render: &Render<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    let p = expect.present;
    if let Some(time) = render.time {
        // Not zero-padded like the column of flows: 4025 microseconds are `.4025  `.
        out.push(b'[');
        left_aligned(time.as_secs(), 8, out);
        out.push(b'.');
        left_aligned(u64::from(time.subsec_micros()), 6, out);
        out.extend_from_slice(b"]\t");
    }
    if let Some(kind) = render.event {
        out.extend_from_slice(tag(kind));
    }
    if p.has(ExpectPresent::TIMEOUT) && render.parts.has(Parts::TIMEOUT) {
        decimal(expect.timeout, out);
        out.push(b' ');
    }
    if p.has(ExpectPresent::TUPLE) {
        number(b"proto=", expect.tuple.proto, out);
        text_tuple(b"src=", b" dst=", &expect.tuple, out);
    }
    if p.has(ExpectPresent::MASK) {
        text_tuple(b"mask-src=", b" mask-dst=", &mask(expect), out);
    }
    if p.has(ExpectPresent::MASTER) {
        text_tuple(b"master-src=", b" master-dst=", &expect.master, out);
    }
    if p.has(ExpectPresent::ZONE) {
        number(b"zone=", expect.zone, out);
    }
    if p.has(ExpectPresent::FLAGS) && expect.flags != 0 {
        text_flags(expect.flags, out);
    }
    if p.has(ExpectPresent::CLASS) {
        number(b"class=", expect.class, out);
    }
    if p.has(ExpectPresent::HELPER) {
        text(b"helper=", expect.helper.as_bytes(), out);
    }
    if out.len() > begin && out.last() == Some(&b' ') {
        out.pop();
    }
}

/// The mask with the protocol of the tuple, which decides what its key means.
const fn mask(expect: &Expect) -> Tuple {
    Tuple { proto: expect.tuple.proto, ..expect.mask }
}

fn text_tuple(src: &[u8], dst: &[u8], t: &Tuple, out: &mut Vec<u8>) {
    out.extend_from_slice(src);
    address(&t.src, out);
    out.extend_from_slice(dst);
    address(&t.dst, out);
    out.push(b' ');
    text_key(t, out);
}

fn text_flags(flags: u32, out: &mut Vec<u8>) {
    let mut first = true;
    for (_, name, _) in FLAGS.iter().filter(|(bit, ..)| flags & bit != 0) {
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b' ');
}

/// Appends the expectation as one element, without a newline.
pub fn expect_xml(expect: &Expect, render: &Render<'_>, out: &mut Vec<u8>) {
    let p = expect.present;
    open_flow(render.event, out);
    open_layer3(&expect.tuple, out);
    each_tuple(expect, addresses, out);
    out.extend_from_slice(b"</layer3>");
    open_layer4(expect.tuple.proto, out);
    each_tuple(expect, xml_key, out);
    out.extend_from_slice(b"</layer4><meta>");
    if p.has(ExpectPresent::HELPER) {
        text_element("helper-name", expect.helper.as_bytes(), out);
    }
    if p.has(ExpectPresent::TIMEOUT) && render.parts.has(Parts::TIMEOUT) {
        element("timeout", expect.timeout, out);
    }
    if p.has(ExpectPresent::CLASS) {
        element("class", expect.class, out);
    }
    if p.has(ExpectPresent::ZONE) {
        element("zone", expect.zone, out);
    }
    if let Some(time) = render.time {
        (render.local_time)(time.as_secs()).xml_when(out);
    }
    if p.has(ExpectPresent::FLAGS) {
        for (_, _, name) in FLAGS.iter().filter(|(bit, ..)| expect.flags & bit != 0) {
            out.push(b'<');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"/>");
        }
    }
    out.extend_from_slice(b"</meta></flow>");
}

fn each_tuple(expect: &Expect, write: fn(&Tuple, &mut Vec<u8>), out: &mut Vec<u8>) {
    let parts = [
        ("expected", ExpectPresent::TUPLE, expect.tuple),
        ("mask", ExpectPresent::MASK, mask(expect)),
        ("master", ExpectPresent::MASTER, expect.master),
    ];
    for (name, bit, tuple) in parts {
        if expect.present.has(bit) {
            open(name, out);
            write(&tuple, out);
            close(name, out);
        }
    }
}
