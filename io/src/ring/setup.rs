//! Making and ending a ring.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::CancelBuilder;
use io_uring::{IoUring, Probe, opcode};

use super::arena::Arena;
use super::bufring::{Buffers, Group};
use super::op::{Kind, Op};
use super::reap::IGNORED;
use super::waker::Waker;
use super::{Ring, RingConfig};
use crate::error::{Context as _, IoError};

/// What the daemon cannot do without, with the kernel that brought it. The last is there for
/// what came with it and cannot be asked for: multishot receives into provided buffers.
const REQUIRED: [(u8, &str); 9] = [
    (opcode::PollAdd::CODE, "poll"),
    (opcode::AsyncCancel::CODE, "cancel"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::RecvMsg::CODE, "recvmsg"),
    (opcode::Accept::CODE, "accept"),
    (opcode::Connect::CODE, "connect"),
    (opcode::Recv::CODE, "recv"),
    (opcode::MsgRingData::CODE, "messages between rings"),
    (opcode::SendZc::CODE, "multishot receive"),
];

/// How long the end of a ring waits for operations that were cancelled.
const END_PATIENCE: u32 = 50;

impl Ring {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// If the kernel is older than 6.0, or io_uring is switched off (`kernel.io_uring_disabled`)
    /// or forbidden by a system call filter.
    pub fn new(config: &RingConfig) -> Result<Self, IoError> {
        let (uring, setup) = build(config)?;
        check(&uring)?;
        let arena = Arena::new(config.send_buffers, config.send_buffer_bytes)
            .doing("allocate send buffers")?;
        let capacity = config.entries.min(4096);
        Ok(Self {
            uring,
            ops: (0..capacity).map(|_| Box::default()).collect(),
            free: (0..capacity).rev().collect(),
            in_flight: 0,
            rearm: Vec::with_capacity(64),
            ready: VecDeque::with_capacity(64),
            groups: Vec::new(),
            arena: Rc::new(arena),
            waker: None,
            peers: Vec::new(),
            setup,
            thread: PhantomData,
        })
    }

    /// The set-up flags in use, for the log.
    pub fn setup(&self) -> &'static str {
        self.setup
    }

    /// Adds a group of `count` receive buffers (rounded up to a power of two, at most 32768) of
    /// `bytes` octets each (rounded up to 64). It lives as long as the ring.
    ///
    /// An event of the kernel fits in 1 KiB, a part of a dump in 32 KiB; for
    /// [`Ring::receive_datagrams`] take [`DATAGRAM_BUFFER_BYTES`](crate::DATAGRAM_BUFFER_BYTES).
    ///
    /// # Errors
    /// If there is no memory, or too many groups.
    pub fn add_group(&mut self, count: u16, bytes: u32) -> Result<Group, IoError> {
        let id = u16::try_from(self.groups.len())
            .map_err(|_| IoError::new("add buffers", "", io::Error::from(io::ErrorKind::Other)))?;
        let buffers = Buffers::new(count, bytes).doing("allocate receive buffers")?;
        // SAFETY: the entries are as many as said and stay where they are; the ring keeps the
        // group until its own descriptor is closed, and the kernel holds the pages longer.
        unsafe {
            self.uring.submitter().register_buf_ring_with_flags(
                buffers.address(),
                buffers.count(),
                id,
                0,
            )
        }
        .doing("register receive buffers")?;
        self.groups.push(Rc::new(buffers));
        Ok(Group(id))
    }

    /// The handle by which other threads wake this one; completions come with `token`. Later
    /// calls return the same handle and change the token.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub fn waker(&mut self, token: u64) -> Result<Waker, IoError> {
        if let Some((waker, current)) = &mut self.waker {
            *current = token;
            return Ok(waker.clone());
        }
        let waker = Waker::new(std::os::fd::AsFd::as_fd(&RingFd(&self.uring)))?;
        self.start(Op::new(token, Kind::Wake, &waker.shared.event))?;
        self.waker = Some((waker.clone(), token));
        Ok(waker)
    }
}

/// Gives the ring's descriptor as a borrowed one.
struct RingFd<'a>(&'a IoUring);

impl std::os::fd::AsFd for RingFd<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the ring that is borrowed.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(self.0)) }
    }
}

/// Tries the set-up flags from best to plainest.
fn build(config: &RingConfig) -> Result<(IoUring, &'static str), IoError> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_cqsize(config.completions.max(config.entries));
    let plain = builder.clone();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    let mut cooperative = plain.clone();
    cooperative.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
    let sets = [
        (builder, "single issuer, deferred task work"),
        (cooperative, "cooperative task work"),
        (plain, "plain"),
    ];
    let mut refusal = None;
    for (builder, name) in sets {
        match builder.build(config.entries.max(8)) {
            Ok(uring) => return Ok((uring, name)),
            // Unknown flags; anything else will not get better with fewer of them.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = Some(error),
            Err(error) => return Err(explain(error)),
        }
    }
    Err(explain(refusal.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))))
}

/// One clear error for each way in which io_uring is not to be had.
fn explain(error: io::Error) -> IoError {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSYS) => "(this kernel has none, or a system call filter hides it)",
        Some(libc::EPERM) => {
            "(not permitted: see kernel.io_uring_disabled and the system call filter)"
        }
        Some(libc::ENOMEM) => "(no memory; before Linux 5.12 the limit on locked memory counts)",
        Some(libc::EMFILE | libc::ENFILE) => "(too many open files)",
        _ => "",
    };
    IoError::new("set up io_uring", hint, error)
}

fn check(uring: &IoUring) -> Result<(), IoError> {
    let unsupported = |what: &str| {
        let error = io::Error::from(io::ErrorKind::Unsupported);
        IoError::new("io_uring of this kernel is too old, Linux 6.0 is needed, for", what, error)
    };
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).doing("ask io_uring for its operations")?;
    if let Some((_, name)) = REQUIRED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        return Err(unsupported(name));
    }
    if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
        return Err(unsupported("waiting with a timeout"));
    }
    Ok(())
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.rearm.clear();
        if self.in_flight > 0 {
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
            let _ = self.push(&cancel.user_data(IGNORED));
        }
        for _ in 0..END_PATIENCE {
            if self.in_flight == 0 {
                return;
            }
            if self.enter(1, None, Duration::from_millis(100)).is_err() {
                break;
            }
            // Ended streams must not be started again.
            while self.next_completion().is_some() {
                self.rearm.clear();
            }
            self.rearm.clear();
        }
        if self.in_flight > 0 {
            // The kernel may still use this memory: never free it.
            std::mem::forget(std::mem::take(&mut self.ops));
            std::mem::forget(std::mem::take(&mut self.groups));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_waits_linger_as_one_does() {
        use std::time::Instant;
        let mut ring = Ring::new(&RingConfig::default()).unwrap();
        let waker = ring.waker(1).unwrap();
        ring.submit().unwrap();
        let (linger, long) = (Duration::from_millis(20), Duration::from_secs(5));
        // Something is there: it lingers all the same, and no longer.
        waker.wake();
        let begin = Instant::now();
        ring.wait_twice(64, linger, long).unwrap();
        assert!(begin.elapsed() >= linger && begin.elapsed() < long / 2);
        assert!(ring.next_completion().is_some());
        // Nothing is there: one is enough after the linger.
        let thread = std::thread::spawn(move || {
            std::thread::sleep(2 * linger);
            waker.wake();
        });
        let begin = Instant::now();
        ring.wait_twice(64, linger, long).unwrap();
        assert!(begin.elapsed() >= 3 * linger / 2 && begin.elapsed() < long / 2);
        assert!(ring.next_completion().is_some());
        thread.join().unwrap();
    }

    #[test]
    fn a_refusal_says_what_to_look_at() {
        let text = |errno| explain(io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::EPERM).contains("kernel.io_uring_disabled"), "{}", text(libc::EPERM));
        assert!(text(libc::ENOSYS).contains("this kernel has none"), "{}", text(libc::ENOSYS));
        assert!(text(libc::EINVAL).starts_with("set up io_uring: "), "{}", text(libc::EINVAL));
    }
}
