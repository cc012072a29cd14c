//! A doubly linked list through the heads of records.

use super::{Head, Record};
use crate::slab::{NIL, Slab};

/// A list through the heads of records.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NIL, last: NIL, len: 0 };

    pub(super) fn push<T: Record, const S: u32>(&mut self, slab: &mut Slab<T, S>, index: u32) {
        let last = self.last;
        let head = slab.at_mut(index).head_mut();
        head.prev = last;
        head.next = NIL;
        if last == NIL {
            self.first = index;
        } else {
            slab.at_mut(last).head_mut().next = index;
        }
        self.last = index;
        self.len += 1;
    }

    pub(super) fn unlink<T: Record, const S: u32>(&mut self, slab: &mut Slab<T, S>, index: u32) {
        let Head { prev, next, .. } = *slab.at(index).head();
        if prev == NIL {
            self.first = next;
        } else {
            slab.at_mut(prev).head_mut().next = next;
        }
        if next == NIL {
            self.last = prev;
        } else {
            slab.at_mut(next).head_mut().prev = prev;
        }
        self.len -= 1;
    }
}
