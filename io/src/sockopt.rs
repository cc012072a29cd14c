//! Socket options that neither the standard library nor the socket crates know.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use proto_ctnl::bpf::SockFilter;

/// `SO_MEMINFO`: nine counters of a socket's memory.
const MEMINFO_WORDS: usize = 9;
/// Where the octets that wait to be received stand among them.
const MEMINFO_WAITING: usize = 0;
/// Where the number of lost messages stands among them.
const MEMINFO_DROPS: usize = 8;

fn set<T>(fd: impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads as many octets as the value has. What a value points at is read
    // during the call, while its owner is borrowed by the caller.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Messages that the socket has lost since its making because its buffer was full.
pub(crate) fn drops(fd: impl AsFd) -> io::Result<u32> {
    Ok(meminfo(fd)?[MEMINFO_DROPS])
}

/// Octets that the messages take which wait to be received, the kernel's own records included.
pub(crate) fn waiting(fd: impl AsFd) -> io::Result<u32> {
    Ok(meminfo(fd)?[MEMINFO_WAITING])
}

fn meminfo(fd: impl AsFd) -> io::Result<[u32; MEMINFO_WORDS]> {
    let mut words = [0u32; MEMINFO_WORDS];
    let mut length = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets, the size of the array.
    let result = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(words) } else { Err(io::Error::last_os_error()) }
}

/// Sets the receive buffer past the system's limit, or up to it where that is not permitted.
/// Returns what the kernel reports: the double of what it took.
pub(crate) fn receive_buffer(fd: impl AsFd, octets: u32) -> io::Result<u32> {
    let value = octets.min(i32::MAX as u32);
    set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &value)
        .or_else(|_| set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &value))?;
    let reported = rustix::net::sockopt::socket_recv_buffer_size(fd)?;
    Ok(u32::try_from(reported).unwrap_or(u32::MAX))
}

/// Sets the send buffer like [`receive_buffer`].
pub(crate) fn send_buffer(fd: impl AsFd, octets: u32) -> io::Result<u32> {
    let value = octets.min(i32::MAX as u32);
    set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &value)
        .or_else(|_| set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &value))?;
    let reported = rustix::net::sockopt::socket_send_buffer_size(fd)?;
    Ok(u32::try_from(reported).unwrap_or(u32::MAX))
}

/// What this process would get if it asked for buffers of a UDP socket of so many octets: one
/// number for receiving and one for sending, at most what was asked for.
///
/// # Errors
/// If no socket can be made.
pub fn buffers_granted(receive: u32, send: u32) -> io::Result<(u32, u32)> {
    let any = (std::net::Ipv4Addr::UNSPECIFIED, 0);
    let socket = std::net::UdpSocket::bind(any)?;
    // What the kernel reports is the double, and a small least size for tiny ones.
    let receive = receive.min(receive_buffer(&socket, receive)? / 2);
    let send = send.min(send_buffer(&socket, send)? / 2);
    Ok((receive, send))
}

/// Sends UDP without checksums.
pub(crate) fn no_checksum(fd: impl AsFd) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, &1i32)
}

/// Lets the kernel hand over several datagrams of one flow as one.
pub(crate) fn merge_datagrams(fd: impl AsFd) -> io::Result<()> {
    set(fd, libc::SOL_UDP, libc::UDP_GRO, &1i32)
}

/// Attaches a classic filter.
pub(crate) fn attach_filter(fd: impl AsFd, filter: &[SockFilter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        // The instruction has the layout of `struct sock_filter`.
        filter: filter.as_ptr().cast_mut().cast(),
    };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Attaches a loaded eBPF program.
pub(crate) fn attach_program(fd: impl AsFd, program: impl AsFd) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program.as_fd().as_raw_fd())
}

/// Subscribes a netlink socket to a multicast group.
pub(crate) fn join_netlink_group(fd: impl AsFd, group: u32) -> io::Result<()> {
    set(fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group)
}

/// The same, backwards.
pub(crate) fn leave_netlink_group(fd: impl AsFd, group: u32) -> io::Result<()> {
    set(fd, libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, &group)
}

/// Sends to IPv4 groups by the device with this index.
pub(crate) fn multicast_interface(fd: impl AsFd, index: u32) -> io::Result<()> {
    let any = libc::in_addr { s_addr: 0 };
    let by_index =
        libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index.cast_signed() };
    set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &by_index)
}
