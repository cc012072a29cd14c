//! What a message of the kernel means.

use zerocopy::FromBytes;

use crate::attr::{Attr, Attrs, aligned};
use crate::consts::*;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::expect_ref::ExpectRef;
use crate::flow_ref::FlowRef;
use crate::names::AttrSet;
use crate::nl::{Message, NL_HEAD, NlHead};
use crate::stats::{CpuStats, ExpectStats, GlobalStats};

/// A decoded message.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A flow: an event, part of a dump, or an answer.
    Flow(FlowRef<'a>),
    /// An expectation, likewise.
    Expect(ExpectRef<'a>),
    /// The request of this number was done. [`ErrorRef::parse`] has the details.
    Ack {
        /// Sequence number of the request.
        seq: u32,
    },
    /// A request failed.
    Error(ErrorRef<'a>),
    /// End of a dump.
    Done {
        /// Positive error number, 0 if the dump is complete.
        errno: i32,
    },
    /// Counters of one processor.
    CpuStats(CpuStats),
    /// Fill of the table.
    GlobalStats(GlobalStats),
    /// Expectation counters of one processor.
    ExpectStats(ExpectStats),
    /// Nothing (`NLMSG_NOOP`).
    Noop,
    /// Messages were lost (`NLMSG_OVERRUN`). Kernels report this by a socket error instead.
    Overrun,
    /// Something else: a request, or another subsystem's message.
    Other,
}

impl<'a> Message<'a> {
    /// Decodes the message as one of the kernel.
    ///
    /// # Errors
    /// If the message is malformed; it can be skipped and the next one read.
    #[inline]
    pub fn content(&self) -> Result<Content<'a>, DecodeError> {
        match self.kind {
            msg::CT_NEW | msg::CT_DELETE => FlowRef::parse(self).map(Content::Flow),
            msg::EXP_NEW | msg::EXP_DELETE => ExpectRef::parse(self).map(Content::Expect),
            nlmsg::ERROR => ErrorRef::parse(self).map(|error| match error.errno {
                0 => Content::Ack { seq: error.seq },
                _ => Content::Error(error),
            }),
            nlmsg::DONE => self.done(),
            nlmsg::NOOP => Ok(Content::Noop),
            nlmsg::OVERRUN => Ok(Content::Overrun),
            _ if self.flags & flag::REQUEST != 0 => Ok(Content::Other),
            msg::CT_GET_STATS_CPU => CpuStats::parse(self).map(Content::CpuStats),
            msg::CT_GET_STATS => GlobalStats::parse(self).map(Content::GlobalStats),
            // The kernel answers expectation statistics with the type of another request, whose
            // own answers have the type of a new flow.
            msg::CT_GET_CTRZERO | msg::EXP_GET_STATS_CPU => {
                ExpectStats::parse(self).map(Content::ExpectStats)
            }
            _ => Ok(Content::Other),
        }
    }

    fn done(&self) -> Result<Content<'a>, DecodeError> {
        match self.payload() {
            [] => Ok(Content::Done { errno: 0 }),
            payload => match payload.first_chunk() {
                Some(octets) => {
                    Ok(Content::Done { errno: i32::from_ne_bytes(*octets).saturating_neg() })
                }
                None => Err(DecodeError::new(DecodeErrorKind::ShortValue, NL_HEAD)),
            },
        }
    }
}

/// Why a request failed (`struct nlmsgerr`), or that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRef<'a> {
    /// Positive error number; 0 is an acknowledgement.
    pub errno: i32,
    /// Sequence number of the request.
    pub seq: u32,
    /// Type of the request, see [`msg`].
    pub request_kind: u16,
    /// `NLM_F_*` of the request.
    pub request_flags: u16,
    /// Port id in the request's header.
    pub request_port: u32,
    /// Length of the request, header included, in octets.
    pub request_len: u32,
    /// The request's octets after its header. Empty with `NETLINK_CAP_ACK`.
    pub request: &'a [u8],
    /// The kernel's text, if it had one (`NETLINK_EXT_ACK`); octets as the kernel sent them.
    pub text: Option<&'a [u8]>,
    /// Octets from the start of the request to the attribute at fault, if told.
    pub offset: Option<u32>,
    /// Number of the attribute that the request lacks, if told.
    pub missing: Option<u32>,
    /// The details as attributes (`NLMSGERR_ATTR_*`).
    pub details: Attrs<'a>,
}

impl<'a> ErrorRef<'a> {
    /// Reads a message of type [`nlmsg::ERROR`].
    ///
    /// # Errors
    /// If it is too short for an error number and the request's header, or a detail is bad.
    pub fn parse(message: &Message<'a>) -> Result<Self, DecodeError> {
        let payload = message.payload();
        let short = |offset| DecodeError::new(DecodeErrorKind::ShortHeader, offset);
        let (code, rest) = payload.split_first_chunk::<4>().ok_or_else(|| short(NL_HEAD))?;
        let (head, rest) =
            NlHead::ref_from_prefix(rest).map_err(|_| short(NL_HEAD + size_of::<i32>()))?;
        let start = NL_HEAD + size_of::<i32>() + NL_HEAD;
        let echoed = if message.flags & flag::CAPPED != 0 {
            0
        } else {
            let len = usize::try_from(head.len.get()).unwrap_or(usize::MAX);
            len.saturating_sub(NL_HEAD).min(rest.len())
        };
        let (request, _) = rest.split_at_checked(echoed).unwrap_or((rest, &[]));
        let mut error = Self {
            errno: i32::from_ne_bytes(*code).saturating_neg(),
            seq: head.seq.get(),
            request_kind: head.kind.get(),
            request_flags: head.flags.get(),
            request_port: head.port.get(),
            request_len: head.len.get(),
            request,
            text: None,
            offset: None,
            missing: None,
            details: Attrs::new(&[], start),
        };
        if message.flags & flag::ACK_TLVS != 0 {
            let at = aligned(echoed).min(rest.len());
            error.details = Attrs::new(rest.get(at..).unwrap_or(&[]), start + at);
            error.read_details().map_err(|error| error.rooted(AttrSet::ExtAck))?;
        }
        Ok(error)
    }

    fn read_details(&mut self) -> Result<(), DecodeError> {
        for attr in self.details {
            let attr: Attr<'a> = attr?;
            match attr.kind {
                NLMSGERR_ATTR_MSG => self.text = Some(attr.text()),
                NLMSGERR_ATTR_OFFS => self.offset = Some(attr.u32_host()?),
                NLMSGERR_ATTR_MISS_TYPE => self.missing = Some(attr.u32_host()?),
                _ => {}
            }
        }
        Ok(())
    }
}
