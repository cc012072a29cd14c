//! Sans-io codec for the kernel's connection tracking interface, and the model of a flow.
//!
//! The crate turns bytes into values and values into bytes. It holds no socket, no clock, no
//! thread and no file, and decoding allocates nothing. What the kernel sends is read through the
//! borrowed views [`FlowRef`] and [`ExpectRef`]; [`Flow`] and [`Expect`] are the owned forms that
//! the caches, the replication protocol and the renderers share.

#![forbid(unsafe_code)]

pub mod bpf;
mod expect;
mod flow;
mod name;
pub mod render;
mod shard;
mod status;
mod tuple;

pub use expect::{Expect, ExpectPresent};
pub use flow::{
    Counters, Dccp, Flow, Labels, Present, ProtoInfo, Sctp, SeqAdj, Synproxy, Tcp, TcpFlags,
};
pub use name::Name;
pub use shard::{shard_hash, shard_of};
pub use status::Status;
pub use tuple::{L4, Tuple, proto};
