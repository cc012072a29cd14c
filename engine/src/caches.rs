//! The four caches of a shard.

use crate::cache::Cache;
use crate::expects::Expects;

/// What one shard knows: flows and expectations of this node's kernel and of the peer's.
#[derive(Debug)]
pub struct Caches {
    /// Flows that this node's kernel reports.
    pub internal: Cache,
    /// Flows that the peer reported.
    pub external: Cache,
    /// Expectations that this node's kernel reports.
    pub expects_internal: Expects,
    /// Expectations that the peer reported.
    pub expects_external: Expects,
}
