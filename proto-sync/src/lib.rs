//! The replication protocol of conntrackd: wire format and state machines, without I/O.
//!
//! | part | holds |
//! |---|---|
//! | [`Messages`], [`Header`] | the walk over a datagram |
//! | [`encode_flow`], [`FlowPayload`], [`encode_expect`], [`ExpectPayload`] | state on the wire |
//! | [`Session`] | NOTRACK, ALARM and FTFW |
//! | [`Reassembler`] | messages out of a byte stream |
//!
//! Whatever arrives from outside is answered with a value or an error: no input panics, loops
//! without end or decides how much memory is taken. Time is passed in. In the steady state nothing
//! is allocated.
//!
//! The peer may be the original, version 1.4.7 to 1.4.9. Where its behaviour loses state, this one
//! differs only in ways that the original does not notice.

#![forbid(unsafe_code)]

mod control;
mod counters;
mod expect;
mod flow;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod pace;
mod resend;
mod session;
mod stream;
mod tlv;

pub use counters::SyncCounters;
pub use expect::{EXPECT_MESSAGE_MAX, ExpectPayload, FUNCTION_NAME_MAX, encode_expect};
pub use flow::{
    EncodeOptions, FLOW_MESSAGE_MAX, FlowLayouts, FlowPayload, HELPER_NAME_MAX, encode_flow,
};
pub use frame::{
    FrameError, HEADER_LEN, Header, Kind, Messages, RANGE_LEN, Ranged, RawMessage, VERSION, before,
    datagram_max, flag,
};
pub use resend::ResendEntry;
pub use session::{Host, Mode, Next, Session, SessionConfig, SessionEvent, Token};
pub use stream::{BrokenStream, Reassembler};
pub use tlv::{PayloadError, PayloadErrorKind};
