//! An allocator that takes large blocks in large pages.
//!
//! A flow is found by a hash, so every access of a large cache meets another page. With pages of
//! 4 KiB the walk of the page tables, twice as long in a virtual machine, costs more than all the
//! rest of the work on a flow; measured on 300,000 flows it was half of the CPU time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Octets of a large page, and of the smallest block that is aligned to one.
const LARGE: usize = 2 << 20;
/// Octets of a page: a block's end is rounded up to one.
const PAGE: usize = 4096;

/// The system's allocator; blocks of 2 MiB and more come from the kernel itself, aligned to large
/// pages. Where the system forbids large pages these blocks have small ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct LargePages;

/// Maps `bytes`, aligned to a large page; null if there is no memory. The memory is zeroed.
fn map(bytes: usize) -> *mut u8 {
    let Some(reserved) = bytes.checked_add(LARGE) else { return ptr::null_mut() };
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: with a null hint the kernel chooses an unused range.
    let mapped =
        unsafe { mmap_anonymous(ptr::null_mut(), reserved, protection, MapFlags::PRIVATE) };
    let Ok(start) = mapped.map(|start| start.cast::<u8>()) else { return ptr::null_mut() };
    let head = start.align_offset(LARGE);
    let block = start.wrapping_add(head);
    // SAFETY: both ranges are parts of the mapping that was just made and lie outside of the block.
    unsafe {
        if head > 0 {
            let _ = munmap(start.cast(), head);
        }
        let _ = munmap(block.wrapping_add(bytes).cast(), LARGE - head);
    }
    // SAFETY: the range is the block; advice does not change its contents.
    let _ = unsafe { madvise(block.cast(), bytes, Advice::LinuxHugepage) };
    block
}

const fn is_large(layout: &Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= LARGE
}

const fn pages(layout: &Layout) -> usize {
    layout.size().next_multiple_of(PAGE)
}

// SAFETY: a block is either the system allocator's, with the caller's arguments passed on, or a
// mapping of its own; which one follows from the layout, which the caller names again at the end.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return map(pages(&layout));
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return map(pages(&layout));
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: the size does not overflow when rounded up.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !is_large(&layout) && !is_large(&new_layout) {
            // SAFETY: the caller's promise.
            return unsafe { System.realloc(old, layout, size) };
        }
        // SAFETY: the caller's promise, and the new layout is valid.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both blocks have that many octets and do not overlap.
            unsafe { ptr::copy_nonoverlapping(old, new, layout.size().min(size)) };
            // SAFETY: the caller's promise; the block is not used any more.
            unsafe { self.dealloc(old, layout) };
        }
        new
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        if is_large(&layout) {
            // SAFETY: the block is a mapping of that length, which nobody uses any more.
            let _ = unsafe { munmap(old.cast(), pages(&layout)) };
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_aligned_zeroed_and_keep_their_contents() {
        let small = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: the layouts are valid, each block is given back with the layout it has then.
        unsafe {
            let block = LargePages.alloc(small);
            block.write_bytes(7, 1000);
            let block = LargePages.realloc(block, small, 5 << 20);
            let large = Layout::from_size_align(5 << 20, 8).unwrap();
            assert_eq!(block.align_offset(LARGE), 0);
            assert_eq!((*block, *block.add(999), *block.add(1000)), (7, 7, 0));
            assert_eq!(*block.add((5 << 20) - 1), 0);
            let block = LargePages.realloc(block, large, 1000);
            assert_eq!((*block, *block.add(999)), (7, 7));
            LargePages.dealloc(block, small);
        }
    }
}
