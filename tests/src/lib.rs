//! Harness for the tests that need real kernels and real peers: network namespaces, daemons of
//! either make in them, tables to compare, traffic to send.
//!
//! Everything is named after the process that made it and is removed when its owner is dropped,
//! also by a panic; what a killed process left is swept by the next one. So any number of test
//! runs work beside each other on one machine.
//!
//! Requests to the kernel and the reading of its table are written here once more, without the
//! crates under test, so that no mistake of theirs cancels out.

#![forbid(unsafe_code)]

pub mod churn;
pub mod cond;
pub mod flows;
pub mod kernel;
pub mod limits;
pub mod netns;
pub mod pace;
pub mod peer;
pub mod privilege;
pub mod proc;
pub mod random;
pub mod relay;
pub mod request;
pub mod snapshot;
pub mod soak;
pub mod stage;
pub mod table;
pub mod traffic;
