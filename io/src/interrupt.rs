//! Signals of programs that run until they are told to stop.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::IoError;
use crate::signal::Signals;

/// The signals that end a program (`SIGINT` and `SIGTERM`), caught for as long as the process
/// lives.
#[derive(Debug)]
pub struct Interrupts(Signals);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is something to read.
    Readable,
    /// A signal arrived.
    Interrupted,
}

impl Interrupts {
    /// Catches the signals from now on. Threads started later inherit that.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub fn catch() -> Result<Self, IoError> {
        Signals::block(&[libc::SIGINT, libc::SIGTERM]).map(Self)
    }

    /// Whether a signal has arrived.
    pub fn arrived(&self) -> bool {
        let mut fds = [PollFd::new(self.0.fd(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until something can be written to `other`; once a signal has arrived, no longer than
    /// `grace`. Answers whether it can.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn wait_to_write(&self, other: impl AsFd, grace: Duration) -> io::Result<bool> {
        let mut fds = [
            PollFd::from_borrowed_fd(other.as_fd(), PollFlags::OUT),
            PollFd::new(self.0.fd(), PollFlags::IN),
        ];
        while let Err(error) = poll(&mut fds, None) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        if !fds[0].revents().is_empty() {
            return Ok(true);
        }
        let grace = Timespec::try_from(grace).map_err(io::Error::other)?;
        Ok(poll(&mut fds[..1], Some(&grace)).is_ok_and(|ready| ready > 0))
    }

    /// Waits until there is something to read from `other`, or a signal arrived; the signal counts
    /// more.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn wait(&self, other: impl AsFd) -> io::Result<Woken> {
        let mut fds = [
            PollFd::new(self.0.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN),
        ];
        loop {
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) if !fds[0].revents().is_empty() => return Ok(Woken::Interrupted),
                Ok(_) => return Ok(Woken::Readable),
            }
        }
    }
}

/// Lets the process die when it writes to a pipe that nobody reads, as command line programs do.
/// The run-time library has it get an error instead.
pub fn die_of_broken_pipes() {
    // SAFETY: the default disposition runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Has a write that would make a file larger than this process may make one (`RLIMIT_FSIZE`) fail
/// with `EFBIG`, instead of ending the process.
pub fn refuse_oversized_files() {
    // SAFETY: a signal that is ignored runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
