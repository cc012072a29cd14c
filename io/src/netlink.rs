//! Netlink sockets: for requests, and for the kernel's events.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags};

use crate::error::{Context as _, IoError};
use crate::fd::Fd;
use crate::sockopt;

/// Octets that the kernel charges to a receive buffer for one acknowledgement; a batch of
/// requests needs room for as many as can fail.
pub const ACK_CHARGE_BYTES: u32 = 832;
/// The largest part of a dump, in octets: buffers beyond it gain nothing.
pub const DUMP_BYTES: u32 = 32 << 10;

/// Multicast groups of conntrack events (`linux/netfilter/nfnetlink_compat.h`).
pub(crate) mod group {
    pub(crate) const NEW: u32 = 1;
    pub(crate) const UPDATE: u32 = 2;
    pub(crate) const DESTROY: u32 = 3;
    pub(crate) const EXPECT_NEW: u32 = 4;
    pub(crate) const EXPECT_DESTROY: u32 = 6;
}

/// A socket for requests to the kernel and their answers.
///
/// Errors come without the request and with the kernel's explanation. Through a
/// [`Ring`](crate::Ring), use [`RequestSocket::fd`] with `send` and `receive` (or
/// `receive_once` for dumps); the methods here block.
#[derive(Debug)]
pub struct RequestSocket {
    fd: Fd,
    port: u32,
    receive_bytes: u32,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Octets in the buffer.
    pub bytes: usize,
    /// Whether the end was cut off because the buffer was too small.
    pub truncated: bool,
}

impl RequestSocket {
    /// Opens a socket in the caller's network namespace, to which it belongs from then on.
    /// Buffers are in octets and may exceed the system's limits if privileges allow; 0 leaves the
    /// default.
    ///
    /// # Errors
    /// If the kernel knows no nfnetlink, or refuses an option.
    pub fn open(receive_bytes: u32, send_bytes: u32) -> Result<Self, IoError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).doing("open a netlink socket")?;
        let address = socket.bind_auto().doing("bind a netlink socket")?;
        // From now on the kernel refuses what others send here.
        socket.connect(&SocketAddr::new(0, 0)).doing("connect a netlink socket")?;
        socket.set_cap_ack(true).doing("ask for short errors")?;
        socket.set_ext_ack(true).doing("ask for explained errors")?;
        let fd = owned(socket);
        let mut reported = 0;
        if receive_bytes > 0 {
            reported =
                sockopt::receive_buffer(&fd, receive_bytes).doing("size a netlink socket")?;
        }
        if send_bytes > 0 {
            sockopt::send_buffer(&fd, send_bytes).doing("size a netlink socket")?;
        }
        Ok(Self { fd: fd.into(), port: address.port_number(), receive_bytes: reported })
    }

    /// The descriptor, for operations of a ring.
    pub fn fd(&self) -> &Fd {
        &self.fd
    }

    /// The port number: the kernel puts it into answers, and into events that requests of this
    /// socket caused.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Receive buffer as the kernel reports it, in octets; 0 for the default.
    pub fn receive_bytes(&self) -> u32 {
        self.receive_bytes
    }

    /// Messages that did not fit in the receive buffer since the socket was opened. They count
    /// also where no error was reported.
    ///
    /// # Errors
    /// If the kernel cannot tell.
    pub fn drops(&self) -> Result<u32, IoError> {
        sockopt::drops(&self.fd).doing("read a socket's losses")
    }

    /// Sends requests, one or many messages. The kernel has worked them off when this returns,
    /// dumps excepted.
    ///
    /// # Errors
    /// If the kernel refuses the datagram as a whole; `EMSGSIZE` if it exceeds the send buffer.
    pub fn send(&self, requests: &[u8]) -> Result<(), IoError> {
        loop {
            match rustix::net::send(&self.fd, requests, SendFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.map(drop).doing("send a netlink request"),
            }
        }
    }

    /// Receives one datagram of answers.
    ///
    /// # Errors
    /// `ENOBUFS` if answers were lost, `EAGAIN` if a time limit was set and is over.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, IoError> {
        self.receive_with(RecvFlags::TRUNC, buffer)
    }

    /// Receives one datagram that has come already.
    ///
    /// # Errors
    /// `EAGAIN` if none has, `ENOBUFS` if some were lost.
    pub fn receive_now(&self, buffer: &mut [u8]) -> Result<Received, IoError> {
        self.receive_with(RecvFlags::TRUNC | RecvFlags::DONTWAIT, buffer)
    }

    fn receive_with(&self, flags: RecvFlags, buffer: &mut [u8]) -> Result<Received, IoError> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, flags) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(IoError::new("receive a netlink answer", "", error)),
                Ok((bytes, whole)) => return Ok(Received { bytes, truncated: whole > bytes }),
            }
        }
    }

    /// Bounds the time that [`RequestSocket::receive`] waits; `None` waits for ever.
    ///
    /// # Errors
    /// If the time is zero.
    pub fn set_receive_timeout(&self, timeout: Option<Duration>) -> Result<(), IoError> {
        set_socket_timeout(&self.fd, Timeout::Recv, timeout).doing("limit a socket's waiting")
    }

    /// Subscribes to a multicast group, for programs that print events.
    ///
    /// # Errors
    /// If privileges are missing.
    pub fn subscribe(&self, group: u32) -> Result<(), IoError> {
        sockopt::join_netlink_group(&self.fd, group).doing("subscribe to kernel events")
    }
}

impl AsFd for RequestSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How an event socket is set up.
pub(crate) struct EventSocket<'a> {
    /// Multicast groups.
    pub(crate) groups: &'a [u32],
    /// Receive buffer in octets as asked for, 0 for the system's default.
    pub(crate) receive_bytes: u32,
    /// Whether the kernel is told of undelivered events, to deliver them again.
    pub(crate) reliable: bool,
}

impl EventSocket<'_> {
    /// Opens the socket; `attach` gets it before it joins a group, so that no event passes it
    /// unfiltered.
    pub(crate) fn open(
        &self,
        attach: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<Fd, IoError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).doing("open an event socket")?;
        socket.bind_auto().doing("bind an event socket")?;
        // Losses are read from the socket's counter. The error would come with a state in which
        // the socket drops everything until it was read empty.
        socket.set_no_enobufs(true).doing("set up an event socket")?;
        if self.reliable {
            socket.set_broadcast_error(true).doing("ask for reliable events")?;
        }
        if self.receive_bytes > 0 {
            sockopt::receive_buffer(&socket, self.receive_bytes).doing("size an event socket")?;
        }
        attach(socket.as_fd()).doing("attach a program to an event socket")?;
        for &group in self.groups {
            socket.add_membership(group).doing("subscribe to kernel events")?;
        }
        Ok(owned(socket).into())
    }
}

fn owned(socket: Socket) -> OwnedFd {
    // SAFETY: the descriptor was just given up by the value that owned it.
    unsafe { OwnedFd::from_raw_fd(socket.into_raw_fd()) }
}
