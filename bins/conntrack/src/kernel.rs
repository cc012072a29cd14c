//! Requests to the kernel.

use io::{IoError, RequestSocket};
use proto_ctnl::{Content, Encoder, Full, Message, Messages, consts::flag};

use crate::args::{Command, Table};
use crate::failure::{Failure, errno_text};

/// Octets for the answers of one receive call. The kernel fills as much as it is offered.
const ANSWER_BYTES: usize = 64 << 10;
/// Octets for a request: the largest is a flow with everything, well below one page.
const REQUEST_BYTES: usize = 4096;
/// Octets of answers that may wait in the socket.
const SOCKET_BYTES: u32 = 2 << 20;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EINTR: i32 = 4;
const ENOMEM: i32 = 12;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EBADMSG: i32 = 74;
const EAFNOSUPPORT: i32 = 97;
const ETIME: i32 = 62;
const ENOTSUPP: i32 = 524;

/// A socket that knows for whom it asks, and so how to word refusals.
pub(crate) struct Kernel {
    socket: RequestSocket,
    command: Command,
    table: Table,
    /// Of the last request.
    seq: u32,
    answers: Vec<u8>,
}

/// What ends the kernel's answer to a request. Its messages do not tell: single ones are marked
/// as parts of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The end of a dump, or an acknowledgement.
    UntilEnd,
    /// The first message.
    One,
}

/// Why a request did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Kernel {
    /// Opens the socket.
    pub(crate) fn open(command: Command, table: Table) -> Result<Self, Failure> {
        let socket = RequestSocket::open(SOCKET_BYTES, 0).map_err(|e| {
            let mut failure = Failure::other(&[b"Can't open handler"]);
            let reason = format!("mnl_socket_open: {}\n", errno_text(e.errno().unwrap_or(0)));
            failure.text.splice(0..0, reason.into_bytes());
            failure
        })?;
        Ok(Self { socket, command, table, seq: 0, answers: vec![0; ANSWER_BYTES] })
    }

    /// From now on asks for another command.
    pub(crate) const fn asks_for(&mut self, command: Command) {
        self.command = command;
    }

    /// The number of the request that follows `waiting` others.
    pub(crate) const fn seq_after(&self, waiting: u32) -> u32 {
        self.seq.wrapping_add(1).wrapping_add(waiting)
    }

    /// Octets that answers may take in the socket.
    pub(crate) fn answer_room(&self) -> u32 {
        self.socket.receive_bytes()
    }

    /// Sends `count` requests, numbered from [`Kernel::seq_after`]`(0)` on, and hands number and
    /// content of each answer to `take` until that says that it was the last.
    pub(crate) fn transact(
        &mut self,
        requests: &[u8],
        count: u32,
        mut take: impl FnMut(u32, Result<Content<'_>, Errno>) -> bool,
    ) -> Result<(), Errno> {
        self.seq = self.seq.wrapping_add(count);
        self.exchange(requests, |message| {
            let content = match message.content().map_err(|_| Errno(EBADMSG))? {
                Content::Error(error) => Err(Errno(error.errno)),
                content => Ok(content),
            };
            Ok(take(message.seq, content))
        })
    }

    /// Sends what `encode` writes and hands each answer to `take`, until the kernel has said all.
    pub(crate) fn ask(
        &mut self,
        answers: Answers,
        encode: impl FnOnce(&mut Encoder<'_>, u32) -> Result<(), Full>,
        mut take: impl FnMut(Content<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut request = [0; REQUEST_BYTES];
        let mut encoder = Encoder::new(&mut request);
        self.seq = self.seq.wrapping_add(1);
        let seq = self.seq;
        encode(&mut encoder, seq).map_err(|Full| Errno(ENOSPC))?;
        self.exchange(encoder.bytes(), |message| {
            if message.seq != seq {
                return Ok(false);
            }
            if message.flags & flag::DUMP_INTR != 0 {
                return Err(Errno(EINTR));
            }
            match message.content().map_err(|_| Errno(EBADMSG))? {
                Content::Done { errno: 0 } | Content::Ack { .. } => return Ok(true),
                Content::Done { errno } => return Err(Errno(errno)),
                Content::Error(error) => return Err(Errno(error.errno)),
                content => take(content)?,
            }
            Ok(answers == Answers::One)
        })
    }

    /// Sends requests and hands each message of the answer to `take` until that says that it was
    /// the last.
    fn exchange(
        &mut self,
        requests: &[u8],
        mut take: impl FnMut(&Message<'_>) -> Result<bool, Errno>,
    ) -> Result<(), Errno> {
        let errno = |error: IoError| Errno(error.errno().unwrap_or(EINVAL));
        self.socket.send(requests).map_err(errno)?;
        loop {
            let received = self.socket.receive(&mut self.answers).map_err(errno)?;
            if received.truncated {
                return Err(Errno(ENOSPC));
            }
            for message in Messages::new(&self.answers[..received.bytes]) {
                if take(&message.map_err(|_| Errno(EBADMSG))?)? {
                    return Ok(());
                }
            }
        }
    }

    /// How the refusal of a request is told.
    pub(crate) fn failure(&self, errno: Errno) -> Failure {
        Failure::operation(&refusal(self.command, self.table, errno.0))
    }
}

/// The original's words for some errors of some commands, the C library's for the others.
fn refusal(command: Command, table: Table, errno: i32) -> String {
    let expect = table == Table::Expect;
    let creates = matches!(command, Command::Create | Command::Add);
    let plain = match (errno, command) {
        (ENOTSUPP, Command::List) if !expect => "function not implemented",
        (EINVAL, Command::Stats | Command::Add) => return errno_text(errno),
        (EINVAL, Command::Count) if expect => return errno_text(errno),
        (EINVAL, _) => "invalid parameters",
        (EEXIST, Command::Create) if !expect => "Such conntrack exists, try -U to update",
        (ENOENT, Command::Create) if expect => "master conntrack not found",
        (ENOENT, Command::Create | Command::Get | Command::Delete | Command::Add) if !expect => {
            "such conntrack doesn't exist"
        }
        (ENOMEM, Command::Create | Command::Get | Command::Add) if !expect => "not enough memory",
        (EAFNOSUPPORT, Command::Get) if !expect => "protocol not supported",
        (ETIME, _) if creates && !expect => "conntrack has expired",
        (EPERM, _) => "sorry, you must be root or get CAP_NET_ADMIN capability to do this",
        _ => return errno_text(errno),
    };
    plain.to_owned()
}

/// `EINVAL`, for requests that are refused before they are sent.
pub(crate) const INVALID: Errno = Errno(EINVAL);
/// `ENOENT`: what was asked for is gone.
pub(crate) const GONE: Errno = Errno(ENOENT);
/// `ENOSPC`: the entry has no room for labels.
pub(crate) const NO_ROOM: Errno = Errno(ENOSPC);
/// `ERANGE`, for labels beyond those of the kernel.
pub(crate) const RANGE: Errno = Errno(34);

/// The kernel does not know a part of the request.
pub(crate) const fn is_unsupported(errno: Errno) -> bool {
    // EOPNOTSUPP is what kernels without tuple filters answer.
    matches!(errno.0, EINVAL | 95)
}
