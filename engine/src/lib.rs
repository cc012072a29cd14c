//! Shards, flow caches, change sets, the replication link, commit and resync.
//!
//! Everything but `run` is sans-io: shards and the link take batches of bytes and give batches of
//! bytes, so that whole daemons run in a simulator.

#![forbid(unsafe_code)]

pub mod command;
pub mod config;
pub mod console;
pub mod filter;
pub mod log;
pub mod snapshot;
