//! What one node asks the other for, and when all is sent.

use std::time::{Duration, Instant};

use proto_sync::{Session, SessionEvent};

use super::Hub;
use crate::log::Level;
use crate::order::{Order, TableUse};

/// How long a peer that was reached may take to connect before it is asked for everything all the
/// same: an original with a dead connection to a former life of this node notices when it answers.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Shortest time between two transfers of everything that one node asks the other for.
const BULK_GAP: Duration = Duration::from_secs(1);

impl Hub {
    /// Does what became due of the session, and takes what it tells.
    pub(super) fn session_turn(&mut self, now: Instant) {
        if let Some(session) = &mut self.session
            && session.poll_timeout().is_some_and(|due| due <= now)
        {
            session.handle_timeout(now);
        }
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            self.session_event(now, event);
        }
    }

    /// Messages of the peer were dropped: it is to be asked for everything, later and later if the
    /// answer finds no room either.
    pub(super) fn request_later(&mut self, now: Instant) {
        self.request_at = Some(self.patience.dropped(now, self.request_at));
    }

    /// The peer is to be asked for everything over a stream. What it sends may go into its
    /// connection to a former life of this node, of which the original loses the first octets
    /// without noticing: so it is asked when it has connected to this one.
    pub const fn ask_when_connected(&mut self) {
        self.ask_on_connect = true;
    }

    /// A connection to the peer was made on link `k`.
    pub fn connected(&mut self, now: Instant, k: usize) {
        if let Some(link) = self.links.links.get_mut(k) {
            link.obstacle = None;
        }
        if self.ask_on_connect {
            self.request_at.get_or_insert(now + CONNECT_LIMIT);
        }
    }

    /// The peer has connected.
    pub fn peer_connected(&mut self, now: Instant) {
        if std::mem::take(&mut self.ask_on_connect) {
            self.request_at = Some(now);
        }
    }

    /// Asks for everything, and sends everything, if it is time.
    pub(super) fn resync_turn(&mut self, now: Instant) {
        if self.links.none_left() {
            // It would be in vain, and once more every second.
            return;
        }
        if self.request_at.take_if(|at| *at <= now).is_some() {
            self.request_resync();
        }
        if self.resend.is_due(now) {
            self.asked_at = Some(now);
            self.bulk(now, false);
        }
    }

    /// When [`Self::resync_turn`] has something to do at the latest. That a link is back is news.
    pub(super) fn resync_due(&self) -> Option<Instant> {
        let due = || self.resend.poll_timeout().into_iter().chain(self.request_at).min();
        if self.links.none_left() { None } else { due() }
    }

    /// Asks the peer for its flows.
    pub fn request_resync(&mut self) {
        if let Some(session) = &mut self.session {
            if session.request_resync() {
                self.log.notice(format_args!("resync requested"));
                if !self.acknowledged && self.links.none_left() {
                    // The session says it once.
                    self.request_at = Some(self.now);
                }
            } else {
                self.log.notice(format_args!(
                    "no resync can be requested in mode ALARM: the other node repeats its flows \
                     every RefreshTime seconds"
                ));
            }
        }
    }

    /// Whether flows of the peer would be told back to it with all others: without any cache nobody
    /// here knows whose a flow of the kernel is. One that the peer has just ended would come to life
    /// there again, so that all is told only to who asks.
    pub(super) const fn would_echo(&self) -> bool {
        self.bypass && self.inject
    }

    /// Tells everything; what is the peer's own, as it has told, only if `followed`: it may have
    /// changed there, and what is told would set it back.
    pub(super) fn bulk(&mut self, now: Instant, followed: bool) {
        self.bulks += 1;
        let forgotten = std::mem::take(&mut self.forgotten);
        if forgotten > 0 {
            self.log.warning(format_args!(
                "the other node may keep {forgotten} objects that have ended: it can ask for all \
                 anew with -f external and -n"
            ));
        }
        if self.bypass {
            // Nothing is kept: what the kernel has is told.
            self.plan.demand(now, TableUse::Reconcile);
        } else {
            self.log.notice(format_args!("sending bulk update"));
        }
        for k in 0..self.shards.count() {
            self.shards.order(k, Order::Bulk { followed });
        }
    }

    /// The peer needs everything, as `why` says. It may say so again and again, or somebody else by
    /// the thousand: of what comes soon after a bulk send, one is answered when its time has come.
    fn peer_wants_all(&mut self, now: Instant, level: Level, why: &str) {
        match self.asked_at.map(|at| at + BULK_GAP) {
            Some(next) if now < next => {
                self.resend.wanted(next);
            }
            _ => {
                self.asked_at = Some(now);
                self.log.log(level, format_args!("{why}"));
                self.bulk(now, false);
            }
        }
    }

    fn session_event(&mut self, now: Instant, event: SessionEvent) {
        match event {
            SessionEvent::PeerWantsResync => {
                self.peer_wants_all(now, Level::Notice, "resync requested by other node");
            }
            SessionEvent::PeerRestarted => {
                self.log.notice(format_args!("the other node has started again"));
            }
            SessionEvent::Hole => {
                let why = "messages were lost that can not be sent again, sending all flows";
                self.peer_wants_all(now, Level::Warning, why);
            }
        }
    }
}
