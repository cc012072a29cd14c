//! The dedicated links: which one sends, what each counted.
//!
//! All links receive; the current one sends: the preferred one as long as its device is up and has
//! a carrier, else the next that is well. It follows the peer: a valid message on another link
//! makes that one current, so both nodes come to use the same link even if only one of them can
//! see that it failed.

use std::time::{Duration, Instant};

use proto_sync::{BrokenStream, Reassembler};

use crate::snapshot::{LinkFigures, LinkStatus, LinkTransport, SyncFigures};

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Figures; the owner of the sockets counts what it sends and its errors here.
    pub figures: LinkFigures,
    /// Puts messages together, if the transport is a stream.
    stream: Option<Reassembler>,
    /// Why no connection can be tried, as it was told.
    pub(crate) obstacle: Option<String>,
    /// Octets of the largest datagram.
    pub datagram_max: usize,
}

impl Link {
    /// A link over `device`.
    pub fn new(transport: LinkTransport, device: String, datagram_max: usize) -> Self {
        let stream = matches!(transport, LinkTransport::Tcp { .. }).then(Reassembler::new);
        let figures = LinkFigures { transport, device, ..LinkFigures::default() };
        Self { figures, stream, obstacle: None, datagram_max }
    }
}

/// How long the preferred link has to be well before it sends again.
const RETURN_DELAY: Duration = Duration::from_secs(1);
/// How long the peer does not draw us away from the preferred link then. It follows us when it hears
/// us there, which is after up to a second if there is nothing to be told, and over TCP after both
/// have connected.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// Why another link sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The one before failed, here or at the peer: what was sent last may be lost.
    Failed,
    /// The preferred one is back, here or at the peer.
    Returned,
}

/// All links.
#[derive(Debug, Default)]
pub struct LinkSet {
    /// In the order of the configuration.
    pub links: Vec<Link>,
    preferred: usize,
    current: usize,
    /// When the preferred link, which has come back, is to send again.
    return_at: Option<Instant>,
    /// Until when the peer may still use another link than the preferred one.
    settles_at: Option<Instant>,
    /// No link was well when it was last looked, or it was never looked.
    none_left: bool,
    /// Messages of the peer that a shard had no room for.
    pub dropped: u64,
    /// How often another link was chosen.
    pub switches: u64,
}

impl LinkSet {
    /// `links` in the order of the configuration, of which `preferred` sends when it can.
    pub fn new(links: Vec<Link>, preferred: usize) -> Self {
        Self { links, preferred, current: preferred, none_left: true, ..Self::default() }
    }

    /// The link that sends.
    pub const fn current(&self) -> usize {
        self.current
    }

    /// The name of the device of the link that sends.
    pub fn device(&self) -> &str {
        self.links.get(self.current).map_or("", |link| &link.figures.device)
    }

    /// Whether no link has a device that is up and has a carrier.
    pub const fn none_left(&self) -> bool {
        self.none_left
    }

    fn is_well(&self, k: usize) -> bool {
        self.links.get(k).is_some_and(|link| link.figures.status == LinkStatus::Running)
    }

    /// The device of link `k` is in this state. `true` if it was in another.
    pub fn set_status(&mut self, now: Instant, k: usize, status: LinkStatus) -> bool {
        let Some(link) = self.links.get_mut(k) else { return false };
        let before = std::mem::replace(&mut link.figures.status, status);
        if k == self.preferred && before != status {
            let back = status == LinkStatus::Running;
            let stayed = self.current == k;
            self.return_at = (back && !stayed).then_some(now + RETURN_DELAY);
            if back && stayed {
                // No other was well either, and the peer may have come back to one that was faster.
                self.settles_at = Some(now + SETTLE_TIME);
            }
        }
        before != status
    }

    /// Chooses again after all states were set, or when a deadline has passed: the preferred link
    /// after a failure if it is well, else the next that is.
    pub fn choose(&mut self, now: Instant) -> Option<Switch> {
        if self.is_well(self.current) {
            self.none_left = false;
            self.return_at.filter(|&at| at <= now)?;
            return self.switch(now, self.preferred, Switch::Returned);
        }
        let count = self.links.len();
        let behind = (1..count).map(|step| (self.current + step) % count);
        let next = std::iter::once(self.preferred).chain(behind).find(|&k| self.is_well(k));
        self.none_left = next.is_none();
        self.switch(now, next?, Switch::Failed)
    }

    fn switch(&mut self, now: Instant, to: usize, why: Switch) -> Option<Switch> {
        if to == self.current {
            return None;
        }
        self.current = to;
        self.switches += 1;
        if to == self.preferred {
            self.return_at = None;
            self.settles_at = Some(now + SETTLE_TIME);
        }
        Some(why)
    }

    /// When [`Self::choose`] has something to do without news.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.return_at
    }

    /// Link `k` received `bytes`; `handle` is given what puts messages together, if the link is a
    /// stream, and tells whether they held a valid message. If so, and the peer uses another link
    /// than we, we follow it.
    ///
    /// # Errors
    /// The stream can not be followed any longer: close the connection.
    pub fn received(
        &mut self,
        now: Instant,
        k: usize,
        bytes: &[u8],
        handle: impl FnOnce(Option<&mut Reassembler>) -> Result<bool, BrokenStream>,
    ) -> Result<Option<Switch>, BrokenStream> {
        let Some(link) = self.links.get_mut(k) else { return Ok(None) };
        link.figures.received.bytes += bytes.len() as u64;
        link.figures.received.packets += 1;
        let valid = handle(link.stream.as_mut())?;
        Ok(if valid && k != self.current { self.follow(now, k) } else { None })
    }

    fn follow(&mut self, now: Instant, k: usize) -> Option<Switch> {
        if !self.is_well(k) {
            // It was on its way when the device failed.
            return None;
        }
        if k == self.preferred {
            return self.switch(now, k, Switch::Returned);
        }
        if self.settles_at.is_some_and(|at| now < at) {
            return None;
        }
        self.switch(now, k, Switch::Failed)
    }

    /// The peer's connection on link `k` ended: half a message is of no use any more.
    pub fn disconnected(&mut self, k: usize) {
        if let Some(stream) = self.links.get_mut(k).and_then(|link| link.stream.as_mut()) {
            stream.reset();
        }
    }

    /// The peer has connected on link `k`.
    pub fn connected(&mut self, now: Instant, k: usize) {
        if let Some(stream) = self.links.get_mut(k).and_then(|link| link.stream.as_mut()) {
            stream.begin(now);
        }
    }

    /// Copies the figures.
    pub fn figures(&self, sync: &mut SyncFigures) {
        sync.links = self.links.iter().map(|link| link.figures.clone()).collect();
        sync.active_link = self.current;
        sync.link_switches = self.switches;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: LinkStatus = LinkStatus::Running;
    const BAD: LinkStatus = LinkStatus::NoCarrier;

    fn set(preferred: usize) -> LinkSet {
        let link = |k: usize| Link::new(LinkTransport::Udp, format!("sync{k}"), 1400);
        LinkSet::new((0..4).map(link).collect(), preferred)
    }

    fn hears(links: &mut LinkSet, now: Instant, k: usize) -> Option<Switch> {
        links.received(now, k, b"", |_| Ok(true)).unwrap()
    }

    #[test]
    fn the_next_that_is_well_follows_and_the_preferred_one_returns() {
        let (mut links, now) = (set(1), Instant::now());
        assert_eq!(links.choose(now), None);
        assert!(links.set_status(now, 2, BAD));
        assert!(links.set_status(now, 1, BAD));
        assert!(!links.set_status(now, 1, BAD));
        assert_eq!(links.choose(now), Some(Switch::Failed));
        assert_eq!((links.current(), links.device()), (3, "sync3"));
        links.set_status(now, 1, WELL);
        assert_eq!((links.choose(now), links.poll_timeout()), (None, Some(now + RETURN_DELAY)));
        assert_eq!(links.choose(now + RETURN_DELAY), Some(Switch::Returned));
        assert_eq!((links.current(), links.poll_timeout(), links.switches), (1, None, 2));
    }

    #[test]
    fn a_link_that_flaps_is_not_returned_to() {
        let (mut links, mut now) = (set(0), Instant::now());
        for _ in 0..10 {
            links.set_status(now, 0, BAD);
            links.choose(now);
            links.set_status(now, 0, WELL);
            now += RETURN_DELAY / 2;
            links.choose(now);
        }
        assert_eq!((links.current(), links.switches), (1, 1));
    }

    #[test]
    fn with_none_left_the_last_choice_stays() {
        let (mut links, now) = (set(0), Instant::now());
        for k in 0..4 {
            links.set_status(now, k, BAD);
        }
        assert_eq!((links.choose(now), links.none_left(), links.current()), (None, true, 0));
        links.set_status(now, 2, WELL);
        assert_eq!(links.choose(now), Some(Switch::Failed));
        assert_eq!((links.none_left(), links.current()), (false, 2));
    }

    #[test]
    fn the_peer_is_followed_but_not_by_what_it_sent_before_our_return() {
        let (mut links, now) = (set(0), Instant::now());
        assert_eq!(hears(&mut links, now, 2), Some(Switch::Failed));
        links.set_status(now, 3, BAD);
        assert_eq!(hears(&mut links, now, 3), None, "the device has failed");
        assert_eq!(hears(&mut links, now, 0), Some(Switch::Returned));
        links.set_status(now, 0, BAD);
        links.choose(now);
        links.set_status(now, 0, WELL);
        let back = now + RETURN_DELAY;
        assert_eq!(links.choose(back), Some(Switch::Returned));
        assert_eq!(hears(&mut links, back, 1), None);
        // It may have heard nothing until now.
        assert_eq!(hears(&mut links, back + Duration::from_millis(1900), 1), None);
        let settled = back + SETTLE_TIME;
        assert_eq!(hears(&mut links, settled, 1), Some(Switch::Failed));
        // The peer may return first, and take its time to get what we sent before.
        assert_eq!(hears(&mut links, settled, 0), Some(Switch::Returned));
        assert_eq!(hears(&mut links, settled, 1), None);
    }

    /// It followed a peer that had come back to the first link that was well, and stayed there.
    #[test]
    fn where_none_was_well_the_peer_draws_nobody_from_the_preferred_one() {
        let (mut links, now) = (set(1), Instant::now());
        (0..4).for_each(|k| assert!(links.set_status(now, k, BAD)));
        assert_eq!((links.choose(now), links.current()), (None, 1));
        (0..4).for_each(|k| assert!(links.set_status(now, k, WELL)));
        assert_eq!((links.choose(now), links.none_left()), (None, false));
        assert_eq!(hears(&mut links, now + RETURN_DELAY, 0), None);
        assert_eq!(hears(&mut links, now + RETURN_DELAY, 1), None);
        // The link may have failed where only the peer sees it.
        assert_eq!(hears(&mut links, now + SETTLE_TIME, 0), Some(Switch::Failed));
    }

    #[test]
    fn what_is_not_valid_draws_nobody() {
        let (mut links, now) = (set(0), Instant::now());
        assert_eq!(links.received(now, 1, b"x", |_| Ok(false)).unwrap(), None);
        assert_eq!((links.current(), links.links[1].figures.received.packets), (0, 1));
        assert_eq!(links.received(now, 9, b"x", |_| Ok(true)).unwrap(), None);
    }
}
