//! Attributes: one walk that fills a table of offsets, and the writer.
//!
//! An attribute is a 16-bit length (header and data, without padding), a 16-bit id, the data and
//! zeros up to a multiple of four. Nothing nests. Of two equal ids the last one counts; an unknown
//! id, a length that does not fit, and a fixed-size attribute of another size reject the message.

mod layouts;

use core::fmt;

use zerocopy::IntoBytes;

pub(crate) use layouts::Layouts;

use crate::frame::{HEADER_LEN, Header, Kind};

const ATTR_HEADER: usize = 4;

/// Why the attributes of a message were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadErrorKind {
    /// An attribute's length is below 4 or beyond the end of the message.
    BadLength,
    /// An attribute id without a meaning.
    UnknownId,
    /// The attribute's data have a size that this attribute can not have.
    BadSize,
    /// More octets than any message has.
    TooLong,
    /// A name with octets that no name of the kernel has: they would go raw to a terminal or into XML.
    BadName,
    /// An attribute without which a message names no flow is not there.
    Missing,
}

/// Why and where the attributes of a message were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadError {
    /// Why.
    pub kind: PayloadErrorKind,
    /// The attribute's id.
    pub id: u16,
    /// Offset of the attribute, from the end of the message header.
    pub offset: u16,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            PayloadErrorKind::BadLength => "bad length",
            PayloadErrorKind::UnknownId => "unknown",
            PayloadErrorKind::BadSize => "bad size",
            PayloadErrorKind::TooLong => "message too long",
            PayloadErrorKind::BadName => "not a name",
            PayloadErrorKind::Missing => "missing",
        };
        write!(f, "attribute {} at offset {}: {what}", self.id, self.offset)
    }
}

impl core::error::Error for PayloadError {}

/// Smallest and largest data size of an attribute, in octets.
pub(crate) type Limits = (u16, u16);

/// An attribute of exactly `n` octets.
pub(crate) const fn exactly(n: u16) -> Limits {
    (n, n)
}

/// An attribute of at most `n` octets.
pub(crate) const fn at_most(n: u16) -> Limits {
    (0, n)
}

/// Where the attributes of a payload are; `N`, at most 64, ids exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a, const N: usize> {
    payload: &'a [u8],
    /// Bit n: attribute n is there.
    seen: u64,
    /// Offset of the attribute's data.
    at: [u16; N],
}

impl<'a, const N: usize> Table<'a, N> {
    /// A place for [`Table::walk`].
    pub(crate) const EMPTY: Self = Self { payload: &[], seen: 0, at: [0; N] };

    /// Walks `payload` once and forgets what was here before. In place: a copy of what was written
    /// in small pieces a moment ago would wait until they have left for the cache.
    #[inline]
    pub(crate) fn walk(
        &mut self,
        payload: &'a [u8],
        limits: &[Limits; N],
    ) -> Result<(), PayloadError> {
        self.payload = payload;
        self.seen = 0;
        if payload.len() > usize::from(u16::MAX) {
            return Err(PayloadError { kind: PayloadErrorKind::TooLong, id: 0, offset: 0 });
        }
        let mut seen = 0;
        let mut rest = payload;
        // Up to four octets at the end are no attribute and no error: the original's walk ends so.
        while rest.len() > ATTR_HEADER {
            let offset = (payload.len() - rest.len()) as u16;
            let length = u16::from_be_bytes([rest[0], rest[1]]);
            let id = u16::from_be_bytes([rest[2], rest[3]]);
            let fail = |kind| Err(PayloadError { kind, id, offset });
            if usize::from(length) < ATTR_HEADER || usize::from(length) > rest.len() {
                return fail(PayloadErrorKind::BadLength);
            }
            let Some(&(least, most)) = limits.get(usize::from(id)) else {
                return fail(PayloadErrorKind::UnknownId);
            };
            let size = length - ATTR_HEADER as u16;
            if size < least || size > most {
                return fail(PayloadErrorKind::BadSize);
            }
            seen |= 1 << id;
            self.at[usize::from(id)] = offset + ATTR_HEADER as u16;
            let step = usize::from(length).next_multiple_of(4);
            rest = rest.get(step..).unwrap_or_default();
        }
        self.seen = seen;
        Ok(())
    }

    /// The error that neither of two attributes, of which one is needed, is there.
    pub(crate) const fn missing(&self, id: u16) -> PayloadError {
        PayloadError { kind: PayloadErrorKind::Missing, id, offset: self.payload.len() as u16 }
    }

    /// Checks that the attribute, if it is there, is a name: visible ASCII without what XML sets apart,
    /// up to the first NUL or the end.
    pub(crate) fn check_name(&self, id: u16) -> Result<(), PayloadError> {
        let text = |octet: &u8| octet.is_ascii_graphic() && !b"<>&\"'".contains(octet);
        let name = self.bytes(id).unwrap_or_default();
        if name.iter().take_while(|&&octet| octet != 0).all(text) {
            return Ok(());
        }
        let offset = self.at[usize::from(id)] - ATTR_HEADER as u16;
        Err(PayloadError { kind: PayloadErrorKind::BadName, id, offset })
    }

    /// Whether attribute `id` is there.
    pub(crate) const fn has(&self, id: u16) -> bool {
        self.seen >> id & 1 == 1
    }

    /// Of two attributes of which one stands for the other only the last one counts.
    pub(crate) fn exclude(&mut self, a: u16, b: u16) {
        if self.has(a) && self.has(b) {
            let loser = if self.at[usize::from(a)] < self.at[usize::from(b)] { a } else { b };
            self.seen &= !(1 << loser);
        }
    }

    /// The data of an attribute of exactly `L` octets.
    pub(crate) fn get<const L: usize>(&self, id: u16) -> Option<&'a [u8; L]> {
        if !self.has(id) {
            return None;
        }
        self.payload.get(usize::from(self.at[usize::from(id)])..)?.first_chunk()
    }

    /// The data of an attribute of any size.
    pub(crate) fn bytes(&self, id: u16) -> Option<&'a [u8]> {
        if !self.has(id) {
            return None;
        }
        let at = usize::from(self.at[usize::from(id)]);
        let length = self.payload.get(at.checked_sub(ATTR_HEADER)?..)?.first_chunk::<2>()?;
        let size = usize::from(u16::from_be_bytes(*length)).checked_sub(ATTR_HEADER)?;
        self.payload.get(at..at + size)
    }

    /// A one-octet attribute.
    pub(crate) fn u8(&self, id: u16) -> Option<u8> {
        self.get::<1>(id).map(|b| b[0])
    }

    /// A 16-bit big-endian attribute.
    pub(crate) fn u16(&self, id: u16) -> Option<u16> {
        self.get(id).map(|b| u16::from_be_bytes(*b))
    }

    /// A 16-bit attribute that travels low octet first.
    pub(crate) fn u16_reversed(&self, id: u16) -> Option<u16> {
        self.get(id).map(|b| u16::from_le_bytes(*b))
    }

    /// A 32-bit big-endian attribute.
    pub(crate) fn u32(&self, id: u16) -> Option<u32> {
        self.get(id).map(|b| u32::from_be_bytes(*b))
    }

    /// An attribute of big-endian words; `L` is four times `W`.
    pub(crate) fn words<const L: usize, const W: usize>(&self, id: u16) -> Option<[u32; W]> {
        let data = self.get::<L>(id)?;
        let mut words = [0; W];
        for (word, octets) in words.iter_mut().zip(data.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*octets);
        }
        Some(words)
    }
}

/// Writes one message into a caller's buffer. Every method gives `None` when the room is used up.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Leaves room for the header.
    pub(crate) fn new(out: &'a mut [u8]) -> Option<Self> {
        (out.len() >= HEADER_LEN).then_some(Self { out, len: HEADER_LEN })
    }

    /// Appends an attribute and its padding.
    #[inline]
    pub(crate) fn put<const L: usize>(&mut self, id: u16, data: [u8; L]) -> Option<()> {
        let step = ATTR_HEADER + L.next_multiple_of(4);
        let cell = self.out.get_mut(self.len..)?.get_mut(..step)?;
        cell[..2].copy_from_slice(&((ATTR_HEADER + L) as u16).to_be_bytes());
        cell[2..4].copy_from_slice(&id.to_be_bytes());
        cell[4..4 + L].copy_from_slice(&data);
        cell[4 + L..].fill(0);
        self.len += step;
        Some(())
    }

    /// Appends a name with its terminating zero.
    pub(crate) fn put_name(&mut self, id: u16, name: &[u8]) -> Option<()> {
        let length = ATTR_HEADER + name.len() + 1;
        let step = length.next_multiple_of(4);
        let cell = self.out.get_mut(self.len..)?.get_mut(..step)?;
        cell[..2].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
        cell[2..4].copy_from_slice(&id.to_be_bytes());
        cell[4..4 + name.len()].copy_from_slice(name);
        cell[4 + name.len()..].fill(0);
        self.len += step;
        Some(())
    }

    /// Appends a 32-bit number.
    #[inline]
    pub(crate) fn put_u32(&mut self, id: u16, value: u32) -> Option<()> {
        self.put(id, value.to_be_bytes())
    }

    /// Appends big-endian words; `L` is four times `W`.
    pub(crate) fn put_words<const W: usize, const L: usize>(
        &mut self,
        id: u16,
        words: [u32; W],
    ) -> Option<()> {
        let mut data = [0; L];
        for (octets, word) in data.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *octets = word.to_be_bytes();
        }
        self.put(id, data)
    }

    /// Writes the header, with flags and sequence number 0, and gives the length.
    pub(crate) fn finish(self, kind: Kind) -> Option<usize> {
        let header = Header::new(kind as u8, 0, u16::try_from(self.len).ok()?, 0);
        self.out.get_mut(..HEADER_LEN)?.copy_from_slice(header.as_bytes());
        Some(self.len)
    }
}
