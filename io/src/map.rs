//! Memory from `mmap(2)`, given back when dropped.

use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A mapping. It hands out its address only; whoever reads or writes through it says why that is
/// sound.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the value owns a range of the address space, which is not tied to a thread; access to
// the memory is the business of the code that uses the address.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Private zeroed memory, at least one octet.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: with a null hint the kernel chooses an unused range.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::PRIVATE)? };
        Self::from_raw(start.cast(), bytes)
    }

    /// A shared mapping of a kernel object.
    pub(crate) fn shared(
        fd: impl AsFd,
        offset: u64,
        bytes: usize,
        writable: bool,
    ) -> io::Result<Self> {
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writable);
        // SAFETY: with a null hint the kernel chooses an unused range.
        let start =
            unsafe { mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd, offset)? };
        Self::from_raw(start.cast(), bytes)
    }

    fn from_raw(start: *mut u8, bytes: usize) -> io::Result<Self> {
        let start =
            NonNull::new(start).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, bytes })
    }

    /// Address of the first octet; aligned to a page.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Length in octets.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by this value, which nobody holds any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
