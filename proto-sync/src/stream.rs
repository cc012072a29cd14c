//! Messages out of a byte stream.
//!
//! A stream cuts messages anywhere. What is whole is passed on from where it was received; only a
//! message that continues in the next read is copied.

use std::time::{Duration, Instant};

use zerocopy::FromBytes;

use crate::frame::{HEADER_LEN, Header, RANGE_LEN};

/// Nothing after this point of the stream can be told apart: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenStream;

impl core::fmt::Display for BrokenStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("stream is out of step: bad message length")
    }
}

impl core::error::Error for BrokenStream {}

/// Holds the beginning of a message until the rest arrives. One per connection.
#[derive(Clone, Debug)]
pub struct Reassembler {
    partial: Vec<u8>,
    /// When the connection was made, if it is known.
    began: Option<Instant>,
    /// Of the runs that were accepted from this or another connection, the number of its last.
    heard: u64,
}

/// Time after which nothing comes any more from connections that are older than another.
const OVERTAKEN: Duration = Duration::from_secs(5);

impl Default for Reassembler {
    fn default() -> Self {
        Self::new()
    }
}

impl Reassembler {
    /// Takes the memory for the longest message at once.
    pub fn new() -> Self {
        Self { partial: Vec::with_capacity(usize::from(u16::MAX)), began: None, heard: 0 }
    }

    /// Octets of a message that is not whole yet.
    pub fn pending(&self) -> usize {
        self.partial.len()
    }

    /// Forgets an unfinished message, as a new connection requires.
    pub fn reset(&mut self) {
        self.partial.clear();
    }

    /// A new connection was made.
    pub fn begin(&mut self, now: Instant) {
        self.reset();
        self.began = Some(now);
        self.heard = 0;
    }

    /// Something from this connection was accepted, as the run of number `heard`.
    pub(crate) const fn accepted(&mut self, heard: u64) {
        self.heard = heard;
    }

    /// Whether what comes was sent before that which another connection brought: run `heard` came by
    /// another one, at `at`, long after this one was made. A peer that starts again connects anew.
    pub(crate) fn is_overtaken(&self, heard: u64, at: Option<Instant>) -> bool {
        let (Some(began), Some(at)) = (self.began, at) else { return false };
        self.heard != heard && at.saturating_duration_since(began) > OVERTAKEN
    }

    /// Adds what was read and calls `whole` with runs of whole messages, in order.
    ///
    /// # Errors
    /// A length that no message can have. `whole` has got everything before it, and the bad header,
    /// so that it is counted; the rest is dropped.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        mut whole: impl FnMut(&[u8]),
    ) -> Result<(), BrokenStream> {
        while !self.partial.is_empty() {
            let Some(length) = message_length(&self.partial) else {
                // The header itself was cut.
                let Some((&first, rest)) = bytes.split_first() else { return Ok(()) };
                self.partial.push(first);
                bytes = rest;
                continue;
            };
            let Ok(length) = length else {
                whole(&self.partial);
                self.partial.clear();
                return Err(BrokenStream);
            };
            let missing = length.saturating_sub(self.partial.len());
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(now);
            bytes = rest;
            if self.partial.len() < length {
                return Ok(());
            }
            whole(&self.partial);
            self.partial.clear();
        }
        let mut end = 0;
        loop {
            let rest = bytes.get(end..).unwrap_or_default();
            match message_length(rest) {
                Some(Ok(length)) if length <= rest.len() => end += length,
                Some(Err(BrokenStream)) => {
                    whole(bytes.get(..end + HEADER_LEN).unwrap_or(bytes));
                    return Err(BrokenStream);
                }
                _ => {
                    if let (true, Some(run)) = (end > 0, bytes.get(..end)) {
                        whole(run);
                    }
                    self.partial.extend_from_slice(rest);
                    return Ok(());
                }
            }
        }
    }
}

/// The length of the message that `bytes` starts with; `None` while the header is not whole.
fn message_length(bytes: &[u8]) -> Option<Result<usize, BrokenStream>> {
    let (header, _) = Header::ref_from_prefix(bytes).ok()?;
    let least = if header.is_ranged() { RANGE_LEN } else { HEADER_LEN };
    let length = usize::from(header.length.get());
    Some(if length < least { Err(BrokenStream) } else { Ok(length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: [u8; 40] = [
        0x10, 0, 0, 12, 0, 0, 0, 1, 9, 9, 9, 9, // state of 12 octets
        0x1a, 8, 0, 16, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, // acknowledgement
        0x1a, 0x10, 0, 12, 0, 0, 0, 3, 7, 7, 7, 7, // keepalive with more behind it
    ];

    #[test]
    fn any_cut_gives_the_same_messages() {
        for piece in 1..STREAM.len() {
            let mut r = Reassembler::new();
            let mut seen = Vec::new();
            for part in STREAM.chunks(piece) {
                r.push(part, |run| seen.extend_from_slice(run)).unwrap();
            }
            assert_eq!((seen.as_slice(), r.pending()), (&STREAM[..], 0), "pieces of {piece}");
        }
    }

    #[test]
    fn a_reset_forgets_the_cut_message() {
        let mut r = Reassembler::new();
        r.push(&STREAM[..20], |run| assert_eq!(run, &STREAM[..12])).unwrap();
        assert_eq!(r.pending(), 8);
        r.reset();
        let mut seen = Vec::new();
        r.push(&STREAM[28..], |run| seen.extend_from_slice(run)).unwrap();
        assert_eq!(seen, &STREAM[28..]);
    }

    #[test]
    fn a_bad_length_breaks_the_stream_in_any_cut() {
        let mut bad = STREAM;
        bad[15] = 12; // too short for an acknowledgement
        for piece in 1..STREAM.len() {
            let mut r = Reassembler::new();
            let mut seen = Vec::new();
            let broken = bad
                .chunks(piece)
                .any(|part| r.push(part, |run| seen.extend_from_slice(run)) == Err(BrokenStream));
            assert!(broken, "pieces of {piece}");
            assert_eq!(seen, &bad[..20], "pieces of {piece}");
        }
    }
}
