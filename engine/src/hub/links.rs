//! What the hub does about its links: bytes in, and which of them sends.

use std::time::Instant;

use proto_sync::BrokenStream;

use super::Hub;
use crate::link::Switch;
use crate::resend::{self, Resend};
use crate::snapshot::LinkStatus;

impl Hub {
    /// What was sent may not have arrived: in a mode without acknowledgements, everything is to
    /// be sent again.
    pub fn link_failed(&mut self, now: Instant) {
        if !self.acknowledged && !self.would_echo() {
            self.resend.failed(now);
        }
    }

    /// Nothing could be tried to connect to the peer on link `k`, for this reason. It is tried every
    /// second; each reason is told once, until there is a connection.
    pub fn cannot_connect(&mut self, k: usize, why: String) {
        let Some(link) = self.links.links.get_mut(k) else { return };
        link.figures.send_errors += 1;
        if link.obstacle.as_ref() != Some(&why) {
            let device = &link.figures.device;
            self.log.error(format_args!(
                "cannot connect to the other node over `{device}', trying again: {why}"
            ));
            link.obstacle = Some(why);
        }
    }

    /// A datagram, or a piece of a stream, from the peer on link `link`.
    ///
    /// # Errors
    /// The stream can not be followed any longer: close the connection.
    pub fn on_peer(&mut self, now: Instant, link: usize, bytes: &[u8]) -> Result<(), BrokenStream> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let shards = &mut self.shards;
        let switch = self.links.received(now, link, bytes, |stream| match stream {
            Some(stream) => session.handle_stream(now, stream, bytes, shards),
            None => Ok(session.handle_datagram(now, bytes, shards)),
        })?;
        self.switched(now, switch);
        Ok(())
    }

    /// The device of link `k` is in this state. Call [`Self::choose_link`] when all were told.
    pub fn device_is(&mut self, now: Instant, k: usize, status: LinkStatus) {
        if !self.links.set_status(now, k, status) {
            return;
        }
        let Some(link) = self.links.links.get(k) else { return };
        let device = &link.figures.device;
        match status {
            LinkStatus::Running => self.log.notice(format_args!("device `{device}' is up")),
            LinkStatus::NoCarrier => {
                self.log.warning(format_args!("device `{device}' has no carrier"));
            }
            LinkStatus::Down => self.log.warning(format_args!("device `{device}' is down")),
        }
        if status == LinkStatus::Running && self.links.none_left() {
            self.link_is_back(now);
        }
    }

    /// The first link is well after none was: nobody heard what was told and asked meanwhile, and
    /// what had a link but no carrier was lost without an error.
    fn link_is_back(&mut self, now: Instant) {
        if !self.acknowledged {
            self.resend = Resend::default();
            self.link_failed(now);
        }
        if let Some(at) = &mut self.request_at {
            *at = (*at).max(now + resend::DELAY);
        }
    }

    /// Has the link that is best now send.
    pub fn choose_link(&mut self, now: Instant) {
        // A daemon without a peer has none, and misses none.
        if self.session.is_none() {
            return;
        }
        let none = self.links.none_left();
        let switch = self.links.choose(now);
        if self.links.none_left() && !none {
            self.log.error(format_args!("no dedicated links available!"));
        }
        self.switched(now, switch);
    }

    fn switched(&mut self, now: Instant, switch: Option<Switch>) {
        let Some(switch) = switch else { return };
        let device = self.links.device();
        self.log.notice(format_args!("device `{device}' becomes dedicated link"));
        if switch == Switch::Failed {
            self.link_failed(now);
        }
    }
}
