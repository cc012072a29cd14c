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
/// Records handed out at once: as many as one who handles them can fetch the memory for together.
/// Their space is given back at once too: that moves a cache line that writers look at.
pub(super) const TOGETHER: usize = 16;

/// Octets that are fetched ahead of the reader, some two times the records that are handed out at
/// once: they were written by other cores, or long ago. Without this a backlog costs 140 ns per
/// record on a busy machine, with it 11.
const FETCH_AHEAD: u64 = 8192;
/// Octets of a cache line.
const LINE: u64 = 64;

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
    /// Position that was reached, in octets since the ring was made.
    pub(super) taken: u64,
    /// Position up to which there is something; where nothing waits, that which was reached.
    pub(super) come: u64,
}

/// Records that are handed out together.
struct Gathered {
    count: usize,
    /// Position behind them, and behind those that were given up.
    end: u64,
    /// Whether a record that is being written stands there.
    busy: bool,
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

    /// Asks for the cache line at a position.
    fn fetch(&self, position: u64) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.page + (position & self.mask) as usize;
            // SAFETY: the address lies in the mapping; a prefetch changes nothing but caches.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.records.start().add(at).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = position;
    }

    /// Whether a complete record waits. After the caller has decided to sleep on the descriptor
    /// this is the last look: the kernel wakes only for records that it writes after the reader
    /// has caught up.
    pub(super) fn has_record(&self) -> bool {
        fence(Ordering::SeqCst);
        let head = self.producer_position();
        self.position < head && self.header(self.position) & BUSY == 0
    }

    /// Hands out the contents of at most `budget` records, in order, in place, some at a time.
    pub(super) fn drain(&mut self, budget: usize, mut visit: impl FnMut(&[&[u8]])) -> Found {
        let mut found = Found::default();
        let mut fetched = self.position;
        let mut producer;
        loop {
            producer = self.producer_position();
            fetched = self.fetch_ahead(fetched, producer);
            let mut records = [&[][..]; TOGETHER];
            let most = TOGETHER.min(budget - found.messages);
            let gathered = self.gather(producer, &mut records[..most]);
            let Gathered { count, end, busy } = gathered;
            if count > 0 {
                visit(&records[..count]);
            }
            found.messages += count;
            let passed = end != self.position;
            self.position = end;
            self.release();
            found.busy = busy;
            if busy || !passed || found.messages == budget {
                break;
            }
        }
        found.more = found.messages >= budget && self.position < producer;
        found.taken = self.position;
        found.come = if found.more || found.busy { self.producer_position() } else { found.taken };
        found
    }

    /// Asks for what the next records are in, as far as it is not yet asked for.
    fn fetch_ahead(&self, mut fetched: u64, producer: u64) -> u64 {
        let ahead = (self.position + FETCH_AHEAD).min(producer);
        while fetched < ahead {
            self.fetch(fetched);
            fetched += LINE;
        }
        fetched
    }

    /// The contents of the records from our position on, as many as there are and have place.
    fn gather<'a>(&'a self, producer: u64, records: &mut [&'a [u8]]) -> Gathered {
        let mut gathered = Gathered { count: 0, end: self.position, busy: false };
        while gathered.end < producer
            && let Some(place) = records.get_mut(gathered.count)
        {
            let header = self.header(gathered.end);
            if header & BUSY != 0 {
                gathered.busy = true;
                break;
            }
            let length = u64::from(header & !(BUSY | DISCARDED));
            // A length that reaches past the ring cannot be; the ring would be unreadable.
            let Some(content) = self.content(gathered.end, length) else { break };
            if header & DISCARDED == 0 {
                *place = content;
                gathered.count += 1;
            }
            gathered.end += (length + HEADER).next_multiple_of(8);
        }
        gathered
    }

    /// The content of the record at a position that is not released yet.
    fn content(&self, position: u64, length: u64) -> Option<&[u8]> {
        if length + HEADER > self.mask + 1 {
            return None;
        }
        let at = self.page + (position & self.mask) as usize + HEADER as usize;
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{pread, pwrite};

    const OCTETS: u32 = 4096;

    /// The kernel's end, played over a file with the layout of a ring.
    struct Kernel {
        file: OwnedFd,
        page: u64,
        producer: u64,
    }

    impl Kernel {
        fn new() -> (Self, BpfRing) {
            let page = rustix::param::page_size() as u64;
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let file = rustix::fs::memfd_create("ring", flags).unwrap();
            rustix::fs::ftruncate(&file, 2 * page + 2 * u64::from(OCTETS)).unwrap();
            let ring = BpfRing::map(file.try_clone().unwrap(), OCTETS).unwrap();
            (Self { file, page, producer: 0 }, ring)
        }

        fn put(&self, at: u64, bytes: &[u8]) {
            // The file does not show its data twice by itself.
            for (i, byte) in (at..).zip(bytes) {
                for copy in [0, u64::from(OCTETS)] {
                    let at = 2 * self.page + i % u64::from(OCTETS) + copy;
                    pwrite(&self.file, &[*byte], at).unwrap();
                }
            }
        }

        /// Reserves a record with flags in its header; returns its position.
        fn write(&mut self, flags: u32, content: &[u8]) -> u64 {
            let at = self.producer;
            self.put(at, &(content.len() as u32 | flags).to_ne_bytes());
            self.put(at + HEADER, content);
            self.producer += (content.len() as u64 + HEADER).next_multiple_of(8);
            pwrite(&self.file, &self.producer.to_ne_bytes(), self.page).unwrap();
            at
        }

        fn consumer(&self) -> u64 {
            let mut bytes = [0; 8];
            pread(&self.file, &mut bytes, 0).unwrap();
            u64::from_ne_bytes(bytes)
        }
    }

    fn drain(ring: &mut BpfRing, budget: usize) -> (Vec<Vec<u8>>, Found) {
        let mut seen = Vec::new();
        let found = ring.drain(budget, |some| seen.extend(some.iter().map(|m| m.to_vec())));
        (seen, found)
    }

    #[test]
    fn records_come_in_order_and_their_space_is_given_back() {
        let (mut kernel, mut ring) = Kernel::new();
        assert_eq!(drain(&mut ring, 10), (vec![], Found::default()));
        let mut taken = 0;
        // Several times round, so that records cross the end.
        for round in 0..40u8 {
            let records: Vec<Vec<u8>> = (0..5).map(|i| vec![round ^ i; 100 + i as usize]).collect();
            for record in &records {
                kernel.write(0, record);
            }
            assert!(ring.has_record());
            let (seen, found) = drain(&mut ring, 3);
            assert_eq!((&seen[..], found.more), (&records[..3], true));
            assert!(taken < found.taken && found.come == kernel.producer);
            taken = found.taken;
            let (seen, found) = drain(&mut ring, 3);
            assert_eq!((&seen[..], found.more, found.messages), (&records[3..], false, 2));
            assert!(taken < found.taken && found.come == found.taken);
            taken = found.taken;
            assert_eq!(kernel.consumer(), kernel.producer);
            assert!(!ring.has_record());
        }
        assert!(kernel.producer > 4 * u64::from(OCTETS));
    }

    #[test]
    fn a_record_being_written_hides_what_follows_until_it_is_done() {
        let (mut kernel, mut ring) = Kernel::new();
        kernel.write(0, b"first");
        let busy = kernel.write(BUSY, b"second");
        kernel.write(0, b"third");
        let (seen, found) = drain(&mut ring, 10);
        assert_eq!((seen, found.busy, found.more), (vec![b"first".to_vec()], true, false));
        assert!(!ring.has_record());
        assert_eq!(kernel.consumer(), busy);
        kernel.put(busy, &6u32.to_ne_bytes());
        assert!(ring.has_record());
        let (seen, found) = drain(&mut ring, 10);
        assert_eq!((seen, found.busy), (vec![b"second".to_vec(), b"third".to_vec()], false));
    }

    #[test]
    fn discarded_records_are_passed_over() {
        let (mut kernel, mut ring) = Kernel::new();
        kernel.write(DISCARDED, b"gone");
        kernel.write(0, b"here");
        kernel.write(DISCARDED, b"gone");
        let (seen, found) = drain(&mut ring, 10);
        assert_eq!((seen, found.messages), (vec![b"here".to_vec()], 1));
        assert_eq!(kernel.consumer(), kernel.producer);
    }

    #[test]
    fn a_length_that_cannot_be_stops_the_reader() {
        let (mut kernel, mut ring) = Kernel::new();
        let at = kernel.write(0, b"x");
        kernel.put(at, &(OCTETS - 7).to_ne_bytes());
        assert_eq!(drain(&mut ring, 10).0, Vec::<Vec<u8>>::new());
        assert_eq!(kernel.consumer(), 0);
    }

    #[test]
    fn space_is_given_back_along_the_way() {
        let (mut kernel, mut ring) = Kernel::new();
        for _ in 0..200 {
            kernel.write(0, b"12345678");
        }
        let mut consumed = Vec::new();
        ring.drain(200, |_| consumed.push(kernel.consumer()));
        consumed.dedup();
        assert!(consumed.len() >= 4, "{consumed:?}");
        assert_eq!(kernel.consumer(), kernel.producer);
    }
}
