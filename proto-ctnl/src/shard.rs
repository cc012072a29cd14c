//! The shard function: which shard a flow belongs to, in user space as in the kernel.
//!
//! The BPF programs of [`crate::bpf`] compute the same on the kernel's message. The function
//! covers the original tuple without its zone and without the ICMP code, because that is what
//! stands at fixed offsets of every event.

use core::net::IpAddr;

use crate::tuple::{L4, Tuple, proto};

/// Multiplier of the address words.
pub(crate) const MUL_ADDRESS: u32 = 0x9e37_79b1;
/// First multiplier of the final mixing, and of the ports.
pub(crate) const MUL_PORTS: u32 = 0x85eb_ca6b;
/// Second multiplier of the final mixing.
pub(crate) const MUL_FINAL: u32 = 0xc2b2_ae35;

/// The 32-bit hash of an original tuple that decides its shard.
pub fn shard_hash(tuple: &Tuple) -> u32 {
    let addresses = match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            u32::from(src).wrapping_mul(MUL_ADDRESS) ^ u32::from(dst)
        }
        (src, dst) => {
            let words = words_of(src).into_iter().chain(words_of(dst));
            words.fold(0, |h: u32, word| h.wrapping_mul(MUL_ADDRESS) ^ word)
        }
    };
    mix(addresses, tuple.proto, tuple.l4)
}

/// The shard, below `shards`, of an original tuple. `shards` of 0 counts as 1.
pub fn shard_of(tuple: &Tuple, shards: u32) -> u32 {
    shard_hash(tuple) % shards.max(1)
}

fn words_of(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    core::array::from_fn(|i| {
        u32::from_be_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]])
    })
}

fn mix(addresses: u32, protocol: u8, l4: L4) -> u32 {
    let second = match protocol {
        proto::ICMP | proto::ICMPV6 => l4.b & 0xff00,
        _ => l4.b,
    };
    let ports = u32::from(second) << 16 | u32::from(l4.a);
    let mut h = addresses ^ (ports ^ u32::from(protocol)).wrapping_mul(MUL_PORTS);
    h ^= h >> 16;
    h = h.wrapping_mul(MUL_PORTS);
    h ^= h >> 13;
    h = h.wrapping_mul(MUL_FINAL);
    h ^ h >> 16
}
