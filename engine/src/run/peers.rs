//! The links' channels on the hub's ring.

use std::time::Instant;

use io::{Channel, ChannelEvent, Completion, DATAGRAM_BUFFER_BYTES, Fd, IoError, Outcome, Ring};
use proto_sync::datagram_max;

use super::tokens::Token;
use crate::hub::Hub;
use crate::snapshot::{LinkStatus, LinkTransport};

/// Buffers for what arrives, all links together: each holds what the kernel merged.
const BUFFERS: u16 = 16;

/// Buffers for news of devices, and the octets of each: what they say is asked for again.
const NEWS_BUFFERS: u16 = 8;
const NEWS_BYTES: u32 = 256;

/// All channels, in the order of the configuration.
pub(super) struct Peers {
    channels: Vec<Channel>,
    /// News of devices, if there is a link.
    watch: Option<Fd>,
    news: bool,
    /// The link that sent last.
    sending: usize,
}

impl Peers {
    /// The opened channels, in the namespace of the calling thread.
    pub(super) fn new(channels: Vec<Channel>) -> Result<Self, IoError> {
        let watch = if channels.is_empty() { None } else { Some(io::watch_interfaces()?) };
        Ok(Self { channels, watch, news: false, sending: 0 })
    }

    /// Starts to receive and to connect, and chooses the link that sends.
    pub(super) fn start(&mut self, ring: &mut Ring, hub: &mut Hub) -> Result<(), IoError> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let news = ring.add_group(NEWS_BUFFERS, NEWS_BYTES)?;
        ring.receive(Token::Devices.raw(), watch, news)?;
        let group = ring.add_group(BUFFERS, DATAGRAM_BUFFER_BYTES)?;
        let now = Instant::now();
        for (k, channel) in self.channels.iter_mut().enumerate() {
            channel.start(ring, now, Token::Link(k as u32).raw(), group)?;
        }
        self.sending = hub.links.current();
        self.refresh(now, hub);
        Ok(())
    }

    /// Some device has changed. All that a turn brings is looked at once.
    pub(super) fn device_news(&mut self, outcome: &Outcome) -> Result<(), IoError> {
        self.news = true;
        match *outcome {
            Outcome::Failed(error) => {
                Err(IoError::new("hear of device changes", "", std::io::Error::from(error)))
            }
            _ => Ok(()),
        }
    }

    /// Looks at the devices if one has changed.
    pub(super) fn take_news(&mut self, now: Instant, hub: &mut Hub) {
        if std::mem::take(&mut self.news) {
            self.refresh(now, hub);
        }
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
            Some(ChannelEvent::PeerClosed) => hub.links.disconnected(k),
            Some(ChannelEvent::PeerConnected) => {
                hub.links.connected(now, k);
                hub.peer_connected(now);
            }
            Some(ChannelEvent::Connected) => hub.connected(now, k),
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
        self.leave(now, ring, hub);
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
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        ring: &mut Ring,
        hub: &mut Hub,
    ) -> Result<(), IoError> {
        for (k, channel) in self.channels.iter_mut().enumerate() {
            if channel.poll_timeout().is_some_and(|at| at <= now)
                && let Some(error) = channel.handle_timeout(ring, now)?
            {
                hub.cannot_connect(k, error.to_string());
            }
        }
        Ok(())
    }

    /// Reads the state of the devices and connections, and has the best link send.
    pub(super) fn refresh(&mut self, now: Instant, hub: &mut Hub) {
        for (k, channel) in self.channels.iter_mut().enumerate() {
            // A device that has gone is down.
            let known = channel.refresh_interface().is_ok();
            let interface = channel.interface();
            let status = match (known && interface.is_up(), interface.is_running()) {
                (false, _) => LinkStatus::Down,
                (true, true) => LinkStatus::Running,
                (true, false) => LinkStatus::NoCarrier,
            };
            hub.device_is(now, k, status);
            let Some(link) = hub.links.links.get_mut(k) else { continue };
            link.datagram_max =
                datagram_max(interface.mtu(), channel.is_ipv6(), channel.is_stream());
            let figures = &mut link.figures;
            figures.receive_errors = u64::from(channel.receive_drops()) + channel.truncated();
            if channel.is_stream() {
                figures.transport = LinkTransport::Tcp {
                    server_connected: channel.peer_connected(),
                    client_connected: channel.connected(),
                };
            }
        }
        hub.choose_link(now);
    }

    /// Leaves the link that sent before another was chosen, whether for news of a device, because the
    /// peer did, or because it was time to return.
    fn leave(&mut self, now: Instant, ring: &mut Ring, hub: &mut Hub) {
        let before = std::mem::replace(&mut self.sending, hub.links.current());
        if self.sending != before
            && let Some(channel) = self.channels.get_mut(before)
        {
            channel.abandon(ring, now);
            if channel.is_stream() {
                // What waited for it has gone with it.
                hub.link_failed(now);
            }
        }
    }
}
