//! A running daemon: threads, rings and sockets around the sans-io engine.
//!
//! Shard 0 runs on the calling thread, together with the links, the control socket and the reading
//! of the kernel's table; every other shard has a thread of its own. Each thread has one io_uring
//! and turns: take events, take completions, work, send, rest.

mod clients;
mod dump;
mod events_switch;
mod hub_thread;
mod intake;
mod pace;
mod peers;
mod shard_io;
mod start;
mod tokens;
mod worker_thread;

pub use start::{Daemon, Parts, StartError};
