//! A descriptor that stays open while an operation of a ring may refer to it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

/// A shared file descriptor. Operations of a [`Ring`](crate::Ring) hold one each, so that a
/// number is never reused under an operation; the descriptor is closed with the last holder.
#[derive(Clone, Debug)]
pub struct Fd(Arc<OwnedFd>);

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }
}

impl From<socket2::Socket> for Fd {
    fn from(socket: socket2::Socket) -> Self {
        OwnedFd::from(socket).into()
    }
}

impl From<std::os::unix::net::UnixListener> for Fd {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        OwnedFd::from(listener).into()
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
