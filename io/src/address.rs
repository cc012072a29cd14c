//! The addresses of this machine, in the network namespace of the caller.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of a device, or a device without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAddress {
    /// Name of the device.
    pub device: String,
    /// Its address and the length of the network's prefix in bits.
    pub address: Option<(IpAddr, u8)>,
}

/// Lists all devices, each as often as it has addresses and once more.
///
/// # Errors
/// If the kernel does not tell.
pub fn device_addresses() -> io::Result<Vec<DeviceAddress>> {
    let mut head: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call writes one pointer to where it may.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut all = Vec::new();
    let mut next = head;
    // SAFETY: the list is whole and ends with a null pointer; nobody else has it.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: every entry has the name of its device.
        let device = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        // SAFETY: the pointers are null or point at a whole address of the family it names.
        let (ip, mask) = unsafe { (read(entry.ifa_addr), read(entry.ifa_netmask)) };
        let address = ip.map(|ip| (ip, mask.map_or(0, prefix)));
        all.push(DeviceAddress { device, address });
        next = entry.ifa_next;
    }
    // SAFETY: the list is the one that was given, and nothing points into it any more.
    unsafe { libc::freeifaddrs(head) };
    Ok(all)
}

/// Reads an address of the Internet families.
///
/// # Safety
/// The pointer is null or points at an address of the family and size that it names itself.
unsafe fn read(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    let family = unsafe { address.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: an address of this family has this layout.
            let raw = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let raw = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(raw.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

fn prefix(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().count_ones(),
        IpAddr::V6(mask) => mask.to_bits().count_ones(),
    };
    u8::try_from(ones).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_address() {
        let all = device_addresses().unwrap();
        let address = Some((IpAddr::V4(Ipv4Addr::LOCALHOST), 8));
        assert!(all.contains(&DeviceAddress { device: "lo".to_owned(), address }), "{all:?}");
    }
}
