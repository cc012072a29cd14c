//! The greeting: HELLO on everything until HELLO_BACK, and what a HELLO from the peer means.
//!
//! A HELLO says that the peer's numbering begins anew, whatever its numbers are. But copies of a
//! HELLO that the network delivers late say nothing, and the original repeats control messages with
//! the flags of their first sending. There is no incarnation in the protocol, so the three are told
//! apart by number and time:
//!
//! - Within one life a peer says HELLO on its first messages without a break. So a HELLO that
//!   follows a HELLO goes on with the same greeting.
//! - A peer says HELLO_BACK only to a HELLO, and we stop saying HELLO when it has answered. So HELLO
//!   together with HELLO_BACK later than that is an old flag.
//! - A HELLO with a number at or near those of the last greeting, within a few seconds of it, and
//!   behind newer messages, is a late copy. But not if another message had that number. And a peer
//!   that restarted at such a number keeps saying HELLO: when it goes on so, and nothing newer
//!   comes, it is a restart.
//! - What waited in a connection while others brought newer messages is such a copy, whatever its
//!   number and its age: a peer that restarts makes new connections.

use std::time::{Duration, Instant};

use crate::frame::{RawMessage, before, flag};

/// Numbers by which a copy may be older, or newer, than any HELLO of the greeting seen in order.
const NEAR: u32 = 64;
/// Age that a late copy has at most.
const COPY_AGE_MAX: Duration = Duration::from_secs(5);
/// A restarted peer, whose first messages look like late copies, is believed after this. It says
/// HELLO once a second or more often.
const PATIENCE: Duration = Duration::from_millis(900);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Init,
    /// HELLO was sent and not answered.
    Say,
    /// The peer knows us.
    Done,
}

/// A range of numbers and when its last was seen.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u32,
    last: u32,
    at: Instant,
}

/// Messages with HELLO whose content is remembered.
const SEEN: usize = NEAR as usize;

/// See the module.
#[derive(Debug)]
pub(crate) struct Greeting {
    state: State,
    /// The next message answers the peer's HELLO.
    answer: bool,
    /// The peer's last greeting.
    run: Option<Run>,
    /// HELLOs that look like late copies; `at` is when the first came.
    suspect: Option<Run>,
    /// Number and hash of the greeting's messages, at the number modulo the size.
    seen: [Option<(u32, u32)>; SEEN],
}

impl Greeting {
    pub(crate) const fn new() -> Self {
        Self { state: State::Init, answer: false, run: None, suspect: None, seen: [None; SEEN] }
    }

    /// Whether the peer has answered our HELLO.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The flags of the next message that is sent.
    pub(crate) fn flags(&mut self) -> u8 {
        let mut flags = 0;
        if self.state != State::Done {
            self.state = State::Say;
            flags |= flag::HELLO;
        }
        if self.answer {
            self.answer = false;
            flags |= flag::HELLO_BACK;
        }
        flags
    }

    /// The peer has seen our HELLO. Before we have said it, it means another life of ours.
    pub(crate) fn answered(&mut self) {
        if self.state == State::Say {
            self.state = State::Done;
        }
    }

    /// A HELLO that begins a greeting.
    pub(crate) fn begin(&mut self, seq: u32, message: &[u8], now: Instant) {
        self.seen = [None; SEEN];
        self.remember(seq, message);
        self.run = Some(Run { first: seq, last: seq, at: now });
        self.suspect = None;
        self.answer = true;
    }

    fn remember(&mut self, seq: u32, message: &[u8]) {
        self.seen[seq as usize % SEEN] = Some((seq, hash(message)));
    }

    /// Whether another message than this one had its number.
    fn differs(&self, seq: u32, message: &[u8]) -> bool {
        matches!(self.seen[seq as usize % SEEN], Some((n, h)) if n == seq && h != hash(message))
    }

    /// Whether HELLOs were dropped that looked like late copies.
    pub(crate) const fn is_suspicious(&self) -> bool {
        self.suspect.is_some()
    }

    /// Whether message `last` was of the peer's greeting.
    pub(crate) fn ends_with(&self, last: u32) -> bool {
        self.run.is_some_and(|run| run.last == last)
    }

    /// Nothing is wrong with the peer's numbering: a message newer than `last` was accepted.
    pub(crate) fn settled(&mut self) {
        self.suspect = None;
    }

    /// A HELLO newer than `last`, the last number accepted. `None` if the peer has not restarted,
    /// else the first number of its new life that may have been missed.
    pub(crate) fn ahead(&mut self, m: &RawMessage<'_>, last: u32, now: Instant) -> Option<u32> {
        let seq = m.seq;
        self.answer = true;
        if let Some(run) = &mut self.run
            && run.last == last
            && seq.wrapping_sub(run.last) <= NEAR
            && now.saturating_duration_since(run.at) <= COPY_AGE_MAX
        {
            run.last = seq;
            run.at = now;
            self.remember(seq, m.bytes);
            return None;
        }
        let old_flag = self.state == State::Done && m.flags & flag::HELLO_BACK != 0;
        let missed = self.suspect.map_or(last.wrapping_add(1), |suspect| suspect.first);
        self.begin(seq, m.bytes, now);
        (!old_flag).then_some(missed)
    }

    /// A HELLO not newer than the last number accepted. `None` if it is a late copy, else the peer
    /// has restarted, and this is the first number that was taken for a late copy, or `seq`.
    /// `overtaken`: it waited in a connection while others brought what was sent later.
    pub(crate) fn late(
        &mut self,
        m: &RawMessage<'_>,
        overtaken: bool,
        now: Instant,
    ) -> Option<u32> {
        let seq = m.seq;
        let copy = !self.differs(seq, m.bytes);
        let recent = self.run.is_some_and(|run| {
            let behind = before(run.last.wrapping_add(NEAR), seq);
            let ahead = before(seq, run.first.wrapping_sub(NEAR));
            !behind && !ahead && now.saturating_duration_since(run.at) <= COPY_AGE_MAX
        });
        let near = copy && (overtaken || recent);
        let missed = match self.suspect {
            Some(s) if before(s.last, seq) => {
                if near && now.saturating_duration_since(s.at) < PATIENCE {
                    self.suspect = Some(Run { last: seq, ..s });
                    return None;
                }
                s.first
            }
            // An older copy, or the same again, proves nothing.
            Some(_) if near => return None,
            _ if near => {
                self.suspect = Some(Run { first: seq, last: seq, at: now });
                return None;
            }
            _ => seq,
        };
        self.begin(seq, m.bytes, now);
        Some(missed)
    }
}

/// FNV-1a.
fn hash(message: &[u8]) -> u32 {
    message.iter().fold(0x811c_9dc5, |h, &octet| (h ^ u32::from(octet)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with HELLO and what else `flags` says.
    fn hello(seq: u32, flags: u8) -> RawMessage<'static> {
        RawMessage {
            bytes: b"a message",
            message_type: 10,
            flags: flags | flag::HELLO,
            seq,
            range: (0, 0),
        }
    }

    #[test]
    fn a_greeting_goes_on_and_is_answered_each_time() {
        let now = Instant::now();
        let mut g = Greeting::new();
        g.begin(100, b"", now);
        assert_eq!(g.flags(), flag::HELLO | flag::HELLO_BACK);
        assert_eq!(g.ahead(&hello(101, 0), 100, now), None);
        assert_eq!(g.ahead(&hello(103, 0), 101, now), None);
        assert_eq!(g.flags(), flag::HELLO | flag::HELLO_BACK);
        g.answered();
        assert_eq!(g.flags(), 0);
    }

    #[test]
    fn a_hello_after_plain_messages_is_a_restart_unless_its_flags_are_old() {
        let now = Instant::now();
        let mut g = Greeting::new();
        g.begin(100, b"", now);
        g.flags();
        g.answered();
        assert_eq!(g.ahead(&hello(111, flag::HELLO_BACK), 110, now), None);
        assert_eq!(g.ahead(&hello(121, 0), 120, now), Some(121));
    }

    #[test]
    fn late_copies_are_told_from_a_restart_by_what_follows() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut g = Greeting::new();
        g.begin(100, b"a message", now);
        // A burst of copies is one event.
        for seq in [100, 101, 102] {
            assert_eq!(g.late(&hello(seq, 0), false, at(10)), None);
        }
        g.settled();
        assert_eq!(g.late(&hello(100, 0), false, at(2000)), None);
        assert_eq!(g.late(&hello(101, 0), false, at(2500)), None);
        // Still saying HELLO, and nothing newer: the peer has restarted at 100.
        assert_eq!(g.late(&hello(102, 0), false, at(3000)), Some(100));
        // Far from the greeting, or long after it, there is no doubt.
        assert_eq!(g.late(&hello(7, 0), false, at(3001)), Some(7));
        assert_eq!(g.late(&hello(7, 0), false, at(9000)), Some(7));
    }

    #[test]
    fn another_message_of_the_same_number_is_a_restart() {
        let now = Instant::now();
        let mut g = Greeting::new();
        g.begin(100, b"a message", now);
        assert_eq!(g.ahead(&hello(101, 0), 100, now), None);
        assert_eq!(g.late(&hello(100, 0), false, now), None);
        let other = RawMessage { bytes: b"another", ..hello(101, 0) };
        assert_eq!(g.late(&other, false, now), Some(100));
    }
}
