//! Values of the options that the original does not have.

use core::net::IpAddr;

use proto_ctnl::{L4, Labels, Name, SeqAdj, Synproxy, Tuple};

use super::counts::{CountKey, SortKey};
use super::numbers::{whole_c_int, whole_decimal};
use super::options::name_of;
use super::{Opt, Request};
use crate::failure::Failure;

/// Stores the value of an option of our own.
pub(super) fn set(request: &mut Request, opt: Opt, value: &[u8]) -> Result<(), Failure> {
    let stored = match opt {
        Opt::Helper => Name::new(value).filter(|n| !n.is_empty()).map(|name| request.helper = name),
        Opt::TimeoutBelow => seconds(value).map(|n| request.timeout_below = n),
        Opt::TimeoutAbove => seconds(value).map(|n| request.timeout_above = n),
        Opt::BytesAbove => decimal(value, u64::MAX).map(|n| request.bytes_above = n),
        Opt::FilterFile => {
            request.filter_file = value.to_vec();
            Some(())
        }
        Opt::Sort => SortKey::parse(value).map(|key| request.sort = Some(key)),
        Opt::Limit => decimal(value, 1 << 20).map(|n| request.limit = Some(n as usize)),
        Opt::CountBy => CountKey::parse(value).map(|key| request.count_by = Some(key)),
        Opt::LabelBits => labels(value).map(|bits| request.label_bits = bits),
        Opt::SeqadjOrig => seqadj(value).map(|adj| request.seqadj[0] = adj),
        Opt::SeqadjReply => seqadj(value).map(|adj| request.seqadj[1] = adj),
        Opt::Synproxy => synproxy(value).map(|s| request.synproxy = s),
        Opt::Master => tuple(value).map(|tuple| request.master = tuple),
        _ => Some(()),
    };
    stored.ok_or_else(|| unexpected(opt, value))
}

/// What is said of a value that an option cannot have.
pub(super) fn unexpected(opt: Opt, value: &[u8]) -> Failure {
    let letter = super::options::letter_of(opt).map(|letter| [b'-', letter]);
    let name = [b"--", name_of(opt).as_bytes()].concat();
    let shown = letter.as_ref().map_or(name.as_slice(), |l| l);
    Failure::other(&[b"unexpected value '", value, b"' with ", shown, b" option"])
}

fn decimal(text: &[u8], max: u64) -> Option<u64> {
    whole_decimal(text, max).filter(|_| !text.is_empty())
}

/// A time of the kernel's range.
pub(super) fn seconds(text: &[u8]) -> Option<u32> {
    decimal(text, u64::from(u32::MAX)).map(|n| n as u32)
}

/// Up to 32 hexadecimal digits.
fn labels(text: &[u8]) -> Option<Labels> {
    let digits = core::str::from_utf8(text).ok()?.strip_prefix("0x")?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bits = u128::from_str_radix(digits, 16).ok()?;
    Some(Labels([0, 32, 64, 96].map(|shift| (bits >> shift) as u32)))
}

/// `N` numbers separated by commas.
fn numbers<const N: usize>(text: &[u8]) -> Option<[&[u8]; N]> {
    let parts: Vec<&[u8]> = text.split(|&b| b == b',').collect();
    parts.try_into().ok()
}

fn unsigned(text: &[u8]) -> Option<u32> {
    whole_c_int(text, u64::from(u32::MAX)).map(|n| n as u32)
}

fn signed(text: &[u8]) -> Option<i32> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn seqadj(text: &[u8]) -> Option<SeqAdj> {
    let [pos, before, after] = numbers(text)?;
    Some(SeqAdj {
        correction_pos: unsigned(pos)?,
        offset_before: signed(before)?,
        offset_after: signed(after)?,
    })
}

fn synproxy(text: &[u8]) -> Option<Synproxy> {
    let [isn, its, tsoff] = numbers(text)?;
    Some(Synproxy { isn: unsigned(isn)?, its: unsigned(its)?, tsoff: unsigned(tsoff)? })
}

/// Protocol, addresses and ports, or keys, of the original direction.
fn tuple(text: &[u8]) -> Option<Tuple> {
    let [protocol, src, dst, sport, dport] = numbers(text)?;
    let ip = |text| core::str::from_utf8(text).ok()?.parse().ok();
    let port = |text| decimal(text, u64::from(u16::MAX)).map(|n| n as u16);
    let (src, dst): (IpAddr, IpAddr) = (ip(src)?, ip(dst)?);
    let proto = decimal(protocol, u64::from(u8::MAX))? as u8;
    let l4 = L4 { a: port(sport)?, b: port(dport)? };
    (src.is_ipv4() == dst.is_ipv4()).then_some(Tuple { src, dst, proto, l4 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(labels(b"0x100000003"), Some(Labels([3, 1, 0, 0])));
        assert_eq!(labels(b"0x"), None);
        assert_eq!(labels(b"0x+1"), None);
        assert_eq!(
            seqadj(b"100,-4,8"),
            Some(SeqAdj { correction_pos: 100, offset_before: -4, offset_after: 8 })
        );
        assert_eq!(seqadj(b"1,2"), None);
        assert_eq!(synproxy(b"1,2,3"), Some(Synproxy { isn: 1, its: 2, tsoff: 3 }));
        let master = tuple(b"6,192.0.2.1,192.0.2.2,1000,21").map(|tuple| (tuple.proto, tuple.l4));
        assert_eq!(master, Some((6, L4::ports(1000, 21))));
        for bad in
            ["6,192.0.2.1,2001:db8::1,1,2", "256,::1,::2,1,2", "6,::1,::2,1", "6,::1,::2,1,70000"]
        {
            assert_eq!(tuple(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(seconds(b"-1"), None);
    }
}
