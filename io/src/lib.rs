//! Everything that touches the system: io_uring, sockets, BPF, signals, processors.
//!
//! This is the only crate with file descriptors and `unsafe` code. It knows no protocol beyond
//! what it takes to tell one message from the next; what the octets mean is the business of
//! `proto-ctnl` and `proto-sync`.

#![allow(unsafe_code, reason = "system calls and memory shared with the kernel need it")]

pub mod process;
