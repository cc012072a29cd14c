//! Many requests with one send, and their answers in bulk.
//!
//! Each datagram carries as many requests as the socket has room for answers. Only the last one
//! asks for an acknowledgement: errors are told in any case, so what brings no answer was done.

use proto_ctnl::consts::flag;
use proto_ctnl::{Content, Encoder, Full};

use crate::kernel::{Errno, Kernel};

/// Octets of requests in one datagram, well below the default send buffer.
const BATCH_BYTES: usize = 64 << 10;
/// Requests in one datagram at most.
const BATCH_MAX: u32 = 256;
/// Octets that the socket is charged for one answer, at most: an entry with everything.
const ANSWER_CHARGE: u32 = 4096;
/// Offset of the flags in the header of a request.
const FLAGS_AT: usize = 6;
/// Offset of the sequence number.
const SEQ_AT: usize = 8;

/// A socket with a datagram that is being filled.
pub(crate) struct Pipeline {
    kernel: Kernel,
    buffer: Vec<u8>,
    len: usize,
    last: usize,
    count: u32,
    most: u32,
}

impl Pipeline {
    pub(crate) fn new(kernel: Kernel) -> Self {
        let most = (kernel.answer_room() / ANSWER_CHARGE).clamp(1, BATCH_MAX);
        Self { kernel, buffer: vec![0; BATCH_BYTES], len: 0, last: 0, count: 0, most }
    }

    /// The socket, for words about errors.
    pub(crate) const fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// Limits the requests of the next datagrams.
    pub(crate) fn limit(&mut self, most: u32) {
        let room = (self.kernel.answer_room() / ANSWER_CHARGE).clamp(1, BATCH_MAX);
        self.most = most.clamp(1, room);
    }

    /// Whether the next request must wait for an exchange.
    pub(crate) const fn is_full(&self) -> bool {
        self.count >= self.most
    }

    /// Appends the request that `encode` writes. `Full` asks for an exchange first.
    pub(crate) fn push(
        &mut self,
        encode: impl FnOnce(&mut Encoder<'_>, u32) -> Result<(), Full>,
    ) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        let mut encoder = Encoder::new(&mut self.buffer[self.len..]);
        encode(&mut encoder, self.kernel.seq_after(self.count))?;
        let len = encoder.len();
        self.pushed(len);
        Ok(())
    }

    /// Appends a request that was written before.
    pub(crate) fn push_bytes(&mut self, request: &[u8]) -> Result<(), Full> {
        let seq = self.kernel.seq_after(self.count);
        match self.buffer.get_mut(self.len..self.len + request.len()) {
            Some(room) if self.count < self.most => {
                room.copy_from_slice(request);
                room[SEQ_AT..SEQ_AT + 4].copy_from_slice(&seq.to_ne_bytes());
                self.pushed(request.len());
                Ok(())
            }
            _ => Err(Full),
        }
    }

    const fn pushed(&mut self, len: usize) {
        self.last = self.len;
        self.len += len;
        self.count += 1;
    }

    /// Sends what waits. `take` gets each answer with the place of its request, counted from 0;
    /// acknowledgements are not handed on.
    pub(crate) fn exchange(
        &mut self,
        mut take: impl FnMut(usize, Result<Content<'_>, Errno>),
    ) -> Result<(), Errno> {
        if self.count == 0 {
            return Ok(());
        }
        let at = self.last + FLAGS_AT;
        let flags = u16::from_ne_bytes([self.buffer[at], self.buffer[at + 1]]) | flag::ACK;
        self.buffer[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        let (first, count) = (self.kernel.seq_after(0), self.count);
        let len = self.len;
        (self.len, self.last, self.count) = (0, 0, 0);
        self.kernel.transact(&self.buffer[..len], count, |seq, answer| {
            let place = seq.wrapping_sub(first);
            if place >= count {
                return false;
            }
            let ends = place == count - 1;
            match answer {
                Ok(Content::Ack { .. }) => return ends,
                Ok(content) => take(place as usize, Ok(content)),
                Err(errno) => {
                    take(place as usize, Err(errno));
                    return ends;
                }
            }
            false
        })
    }
}
