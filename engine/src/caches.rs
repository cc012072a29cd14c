//! The four caches of a shard.

use crate::cache::{Cache, CacheConfig, Role};
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

impl Caches {
    /// Empty caches for at most `limit` objects each. `seed` fixes the keys of the hash functions.
    pub fn new(limit: u32, seed: Option<u64>) -> Self {
        let config = |role| CacheConfig { limit, role, seed };
        Self {
            internal: Cache::new(config(Role::Internal)),
            external: Cache::new(config(Role::External)),
            expects_internal: Expects::new(config(Role::Internal)),
            expects_external: Expects::new(config(Role::External)),
        }
    }

    /// Objects that found no room, since the start.
    pub(crate) const fn refused(&self) -> u64 {
        self.internal.counters().no_space
            + self.external.counters().no_space
            + self.expects_internal.counters().no_space
            + self.expects_external.counters().no_space
    }

    /// Whether a cache of flows is four fifths full, or, if it `was` so before, still three quarters.
    pub(crate) fn nearly_full(&self, was: bool) -> bool {
        let percent = if was { 75 } else { 80 };
        let is_so = |cache: &Cache| {
            !cache.is_empty() && u64::from(cache.len()) * 100 >= u64::from(cache.limit()) * percent
        };
        is_so(&self.internal) || is_so(&self.external)
    }

    /// Ends of objects that no peer will be told of, since the start.
    pub(crate) const fn ends_forgotten(&self) -> u64 {
        self.internal.counters().ends_forgotten + self.expects_internal.counters().ends_forgotten
    }
}
