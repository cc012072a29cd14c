//! One io_uring per thread: operations go in, completions come out.
//!
//! A [`Ring`] belongs to the thread that made it. Each operation carries a token of the caller's
//! choice, which its completions bring back; one loop per thread looks like this:
//!
//! ```no_run
//! # use std::time::Duration;
//! # fn run(ring: &mut io::Ring) -> Result<(), io::IoError> {
//! loop {
//!     // One wake-up for up to 64 completions or a millisecond, whatever comes first.
//!     ring.wait(64, Duration::from_millis(1))?;
//!     while let Some(completion) = ring.next_completion() {
//!         match (completion.token, completion.outcome) {
//!             (1, io::Outcome::Received(bytes)) => println!("{} octets", bytes.len()),
//!             (2, io::Outcome::Datagrams(datagrams)) => for _one in datagrams.iter() {},
//!             _ => {}
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! Operations that receive, accept or poll go on until they fail, are cancelled or meet the end
//! of a stream: when the kernel ends one of them for a lack of buffers or of room for
//! completions, the ring starts it again by itself.
//!
//! Buffers belong to an operation until its completion: send buffers are frozen and counted,
//! receive buffers come as a [`Lease`]. Dropping a ring cancels what is in flight and waits for
//! its end; if the end does not come, the memory is leaked.

mod arena;
mod bufring;
mod op;
mod reap;
mod setup;
mod submit;
mod waker;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use io_uring::IoUring;
use rustix::io::Errno;

use arena::Arena;
pub use arena::{SendBuffer, SendBytes};
use bufring::Buffers;
pub use bufring::{Datagrams, Group, Lease};
use op::Place;
pub use op::SendOptions;
pub use waker::Waker;

/// Sizes of a ring, fixed at its making.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Operations that can be queued between two submissions; a power of two.
    pub entries: u32,
    /// Completions that the kernel can queue before it has to hold them back.
    pub completions: u32,
    /// Number of send buffers.
    pub send_buffers: u16,
    /// Octets of each send buffer. 64 KiB hold the most that one segmented send may carry.
    pub send_buffer_bytes: u32,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { entries: 256, completions: 4096, send_buffers: 32, send_buffer_bytes: 1 << 16 }
    }
}

/// The io_uring of one thread.
pub struct Ring {
    // Closed first: what the others hold is free for the kernel to use until then.
    uring: IoUring,
    /// Operations by index; an index without operation is in `free`.
    #[expect(clippy::vec_box, reason = "the kernel is given addresses of places")]
    ops: Vec<Box<Place>>,
    free: Vec<u32>,
    /// Operations that the kernel knows.
    in_flight: usize,
    /// Operations to be started again with the next submission.
    rearm: Vec<u32>,
    /// Completions that did not come from the kernel.
    ready: VecDeque<Completion>,
    groups: Vec<Rc<Buffers>>,
    arena: Rc<Arena>,
    waker: Option<(Waker, u64)>,
    /// Rings that were woken from here, by the number in the completion of a failed message.
    peers: Vec<Waker>,
    setup: &'static str,
    /// A ring is used by the thread that made it.
    thread: PhantomData<*mut ()>,
}

/// An end or a step of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The token given with the operation.
    pub token: u64,
    /// What happened.
    pub outcome: Outcome,
}

/// What a [`Completion`] reports.
#[derive(Debug)]
pub enum Outcome {
    /// A datagram, or the next part of a stream.
    Received(Lease),
    /// Datagrams that the kernel may have merged.
    Datagrams(Datagrams),
    /// The peer has ended the stream. The operation is over.
    Closed,
    /// All was sent: octets.
    Sent(usize),
    /// A connection was accepted.
    Accepted(OwnedFd),
    /// The connection stands.
    Connected,
    /// The descriptor is ready: events of `poll(2)`.
    Ready(u32),
    /// Another thread has woken this one.
    Woken,
    /// All buffers of the group are taken; what arrives waits in the socket. The ring goes on
    /// receiving by itself once a lease was dropped, unless it was to receive once.
    Depleted,
    /// The socket had no room for messages. Receiving goes on, unless it was to happen once.
    Overrun {
        /// How many it lost.
        lost: u32,
    },
    /// Cancelled by the caller or by a chain. The operation is over.
    Cancelled,
    /// The system refused. The operation is over.
    Failed(Errno),
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("setup", &self.setup)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}
