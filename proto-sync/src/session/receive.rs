//! What arrives: the walk over a datagram, and the modes that track nothing.

use std::time::Instant;

use super::{Common, Host, Machine, Session, SessionEvent};
use crate::expect::ExpectPayload;
use crate::flow::FlowPayload;
use crate::frame::{FrameError, Kind, Messages, RawMessage, TYPE_CONTROL, before, flag};

/// A message numbered this far behind the last is late; from further behind, the peer has
/// restarted.
const LATE_MAX: u32 = 1024;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    State(Kind),
    Ack(u32, u32),
    Nack(u32, u32),
    Resync,
    Alive,
}

impl Digest {
    /// `None` if it says nothing that has a meaning. Of several control flags the first counts.
    pub(super) fn of(m: &RawMessage<'_>) -> Option<Self> {
        if m.message_type != TYPE_CONTROL {
            let kind = Kind::from_type(m.message_type)?;
            return (m.flags & !flag::GREETING == 0).then_some(Self::State(kind));
        }
        let (from, to) = m.range;
        if m.flags & flag::ACK != 0 {
            return (!before(to, from)).then_some(Self::Ack(from, to));
        }
        if m.flags & flag::NACK != 0 {
            return (!before(to, from)).then_some(Self::Nack(from, to));
        }
        if m.flags & flag::RESYNC != 0 {
            return Some(Self::Resync);
        }
        (m.flags & flag::ALIVE != 0).then_some(Self::Alive)
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its attributes are to be read.
    State(Kind),
    /// It was acted on.
    Control,
    /// It is late, or none of this mode's.
    Drop,
    /// Its type or flags have no meaning.
    Bad,
    /// Its type has no meaning and no mode has refused it before.
    BadType,
}

impl Session {
    /// Takes one datagram. `true` if it held anything valid and timely: then the channel it came on
    /// is the one to send on.
    ///
    /// Refused messages are counted and do not stop the others, unless where the next begins is
    /// unknown.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8], host: &mut impl Host) -> bool {
        let mut accepted = false;
        for message in Messages::new(bytes) {
            self.common.counters.received += 1;
            match message {
                Ok(message) => accepted |= self.message(now, &message, host),
                Err(error) => {
                    let counters = &mut self.common.counters;
                    *match error {
                        FrameError::Truncated => &mut counters.truncated,
                        FrameError::BadSize => &mut counters.bad_size,
                        FrameError::WrongVersion => &mut counters.wrong_version,
                    } += 1;
                }
            }
        }
        if accepted {
            self.common.last_heard = Some(now);
            self.common.heard += 1;
        }
        accepted
    }

    fn message(&mut self, now: Instant, m: &RawMessage<'_>, host: &mut impl Host) -> bool {
        let common = &mut self.common;
        let verdict = match &mut self.machine {
            Machine::Notrack => notrack(common, m),
            Machine::Alarm => alarm(m),
            Machine::Ftfw(ftfw) => ftfw.receive(common, now, m, host),
        };
        match verdict {
            Verdict::State(kind) => self.state(kind, m, host),
            Verdict::Control => return true,
            Verdict::Drop => return false,
            Verdict::Bad => {
                common.counters.malformed_header += 1;
                return false;
            }
            Verdict::BadType => common.counters.bad_type += 1,
        }
        true
    }

    /// Reads the attributes. A message whose attributes are refused has arrived all the same: asking
    /// for it again would bring the same.
    fn state(&mut self, kind: Kind, m: &RawMessage<'_>, host: &mut impl Host) {
        let given = if kind.is_expect() {
            ExpectPayload::parse(m.payload()).map(|p| host.expect(kind, m.bytes, &p))
        } else {
            let mut payload = FlowPayload::EMPTY;
            let read = payload.read(m.payload(), &mut self.layouts);
            read.map(|()| host.flow(kind, m.bytes, &payload))
        };
        let counters = &mut self.common.counters;
        match given {
            Ok(()) => counters.state_received += 1,
            Err(_) => counters.malformed_payload += 1,
        }
    }
}

/// NOTRACK takes everything as it comes; the numbers are for the counters.
fn notrack(c: &mut Common, m: &RawMessage<'_>) -> Verdict {
    let verdict = match Digest::of(m) {
        Some(Digest::State(kind)) => Verdict::State(kind),
        Some(Digest::Resync) => {
            c.counters.resyncs_received += 1;
            c.events.add(SessionEvent::PeerWantsResync);
            Verdict::Control
        }
        Some(Digest::Alive) => Verdict::Control,
        Some(Digest::Ack(..) | Digest::Nack(..)) | None => return Verdict::Bad,
    };
    if let Some(last) = c.last_recv {
        let behind = last.wrapping_sub(m.seq);
        if before(last, m.seq) {
            c.counters.lost += u64::from(m.seq.wrapping_sub(last) - 1);
        } else {
            c.counters.before += 1;
            if behind < LATE_MAX {
                return verdict;
            }
        }
    }
    c.last_recv = Some(m.seq);
    verdict
}

/// ALARM ignores whatever has flags and takes the rest for state.
fn alarm(m: &RawMessage<'_>) -> Verdict {
    if m.flags != 0 {
        return Verdict::Drop;
    }
    Kind::from_type(m.message_type).map_or(Verdict::BadType, Verdict::State)
}
