//! Everything that touches the system: io_uring, sockets, BPF, signals, processors.
//!
//! This is the only crate with file descriptors and `unsafe` code. It knows no protocol beyond
//! what it takes to tell one message from the next; what the octets mean is the business of
//! `proto-ctnl` and `proto-sync`.

#![allow(unsafe_code, reason = "system calls and memory shared with the kernel need it")]

mod address;
mod alloc;
mod bpf;
mod channel;
pub mod cpu;
mod error;
mod fd;
mod intake;
mod interface;
mod interrupt;
mod large_pages;
mod lookup;
mod map;
mod netlink;
pub mod process;
mod ring;
mod signal;
mod sockopt;
pub mod sysctl;

pub use address::{DeviceAddress, device_addresses};
pub use alloc::CountingAlloc;
pub use channel::{
    CHANNEL_BUFFERS_MAX, CHANNEL_TOKENS, Channel, ChannelEvent, ChannelKind, ChannelOptions,
    ChannelSockets, Transmitted,
};
pub use error::IoError;
pub use fd::Fd;
pub use intake::{
    Drained, EventIntake, Filtering, IntakeKind, IntakeOptions, ShardIntake, probe_ring_intake,
};
pub use interface::{IPV6_MTU_MIN, Interface, watch_interfaces};
pub use interrupt::{Interrupts, Woken, die_of_broken_pipes, refuse_oversized_files};
pub use large_pages::LargePages;
pub use lookup::FlowLookup;
pub use netlink::{ACK_CHARGE_BYTES, DUMP_BYTES, Received, RequestSocket};
pub use ring::{
    Completion, Datagrams, Group, Lease, Outcome, Ring, RingConfig, SendBuffer, SendBytes,
    SendOptions, Waker,
};
pub use rustix::io::Errno;
pub use signal::Signals;
pub use sockopt::buffers_granted;

/// Octets that a buffer for merged datagrams needs: the most that one receive can bring, and
/// the kernel's header.
pub const DATAGRAM_BUFFER_BYTES: u32 = 65_536 + 128;
