//! What a cache counts. All counters start at 0 and only grow.

/// Counters of one cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Objects created; a replacement counts as one destroyed and one created.
    pub created: u64,
    /// Objects that did not fit.
    pub create_failed: u64,
    /// Objects that did not fit because the limit was reached.
    pub no_space: u64,
    /// Objects updated.
    pub updated: u64,
    /// Objects destroyed, flushed ones included.
    pub destroyed: u64,
    /// Destroyed before anybody was told of them.
    pub dropped_unsent: u64,
    /// Destroyed, given up unacknowledged, and then forgotten for want of room: a peer may keep
    /// them.
    pub ends_forgotten: u64,
    /// Objects that came back before the message of their end was sent or acknowledged.
    pub revived: u64,
    /// Changes of objects that were queued already, so that they cost no message.
    pub coalesced: u64,
    /// Longest the queue of changes ever was.
    pub pending_max: u32,
    /// Most objects that ever waited for an acknowledgement.
    pub unacked_max: u32,
}

impl CacheCounters {
    /// Adds the counters of another shard's cache. Maxima add up as well: they bound the sum.
    pub const fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.create_failed += other.create_failed;
        self.no_space += other.no_space;
        self.updated += other.updated;
        self.destroyed += other.destroyed;
        self.dropped_unsent += other.dropped_unsent;
        self.ends_forgotten += other.ends_forgotten;
        self.revived += other.revived;
        self.coalesced += other.coalesced;
        self.pending_max = self.pending_max.saturating_add(other.pending_max);
        self.unacked_max = self.unacked_max.saturating_add(other.unacked_max);
    }
}
