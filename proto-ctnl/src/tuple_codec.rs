//! Tuples in messages of the kernel: the fixed layout that it always sends, and the general one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::attr::{Attr, AttrHead, Attrs, all_same};
use crate::consts::*;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::tuple::{L4, Tuple, proto};

/// The addresses of a tuple as the kernel lays them out, headers included; `N` octets each.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Addresses<const N: usize> {
    tuple: AttrHead,
    ip: AttrHead,
    src_head: AttrHead,
    src: [u8; N],
    dst_head: AttrHead,
    dst: [u8; N],
}

/// The start of a tuple's layer 4.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layer4 {
    proto: AttrHead,
    num_head: AttrHead,
    num: u8,
    pad: [u8; 3],
}

/// Ports or GRE keys, and the zone of a tuple.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Word {
    head: AttrHead,
    value: U16,
    pad: [u8; 2],
}

/// ICMP's type or code.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Octet {
    head: AttrHead,
    value: u8,
    pad: [u8; 3],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Icmp {
    id: Word,
    kind: Octet,
    code: Octet,
}

const L4_LEN: u16 = size_of::<Layer4>() as u16;
const PORTS_LEN: u16 = L4_LEN + size_of::<[Word; 2]>() as u16;
const ICMP_LEN: u16 = L4_LEN + size_of::<Icmp>() as u16;
const ZONE_LEN: u16 = size_of::<Word>() as u16;

impl<const N: usize> Addresses<N> {
    /// Octets of the nest of addresses, header included.
    const IP_LEN: u16 = 4 + 2 * (N as u16 + 4);

    #[inline(always)]
    fn is_usual(&self, src: u16, dst: u16) -> bool {
        all_same([
            (self.ip, AttrHead::nest(CTA_TUPLE_IP, Self::IP_LEN - 4)),
            (self.src_head, AttrHead::new(src, N as u16)),
            (self.dst_head, AttrHead::new(dst, N as u16)),
        ])
    }
}

/// What a tuple's attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TupleParts {
    pub(crate) tuple: Tuple,
    /// `CTA_TUPLE_ZONE`: a zone of this direction only.
    pub(crate) zone: Option<u16>,
}

/// A tuple that is laid out as the kernel does it, but for its addresses, which can be read from
/// their fixed offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usual {
    v6: bool,
    proto: u8,
    l4: L4,
    /// As [`TupleParts::zone`].
    pub(crate) zone: Option<u16>,
}

impl Usual {
    /// Looks at the attribute of number `kind` that starts `bytes`, at fixed offsets only.
    #[inline(always)]
    pub(crate) fn look(bytes: &[u8], kind: u16) -> Option<Self> {
        if let Ok((ip, rest)) = Addresses::<4>::ref_from_prefix(bytes)
            && ip.is_usual(CTA_IP_V4_SRC, CTA_IP_V4_DST)
        {
            let len = ip.tuple.len().checked_sub(4 + Addresses::<4>::IP_LEN)?;
            return Self::rest(rest, len, false).filter(|_| ip.tuple.kind() == kind | NLA_F_NESTED);
        }
        let (ip, rest) = Addresses::<16>::ref_from_prefix(bytes).ok()?;
        if !ip.is_usual(CTA_IP_V6_SRC, CTA_IP_V6_DST) {
            return None;
        }
        let len = ip.tuple.len().checked_sub(4 + Addresses::<16>::IP_LEN)?;
        Self::rest(rest, len, true).filter(|_| ip.tuple.kind() == kind | NLA_F_NESTED)
    }

    /// Looks at what stands behind the addresses in the tuple's last `len` octets.
    #[inline(always)]
    fn rest(bytes: &[u8], len: u16, v6: bool) -> Option<Self> {
        let (head, rest) = Layer4::ref_from_prefix(bytes).ok()?;
        let l4_len = head.proto.len();
        let icmp = matches!(head.num, proto::ICMP | proto::ICMPV6);
        let l4 = match l4_len {
            PORTS_LEN if !icmp => ports_at(rest)?,
            ICMP_LEN if icmp => icmp_at(rest, head.num)?,
            L4_LEN if !icmp => L4::default(),
            _ => return None,
        };
        let zone = if len == l4_len { None } else { Some(zone_at(bytes, len, l4_len)?) };
        all_same([
            (head.proto, AttrHead::nest(CTA_TUPLE_PROTO, l4_len - 4)),
            (head.num_head, AttrHead::new(CTA_PROTO_NUM, 1)),
        ])
        .then_some(Self { v6, proto: head.num, l4, zone })
    }

    /// The tuple in the attribute that starts `bytes`, the one that was looked at.
    #[inline(always)]
    pub(crate) fn tuple(&self, bytes: &[u8]) -> Option<Tuple> {
        let (src, dst) = if self.v6 {
            let (ip, _) = Addresses::<16>::ref_from_prefix(bytes).ok()?;
            (IpAddr::V6(Ipv6Addr::from(ip.src)), IpAddr::V6(Ipv6Addr::from(ip.dst)))
        } else {
            let (ip, _) = Addresses::<4>::ref_from_prefix(bytes).ok()?;
            (IpAddr::V4(Ipv4Addr::from(ip.src)), IpAddr::V4(Ipv4Addr::from(ip.dst)))
        };
        Some(Tuple { src, dst, proto: self.proto, l4: self.l4 })
    }
}

#[inline(always)]
fn ports_at(bytes: &[u8]) -> Option<L4> {
    let ([src, dst], _) = <[Word; 2]>::ref_from_prefix(bytes).ok()?;
    all_same([
        (src.head, AttrHead::new(CTA_PROTO_SRC_PORT, 2)),
        (dst.head, AttrHead::new(CTA_PROTO_DST_PORT, 2)),
    ])
    .then_some(L4 { a: src.value.get(), b: dst.value.get() })
}

#[inline(always)]
fn icmp_at(bytes: &[u8], protocol: u8) -> Option<L4> {
    let [id, kind, code] = if protocol == proto::ICMP {
        [CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE]
    } else {
        [CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE]
    };
    let (icmp, _) = Icmp::ref_from_prefix(bytes).ok()?;
    all_same([
        (icmp.id.head, AttrHead::new(id, 2)),
        (icmp.kind.head, AttrHead::new(kind, 1)),
        (icmp.code.head, AttrHead::new(code, 1)),
    ])
    .then_some(L4::icmp(icmp.id.value.get(), icmp.kind.value, icmp.code.value))
}

/// The zone behind layer 4, which takes `l4_len` of the `len` octets from the start of `bytes`.
#[inline(always)]
fn zone_at(bytes: &[u8], len: u16, l4_len: u16) -> Option<u16> {
    let (zone, _) = Word::ref_from_prefix(bytes.get(usize::from(l4_len)..)?).ok()?;
    (len == l4_len.checked_add(ZONE_LEN)? && zone.head == AttrHead::new(CTA_TUPLE_ZONE, 2))
        .then_some(zone.value.get())
}

/// Decodes the tuple in attribute `nest` of the message `bytes` into `tuple`, and returns its
/// zone.
//
// Inlined, so that what was looked at stays in registers: written to memory octet by octet and
// read back as words it costs more than the decoding.
#[inline(always)]
pub(crate) fn tuple_to(
    bytes: &[u8],
    nest: &Attr<'_>,
    tuple: &mut Tuple,
) -> Result<Option<u16>, DecodeError> {
    if let Some(at) = bytes.get(nest.offset..)
        && let Some(usual) = Usual::look(at, nest.kind)
        && let Some(found) = usual.tuple(at)
    {
        *tuple = found;
        return Ok(usual.zone);
    }
    let parts = general_tuple(nest)?;
    *tuple = parts.tuple;
    Ok(parts.zone)
}

/// Decodes the tuple in attribute `nest` of the message `bytes`.
pub(crate) fn tuple_at(bytes: &[u8], nest: &Attr<'_>) -> Result<Tuple, DecodeError> {
    let mut tuple = Tuple::default();
    tuple_to(bytes, nest, &mut tuple)?;
    Ok(tuple)
}

/// Decodes a tuple of any layout. The errors' paths start with the tuple's own number.
#[cold]
pub(crate) fn general_tuple(nest: &Attr<'_>) -> Result<TupleParts, DecodeError> {
    parts(nest).map_err(|error| nest.wrap(error))
}

fn parts(nest: &Attr<'_>) -> Result<TupleParts, DecodeError> {
    let (mut ends, mut l4, mut zone) = (None, None, None);
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_TUPLE_IP => ends = Some(addresses(&attr).map_err(|e| attr.wrap(e))?),
            CTA_TUPLE_PROTO => l4 = Some(layer4(&attr).map_err(|e| attr.wrap(e))?),
            CTA_TUPLE_ZONE => zone = Some(attr.u16_be()?),
            _ => {}
        }
    }
    let missing = |kind| DecodeError::new(DecodeErrorKind::Missing, nest.offset).within(kind);
    let (src, dst) = ends.ok_or_else(|| missing(CTA_TUPLE_IP))?;
    let (proto, l4) = l4.ok_or_else(|| missing(CTA_TUPLE_PROTO))?;
    Ok(TupleParts { tuple: Tuple { src, dst, proto, l4 }, zone })
}

fn addresses(nest: &Attr<'_>) -> Result<(IpAddr, IpAddr), DecodeError> {
    let (mut v4, mut v6) = ([None; 2], [None; 2]);
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_IP_V4_SRC => v4[0] = Some(attr.octets::<4>()?),
            CTA_IP_V4_DST => v4[1] = Some(attr.octets::<4>()?),
            CTA_IP_V6_SRC => v6[0] = Some(attr.octets::<16>()?),
            CTA_IP_V6_DST => v6[1] = Some(attr.octets::<16>()?),
            _ => {}
        }
    }
    let missing = |kind| Err(DecodeError::new(DecodeErrorKind::Missing, nest.offset).within(kind));
    match (v4, v6) {
        ([Some(src), Some(dst)], _) => Ok((IpAddr::from(src), IpAddr::from(dst))),
        (_, [Some(src), Some(dst)]) => Ok((IpAddr::from(src), IpAddr::from(dst))),
        ([Some(_), None], _) => missing(CTA_IP_V4_DST),
        (_, [Some(_), None]) => missing(CTA_IP_V6_DST),
        (_, [None, Some(_)]) => missing(CTA_IP_V6_SRC),
        _ => missing(CTA_IP_V4_SRC),
    }
}

fn layer4(nest: &Attr<'_>) -> Result<(u8, L4), DecodeError> {
    let (mut num, mut ports, mut icmp, mut icmp6) =
        (None, L4::default(), L4::default(), L4::default());
    for attr in Attrs::new(nest.value, nest.offset + 4) {
        let attr = attr?;
        match attr.kind {
            CTA_PROTO_NUM => num = Some(attr.u8()?),
            CTA_PROTO_SRC_PORT => ports.a = attr.u16_be()?,
            CTA_PROTO_DST_PORT => ports.b = attr.u16_be()?,
            CTA_PROTO_ICMP_ID => icmp.a = attr.u16_be()?,
            CTA_PROTO_ICMP_TYPE => icmp.b = icmp.b & 0xff | u16::from(attr.u8()?) << 8,
            CTA_PROTO_ICMP_CODE => icmp.b = icmp.b & 0xff00 | u16::from(attr.u8()?),
            CTA_PROTO_ICMPV6_ID => icmp6.a = attr.u16_be()?,
            CTA_PROTO_ICMPV6_TYPE => icmp6.b = icmp6.b & 0xff | u16::from(attr.u8()?) << 8,
            CTA_PROTO_ICMPV6_CODE => icmp6.b = icmp6.b & 0xff00 | u16::from(attr.u8()?),
            _ => {}
        }
    }
    match num {
        Some(num @ proto::ICMP) => Ok((num, icmp)),
        Some(num @ proto::ICMPV6) => Ok((num, icmp6)),
        Some(num) => Ok((num, ports)),
        None => Err(DecodeError::new(DecodeErrorKind::Missing, nest.offset).within(CTA_PROTO_NUM)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::put::put_tuple;
    use crate::writer::Writer;

    fn tuple(v6: bool, proto: u8, l4: L4) -> Tuple {
        let address = |n: u8| match v6 {
            false => IpAddr::from([192, 0, 2, n]),
            true => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]),
        };
        Tuple { src: address(1), dst: address(2), proto, l4 }
    }

    fn usual_tuple(bytes: &[u8], kind: u16) -> Option<TupleParts> {
        let usual = Usual::look(bytes, kind)?;
        Some(TupleParts { tuple: usual.tuple(bytes)?, zone: usual.zone })
    }

    /// Calls `f` with the attribute of `tuple`.
    fn encoded(tuple: &Tuple, zone: Option<u16>, f: impl FnOnce(&[u8], &Attr<'_>)) {
        let mut buf = [0; 256];
        let mut writer = Writer::new(&mut buf, 0);
        put_tuple(&mut writer, CTA_TUPLE_ORIG, tuple, zone);
        let end = writer.end().unwrap();
        let attr = Attrs::new(&buf[..end], 0).next().unwrap().unwrap();
        f(&buf[..end], &attr);
    }

    #[test]
    fn fixed_offsets_and_the_walk_agree() {
        let protocols = [
            (proto::TCP, L4::ports(1003, 80)),
            (proto::GRE, L4::ports(7, 0)),
            (proto::ICMP, L4::icmp(77, 8, 1)),
            (proto::ICMPV6, L4::icmp(78, 128, 2)),
            (50, L4::default()),
        ];
        for (v6, (proto, l4), zone) in [false, true]
            .into_iter()
            .flat_map(|v6| protocols.map(|protocol| (v6, protocol)))
            .flat_map(|(v6, protocol)| [None, Some(9)].map(|zone| (v6, protocol, zone)))
        {
            let tuple = tuple(v6, proto, l4);
            encoded(&tuple, zone, |bytes, attr| {
                let parts = TupleParts { tuple, zone };
                assert_eq!(usual_tuple(bytes, CTA_TUPLE_ORIG), Some(parts));
                assert_eq!(usual_tuple(bytes, CTA_TUPLE_REPLY), None);
                assert_eq!(general_tuple(attr), Ok(parts));
                for cut in 0..bytes.len() - 3 {
                    assert_eq!(usual_tuple(&bytes[..cut], CTA_TUPLE_ORIG), None, "{cut}");
                }
            });
        }
    }

    /// Whatever octet of a tuple changes: the fixed offsets give up, or agree with the walk.
    #[test]
    fn fixed_offsets_never_contradict_the_walk() {
        for (v6, number, l4, zone) in [
            (false, proto::TCP, L4::ports(1003, 80), None),
            (true, proto::ICMPV6, L4::icmp(77, 128, 2), Some(7)),
            (false, 50, L4::default(), Some(9)),
        ] {
            encoded(&tuple(v6, number, l4), zone, |bytes, _| {
                for at in 0..bytes.len() {
                    for octet in 0..=255 {
                        let mut bytes = bytes.to_vec();
                        bytes[at] = octet;
                        let Some(Ok(attr)) = Attrs::new(&bytes, 0).next() else { continue };
                        if let Some(usual) = usual_tuple(&bytes, attr.kind) {
                            assert_eq!(general_tuple(&attr), Ok(usual), "octet {at} is {octet}");
                        }
                    }
                }
            });
        }
    }
}
