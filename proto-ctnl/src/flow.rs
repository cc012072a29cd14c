//! The owned model of a flow, shared by the codecs, the caches and the renderers.
//!
//! A [`Flow`] is a scratch value: decoders write into one that the caller reuses, and only what
//! [`Present`] names is meaningful. So filling one touches what the message carried and nothing
//! else, and an update merges by presence.

use core::net::{IpAddr, Ipv4Addr};

use crate::name::Name;
use crate::status::Status;
use crate::tuple::Tuple;

/// Which members of a [`Flow`] hold a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present(pub u32);

impl Present {
    /// [`Flow::orig`].
    pub const ORIG: Self = Self(1 << 0);
    /// [`Flow::reply`].
    pub const REPLY: Self = Self(1 << 1);
    /// [`Flow::status`].
    pub const STATUS: Self = Self(1 << 2);
    /// [`Flow::timeout`].
    pub const TIMEOUT: Self = Self(1 << 3);
    /// [`Flow::mark`].
    pub const MARK: Self = Self(1 << 4);
    /// [`Flow::zone`].
    pub const ZONE: Self = Self(1 << 5);
    /// [`Flow::id`].
    pub const ID: Self = Self(1 << 6);
    /// [`Flow::protoinfo`].
    pub const PROTOINFO: Self = Self(1 << 7);
    /// [`Flow::helper`].
    pub const HELPER: Self = Self(1 << 8);
    /// [`Flow::master`].
    pub const MASTER: Self = Self(1 << 9);
    /// [`Flow::labels`].
    pub const LABELS: Self = Self(1 << 10);
    /// [`Flow::seqadj`], both directions.
    pub const SEQADJ: Self = Self(1 << 11);
    /// [`Flow::synproxy`].
    pub const SYNPROXY: Self = Self(1 << 12);
    /// [`Flow::counters`] of the original direction.
    pub const COUNTERS_ORIG: Self = Self(1 << 13);
    /// [`Flow::counters`] of the reply direction.
    pub const COUNTERS_REPLY: Self = Self(1 << 14);
    /// [`Flow::start`].
    pub const START: Self = Self(1 << 15);
    /// [`Flow::stop`].
    pub const STOP: Self = Self(1 << 16);
    /// [`Flow::event_time`].
    pub const EVENT_TIME: Self = Self(1 << 17);
    /// [`Flow::use_count`].
    pub const USE: Self = Self(1 << 18);
    /// [`Flow::secctx`].
    pub const SECCTX: Self = Self(1 << 19);
    /// [`Flow::orig_zone`]: a zone of the original direction only.
    pub const ORIG_ZONE: Self = Self(1 << 20);
    /// [`Flow::reply_zone`]: a zone of the reply direction only.
    pub const REPLY_ZONE: Self = Self(1 << 21);
    /// [`Flow::secmark`], the obsolete number.
    pub const SECMARK: Self = Self(1 << 22);
    /// [`Flow::snat`].
    pub const SNAT: Self = Self(1 << 23);
    /// [`Flow::dnat`].
    pub const DNAT: Self = Self(1 << 24);
    /// [`Flow::spat`].
    pub const SPAT: Self = Self(1 << 25);
    /// [`Flow::dpat`].
    pub const DPAT: Self = Self(1 << 26);

    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Whether every member of `other` is present.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any member of `other` is present.
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These members and those of `other`.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Adds the members of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Removes the members of `other`.
    pub const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// TCP flags of one direction as a flow carries them (`struct nf_ct_tcp_flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// `IP_CT_TCP_FLAG_*` values.
    pub flags: u8,
    /// Which of them a request sets; 0 in what the kernel sends.
    pub mask: u8,
}

/// TCP state of a flow (`CTA_PROTOINFO_TCP`). Index 0 is the original direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// `enum tcp_conntrack`, 0 (NONE) to 9 (SYN_SENT2); a peer's other values are kept.
    pub state: u8,
    /// Window scale shifts, 0 to 14, if both are known.
    pub wscale: Option<[u8; 2]>,
    /// Flags, if both directions are known.
    pub flags: Option<[TcpFlags; 2]>,
}

/// SCTP state of a flow (`CTA_PROTOINFO_SCTP`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sctp {
    /// `enum sctp_conntrack`, 0 (NONE) to 8 (HEARTBEAT_SENT).
    pub state: u8,
    /// Verification tags as in the SCTP header, if both are known; index 0 is the original
    /// direction.
    pub vtag: Option<[u32; 2]>,
}

/// DCCP state of a flow (`CTA_PROTOINFO_DCCP`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dccp {
    /// `enum ct_dccp_states`.
    pub state: u8,
    /// 0 client, 1 server.
    pub role: u8,
    /// Handshake sequence number, 48 bits, if known.
    pub handshake_seq: Option<u64>,
}

/// What the flow's protocol adds (`CTA_PROTOINFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtoInfo {
    /// TCP.
    Tcp(Tcp),
    /// SCTP.
    Sctp(Sctp),
    /// DCCP.
    Dccp(Dccp),
}

impl ProtoInfo {
    /// The protocol's state number.
    pub const fn state(&self) -> u8 {
        match self {
            Self::Tcp(tcp) => tcp.state,
            Self::Sctp(sctp) => sctp.state,
            Self::Dccp(dccp) => dccp.state,
        }
    }
}

impl Default for ProtoInfo {
    fn default() -> Self {
        Self::Tcp(Tcp::default())
    }
}

/// Traffic of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Octets, IP headers included.
    pub bytes: u64,
}

/// Sequence adjustment of one direction (`struct nf_ct_seqadj`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqAdj {
    /// Sequence number after which `offset_after` holds.
    pub correction_pos: u32,
    /// Offset up to the correction position.
    pub offset_before: i32,
    /// Offset beyond it.
    pub offset_after: i32,
}

/// What the SYN proxy needs (`struct nf_conn_synproxy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synproxy {
    /// Initial sequence number.
    pub isn: u32,
    /// Initial timestamp.
    pub its: u32,
    /// Timestamp offset.
    pub tsoff: u32,
}

/// The 128 labels of a flow: bit `n % 32` of word `n / 32` is label `n`.
///
/// The kernel's blob is an array of host-order words, the replication protocol's one of
/// big-endian words; both decode to this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub [u32; 4]);

impl Labels {
    /// Whether no label is set.
    pub const fn is_empty(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    /// Whether label `n` is set; `false` from 128 on.
    pub const fn has(&self, n: usize) -> bool {
        n < 128 && self.0[n / 32] >> (n % 32) & 1 == 1
    }
}

/// A flow, as far as [`Present`] says that it is known. Times are Unix times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// What is known.
    pub present: Present,
    /// Original direction.
    pub orig: Tuple,
    /// Reply direction.
    pub reply: Tuple,
    /// Zone of both directions; an absent zone is zone 0.
    pub zone: u16,
    /// Status bits.
    pub status: Status,
    /// Seconds until expiry, when the kernel or the peer said so.
    pub timeout: u32,
    /// Mark.
    pub mark: u32,
    /// The kernel's identifier of the entry: opaque, not unique over time.
    pub id: u32,
    /// Protocol state.
    pub protoinfo: ProtoInfo,
    /// Helper.
    pub helper: Name<16>,
    /// Original tuple of the master.
    pub master: Tuple,
    /// Labels.
    pub labels: Labels,
    /// Sequence adjustment, original direction first.
    pub seqadj: [SeqAdj; 2],
    /// SYN proxy state.
    pub synproxy: Synproxy,
    /// Traffic, original direction first.
    pub counters: [Counters; 2],
    /// Creation.
    pub start: u64,
    /// End.
    pub stop: u64,
    /// Time of the event.
    pub event_time: u64,
    /// Reference count in the kernel.
    pub use_count: u32,
    /// Security context, cut to what fits.
    pub secctx: Name<64>,
    /// Security mark.
    pub secmark: u32,
    /// Translated source address, as a peer or a user names it. What the kernel reports has the
    /// reply tuple instead.
    pub snat: IpAddr,
    /// Translated destination address, likewise.
    pub dnat: IpAddr,
    /// Translated source port, likewise.
    pub spat: u16,
    /// Translated destination port, likewise.
    pub dpat: u16,
    /// Zone of the original direction only.
    pub orig_zone: u16,
    /// Zone of the reply direction only.
    pub reply_zone: u16,
}

impl Default for Flow {
    fn default() -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            present: Present::NONE,
            orig: Tuple::default(),
            reply: Tuple::default(),
            zone: 0,
            status: Status::default(),
            timeout: 0,
            mark: 0,
            id: 0,
            protoinfo: ProtoInfo::default(),
            helper: Name::EMPTY,
            master: Tuple::default(),
            labels: Labels::default(),
            seqadj: [SeqAdj::default(); 2],
            synproxy: Synproxy::default(),
            counters: [Counters::default(); 2],
            start: 0,
            stop: 0,
            event_time: 0,
            use_count: 0,
            secctx: Name::EMPTY,
            secmark: 0,
            snat: any,
            dnat: any,
            spat: 0,
            dpat: 0,
            orig_zone: 0,
            reply_zone: 0,
        }
    }
}

impl Flow {
    /// The zone that tells this flow from others with the same original tuple: that of the original
    /// direction or of both, 0 if there is none.
    pub const fn key_zone(&self) -> u16 {
        if self.present.has(Present::ORIG_ZONE) {
            self.orig_zone
        } else if self.present.has(Present::ZONE) {
            self.zone
        } else {
            0
        }
    }
}

/// Equal if the same members are present and those are equal.
impl PartialEq for Flow {
    fn eq(&self, other: &Self) -> bool {
        let p = self.present;
        let same = |bit: Present, equal: bool| !p.any(bit) || equal;
        p == other.present
            && same(Present::ORIG, self.orig == other.orig)
            && same(Present::REPLY, self.reply == other.reply)
            && same(Present::ZONE, self.zone == other.zone)
            && same(Present::STATUS, self.status == other.status)
            && same(Present::TIMEOUT, self.timeout == other.timeout)
            && same(Present::MARK, self.mark == other.mark)
            && same(Present::ID, self.id == other.id)
            && same(Present::PROTOINFO, self.protoinfo == other.protoinfo)
            && same(Present::HELPER, self.helper == other.helper)
            && same(Present::MASTER, self.master == other.master)
            && same(Present::LABELS, self.labels == other.labels)
            && same(Present::SEQADJ, self.seqadj == other.seqadj)
            && same(Present::SYNPROXY, self.synproxy == other.synproxy)
            && same(Present::COUNTERS_ORIG, self.counters[0] == other.counters[0])
            && same(Present::COUNTERS_REPLY, self.counters[1] == other.counters[1])
            && same(Present::START, self.start == other.start)
            && same(Present::STOP, self.stop == other.stop)
            && same(Present::EVENT_TIME, self.event_time == other.event_time)
            && same(Present::USE, self.use_count == other.use_count)
            && same(Present::SECCTX, self.secctx == other.secctx)
            && same(Present::SECMARK, self.secmark == other.secmark)
            && same(Present::SNAT, self.snat == other.snat)
            && same(Present::DNAT, self.dnat == other.dnat)
            && same(Present::SPAT, self.spat == other.spat)
            && same(Present::DPAT, self.dpat == other.dpat)
            && same(Present::ORIG_ZONE, self.orig_zone == other.orig_zone)
            && same(Present::REPLY_ZONE, self.reply_zone == other.reply_zone)
    }
}

impl Flow {
    /// Forgets everything, so that the value can be filled again. Costs one store.
    pub const fn clear(&mut self) {
        self.present = Present::NONE;
    }

    /// Whether the flow was set up because of another one, whose tuple is known.
    pub const fn is_related(&self) -> bool {
        self.present.has(Present::MASTER)
    }
}
