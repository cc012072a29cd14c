//! The kernel's table as comparable lines: every attribute that it prints, walked without knowing
//! what it means.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::kernel::Kernel;
use crate::table::Lines;

/// What is left out of a comparison.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore {
    /// Flags and window scales of TCP: a committed flow is liberal.
    pub tcp_window: bool,
    /// The original direction's verification tag of SCTP, of which the original overwrites an
    /// octet with the flags of TCP.
    pub sctp_tag: bool,
    /// Flows whose key the protocol loses: UDP-Lite and GRE.
    pub lost_keys: bool,
    /// Sequence adjustment.
    pub seq_adjust: bool,
}

/// A table: attributes by key, and the seconds until expiry by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// One line per entry, without what differs between machines.
    pub lines: Lines,
    /// Seconds until expiry by the entry's key.
    pub timeouts: BTreeMap<String, u32>,
}

const ORIG: u16 = 1;
const PROTOINFO: u16 = 4;
const TIMEOUT: u16 = 7;
const USE: u16 = 11;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TIMESTAMP: u16 = 20;

/// Names of the attributes of a flow, for those who read a difference.
const NAMES: [&str; 28] = [
    "0",
    "orig",
    "reply",
    "status",
    "protoinfo",
    "help",
    "nat-src",
    "timeout",
    "mark",
    "counters-orig",
    "counters-reply",
    "use",
    "id",
    "nat-dst",
    "master",
    "seq-orig",
    "seq-reply",
    "secmark",
    "zone",
    "secctx",
    "timestamp",
    "mark-mask",
    "labels",
    "labels-mask",
    "synproxy",
    "filter",
    "status-mask",
    "event-time",
];

impl Snapshot {
    /// Reads all flows.
    pub fn of(kernel: &mut Kernel, ignore: Ignore) -> Self {
        let mut snapshot = Self::default();
        kernel.read(|batch| batch.dump(), |attributes| snapshot.add(attributes, ignore));
        snapshot
    }

    fn add(&mut self, attributes: &[u8], ignore: Ignore) {
        let mut line = String::new();
        let mut key = String::new();
        let mut timeout = None;
        let mut parts: BTreeMap<u16, String> = BTreeMap::new();
        let mut protocol = 0;
        for (kind, value) in walk(attributes) {
            match kind {
                TIMEOUT => timeout = value.try_into().ok().map(u32::from_be_bytes),
                USE | ID | TIMESTAMP => {}
                PROTOINFO => {
                    parts.insert(kind, protoinfo(value, ignore));
                }
                15 | 16 if ignore.seq_adjust => {}
                _ => {
                    let mut text = String::new();
                    render(value, nested(kind, 0), &mut text);
                    if kind == ORIG {
                        protocol = protocol_of(value);
                    }
                    if matches!(kind, ORIG | ZONE) {
                        key.push_str(&text);
                    }
                    parts.insert(kind, text);
                }
            }
        }
        if ignore.lost_keys && matches!(protocol, 47 | 136) {
            return;
        }
        for (kind, text) in parts {
            let name = NAMES.get(usize::from(kind)).copied().unwrap_or("?");
            let _ = write!(line, "{name}={text} ");
        }
        self.lines.insert(line);
        if let Some(timeout) = timeout {
            self.timeouts.insert(key, timeout);
        }
    }

    /// Entries whose expiry differs by more than `seconds`.
    pub fn expiries_apart(&self, other: &Self, seconds: u32) -> Vec<String> {
        let differing = self.timeouts.iter().filter_map(|(key, &here)| {
            let there = *other.timeouts.get(key)?;
            (here.abs_diff(there) > seconds).then(|| format!("{key}: {here} and {there} s"))
        });
        differing.collect()
    }
}

/// All expectations, one line each.
pub fn expectations(kernel: &mut Kernel) -> Lines {
    let mut lines = Lines::new();
    kernel.read(
        |batch| batch.dump_expectations(),
        |attributes| {
            let mut line = String::new();
            for (kind, value) in walk(attributes) {
                // Expiry and identifier.
                if !matches!(kind, 4 | 5) {
                    let _ = write!(line, "{kind}=");
                    render(value, matches!(kind, 1..=3 | 10), &mut line);
                    line.push(' ');
                }
            }
            lines.insert(line);
        },
    );
    lines
}

/// Attributes one after the other: type without its flags, value.
pub fn walk(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Whether an attribute holds others. Depth 0 is that of a flow; below it only tuples nest.
fn nested(kind: u16, depth: u8) -> bool {
    match depth {
        0 => matches!(kind, 1 | 2 | 4 | 5 | 9 | 10 | 14..=16 | 19 | 20 | 24),
        _ => false,
    }
}

fn render(value: &[u8], nest: bool, out: &mut String) {
    if !nest {
        for byte in value {
            let _ = write!(out, "{byte:02x}");
        }
        return;
    }
    out.push('{');
    for (index, (kind, inner)) in walk(value).enumerate() {
        let space = if index == 0 { "" } else { " " };
        let _ = write!(out, "{space}{kind}=");
        // The halves of a tuple nest once more; an address of four octets looks like no attribute.
        let deeper = looks_nested(inner);
        render(inner, deeper, out);
    }
    out.push('}');
}

/// Whether octets are attributes that fill them exactly.
fn looks_nested(bytes: &[u8]) -> bool {
    let filled: usize = walk(bytes).map(|(_, value)| (value.len() + 4).next_multiple_of(4)).sum();
    bytes.len() >= 8 && filled == bytes.len()
}

fn protocol_of(tuple: &[u8]) -> u8 {
    let half = walk(tuple).find(|(kind, _)| *kind == 2).map_or(&[][..], |(_, half)| half);
    walk(half)
        .find(|(kind, _)| *kind == 1)
        .and_then(|(_, value)| value.first().copied())
        .unwrap_or(0)
}

fn protoinfo(value: &[u8], ignore: Ignore) -> String {
    let mut text = String::new();
    for (protocol, inner) in walk(value) {
        for (kind, value) in walk(inner) {
            let ignored = match protocol {
                1 => ignore.tcp_window && kind != 1,
                3 => ignore.sctp_tag && kind == 2,
                _ => false,
            };
            if !ignored {
                let _ = write!(text, "{protocol}.{kind}:");
                render(value, false, &mut text);
                text.push(',');
            }
        }
    }
    text
}
