//! Starting operations and waiting for completions.

use std::ops::Range;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, opcode, types};
use socket2::SockAddr;

use std::os::fd::AsRawFd as _;

use super::arena::{SendBuffer, SendBytes};
use super::bufring::Group;
use super::op::{Kind, Op, SendOptions};
use super::reap::{IGNORED, WAKE, WAKE_FAILED};
use super::waker::Waker;
use super::{Completion, Outcome, Ring};
use crate::error::IoError;
use crate::fd::Fd;

impl Ring {
    /// Receives datagrams, one completion each, until cancelled. Datagrams longer than a buffer
    /// of the group are cut without notice.
    ///
    /// # Errors
    /// If the kernel takes no more operations; so for all operations.
    pub fn receive(&mut self, token: u64, fd: &Fd, group: Group) -> Result<(), IoError> {
        let mut op = Op::new(token, Kind::Datagram { group: group.0 }, fd);
        op.drops = crate::sockopt::drops(fd).unwrap_or(0);
        self.start(op)
    }

    /// Receives a stream until its end or until cancelled.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn receive_stream(&mut self, token: u64, fd: &Fd, group: Group) -> Result<(), IoError> {
        self.start(Op::new(token, Kind::Stream { group: group.0 }, fd))
    }

    /// Receives datagrams of a socket on which the kernel merges them (`UDP_GRO`), until
    /// cancelled.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn receive_datagrams(&mut self, token: u64, fd: &Fd, group: Group) -> Result<(), IoError> {
        self.start(Op::new(token, Kind::Merged { group: group.0 }, fd))
    }

    /// Receives once. The sender of a dump writes no more than was asked for, so this is the way
    /// to read one at the reader's pace. The operation is over with its first completion,
    /// whatever that is.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn receive_once(&mut self, token: u64, fd: &Fd, group: Group) -> Result<(), IoError> {
        let mut op = Op::new(token, Kind::Once { group: group.0 }, fd);
        op.drops = crate::sockopt::drops(fd).unwrap_or(0);
        self.start(op)
    }

    /// A send buffer, unless all are in use.
    pub fn send_buffer(&self) -> Option<SendBuffer> {
        self.arena.take()
    }

    /// Send buffers that are not in use.
    pub fn free_send_buffers(&self) -> usize {
        self.arena.free()
    }

    /// Sends a range of a buffer (cut to the buffer's size).
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn send(
        &mut self,
        token: u64,
        fd: &Fd,
        bytes: SendBytes,
        range: Range<usize>,
        options: &SendOptions<'_>,
    ) -> Result<(), IoError> {
        let kind = Kind::Send { whole: options.whole };
        self.start(Op::new(token, kind, fd).sending(bytes, range, options))
    }

    /// Makes room for `count` operations that have to be submitted together, as those of a chain
    /// have. `count` is at most the ring's number of entries.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn reserve(&mut self, count: usize) -> Result<(), IoError> {
        let queue = self.uring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < count {
            self.flush()?;
        }
        Ok(())
    }

    /// Accepts connections until it fails or is cancelled.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn accept(&mut self, token: u64, fd: &Fd) -> Result<(), IoError> {
        self.start(Op::new(token, Kind::Accept, fd))
    }

    /// Connects a stream.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn connect(&mut self, token: u64, fd: &Fd, to: &SockAddr) -> Result<(), IoError> {
        self.start(Op::new(token, Kind::Connect, fd).connecting(to))
    }

    /// Reports each time the descriptor becomes ready to be read. It is a report of edges: read
    /// all before waiting for the next.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn poll(&mut self, token: u64, fd: &Fd) -> Result<(), IoError> {
        self.start(Op::new(token, Kind::Poll { events: libc::POLLIN as u32 }, fd))
    }

    /// Ends all operations with this token; each reports
    /// [`Outcome::Cancelled`](crate::Outcome::Cancelled), unless it ends otherwise before.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn cancel(&mut self, token: u64) -> Result<(), IoError> {
        for index in 0..self.ops.len() {
            if self.ops[index].op.as_ref().is_none_or(|op| op.token != token) {
                continue;
            }
            let index = index as u32;
            if let Some(at) = self.rearm.iter().position(|&i| i == index) {
                self.rearm.swap_remove(at);
                self.release(index);
                self.ready.push_back(Completion { token, outcome: Outcome::Cancelled });
            } else {
                let target = CancelBuilder::user_data(index.into());
                let entry = opcode::AsyncCancel2::new(target).build().user_data(IGNORED);
                self.push(&entry)?;
            }
        }
        Ok(())
    }

    /// Wakes another thread's ring with the next submission, without a system call of its own.
    ///
    /// # Errors
    /// See [`Ring::receive`].
    pub fn wake(&mut self, waker: &Waker) -> Result<(), IoError> {
        if !waker.claim() {
            return Ok(());
        }
        let known =
            self.peers.iter().position(|peer| std::sync::Arc::ptr_eq(&peer.shared, &waker.shared));
        let index = known.unwrap_or_else(|| {
            self.peers.push(waker.clone());
            self.peers.len() - 1
        });
        let target = types::Fd(waker.shared.ring.as_raw_fd());
        // Success needs no completion; a failure names the peer.
        let entry = opcode::MsgRingData::new(target, 0, WAKE, None)
            .build()
            .user_data(WAKE_FAILED | index as u64)
            .flags(Flags::SKIP_SUCCESS);
        self.push(&entry)
    }

    /// Submits what is queued and lets completions arrive, without waiting.
    ///
    /// # Errors
    /// If the kernel refuses the call itself; the errors of operations come as completions.
    pub fn submit(&mut self) -> Result<(), IoError> {
        self.enter(0, None, Duration::ZERO)
    }

    /// Submits what is queued and waits until `want` completions are there or the time is over,
    /// or until a signal comes. One wake-up serves all of them.
    ///
    /// # Errors
    /// If the kernel refuses the call itself; the errors of operations come as completions.
    pub fn wait(&mut self, want: usize, timeout: Duration) -> Result<(), IoError> {
        self.enter(want.max(1), None, timeout)
    }

    /// Like [`Ring::wait`], but waits for `want` completions only for the time `linger`; from
    /// then on, and until `timeout`, one is enough.
    ///
    /// # Errors
    /// See [`Ring::wait`].
    pub fn wait_lingering(
        &mut self,
        want: usize,
        linger: Duration,
        timeout: Duration,
    ) -> Result<(), IoError> {
        if linger.is_zero() || linger >= timeout {
            return self.wait(want, timeout);
        }
        if self.uring.params().is_feature_min_timeout() {
            return self.enter(want.max(1), Some(linger), timeout);
        }
        self.wait_twice(want, linger, timeout)
    }

    /// [`Ring::wait_lingering`] where the kernel does not know it (before Linux 6.12).
    pub(super) fn wait_twice(
        &mut self,
        want: usize,
        linger: Duration,
        timeout: Duration,
    ) -> Result<(), IoError> {
        self.enter(want.max(1), None, linger)?;
        if self.ready.is_empty() && self.uring.completion().is_empty() {
            self.enter(1, None, timeout.saturating_sub(linger))?;
        }
        Ok(())
    }

    /// Gives an operation a place and queues it.
    pub(super) fn start(&mut self, op: Op) -> Result<(), IoError> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.ops.push(Box::default());
            self.ops.len() as u32 - 1
        });
        self.ops[index as usize].op = Some(op);
        let started = self.queue(index);
        if started.is_err() {
            self.release(index);
        }
        started
    }

    /// Queues the operation at `index`, for the first time or again.
    pub(super) fn queue(&mut self, index: u32) -> Result<(), IoError> {
        let Some(op) = self.ops[index as usize].op.as_mut() else { return Ok(()) };
        let entry = op.entry().user_data(index.into());
        self.push(&entry)?;
        self.in_flight += 1;
        Ok(())
    }

    /// Forgets the operation at `index`, which the kernel does not know.
    pub(super) fn release(&mut self, index: u32) {
        self.ops[index as usize].op = None;
        self.free.push(index);
    }

    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), IoError> {
        // SAFETY: what the entry points at is owned by an operation that stays until the kernel
        // has reported its end, or by nobody (messages between rings, cancellations).
        if unsafe { self.uring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.flush()?;
        // SAFETY: as above.
        unsafe { self.uring.submission().push(entry) }.map_err(|_| {
            let error = std::io::Error::from_raw_os_error(libc::EBUSY);
            IoError::new("queue an operation", "", error)
        })
    }

    /// Submits what is queued, nothing else.
    fn flush(&mut self) -> Result<(), IoError> {
        match self.uring.submit() {
            Ok(_) => Ok(()),
            Err(error) if harmless(&error) => Ok(()),
            Err(error) => Err(IoError::new("submit operations", "", error)),
        }
    }

    /// Starts receives again that had ended for a lack of buffers or of room.
    fn start_again(&mut self) -> Result<(), IoError> {
        let mut i = 0;
        while i < self.rearm.len() {
            let index = self.rearm[i];
            let group = self.ops[index as usize].op.as_ref().and_then(|op| op.kind.group());
            let starved = group.is_some_and(|g| self.groups[usize::from(g)].available() == 0);
            if starved {
                i += 1;
            } else {
                self.queue(index)?;
                self.rearm.swap_remove(i);
            }
        }
        Ok(())
    }

    pub(super) fn enter(
        &mut self,
        want: usize,
        linger: Option<Duration>,
        timeout: Duration,
    ) -> Result<(), IoError> {
        self.start_again()?;
        // Do not sleep on top of what is there already.
        let want = if self.ready.is_empty() { want.min(1 << 12) } else { 0 };
        let timeout = Timespec::from(timeout);
        let mut args = SubmitArgs::new().timespec(&timeout);
        if let Some(linger) = linger {
            args = args.min_wait_usec(u32::try_from(linger.as_micros()).unwrap_or(u32::MAX));
        }
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let queued = self.uring.submission().len();
        // SAFETY: the argument is the structure that EXT_ARG announces, and the time it points
        // at outlives the call.
        let entered = unsafe {
            self.uring.submitter().enter(queued as u32, want as u32, flags.bits(), Some(&args))
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if harmless(&error) => Ok(()),
            Err(error) => Err(IoError::new("wait for completions", "", error)),
        }
    }
}

/// Errors of the call that come right by themselves: the time is over, a signal came, or
/// completions have to be looked at first.
fn harmless(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
    )
}
