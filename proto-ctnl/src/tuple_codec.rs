//! Tuples in messages of the kernel: the fixed layout that it always sends, and the general one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::attr::{Attr, AttrHead, Attrs};
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

/// The layer 4 part of a tuple with ports (or GRE keys).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Ports {
    proto: AttrHead,
    num_head: AttrHead,
    num: u8,
    num_pad: [u8; 3],
    src_head: AttrHead,
    src: U16,
    src_pad: [u8; 2],
    dst_head: AttrHead,
    dst: U16,
    dst_pad: [u8; 2],
}

const PORTS_LEN: u16 = size_of::<Ports>() as u16;

impl<const N: usize> Addresses<N> {
    const IP_LEN: u16 = 2 * (N as u16 + 4);

    fn has_kinds(&self, src: u16, dst: u16) -> bool {
        self.ip == AttrHead::nest(CTA_TUPLE_IP, Self::IP_LEN)
            && self.src_head == AttrHead::new(src, N as u16)
            && self.dst_head == AttrHead::new(dst, N as u16)
    }
}

impl Ports {
    fn is_usual(&self) -> bool {
        self.proto == AttrHead::nest(CTA_TUPLE_PROTO, PORTS_LEN - 4)
            && self.num_head == AttrHead::new(CTA_PROTO_NUM, 1)
            && self.src_head == AttrHead::new(CTA_PROTO_SRC_PORT, 2)
            && self.dst_head == AttrHead::new(CTA_PROTO_DST_PORT, 2)
            // ICMP's words are other attributes; the general decoder would not find them.
            && !matches!(self.num, proto::ICMP | proto::ICMPV6)
    }

    const fn l4(&self) -> L4 {
        L4 { a: self.src.get(), b: self.dst.get() }
    }
}

/// What a tuple's attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TupleParts {
    pub(crate) tuple: Tuple,
    /// `CTA_TUPLE_ZONE`: a zone of this direction only.
    pub(crate) zone: Option<u16>,
}

/// The tuple whose attribute of number `kind` starts `bytes`, if it is laid out as the kernel
/// lays out a tuple with ports and without a zone. Looks at fixed offsets only.
#[inline]
pub(crate) fn usual_tuple(bytes: &[u8], kind: u16) -> Option<Tuple> {
    if let Ok((ip, rest)) = Addresses::<4>::ref_from_prefix(bytes)
        && ip.tuple == AttrHead::nest(kind, 4 + Addresses::<4>::IP_LEN + PORTS_LEN)
        && ip.has_kinds(CTA_IP_V4_SRC, CTA_IP_V4_DST)
    {
        let (ports, _) = Ports::ref_from_prefix(rest).ok()?;
        return ports.is_usual().then(|| Tuple {
            src: IpAddr::V4(Ipv4Addr::from(ip.src)),
            dst: IpAddr::V4(Ipv4Addr::from(ip.dst)),
            proto: ports.num,
            l4: ports.l4(),
        });
    }
    let (ip, rest) = Addresses::<16>::ref_from_prefix(bytes).ok()?;
    let (ports, _) = Ports::ref_from_prefix(rest).ok()?;
    (ip.tuple == AttrHead::nest(kind, 4 + Addresses::<16>::IP_LEN + PORTS_LEN)
        && ip.has_kinds(CTA_IP_V6_SRC, CTA_IP_V6_DST)
        && ports.is_usual())
    .then(|| Tuple {
        src: IpAddr::V6(Ipv6Addr::from(ip.src)),
        dst: IpAddr::V6(Ipv6Addr::from(ip.dst)),
        proto: ports.num,
        l4: ports.l4(),
    })
}

/// Decodes the tuple in attribute `nest` of the message `bytes`.
#[inline]
pub(crate) fn tuple_at(bytes: &[u8], nest: &Attr<'_>) -> Result<TupleParts, DecodeError> {
    let usual = bytes.get(nest.offset..).and_then(|at| usual_tuple(at, nest.kind));
    match usual {
        Some(tuple) => Ok(TupleParts { tuple, zone: None }),
        None => general_tuple(nest),
    }
}

/// Decodes a tuple of any layout. The errors' paths start with the tuple's own number.
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
        for v6 in [false, true] {
            for proto in [proto::TCP, proto::UDP, proto::SCTP, proto::GRE, proto::UDPLITE] {
                let tuple = tuple(v6, proto, L4::ports(1003, 80));
                encoded(&tuple, None, |bytes, attr| {
                    assert_eq!(usual_tuple(bytes, CTA_TUPLE_ORIG), Some(tuple));
                    assert_eq!(usual_tuple(bytes, CTA_TUPLE_REPLY), None);
                    assert_eq!(general_tuple(attr), Ok(TupleParts { tuple, zone: None }));
                    for cut in 0..bytes.len() - 2 {
                        assert_eq!(usual_tuple(&bytes[..cut], CTA_TUPLE_ORIG), None, "{cut}");
                    }
                });
            }
        }
    }

    #[test]
    fn what_is_not_usual_is_walked() {
        for (v6, number, l4) in [
            (false, proto::ICMP, L4::icmp(77, 8, 1)),
            (true, proto::ICMPV6, L4::icmp(77, 128, 2)),
            (false, 50, L4::default()),
            (true, 89, L4::default()),
        ] {
            let tuple = tuple(v6, number, l4);
            encoded(&tuple, Some(7), |bytes, attr| {
                assert_eq!(usual_tuple(bytes, CTA_TUPLE_ORIG), None);
                assert_eq!(tuple_at(bytes, attr), Ok(TupleParts { tuple, zone: Some(7) }));
            });
        }
        // With a zone the nest is longer than usual.
        let tuple = tuple(false, proto::TCP, L4::ports(1, 2));
        encoded(&tuple, Some(9), |bytes, attr| {
            assert_eq!(usual_tuple(bytes, CTA_TUPLE_ORIG), None);
            assert_eq!(tuple_at(bytes, attr), Ok(TupleParts { tuple, zone: Some(9) }));
        });
    }

    #[test]
    fn ports_under_icmps_number_are_not_its_words() {
        let tcp = tuple(false, proto::TCP, L4::ports(1, 2));
        encoded(&tcp, None, |bytes, _| {
            let mut bytes = bytes.to_vec();
            let num = bytes.len() - 20;
            assert_eq!(bytes[num], proto::TCP);
            bytes[num] = proto::ICMP;
            let attr = Attrs::new(&bytes, 0).next().unwrap().unwrap();
            let decoded = tuple_at(&bytes, &attr).unwrap().tuple;
            assert_eq!((decoded.proto, decoded.l4), (proto::ICMP, L4::default()));
        });
    }
}
