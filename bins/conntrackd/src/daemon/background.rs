//! Leaving the terminal: the first process waits until the second one has started, so that its
//! exit status tells whether that worked.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use ::io::process::{Fork, fork};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{chdir, setsid};

use crate::notify::Notify;

/// Which process this is.
pub(super) enum Side {
    /// The one that the user started; it exits with this status.
    Parent(u8),
    /// The daemon.
    Child(Parent),
}

/// The process that waits.
pub(super) struct Parent(OwnedFd);

impl Parent {
    /// Tells it that the daemon runs.
    pub(super) fn release(self) {
        let _ = rustix::io::write(&self.0, &[1]);
    }
}

/// Makes the daemon's process. There must be no other thread yet.
pub(super) fn leave(notify: &Notify) -> io::Result<Side> {
    let (wait, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    match fork()? {
        Fork::Parent { child } => {
            drop(tell);
            let mut told = [0];
            let started = loop {
                match rustix::io::read(&wait, &mut told) {
                    Err(rustix::io::Errno::INTR) => {}
                    result => break matches!(result, Ok(1)),
                }
            };
            if started {
                notify.send(&format!("MAINPID={child}"));
            }
            Ok(Side::Parent(u8::from(!started)))
        }
        Fork::Child => {
            drop(wait);
            setsid()?;
            Ok(Side::Child(Parent(tell)))
        }
    }
}

/// Gives up the working directory and the terminal.
pub(super) fn leave_surroundings(background: bool) {
    let _ = chdir("/");
    // What must not be closed is replaced: a later file would get its number.
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&null);
    if background {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
