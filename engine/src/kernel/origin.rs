//! Who caused an event, told by the port id in it, and what follows from that.
//!
//! Every event carries the port id of the socket whose request caused it, 0 if none did. A shard
//! sends its requests by one socket per purpose, so the port id tells its own doings apart.

/// The purpose of a request socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Commit and injection.
    Write,
    /// Selective flush of the kernel's table.
    Flush,
    /// Looking after silent flows.
    Audit,
}

impl Lane {
    /// All lanes, in the order of [`Ports`].
    pub const ALL: [Self; 3] = [Self::Write, Self::Flush, Self::Audit];
}

/// Port ids of a shard's request sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of [`Lane::Write`].
    pub write: u32,
    /// Of [`Lane::Flush`].
    pub flush: u32,
    /// Of [`Lane::Audit`].
    pub audit: u32,
}

/// Who caused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Packets, timers, and everybody else's requests.
    Other,
    /// Our commit of the external cache.
    Commit,
    /// Our injection of what a peer sent, without an external cache.
    Inject,
    /// Our flush of the kernel's table.
    Flush,
    /// Our look at an entry, which changed nothing.
    Audit,
}

/// What an event about a flow does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes what the internal cache has, and nothing is added to that or told to peers.
    Follow,
    /// It changes the internal cache and is not told to peers.
    Cache,
    /// It changes the internal cache and is told to peers.
    CacheAndSend,
    /// It shows that the kernel reports the flow. It changes the internal cache, and peers are
    /// told if it says anything new.
    Confirm,
}

impl Origin {
    /// Who caused an event with this port id. `inject`: received flows go straight into the
    /// kernel (`DisableExternalCache`).
    pub const fn of(port: u32, ports: &Ports, inject: bool) -> Self {
        // By far the most common, and not to be confused with a socket that is not open.
        if port == 0 {
            Self::Other
        } else if port == ports.write {
            if inject { Self::Inject } else { Self::Commit }
        } else if port == ports.flush {
            Self::Flush
        } else if port == ports.audit {
            Self::Audit
        } else {
            Self::Other
        }
    }

    /// What a NEW or UPDATE event does.
    pub const fn on_change(self) -> Effect {
        match self {
            Self::Other => Effect::CacheAndSend,
            Self::Commit | Self::Flush => Effect::Cache,
            // As at its end: the flow may have been taken for ours.
            Self::Inject => Effect::Follow,
            Self::Audit => Effect::Confirm,
        }
    }

    /// What a DESTROY event does. An audit destroys nothing, but its look at an entry that has
    /// run out makes the kernel notice.
    pub const fn on_destroy(self) -> Effect {
        match self {
            Self::Other | Self::Audit => Effect::CacheAndSend,
            // A reading of the table takes flows of the peer for ours: nobody there says whose they
            // are. When the peer ends one, it is not ours any more.
            Self::Commit | Self::Flush | Self::Inject => Effect::Cache,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ids_tell_our_own_doings_apart() {
        let ports = Ports { write: 77, flush: 0x8000_0001, audit: 0x8000_0002 };
        let origin = |port| Origin::of(port, &ports, false);
        assert_eq!(origin(0), Origin::Other);
        assert_eq!(origin(78), Origin::Other);
        assert_eq!(origin(77), Origin::Commit);
        assert_eq!(Origin::of(77, &ports, true), Origin::Inject);
        assert_eq!(origin(0x8000_0001), Origin::Flush);
        assert_eq!(origin(0x8000_0002), Origin::Audit);
        let closed = Ports { write: 0, flush: 0, audit: 0 };
        assert_eq!(Origin::of(0, &closed, true), Origin::Other);
    }

    #[test]
    fn what_we_did_ourselves_is_not_told_to_peers() {
        for origin in [Origin::Commit, Origin::Flush] {
            assert_eq!((origin.on_change(), origin.on_destroy()), (Effect::Cache, Effect::Cache));
        }
        assert_eq!(Origin::Inject.on_change(), Effect::Follow);
        assert_eq!(Origin::Inject.on_destroy(), Effect::Cache);
        assert_eq!(Origin::Other.on_change(), Effect::CacheAndSend);
        assert_eq!(Origin::Other.on_destroy(), Effect::CacheAndSend);
        assert_eq!(Origin::Audit.on_change(), Effect::Confirm);
    }
}
