//! Requests to the kernel, one at a time.

use io::RequestSocket;
use proto_ctnl::{Content, Encoder, Full, Messages, consts::flag};

use crate::args::{Command, Table};
use crate::failure::{Failure, errno_text};

/// Octets for the answers of one receive call. The kernel fills as much as it is offered.
const ANSWER_BYTES: usize = 64 << 10;
/// Octets for a request: the largest is a flow with everything, well below one page.
const REQUEST_BYTES: usize = 4096;
/// Octets of answers that may wait in the socket.
const SOCKET_BYTES: u32 = 1 << 20;

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
    seq: u32,
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
        Ok(Self { socket, command, table, seq: 0 })
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
        self.seq += 1;
        encode(&mut encoder, self.seq).map_err(|Full| Errno(ENOSPC))?;
        self.socket.send(encoder.bytes()).map_err(|e| Errno(e.errno().unwrap_or(EINVAL)))?;
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let received = self.socket.receive(&mut buffer);
            let received = received.map_err(|e| Errno(e.errno().unwrap_or(EINVAL)))?;
            if received.truncated {
                return Err(Errno(ENOSPC));
            }
            for message in Messages::new(&buffer[..received.bytes]) {
                let message = message.map_err(|_| Errno(EBADMSG))?;
                if message.seq != self.seq {
                    continue;
                }
                if message.flags & flag::DUMP_INTR != 0 {
                    return Err(Errno(EINTR));
                }
                match message.content().map_err(|_| Errno(EBADMSG))? {
                    Content::Done { errno: 0 } | Content::Ack { .. } => return Ok(()),
                    Content::Done { errno } => return Err(Errno(errno)),
                    Content::Error(error) => return Err(Errno(error.errno)),
                    content => take(content)?,
                }
                if answers == Answers::One {
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
/// `ERANGE`, for labels beyond those of the kernel.
pub(crate) const RANGE: Errno = Errno(34);

/// The kernel does not know a part of the request.
pub(crate) const fn is_unsupported(errno: Errno) -> bool {
    // EOPNOTSUPP is what kernels without tuple filters answer.
    matches!(errno.0, EINVAL | 95)
}
