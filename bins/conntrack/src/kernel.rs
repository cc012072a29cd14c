//! Requests to the kernel.

use io::{IoError, RequestSocket};
use proto_ctnl::{Content, Encoder, Full, Message, consts::flag};

use crate::ahead;
use crate::args::{Command, Table};
use crate::failure::{Failure, errno_text, say};

/// Octets for a request: the largest is a flow with everything, well below one page.
const REQUEST_BYTES: usize = 4096;
/// Octets of answers that may wait in the socket.
const SOCKET_BYTES: u32 = 2 << 20;

/// Tells that a dump is not whole. What was read is shown, or worked on, all the same.
pub(crate) fn say_interrupted() {
    say(&[b"the table changed while it was read: entries may be missing or have come twice"]);
}

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOMEM: i32 = 12;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
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

/// What the system said.
pub(crate) fn errno_of(error: IoError) -> Errno {
    Errno(error.errno().unwrap_or(EINVAL))
}

impl Kernel {
    /// Opens the socket.
    pub(crate) fn open(command: Command, table: Table) -> Result<Self, Failure> {
        let socket = RequestSocket::open(SOCKET_BYTES, 0).map_err(|e| {
            let mut failure = Failure::other(&[b"Can't open handler"]);
            let reason = format!("mnl_socket_open: {}\n", errno_text(e.errno().unwrap_or(0)));
            failure.text.splice(0..0, reason.into_bytes());
            failure
        })?;
        Ok(Self { socket, command, table, seq: 0, answers: vec![0; ahead::BYTES] })
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
        self.socket.send(requests).map_err(errno_of)?;
        loop {
            let ended = ahead::one(&self.socket, &mut self.answers, &mut |message| {
                let content = match message.content().map_err(|_| MEANINGLESS)? {
                    Content::Error(error) => Err(Errno(error.errno)),
                    content => Ok(content),
                };
                Ok(take(message.seq, content))
            })?;
            if ended {
                return Ok(());
            }
        }
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
        self.socket.send(encoder.bytes()).map_err(errno_of)?;
        let mut answer = Answer { seq, answers, interrupted: false };
        let result =
            ahead::read(&self.socket, &mut self.answers, |message| answer.take(message, &mut take));
        if answer.interrupted {
            say_interrupted();
        }
        result
    }

    /// How the refusal of a request is told.
    pub(crate) fn failure(&self, errno: Errno) -> Failure {
        Failure::operation(&refusal(self.command, self.table, errno.0))
    }
}

/// An answer that is being read.
struct Answer {
    seq: u32,
    answers: Answers,
    /// Whether the kernel has told that its dump is not whole.
    interrupted: bool,
}

impl Answer {
    /// Takes one message; whether it was the last.
    fn take(
        &mut self,
        message: &Message<'_>,
        take: &mut impl FnMut(Content<'_>) -> Result<(), Errno>,
    ) -> Result<bool, Errno> {
        if message.seq != self.seq {
            return Ok(false);
        }
        self.interrupted |= message.flags & flag::DUMP_INTR != 0;
        match message.content().map_err(|_| MEANINGLESS)? {
            Content::Done { errno: 0 } | Content::Ack { .. } => return Ok(true),
            Content::Done { errno } => return Err(Errno(errno)),
            Content::Error(error) => return Err(Errno(error.errno)),
            content => take(content)?,
        }
        Ok(self.answers == Answers::One)
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
/// `EEXIST`: what was to be made is there.
pub(crate) const EXISTS: Errno = Errno(EEXIST);
/// `ENOSPC`: the entry has no room for labels.
pub(crate) const NO_ROOM: Errno = Errno(ENOSPC);
/// `EBADMSG`: what the kernel said has no meaning.
pub(crate) const MEANINGLESS: Errno = Errno(74);
/// `ECANCELED`: nobody wants the rest of an answer.
pub(crate) const STOPPED: Errno = Errno(125);
/// `ERANGE`, for labels beyond those of the kernel.
pub(crate) const RANGE: Errno = Errno(34);

/// The kernel does not know a part of the request.
pub(crate) const fn is_unsupported(errno: Errno) -> bool {
    // EOPNOTSUPP is what kernels without tuple filters answer.
    matches!(errno.0, EINVAL | 95)
}

#[cfg(test)]
mod tests {
    use proto_ctnl::{Messages, consts::nlmsg};

    use super::*;

    /// The end of a dump with flags.
    fn done(flags: u16) -> Vec<u8> {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend(nlmsg::DONE.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn an_interrupted_dump_goes_on_and_is_noted() {
        for (flags, interrupted) in [(flag::MULTI, false), (flag::MULTI | flag::DUMP_INTR, true)] {
            let mut answer = Answer { seq: 7, answers: Answers::UntilEnd, interrupted: false };
            let bytes = done(flags);
            let message = Messages::new(&bytes).next().expect("a message").expect("well formed");
            assert_eq!(answer.take(&message, &mut |_| Ok(())), Ok(true));
            assert_eq!(answer.interrupted, interrupted);
        }
    }
}
