//! Receive buffers that the kernel picks itself, and the leases under which they are read.

use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::map::Mapping;

/// A group of equal receive buffers of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub(super) u16);

/// `struct io_uring_buf`. The last member of the first entry is the tail of the whole ring.
#[repr(C)]
struct Entry {
    address: u64,
    bytes: u32,
    id: u16,
    tail: AtomicU16,
}

/// The memory of a group. The kernel owns the buffers between the tail it was told and the head
/// it keeps; the others are leased.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: Mapping,
    data: Mapping,
    /// Number of buffers, a power of two.
    count: u16,
    /// Octets of each.
    size: u32,
    tail: Cell<u16>,
    /// Buffers given to the kernel whose use has not been reported.
    available: Cell<u16>,
}

impl Buffers {
    pub(super) fn new(count: u16, size: u32) -> io::Result<Self> {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        let size = size.next_multiple_of(64).max(64);
        let buffers = Self {
            entries: Mapping::anonymous(usize::from(count) * size_of::<Entry>())?,
            data: Mapping::anonymous(usize::from(count) * size as usize)?,
            count,
            size,
            tail: Cell::new(0),
            available: Cell::new(0),
        };
        for id in 0..count {
            buffers.give(id);
        }
        Ok(buffers)
    }

    /// Address of the entries, for registration.
    pub(super) fn address(&self) -> u64 {
        self.entries.start() as u64
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Buffers that the kernel can still fill, as far as completions were looked at.
    pub(super) fn available(&self) -> u16 {
        self.available.get()
    }

    /// Gives a buffer to the kernel.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let at = usize::from(tail & (self.count - 1));
        let entries = self.entries.start().cast::<Entry>();
        // SAFETY: `at` is below `count` entries of a mapping that is aligned to a page. The
        // kernel reads an entry only after the tail below has passed it, and nobody else writes
        // here: the value is not `Sync`. Members are written through raw places because the
        // fourth of entry 0 is the tail.
        unsafe {
            let entry = entries.add(at);
            (&raw mut (*entry).address).write(self.data.start().add(self.offset(id)) as u64);
            (&raw mut (*entry).bytes).write(self.size);
            (&raw mut (*entry).id).write(id);
            self.tail.set(tail.wrapping_add(1));
            (*entries).tail.store(tail.wrapping_add(1), Ordering::Release);
        }
        self.available.set(self.available.get() + 1);
    }

    fn offset(&self, id: u16) -> usize {
        usize::from(id) * self.size as usize
    }

    /// Takes over a buffer that the kernel has filled.
    pub(super) fn lease(self: &Rc<Self>, id: u16, start: usize, len: usize) -> Lease {
        debug_assert!(id < self.count && start + len <= self.size as usize);
        self.available.set(self.available.get().saturating_sub(1));
        let start = start.min(self.size as usize);
        let len = len.min(self.size as usize - start);
        Lease { buffers: Rc::clone(self), id: id & (self.count - 1), start, len }
    }
}

/// Received octets. The buffer goes back to the kernel when the lease is dropped; a lease that
/// is kept leaves the group one buffer short.
#[derive(Debug)]
pub struct Lease {
    buffers: Rc<Buffers>,
    id: u16,
    start: usize,
    len: usize,
}

impl Lease {
    /// Narrows the lease to a part of itself. What lies outside is cut off.
    pub(super) fn narrow(&mut self, start: usize, len: usize) {
        let start = start.min(self.len);
        self.start += start;
        self.len = len.min(self.len - start);
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.buffers.offset(self.id) + self.start;
        // SAFETY: the range lies inside the buffer `id`, which the kernel has handed over with
        // its completion and gets back only when this lease is dropped. Anonymous memory is
        // initialised.
        unsafe { std::slice::from_raw_parts(self.buffers.data.start().add(start), self.len) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.buffers.give(self.id);
    }
}

/// Datagrams that arrived as one, cut by [`Datagrams::iter`].
#[derive(Debug)]
pub struct Datagrams {
    pub(super) lease: Lease,
    /// Octets of each but the last.
    pub(super) segment: usize,
    /// Whether the kernel had more than the buffer could hold.
    pub(super) truncated: bool,
}

impl Datagrams {
    /// The datagrams in the order in which they were sent. A datagram without content is left
    /// out.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.lease.chunks(self.segment.max(1))
    }

    /// Whether the end was cut off because the buffer was too small.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lease_is_available_again() {
        let buffers = Rc::new(Buffers::new(4, 100).unwrap());
        assert_eq!((buffers.available(), buffers.count(), buffers.size), (4, 4, 128));
        let leases: Vec<_> = (0..4).map(|id| buffers.lease(id, 0, 100)).collect();
        assert_eq!(buffers.available(), 0);
        assert_ne!(leases[0].as_ptr(), leases[1].as_ptr());
        drop(leases);
        assert_eq!(buffers.available(), 4);
        assert_eq!(buffers.tail.get(), 8);
    }

    #[test]
    fn narrowing_stays_inside() {
        let buffers = Rc::new(Buffers::new(1, 64).unwrap());
        let mut lease = buffers.lease(0, 10, 20);
        lease.narrow(5, 100);
        assert_eq!(lease.len(), 15);
        lease.narrow(100, 1);
        assert!(lease.is_empty());
    }
}
