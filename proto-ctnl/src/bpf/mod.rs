//! BPF programs as instruction values: two that sort the kernel's event stream by shard, and one
//! that looks at flows.
//!
//! The first two compute the hash of [`crate::shard_hash`] on a conntrack event as it lies in the
//! socket buffer:
//!
//! * [`ring_program`], an eBPF socket filter. It copies the event into the BPF ring buffer of its
//!   shard and ends the socket buffer there, so that reading costs no system call. Events of flows
//!   that nobody wants ([`EventFilter`]) end there as well. What it does not recognise it leaves
//!   to the socket.
//! * [`steering_filter`], a classic filter for one socket per shard. It keeps the events of its
//!   shard and drops the others. It needs no privilege beyond the socket's.
//!
//! Both rely on the order in which the kernel writes a tuple; the first checks it.
//! [`lookup_program`] looks flows up in the kernel's table, many at once.
//!
//! Nothing here loads a program: that takes a system call.

mod btf;
mod classic;
mod ebpf;
#[cfg(any(test, feature = "interpreter"))]
#[doc(hidden)]
pub mod interpret;
mod layout;
mod lookup;
mod ring;
mod ring_filter;
mod steering;
#[cfg(test)]
mod tests;

pub use btf::LookupIds;
pub use classic::SockFilter;
pub use ebpf::Insn;
pub use lookup::{LOOKUP_RECORDS, Looked, LookupRecord, lookup_program};
pub use ring::{
    CONTROL_BYTES_PER_SHARD, CONTROL_FILTERED, CONTROL_LOST, EVENT_MAX, EVENT_MIN, RingMaps,
    ring_program,
};
pub use ring_filter::{AddressFilter, EventFilter};
pub use steering::steering_filter;
