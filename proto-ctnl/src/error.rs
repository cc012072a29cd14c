//! Why bytes from the kernel could not be decoded, and where.

use core::fmt;

use crate::names::AttrSet;

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum DecodeErrorKind {
    /// Fewer octets than a header needs.
    ShortHeader,
    /// A message's length field is below the header's or beyond the datagram's end.
    MessageLength,
    /// An attribute's length field is below the header's or beyond the end of what holds it.
    AttrLength,
    /// An attribute's value has fewer octets than its type.
    ShortValue,
    /// An attribute that the message must have is not there.
    Missing,
    /// A name is longer than the kernel's limit.
    LongName,
    /// Labels are not whole 32-bit words.
    LabelLength,
    /// The message is longer than any the kernel makes (64 KiB).
    LongMessage,
}

impl DecodeErrorKind {
    const fn text(self) -> &'static str {
        match self {
            Self::ShortHeader => "header cut short",
            Self::MessageLength => "bad message length",
            Self::AttrLength => "bad attribute length",
            Self::ShortValue => "value too short",
            Self::Missing => "missing",
            Self::LongName => "name too long",
            Self::LabelLength => "labels are not whole words",
            Self::LongMessage => "message too long",
        }
    }
}

/// An undecodable message: what was wrong, at which octet, in which attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    root: AttrSet,
    /// Outermost first, ended by 0. Numbers above 255 stand as 255.
    path: [u8; 4],
    offset: u32,
}

impl DecodeError {
    #[cold]
    pub(crate) const fn new(kind: DecodeErrorKind, offset: usize) -> Self {
        let offset = if offset > u32::MAX as usize { u32::MAX } else { offset as u32 };
        Self { kind, root: AttrSet::Unknown, path: [0; 4], offset }
    }

    /// The same error, seen from the attribute that holds its place.
    #[cold]
    pub(crate) const fn within(mut self, attr: u16) -> Self {
        let [a, b, c, _] = self.path;
        let outer = if attr > 255 { 255 } else { attr as u8 };
        self.path = [outer, a, b, c];
        self
    }

    /// The same error, with the enumeration of the outermost attribute.
    #[cold]
    pub(crate) const fn rooted(mut self, root: AttrSet) -> Self {
        self.root = root;
        self
    }

    /// What was wrong.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// Offset in octets from the start of the message, or of the datagram if its messages could
    /// not be told apart.
    pub const fn offset(&self) -> usize {
        self.offset as usize
    }

    /// Numbers of the attributes that hold the place, outermost first.
    pub fn path(&self) -> impl Iterator<Item = u16> + '_ {
        self.path.iter().take_while(|&&kind| kind != 0).map(|&kind| u16::from(kind))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}", self.kind.text(), self.offset)?;
        let mut set = self.root;
        for (depth, kind) in self.path().enumerate() {
            f.write_str(if depth == 0 { " in " } else { "." })?;
            match set.name(kind) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "attribute {kind}")?,
            }
            set = set.inside(kind);
        }
        Ok(())
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({self})")
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consts::*;

    #[test]
    fn is_small_and_names_the_attributes() {
        assert!(size_of::<DecodeError>() <= 16);
        assert!(size_of::<Result<(), DecodeError>>() <= 16);
        let error = DecodeError::new(DecodeErrorKind::ShortValue, 44)
            .within(CTA_PROTO_SRC_PORT)
            .within(CTA_TUPLE_PROTO)
            .within(CTA_TUPLE_REPLY)
            .rooted(AttrSet::Flow);
        assert_eq!(
            error.to_string(),
            "value too short at octet 44 in CTA_TUPLE_REPLY.CTA_TUPLE_PROTO.CTA_PROTO_SRC_PORT"
        );
        let unknown = DecodeError::new(DecodeErrorKind::AttrLength, 20).within(300);
        assert_eq!(unknown.to_string(), "bad attribute length at octet 20 in attribute 255");
    }
}
