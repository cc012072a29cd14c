//! Signals as something to be read.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd as _, OwnedFd};

use crate::error::{Context as _, IoError};
use crate::fd::Fd;

/// Signals that are kept from interrupting anything and are read instead.
#[derive(Debug)]
pub struct Signals {
    fd: Fd,
}

impl Signals {
    /// Blocks signals for this thread and the threads that it starts from now on. Call it before
    /// any other thread is started, or those may get them.
    ///
    /// # Errors
    /// If a number is not that of a signal, or no descriptor is free.
    pub fn block(signals: &[i32]) -> Result<Self, IoError> {
        let set = set_of(signals).doing("collect signals")?;
        // SAFETY: the set is initialised and lives through the call; the old mask is not wanted.
        let result =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result)).doing("block signals");
        }
        // SAFETY: as above; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).doing("open a signal descriptor");
        }
        // SAFETY: the descriptor is new and ours.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }.into() })
    }

    /// The descriptor, for [`Ring::poll`](crate::Ring::poll).
    pub fn fd(&self) -> &Fd {
        &self.fd
    }

    /// The next signal that has arrived, if any. After a report of readiness, read until `None`.
    pub fn next(&self) -> Option<i32> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut info) {
            Ok(n) if n == info.len() => {
                let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                i32::try_from(number).ok()
            }
            _ => None,
        }
    }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initialises the set.
    let mut set: libc::sigset_t = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &signal in signals {
        // SAFETY: the set is initialised; a bad number is refused.
        if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read() {
        // On a thread of its own: the mask belongs to it.
        std::thread::spawn(|| {
            let signals = Signals::block(&[libc::SIGUSR1, libc::SIGUSR2]).unwrap();
            assert_eq!(signals.next(), None);
            // SAFETY: the signal goes to this thread, which blocks it.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            assert_eq!(signals.next(), Some(libc::SIGUSR2));
            assert_eq!(signals.next(), None);
            assert!(Signals::block(&[-1]).is_err());
        })
        .join()
        .unwrap();
    }
}
