//! The dedicated links: which one sends, what each counted.
//!
//! All links receive; the current one sends. It follows the peer: a valid message on another
//! link makes that one current, so both nodes come to use the same link.

use proto_sync::{BrokenStream, Reassembler};

use crate::snapshot::{LinkFigures, LinkTransport, SyncFigures};

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Figures; the owner of the sockets counts what it sends and its errors here.
    pub figures: LinkFigures,
    /// Puts messages together, if the transport is a stream.
    stream: Option<Reassembler>,
    /// Octets of the largest datagram.
    pub datagram_max: usize,
}

impl Link {
    /// A link over `device`.
    pub fn new(transport: LinkTransport, device: String, datagram_max: usize) -> Self {
        let stream = matches!(transport, LinkTransport::Tcp { .. }).then(Reassembler::new);
        let figures = LinkFigures { transport, device, ..LinkFigures::default() };
        Self { figures, stream, datagram_max }
    }
}

/// All links.
#[derive(Debug, Default)]
pub struct LinkSet {
    /// In the order of the configuration.
    pub links: Vec<Link>,
    current: usize,
    /// Messages of the peer that a shard had no room for.
    pub dropped: u64,
}

impl LinkSet {
    /// `links` in the order of the configuration, of which `first` sends at first.
    pub const fn new(links: Vec<Link>, first: usize) -> Self {
        Self { links, current: first, dropped: 0 }
    }

    /// The link that sends.
    pub const fn current(&self) -> usize {
        self.current
    }

    /// Link `k` received `bytes`; `handle` is given what puts messages together, if the link is a
    /// stream, and tells whether they held a valid message.
    ///
    /// # Errors
    /// The stream can not be followed any longer: close the connection.
    pub fn received(
        &mut self,
        k: usize,
        bytes: &[u8],
        handle: impl FnOnce(Option<&mut Reassembler>) -> Result<bool, BrokenStream>,
    ) -> Result<(), BrokenStream> {
        let Some(link) = self.links.get_mut(k) else { return Ok(()) };
        link.figures.received.bytes += bytes.len() as u64;
        link.figures.received.packets += 1;
        if handle(link.stream.as_mut())? {
            self.current = k;
        }
        Ok(())
    }

    /// The peer's connection on link `k` ended: half a message is of no use any more.
    pub fn disconnected(&mut self, k: usize) {
        if let Some(stream) = self.links.get_mut(k).and_then(|link| link.stream.as_mut()) {
            stream.reset();
        }
    }

    /// Copies the figures.
    pub fn figures(&self, sync: &mut SyncFigures) {
        sync.links = self.links.iter().map(|link| link.figures.clone()).collect();
        sync.active_link = self.current;
    }
}
