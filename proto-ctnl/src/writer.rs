//! Writing attributes into a caller's buffer.

use zerocopy::IntoBytes;

use crate::attr::{AttrHead, HEAD, aligned};
use crate::consts::NLA_F_NESTED;

/// Appends attributes to a message.
///
/// What does not fit is not written and makes the message as a whole fail, so that nobody has to
/// look at each attribute's outcome.
#[derive(Debug)]
pub struct Writer<'w> {
    buf: &'w mut [u8],
    at: usize,
    full: bool,
}

impl<'w> Writer<'w> {
    /// Writes behind the first `at` octets of `buf`.
    pub(crate) const fn new(buf: &'w mut [u8], at: usize) -> Self {
        Self { buf, at, full: false }
    }

    /// Octets written so far, or `None` if something did not fit.
    pub(crate) const fn end(&self) -> Option<usize> {
        if self.full { None } else { Some(self.at) }
    }

    /// Appends an attribute with `value` as it is.
    #[inline]
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let len = HEAD + value.len();
        let room = self.buf.get_mut(self.at..).and_then(|rest| rest.get_mut(..aligned(len)));
        let (Some(room), Ok(_)) = (room, u16::try_from(len)) else {
            self.full = true;
            return;
        };
        let (head, rest) = room.split_at_mut(HEAD);
        head.copy_from_slice(AttrHead::new(kind, value.len() as u16).as_bytes());
        let (body, pad) = rest.split_at_mut(value.len());
        body.copy_from_slice(value);
        pad.fill(0);
        self.at += aligned(len);
    }

    /// Appends an octet.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// Appends a big-endian number.
    pub fn u16_be(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends a big-endian number.
    pub fn u32_be(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends a big-endian number.
    pub fn u64_be(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends a number of host order.
    pub fn u32_host(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Appends text and the NUL that ends it.
    pub fn text(&mut self, kind: u16, value: &[u8]) {
        let start = self.at;
        // The NUL is written as the last octet of a value that is one longer.
        let len = value.len() + 1;
        let room = self.buf.get_mut(start..).and_then(|rest| rest.get_mut(..aligned(HEAD + len)));
        let (Some(room), Ok(_)) = (room, u16::try_from(HEAD + len)) else {
            self.full = true;
            return;
        };
        room[..HEAD].copy_from_slice(AttrHead::new(kind, len as u16).as_bytes());
        room[HEAD..HEAD + value.len()].copy_from_slice(value);
        room[HEAD + value.len()..].fill(0);
        self.at += aligned(HEAD + len);
    }

    /// Appends a nest with what `inside` appends.
    #[inline]
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.at;
        self.put(kind | NLA_F_NESTED, &[]);
        inside(self);
        let len = self.at - start;
        match (u16::try_from(len), self.buf.get_mut(start..start + 2)) {
            (Ok(len), Some(field)) => field.copy_from_slice(&len.to_ne_bytes()),
            _ => self.full = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Attrs;

    #[test]
    fn what_is_written_is_read() {
        let mut buf = [0xff; 64];
        let mut writer = Writer::new(&mut buf, 4);
        writer.nest(5, |w| {
            w.text(1, b"ftp");
            w.u8(2, 7);
        });
        writer.u16_be(18, 0x1234);
        assert_eq!(writer.end(), Some(4 + 4 + 8 + 8 + 8));
        let mut attrs = Attrs::new(&buf[4..32], 4);
        let help = attrs.next().unwrap().unwrap();
        assert!(help.nested && help.kind == 5);
        let inner: Vec<_> = help.attrs().map(|a| a.unwrap().value).collect();
        assert_eq!(inner, [&b"ftp\0"[..], &[7]]);
        assert_eq!(attrs.next().unwrap().unwrap().u16_be(), Ok(0x1234));
        assert_eq!(
            buf[4..32],
            *b"\x14\0\x05\x80\x08\0\x01\0ftp\0\x05\0\x02\0\x07\0\0\0\x06\0\x12\0\x12\x34\0\0"
        );
    }

    #[test]
    fn what_does_not_fit_fails_the_whole() {
        for room in 0..24 {
            let mut buf = [0; 24];
            let mut writer = Writer::new(&mut buf[..room], 0);
            writer.nest(1, |w| w.text(2, b"h.323"));
            writer.u8(3, 1);
            assert_eq!(writer.end(), None, "{room}");
        }
        let mut buf = [0; 24];
        let mut writer = Writer::new(&mut buf, 0);
        writer.nest(1, |w| w.text(2, b"h.323"));
        writer.u8(3, 1);
        assert_eq!(writer.end(), Some(24));
    }
}
