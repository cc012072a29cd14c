//! Text and XML of flows and expectations, for the command line tools and the daemon's dumps.
//!
//! Everything appends to a buffer that the caller reuses; nothing is allocated per line. The
//! command line and the daemon print the same members in the same order and differ in which
//! of them they leave out: [`Render`] says so.

mod addr;
mod cache;
mod expect;
mod json;
mod labels;
mod names;
mod save;
mod text;
mod time;
mod xml;

use core::time::Duration;

pub use addr::{address, decimal};
pub use cache::{
    CacheLine, cache_json, cache_line, cache_xml, expect_cache_json, expect_cache_line,
    expect_cache_xml,
};
pub use expect::{expect_text, expect_xml};
pub use json::{expect_json, flow_json, json_origin};
pub use labels::LabelNames;
pub use names::{dccp_state, proto_name, sctp_state, state_name, tcp_state};
pub use save::flow_save;
pub use text::flow_text;
pub use time::CivilTime;
pub use xml::flow_xml;

use crate::flow::{Flow, Present};

/// Members that some renderings leave out although they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts(u8);

impl Parts {
    /// The network protocol in front of the line.
    pub const LAYER3: Self = Self(1 << 0);
    /// Seconds until expiry.
    pub const TIMEOUT: Self = Self(1 << 1);
    /// Packets and octets.
    pub const COUNTERS: Self = Self(1 << 2);
    /// The reply direction.
    pub const REPLY: Self = Self(1 << 3);
    /// The kernel's identifier; XML has it always.
    pub const ID: Self = Self(1 << 4);
    /// The calendar times of creation and end.
    pub const KTIMESTAMP: Self = Self(1 << 5);

    /// None of them.
    pub const NONE: Self = Self(0);
    /// What `conntrack -L` shows without options.
    pub const LIST: Self = Self(Self::TIMEOUT.0 | Self::COUNTERS.0 | Self::REPLY.0);

    /// Whether all of `other` are shown.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created.
    New,
    /// It changed.
    Update,
    /// It ended.
    Destroy,
}

/// How to render.
#[derive(Clone, Copy, Debug)]
pub struct Render<'a> {
    /// Which members to show.
    pub parts: Parts,
    /// The event that is told, if it is one.
    pub event: Option<EventKind>,
    /// Unix time for the time column; no column if `None`.
    pub time: Option<Duration>,
    /// Names for the labels; labels are not shown if `None`.
    pub labels: Option<&'a LabelNames>,
    /// Unix time in seconds, for the age of flows that have no end. Without it, such flows show none.
    pub now: Option<u64>,
    /// Turns Unix seconds into local time.
    pub local_time: fn(u64) -> CivilTime,
}

impl Default for Render<'_> {
    /// What `conntrack -L` shows without options, in UTC.
    fn default() -> Self {
        Self {
            parts: Parts::LIST,
            event: None,
            time: None,
            labels: None,
            now: None,
            local_time: CivilTime::utc,
        }
    }
}

/// Seconds between creation and end, or since creation.
fn duration(flow: &Flow, render: &Render<'_>) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    if !flow.present.has(Present::START) {
        return None;
    }
    let end = if flow.present.has(Present::STOP) { flow.stop / SECOND } else { render.now? };
    Some(end.saturating_sub(flow.start / SECOND))
}
