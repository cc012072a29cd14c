//! Network devices: index, MTU, state, and news of changes.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::error::{Context as _, IoError};
use crate::fd::Fd;

/// Least MTU in octets of a device on which the kernel uses IPv6 (RFC 8200, section 5).
pub const IPV6_MTU_MIN: u32 = 1280;

/// The multicast group of changes of devices, as a mask (`RTMGRP_LINK`).
const LINK_GROUP: u32 = 1;

/// A network device of the namespace in which it was looked up, with what was last read.
#[derive(Debug)]
pub struct Interface {
    name: String,
    index: u32,
    mtu: u32,
    flags: u32,
    /// Belongs to the namespace; questions go through it.
    asker: OwnedFd,
}

impl Interface {
    /// Looks a device up by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn by_name(name: &str) -> Result<Self, IoError> {
        let asker = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .doing("open a socket")?;
        let mut interface = Self { name: name.to_owned(), index: 0, mtu: 0, flags: 0, asker };
        interface.refresh()?;
        Ok(interface)
    }

    /// Reads index, MTU and flags again.
    ///
    /// # Errors
    /// If the device has gone; what was read before stays.
    pub fn refresh(&mut self) -> Result<(), IoError> {
        let refused = |error: io::Error| IoError::new("find the device", self.name.clone(), error);
        let index = netdevice::name_to_index(&self.asker, &self.name)
            .map_err(|error| refused(error.into()))?;
        let mtu = self.ask(libc::SIOCGIFMTU).map_err(refused)?;
        let flags = self.ask(libc::SIOCGIFFLAGS).map_err(refused)?;
        self.index = index;
        // SAFETY: the kernel has answered this question by this member.
        self.mtu = unsafe { mtu.ifr_ifru.ifru_mtu }.cast_unsigned();
        // SAFETY: as above.
        self.flags = u32::from(unsafe { flags.ifr_ifru.ifru_flags }.cast_unsigned());
        Ok(())
    }

    fn ask(&self, question: libc::Ioctl) -> io::Result<libc::ifreq> {
        // SAFETY: all zeros is an empty name and a valid value of each member of the union.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if self.name.len() >= request.ifr_name.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: both questions read the name and write one member of the structure.
        let result = unsafe { libc::ioctl(self.asker.as_raw_fd(), question, &raw mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(request) }
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Index, the scope of link-local addresses.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Largest IP packet in octets.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether it was switched on (`IFF_UP`).
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP.cast_unsigned() != 0
    }

    /// Whether groups can be reached by it (`IFF_MULTICAST`).
    pub fn is_multicast(&self) -> bool {
        self.flags & libc::IFF_MULTICAST.cast_unsigned() != 0
    }

    /// Whether it has a carrier (`IFF_RUNNING`).
    pub fn is_running(&self) -> bool {
        self.flags & libc::IFF_RUNNING.cast_unsigned() != 0
    }
}

/// A socket on which a message arrives whenever a device of the caller's network namespace
/// changes. Receive from it with [`Ring::receive`](crate::Ring::receive) into small buffers, and
/// take any message, or an overrun, as the reason to call [`Interface::refresh`].
///
/// # Errors
/// If no socket can be made.
pub fn watch_interfaces() -> Result<Fd, IoError> {
    let mut socket = Socket::new(NETLINK_ROUTE).doing("open a socket for device changes")?;
    socket.bind(&SocketAddr::new(0, LINK_GROUP)).doing("subscribe to device changes")?;
    // SAFETY: the descriptor was just given up by the value that owned it.
    let fd = unsafe { OwnedFd::from_raw_fd(socket.into_raw_fd()) };
    Ok(fd.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_first() {
        let lo = Interface::by_name("lo").unwrap();
        assert_eq!((lo.index(), lo.name()), (1, "lo"));
        assert!(lo.mtu() >= 1280, "{}", lo.mtu());
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let error = Interface::by_name("none0").unwrap_err();
        assert!(error.to_string().starts_with("find the device none0: "), "{error}");
        assert!(Interface::by_name("a-name-that-is-too-long").is_err());
        assert!(Interface::by_name("").is_err());
    }
}
