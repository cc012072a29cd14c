//! What a session counts.

/// Counts since the session began. None of them is ever reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounters {
    /// Received messages of another version of the protocol.
    pub wrong_version: u64,
    /// Received messages whose type and flags have no meaning in this mode.
    pub malformed_header: u64,
    /// Received messages whose attributes were refused.
    pub malformed_payload: u64,
    /// Received messages of a type without a meaning, where no other check refuses them.
    pub bad_type: u64,
    /// Datagrams that end within a header.
    pub truncated: u64,
    /// Messages whose length is too small or reaches beyond the datagram.
    pub bad_size: u64,
    /// State that can not be sent because its message does not fit a datagram.
    pub send_oversize: u64,

    /// Sequence numbers that were missing when a later one arrived.
    pub lost: u64,
    /// Messages that arrived after a later or equal one.
    pub before: u64,
    /// Those of `before` that had HELLO and were taken for late copies, not for a restart.
    pub late_hellos: u64,

    /// Messages taken from datagrams, refused ones included.
    pub received: u64,
    /// State messages given to the owner.
    pub state_received: u64,
    /// Messages of all types sent.
    pub sent: u64,
    /// State messages sent.
    pub state_sent: u64,
    /// Datagrams given out.
    pub datagrams_sent: u64,
    /// Acknowledgements sent.
    pub acks_sent: u64,
    /// Acknowledgements received.
    pub acks_received: u64,
    /// Requests to repeat sent.
    pub nacks_sent: u64,
    /// Requests to repeat received.
    pub nacks_received: u64,
    /// Requests for everything sent.
    pub resyncs_sent: u64,
    /// Requests for everything received.
    pub resyncs_received: u64,
    /// Objects queued again: requested, unacknowledged at a restart, or left behind.
    pub requeued: u64,
    /// Elements that left the resend queue because it was full.
    pub evicted: u64,
    /// Times at which state was found to be missing at the peer and not in the resend queue.
    pub holes: u64,
    /// Times at which the peer began its numbering anew, the first time included.
    pub peer_starts: u64,
    /// Times at which one side's numbering had been lost by the other, and was found again without
    /// a greeting.
    pub renumbered: u64,
    /// Times at which sending went on although nothing was acknowledged.
    pub reliefs: u64,
}

impl SyncCounters {
    /// All received messages that were refused.
    pub const fn malformed(&self) -> u64 {
        self.wrong_version
            + self.malformed_header
            + self.malformed_payload
            + self.bad_type
            + self.truncated
            + self.bad_size
    }
}
