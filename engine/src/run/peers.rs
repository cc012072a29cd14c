//! The links' channels on the hub's ring.

use std::time::Instant;

use io::{Channel, ChannelEvent, Completion, DATAGRAM_BUFFER_BYTES, IoError, Ring};

use super::tokens::Token;
use crate::hub::Hub;
use crate::link::LinkSet;
use crate::snapshot::{LinkStatus, LinkTransport};

/// Buffers for what arrives, all links together: each holds what the kernel merged.
const BUFFERS: u16 = 16;

/// All channels, in the order of the configuration.
pub(super) struct Peers {
    channels: Vec<Channel>,
}

impl Peers {
    /// The opened channels.
    pub(super) const fn new(channels: Vec<Channel>) -> Self {
        Self { channels }
    }

    /// Starts to receive and to connect.
    pub(super) fn start(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        if self.channels.is_empty() {
            return Ok(());
        }
        let group = ring.add_group(BUFFERS, DATAGRAM_BUFFER_BYTES)?;
        let now = Instant::now();
        for (k, channel) in self.channels.iter_mut().enumerate() {
            channel.start(ring, now, Token::Link(k as u32).raw(), group)?;
        }
        Ok(())
    }

    /// Takes a completion of link `k`.
    pub(super) fn completion(
        &mut self,
        now: Instant,
        ring: &mut Ring,
        hub: &mut Hub,
        k: usize,
        completion: Completion,
    ) -> Result<(), IoError> {
        let Some(channel) = self.channels.get_mut(k) else { return Ok(()) };
        let mut broken = false;
        let event = channel.handle(ring, now, completion, |bytes| {
            broken |= hub.on_peer(now, k, bytes).is_err();
        })?;
        if broken {
            channel.refuse_peer();
            hub.links.disconnected(k);
        }
        let Some(link) = hub.links.links.get_mut(k) else { return Ok(()) };
        match event {
            None => {}
            Some(ChannelEvent::PeerConnected | ChannelEvent::PeerClosed) => {
                hub.links.disconnected(k);
            }
            Some(ChannelEvent::Connected) => {}
            Some(ChannelEvent::Disconnected(_)) => hub.link_failed(now),
            Some(ChannelEvent::SendFailed { datagrams, .. }) => {
                link.figures.send_errors += u64::from(datagrams);
                hub.link_failed(now);
            }
        }
        Ok(())
    }

    /// Sends what there is; `true` if the link takes no more for now.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        ring: &mut Ring,
        hub: &mut Hub,
    ) -> Result<bool, IoError> {
        let k = hub.links.current();
        let Some(channel) = self.channels.get_mut(k) else { return Ok(false) };
        let datagram_max = hub.links.links[k].datagram_max;
        let sent = channel.transmit(ring, datagram_max, |room| hub.poll_transmit(now, room))?;
        let figures = &mut hub.links.links[k].figures;
        figures.sent.bytes += sent.bytes as u64;
        figures.sent.packets += u64::from(sent.datagrams);
        Ok(sent.stalled)
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.channels.iter().filter_map(Channel::poll_timeout).min()
    }

    /// Connects again where it is time.
    pub(super) fn handle_timeout(&mut self, now: Instant, ring: &mut Ring) -> Result<(), IoError> {
        for channel in &mut self.channels {
            if channel.poll_timeout().is_some_and(|at| at <= now) {
                channel.handle_timeout(ring, now)?;
            }
        }
        Ok(())
    }

    /// Reads the state of the devices and connections for the figures.
    pub(super) fn refresh(&mut self, links: &mut LinkSet) {
        for (channel, link) in self.channels.iter_mut().zip(&mut links.links) {
            let figures = &mut link.figures;
            // A device that has gone is down.
            let known = channel.refresh_interface().is_ok();
            let interface = channel.interface();
            figures.status = match (known && interface.is_up(), interface.is_running()) {
                (false, _) => LinkStatus::Down,
                (true, true) => LinkStatus::Running,
                (true, false) => LinkStatus::NoCarrier,
            };
            figures.receive_errors = u64::from(channel.receive_drops()) + channel.truncated();
            if channel.is_stream() {
                figures.transport = LinkTransport::Tcp {
                    server_connected: channel.peer_connected(),
                    client_connected: channel.connected(),
                };
            }
        }
    }
}
