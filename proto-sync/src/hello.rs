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
//!   behind newer messages, is a late copy. But a peer that restarted at such a number keeps saying
//!   HELLO: when it goes on so, and nothing newer comes, it is a restart.

use std::time::{Duration, Instant};

use crate::frame::{before, flag};

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
}

impl Greeting {
    pub(crate) const fn new() -> Self {
        Self { state: State::Init, answer: false, run: None, suspect: None }
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
    pub(crate) fn begin(&mut self, seq: u32, now: Instant) {
        self.run = Some(Run { first: seq, last: seq, at: now });
        self.suspect = None;
        self.answer = true;
    }

    /// Nothing is wrong with the peer's numbering: a message newer than `last` was accepted.
    pub(crate) fn settled(&mut self) {
        self.suspect = None;
    }

    /// A HELLO newer than `last`, the last number accepted. `None` if the peer has not restarted,
    /// else the first number of its new life that may have been missed.
    pub(crate) fn ahead(&mut self, seq: u32, last: u32, flags: u8, now: Instant) -> Option<u32> {
        self.answer = true;
        if let Some(run) = &mut self.run
            && run.last == last
            && seq.wrapping_sub(run.last) <= NEAR
            && now.saturating_duration_since(run.at) <= COPY_AGE_MAX
        {
            run.last = seq;
            run.at = now;
            return None;
        }
        let old_flag = self.state == State::Done && flags & flag::HELLO_BACK != 0;
        let missed = self.suspect.map_or(last.wrapping_add(1), |suspect| suspect.first);
        self.begin(seq, now);
        (!old_flag).then_some(missed)
    }

    /// A HELLO not newer than the last number accepted. `None` if it is a late copy, else the peer
    /// has restarted, and this is the first number that was taken for a late copy, or `seq`.
    pub(crate) fn late(&mut self, seq: u32, now: Instant) -> Option<u32> {
        let near = self.run.is_some_and(|run| {
            let behind = before(run.last.wrapping_add(NEAR), seq);
            let ahead = before(seq, run.first.wrapping_sub(NEAR));
            !behind && !ahead && now.saturating_duration_since(run.at) <= COPY_AGE_MAX
        });
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
        self.begin(seq, now);
        Some(missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_goes_on_and_is_answered_each_time() {
        let now = Instant::now();
        let mut g = Greeting::new();
        g.begin(100, now);
        assert_eq!(g.flags(), flag::HELLO | flag::HELLO_BACK);
        assert_eq!(g.ahead(101, 100, flag::HELLO, now), None);
        assert_eq!(g.ahead(103, 101, flag::HELLO, now), None);
        assert_eq!(g.flags(), flag::HELLO | flag::HELLO_BACK);
        g.answered();
        assert_eq!(g.flags(), 0);
    }

    #[test]
    fn a_hello_after_plain_messages_is_a_restart_unless_its_flags_are_old() {
        let now = Instant::now();
        let mut g = Greeting::new();
        g.begin(100, now);
        g.flags();
        g.answered();
        assert_eq!(g.ahead(111, 110, flag::HELLO | flag::HELLO_BACK, now), None);
        assert_eq!(g.ahead(121, 120, flag::HELLO, now), Some(121));
    }

    #[test]
    fn late_copies_are_told_from_a_restart_by_what_follows() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut g = Greeting::new();
        g.begin(100, now);
        // A burst of copies is one event.
        for seq in [100, 101, 102] {
            assert_eq!(g.late(seq, at(10)), None);
        }
        g.settled();
        assert_eq!(g.late(100, at(2000)), None);
        assert_eq!(g.late(101, at(2500)), None);
        // Still saying HELLO, and nothing newer: the peer has restarted at 100.
        assert_eq!(g.late(102, at(3000)), Some(100));
        // Far from the greeting, or long after it, there is no doubt.
        assert_eq!(g.late(7, at(3001)), Some(7));
        assert_eq!(g.late(7, at(9000)), Some(7));
    }
}
