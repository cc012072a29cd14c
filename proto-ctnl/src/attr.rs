//! Netlink attributes (`struct nlattr`): walking them in borrowed bytes.
//!
//! What this layer promises: no input makes it panic or loop, nothing beyond the slice it was
//! given is read, and every error names the octet.

use zerocopy::byteorder::native_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::consts::{NLA_F_NESTED, NLA_TYPE_MASK};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::name::Name;

/// `struct nlattr`, of host order.
#[derive(
    Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug,
)]
#[repr(C)]
pub(crate) struct AttrHead {
    /// Octets of header and value, padding excluded.
    pub(crate) len: U16,
    /// Number and flags.
    pub(crate) kind: U16,
}

/// Octets of an attribute's header.
pub(crate) const HEAD: usize = size_of::<AttrHead>();

impl AttrHead {
    /// The header of an attribute whose value has `value` octets.
    pub(crate) const fn new(kind: u16, value: u16) -> Self {
        Self { len: U16::new(HEAD as u16 + value), kind: U16::new(kind) }
    }

    /// The header of a nest of `value` octets, as the kernel flags it.
    pub(crate) const fn nest(kind: u16, value: u16) -> Self {
        Self::new(kind | NLA_F_NESTED, value)
    }
}

/// Rounds a length up to the 4 octets on which attributes and messages are aligned.
pub(crate) const fn aligned(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Number, without the flags.
    pub kind: u16,
    /// Whether `NLA_F_NESTED` was set. The kernel sets it on all nests; a missing one means
    /// nothing.
    pub nested: bool,
    /// The value, without padding.
    pub value: &'a [u8],
    /// Octets from the start of the message to the attribute's header.
    pub offset: usize,
}

impl<'a> Attr<'a> {
    fn fixed<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        match self.value.first_chunk::<N>() {
            Some(octets) => Ok(*octets),
            None => {
                Err(DecodeError::new(DecodeErrorKind::ShortValue, self.offset).within(self.kind))
            }
        }
    }

    /// The value as an octet. Like the kernel, this and its siblings accept longer values.
    pub fn u8(&self) -> Result<u8, DecodeError> {
        self.fixed::<1>().map(|[octet]| octet)
    }

    /// The value as a big-endian number.
    pub fn u16_be(&self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// The value as a big-endian number.
    pub fn u32_be(&self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// The value as a big-endian number.
    pub fn u64_be(&self) -> Result<u64, DecodeError> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// The value as a number of host order.
    pub fn u32_host(&self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_ne_bytes)
    }

    /// The first octets of the value.
    pub fn octets<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        self.fixed()
    }

    /// The value up to its first NUL.
    pub fn text(&self) -> &'a [u8] {
        let end = self.value.iter().position(|&b| b == 0).unwrap_or(self.value.len());
        &self.value[..end]
    }

    /// The value up to its first NUL, as a name of at most `N` octets.
    pub fn name<const N: usize>(&self) -> Result<Name<N>, DecodeError> {
        Name::new(self.value).ok_or_else(|| {
            DecodeError::new(DecodeErrorKind::LongName, self.offset).within(self.kind)
        })
    }

    /// The attributes inside the value.
    pub const fn attrs(&self) -> Attrs<'a> {
        Attrs { rest: self.value, offset: self.offset + HEAD }
    }

    /// Adds this attribute to the path of an error that happened inside it.
    #[cold]
    pub(crate) fn wrap(&self, error: DecodeError) -> DecodeError {
        error.within(self.kind)
    }
}

/// The attributes of a slice, in order. Ends after the first error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attrs<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Attrs<'a> {
    /// The attributes of `bytes`, which stand `offset` octets after the start of their message.
    pub const fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset;
        let rest = core::mem::take(&mut self.rest);
        let Ok((head, _)) = AttrHead::ref_from_prefix(rest) else {
            return Some(Err(DecodeError::new(DecodeErrorKind::AttrLength, offset)));
        };
        let (len, kind) = (usize::from(head.len.get()), head.kind.get());
        let Some(value) = rest.get(HEAD..len) else {
            return Some(Err(
                DecodeError::new(DecodeErrorKind::AttrLength, offset).within(kind & NLA_TYPE_MASK)
            ));
        };
        // The last attribute of a message need not be padded.
        let step = aligned(len).min(rest.len());
        self.rest = &rest[step..];
        self.offset = offset + step;
        Some(Ok(Attr {
            kind: kind & NLA_TYPE_MASK,
            nested: kind & NLA_F_NESTED != 0,
            value,
            offset,
        }))
    }
}

impl core::iter::FusedIterator for Attrs<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(bytes: &[u8]) -> Vec<Result<u16, (DecodeErrorKind, usize)>> {
        Attrs::new(bytes, 20)
            .map(|attr| attr.map(|a| a.kind).map_err(|e| (e.kind(), e.offset())))
            .collect()
    }

    #[test]
    fn walks_padding_and_stops_at_a_bad_length() {
        let [h5, h4, h9] = [AttrHead::new(1, 1), AttrHead::nest(2, 0), AttrHead::new(3, 5)];
        let mut bytes = Vec::new();
        bytes.extend_from_slice(h5.as_bytes());
        bytes.extend_from_slice(&[7, 0, 0, 0]);
        bytes.extend_from_slice(h4.as_bytes());
        assert_eq!(kinds(&bytes), [Ok(1), Ok(2)]);
        // An unpadded last value, then one whose value is cut.
        assert_eq!(kinds(&bytes[..5]), [Ok(1)]);
        bytes.extend_from_slice(h9.as_bytes());
        bytes.extend_from_slice(&[0; 4]);
        assert_eq!(kinds(&bytes), [Ok(1), Ok(2), Err((DecodeErrorKind::AttrLength, 32))]);
        // A length below the header's, and a header cut short.
        assert_eq!(kinds(&[3, 0, 1, 0]), [Err((DecodeErrorKind::AttrLength, 20))]);
        assert_eq!(kinds(&[4, 0, 1]), [Err((DecodeErrorKind::AttrLength, 20))]);
        assert_eq!(kinds(&[]), []);
    }

    #[test]
    fn numbers_need_their_octets_and_accept_more() {
        let attr = Attr { kind: 7, nested: false, value: &[1, 2, 3, 4, 5], offset: 72 };
        assert_eq!(attr.u32_be(), Ok(0x0102_0304));
        assert_eq!(attr.u16_be(), Ok(0x0102));
        assert_eq!(attr.u8(), Ok(1));
        let error = attr.u64_be().unwrap_err();
        assert_eq!((error.kind(), error.offset()), (DecodeErrorKind::ShortValue, 72));
        assert_eq!(error.path().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn text_ends_at_nul() {
        let attr = Attr { kind: 1, nested: false, value: b"ftp\0x", offset: 0 };
        assert_eq!(attr.text(), b"ftp");
        assert_eq!(Attr { value: b"ftp", ..attr }.text(), b"ftp");
        assert_eq!(
            Attr { value: &[b'a'; 17], ..attr }.name::<16>().unwrap_err().kind(),
            DecodeErrorKind::LongName
        );
    }
}
