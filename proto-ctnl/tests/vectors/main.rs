//! The codec against messages recorded from a kernel, each with an independent decoding beside it
//! (`tests/vectors/ctnetlink/messages.jsonl`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attributes;
mod load;
mod meaning;
mod mutate;
mod requests;
mod shards;
