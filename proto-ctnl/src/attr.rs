//! Netlink attributes (`struct nlattr`): walking them in borrowed bytes.
//!
//! What this layer promises: no input makes it panic or loop, nothing beyond the slice it was
//! given is read, and every error names the octet.

use zerocopy::byteorder::native_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::consts::{NLA_F_NESTED, NLA_TYPE_MASK};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::name::Name;

/// `struct nlattr`, of host order: length (header included, padding excluded) and type, held as
/// one word, because comparing a whole header with an expected one is what the fixed-offset
/// decoders do most.
#[derive(
    Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug,
)]
#[repr(C)]
pub(crate) struct AttrHead(U32);

/// Octets of an attribute's header.
pub(crate) const HEAD: usize = size_of::<AttrHead>();

impl AttrHead {
    /// The header of an attribute whose value has `value` octets.
    pub(crate) const fn new(kind: u16, value: u16) -> Self {
        let ([l0, l1], [k0, k1]) = ((HEAD as u16 + value).to_ne_bytes(), kind.to_ne_bytes());
        Self(U32::new(u32::from_ne_bytes([l0, l1, k0, k1])))
    }

    /// The header of a nest of `value` octets, as the kernel flags it.
    pub(crate) const fn nest(kind: u16, value: u16) -> Self {
        Self::new(kind | NLA_F_NESTED, value)
    }

    /// Octets of header and value.
    pub(crate) const fn len(self) -> u16 {
        let word = self.0.get();
        if cfg!(target_endian = "little") { word as u16 } else { (word >> 16) as u16 }
    }

    /// Number and flags.
    pub(crate) const fn kind(self) -> u16 {
        let word = self.0.get();
        if cfg!(target_endian = "little") { (word >> 16) as u16 } else { word as u16 }
    }
}

/// Whether each header is the expected one. Looks at all of them: they nearly always are, and
/// then one branch is cheaper than many.
#[inline(always)]
pub(crate) fn all_same<const N: usize>(pairs: [(AttrHead, AttrHead); N]) -> bool {
    pairs.iter().fold(0, |differing, (a, b)| differing | a.0.get() ^ b.0.get()) == 0
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
        Attrs::new(self.value, self.offset + HEAD)
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
    bytes: &'a [u8],
    /// Where the next attribute starts in `bytes`.
    at: usize,
    /// Offset of `bytes` in the message.
    base: usize,
}

impl<'a> Attrs<'a> {
    /// The attributes of `bytes`, which stand `offset` octets after the start of their message.
    pub const fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, at: 0, base: offset }
    }
}

/// The error of an attribute that starts `rest`, at `offset`, and whose length is bad.
#[cold]
#[inline(never)]
fn bad_length(rest: &[u8], offset: usize) -> DecodeError {
    let error = DecodeError::new(DecodeErrorKind::AttrLength, offset);
    match AttrHead::ref_from_prefix(rest) {
        Ok((head, _)) => error.within(head.kind() & NLA_TYPE_MASK),
        Err(_) => error,
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, DecodeError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let offset = self.base + at;
        // An error is the last item.
        self.at = self.bytes.len();
        let Ok((head, _)) = AttrHead::ref_from_prefix(rest) else {
            return Some(Err(bad_length(rest, offset)));
        };
        let (len, kind) = (usize::from(head.len()), head.kind());
        let Some(value) = rest.get(HEAD..len) else {
            return Some(Err(bad_length(rest, offset)));
        };
        // The last attribute of a message need not be padded: this may point beyond the end.
        self.at = at + aligned(len);
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
