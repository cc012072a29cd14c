//! Layouts seen before.
//!
//! The messages of a peer are of few shapes: those of one kind of flow have the same attributes at
//! the same places. A walk goes from one length to the next and waits for each; that a message has
//! a known layout is seen by comparing all of its attribute headers at once.

use super::{ATTR_HEADER, Table};

/// Layouts that are kept.
const PLACES: usize = 16;
/// Attributes of the longest layout that is kept: both translations, mark, zone and window scales
/// of a TCP flow. Flows that have more are rare.
const HEADERS: usize = 16;

/// The layout of one payload. One without a header stands for none.
#[derive(Clone, Copy, Debug)]
struct Layout<const N: usize> {
    /// Octets of the payload.
    length: usize,
    /// Where each attribute begins, and its header.
    headers: [(u16, [u8; ATTR_HEADER]); HEADERS],
    count: usize,
    seen: u64,
    at: [u16; N],
}

impl<const N: usize> Layout<N> {
    const NONE: Self = Self {
        length: 0,
        headers: [(0, [0; ATTR_HEADER]); HEADERS],
        count: 0,
        seen: 0,
        at: [0; N],
    };

    /// Whether a walk over `payload` would take the same steps as that over the one learned.
    #[inline]
    fn is_of(&self, payload: &[u8]) -> bool {
        let headers = self.headers.get(..self.count).unwrap_or_default();
        let differ = headers.iter().fold(0, |differ, &(at, header)| {
            let here = payload.get(usize::from(at)..).and_then(<[u8]>::first_chunk);
            differ | here.map_or(1, |h| u32::from_ne_bytes(*h) ^ u32::from_ne_bytes(header))
        });
        differ == 0 && self.length == payload.len() && self.count > 0
    }
}

/// The layouts of payloads that were found valid; of those of one length, the last one's.
#[derive(Debug)]
pub(crate) struct Layouts<const N: usize> {
    known: Box<[Layout<N>; PLACES]>,
}

impl<const N: usize> Layouts<N> {
    pub(crate) fn new() -> Self {
        Self { known: Box::new([Layout::NONE; PLACES]) }
    }

    /// Attributes come in steps of four octets.
    const fn place(payload: &[u8]) -> usize {
        payload.len() / 4 % PLACES
    }

    /// Fills `table` as it was filled for a payload of the same layout; `false` if none is known.
    #[inline]
    pub(crate) fn recall<'a>(&self, payload: &'a [u8], table: &mut Table<'a, N>) -> bool {
        let layout = &self.known[Self::place(payload)];
        if !layout.is_of(payload) {
            return false;
        }
        *table = Table { payload, seen: layout.seen, at: layout.at };
        true
    }

    /// Remembers the layout of a valid payload.
    #[cold]
    pub(crate) fn learn(&mut self, table: &Table<'_, N>) {
        let payload = table.payload;
        let mut layout =
            Layout { length: payload.len(), seen: table.seen, at: table.at, ..Layout::NONE };
        let mut offset = 0;
        while let Some(header) = payload.get(offset..).and_then(<[u8]>::first_chunk::<ATTR_HEADER>)
        {
            // So few octets at the end are no attribute.
            if payload.len() - offset == ATTR_HEADER {
                break;
            }
            let Some(place) = layout.headers.get_mut(layout.count) else { return };
            *place = (offset as u16, *header);
            layout.count += 1;
            let [high, low, ..] = *header;
            // Of a valid payload no length is below that of the header.
            let length = usize::from(u16::from_be_bytes([high, low])).max(ATTR_HEADER);
            offset += length.next_multiple_of(4);
        }
        self.known[Self::place(payload)] = layout;
    }
}
