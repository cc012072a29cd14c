//! Where the fields of an original tuple lie in a conntrack event.
//!
//! The kernel writes `CTA_TUPLE_ORIG` first and its members in one order, so each family has one
//! layout. Offsets count octets from the start of the netlink header.

/// Offset of `nlmsg_type` and `nlmsg_flags`.
pub(super) const KIND: i16 = 4;
/// Offset of `nlmsg_seq`.
pub(super) const SEQ: i16 = 8;
/// Offset of `nfgen_family`.
pub(super) const FAMILY: i16 = 16;
/// Offset of the length of the first attribute.
pub(super) const FIRST_LENGTH: i16 = 20;
/// Offset of its type.
pub(super) const FIRST_ATTRIBUTE: i16 = 22;
/// Length of a protocol nest that holds the number alone.
pub(super) const PORTLESS: u16 = 12;
/// Shortest protocol nest with two more members.
pub(super) const WITH_PORTS: u16 = 28;

/// The layout of one address family.
pub(super) struct Layout {
    /// Headers to be found: offset, length, type with the nested flag.
    pub(super) headers: [(i16, u16, u16); 3],
    /// Type of the protocol nest, whose length varies.
    pub(super) proto_nest: i16,
    /// Header of the protocol number.
    pub(super) number_header: i16,
    /// Words of both addresses.
    pub(super) words: &'static [i16],
    /// Protocol number.
    pub(super) number: i16,
    /// Source port.
    pub(super) source: i16,
    /// Destination port.
    pub(super) destination: i16,
}

/// IPv4.
pub(super) const V4: Layout = Layout {
    headers: [(24, 20, 0x8001), (28, 8, 1), (36, 8, 2)],
    proto_nest: 44,
    number_header: 48,
    words: &[32, 40],
    number: 52,
    source: 60,
    destination: 68,
};

/// IPv6.
pub(super) const V6: Layout = Layout {
    headers: [(24, 44, 0x8001), (28, 20, 3), (48, 20, 4)],
    proto_nest: 68,
    number_header: 72,
    words: &[32, 36, 40, 44, 52, 56, 60, 64],
    number: 76,
    source: 84,
    destination: 92,
};
