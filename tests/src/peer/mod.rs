//! Daemons of either make in namespaces of their own, and pairs of them over sync links.

mod address;
mod make;
mod node;
mod pair;
mod setup;

pub use address::{SYNC_DEVICE, sync_address, sync_address_of, sync_address6_of, sync_device};
pub use make::Make;
pub use node::{BASE_RULES, Node};
pub use pair::Pair;
pub use setup::{EXPIRY, LONG_ERROR_QUEUE, Link, Mode, REFRESH, Setup};
