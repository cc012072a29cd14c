//! Values of the options that protocols bring.

use proto_ctnl::proto;
use proto_ctnl::render::{dccp_state, sctp_state, tcp_state};

use super::numbers::{whole_c_int, whole_decimal};
use super::protocol::{Extension, Field};
use super::words::abbreviates;
use crate::failure::Failure;

/// How many fields there are.
pub(crate) const COUNT: usize = Field::Role as usize + 1;

/// Values that an option admits: pairs of the lowest and the highest of each range.
pub(crate) type Ranges = Vec<(u32, u32)>;

/// Reads the value of an option. Where it may stand for several, as ports may, a list with ranges
/// is read as well.
pub(crate) fn parse(
    extension: &Extension,
    field: Field,
    text: &[u8],
) -> Result<(u32, Option<Ranges>), Failure> {
    let bad = || {
        let row = extension.rows.iter().find(|row| row.field == field);
        let name = row.map_or("", |row| row.name).as_bytes();
        Failure::other(&[b"unexpected value '", text, b"' with --", name, b" option"])
    };
    let one = match field {
        Field::State => u32::from(state(extension, text)?),
        Field::Role => role(text)?,
        Field::OrigVtag | Field::ReplyVtag => number(text, u64::from(u32::MAX)).ok_or_else(bad)?,
        Field::IcmpType | Field::IcmpCode => number(text, 0xff).ok_or_else(bad)?,
        _ if extension.number == proto::GRE => key(text).ok_or_else(bad)?,
        _ => match number(text, 0xffff) {
            Some(port) => port,
            None => {
                let ranges = ranges(text).ok_or_else(bad)?;
                return Ok((ranges[0].0, Some(ranges)));
            }
        },
    };
    Ok((one, None))
}

fn number(text: &[u8], max: u64) -> Option<u32> {
    whole_decimal(text, max).filter(|_| !text.is_empty()).map(|n| n as u32)
}

/// A GRE key in any base.
fn key(text: &[u8]) -> Option<u32> {
    whole_c_int(text, 0xffff).map(|n| n as u32)
}

/// Ports and ranges of ports, separated by commas.
fn ranges(text: &[u8]) -> Option<Ranges> {
    text.split(|&b| b == b',')
        .map(|part| match part.iter().position(|&b| b == b'-') {
            Some(at) => {
                let (low, high) = (number(&part[..at], 0xffff)?, number(&part[at + 1..], 0xffff)?);
                (low <= high).then_some((low, high))
            }
            None => number(part, 0xffff).map(|port| (port, port)),
        })
        .collect()
}

fn state(extension: &Extension, text: &[u8]) -> Result<u8, Failure> {
    let (state, unknown): (_, &[u8]) = match extension.number {
        proto::TCP => (tcp_state(text), b"unknown TCP state `"),
        proto::SCTP => (sctp_state(text), b"unknown SCTP state `"),
        _ => (dccp_state(text), b"Unknown DCCP state `"),
    };
    state.ok_or_else(|| Failure::usage(&[unknown, text, b"'"]))
}

fn role(text: &[u8]) -> Result<u32, Failure> {
    if abbreviates(text, "client") {
        Ok(0)
    } else if abbreviates(text, "server") {
        Ok(1)
    } else {
        Err(Failure::usage(&[b"Unknown DCCP role `", text, b"'"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        assert_eq!(ranges(b"80,443,8000-8100"), Some(vec![(80, 80), (443, 443), (8000, 8100)]));
        for bad in ["", "80,", "9-8", "-5", "1-2-3", "http", "65536", "1-65536"] {
            assert_eq!(ranges(bad.as_bytes()), None, "{bad}");
        }
    }
}
