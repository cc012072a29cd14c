//! Send buffers: a fixed number of equal ones, made with the ring, shared by operations.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;

use crate::map::Mapping;

/// The send buffers of a ring.
#[derive(Debug)]
pub(super) struct Arena {
    data: Mapping,
    size: usize,
    /// Holders of each buffer.
    holders: Box<[Cell<u32>]>,
    /// Buffers without holder. The last one given back is the first one used again: it is warm.
    free: RefCell<Vec<u32>>,
}

impl Arena {
    pub(super) fn new(count: u16, size: u32) -> io::Result<Self> {
        let size = size.next_multiple_of(64).max(64) as usize;
        let count = u32::from(count.max(1));
        Ok(Self {
            data: Mapping::anonymous(count as usize * size)?,
            size,
            holders: (0..count).map(|_| Cell::new(0)).collect(),
            free: RefCell::new((0..count).rev().collect()),
        })
    }

    pub(super) fn free(&self) -> usize {
        self.free.borrow().len()
    }

    pub(super) fn take(self: &Rc<Self>) -> Option<SendBuffer> {
        let index = self.free.borrow_mut().pop()?;
        self.holders[index as usize].set(1);
        Some(SendBuffer { held: Held { arena: Rc::clone(self), index } })
    }
}

/// One hold on a buffer.
#[derive(Debug)]
struct Held {
    arena: Rc<Arena>,
    index: u32,
}

impl Held {
    fn start(&self) -> *mut u8 {
        // SAFETY: `index` is below the number of buffers, so the offset lies in the mapping.
        unsafe { self.arena.data.start().add(self.index as usize * self.arena.size) }
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        let holders = &self.arena.holders[self.index as usize];
        holders.set(holders.get() + 1);
        Self { arena: Rc::clone(&self.arena), index: self.index }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let holders = &self.arena.holders[self.index as usize];
        holders.set(holders.get() - 1);
        if holders.get() == 0 {
            self.arena.free.borrow_mut().push(self.index);
        }
    }
}

/// A send buffer with one holder, to be filled. Dropping it gives it back.
#[derive(Debug)]
pub struct SendBuffer {
    held: Held,
}

impl SendBuffer {
    /// Ends the filling: from here on the buffer can be shared and only read.
    pub fn freeze(self) -> SendBytes {
        SendBytes { held: self.held }
    }
}

impl Deref for SendBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer has this one holder, and anonymous memory is initialised.
        unsafe { std::slice::from_raw_parts(self.held.start(), self.held.arena.size) }
    }
}

impl DerefMut for SendBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the buffer has this one holder, and anonymous memory is initialised.
        unsafe { std::slice::from_raw_parts_mut(self.held.start(), self.held.arena.size) }
    }
}

/// A filled send buffer. Clones share it; it is free again after the last one was dropped.
#[derive(Clone, Debug)]
pub struct SendBytes {
    held: Held,
}

impl SendBytes {
    /// Address and length of a range, cut to the buffer.
    pub(super) fn range(&self, range: &Range<usize>) -> &[u8] {
        let end = range.end.min(self.len());
        &self[range.start.min(end)..end]
    }
}

impl Deref for SendBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: frozen buffers are read by everybody and written by nobody.
        unsafe { std::slice::from_raw_parts(self.held.start(), self.held.arena.size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_free_after_its_last_holder() {
        let arena = Rc::new(Arena::new(2, 100).unwrap());
        let mut first = arena.take().unwrap();
        first[127] = 7;
        let second = arena.take().unwrap();
        assert!(arena.take().is_none());
        let shared = first.freeze();
        let again = shared.clone();
        drop(shared);
        assert_eq!((again[127], arena.free()), (7, 0));
        drop(again);
        drop(second);
        assert_eq!(arena.free(), 2);
    }
}
