//! The status word of a flow (`enum ip_conntrack_status`, linux/netfilter/nf_conntrack_common.h).

/// Status bits, raw: bits unknown to this crate are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// The flow was expected by a helper.
    pub const EXPECTED: Self = Self(1 << 0);
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// The flow survives early drop.
    pub const ASSURED: Self = Self(1 << 2);
    /// The flow is in the table. Every status word sent to the kernel must have it.
    pub const CONFIRMED: Self = Self(1 << 3);
    /// The source is translated in the original direction.
    pub const SRC_NAT: Self = Self(1 << 4);
    /// The destination is translated in the original direction.
    pub const DST_NAT: Self = Self(1 << 5);
    /// TCP sequence numbers are adjusted.
    pub const SEQ_ADJUST: Self = Self(1 << 6);
    /// Source translation was decided.
    pub const SRC_NAT_DONE: Self = Self(1 << 7);
    /// Destination translation was decided.
    pub const DST_NAT_DONE: Self = Self(1 << 8);
    /// The flow is being destroyed.
    pub const DYING: Self = Self(1 << 9);
    /// The timeout must not change.
    pub const FIXED_TIMEOUT: Self = Self(1 << 10);
    /// Not a flow but a template of one.
    pub const TEMPLATE: Self = Self(1 << 11);
    /// Not tracked.
    pub const UNTRACKED: Self = Self(1 << 12);
    /// The helper was attached explicitly.
    pub const HELPER: Self = Self(1 << 13);
    /// The flow is in a flow table.
    pub const OFFLOAD: Self = Self(1 << 14);
    /// The flow is in hardware.
    pub const HW_OFFLOAD: Self = Self(1 << 15);

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This word with the bits of `other` set.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This word with the bits of `other` cleared.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}
