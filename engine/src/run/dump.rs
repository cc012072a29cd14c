//! Reads the kernel's table for all shards: one datagram at a time, so that between two of them
//! the thread looks after its events.

use io::{Fd, Group, IoError, Outcome, RequestSocket, Ring, SendOptions};
use proto_ctnl::consts::nlmsg;
use proto_ctnl::{Content, DumpFilter, Encoder, Messages};

use super::tokens::Token;

/// The kernel fills datagrams of up to 32 KiB if it is offered that much.
const DATAGRAM_BYTES: u32 = 32 * 1024;

/// What a datagram of a dump means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more.
    More,
    /// The dump has ended; whether it was complete.
    Ended(bool),
}

/// Which table is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    None,
    Flows,
    Expectations,
}

/// The reader.
pub(super) struct DumpReader {
    socket: RequestSocket,
    group: Option<Group>,
    seq: u32,
    table: Table,
    expectations: bool,
    /// A datagram was asked for and has not come yet.
    asked: bool,
}

impl DumpReader {
    /// Opens the socket. `expectations` are read behind the flows.
    pub(super) fn open(expectations: bool) -> Result<Self, IoError> {
        Ok(Self {
            socket: RequestSocket::open(4 * DATAGRAM_BYTES, 0)?,
            group: None,
            seq: 0,
            table: Table::None,
            expectations,
            asked: false,
        })
    }

    /// Makes the buffers.
    pub(super) fn start(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        self.group = Some(ring.add_group(4, DATAGRAM_BYTES)?);
        Ok(())
    }

    /// Whether a dump is being read.
    pub(super) fn is_running(&self) -> bool {
        self.table != Table::None
    }

    /// Asks for the flows.
    pub(super) fn begin(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        self.request(ring, Table::Flows)
    }

    /// The request could not be sent: nothing will come.
    pub(super) fn abandon(&mut self) {
        self.table = Table::None;
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    fn request(&mut self, ring: &mut Ring, table: Table) -> Result<(), IoError> {
        let seq = self.next_seq();
        self.table = table;
        send(ring, self.socket.fd(), |encoder| match table {
            Table::Expectations => encoder.expect_dump(0, seq).is_ok(),
            _ => encoder.flow_dump(&DumpFilter::default(), seq).is_ok(),
        })
    }

    /// Asks for the next datagram, unless one is under way.
    pub(super) fn ask(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        if self.asked || self.table == Table::None {
            return Ok(());
        }
        if let Some(group) = self.group {
            ring.receive_once(Token::Dump.raw(), self.socket.fd(), group)?;
            self.asked = true;
        }
        Ok(())
    }

    /// Takes a completion of the dump socket; `visit` gets each datagram with entries.
    pub(super) fn handle(
        &mut self,
        ring: &mut Ring,
        outcome: &Outcome,
        visit: impl FnOnce(&[u8]),
    ) -> Result<Progress, IoError> {
        self.asked = false;
        let datagram = match outcome {
            Outcome::Received(datagram) => datagram,
            Outcome::Depleted => return Ok(Progress::More),
            _ => {
                self.table = Table::None;
                return Ok(Progress::Ended(false));
            }
        };
        visit(datagram);
        match end_of(datagram, self.seq) {
            None => Ok(Progress::More),
            Some(true) if self.table == Table::Flows && self.expectations => {
                self.request(ring, Table::Expectations)?;
                Ok(Progress::More)
            }
            Some(complete) => {
                self.table = Table::None;
                Ok(Progress::Ended(complete))
            }
        }
    }
}

fn send(
    ring: &mut Ring,
    fd: &Fd,
    encode: impl FnOnce(&mut Encoder<'_>) -> bool,
) -> Result<(), IoError> {
    let Some(mut buffer) = ring.send_buffer() else {
        return Err(IoError::new("send a request", "", std::io::ErrorKind::WouldBlock));
    };
    let mut encoder = Encoder::new(&mut buffer);
    let encoded = encode(&mut encoder);
    debug_assert!(encoded, "a send buffer has room for one request");
    let len = encoder.len();
    ring.send(Token::DumpSent.raw(), fd, buffer.freeze(), 0..len, &SendOptions::default())
}

/// Whether a datagram ends the dump, and whether all went well. An error that answers another
/// request, or the end of an earlier dump, ends nothing.
fn end_of(datagram: &[u8], seq: u32) -> Option<bool> {
    for message in Messages::new(datagram) {
        let Ok(message) = message else { return Some(false) };
        if message.seq != seq || message.kind > nlmsg::DONE {
            continue;
        }
        match message.content() {
            Ok(Content::Done { errno, .. }) => return Some(errno == 0),
            Ok(Content::Error(_)) => return Some(false),
            _ => {}
        }
    }
    None
}
