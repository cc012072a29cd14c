//! One direction of a flow: addresses, protocol and what the protocol adds to the key.

use core::net::{IpAddr, Ipv4Addr};

/// IP protocol numbers that the kernel tracks with a key of their own (IANA protocol numbers).
pub mod proto {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
}

/// The layer 4 part of a tuple: two 16-bit words in host order, as they stand in the kernel's
/// tuple.
///
/// | protocol | `a` | `b` |
/// |---|---|---|
/// | TCP, UDP, UDP-Lite, SCTP, DCCP | source port | destination port |
/// | GRE | source key | destination key |
/// | ICMP, ICMPv6 | id | type in the high octet, code in the low one |
/// | all others | 0 | 0 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct L4 {
    /// First word.
    pub a: u16,
    /// Second word.
    pub b: u16,
}

impl L4 {
    /// The key of a protocol with ports.
    pub const fn ports(source: u16, destination: u16) -> Self {
        Self { a: source, b: destination }
    }

    /// The key of ICMP and ICMPv6.
    pub const fn icmp(id: u16, kind: u8, code: u8) -> Self {
        Self { a: id, b: (kind as u16) << 8 | code as u16 }
    }

    /// ICMP type; meaningless for other protocols.
    pub const fn icmp_type(self) -> u8 {
        (self.b >> 8) as u8
    }

    /// ICMP code; meaningless for other protocols.
    pub const fn icmp_code(self) -> u8 {
        self.b as u8
    }
}

/// One direction of a flow (`struct nf_conntrack_tuple`), without its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address. Always of the family of `src` in a tuple the decoder made.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Ports, keys or ICMP fields.
    pub l4: L4,
}

impl Default for Tuple {
    fn default() -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { src: any, dst: any, proto: 0, l4: L4::default() }
    }
}

impl Tuple {
    /// Whether the protocol's key is a pair of ports.
    pub const fn has_ports(&self) -> bool {
        matches!(self.proto, proto::TCP | proto::UDP | proto::UDPLITE | proto::SCTP | proto::DCCP)
    }

    /// Whether the protocol is ICMP or ICMPv6.
    pub const fn is_icmp(&self) -> bool {
        matches!(self.proto, proto::ICMP | proto::ICMPV6)
    }

    /// Whether the addresses are IPv6.
    pub const fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// The tuple an answer has when no address is translated, as the kernel inverts it. `None`
    /// for an ICMP type that has no answer (`nf_conntrack_invert_icmp_tuple`).
    pub fn inverted(&self) -> Option<Self> {
        let l4 = if self.is_icmp() {
            let kind = inverse_icmp(self.proto, self.l4.icmp_type())?;
            L4::icmp(self.l4.a, kind, self.l4.icmp_code())
        } else {
            L4 { a: self.l4.b, b: self.l4.a }
        };
        Some(Self { src: self.dst, dst: self.src, proto: self.proto, l4 })
    }
}

/// The type of the answer to an ICMP or ICMPv6 query.
const fn inverse_icmp(protocol: u8, kind: u8) -> Option<u8> {
    Some(match (protocol, kind) {
        (proto::ICMP, 0) => 8,
        (proto::ICMP, 8) => 0,
        (proto::ICMP, 13) => 14,
        (proto::ICMP, 14) => 13,
        (proto::ICMP, 15) => 16,
        (proto::ICMP, 16) => 15,
        (proto::ICMP, 17) => 18,
        (proto::ICMP, 18) => 17,
        (proto::ICMPV6, 128) => 129,
        (proto::ICMPV6, 129) => 128,
        (proto::ICMPV6, 139) => 140,
        (proto::ICMPV6, 140) => 139,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    #[test]
    fn inversion_swaps_ends_and_answers_echo() {
        let t = Tuple {
            src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
            proto: proto::TCP,
            l4: L4::ports(1003, 80),
        };
        let r = t.inverted().unwrap();
        assert_eq!((r.src, r.dst, r.l4), (t.dst, t.src, L4::ports(80, 1003)));
        assert_eq!(r.inverted().unwrap(), t);

        let echo = Tuple {
            src: IpAddr::V6(Ipv6Addr::LOCALHOST),
            dst: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            proto: proto::ICMPV6,
            l4: L4::icmp(7, 128, 0),
        };
        assert_eq!(echo.inverted().unwrap().l4, L4::icmp(7, 129, 0));
        assert!(Tuple { l4: L4::icmp(7, 3, 0), ..echo }.inverted().is_none());
    }
}
