//! FTFW: acknowledgements, requests to repeat, and the repair of what these can not repair.
//!
//! Every message counts: a receiver acknowledges ranges of numbers, control messages included, and
//! asks for the numbers that it missed as soon as a later one arrives. What is repeated has a new
//! number and the newest state.

use std::time::{Duration, Instant};

use super::receive::{Digest, Verdict};
use super::{Common, Host, SessionEvent};
use crate::control::{ControlQueue, Range};
use crate::frame::{RawMessage, before, flag};
use crate::hello::Greeting;
use crate::resend::{Evicted, ResendEntry, ResendQueue, Sent};

/// Time without an acknowledgement after which sending goes on. A peer acknowledges after its
/// window or after a second, and its window may be larger than what may be in flight.
const RELIEF: Duration = Duration::from_millis(100);
/// Time that an element may lie behind acknowledged ones: longer than a lost acknowledgement takes
/// to be asked for and repeated.
const LEFT_BEHIND: Duration = Duration::from_secs(3);
/// Time in which a peer that is there answers.
const ANSWER: Duration = Duration::from_millis(300);
/// Time that a HELLO of this node may be under way after the peer has answered one.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// From messages that were told in vain to the request for everything.
const ASK_DELAY: Duration = Duration::from_secs(1);
/// Time between two repetitions of all that is in flight. A peer does not restart more often, but
/// who forges its greeting would have everything sent again for each datagram of his.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
/// After a restart there is no telling how many numbers were lost; more than this is no loss.
const RESTART_GAP_MAX: u32 = 4096;

/// Time in which datagrams of a former life of the peer may still arrive.
const FORMER_LIFE: Duration = Duration::from_secs(5);
/// Numbers around its last, up to [`PLAUSIBLE_GAP`] beyond, that they have.
const FORMER_NEAR: u32 = 1024;
/// A message so little ahead belongs to the present life for sure.
const PLAUSIBLE_GAP: u32 = 64;
/// Time after which numbers that are all behind ours, but rise, are the peer's true ones. It sends
/// something every second.
const ASTRAY: Duration = Duration::from_millis(2500);

/// A number further ahead than this was never meant for us.
const CATCH_UP_MAX: u32 = 1 << 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Ftfw {
    greeting: Greeting,
    /// The first number of this life.
    first_seq: u32,
    /// The last number of the peer's former life, and when that ended.
    former: Option<(u32, Instant)>,
    /// Messages behind the last accepted, and none before it since: first and last number, and when
    /// the first came.
    behind: Option<(u32, u32, Instant)>,
    ack_window: u32,
    /// Messages until an acknowledgement is due.
    window: u32,
    /// First number not acknowledged by us.
    ack_from: Option<u32>,
    control: ControlQueue,
    resend: ResendQueue,
    flight: Flight,
    /// The peer has lost track, maybe of a request that was evicted here. Everything is asked for
    /// when it acknowledges around that, or with the next tick, not at once, or two nodes with
    /// small queues would go on asking each other.
    ask_again: bool,
    /// When everything was last asked for.
    resync_at: Option<Instant>,
    /// The last message that came while this node greeted, its answer included, and when.
    greeted: Option<(u32, Instant)>,
    /// When everything is to be asked for, because messages are missing that an original does not
    /// repeat.
    ask_at: Option<Instant>,
    /// When everything in flight was last repeated for a peer that restarted.
    repeated_at: Option<Instant>,
    /// The peer restarted again since, and that is due again when the interval has passed.
    repeat_owed: bool,
    /// The highest number that an acknowledgement of the peer began with.
    acked_from: Option<u32>,
    /// What was before this number at that time has been left behind.
    left_behind: Option<(u32, Instant)>,
}

/// How much may be unacknowledged.
#[derive(Debug)]
struct Flight {
    max: u32,
    /// Oldest unacknowledged elements that no longer count.
    forgiven: u32,
    /// When the peer last acknowledged anything, or the limit was last lifted.
    progress_at: Instant,
    /// State waits because of the limit.
    blocked: bool,
}

impl Ftfw {
    pub(super) fn new(
        ack_window: u32,
        resend_queue: u32,
        in_flight_max: u32,
        seq: u32,
        now: Instant,
    ) -> Self {
        let ack_window = ack_window.max(1);
        let resend = ResendQueue::new(resend_queue, seq);
        // More in flight than can be kept would evict before the peer has a chance to speak.
        let most = resend_queue.max(1);
        let max = if in_flight_max == 0 { most } else { in_flight_max.min(most) };
        Self {
            greeting: Greeting::new(),
            first_seq: seq,
            former: None,
            behind: None,
            ack_window,
            window: ack_window,
            ack_from: None,
            control: ControlQueue::new(),
            resend,
            flight: Flight { max, forgiven: 0, progress_at: now, blocked: false },
            ask_again: false,
            resync_at: None,
            greeted: None,
            ask_at: None,
            repeated_at: None,
            repeat_owed: false,
            acked_from: None,
            left_behind: None,
        }
    }

    pub(super) const fn is_greeted(&self) -> bool {
        self.greeting.is_done()
    }

    pub(super) fn control_depth(&self) -> usize {
        self.control.len()
    }

    pub(super) const fn resend_depth(&self) -> (u32, u32) {
        (self.resend.len(), self.resend.peak())
    }

    pub(super) fn resend_queue(&self) -> impl Iterator<Item = ResendEntry> + '_ {
        self.resend.iter()
    }

    /// A second has passed since the last datagram. The countdown of the window goes on.
    pub(super) fn tick(&mut self, c: &mut Common) {
        if let (Some(from), Some(to)) = (self.ack_from.take(), c.last_recv) {
            self.control.ack(from, to);
            c.alive = false;
        }
        if core::mem::take(&mut self.ask_again) {
            let Evicted { requests, .. } = self.resend.evicted();
            self.repair(c, Evicted { objects: false, requests });
        }
    }

    pub(super) fn receive(
        &mut self,
        c: &mut Common,
        now: Instant,
        m: &RawMessage<'_>,
        host: &mut impl Host,
    ) -> Verdict {
        let Some(digest) = Digest::of(m) else { return Verdict::Bad };
        let greets = !self.greeting.is_done();
        if m.flags & flag::HELLO_BACK != 0 {
            self.greeting.answered();
        }
        if greets && let Some(last) = c.last_recv {
            self.greeted = Some((last, now));
        }
        if !self.place(c, now, m, host) {
            c.counters.before += 1;
            return Verdict::Drop;
        }
        if greets {
            self.greeted = Some((m.seq, now));
        }
        self.behind = None;
        self.accept(c, m.seq, digest);
        if self.greeting.is_done() && self.ask_at.take_if(|at| *at <= now).is_some() {
            c.resync = true;
        }
        self.act(c, now, digest, host)
    }

    /// Compares the message's number with the last one accepted. `false` if the message is late.
    fn place(
        &mut self,
        c: &mut Common,
        now: Instant,
        m: &RawMessage<'_>,
        host: &mut impl Host,
    ) -> bool {
        let hello = m.flags & flag::HELLO != 0;
        let Some(last) = c.last_recv else {
            if hello {
                self.greeting.begin(m.seq, m.bytes, now);
                self.restart(c, now, host);
            }
            return true;
        };
        let ahead = before(last, m.seq);
        if ahead && !hello {
            if self.is_of_former_life(now, last, m.seq) {
                return false;
            }
            self.greeting.settled();
            self.gap(c, now, last.wrapping_add(1), m.seq, false);
            return true;
        }
        if !hello {
            let Some(first) = self.astray(now, m.seq) else { return false };
            c.counters.renumbered += 1;
            self.control.clear();
            self.ack_from = None;
            self.gap(c, now, first, m.seq, true);
            return true;
        }
        let dropped = self.greeting.is_suspicious();
        let greets = self.greeting.ends_with(last);
        let missed = match ahead {
            true => self.greeting.ahead(m, last, now),
            false => self.greeting.late(m, c.overtaken, now),
        };
        match missed {
            Some(first) => {
                self.restart(c, now, host);
                self.former = Some((last, now));
                if ahead && greets {
                    // Most likely it has not restarted, but told more in vain than was asked for.
                    self.ask_later(now);
                }
                self.gap(c, now, first, m.seq, true);
                if dropped {
                    // A request for everything may be among them, perhaps of a life that has ended
                    // as well and can not be asked for it again.
                    c.events.add(SessionEvent::PeerWantsResync);
                }
            }
            None if ahead => self.gap(c, now, last.wrapping_add(1), m.seq, false),
            None => c.counters.late_hellos += 1,
        }
        ahead || missed.is_some()
    }

    /// Whether a message, ahead of `last`, was sent before the peer restarted with lower numbers.
    fn is_of_former_life(&self, now: Instant, last: u32, seq: u32) -> bool {
        self.former.is_some_and(|(end, at)| {
            now.saturating_duration_since(at) < FORMER_LIFE
                && seq.wrapping_sub(last) > PLAUSIBLE_GAP
                && end.wrapping_add(PLAUSIBLE_GAP).wrapping_sub(seq) < FORMER_NEAR
        })
    }

    /// A message behind the last one accepted. If the peer goes on so, the last one was none of
    /// its: gives the first number that was dropped for it.
    fn astray(&mut self, now: Instant, seq: u32) -> Option<u32> {
        match &mut self.behind {
            Some((first, last, at)) if before(*last, seq) => {
                *last = seq;
                (now.saturating_duration_since(*at) >= ASTRAY).then_some(*first)
            }
            other => {
                *other = Some((seq, seq, now));
                None
            }
        }
    }

    /// The numbers from `first` up to `seq`, not included, are missing, if there are any.
    fn gap(&mut self, c: &mut Common, now: Instant, first: u32, seq: u32, restarted: bool) {
        let missing = seq.wrapping_sub(first);
        if missing == 0 || restarted && missing > RESTART_GAP_MAX {
            return;
        }
        // An original keeps nothing of what it sent before it hears a HELLO.
        if self.greeted.is_some_and(|(last, at)| {
            first == last.wrapping_add(1) || now.saturating_duration_since(at) <= UNDER_WAY
        }) {
            self.ask_later(now);
        }
        if !restarted {
            c.counters.lost += u64::from(missing);
        }
        if let Some(from) = self.ack_from.take() {
            self.control.ack(from, first.wrapping_sub(1));
        }
        self.control.nack(first, seq.wrapping_sub(1));
        self.window = self.ack_window;
    }

    /// Everything is to be asked for, when this node has greeted and no HELLO of it is under way.
    fn ask_later(&mut self, now: Instant) {
        self.ask_at = Some(now + ASK_DELAY);
    }

    /// Counts message `seq`, the newest.
    fn accept(&mut self, c: &mut Common, seq: u32, digest: Digest) {
        let from = *self.ack_from.get_or_insert(seq);
        c.last_recv = Some(seq);
        // With a window of one, acknowledging an acknowledgement at once would never end. The timer
        // does it.
        if self.ack_window == 1 && matches!(digest, Digest::Ack(..)) {
            return;
        }
        self.window = self.window.saturating_sub(1);
        if self.window == 0 {
            self.control.ack(from, seq);
            self.ack_from = None;
            self.window = self.ack_window;
        }
    }

    fn act(
        &mut self,
        c: &mut Common,
        now: Instant,
        digest: Digest,
        host: &mut impl Host,
    ) -> Verdict {
        if let Digest::Ack(_, to) | Digest::Nack(_, to) = digest {
            self.catch_up(c, to, host);
        }
        match digest {
            Digest::State(kind) => return Verdict::State(kind),
            Digest::Ack(from, _) if !self.greeting.is_done() && before(from, self.first_seq) => {
                // The peer does not know yet that we have started again, and speaks of numbers of
                // our former life: what has the same ones now did not arrive by that.
                c.counters.acks_received += 1;
            }
            Digest::Ack(from, to) => {
                c.counters.acks_received += 1;
                let freed = self.resend.take(from, to, |sent| {
                    if let Sent::Object(token) = sent {
                        host.acked(token);
                    }
                });
                self.resend.confirm(from, to);
                if before(from, c.next_seq) {
                    // A peer that begins behind what was evicted will never ask for it.
                    let Evicted { objects, requests } = self.resend.evicted_before(from);
                    let requests = requests && core::mem::take(&mut self.ask_again);
                    self.repair(c, Evicted { objects, requests });
                }
                if freed > 0 {
                    self.flight.forgiven = self.flight.forgiven.saturating_sub(freed);
                    self.flight.progress_at = now;
                }
                if self.resend.spans(from) && self.acked_from.is_none_or(|old| before(old, from)) {
                    self.acked_from = Some(from);
                }
                self.sweep(c, now, host);
            }
            Digest::Nack(from, to) => {
                c.counters.nacks_received += 1;
                let evicted = self.resend.evicted_in(from, to);
                self.repair(c, evicted);
                self.requeue(c, host, |resend, each| resend.take(from, to, each));
            }
            Digest::Resync => {
                c.counters.resyncs_received += 1;
                c.events.add(SessionEvent::PeerWantsResync);
                // What the peer lacks may be a request of ours.
                self.ask_again = true;
            }
            Digest::Alive => {}
        }
        Verdict::Control
    }

    /// What `take` takes from the resend queue is sent again: objects as they are now, control
    /// messages with new flags.
    fn requeue<H: Host>(
        &mut self,
        c: &mut Common,
        host: &mut H,
        take: impl FnOnce(&mut ResendQueue, &mut dyn FnMut(Sent)) -> u32,
    ) {
        let control = &mut self.control;
        let taken = take(&mut self.resend, &mut |sent| match sent {
            Sent::Object(token) => {
                c.counters.requeued += 1;
                host.nacked(token);
            }
            Sent::Ack(from, to) => control.ack(from, to),
            Sent::Nack(from, to) => control.nack(from, to),
            Sent::Resync => c.resync = true,
        });
        self.flight.forgiven = self.flight.forgiven.saturating_sub(taken);
    }

    /// The peer speaks of number `to`. If that was not sent yet, the peer has taken a late datagram
    /// of our former life for one of this, and drops what is numbered lower: go on beyond it.
    fn catch_up(&mut self, c: &mut Common, to: u32, host: &mut impl Host) {
        let ahead = to.wrapping_sub(c.next_seq);
        if ahead >= CATCH_UP_MAX || !self.greeting.is_done() {
            return;
        }
        c.counters.renumbered += 1;
        self.requeue(c, host, |resend, each| resend.take_all(true, each));
        // The number behind the missing ones is the one that the peer has.
        c.next_seq = to.wrapping_add(2);
        self.resend.restart(c.next_seq);
    }

    /// The peer begins anew: it has nothing of what it did not acknowledge, and its old numbers mean
    /// nothing.
    fn restart(&mut self, c: &mut Common, now: Instant, host: &mut impl Host) {
        c.counters.peer_starts += 1;
        c.events.add(SessionEvent::PeerRestarted);
        self.control.clear();
        self.ack_from = None;
        self.window = self.ack_window;
        self.repeat_owed = true;
        self.repeat(c, now, host);
    }

    /// When what is owed to a restarted peer is due.
    pub(super) fn repeat_at(&self) -> Option<Instant> {
        let due = self.repeated_at? + REPEAT_INTERVAL;
        self.repeat_owed.then_some(due)
    }

    /// Sends again all that a restarted peer did not acknowledge, if that is owed and due.
    pub(super) fn repeat(&mut self, c: &mut Common, now: Instant, host: &mut impl Host) {
        if !self.repeat_owed || self.repeat_at().is_some_and(|due| now < due) {
            return;
        }
        self.repeat_owed = false;
        self.repeated_at = Some(now);
        let counters = &mut c.counters;
        let resync = &mut c.resync;
        // A peer that has just been asked for everything is greeting in its answer.
        let asked = self.resync_at.is_some_and(|at| now.saturating_duration_since(at) < ANSWER);
        self.resend.take_all(!asked, |sent| match sent {
            Sent::Object(token) => {
                counters.requeued += 1;
                host.nacked(token);
            }
            Sent::Resync => *resync = true,
            Sent::Ack(..) | Sent::Nack(..) => {}
        });
        let evicted = self.resend.evicted();
        self.repair(c, Evicted { requests: false, ..evicted });
        self.resend.forgive(evicted);
        self.flight.forgiven = 0;
        self.flight.progress_at = now;
        self.acked_from = None;
        self.left_behind = None;
    }

    /// What was evicted is missing.
    fn repair(&mut self, c: &mut Common, evicted: Evicted) {
        if evicted.objects {
            c.counters.holes += 1;
            c.events.add(SessionEvent::Hole);
        }
        if evicted.requests {
            // What was asked for is forgotten: ask for everything.
            c.resync = true;
        }
        self.resend.forgive(evicted);
    }

    /// Sends again what the peer acknowledges around: it arrived nowhere, and the peer does not know
    /// that it exists. So are the first messages of a greeting lost.
    fn sweep(&mut self, c: &mut Common, now: Instant, host: &mut impl Host) {
        match self.left_behind {
            Some((_, at)) if now.saturating_duration_since(at) < LEFT_BEHIND => return,
            Some((floor, _)) => {
                self.requeue(c, host, |resend, each| resend.take_before(floor, each));
            }
            None => {}
        }
        self.left_behind = self.acked_from.map(|floor| (floor, now));
    }

    /// When state that waits may be sent although nothing is acknowledged.
    pub(super) fn relief_at(&self) -> Option<Instant> {
        self.flight.blocked.then(|| self.flight.progress_at + RELIEF)
    }

    pub(super) fn next_control(&mut self) -> Option<Range> {
        self.control.pop()
    }

    /// A request for everything is about to be sent.
    pub(super) fn asks_resync(&mut self, now: Instant) {
        self.resync_at = Some(now);
    }

    pub(super) fn next_flags(&mut self) -> u8 {
        self.greeting.flags()
    }

    /// A datagram is about to be filled.
    pub(super) fn unblock(&mut self) {
        self.flight.blocked = false;
    }

    /// Whether state may be sent now.
    pub(super) fn may_send(&mut self, c: &mut Common, now: Instant) -> bool {
        let flight = &mut self.flight;
        let flying = self.resend.len().saturating_sub(flight.forgiven);
        if flying < flight.max {
            if flying == 0 {
                flight.progress_at = now;
            }
            return true;
        }
        if now.saturating_duration_since(flight.progress_at) >= RELIEF {
            c.counters.reliefs += 1;
            flight.forgiven = self.resend.len();
            flight.progress_at = now;
            return true;
        }
        flight.blocked = true;
        false
    }

    /// Message `seq` was built.
    pub(super) fn sent(
        &mut self,
        c: &mut Common,
        seq: u32,
        sent: Option<Sent>,
        flags: u8,
        host: &mut impl Host,
    ) {
        let Some((old, evicted)) = self.resend.push(seq, sent, flags) else { return };
        c.counters.evicted += 1;
        self.flight.forgiven = self.flight.forgiven.saturating_sub(1);
        if let Sent::Object(token) = evicted {
            host.evicted(token);
            if self.acked_from.is_some_and(|from| before(old, from)) {
                // The peer has acknowledged around it and will not ask.
                self.repair(c, Evicted { objects: true, requests: false });
            }
        }
    }
}
