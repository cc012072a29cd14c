//! The sockets of a channel and their options.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Socket, Type};

use super::{ChannelKind, ChannelOptions};
use crate::error::{Context as _, IoError};
use crate::fd::Fd;
use crate::interface::Interface;
use crate::sockopt;

/// Receive buffer unless configured, in octets.
const RECEIVE_BYTES: u32 = 4 << 20;
/// Time without an acknowledgement after which a connection is given up and made anew. Left to
/// itself TCP waits for minutes, and after an outage for as long again as that lasted.
const SILENCE: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1;

/// An address with the interface as its scope where it needs one.
fn address(ip: IpAddr, port: u16, index: u32) -> SockAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, index).into(),
    }
}

/// Where a channel sends to.
pub(super) fn destination(kind: &ChannelKind, interface: &Interface) -> SockAddr {
    match *kind {
        ChannelKind::Udp { peer, port, .. } | ChannelKind::Tcp { peer, port, .. } => {
            address(peer, port, interface.index())
        }
        ChannelKind::Multicast { group, port, .. } => address(group, port, interface.index()),
    }
}

/// The receiving socket of UDP and multicast.
pub(super) fn receiver(options: &ChannelOptions, index: u32) -> Result<Fd, IoError> {
    let (ip, port) = match options.kind {
        ChannelKind::Udp { local, port, .. } | ChannelKind::Tcp { local, port, .. } => {
            (local, port)
        }
        // Bound to the group, so that nothing else on the port comes in.
        ChannelKind::Multicast { group, port, .. } => (group, port),
    };
    let address = address(ip, port, index);
    let socket = Socket::new(address.domain(), Type::DGRAM, Some(Protocol::UDP))
        .doing("open a receiving socket")?;
    set_up_receiver(&socket, options, &address)?;
    if let ChannelKind::Multicast { group, interface_address, .. } = options.kind {
        join(&socket, group, interface_address, index)
            .map_err(|error| IoError::new("join the group", group.to_string(), error))?;
    }
    // Without it datagrams come one by one.
    let _ = sockopt::merge_datagrams(&socket);
    Ok(socket.into())
}

/// The listening socket of TCP.
pub(super) fn listener(options: &ChannelOptions, index: u32) -> Result<Fd, IoError> {
    let ChannelKind::Tcp { local, port, .. } = options.kind else {
        let error = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        return Err(IoError::new("listen", "", error));
    };
    let address = address(local, port, index);
    let socket = Socket::new(address.domain(), Type::STREAM, Some(Protocol::TCP))
        .doing("open a listening socket")?;
    socket.set_keepalive(true).doing("set up a listening socket")?;
    set_up_receiver(&socket, options, &address)?;
    socket.listen(BACKLOG).doing("listen")?;
    Ok(socket.into())
}

fn set_up_receiver(
    socket: &Socket,
    options: &ChannelOptions,
    address: &SockAddr,
) -> Result<(), IoError> {
    socket.set_reuse_address(true).doing("set up a receiving socket")?;
    if address.is_ipv6() {
        socket.set_only_v6(true).doing("set up a receiving socket")?;
    }
    let octets = match options.receive_buffer_bytes {
        0 => RECEIVE_BYTES,
        octets => octets,
    };
    sockopt::receive_buffer(socket, octets).doing("size a receiving socket")?;
    socket.bind(address).map_err(|error| {
        let name = address.as_socket().map(|a| a.to_string()).unwrap_or_default();
        IoError::new("listen at", name, error)
    })
}

fn join(
    socket: &Socket,
    group: IpAddr,
    interface_address: Option<IpAddr>,
    index: u32,
) -> std::io::Result<()> {
    match (group, interface_address) {
        (IpAddr::V4(group), Some(IpAddr::V4(local))) => socket.join_multicast_v4(&group, &local),
        (IpAddr::V4(group), _) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
        }
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, index),
    }
}

/// The sending socket of UDP and multicast.
pub(super) fn sender(options: &ChannelOptions, index: u32) -> Result<Fd, IoError> {
    let v6 = match options.kind {
        ChannelKind::Udp { peer, .. } | ChannelKind::Tcp { peer, .. } => peer.is_ipv6(),
        ChannelKind::Multicast { group, .. } => group.is_ipv6(),
    };
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket =
        Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).doing("open a sending socket")?;
    if !options.checksum {
        sockopt::no_checksum(&socket).doing("switch UDP checksums off")?;
    }
    if options.send_buffer_bytes > 0 {
        sockopt::send_buffer(&socket, options.send_buffer_bytes).doing("size a sending socket")?;
    }
    if let ChannelKind::Multicast { interface_address, .. } = options.kind {
        select(&socket, v6, interface_address, index).doing("send to the group by a device")?;
    }
    Ok(socket.into())
}

/// Groups are sent to by one device, and not to ourselves.
fn select(
    socket: &Socket,
    v6: bool,
    interface_address: Option<IpAddr>,
    index: u32,
) -> std::io::Result<()> {
    if v6 {
        socket.set_multicast_loop_v6(false)?;
        return socket.set_multicast_if_v6(index);
    }
    socket.set_multicast_loop_v4(false)?;
    match interface_address {
        Some(IpAddr::V4(local)) => socket.set_multicast_if_v4(&local),
        _ => sockopt::multicast_interface(socket, index),
    }
}

/// An address of one device binds the socket to it: to the device with index `index` instead, as the
/// one before has gone.
pub(super) fn bind_to_device(receiver: &Fd, index: u32) -> std::io::Result<()> {
    let receiver = SockRef::from(receiver);
    match receiver.local_addr()?.as_socket_ipv6() {
        Some(local) if local.scope_id() != 0 => {
            receiver.bind_device_by_index_v6(NonZeroU32::new(index))
        }
        _ => Ok(()),
    }
}

/// Has the receiving and the sending socket of a group use the device with index `new` in the place
/// of the one that had index `old`: what they knew of that has gone with it.
pub(super) fn change_device(
    kind: &ChannelKind,
    (receiver, sender): &(Fd, Fd),
    old: u32,
    new: u32,
) -> std::io::Result<()> {
    let ChannelKind::Multicast { group, .. } = *kind else { return Ok(()) };
    let receiver = SockRef::from(receiver);
    // Only so many memberships may there be.
    let _ = match group {
        IpAddr::V4(v4) => receiver.leave_multicast_v4_n(&v4, &InterfaceIndexOrAddress::Index(old)),
        IpAddr::V6(v6) => receiver.leave_multicast_v6(&v6, old),
    };
    select(&SockRef::from(sender), group.is_ipv6(), None, new)?;
    join(&receiver, group, None, new)
}

/// Whether the device with index `index` takes what comes to the channel's group. The socket does not
/// know when it has ceased to. Where nobody tells, it does.
pub(super) fn is_member(kind: &ChannelKind, index: u32) -> bool {
    let ChannelKind::Multicast { group, .. } = *kind else { return true };
    let file = if group.is_ipv6() { "igmp6" } else { "igmp" };
    let Ok(groups) = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")) else {
        return true;
    };
    let index = index.to_string();
    match group {
        IpAddr::V4(group) => {
            let group = format!("{:08X}", u32::from_ne_bytes(group.octets()));
            // Lines of groups are indented, below the one of their device.
            let mut here = false;
            groups.lines().any(|line| {
                let word = line.split_ascii_whitespace().next();
                if line.starts_with('\t') {
                    return here && word == Some(&group);
                }
                here = word == Some(&index);
                false
            })
        }
        IpAddr::V6(group) => {
            let group = format!("{:032x}", group.to_bits());
            groups.lines().any(|line| {
                let mut words = line.split_ascii_whitespace();
                words.next() == Some(&index) && words.nth(1) == Some(&group)
            })
        }
    }
}

/// A socket for one attempt to connect, and where to.
pub(super) fn connector(to: &SockAddr, send_bytes: u32) -> Result<Fd, IoError> {
    let socket = Socket::new(to.domain(), Type::STREAM, Some(Protocol::TCP))
        .doing("open a connecting socket")?;
    socket.set_keepalive(true).doing("set up a connecting socket")?;
    // What is given to the socket is complete; waiting for more would only delay it.
    socket.set_tcp_nodelay(true).doing("set up a connecting socket")?;
    socket.set_tcp_user_timeout(Some(SILENCE)).doing("set up a connecting socket")?;
    if send_bytes > 0 {
        sockopt::send_buffer(&socket, send_bytes).doing("size a connecting socket")?;
    }
    Ok(socket.into())
}
