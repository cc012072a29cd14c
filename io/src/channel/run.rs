//! What is to be sent: runs of datagrams of equal length in shared buffers, in order.

use std::collections::VecDeque;
use std::ops::Range;

use rustix::io::Errno;
use socket2::SockAddr;

use crate::error::IoError;
use crate::fd::Fd;
use crate::ring::{Outcome, Ring, SendBuffer, SendBytes, SendOptions};

/// Datagrams in one segmented send: the oldest kernels take no more (`UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: u32 = 64;
/// Octets in one send, below what an IP datagram can hold.
const RUN_MAX: usize = 65_000;
/// Runs under way, which bounds the operations of one channel, and the buffers that it holds.
pub const RUNS_MAX: usize = 64;

/// What [`Channel::transmit`](super::Channel::transmit) took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transmitted {
    /// Datagrams.
    pub datagrams: u32,
    /// Their octets.
    pub bytes: usize,
    /// Whether there may be more to send, for which there was no room.
    pub stalled: bool,
}

/// Datagrams that lie side by side, all of the first one's length but the last, which may be
/// shorter.
#[derive(Debug)]
struct Run {
    bytes: SendBytes,
    range: Range<usize>,
    segment: usize,
}

impl Run {
    fn datagrams(&self) -> u32 {
        self.range.len().div_ceil(self.segment) as u32
    }
}

/// A run that is being filled.
#[derive(Debug)]
struct Open {
    range: Range<usize>,
    segment: usize,
    datagrams: u32,
    /// A shorter datagram ends a run.
    closed: bool,
}

impl Open {
    fn takes(&self, octets: usize) -> bool {
        !self.closed
            && octets <= self.segment
            && self.datagrams < SEGMENTS_MAX
            && self.range.len() + octets <= RUN_MAX
    }
}

/// The sending side's queue. Its runs form a chain in which each waits for the one before, so
/// that a full socket delays them and does not disorder them.
#[derive(Debug)]
pub(super) struct Runs {
    queue: VecDeque<Run>,
    /// Runs of the buffer that is being filled; empty between calls.
    open: Vec<Open>,
    /// How many of them, from the front, the ring knows.
    under_way: usize,
    /// Whether the kernel cuts runs into datagrams, and whether it may be tried.
    segments: bool,
    may_segment: bool,
    /// A stream: a run needs no cutting.
    stream: bool,
    /// Streams: datagrams from a connection that broke, and their number at most.
    backlog: VecDeque<Box<[u8]>>,
    backlog_max: usize,
    backlog_drops: u64,
}

impl Runs {
    pub(super) fn new(segments: bool) -> Self {
        Self {
            queue: VecDeque::with_capacity(RUNS_MAX),
            open: Vec::with_capacity(RUNS_MAX),
            under_way: 0,
            segments,
            may_segment: segments,
            stream: false,
            backlog: VecDeque::new(),
            backlog_max: 0,
            backlog_drops: 0,
        }
    }

    /// The queue of a stream, which keeps `backlog_max` datagrams of a broken connection.
    pub(super) fn of_stream(backlog_max: usize) -> Self {
        Self { stream: true, backlog_max, ..Self::new(false) }
    }

    pub(super) fn segments(&self) -> bool {
        self.segments && !self.stream
    }

    /// The device has changed: what it refused may work now.
    pub(super) fn try_segments(&mut self) {
        self.segments = self.may_segment;
    }

    pub(super) fn backlog_drops(&self) -> u64 {
        self.backlog_drops
    }

    /// Whether the ring knows nothing of this queue.
    pub(super) fn idle(&self) -> bool {
        self.under_way == 0
    }

    /// Takes datagrams from the backlog and from `fill` into buffers of the ring.
    pub(super) fn fill(
        &mut self,
        ring: &Ring,
        datagram_max: usize,
        mut fill: impl FnMut(&mut [u8]) -> Option<usize>,
    ) -> Transmitted {
        let mut sum = Transmitted::default();
        loop {
            let buffer = if self.queue.len() < RUNS_MAX { ring.send_buffer() } else { None };
            let Some(buffer) = buffer else {
                sum.stalled = true;
                return sum;
            };
            if !self.fill_buffer(buffer, datagram_max, &mut fill, &mut sum) {
                return sum;
            }
        }
    }

    /// Fills one buffer and queues its runs. Returns whether there may be more to take.
    fn fill_buffer(
        &mut self,
        mut buffer: SendBuffer,
        datagram_max: usize,
        fill: &mut impl FnMut(&mut [u8]) -> Option<usize>,
        sum: &mut Transmitted,
    ) -> bool {
        let datagram_max = datagram_max.clamp(1, RUN_MAX.min(buffer.len()));
        let room = RUNS_MAX - self.queue.len();
        let mut at = 0;
        let mut dry = false;
        while at + datagram_max <= buffer.len() && self.open.len() < room {
            let octets = match self.take_old(&mut buffer[at..]) {
                Some(0) => break,
                Some(octets) => octets,
                None => match fill(&mut buffer[at..at + datagram_max]) {
                    Some(octets) => octets.min(datagram_max),
                    None => {
                        dry = true;
                        break;
                    }
                },
            };
            if octets > 0 {
                self.extend(at, octets);
                at += octets;
                sum.datagrams += 1;
                sum.bytes += octets;
            }
        }
        let bytes = buffer.freeze();
        for Open { range, segment, .. } in self.open.drain(..) {
            self.queue.push_back(Run { bytes: bytes.clone(), range, segment });
        }
        !dry
    }

    /// The oldest datagram of the backlog: its octets, 0 if it does not fit, `None` if there is
    /// none.
    fn take_old(&mut self, room: &mut [u8]) -> Option<usize> {
        let old = self.backlog.front()?;
        let Some(room) = room.get_mut(..old.len()) else { return Some(0) };
        room.copy_from_slice(old);
        self.backlog.pop_front().map(|old| old.len())
    }

    fn extend(&mut self, at: usize, octets: usize) {
        let merge = self.segments || self.stream;
        match self.open.last_mut() {
            Some(run) if merge && run.takes(octets) => {
                run.range.end += octets;
                run.datagrams += 1;
                run.closed = octets < run.segment;
            }
            _ => self.open.push(Open {
                range: at..at + octets,
                segment: octets,
                datagrams: 1,
                closed: false,
            }),
        }
    }

    /// Gives the whole queue to the ring as one chain.
    pub(super) fn submit(
        &mut self,
        ring: &mut Ring,
        token: u64,
        fd: &Fd,
        to: Option<&SockAddr>,
    ) -> Result<(), IoError> {
        let count = self.queue.len().min(RUNS_MAX);
        if self.under_way > 0 || count == 0 {
            return Ok(());
        }
        ring.reserve(count)?;
        for (i, run) in self.queue.iter().take(count).enumerate() {
            let segment = (run.range.len() > run.segment && !self.stream)
                .then(|| u16::try_from(run.segment).unwrap_or(u16::MAX));
            let options = SendOptions { to, segment, whole: self.stream, chained: i + 1 < count };
            ring.send(token, fd, run.bytes.clone(), run.range.clone(), &options)?;
            self.under_way += 1;
        }
        Ok(())
    }

    /// A send of the chain has ended. Returns the datagrams that are lost for good, and why.
    pub(super) fn completed(&mut self, outcome: &Outcome) -> Option<(u32, Errno)> {
        if self.under_way == 0 {
            return None;
        }
        self.under_way -= 1;
        match outcome {
            Outcome::Failed(error) if self.stream => Some((0, *error)),
            Outcome::Failed(error) => self.failed(*error),
            // It stays and goes with the next chain. Only the first of those that are left can
            // have been sent, so a chain's cancelled rest is in order.
            Outcome::Cancelled => None,
            _ => {
                self.queue.pop_front();
                None
            }
        }
    }

    /// The datagrams of the run in front were refused.
    fn failed(&mut self, error: Errno) -> Option<(u32, Errno)> {
        let run = self.queue.pop_front()?;
        let cut = run.datagrams() > 1;
        if !cut || !matches!(error, Errno::INVAL | Errno::IO | Errno::MSGSIZE | Errno::OPNOTSUPP) {
            return Some((run.datagrams(), error));
        }
        // The device cannot cut, or not to this size: send these one by one, and from now on.
        self.segments = false;
        let mut end = run.range.end;
        while end > run.range.start {
            let last = (end - run.range.start - 1) % run.segment + 1;
            let range = end - last..end;
            end -= last;
            self.queue.push_front(Run { bytes: run.bytes.clone(), range, segment: last });
        }
        None
    }

    /// Forgets all that was not sent.
    pub(super) fn discard(&mut self) {
        self.queue.clear();
        self.backlog.clear();
    }

    /// The stream broke: what was under way goes to the backlog, message by message.
    pub(super) fn broken(&mut self) {
        if !self.stream {
            return;
        }
        for run in self.queue.drain(..) {
            for datagram in run.bytes[run.range.clone()].chunks(run.segment) {
                if self.backlog_max == 0 || self.backlog.len() >= self.backlog_max {
                    self.backlog_drops += 1;
                    if self.backlog_max == 0 {
                        continue;
                    }
                    self.backlog.pop_front();
                }
                self.backlog.push_back(datagram.into());
            }
        }
    }
}
