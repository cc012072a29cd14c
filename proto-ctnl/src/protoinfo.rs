//! Protocol state (`CTA_PROTOINFO`) and address translation (`CTA_NAT_*`) in messages.

use core::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::attr::{Attr, AttrHead, all_same};
use crate::consts::*;
use crate::error::DecodeError;
use crate::flow::{Dccp, ProtoInfo, Sctp, Tcp, TcpFlags};

/// TCP's state as the kernel lays it out in events and dumps, headers included.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct UsualTcp {
    info: AttrHead,
    tcp: AttrHead,
    octets: [TcpOctet; 3],
    flags: [TcpFlagWord; 2],
}

/// State or a window scale.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TcpOctet {
    head: AttrHead,
    value: u8,
    pad: [u8; 3],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TcpFlagWord {
    head: AttrHead,
    flags: u8,
    mask: u8,
    pad: [u8; 2],
}

impl UsualTcp {
    #[inline(always)]
    fn is_usual(&self) -> bool {
        const LEN: u16 = size_of::<UsualTcp>() as u16;
        all_same([
            (self.info, AttrHead::nest(CTA_PROTOINFO, LEN - 4)),
            (self.tcp, AttrHead::nest(CTA_PROTOINFO_TCP, LEN - 8)),
            (self.octets[0].head, AttrHead::new(CTA_PROTOINFO_TCP_STATE, 1)),
            (self.octets[1].head, AttrHead::new(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, 1)),
            (self.octets[2].head, AttrHead::new(CTA_PROTOINFO_TCP_WSCALE_REPLY, 1)),
            (self.flags[0].head, AttrHead::new(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, 2)),
            (self.flags[1].head, AttrHead::new(CTA_PROTOINFO_TCP_FLAGS_REPLY, 2)),
        ])
    }

    #[inline(always)]
    fn state(&self) -> Tcp {
        Tcp {
            state: self.octets[0].value,
            wscale: Some([self.octets[1].value, self.octets[2].value]),
            flags: Some(self.flags.map(|word| TcpFlags { flags: word.flags, mask: word.mask })),
        }
    }
}

/// TCP's state in the attribute that starts `bytes`, if it is laid out as the kernel does it in
/// all messages but those of a flow's end. Looks at fixed offsets only.
#[inline(always)]
pub(crate) fn usual_tcp(bytes: &[u8]) -> Option<Tcp> {
    let (usual, _) = UsualTcp::ref_from_prefix(bytes).ok()?;
    usual.is_usual().then(|| usual.state())
}

/// Decodes the protocol state in attribute `nest`. `None` if it is of a protocol that this crate
/// does not know, or has no state number.
pub(crate) fn decode(nest: &Attr<'_>) -> Result<Option<ProtoInfo>, DecodeError> {
    general(nest).map_err(|error| nest.wrap(error))
}

fn general(nest: &Attr<'_>) -> Result<Option<ProtoInfo>, DecodeError> {
    let mut info = None;
    for attr in nest.attrs() {
        let attr = attr?;
        let decoded = match attr.kind {
            CTA_PROTOINFO_TCP => tcp(&attr).map(|tcp| tcp.map(ProtoInfo::Tcp)),
            CTA_PROTOINFO_SCTP => sctp(&attr).map(|sctp| sctp.map(ProtoInfo::Sctp)),
            CTA_PROTOINFO_DCCP => dccp(&attr).map(|dccp| dccp.map(ProtoInfo::Dccp)),
            _ => Ok(None),
        };
        info = decoded.map_err(|error| attr.wrap(error))?.or(info);
    }
    Ok(info)
}

/// Both directions, or nothing.
fn both<T>(of: [Option<T>; 2]) -> Option<[T; 2]> {
    let [original, reply] = of;
    Some([original?, reply?])
}

fn tcp(nest: &Attr<'_>) -> Result<Option<Tcp>, DecodeError> {
    let (mut state, mut wscale, mut flags) = (None, [None; 2], [None; 2]);
    let word =
        |attr: &Attr<'_>| attr.octets::<2>().map(|[flags, mask]| Some(TcpFlags { flags, mask }));
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_PROTOINFO_TCP_STATE => state = Some(attr.u8()?),
            CTA_PROTOINFO_TCP_WSCALE_ORIGINAL => wscale[0] = Some(attr.u8()?),
            CTA_PROTOINFO_TCP_WSCALE_REPLY => wscale[1] = Some(attr.u8()?),
            CTA_PROTOINFO_TCP_FLAGS_ORIGINAL => flags[0] = word(&attr)?,
            CTA_PROTOINFO_TCP_FLAGS_REPLY => flags[1] = word(&attr)?,
            _ => {}
        }
    }
    Ok(state.map(|state| Tcp { state, wscale: both(wscale), flags: both(flags) }))
}

fn sctp(nest: &Attr<'_>) -> Result<Option<Sctp>, DecodeError> {
    let (mut state, mut vtag) = (None, [None; 2]);
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_PROTOINFO_SCTP_STATE => state = Some(attr.u8()?),
            CTA_PROTOINFO_SCTP_VTAG_ORIGINAL => vtag[0] = Some(attr.u32_be()?),
            CTA_PROTOINFO_SCTP_VTAG_REPLY => vtag[1] = Some(attr.u32_be()?),
            _ => {}
        }
    }
    Ok(state.map(|state| Sctp { state, vtag: both(vtag) }))
}

fn dccp(nest: &Attr<'_>) -> Result<Option<Dccp>, DecodeError> {
    let (mut state, mut role, mut handshake_seq) = (None, 0, None);
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_PROTOINFO_DCCP_STATE => state = Some(attr.u8()?),
            CTA_PROTOINFO_DCCP_ROLE => role = attr.u8()?,
            CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ => handshake_seq = Some(attr.u64_be()?),
            _ => {}
        }
    }
    Ok(state.map(|state| Dccp { state, role, handshake_seq }))
}

/// The lowest address and port that a translation names.
pub(crate) fn nat_in(nest: &Attr<'_>) -> Result<(Option<IpAddr>, Option<u16>), DecodeError> {
    let (mut ip, mut port) = (None, None);
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_NAT_V4_MINIP => ip = Some(IpAddr::from(attr.octets::<4>()?)),
            CTA_NAT_V6_MINIP => ip = Some(IpAddr::from(attr.octets::<16>()?)),
            CTA_NAT_PROTO => {
                for inner in attr.attrs() {
                    let inner = inner.map_err(|error| attr.wrap(error))?;
                    if inner.kind == CTA_PROTONAT_PORT_MIN {
                        port = Some(inner.u16_be().map_err(|error| attr.wrap(error))?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok((ip, port))
}
