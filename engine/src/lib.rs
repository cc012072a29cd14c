//! Shards, flow caches, change sets, the replication link, commit and resync.
//!
//! Everything but `run` is sans-io: shards and the link take batches of bytes and give batches of
//! bytes, so that whole daemons run in a simulator.

#![forbid(unsafe_code)]

mod addr6;
mod bitmap;
pub mod cache;
pub mod caches;
mod changes;
pub mod command;
pub mod config;
pub mod console;
mod counters;
mod entry;
mod epoch;
pub mod expects;
pub mod filter;
mod index;
pub mod kernel;
pub mod log;
mod side;
mod slab;
pub mod snapshot;
