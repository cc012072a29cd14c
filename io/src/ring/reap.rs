//! Completions: what each means for its operation and for the caller.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::rc::Rc;

use io_uring::cqueue;
use rustix::io::Errno;

use super::bufring::{Datagrams, Lease};
use super::op::{Kind, parse_message};
use super::{Completion, Outcome, Ring};

/// Completions that nobody waits for.
pub(super) const IGNORED: u64 = u64::MAX;
/// A message from another ring.
pub(super) const WAKE: u64 = u64::MAX - 1;
/// A message to another ring failed; the low half is the number of the peer.
pub(super) const WAKE_FAILED: u64 = 1 << 62;

impl Ring {
    /// The next completion that has arrived. `None` does not mean that the kernel has none: it
    /// delivers in [`Ring::wait`] and [`Ring::submit`].
    pub fn next_completion(&mut self) -> Option<Completion> {
        if let Some(completion) = self.ready.pop_front() {
            return Some(completion);
        }
        loop {
            let entry = self.uring.completion().next()?;
            if let Some(completion) = self.reap(&entry) {
                return Some(completion);
            }
        }
    }

    fn reap(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let data = entry.user_data();
        if data == IGNORED {
            return None;
        }
        if data == WAKE {
            return self.woken();
        }
        if data & WAKE_FAILED != 0 {
            let peer = self.peers.get((data & !WAKE_FAILED) as usize);
            if let Some(peer) = peer.filter(|_| entry.result() < 0) {
                peer.write();
            }
            return None;
        }
        let index = u32::try_from(data).ok()?;
        let op = self.ops.get(index as usize)?.op.as_ref()?;
        let (token, kind) = (op.token, op.kind);
        let over = !cqueue::more(entry.flags());
        if over {
            self.in_flight -= 1;
        }
        let outcome = self.outcome(index, kind, entry);
        if over {
            self.end(index, kind, outcome.as_ref());
        }
        if kind == Kind::Wake {
            return if outcome.is_some() { self.woken() } else { None };
        }
        outcome.map(|outcome| Completion { token, outcome })
    }

    fn woken(&mut self) -> Option<Completion> {
        let (waker, token) = self.waker.as_ref()?;
        // Before the owner looks at what it was woken for.
        waker.seen();
        Some(Completion { token: *token, outcome: Outcome::Woken })
    }

    /// `None` when there is nothing to tell.
    fn outcome(&mut self, index: u32, kind: Kind, entry: &cqueue::Entry) -> Option<Outcome> {
        let lease = self.lease(kind, entry);
        let result = entry.result();
        if result < 0 {
            return self.failure(index, kind, Errno::from_raw_os_error(-result));
        }
        Some(match kind {
            Kind::Datagram { .. } => Outcome::Received(lease?),
            Kind::Stream { .. } if result == 0 => Outcome::Closed,
            Kind::Stream { .. } => Outcome::Received(lease?),
            Kind::Once { .. } if result == 0 => Outcome::Closed,
            Kind::Once { .. } => Outcome::Received(lease?),
            Kind::Merged { .. } => merged(lease?)?,
            Kind::Send { whole } => return self.sent(index, whole, result.cast_unsigned()),
            // SAFETY: the kernel has just made this descriptor for this completion.
            Kind::Accept => Outcome::Accepted(unsafe { OwnedFd::from_raw_fd(result) }),
            Kind::Connect => Outcome::Connected,
            Kind::Poll { .. } | Kind::Wake => Outcome::Ready(result.cast_unsigned()),
        })
    }

    /// The buffer that the kernel picked for a receive.
    fn lease(&self, kind: Kind, entry: &cqueue::Entry) -> Option<Lease> {
        let id = cqueue::buffer_select(entry.flags())?;
        let group = self.groups.get(usize::from(kind.group()?))?;
        let len = usize::try_from(entry.result()).unwrap_or(0);
        Some(Rc::clone(group).lease(id, 0, len))
    }

    fn failure(&mut self, index: u32, kind: Kind, error: Errno) -> Option<Outcome> {
        match error {
            Errno::CANCELED => Some(Outcome::Cancelled),
            // Both an empty group and an overrun of the socket say "no buffer space".
            Errno::NOBUFS if kind.group().is_some() => {
                let op = self.ops[index as usize].op.as_mut()?;
                let lost = match kind {
                    Kind::Datagram { .. } | Kind::Once { .. } => {
                        let drops = crate::sockopt::drops(&op.fd).unwrap_or(op.drops);
                        let lost = drops.wrapping_sub(op.drops);
                        op.drops = drops;
                        lost
                    }
                    _ => 0,
                };
                Some(if lost > 0 { Outcome::Overrun { lost } } else { Outcome::Depleted })
            }
            _ => Some(Outcome::Failed(error)),
        }
    }

    /// A send has ended, or is to go on after a short write.
    fn sent(&mut self, index: u32, whole: bool, octets: u32) -> Option<Outcome> {
        let op = self.ops[index as usize].op.as_mut()?;
        op.sent += octets as usize;
        let wanted = op.range.len();
        if whole && op.sent < wanted && octets > 0 {
            return None;
        }
        Some(Outcome::Sent(op.sent))
    }

    /// The kernel is done with the operation: start it again, or forget it.
    fn end(&mut self, index: u32, kind: Kind, outcome: Option<&Outcome>) {
        let again = match outcome {
            Some(Outcome::Depleted | Outcome::Overrun { .. }) => kind.continues(),
            Some(Outcome::Closed | Outcome::Cancelled | Outcome::Failed(_)) => false,
            // A short write, or a datagram that was nothing.
            None => kind.continues() || matches!(kind, Kind::Send { .. }),
            Some(_) => kind.continues(),
        };
        if again {
            self.rearm.push(index);
        } else {
            self.release(index);
        }
    }
}

/// Cuts the kernel's header off.
fn merged(mut lease: Lease) -> Option<Outcome> {
    let (payload, segment, truncated) = parse_message(&lease)?;
    lease.narrow(payload.start, payload.len());
    let segment = segment.unwrap_or(lease.len());
    Some(Outcome::Datagrams(Datagrams { lease, segment, truncated }))
}
