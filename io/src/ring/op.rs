//! Operations in flight: what the kernel may read or write until each has completed.

use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::ptr;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};
use socket2::SockAddr;

use super::arena::SendBytes;
use crate::fd::Fd;

/// Room for control messages of received datagrams: the segment size takes 24 octets.
pub(super) const CONTROL_BYTES: usize = 64;
/// `struct io_uring_recvmsg_out`, which precedes what a multishot `recvmsg` received.
pub(super) const HEADER_BYTES: usize = 16;

/// What completions of an operation mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Multishot receive of whole datagrams.
    Datagram { group: u16 },
    /// Multishot receive of a stream.
    Stream { group: u16 },
    /// Multishot receive of datagrams that the kernel may have merged.
    Merged { group: u16 },
    /// One receive.
    Once { group: u16 },
    /// Send; `whole` goes on after a short write.
    Send { whole: bool },
    /// Multishot accept.
    Accept,
    /// Connect.
    Connect,
    /// Multishot poll.
    Poll { events: u32 },
    /// Multishot poll of the event descriptor behind a waker.
    Wake,
}

impl Kind {
    /// The group that a receive takes its buffers from.
    pub(super) fn group(self) -> Option<u16> {
        match self {
            Self::Datagram { group }
            | Self::Stream { group }
            | Self::Merged { group }
            | Self::Once { group } => Some(group),
            _ => None,
        }
    }

    /// Whether the operation goes on by itself after it ended without an error.
    pub(super) fn continues(self) -> bool {
        !matches!(self, Self::Once { .. } | Self::Send { .. } | Self::Connect)
    }
}

/// What a send needs beside its octets.
#[derive(Debug, Default)]
pub struct SendOptions<'a> {
    /// Destination; `None` on a connected socket.
    pub to: Option<&'a SockAddr>,
    /// Octets per datagram; the kernel cuts the range into datagrams of that size, the last one
    /// being what remains. `None` sends one.
    pub segment: Option<u16>,
    /// Stream: go on after a short write until all was written.
    pub whole: bool,
    /// Begin the next queued operation only after this one succeeded; when it fails, that one
    /// ends with [`Outcome::Cancelled`](crate::Outcome::Cancelled).
    pub chained: bool,
}

/// One operation. Its address does not change while it is in flight.
pub(super) struct Op {
    pub(super) token: u64,
    pub(super) kind: Kind,
    pub(super) fd: Fd,
    /// Send: what is sent, and how much of it was.
    pub(super) bytes: Option<SendBytes>,
    pub(super) range: Range<usize>,
    pub(super) sent: usize,
    /// Messages that the socket had lost when it was last asked.
    pub(super) drops: u32,
    chained: bool,
    name: Option<SockAddr>,
    segment: Option<u16>,
    control: Control,
    vector: libc::iovec,
    message: libc::msghdr,
}

/// Where an operation stays while the kernel knows it.
#[derive(Default)]
pub(super) struct Place {
    pub(super) op: Option<Op>,
}

/// One control message with the segment size, as the kernel reads it.
#[repr(C, align(8))]
struct Control([u8; 24]);

impl Op {
    pub(super) fn new(token: u64, kind: Kind, fd: &Fd) -> Self {
        Self {
            token,
            kind,
            fd: fd.clone(),
            bytes: None,
            range: 0..0,
            sent: 0,
            drops: 0,
            chained: false,
            name: None,
            segment: None,
            control: Control([0; 24]),
            vector: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
            message: empty_message(),
        }
    }

    /// Makes it a send.
    pub(super) fn sending(
        mut self,
        bytes: SendBytes,
        range: Range<usize>,
        o: &SendOptions,
    ) -> Self {
        self.bytes = Some(bytes);
        self.range = range;
        self.name = o.to.cloned();
        self.segment = o.segment;
        self.chained = o.chained;
        self
    }

    /// Makes it a connect.
    pub(super) fn connecting(mut self, to: &SockAddr) -> Self {
        self.name = Some(to.clone());
        self
    }

    /// The entry that starts the operation, or starts it again.
    ///
    /// The entry points into the value, so the value has to stay where it is, and to stay,
    /// until the kernel has reported the operation's end.
    pub(super) fn entry(&mut self) -> Entry {
        let fd = types::Fd(self.fd.as_raw_fd());
        match self.kind {
            Kind::Datagram { group } | Kind::Stream { group } => {
                opcode::RecvMulti::new(fd, group).build()
            }
            Kind::Merged { group } => {
                self.message.msg_controllen = CONTROL_BYTES as _;
                opcode::RecvMsgMulti::new(fd, &raw const self.message, group).build()
            }
            Kind::Once { group } => opcode::Recv::new(fd, ptr::null_mut(), 0)
                .buf_group(group)
                .build()
                .flags(Flags::BUFFER_SELECT),
            Kind::Send { whole } => self.send_entry(fd, whole),
            Kind::Accept => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(),
            Kind::Connect => {
                let (address, length) = self
                    .name
                    .as_ref()
                    .map_or((ptr::null(), 0), |name| (name.as_ptr().cast(), name.len()));
                opcode::Connect::new(fd, address, length).build()
            }
            Kind::Poll { events } => opcode::PollAdd::new(fd, events).multi(true).build(),
            Kind::Wake => opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build(),
        }
    }

    fn send_entry(&mut self, fd: types::Fd, whole: bool) -> Entry {
        let range = self.range.start + self.sent..self.range.end;
        let bytes = self.bytes.as_ref().map_or(&[][..], |bytes| bytes.range(&range));
        let mut flags = libc::MSG_NOSIGNAL;
        if whole {
            flags |= libc::MSG_WAITALL;
        }
        let entry = if self.name.is_none() && self.segment.is_none() {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, bytes.as_ptr(), length).flags(flags).build()
        } else {
            self.vector.iov_base = bytes.as_ptr().cast_mut().cast();
            self.vector.iov_len = bytes.len();
            self.message = empty_message();
            self.message.msg_iov = &raw mut self.vector;
            self.message.msg_iovlen = 1;
            if let Some(name) = &self.name {
                self.message.msg_name = name.as_ptr().cast_mut().cast();
                self.message.msg_namelen = name.len();
            }
            if let Some(segment) = self.segment {
                self.control = Control::segment(segment);
                self.message.msg_control = (&raw mut self.control).cast();
                self.message.msg_controllen = size_of::<Control>() as _;
            }
            opcode::SendMsg::new(fd, &raw const self.message).flags(flags.cast_unsigned()).build()
        };
        // The rest after a short write must not tie itself to whatever is queued next.
        if self.chained && self.sent == 0 { entry.flags(Flags::IO_LINK) } else { entry }
    }
}

impl Control {
    /// `struct cmsghdr` with one 16-bit value.
    fn segment(octets: u16) -> Self {
        let mut control = [0; 24];
        let length = size_of::<libc::cmsghdr>() + 2;
        control[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
        let at = size_of::<usize>();
        control[at..at + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        control[at + 4..at + 8].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        control[at + 8..at + 10].copy_from_slice(&octets.to_ne_bytes());
        Self(control)
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a message header of zeros is valid: null pointers with lengths of zero.
    unsafe { std::mem::zeroed() }
}

/// A received message of a multishot `recvmsg` without room for a name: where the payload lies,
/// the segment size if the kernel merged datagrams, and whether the end was cut off.
pub(super) fn parse_message(bytes: &[u8]) -> Option<(Range<usize>, Option<usize>, bool)> {
    let word = |at: usize| {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(four))
    };
    let control = (word(4)? as usize).min(CONTROL_BYTES);
    let flags = word(12)?;
    let start = HEADER_BYTES + CONTROL_BYTES;
    let segment = segment_of(bytes.get(HEADER_BYTES..HEADER_BYTES + control)?);
    let truncated = flags & libc::MSG_TRUNC.cast_unsigned() != 0;
    (start <= bytes.len()).then_some((start..bytes.len(), segment, truncated))
}

/// The segment size in a buffer of control messages.
fn segment_of(mut control: &[u8]) -> Option<usize> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    loop {
        let (length, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
        let length = usize::from_ne_bytes(*length);
        let level = i32::from_ne_bytes(rest.get(..4)?.try_into().ok()?);
        let kind = i32::from_ne_bytes(rest.get(4..8)?.try_into().ok()?);
        if level == libc::SOL_UDP && kind == libc::UDP_GRO {
            let value = control.get(HEADER..HEADER + 4)?;
            let segment = i32::from_ne_bytes(value.try_into().ok()?);
            return usize::try_from(segment).ok().filter(|&s| s > 0);
        }
        let step = length.checked_next_multiple_of(size_of::<usize>())?;
        control = control.get(step.max(HEADER)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(control: &[u8], payload: &[u8], flags: i32) -> Vec<u8> {
        let mut m = Vec::new();
        m.extend(0u32.to_ne_bytes());
        m.extend((control.len() as u32).to_ne_bytes());
        m.extend((payload.len() as u32).to_ne_bytes());
        m.extend(flags.to_ne_bytes());
        m.extend(control);
        m.resize(HEADER_BYTES + CONTROL_BYTES, 0);
        m.extend(payload);
        m
    }

    fn control(level: i32, kind: i32, value: i32) -> Vec<u8> {
        let mut c = Vec::new();
        c.extend(20usize.to_ne_bytes());
        c.extend(level.to_ne_bytes());
        c.extend(kind.to_ne_bytes());
        c.extend(value.to_ne_bytes());
        c.resize(24, 0);
        c
    }

    #[test]
    fn finds_the_segment_size_behind_other_control_messages() {
        let mut c = control(1, 2, 3);
        c.extend(control(libc::SOL_UDP, libc::UDP_GRO, 1400));
        let m = message(&c, &[1, 2, 3], 0);
        assert_eq!(parse_message(&m), Some((80..83, Some(1400), false)));
    }

    #[test]
    fn is_total() {
        assert_eq!(parse_message(&[]), None);
        assert_eq!(parse_message(&message(&[], b"x", libc::MSG_TRUNC)), Some((80..81, None, true)));
        let mut endless = control(1, 2, 3);
        endless[..8].fill(0);
        assert_eq!(parse_message(&message(&endless, b"", 0)), Some((80..80, None, false)));
        let huge = [0xff; 24];
        assert_eq!(parse_message(&message(&huge, b"", 0)), Some((80..80, None, false)));
        for cut in 0..80 {
            assert_eq!(parse_message(&message(&endless, b"", 0)[..cut]), None);
        }
    }
}
