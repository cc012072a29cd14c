//! The cache against a plain map that does the same, and its memory.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

mod flows;
mod memory;
mod model;
mod scenarios;
