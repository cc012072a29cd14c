//! nfnetlink framing: the messages of a datagram and their headers.

use zerocopy::byteorder::big_endian;
use zerocopy::byteorder::native_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::attr::{Attrs, aligned};
use crate::error::{DecodeError, DecodeErrorKind};

/// `struct nlmsghdr`, of host order.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct NlHead {
    pub(crate) len: U32,
    pub(crate) kind: U16,
    pub(crate) flags: U16,
    pub(crate) seq: U32,
    pub(crate) port: U32,
}

/// `struct nfgenmsg`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct NfHead {
    pub(crate) family: u8,
    pub(crate) version: u8,
    pub(crate) res_id: big_endian::U16,
}

/// Octets of `struct nlmsghdr`.
pub(crate) const NL_HEAD: usize = size_of::<NlHead>();
/// Octets before the first attribute of an nfnetlink message.
pub(crate) const NF_HEAD: usize = NL_HEAD + size_of::<NfHead>();

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type: subsystem in the high octet for nfnetlink, see [`crate::consts::msg`].
    pub kind: u16,
    /// `NLM_F_*`, see [`crate::consts::flag`].
    pub flags: u16,
    /// Sequence number of the request that this answers; 0 in events.
    pub seq: u32,
    /// Port id: of the requester in answers; in events of the socket whose request caused it, 0
    /// for packets and timers.
    pub port: u32,
    /// The whole message, header included, padding excluded.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The message at the start of `datagram`.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let Ok((head, _)) = NlHead::ref_from_prefix(datagram) else {
            return Err(DecodeError::new(DecodeErrorKind::ShortHeader, 0));
        };
        let len = usize::try_from(head.len.get()).unwrap_or(usize::MAX);
        let Some(bytes) = datagram.get(..len).filter(|_| len >= NL_HEAD) else {
            return Err(DecodeError::new(DecodeErrorKind::MessageLength, 0));
        };
        Ok(Self {
            kind: head.kind.get(),
            flags: head.flags.get(),
            seq: head.seq.get(),
            port: head.port.get(),
            bytes,
        })
    }

    /// What follows the netlink header.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(NL_HEAD..).unwrap_or(&[])
    }

    /// The subsystem: the type's high octet.
    pub const fn subsystem(&self) -> u16 {
        self.kind >> 8
    }

    pub(crate) fn nf_head(&self) -> Result<&'a NfHead, DecodeError> {
        match NfHead::ref_from_prefix(self.payload()) {
            Ok((head, _)) => Ok(head),
            Err(_) => Err(DecodeError::new(DecodeErrorKind::ShortHeader, NL_HEAD)),
        }
    }

    /// Address family of the nfnetlink header, see [`crate::consts::family`].
    pub fn family(&self) -> Result<u8, DecodeError> {
        self.nf_head().map(|head| head.family)
    }

    /// Resource id of the nfnetlink header: processor or queue number.
    pub fn resource(&self) -> Result<u16, DecodeError> {
        self.nf_head().map(|head| head.res_id.get())
    }

    /// Version of the nfnetlink header.
    pub fn version(&self) -> Result<u8, DecodeError> {
        self.nf_head().map(|head| head.version)
    }

    /// The attributes behind the nfnetlink header.
    pub fn attrs(&self) -> Result<Attrs<'a>, DecodeError> {
        self.nf_head()?;
        Ok(Attrs::new(self.bytes.get(NF_HEAD..).unwrap_or(&[]), NF_HEAD))
    }
}

/// The messages of one datagram. A bad length ends it after the error, because the start of the
/// next message is then unknown.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Messages<'a> {
    /// The messages of `datagram`.
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram, offset: 0 }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = core::mem::take(&mut self.rest);
        match Message::parse(rest) {
            Ok(message) => {
                let step = aligned(message.bytes.len()).min(rest.len());
                self.rest = &rest[step..];
                self.offset += step;
                Some(Ok(message))
            }
            Err(error) => Some(Err(DecodeError::new(error.kind(), self.offset))),
        }
    }
}

impl core::iter::FusedIterator for Messages<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u32, kind: u16) -> Vec<u8> {
        let head = NlHead {
            len: U32::new(len),
            kind: U16::new(kind),
            flags: U16::new(0),
            seq: U32::new(9),
            port: U32::new(5),
        };
        head.as_bytes().to_vec()
    }

    #[test]
    fn a_bad_length_ends_the_datagram() {
        let mut bytes = message(17, 1);
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend(message(15, 2));
        bytes.extend(message(16, 3));
        let mut messages = Messages::new(&bytes);
        let first = messages.next().unwrap().unwrap();
        assert_eq!((first.kind, first.seq, first.port, first.payload()), (1, 9, 5, &[1][..]));
        assert!(first.family().is_err() && first.attrs().is_err());
        let error = messages.next().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.offset()), (DecodeErrorKind::MessageLength, 20));
        assert!(messages.next().is_none());

        let beyond = message(17, 1);
        assert_eq!(Message::parse(&beyond).unwrap_err().kind(), DecodeErrorKind::MessageLength);
        assert_eq!(Message::parse(&beyond[..15]).unwrap_err().kind(), DecodeErrorKind::ShortHeader);
    }
}
