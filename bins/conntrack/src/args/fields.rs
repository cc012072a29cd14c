//! Values of the options that protocols bring.

use proto_ctnl::proto;
use proto_ctnl::render::{dccp_state, sctp_state, tcp_state};

use super::numbers::{atoi, c_int};
use super::protocol::{Extension, Field};
use super::words::abbreviates;
use crate::failure::Failure;

/// How many fields there are.
pub(crate) const COUNT: usize = Field::Role as usize + 1;

/// Reads the value of an option. Numbers never fail: what is none is 0, and high bits are lost.
pub(crate) fn parse(extension: &Extension, field: Field, text: &[u8]) -> Result<u32, Failure> {
    Ok(match field {
        Field::State => u32::from(state(extension, text)?),
        Field::Role => role(text)?,
        Field::OrigVtag | Field::ReplyVtag => atoi(text),
        Field::IcmpType | Field::IcmpCode => atoi(text) & 0xff,
        _ if extension.number == proto::GRE => c_int(text).value as u32 & 0xffff,
        _ => atoi(text) & 0xffff,
    })
}

fn state(extension: &Extension, text: &[u8]) -> Result<u8, Failure> {
    let (state, unknown): (_, &[u8]) = match extension.number {
        proto::TCP => (tcp_state(text), b"unknown TCP state `"),
        proto::SCTP => (sctp_state(text), b"unknown SCTP state `"),
        _ => (dccp_state(text), b"Unknown DCCP state `"),
    };
    state.ok_or_else(|| Failure::usage(&[unknown, text, b"'"]))
}

fn role(text: &[u8]) -> Result<u32, Failure> {
    if abbreviates(text, "client") {
        Ok(0)
    } else if abbreviates(text, "server") {
        Ok(1)
    } else {
        Err(Failure::usage(&[b"Unknown DCCP role `", text, b"'"]))
    }
}
