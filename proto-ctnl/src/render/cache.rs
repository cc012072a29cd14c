//! The lines of the daemon's cache dumps (`conntrackd -i` and `-e`).
//!
//! Each function appends whole lines, newline included. Timeouts and counters are never shown:
//! the cache does not follow them.

use super::addr::decimal;
use super::{Parts, Render, expect_json, expect_text, expect_xml, flow_json, flow_text, flow_xml};
use crate::expect::{Expect, ExpectPresent};
use crate::flow::{Flow, Present};

/// What the cache knows about an entry beside the object itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheLine {
    /// Seconds since the entry was made in the cache.
    pub active_since_s: u32,
    /// Seconds until the entry is dropped, where a timer runs (external entries in ALARM mode).
    pub expires_in_s: Option<u32>,
    /// The entry came from a peer: only its original direction is shown.
    pub external: bool,
    /// Unix time in seconds, for flows whose creation time is known; `None` leaves their age out.
    pub now: Option<u64>,
}

impl CacheLine {
    fn render(&self) -> Render<'static> {
        let parts = if self.external { Parts::NONE } else { Parts::REPLY };
        Render { parts, now: self.now, ..Render::default() }
    }

    fn ages(&self, out: &mut Vec<u8>) {
        if let Some(seconds) = self.expires_in_s {
            out.extend_from_slice(b" [expires in ");
            decimal(seconds, out);
            out.extend_from_slice(b"s]");
        }
        out.extend_from_slice(b" [active since ");
        decimal(self.active_since_s, out);
        out.extend_from_slice(b"s]\n");
    }
}

/// Appends the line of a flow.
pub fn cache_line(flow: &Flow, entry: &CacheLine, out: &mut Vec<u8>) {
    flow_text(flow, &entry.render(), out);
    entry.ages(out);
}

/// Appends the XML line of a flow. It has no ages.
pub fn cache_xml(flow: &Flow, entry: &CacheLine, out: &mut Vec<u8>) {
    flow_xml(flow, &entry.render(), out);
    out.push(b'\n');
}

/// Appends the JSON line of a flow, with the keys of [`flow_json`]. It has no ages.
pub fn cache_json(flow: &Flow, entry: &CacheLine, out: &mut Vec<u8>) {
    let mut known = *flow;
    // The cache does not follow these.
    for bit in [Present::TIMEOUT, Present::COUNTERS_ORIG, Present::COUNTERS_REPLY, Present::USE] {
        known.present.remove(bit);
    }
    if entry.external {
        known.present.remove(Present::REPLY);
    }
    let render = entry.render();
    flow_json(&known, &Render { parts: render.parts.with(Parts::ID), ..render }, out);
    out.push(b'\n');
}

/// Appends the JSON line of an expectation, with the keys of [`expect_json`]. It has no ages.
pub fn expect_cache_json(expect: &Expect, entry: &CacheLine, out: &mut Vec<u8>) {
    let mut known = *expect;
    known.present.remove(ExpectPresent::TIMEOUT);
    expect_json(&known, &entry.render(), out);
    out.push(b'\n');
}

/// Appends the line of an expectation.
pub fn expect_cache_line(expect: &Expect, entry: &CacheLine, out: &mut Vec<u8>) {
    expect_text(expect, &entry.render(), out);
    entry.ages(out);
}

/// Appends the XML line of an expectation. It has no ages.
pub fn expect_cache_xml(expect: &Expect, entry: &CacheLine, out: &mut Vec<u8>) {
    expect_xml(expect, &entry.render(), out);
    out.push(b'\n');
}
