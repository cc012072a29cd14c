//! Waking a thread that waits in its ring, from another thread.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Context as _, IoError};
use crate::fd::Fd;

/// Wakes the ring that made it: the ring's owner sees
/// [`Outcome::Woken`](crate::Outcome::Woken). Wake-ups before that coalesce into one.
#[derive(Clone, Debug)]
pub struct Waker {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// Set by the first wake-up, cleared when the owner sees it.
    pending: AtomicBool,
    /// For threads without a ring. Never read: each write is an edge for the poll on it.
    pub(super) event: Fd,
    /// The ring, for messages from other rings.
    pub(super) ring: OwnedFd,
}

impl Waker {
    pub(super) fn new(ring: impl AsFd) -> Result<Self, IoError> {
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let event = rustix::event::eventfd(0, flags).doing("make an event descriptor")?;
        let ring = ring.as_fd().try_clone_to_owned().doing("duplicate the ring's descriptor")?;
        let pending = AtomicBool::new(false);
        Ok(Self { shared: Arc::new(Shared { pending, event: event.into(), ring }) })
    }

    /// Wakes the ring from any thread, with a system call unless a wake-up is under way. A
    /// thread that has a ring itself had better use [`Ring::wake`](crate::Ring::wake).
    ///
    /// What was written to shared memory before is visible to the owner after it sees the
    /// wake-up.
    pub fn wake(&self) {
        if self.claim() {
            self.write();
        }
    }

    /// Whether the caller has to deliver the wake-up.
    pub(super) fn claim(&self) -> bool {
        !self.shared.pending.swap(true, Ordering::AcqRel)
    }

    /// The owner has seen the wake-up; the next one counts again.
    pub(super) fn seen(&self) {
        self.shared.pending.swap(false, Ordering::AcqRel);
    }

    pub(super) fn write(&self) {
        // A full counter (2^64 - 2 unread wake-ups) cannot be reached and would be a wake-up too.
        let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
    }
}
