//! Shards, flow caches, change sets, the replication link, commit and resync.
//!
//! Everything but `run` is sans-io: shards and the link take batches of bytes and give batches of
//! bytes, so that whole daemons run in a simulator.

#![forbid(unsafe_code)]

mod addr6;
pub mod alarm;
mod audit;
mod bitmap;
pub mod bypass;
pub mod cache;
pub mod caches;
mod changes;
pub mod clock;
pub mod command;
mod commands;
pub mod config;
pub mod console;
mod counters;
mod duties;
mod entry;
mod epoch;
pub mod expects;
pub mod filter;
pub mod hub;
mod inbox;
mod index;
pub mod kernel;
pub mod link;
pub mod log;
pub mod mesh;
pub mod order;
mod received;
pub mod report;
mod resend;
mod resync;
pub mod run;
pub mod shard;
pub mod shards;
mod side;
mod slab;
pub mod snapshot;
mod told;
mod unread;
pub mod worker;
