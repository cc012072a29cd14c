//! Pairs of IPv6 addresses beside the entries.
//!
//! An entry has room for two IPv4 addresses per direction. One of IPv6 holds the index of a pair
//! there; the reply's pair exists only if it is not the original's, swapped.

use core::net::{IpAddr, Ipv6Addr};

use crate::slab::{FreeLink, Slab};

/// Source and destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) src: u128,
    pub(crate) dst: u128,
}

/// Where pairs live.
pub(crate) type Pairs = Slab<Pair, 11>;

impl Pair {
    /// An IPv4 address counts as the IPv6 address it maps to, so that any two make a pair.
    pub(crate) fn new(src: IpAddr, dst: IpAddr) -> Self {
        Self { src: bits(src), dst: bits(dst) }
    }

    pub(crate) const fn swapped(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }

    pub(crate) const fn addresses(self) -> (IpAddr, IpAddr) {
        (IpAddr::V6(Ipv6Addr::from_bits(self.src)), IpAddr::V6(Ipv6Addr::from_bits(self.dst)))
    }
}

/// The number of an IPv6 address, or of the IPv6 address that an IPv4 address maps to.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FreeLink for Pair {
    fn free_next(&self) -> u32 {
        // Written by `set_free_next`, so it fits.
        self.src as u32
    }
    fn set_free_next(&mut self, next: u32) {
        self.src = u128::from(next);
    }
}
