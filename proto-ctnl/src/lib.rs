//! Sans-io codec for the kernel's connection tracking interface, and the model of a flow.
//!
//! The crate turns bytes into values and values into bytes. It holds no socket, no clock, no
//! thread and no file, and decoding allocates nothing. What the kernel sends is read through the
//! borrowed views [`FlowRef`] and [`ExpectRef`]; [`Flow`] and [`Expect`] are the owned forms that
//! the caches, the replication protocol and the renderers share.
//!
//! ```
//! use proto_ctnl::{Content, DumpFilter, Encoder, Flow, Messages};
//!
//! // A request: everything in the table.
//! let mut buffer = [0; 4096];
//! let mut encoder = Encoder::new(&mut buffer);
//! encoder.flow_dump(&DumpFilter::default(), 1)?;
//! let datagram = encoder.bytes();
//!
//! // What arrives.
//! let mut flow = Flow::default();
//! for message in Messages::new(datagram) {
//!     if let Content::Flow(seen) = message?.content()? {
//!         flow.clear();
//!         seen.write_to(&mut flow)?;
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod attr;
pub mod bpf;
pub mod consts;
mod content;
mod encode;
mod error;
mod expect;
mod expect_ref;
mod filter;
mod flow;
mod flow_ref;
#[doc(hidden)]
pub mod fuzzing;
mod name;
mod names;
mod nl;
mod protoinfo;
mod put;
pub mod render;
mod shard;
mod stats;
mod status;
mod tuple;
mod tuple_codec;
mod writer;

pub use attr::{Attr, Attrs};
pub use content::{Content, ErrorRef};
pub use encode::{Encoder, FlowMasks, Full, Request};
pub use error::{DecodeError, DecodeErrorKind};
pub use expect::{Expect, ExpectPresent};
pub use expect_ref::{ExpectMessage, ExpectRef};
pub use filter::{DumpFilter, FlushFilter, Masked, TupleFields, TupleFilter};
pub use flow::{
    Counters, Dccp, Flow, Labels, Present, ProtoInfo, Sctp, SeqAdj, Synproxy, Tcp, TcpFlags,
};
pub use flow_ref::{FlowMessage, FlowRef};
pub use name::Name;
pub use names::AttrSet;
pub use nl::{Message, Messages};
pub use shard::{shard_hash, shard_of};
pub use stats::{CpuStats, ExpectStats, GlobalStats};
pub use status::Status;
pub use tuple::{L4, Tuple, proto};
pub use writer::Writer;
