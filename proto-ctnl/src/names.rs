//! Which names attribute numbers have at which place of a message.

use crate::consts::*;

/// An attribute enumeration of the kernel's headers: what a number means depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AttrSet {
    /// No attributes, or none that this crate knows.
    Unknown,
    /// `enum ctattr_type`.
    Flow,
    /// `enum ctattr_tuple`.
    Tuple,
    /// `enum ctattr_ip`.
    Ip,
    /// `enum ctattr_l4proto`.
    Proto,
    /// `enum ctattr_protoinfo`.
    ProtoInfo,
    /// `enum ctattr_protoinfo_tcp`.
    Tcp,
    /// `enum ctattr_protoinfo_dccp`.
    Dccp,
    /// `enum ctattr_protoinfo_sctp`.
    Sctp,
    /// `enum ctattr_help`.
    Help,
    /// `enum ctattr_counters`.
    Counters,
    /// `enum ctattr_tstamp`.
    Timestamp,
    /// `enum ctattr_nat`.
    Nat,
    /// `enum ctattr_protonat`.
    NatProto,
    /// `enum ctattr_seqadj`.
    SeqAdj,
    /// `enum ctattr_synproxy`.
    Synproxy,
    /// `enum ctattr_secctx`.
    Secctx,
    /// `enum ctattr_filter`.
    Filter,
    /// `enum ctattr_stats_cpu`.
    StatsCpu,
    /// `enum ctattr_stats_global`.
    StatsGlobal,
    /// `enum ctattr_expect_stats`.
    StatsExpect,
    /// `enum ctattr_expect`.
    Expect,
    /// `enum ctattr_expect_nat`.
    ExpectNat,
    /// `enum nlmsgerr_attrs`.
    ExtAck,
}

impl AttrSet {
    /// The enumeration of a message's outermost attributes, by the message's type. Answers with
    /// the type of [`msg::CT_GET_CTRZERO`] carry expectation statistics.
    pub const fn of_message(kind: u16) -> Self {
        match kind {
            nlmsg::ERROR => Self::ExtAck,
            msg::CT_NEW | msg::CT_GET | msg::CT_DELETE => Self::Flow,
            msg::CT_GET_STATS_CPU => Self::StatsCpu,
            msg::CT_GET_STATS => Self::StatsGlobal,
            msg::CT_GET_CTRZERO | msg::EXP_GET_STATS_CPU => Self::StatsExpect,
            msg::EXP_NEW | msg::EXP_GET | msg::EXP_DELETE => Self::Expect,
            _ => Self::Unknown,
        }
    }

    /// The header's name of attribute `kind`.
    pub const fn name(self, kind: u16) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Flow => flow_attr(kind),
            Self::Tuple => tuple_attr(kind),
            Self::Ip => ip_attr(kind),
            Self::Proto => proto_attr(kind),
            Self::ProtoInfo => protoinfo_attr(kind),
            Self::Tcp => tcp_attr(kind),
            Self::Dccp => dccp_attr(kind),
            Self::Sctp => sctp_attr(kind),
            Self::Help => help_attr(kind),
            Self::Counters => counters_attr(kind),
            Self::Timestamp => timestamp_attr(kind),
            Self::Nat => nat_attr(kind),
            Self::NatProto => protonat_attr(kind),
            Self::SeqAdj => seqadj_attr(kind),
            Self::Synproxy => synproxy_attr(kind),
            Self::Secctx => secctx_attr(kind),
            Self::Filter => filter_attr(kind),
            Self::StatsCpu => stats_cpu_attr(kind),
            Self::StatsGlobal => stats_global_attr(kind),
            Self::StatsExpect => stats_exp_attr(kind),
            Self::Expect => expect_attr(kind),
            Self::ExpectNat => expect_nat_attr(kind),
            Self::ExtAck => extack_attr(kind),
        }
    }

    /// The enumeration of the attributes inside attribute `kind`; [`AttrSet::Unknown`] if it is
    /// not a nest.
    pub const fn inside(self, kind: u16) -> Self {
        match (self, kind) {
            (Self::Flow, CTA_TUPLE_ORIG | CTA_TUPLE_REPLY | CTA_TUPLE_MASTER)
            | (Self::Expect, CTA_EXPECT_MASTER | CTA_EXPECT_TUPLE | CTA_EXPECT_MASK)
            | (Self::ExpectNat, CTA_EXPECT_NAT_TUPLE) => Self::Tuple,
            (Self::Flow, CTA_PROTOINFO) => Self::ProtoInfo,
            (Self::Flow, CTA_HELP) => Self::Help,
            (Self::Flow, CTA_NAT_SRC | CTA_NAT_DST) => Self::Nat,
            (Self::Flow, CTA_COUNTERS_ORIG | CTA_COUNTERS_REPLY) => Self::Counters,
            (Self::Flow, CTA_SEQ_ADJ_ORIG | CTA_SEQ_ADJ_REPLY) => Self::SeqAdj,
            (Self::Flow, CTA_SECCTX) => Self::Secctx,
            (Self::Flow, CTA_TIMESTAMP) => Self::Timestamp,
            (Self::Flow, CTA_SYNPROXY) => Self::Synproxy,
            (Self::Flow, CTA_FILTER) => Self::Filter,
            (Self::Tuple, CTA_TUPLE_IP) => Self::Ip,
            (Self::Tuple, CTA_TUPLE_PROTO) => Self::Proto,
            (Self::ProtoInfo, CTA_PROTOINFO_TCP) => Self::Tcp,
            (Self::ProtoInfo, CTA_PROTOINFO_DCCP) => Self::Dccp,
            (Self::ProtoInfo, CTA_PROTOINFO_SCTP) => Self::Sctp,
            (Self::Nat, CTA_NAT_PROTO) => Self::NatProto,
            (Self::Expect, CTA_EXPECT_NAT) => Self::ExpectNat,
            _ => Self::Unknown,
        }
    }
}
