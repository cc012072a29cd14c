//! Reading a BPF ring buffer in place (`kernel/bpf/ringbuf.c`).
//!
//! A record is a header of eight octets and its content, rounded up to eight. The kernel writes
//! the header's length word last, which releases the record; the reader releases the space by
//! moving the consumer position.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::fd::Fd;
use crate::map::Mapping;

/// The record is being written.
const BUSY: u32 = 1 << 31;
/// The record was given up by its writer.
const DISCARDED: u32 = 1 << 30;
/// Octets of a record's header.
const HEADER: u64 = 8;
/// Records between two releases: each one moves a cache line that writers look at.
const RELEASE_EVERY: usize = 64;

/// The reading end of one ring.
#[derive(Debug)]
pub(super) struct BpfRing {
    fd: Fd,
    /// One page with the consumer position, written by us.
    consumer: Mapping,
    /// One page with the producer position, then the records twice in a row, so that none wraps.
    records: Mapping,
    page: usize,
    /// Octets of the ring minus one.
    mask: u64,
    /// Our position; the shared one follows it.
    position: u64,
    /// The position that was released.
    released: u64,
}

/// What a drain found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) messages: usize,
    /// Whether the budget ended the drain.
    pub(super) more: bool,
    /// Whether a record that is being written did.
    pub(super) busy: bool,
}

impl BpfRing {
    /// Maps the ring behind `fd`, which was made with `octets`.
    pub(super) fn map(fd: OwnedFd, octets: u32) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let consumer = Mapping::shared(fd.as_fd(), 0, page, true)?;
        let data = 2 * octets as usize;
        let records = Mapping::shared(fd.as_fd(), page as u64, page + data, false)?;
        let fd = fd.into();
        let mask = u64::from(octets) - 1;
        let mut ring = Self { fd, consumer, records, page, mask, position: 0, released: 0 };
        ring.position = ring.consumer_position().load(Ordering::Relaxed);
        ring.released = ring.position;
        Ok(ring)
    }

    /// The descriptor, ready to be read while records wait.
    pub(super) fn fd(&self) -> &Fd {
        &self.fd
    }

    fn consumer_position(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped as long as the value lives, is aligned, and both sides
        // access the word atomically.
        unsafe { AtomicU64::from_ptr(self.consumer.start().cast()) }
    }

    fn producer_position(&self) -> u64 {
        // SAFETY: as above; the page is mapped for reading and the load writes nothing.
        unsafe { (*self.records.start().cast::<AtomicU64>()).load(Ordering::Acquire) }
    }

    /// The header of the record at a position: octets and flags.
    fn header(&self, position: u64) -> u32 {
        let at = self.page + (position & self.mask) as usize;
        // SAFETY: the offset lies in the first copy of the data, and records are aligned to
        // eight octets; the load writes nothing.
        unsafe { (*self.records.start().add(at).cast::<AtomicU32>()).load(Ordering::Acquire) }
    }

    /// Whether a complete record waits. After the caller has decided to sleep on the descriptor
    /// this is the last look: the kernel wakes only for records that it writes after the reader
    /// has caught up.
    pub(super) fn has_record(&self) -> bool {
        fence(Ordering::SeqCst);
        let head = self.producer_position();
        self.position < head && self.header(self.position) & BUSY == 0
    }

    /// Hands out the contents of at most `budget` records, in order, in place.
    pub(super) fn drain(&mut self, budget: usize, mut visit: impl FnMut(&[u8])) -> Found {
        let mut found = Found::default();
        let mut producer = self.producer_position();
        while found.messages < budget {
            if self.position >= producer {
                producer = self.producer_position();
                if self.position >= producer {
                    break;
                }
            }
            let header = self.header(self.position);
            if header & BUSY != 0 {
                found.busy = true;
                break;
            }
            let length = u64::from(header & !(BUSY | DISCARDED));
            // A length that reaches past the ring cannot be; the ring would be unreadable.
            let Some(content) = self.content(length) else { break };
            if header & DISCARDED == 0 {
                visit(content);
                found.messages += 1;
            }
            self.position += (length + HEADER).next_multiple_of(8);
            if found.messages % RELEASE_EVERY == RELEASE_EVERY - 1 {
                self.release();
            }
        }
        found.more = found.messages >= budget && self.position < producer;
        self.release();
        found
    }

    /// The content of the record at our position.
    fn content(&self, length: u64) -> Option<&[u8]> {
        if length + HEADER > self.mask + 1 {
            return None;
        }
        let at = self.page + (self.position & self.mask) as usize + HEADER as usize;
        // SAFETY: the record begins in the first copy of the data and is no longer than the
        // ring, so it ends in the second one. It was released by its writer, and the kernel
        // writes there again only after the consumer position has passed it, which the borrow of
        // `self` forbids.
        Some(unsafe { std::slice::from_raw_parts(self.records.start().add(at), length as usize) })
    }

    /// Gives the space of what was read back to the kernel.
    fn release(&mut self) {
        if self.released != self.position {
            self.released = self.position;
            self.consumer_position().store(self.position, Ordering::Release);
        }
    }
}
