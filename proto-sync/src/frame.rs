//! The header of a message, and the walk over the messages of a datagram.
//!
//! Every message starts with eight octets: version and type in one, flags, length of the whole
//! message, sequence number. ACK, NACK and RESYNC have a range of sequence numbers behind them.
//! The walk does what can be checked without knowing the mode; it never looks at attributes.

use core::fmt;

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::flow::FLOW_MESSAGE_MAX;

/// The only version of the protocol.
pub const VERSION: u8 = 1;
/// Octets of the header that every message has.
pub const HEADER_LEN: usize = 8;
/// Octets of an ACK, NACK or RESYNC.
pub const RANGE_LEN: usize = 16;
/// Type of a control message; its meaning is in the flags.
pub(crate) const TYPE_CONTROL: u8 = 10;

/// Bits of the flags octet.
pub mod flag {
    /// Please send everything you have; with control only.
    pub const RESYNC: u8 = 0x02;
    /// The numbers of the range are missing here; with control only.
    pub const NACK: u8 = 0x04;
    /// The numbers of the range have arrived; with control only.
    pub const ACK: u8 = 0x08;
    /// Nothing to say; with control only.
    pub const ALIVE: u8 = 0x10;
    /// The sender has started and knows nothing of its peer yet.
    pub const HELLO: u8 = 0x20;
    /// The sender has seen its peer's HELLO.
    pub const HELLO_BACK: u8 = 0x40;

    /// What an acknowledging peer may set on any message.
    pub(crate) const GREETING: u8 = HELLO | HELLO_BACK;
    /// Control messages that carry a range.
    pub(crate) const RANGED: u8 = ACK | NACK | RESYNC;
}

/// What a state message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A flow; what was known under its key is replaced.
    New = 0,
    /// A flow; merged into what is known under its key.
    Update = 1,
    /// The flow is gone.
    Delete = 2,
    /// An expectation.
    ExpectNew = 3,
    /// An expectation that changed.
    ExpectUpdate = 4,
    /// The expectation is gone.
    ExpectDelete = 5,
}

impl Kind {
    /// The kind of message type `n`; `None` for control and for unassigned types.
    pub const fn from_type(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::New,
            1 => Self::Update,
            2 => Self::Delete,
            3 => Self::ExpectNew,
            4 => Self::ExpectUpdate,
            5 => Self::ExpectDelete,
            _ => return None,
        })
    }

    /// Whether the message is about an expectation.
    pub const fn is_expect(self) -> bool {
        matches!(self, Self::ExpectNew | Self::ExpectUpdate | Self::ExpectDelete)
    }
}

/// Layout of the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    version_type: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Octets of the whole message.
    pub length: U16,
    /// Sequence number.
    pub seq: U32,
}

impl Header {
    /// A header of this protocol's version.
    pub const fn new(message_type: u8, flags: u8, length: u16, seq: u32) -> Self {
        Self {
            version_type: VERSION << 4 | message_type & 0xf,
            flags,
            length: U16::new(length),
            seq: U32::new(seq),
        }
    }

    /// Version, 0 to 15.
    pub const fn version(&self) -> u8 {
        self.version_type >> 4
    }

    /// Message type, 0 to 15.
    pub const fn message_type(&self) -> u8 {
        self.version_type & 0xf
    }

    /// Whether a range has to follow.
    pub const fn is_ranged(&self) -> bool {
        self.message_type() == TYPE_CONTROL && self.flags & flag::RANGED != 0
    }
}

/// Layout of a control message with its range.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ranged {
    /// Header.
    pub header: Header,
    /// First number, included.
    pub from: U32,
    /// Last number, included.
    pub to: U32,
}

/// Whether sequence number `a` comes before `b`, in arithmetic modulo 2^32.
pub const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Why the walk over a datagram refused a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Fewer octets are left than a header, or a range, needs. Nothing follows.
    Truncated,
    /// The length is too small for the message or reaches beyond the datagram. Nothing follows.
    BadSize,
    /// Another version; the walk goes on behind the message.
    WrongVersion,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "message is cut off",
            Self::BadSize => "bad message length",
            Self::WrongVersion => "wrong protocol version",
        })
    }
}

impl core::error::Error for FrameError {}

/// One message, as it stands in the datagram.
#[derive(Clone, Copy, Debug)]
pub struct RawMessage<'a> {
    /// All of it, header included.
    pub bytes: &'a [u8],
    /// 0 to 15.
    pub message_type: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// The range of ACK, NACK and RESYNC; zeros for others.
    pub range: (u32, u32),
}

impl<'a> RawMessage<'a> {
    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// The messages of one datagram, or of a part of a stream that ends with a whole message.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Walks `datagram`.
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn fail(&mut self, error: FrameError) -> Option<Result<RawMessage<'a>, FrameError>> {
        self.rest = &[];
        Some(Err(error))
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<RawMessage<'a>, FrameError>;

    // Inlined so that the message stays in registers: read back from memory it would have to wait
    // for the stores of the message before, which miss the cache.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Ok((header, _)) = Header::ref_from_prefix(self.rest) else {
            return self.fail(FrameError::Truncated);
        };
        let length = usize::from(header.length.get());
        if length == 0 || length > self.rest.len() {
            return self.fail(FrameError::BadSize);
        }
        let mut range = (0, 0);
        if header.is_ranged() {
            let Ok((ranged, _)) = Ranged::ref_from_prefix(self.rest) else {
                return self.fail(FrameError::Truncated);
            };
            if length < RANGE_LEN {
                return self.fail(FrameError::BadSize);
            }
            range = (ranged.from.get(), ranged.to.get());
        } else if length < HEADER_LEN {
            return self.fail(FrameError::BadSize);
        }
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        if header.version() != VERSION {
            return Some(Err(FrameError::WrongVersion));
        }
        Some(Ok(RawMessage {
            bytes,
            message_type: header.message_type(),
            flags: header.flags,
            seq: header.seq.get(),
            range,
        }))
    }
}

/// The largest payload of one UDP packet.
const UDP_PAYLOAD_MAX: usize = 65_487;

/// Octets of state that fit a datagram on a link with this MTU (octets).
///
/// One octet less than would fit over UDP on IPv4, because the original's limit is exclusive and
/// an equal peer is easier to compare; over UDP on IPv6 what fits one packet; over TCP, where it
/// only bounds what is handed to the socket at once, what fits a segment.
pub const fn datagram_max(mtu: u32, ipv6: bool, tcp: bool) -> usize {
    let overhead = match (tcp, ipv6) {
        (true, _) => 40,
        (false, true) => 48,
        (false, false) => 29,
    };
    let size = mtu.saturating_sub(overhead) as usize;
    if size < FLOW_MESSAGE_MAX {
        FLOW_MESSAGE_MAX
    } else if size > UDP_PAYLOAD_MAX {
        UDP_PAYLOAD_MAX
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_wraps() {
        assert!(before(0xffff_ffff, 0));
        assert!(before(5, 6));
        assert!(!before(6, 6));
        assert!(!before(0, 0xffff_ffff));
    }

    #[test]
    fn sizes_follow_the_link() {
        assert_eq!(datagram_max(1500, false, false), 1471);
        assert_eq!(datagram_max(1500, true, false), 1452);
        assert_eq!(datagram_max(1500, true, true), 1460);
        for (ipv6, tcp) in [(false, false), (true, false), (false, true), (true, true)] {
            assert_eq!(datagram_max(68, ipv6, tcp), FLOW_MESSAGE_MAX);
            assert_eq!(datagram_max(0, ipv6, tcp), FLOW_MESSAGE_MAX);
        }
        assert_eq!(datagram_max(u32::MAX, false, false), 65_487);
    }

    #[test]
    fn a_wrong_version_ends_only_its_message() {
        let mut bytes = Vec::new();
        bytes.extend([0x20, 0, 0, 8, 0, 0, 0, 1]);
        bytes.extend([0x10, 0, 0, 8, 0, 0, 0, 2]);
        bytes.extend([0x10, 0, 0, 4, 0, 0, 0, 3]);
        bytes.extend([0x10, 0, 0, 8, 0, 0, 0, 4]);
        let seen: Vec<_> = Messages::new(&bytes).map(|m| m.map(|m| m.seq)).collect();
        assert_eq!(seen, [Err(FrameError::WrongVersion), Ok(2), Err(FrameError::BadSize)]);
    }
}
