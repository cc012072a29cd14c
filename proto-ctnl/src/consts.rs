//! Numbers of the kernel's interface, under the names of its headers.
//!
//! Each attribute enumeration is declared once, by the macro `attributes!`, which makes the
//! constants and the look-up of a name that [`AttrSet`](crate::AttrSet) needs for error texts.

/// Declares the members of one attribute enumeration of a kernel header.
macro_rules! attributes {
    ($doc:literal $lookup:ident { $($name:ident = $value:literal,)+ }) => {
        $(
            #[doc = concat!("`", stringify!($name), "` (", stringify!($value), "). ", $doc)]
            pub const $name: u16 = $value;
        )+

        /// The header's name of an attribute of this enumeration.
        pub(crate) const fn $lookup(kind: u16) -> Option<&'static str> {
            match kind {
                $($value => Some(stringify!($name)),)+
                _ => None,
            }
        }
    };
}

/// Message types of linux/netlink.h.
pub mod nlmsg {
    /// `NLMSG_NOOP`.
    pub const NOOP: u16 = 1;
    /// `NLMSG_ERROR`, also an acknowledgement.
    pub const ERROR: u16 = 2;
    /// `NLMSG_DONE`.
    pub const DONE: u16 = 3;
    /// `NLMSG_OVERRUN`.
    pub const OVERRUN: u16 = 4;
}

/// Message flags of linux/netlink.h.
pub mod flag {
    /// `NLM_F_REQUEST`.
    pub const REQUEST: u16 = 0x01;
    /// `NLM_F_MULTI`.
    pub const MULTI: u16 = 0x02;
    /// `NLM_F_ACK`.
    pub const ACK: u16 = 0x04;
    /// `NLM_F_ECHO`.
    pub const ECHO: u16 = 0x08;
    /// `NLM_F_DUMP_INTR`.
    pub const DUMP_INTR: u16 = 0x10;
    /// `NLM_F_DUMP_FILTERED`: the kernel applied a filter to this dump.
    pub const DUMP_FILTERED: u16 = 0x20;
    /// `NLM_F_REPLACE`, of requests that make things.
    pub const REPLACE: u16 = 0x100;
    /// `NLM_F_EXCL`, likewise.
    pub const EXCL: u16 = 0x200;
    /// `NLM_F_CREATE`, likewise.
    pub const CREATE: u16 = 0x400;
    /// `NLM_F_DUMP`, of requests that get things. The kernel takes either of its bits for all.
    pub const DUMP: u16 = 0x300;
    /// `NLM_F_CAPPED`, of errors: the request's payload is not echoed.
    pub const CAPPED: u16 = 0x100;
    /// `NLM_F_ACK_TLVS`, of errors: attributes follow the echoed request.
    pub const ACK_TLVS: u16 = 0x200;
}

/// Subsystems of linux/netfilter/nfnetlink.h, the high octet of a message's type.
pub mod subsys {
    /// `NFNL_SUBSYS_CTNETLINK`.
    pub const CTNETLINK: u16 = 1;
    /// `NFNL_SUBSYS_CTNETLINK_EXP`.
    pub const CTNETLINK_EXP: u16 = 2;
    /// `NFNL_SUBSYS_QUEUE`.
    pub const QUEUE: u16 = 3;
    /// `NFNL_SUBSYS_CTNETLINK_TIMEOUT`.
    pub const CTNETLINK_TIMEOUT: u16 = 8;
    /// `NFNL_SUBSYS_CTHELPER`.
    pub const CTHELPER: u16 = 9;
}

/// Whole message types: subsystem in the high octet, `IPCTNL_MSG_*` in the low one.
pub mod msg {
    use super::subsys;

    /// `IPCTNL_MSG_CT_NEW`.
    pub const CT_NEW: u16 = subsys::CTNETLINK << 8;
    /// `IPCTNL_MSG_CT_GET`.
    pub const CT_GET: u16 = CT_NEW + 1;
    /// `IPCTNL_MSG_CT_DELETE`.
    pub const CT_DELETE: u16 = CT_NEW + 2;
    /// `IPCTNL_MSG_CT_GET_CTRZERO`. As an answer the type of expectation statistics.
    pub const CT_GET_CTRZERO: u16 = CT_NEW + 3;
    /// `IPCTNL_MSG_CT_GET_STATS_CPU`.
    pub const CT_GET_STATS_CPU: u16 = CT_NEW + 4;
    /// `IPCTNL_MSG_CT_GET_STATS`.
    pub const CT_GET_STATS: u16 = CT_NEW + 5;
    /// `IPCTNL_MSG_CT_GET_DYING`.
    pub const CT_GET_DYING: u16 = CT_NEW + 6;
    /// `IPCTNL_MSG_CT_GET_UNCONFIRMED`.
    pub const CT_GET_UNCONFIRMED: u16 = CT_NEW + 7;
    /// `IPCTNL_MSG_EXP_NEW`.
    pub const EXP_NEW: u16 = subsys::CTNETLINK_EXP << 8;
    /// `IPCTNL_MSG_EXP_GET`.
    pub const EXP_GET: u16 = EXP_NEW + 1;
    /// `IPCTNL_MSG_EXP_DELETE`.
    pub const EXP_DELETE: u16 = EXP_NEW + 2;
    /// `IPCTNL_MSG_EXP_GET_STATS_CPU`.
    pub const EXP_GET_STATS_CPU: u16 = EXP_NEW + 3;
}

/// Address families as they stand in `nfgenmsg`.
pub mod family {
    /// `AF_UNSPEC`: any.
    pub const UNSPEC: u8 = 0;
    /// `AF_INET`.
    pub const INET: u8 = 2;
    /// `AF_INET6`.
    pub const INET6: u8 = 10;
}

/// Multicast groups of linux/netfilter/nfnetlink_compat.h.
pub mod group {
    /// `NFNLGRP_CONNTRACK_NEW`.
    pub const CONNTRACK_NEW: u32 = 1;
    /// `NFNLGRP_CONNTRACK_UPDATE`.
    pub const CONNTRACK_UPDATE: u32 = 2;
    /// `NFNLGRP_CONNTRACK_DESTROY`.
    pub const CONNTRACK_DESTROY: u32 = 3;
    /// `NFNLGRP_CONNTRACK_EXP_NEW`.
    pub const CONNTRACK_EXP_NEW: u32 = 4;
    /// `NFNLGRP_CONNTRACK_EXP_UPDATE`; no kernel sends to it.
    pub const CONNTRACK_EXP_UPDATE: u32 = 5;
    /// `NFNLGRP_CONNTRACK_EXP_DESTROY`.
    pub const CONNTRACK_EXP_DESTROY: u32 = 6;
}

/// `NLA_F_NESTED`: the attribute holds attributes.
pub const NLA_F_NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are its number.
pub const NLA_TYPE_MASK: u16 = 0x3fff;

attributes! {
    "Of a flow (`enum ctattr_type`)."
    flow_attr {
        CTA_TUPLE_ORIG = 1, CTA_TUPLE_REPLY = 2, CTA_STATUS = 3, CTA_PROTOINFO = 4, CTA_HELP = 5,
        CTA_NAT_SRC = 6, CTA_TIMEOUT = 7, CTA_MARK = 8, CTA_COUNTERS_ORIG = 9,
        CTA_COUNTERS_REPLY = 10, CTA_USE = 11, CTA_ID = 12, CTA_NAT_DST = 13,
        CTA_TUPLE_MASTER = 14, CTA_SEQ_ADJ_ORIG = 15, CTA_SEQ_ADJ_REPLY = 16, CTA_SECMARK = 17,
        CTA_ZONE = 18, CTA_SECCTX = 19, CTA_TIMESTAMP = 20, CTA_MARK_MASK = 21, CTA_LABELS = 22,
        CTA_LABELS_MASK = 23, CTA_SYNPROXY = 24, CTA_FILTER = 25, CTA_STATUS_MASK = 26,
        CTA_TIMESTAMP_EVENT = 27,
    }
}
attributes! {
    "Of a tuple (`enum ctattr_tuple`)."
    tuple_attr { CTA_TUPLE_IP = 1, CTA_TUPLE_PROTO = 2, CTA_TUPLE_ZONE = 3, }
}
attributes! {
    "Of a tuple's addresses (`enum ctattr_ip`)."
    ip_attr { CTA_IP_V4_SRC = 1, CTA_IP_V4_DST = 2, CTA_IP_V6_SRC = 3, CTA_IP_V6_DST = 4, }
}
attributes! {
    "Of a tuple's layer 4 (`enum ctattr_l4proto`)."
    proto_attr {
        CTA_PROTO_NUM = 1, CTA_PROTO_SRC_PORT = 2, CTA_PROTO_DST_PORT = 3, CTA_PROTO_ICMP_ID = 4,
        CTA_PROTO_ICMP_TYPE = 5, CTA_PROTO_ICMP_CODE = 6, CTA_PROTO_ICMPV6_ID = 7,
        CTA_PROTO_ICMPV6_TYPE = 8, CTA_PROTO_ICMPV6_CODE = 9,
    }
}
attributes! {
    "Of the protocol's state (`enum ctattr_protoinfo`)."
    protoinfo_attr { CTA_PROTOINFO_TCP = 1, CTA_PROTOINFO_DCCP = 2, CTA_PROTOINFO_SCTP = 3, }
}
attributes! {
    "Of TCP's state (`enum ctattr_protoinfo_tcp`)."
    tcp_attr {
        CTA_PROTOINFO_TCP_STATE = 1, CTA_PROTOINFO_TCP_WSCALE_ORIGINAL = 2,
        CTA_PROTOINFO_TCP_WSCALE_REPLY = 3, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4,
        CTA_PROTOINFO_TCP_FLAGS_REPLY = 5,
    }
}
attributes! {
    "Of DCCP's state (`enum ctattr_protoinfo_dccp`)."
    dccp_attr {
        CTA_PROTOINFO_DCCP_STATE = 1, CTA_PROTOINFO_DCCP_ROLE = 2,
        CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ = 3, CTA_PROTOINFO_DCCP_PAD = 4,
    }
}
attributes! {
    "Of SCTP's state (`enum ctattr_protoinfo_sctp`)."
    sctp_attr {
        CTA_PROTOINFO_SCTP_STATE = 1, CTA_PROTOINFO_SCTP_VTAG_ORIGINAL = 2,
        CTA_PROTOINFO_SCTP_VTAG_REPLY = 3,
    }
}
attributes! {
    "Of a flow's helper (`enum ctattr_help`)."
    help_attr { CTA_HELP_NAME = 1, CTA_HELP_INFO = 2, }
}
attributes! {
    "Of a counter (`enum ctattr_counters`)."
    counters_attr {
        CTA_COUNTERS_PACKETS = 1, CTA_COUNTERS_BYTES = 2, CTA_COUNTERS32_PACKETS = 3,
        CTA_COUNTERS32_BYTES = 4, CTA_COUNTERS_PAD = 5,
    }
}
attributes! {
    "Of a flow's times (`enum ctattr_tstamp`)."
    timestamp_attr {
        CTA_TIMESTAMP_START = 1, CTA_TIMESTAMP_STOP = 2, CTA_TIMESTAMP_PAD = 3,
    }
}
attributes! {
    "Of an address translation (`enum ctattr_nat`)."
    nat_attr {
        CTA_NAT_V4_MINIP = 1, CTA_NAT_V4_MAXIP = 2, CTA_NAT_PROTO = 3, CTA_NAT_V6_MINIP = 4,
        CTA_NAT_V6_MAXIP = 5,
    }
}
attributes! {
    "Of a port translation (`enum ctattr_protonat`)."
    protonat_attr { CTA_PROTONAT_PORT_MIN = 1, CTA_PROTONAT_PORT_MAX = 2, }
}
attributes! {
    "Of a sequence adjustment (`enum ctattr_seqadj`)."
    seqadj_attr {
        CTA_SEQADJ_CORRECTION_POS = 1, CTA_SEQADJ_OFFSET_BEFORE = 2, CTA_SEQADJ_OFFSET_AFTER = 3,
    }
}
attributes! {
    "Of the SYN proxy's state (`enum ctattr_synproxy`)."
    synproxy_attr { CTA_SYNPROXY_ISN = 1, CTA_SYNPROXY_ITS = 2, CTA_SYNPROXY_TSOFF = 3, }
}
attributes! {
    "Of a security context (`enum ctattr_secctx`)."
    secctx_attr { CTA_SECCTX_NAME = 1, }
}
attributes! {
    "Of a dump's tuple filter (`enum ctattr_filter`); the values are of host order."
    filter_attr { CTA_FILTER_ORIG_FLAGS = 1, CTA_FILTER_REPLY_FLAGS = 2, }
}
attributes! {
    "Of the statistics of one processor (`enum ctattr_stats_cpu`)."
    stats_cpu_attr {
        CTA_STATS_SEARCHED = 1, CTA_STATS_FOUND = 2, CTA_STATS_NEW = 3, CTA_STATS_INVALID = 4,
        CTA_STATS_IGNORE = 5, CTA_STATS_DELETE = 6, CTA_STATS_DELETE_LIST = 7,
        CTA_STATS_INSERT = 8, CTA_STATS_INSERT_FAILED = 9, CTA_STATS_DROP = 10,
        CTA_STATS_EARLY_DROP = 11, CTA_STATS_ERROR = 12, CTA_STATS_SEARCH_RESTART = 13,
        CTA_STATS_CLASH_RESOLVE = 14, CTA_STATS_CHAIN_TOOLONG = 15,
    }
}
attributes! {
    "Of the table's statistics (`enum ctattr_stats_global`)."
    stats_global_attr { CTA_STATS_GLOBAL_ENTRIES = 1, CTA_STATS_GLOBAL_MAX_ENTRIES = 2, }
}
attributes! {
    "Of the expectation statistics of one processor (`enum ctattr_expect_stats`)."
    stats_exp_attr {
        CTA_STATS_EXP_NEW = 1, CTA_STATS_EXP_CREATE = 2, CTA_STATS_EXP_DELETE = 3,
    }
}
attributes! {
    "Of an expectation (`enum ctattr_expect`)."
    expect_attr {
        CTA_EXPECT_MASTER = 1, CTA_EXPECT_TUPLE = 2, CTA_EXPECT_MASK = 3, CTA_EXPECT_TIMEOUT = 4,
        CTA_EXPECT_ID = 5, CTA_EXPECT_HELP_NAME = 6, CTA_EXPECT_ZONE = 7, CTA_EXPECT_FLAGS = 8,
        CTA_EXPECT_CLASS = 9, CTA_EXPECT_NAT = 10, CTA_EXPECT_FN = 11,
    }
}
attributes! {
    "Of an expectation's translation (`enum ctattr_expect_nat`)."
    expect_nat_attr { CTA_EXPECT_NAT_DIR = 1, CTA_EXPECT_NAT_TUPLE = 2, }
}
attributes! {
    "Of an error's details (`enum nlmsgerr_attrs`, linux/netlink.h); numbers of host order."
    extack_attr {
        NLMSGERR_ATTR_MSG = 1, NLMSGERR_ATTR_OFFS = 2, NLMSGERR_ATTR_COOKIE = 3,
        NLMSGERR_ATTR_POLICY = 4, NLMSGERR_ATTR_MISS_TYPE = 5, NLMSGERR_ATTR_MISS_NEST = 6,
    }
}
