//! Reads the kernel's table for all shards: one datagram at a time, so that between two of them
//! the thread looks after its events.
//!
//! When the hash table is given another size meanwhile the kernel goes on in the new one where it was
//! in the old one, and passes over a part of the flows without a word.

use io::{Group, IoError, Outcome, RequestSocket, Ring, SendOptions, sysctl};
use proto_ctnl::consts::nlmsg;
use proto_ctnl::{Content, DumpFilter, Encoder, Messages};

use super::tokens::Token;

/// Buckets of the kernel's hash table.
pub(super) const BUCKETS: &str = "net/netfilter/nf_conntrack_buckets";
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
    /// Buckets of the hash table at the begin, where they may be read.
    buckets: Option<String>,
    /// They are as many as then.
    whole: bool,
    /// The request waits for a send buffer.
    unsent: bool,
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
            buckets: None,
            whole: true,
            unsent: false,
            asked: false,
        })
    }

    /// Gives the reading up, if nothing of it is on its way; whether it has. What the kernel has yet
    /// to tell goes with the socket. Without one to take its place the reading goes on.
    pub(super) fn give_up(&mut self) -> Result<bool, IoError> {
        if self.asked {
            return Ok(false);
        }
        self.socket = RequestSocket::open(4 * DATAGRAM_BYTES, 0)?;
        self.end();
        Ok(true)
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
        self.buckets = sysctl::read(BUCKETS).ok();
        self.whole = true;
        self.request(ring, Table::Flows)
    }

    /// The request could not be sent: nothing will come.
    pub(super) fn abandon(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.table = Table::None;
        self.unsent = false;
    }

    fn request(&mut self, ring: &mut Ring, table: Table) -> Result<(), IoError> {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.table = table;
        self.unsent = true;
        self.send(ring)
    }

    /// Sends the request, if it waits and there is a buffer for it.
    fn send(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        if !self.unsent {
            return Ok(());
        }
        let Some(mut buffer) = ring.send_buffer() else { return Ok(()) };
        let mut encoder = Encoder::new(&mut buffer);
        let encoded = match self.table {
            Table::Expectations => encoder.expect_dump(0, self.seq),
            _ => encoder.flow_dump(&DumpFilter::default(), self.seq),
        };
        debug_assert!(encoded.is_ok(), "a send buffer has room for one request");
        let (len, fd) = (encoder.len(), self.socket.fd());
        self.unsent = false;
        ring.send(Token::DumpSent.raw(), fd, buffer.freeze(), 0..len, &SendOptions::default())
    }

    /// Asks for the next datagram, unless one is under way.
    pub(super) fn ask(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        self.send(ring)?;
        if self.asked || self.unsent || self.table == Table::None {
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
                self.end();
                return Ok(Progress::Ended(false));
            }
        };
        visit(datagram);
        // Each time: it may be given its old size again before the end.
        self.whole = self.whole && sysctl::read(BUCKETS).ok() == self.buckets;
        match end_of(datagram, self.seq) {
            None => Ok(Progress::More),
            Some(true) if self.table == Table::Flows && self.expectations => {
                self.request(ring, Table::Expectations)?;
                Ok(Progress::More)
            }
            Some(complete) => {
                self.end();
                Ok(Progress::Ended(complete && self.whole))
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use io::RingConfig;
    use rustix::io::Errno;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    /// Runs a reader until it has read all, or was told that it may not; whether it has.
    fn read(ring: &mut Ring, reader: &mut DumpReader) -> bool {
        loop {
            reader.ask(ring).expect("a ring");
            ring.wait(1, Duration::from_secs(5)).expect("a ring");
            while let Some(completion) = ring.next_completion() {
                if completion.token != Token::Dump.raw() {
                    continue;
                }
                let progress = reader.handle(ring, &completion.outcome, |_| ()).expect("a ring");
                if let Progress::Ended(complete) = progress {
                    return complete;
                }
            }
        }
    }

    fn started(send_buffers: u16) -> (Ring, DumpReader) {
        let config = RingConfig { send_buffers, ..RingConfig::default() };
        let mut ring = Ring::new(&config).expect("a ring");
        let mut reader = DumpReader::open(false).expect("a socket");
        reader.start(&mut ring).expect("buffers");
        (ring, reader)
    }

    /// A link that takes little may hold all buffers. This once ended the daemon.
    #[test]
    fn a_request_waits_for_a_buffer() {
        let (mut ring, mut reader) = started(1);
        let held = ring.send_buffer();
        reader.begin(&mut ring).expect("no reason to end");
        reader.ask(&mut ring).expect("no reason to end");
        assert!(reader.is_running() && !reader.asked);
        drop(held);
        read(&mut ring, &mut reader);
        assert!(!reader.is_running());
    }

    /// The error was once dropped.
    #[test]
    fn without_a_descriptor_a_reading_goes_on_and_says_why() {
        let (mut ring, mut reader) = started(4);
        reader.begin(&mut ring).expect("a ring");
        let all = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..all }).expect("ours to lower");
        let error = reader.give_up().expect_err("there is no descriptor");
        setrlimit(Resource::Nofile, all).expect("as it was");
        assert_eq!(error.errno(), Some(Errno::MFILE.raw_os_error()));
        assert!(reader.is_running());
        assert!(reader.give_up().expect("there is one") && !reader.is_running());
    }

    /// What it passes over was once taken for ended.
    #[test]
    fn a_table_of_another_size_was_not_read_whole() {
        let (mut ring, mut reader) = started(4);
        reader.begin(&mut ring).expect("a ring");
        if read(&mut ring, &mut reader) {
            reader.begin(&mut ring).expect("a ring");
            reader.buckets = Some("another".to_owned());
            assert!(!read(&mut ring, &mut reader));
        }
    }
}
