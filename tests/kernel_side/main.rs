//! The kernel side of a shard against the kernel: commit, injection, resync, silent flows, flush.
//!
//! Without a daemon around it: a driver of a few lines sends what it says and hands in what comes.

#![cfg(test)]

mod driver;

mod commit;
mod inject;
mod table;
