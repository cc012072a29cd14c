//! What the ends of the sync links are called.

/// Device of the first sync link in every node.
pub const SYNC_DEVICE: &str = "sync0";

/// Device of sync link `n`, from 0.
pub fn sync_device(n: u8) -> String {
    format!("sync{n}")
}

/// IPv4 address of node `index` on the first sync link.
pub fn sync_address(index: u8) -> String {
    sync_address_of(0, index)
}

/// IPv4 address of node `index` on sync link `n`.
pub fn sync_address_of(n: u8, index: u8) -> String {
    format!("10.99.{n}.{index}")
}

/// IPv6 address of node `index` on sync link `n`.
pub fn sync_address6_of(n: u8, index: u8) -> String {
    format!("fd99:0:0:{n}::{index}")
}

/// Link-local IPv6 address of node `index` on sync link `n`.
pub(super) fn link_local_address_of(n: u8, index: u8) -> String {
    format!("fe80::99:{n}:{index}")
}
