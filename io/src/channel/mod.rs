//! Channels to the other node: UDP, multicast and TCP.
//!
//! A [`Channel`] has a socket that only sends and one that only receives. It is started on the
//! ring of the thread that serves it, and from then on fed with completions:
//!
//! ```no_run
//! # use std::time::{Duration, Instant};
//! # fn run(ring: &mut io::Ring, options: &io::ChannelOptions) -> Result<(), io::IoError> {
//! const LINK: u64 = 1 << 8;
//! let datagrams = ring.add_group(16, io::DATAGRAM_BUFFER_BYTES)?;
//! let mut channel = io::Channel::open(options)?;
//! channel.start(ring, Instant::now(), LINK, datagrams)?;
//! loop {
//!     let sent = channel.transmit(ring, 1400, |room| { let _ = room; None })?;
//!     if sent.stalled { /* call again after the next completions */ }
//!     ring.wait(16, Duration::from_millis(1))?;
//!     let now = Instant::now();
//!     while let Some(completion) = ring.next_completion() {
//!         if channel.owns(completion.token) {
//!             channel.handle(ring, now, completion, |bytes| { let _ = bytes; })?;
//!         }
//!     }
//!     channel.handle_timeout(ring, now)?;
//! }
//! # }
//! ```
//!
//! Datagrams of equal length go out as one segmented send, and what the kernel has merged on
//! arrival is cut again: a datagram costs a tenth of one that travels alone.

mod run;
mod socket;
mod tcp;

use std::net::IpAddr;
use std::time::Instant;

use socket2::SockAddr;

use crate::error::{Context as _, IoError};
use crate::fd::Fd;
use crate::interface::{IPV6_MTU_MIN, Interface};
use crate::ring::{Completion, Group, Outcome, Ring};
use run::Runs;
pub use run::{RUNS_MAX as CHANNEL_BUFFERS_MAX, Transmitted};
use rustix::io::Errno;
use tcp::Stream;

/// Tokens that a channel takes, from the one given to [`Channel::start`].
pub const CHANNEL_TOKENS: u64 = 16;

/// Token offsets of the operations.
mod role {
    pub(super) const RECEIVE: u64 = 0;
    pub(super) const SEND: u64 = 1;
    pub(super) const LISTEN: u64 = 2;
    pub(super) const CONNECT: u64 = 3;
    /// End of the connection that we send on.
    pub(super) const WATCH: u64 = 4;
    /// First of eight for connections that were accepted, so that what an old one still reports
    /// is not taken for the new one's.
    pub(super) const ACCEPTED: u64 = 8;
}

/// The kind of a channel and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// UDP between two addresses.
    Udp {
        /// Address to listen at.
        local: IpAddr,
        /// Address of the peer.
        peer: IpAddr,
        /// Port of both.
        port: u16,
    },
    /// UDP to a group.
    Multicast {
        /// Address of the group.
        group: IpAddr,
        /// Port.
        port: u16,
        /// IPv4: our address on the interface; `None` goes by the interface's index, as IPv6
        /// always does.
        interface_address: Option<IpAddr>,
    },
    /// Two TCP connections, one in each direction.
    Tcp {
        /// Address to listen at.
        local: IpAddr,
        /// Address of the peer.
        peer: IpAddr,
        /// Port of both.
        port: u16,
    },
}

/// How to open a channel.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Kind and addresses.
    pub kind: ChannelKind,
    /// Name of the device.
    pub interface: String,
    /// Size of the sending socket's buffer in octets, 0 for the system's default.
    pub send_buffer_bytes: u32,
    /// Size of the receiving socket's buffer in octets, 0 for 4 MiB.
    pub receive_buffer_bytes: u32,
    /// Whether UDP checksums are computed. Without them the kernel does not cut datagrams for
    /// us, so each costs a send.
    pub checksum: bool,
    /// TCP: datagrams kept while the connection is down, of those that were under way when it
    /// broke. The oldest goes first.
    pub backlog: usize,
}

/// What happened to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// TCP: a peer has connected. Parts of a message from an older connection are void.
    PeerConnected,
    /// TCP: the peer has closed its connection.
    PeerClosed,
    /// TCP: our connection stands, sending is possible.
    Connected,
    /// TCP: our connection broke; one is tried again after a second, and as often as it takes.
    Disconnected(Errno),
    /// Datagrams could not be sent and are lost.
    SendFailed {
        /// How many.
        datagrams: u32,
        /// Why.
        error: Errno,
    },
}

/// The open sockets of a channel on the way to the thread that will serve it.
#[derive(Debug)]
pub struct ChannelSockets {
    interface: Interface,
    kind: ChannelKind,
    to: SockAddr,
    sockets: Option<(Fd, Fd)>,
    stream: Option<Stream>,
    checksum: bool,
    backlog: usize,
}

/// One dedicated link to the other node. It belongs to a thread; [`ChannelSockets`] can be opened
/// elsewhere.
#[derive(Debug)]
pub struct Channel {
    interface: Interface,
    /// The index of the device that the sockets use.
    index: u32,
    kind: ChannelKind,
    token: u64,
    group: Option<Group>,
    /// UDP and multicast: the receiving and the sending socket.
    sockets: Option<(Fd, Fd)>,
    /// UDP and multicast: where to.
    to: SockAddr,
    /// TCP.
    stream: Option<Stream>,
    runs: Runs,
    /// Datagrams that were cut because a buffer was too small.
    truncated: u64,
}

impl ChannelSockets {
    /// Opens the sockets of a channel in the caller's network namespace.
    ///
    /// # Errors
    /// If the device is not there, or an address is not ours or is taken.
    pub fn open(options: &ChannelOptions) -> Result<Self, IoError> {
        let interface = Interface::by_name(&options.interface)?;
        let index = interface.index();
        let to = socket::destination(&options.kind, &interface);
        let (mut sockets, mut stream) = (None, None);
        if matches!(options.kind, ChannelKind::Tcp { .. }) {
            stream = Some(Stream::new(socket::listener(options, index)?, to.clone(), options));
        } else {
            let receiver = socket::receiver(options, index)?;
            sockets = Some((receiver, socket::sender(options, index)?));
        }
        let (checksum, backlog) = (options.checksum, options.backlog);
        let kind = options.kind.clone();
        Ok(Self { interface, kind, to, sockets, stream, checksum, backlog })
    }
}

impl Channel {
    /// Opens the sockets of a channel in the caller's network namespace, for the calling thread.
    ///
    /// # Errors
    /// See [`ChannelSockets::open`].
    pub fn open(options: &ChannelOptions) -> Result<Self, IoError> {
        ChannelSockets::open(options).map(Self::new)
    }

    /// The channel of open sockets, for the calling thread.
    pub fn new(open: ChannelSockets) -> Self {
        let ChannelSockets { interface, kind, to, sockets, stream, checksum, backlog } = open;
        let runs = if stream.is_some() { Runs::of_stream(backlog) } else { Runs::new(checksum) };
        let index = interface.index();
        let (token, group, truncated) = (0, None, 0);
        Self { interface, index, kind, token, group, sockets, to, stream, runs, truncated }
    }

    /// The device, its state as it was last read.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Reads the device's state again. One that was removed and is there again is used anew, and so is
    /// one that has forgotten our membership of a group.
    ///
    /// # Errors
    /// If the device has gone or takes no IPv6 that the channel needs, or there is no joining a group
    /// on it yet, or no binding to it, which takes `CAP_NET_RAW`.
    pub fn refresh_interface(&mut self) -> Result<(), IoError> {
        let mtu = self.interface.mtu();
        self.interface.refresh()?;
        if self.interface.mtu() != mtu {
            self.runs.try_segments();
        }
        if self.interface.index() != self.index {
            self.use_new_device()?;
        } else {
            self.keep_device()?;
        }
        Ok(())
    }

    /// A device with a smaller MTU loses its IPv6 addresses and memberships of groups, and gets
    /// neither back with a larger one. One that was away has none, and may have its index again.
    fn keep_device(&mut self) -> Result<(), IoError> {
        if self.is_ipv6() && self.interface.mtu() < IPV6_MTU_MIN {
            let error = std::io::Error::from(Errno::MSGSIZE);
            return Err(IoError::new("use IPv6 over the device", self.interface.name(), error));
        }
        if let Some(sockets) = &self.sockets
            && !socket::is_member(&self.kind, self.index)
        {
            socket::change_device(&self.kind, sockets, self.index, self.index)
                .doing("join the group again")?;
        }
        Ok(())
    }

    /// The device has another index: it was removed, and made again.
    fn use_new_device(&mut self) -> Result<(), IoError> {
        const DOING: &str = "use the device that was made anew";
        let new = self.interface.index();
        self.to = socket::destination(&self.kind, &self.interface);
        if let Some(stream) = &mut self.stream {
            socket::bind_to_device(stream.listener(), new).doing(DOING)?;
            stream.connect_to(self.to.clone());
        }
        if let Some(sockets) = &self.sockets {
            socket::bind_to_device(&sockets.0, new).doing(DOING)?;
            socket::change_device(&self.kind, sockets, self.index, new).doing(DOING)?;
        }
        self.index = new;
        Ok(())
    }

    /// Whether the channel is a TCP one.
    pub fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether it goes over IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.to.is_ipv6()
    }

    /// Starts receiving on the thread's ring; connecting is due at once. The channel's completions carry
    /// the tokens from `token` to `token + CHANNEL_TOKENS - 1`. `group` has buffers of
    /// [`DATAGRAM_BUFFER_BYTES`](crate::DATAGRAM_BUFFER_BYTES).
    ///
    /// # Errors
    /// If the ring refuses.
    pub fn start(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        token: u64,
        group: Group,
    ) -> Result<(), IoError> {
        self.token = token;
        self.group = Some(group);
        if let Some((receiver, _)) = &self.sockets {
            ring.receive_datagrams(token + role::RECEIVE, receiver, group)?;
        }
        if let Some(stream) = &mut self.stream {
            stream.start(ring, now, token)?;
        }
        Ok(())
    }

    /// Whether a completion belongs to this channel.
    pub fn owns(&self, token: u64) -> bool {
        self.group.is_some() && (self.token..self.token + CHANNEL_TOKENS).contains(&token)
    }

    /// Whether the next [`Channel::transmit`] can take datagrams, as far as the channel knows:
    /// the connection stands and what was sent before is out.
    pub fn can_send(&self) -> bool {
        self.runs.idle() && self.stream.as_ref().is_none_or(Stream::connected)
    }

    /// Asks `fill` for datagrams until it has none (`None`) or no more can be taken, and queues
    /// them on the ring. `fill` gets room for `datagram_max` octets, at most 65,000, and returns
    /// how many it wrote.
    ///
    /// Sends are in order, each begins when the one before is out. So nothing is taken while
    /// earlier ones are under way: that is reported as `stalled`, and lasts until their
    /// completions were handled. They go on while the thread waits in its ring.
    ///
    /// # Errors
    /// If the ring refuses; datagrams that were taken go with the next call.
    pub fn transmit(
        &mut self,
        ring: &mut Ring,
        datagram_max: usize,
        fill: impl FnMut(&mut [u8]) -> Option<usize>,
    ) -> Result<Transmitted, IoError> {
        if !self.can_send() {
            return Ok(Transmitted { stalled: true, ..Transmitted::default() });
        }
        let transmitted = self.runs.fill(ring, datagram_max, fill);
        self.submit(ring)?;
        Ok(transmitted)
    }

    fn submit(&mut self, ring: &mut Ring) -> Result<(), IoError> {
        let token = self.token + role::SEND;
        match (&self.stream, &self.sockets) {
            (Some(stream), _) => match stream.sender() {
                Some(fd) => self.runs.submit(ring, token, fd, None),
                None => Ok(()),
            },
            (None, Some((_, sender))) => self.runs.submit(ring, token, sender, Some(&self.to)),
            (None, None) => Ok(()),
        }
    }

    /// Takes a completion of this channel. `receive` gets each datagram, or the next octets of
    /// the peer's stream.
    ///
    /// # Errors
    /// If receiving has failed for good, or the ring refuses.
    pub fn handle(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        completion: Completion,
        mut receive: impl FnMut(&[u8]),
    ) -> Result<Option<ChannelEvent>, IoError> {
        let role = completion.token.wrapping_sub(self.token);
        match (role, completion.outcome) {
            (role::RECEIVE, Outcome::Datagrams(datagrams)) => {
                self.truncated += u64::from(datagrams.truncated());
                datagrams.iter().for_each(receive);
                Ok(None)
            }
            (role::RECEIVE, Outcome::Failed(error)) => {
                Err(error).doing("receive from the other node")
            }
            (role::SEND, outcome) => self.sent(ring, now, &outcome),
            (role, outcome) => {
                let (Some(stream), Some(group)) = (&mut self.stream, self.group) else {
                    return Ok(None);
                };
                let event = stream.handle(ring, now, (role, group), outcome, &mut receive)?;
                if let Some(ChannelEvent::Disconnected(_)) = event {
                    self.runs.broken();
                }
                if event == Some(ChannelEvent::Connected) {
                    self.submit(ring)?;
                }
                Ok(event)
            }
        }
    }

    fn sent(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        outcome: &Outcome,
    ) -> Result<Option<ChannelEvent>, IoError> {
        let failed = self.runs.completed(outcome);
        if let (Some(stream), Some((_, error))) = (&mut self.stream, failed) {
            self.runs.broken();
            return Ok(stream.lost(ring, now, error));
        }
        if self.runs.idle() {
            // What a failure in front had cancelled.
            self.submit(ring)?;
        }
        Ok(failed.map(|(datagrams, error)| ChannelEvent::SendFailed { datagrams, error }))
    }

    /// When [`Channel::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.stream.as_ref().and_then(Stream::retry_at)
    }

    /// Does what is due: connects. Gives what was in the way of an attempt, if no socket could be
    /// made for it; there is another one a second later.
    ///
    /// # Errors
    /// If the ring refuses.
    pub fn handle_timeout(
        &mut self,
        ring: &mut Ring,
        now: Instant,
    ) -> Result<Option<IoError>, IoError> {
        match &mut self.stream {
            Some(stream) => stream.handle_timeout(ring, now),
            None => Ok(None),
        }
    }

    /// Datagrams that the receiving socket has lost because its buffer was full. A system call.
    pub fn receive_drops(&self) -> u32 {
        let receiver = self.sockets.as_ref().map(|(receiver, _)| receiver);
        receiver.and_then(|fd| crate::sockopt::drops(fd).ok()).unwrap_or(0)
    }

    /// Datagrams longer than a receive buffer, which were cut.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }

    /// TCP: datagrams that were dropped from the backlog because it was full.
    pub fn backlog_drops(&self) -> u64 {
        self.runs.backlog_drops()
    }

    /// Whether datagrams of equal length are cut by the kernel. The channel stops that when the
    /// device refuses it, until the device's MTU has changed.
    pub fn segments(&self) -> bool {
        self.runs.segments()
    }

    /// TCP: ends the peer's connection, whose octets make no sense any more. The peer connects
    /// again.
    pub fn refuse_peer(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.refuse();
        }
    }

    /// TCP: gives up our connection and all that waits for it, as another link has taken over and
    /// what is old would arrive behind what is new. It is made again.
    pub fn abandon(&mut self, ring: &mut Ring, now: Instant) {
        if let Some(stream) = &mut self.stream {
            self.runs.discard();
            let _ = stream.lost(ring, now, Errno::NETDOWN);
        }
    }

    /// Whether a TCP channel has connected to its peer; always true for the others.
    pub fn connected(&self) -> bool {
        self.stream.as_ref().is_none_or(Stream::connected)
    }

    /// Whether the peer has connected to this TCP channel; always true for the others.
    pub fn peer_connected(&self) -> bool {
        self.stream.as_ref().is_none_or(Stream::accepted)
    }
}
