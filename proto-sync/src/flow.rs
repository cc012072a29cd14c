//! Flows on the wire: the attributes of NEW, UPD and DEL.
//!
//! Numbers are big-endian, except the translated ports and the ICMP id, which travel low octet
//! first. The reply tuple is not on the wire: a receiver has the original tuple and what
//! translation makes of it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{
    Dccp, Flow, L4, Labels, Name, Present, ProtoInfo, Sctp, SeqAdj, Status, Synproxy, Tcp, Tuple,
    proto,
};

use crate::frame::Kind;
use crate::tlv::{Layouts, Limits, PayloadError, Table, Writer, at_most, exactly};

/// Attribute ids.
mod id {
    pub(super) const IPV4: u16 = 0;
    pub(super) const IPV6: u16 = 1;
    pub(super) const L4PROTO: u16 = 2;
    pub(super) const PORT: u16 = 3;
    pub(super) const TCP_STATE: u16 = 4;
    pub(super) const STATUS: u16 = 5;
    pub(super) const TIMEOUT: u16 = 6;
    pub(super) const MARK: u16 = 7;
    pub(super) const MASTER_IPV4: u16 = 8;
    pub(super) const MASTER_IPV6: u16 = 9;
    pub(super) const MASTER_L4PROTO: u16 = 10;
    pub(super) const MASTER_PORT: u16 = 11;
    pub(super) const SNAT_IPV4: u16 = 12;
    pub(super) const DNAT_IPV4: u16 = 13;
    pub(super) const SPAT_PORT: u16 = 14;
    pub(super) const DPAT_PORT: u16 = 15;
    pub(super) const NAT_SEQ_ADJ: u16 = 16;
    pub(super) const SCTP_STATE: u16 = 17;
    pub(super) const SCTP_VTAG_ORIG: u16 = 18;
    pub(super) const SCTP_VTAG_REPL: u16 = 19;
    pub(super) const DCCP_STATE: u16 = 20;
    pub(super) const DCCP_ROLE: u16 = 21;
    pub(super) const ICMP_TYPE: u16 = 22;
    pub(super) const ICMP_CODE: u16 = 23;
    pub(super) const ICMP_ID: u16 = 24;
    pub(super) const TCP_WSCALE_ORIG: u16 = 25;
    pub(super) const TCP_WSCALE_REPL: u16 = 26;
    pub(super) const HELPER_NAME: u16 = 27;
    pub(super) const LABELS: u16 = 28;
    pub(super) const SNAT_IPV6: u16 = 29;
    pub(super) const DNAT_IPV6: u16 = 30;
    pub(super) const SYNPROXY: u16 = 31;
    pub(super) const ZONE: u16 = 32;
}

/// Data sizes, by id.
const LIMITS: [Limits; 33] = [
    exactly(8),
    exactly(32),
    exactly(1),
    exactly(4),
    exactly(1),
    exactly(4),
    exactly(4),
    exactly(4),
    exactly(8),
    exactly(32),
    exactly(1),
    exactly(4),
    exactly(4),
    exactly(4),
    exactly(2),
    exactly(2),
    exactly(24),
    exactly(1),
    exactly(4),
    exactly(4),
    exactly(1),
    exactly(1),
    exactly(1),
    exactly(1),
    exactly(2),
    exactly(1),
    exactly(1),
    at_most(12),
    at_most(1024),
    exactly(16),
    exactly(16),
    exactly(12),
    exactly(2),
];

/// The longest helper name that the original accepts; a longer one would cost the whole message.
pub const HELPER_NAME_MAX: usize = 11;

/// No flow message that [`encode_flow`] writes is longer, in octets.
pub const FLOW_MESSAGE_MAX: usize = 304;

/// What the configuration has to say about messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Send TCP window scales (`TCPWindowTracking`).
    pub window_tracking: bool,
    /// Send timeouts: `CommitTimeout` is not set.
    pub timeout: bool,
}

/// Writes a whole message about `flow` to the start of `out` and gives its length, a multiple of
/// four; flags and sequence number are 0. `None` if `out` has not the room.
///
/// Encoded is what `flow.present` names. Translation is taken from the reply tuple and the status
/// of a flow that has them (one from the kernel), else from the members for translation (one from a
/// peer).
pub fn encode_flow(
    kind: Kind,
    flow: &Flow,
    options: &EncodeOptions,
    out: &mut [u8],
) -> Option<usize> {
    debug_assert!(!kind.is_expect(), "a flow is no expectation");
    let p = flow.present;
    let mut w = Writer::new(out)?;
    if p.has(Present::ORIG) {
        put_addresses(&mut w, &flow.orig, id::IPV4, id::IPV6)?;
    }
    if p.has(Present::STATUS) {
        w.put_u32(id::STATUS, flow.status.0)?;
    }
    if p.has(Present::ORIG) {
        w.put(id::L4PROTO, [flow.orig.proto])?;
        put_protocol(&mut w, flow, options)?;
    }
    if p.has(Present::TIMEOUT) && options.timeout {
        w.put_u32(id::TIMEOUT, flow.timeout)?;
    }
    if p.has(Present::MARK) {
        w.put_u32(id::MARK, flow.mark)?;
    }
    if p.has(Present::MASTER) {
        put_addresses(&mut w, &flow.master, id::MASTER_IPV4, id::MASTER_IPV6)?;
        w.put(id::MASTER_L4PROTO, [flow.master.proto])?;
        w.put(id::MASTER_PORT, port_octets(flow.master.l4))?;
    }
    put_translation(&mut w, flow)?;
    if p.any(Present(
        Present::SEQADJ.0
            | Present::HELPER.0
            | Present::LABELS.0
            | Present::SYNPROXY.0
            | Present::ZONE.0,
    )) {
        put_rare(&mut w, kind, flow)?;
    }
    w.finish(kind)
}

/// Both addresses of a tuple.
pub(crate) fn put_addresses(w: &mut Writer<'_>, tuple: &Tuple, v4: u16, v6: u16) -> Option<()> {
    match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [a, b, c, d] = src.octets();
            let [e, f, g, h] = dst.octets();
            w.put(v4, [a, b, c, d, e, f, g, h])
        }
        (src, dst) => {
            let mut both = [0; 32];
            both[..16].copy_from_slice(&v6_octets(src));
            both[16..].copy_from_slice(&v6_octets(dst));
            w.put(v6, both)
        }
    }
}

fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Source and destination port as the PORT attributes hold them.
pub(crate) fn port_octets(l4: L4) -> [u8; 4] {
    let ([a, b], [c, d]) = (l4.a.to_be_bytes(), l4.b.to_be_bytes());
    [a, b, c, d]
}

/// Whether the original sends the ports of this protocol; it leaves out those of UDP-Lite.
pub(crate) const fn sends_ports(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::SCTP | proto::DCCP)
}

fn put_protocol(w: &mut Writer<'_>, flow: &Flow, options: &EncodeOptions) -> Option<()> {
    let tuple = &flow.orig;
    if tuple.is_icmp() {
        w.put(id::ICMP_TYPE, [tuple.l4.icmp_type()])?;
        w.put(id::ICMP_CODE, [tuple.l4.icmp_code()])?;
        return w.put(id::ICMP_ID, tuple.l4.a.to_le_bytes());
    }
    if !sends_ports(tuple.proto) {
        return Some(());
    }
    w.put(id::PORT, port_octets(tuple.l4))?;
    if !flow.present.has(Present::PROTOINFO) {
        return Some(());
    }
    match (tuple.proto, &flow.protoinfo) {
        (proto::TCP, ProtoInfo::Tcp(tcp)) => {
            w.put(id::TCP_STATE, [tcp.state])?;
            if let (true, Some([orig, reply])) = (options.window_tracking, tcp.wscale) {
                w.put(id::TCP_WSCALE_ORIG, [orig])?;
                w.put(id::TCP_WSCALE_REPL, [reply])?;
            }
        }
        (proto::SCTP, ProtoInfo::Sctp(sctp)) => {
            w.put(id::SCTP_STATE, [sctp.state])?;
            if let Some([orig, reply]) = sctp.vtag {
                w.put_u32(id::SCTP_VTAG_ORIG, orig)?;
                w.put_u32(id::SCTP_VTAG_REPL, reply)?;
            }
        }
        (proto::DCCP, ProtoInfo::Dccp(dccp)) => {
            w.put(id::DCCP_STATE, [dccp.state])?;
            w.put(id::DCCP_ROLE, [dccp.role])?;
        }
        _ => {}
    }
    Some(())
}

/// What translation makes of a flow; the new source and destination, addresses and ports.
#[derive(Default)]
struct Translation {
    snat: Option<IpAddr>,
    dnat: Option<IpAddr>,
    spat: Option<u16>,
    dpat: Option<u16>,
}

impl Translation {
    /// From the reply tuple of a flow that the kernel reported.
    fn of_reply(flow: &Flow) -> Self {
        let (orig, reply) = (&flow.orig, &flow.reply);
        let mut t = Self::default();
        if flow.status.has(Status::SRC_NAT_DONE) {
            t.snat = (reply.dst != orig.src).then_some(reply.dst);
            t.spat = (reply.l4.b != orig.l4.a).then_some(reply.l4.b);
        }
        if flow.status.has(Status::DST_NAT_DONE) {
            t.dnat = (reply.src != orig.dst).then_some(reply.src);
            t.dpat = (reply.l4.a != orig.l4.b).then_some(reply.l4.a);
        }
        t
    }

    /// As a peer told it.
    fn told(flow: &Flow) -> Self {
        let p = flow.present;
        Self {
            snat: p.has(Present::SNAT).then_some(flow.snat),
            dnat: p.has(Present::DNAT).then_some(flow.dnat),
            spat: p.has(Present::SPAT).then_some(flow.spat),
            dpat: p.has(Present::DPAT).then_some(flow.dpat),
        }
    }
}

fn put_translation(w: &mut Writer<'_>, flow: &Flow) -> Option<()> {
    let p = flow.present;
    let t = if p.has(Present(Present::ORIG.0 | Present::REPLY.0 | Present::STATUS.0)) {
        Translation::of_reply(flow)
    } else {
        Translation::told(flow)
    };
    if let Some(address) = t.snat {
        put_address(w, address, id::SNAT_IPV4, id::SNAT_IPV6)?;
    }
    if let Some(address) = t.dnat {
        put_address(w, address, id::DNAT_IPV4, id::DNAT_IPV6)?;
    }
    // For ICMP the words of the tuple are no ports, and what the original makes of them has no
    // meaning.
    if p.has(Present::ORIG) && sends_ports(flow.orig.proto) {
        if let Some(port) = t.spat {
            w.put(id::SPAT_PORT, port.to_le_bytes())?;
        }
        if let Some(port) = t.dpat {
            w.put(id::DPAT_PORT, port.to_le_bytes())?;
        }
    }
    Some(())
}

fn put_address(w: &mut Writer<'_>, address: IpAddr, v4: u16, v6: u16) -> Option<()> {
    match address {
        IpAddr::V4(address) => w.put(v4, address.octets()),
        IpAddr::V6(address) => w.put(v6, address.octets()),
    }
}

/// What few flows have.
#[inline(never)]
fn put_rare(w: &mut Writer<'_>, kind: Kind, flow: &Flow) -> Option<()> {
    let p = flow.present;
    if p.has(Present::SEQADJ) {
        let [o, r] = &flow.seqadj;
        let words = [
            o.correction_pos,
            o.offset_before.cast_unsigned(),
            o.offset_after.cast_unsigned(),
            r.correction_pos,
            r.offset_before.cast_unsigned(),
            r.offset_after.cast_unsigned(),
        ];
        w.put_words::<6, 24>(id::NAT_SEQ_ADJ, words)?;
    }
    let helper = flow.helper.as_bytes();
    if p.has(Present::HELPER) && !helper.is_empty() && helper.len() <= HELPER_NAME_MAX {
        w.put_name(id::HELPER_NAME, helper)?;
    }
    // The original never tells that the last label was removed: its peer keeps it.
    if p.has(Present::LABELS) && (!flow.labels.is_empty() || kind == Kind::Update) {
        w.put_words::<4, 16>(id::LABELS, flow.labels.0)?;
    }
    if p.has(Present::SYNPROXY) {
        let Synproxy { isn, its, tsoff } = flow.synproxy;
        w.put_words::<3, 12>(id::SYNPROXY, [its, isn, tsoff])?;
    }
    // The zone that is not told is zone 0.
    if p.has(Present::ZONE) && flow.zone != 0 {
        w.put(id::ZONE, flow.zone.to_be_bytes())?;
    }
    Some(())
}

/// What [`FlowPayload::read`] has learned of a peer's messages: where in them the attributes are.
#[derive(Debug)]
pub struct FlowLayouts(Layouts<33>);

impl FlowLayouts {
    /// Nothing learned.
    pub fn new() -> Self {
        Self(Layouts::new())
    }
}

impl Default for FlowLayouts {
    fn default() -> Self {
        Self::new()
    }
}

/// The attributes of a flow message, checked, and read from the message on demand.
#[derive(Clone, Copy, Debug)]
pub struct FlowPayload<'a> {
    table: Table<'a, 33>,
}

impl<'a> FlowPayload<'a> {
    /// No attributes: a place for [`FlowPayload::read`].
    pub const EMPTY: Self = Self { table: Table::EMPTY };

    /// Checks what follows a message's header. Nothing is mandatory but addresses.
    ///
    /// # Errors
    /// An attribute that a flow can not have, or of a size that it can not have; no addresses; a
    /// helper's name that is none.
    pub fn parse(payload: &'a [u8]) -> Result<Self, PayloadError> {
        let mut parsed = Self::EMPTY;
        parsed.walk(payload)?;
        Ok(parsed)
    }

    /// As [`FlowPayload::parse`], in place and for one of many messages. After an error there is
    /// nothing to be read here.
    ///
    /// # Errors
    /// Those of [`FlowPayload::parse`].
    #[inline]
    pub fn read(
        &mut self,
        payload: &'a [u8],
        layouts: &mut FlowLayouts,
    ) -> Result<(), PayloadError> {
        if !layouts.0.recall(payload, &mut self.table) {
            self.walk(payload)?;
            layouts.0.learn(&self.table);
        } else if self.table.has(id::HELPER_NAME) {
            // What an attribute holds is not part of the layout.
            self.table.check_name(id::HELPER_NAME)?;
        }
        Ok(())
    }

    fn walk(&mut self, payload: &'a [u8]) -> Result<(), PayloadError> {
        let table = &mut self.table;
        table.walk(payload, &LIMITS)?;
        table.exclude(id::IPV4, id::IPV6);
        table.exclude(id::MASTER_IPV4, id::MASTER_IPV6);
        table.exclude(id::SNAT_IPV4, id::SNAT_IPV6);
        table.exclude(id::DNAT_IPV4, id::DNAT_IPV6);
        if !table.has(id::IPV4) && !table.has(id::IPV6) {
            return Err(table.missing(id::IPV4));
        }
        table.check_name(id::HELPER_NAME)
    }

    /// The key. A protocol or ports that the message lacks are zero.
    // Made where it is wanted: a copy would wait for the stores before it.
    #[inline]
    pub fn orig_tuple(&self) -> Tuple {
        let t = &self.table;
        // Whatever was parsed has addresses.
        let (src, dst) = addresses(t, id::IPV4, id::IPV6).unwrap_or(UNSPECIFIED);
        let mut tuple =
            Tuple { src, dst, proto: t.u8(id::L4PROTO).unwrap_or(0), l4: L4::default() };
        tuple.l4 = if tuple.is_icmp() {
            L4::icmp(
                t.u16_reversed(id::ICMP_ID).unwrap_or(0),
                t.u8(id::ICMP_TYPE).unwrap_or(0),
                t.u8(id::ICMP_CODE).unwrap_or(0),
            )
        } else {
            // Counts for every protocol, although the original sends it for four only.
            ports(t, id::PORT).unwrap_or_default()
        };
        tuple
    }

    /// The zone; 0 if the message has none.
    pub fn zone(&self) -> u16 {
        self.table.u16(id::ZONE).unwrap_or(0)
    }

    /// Writes what the message carries to `flow`, and nothing else: what is absent keeps its value
    /// and its presence. MASTER needs addresses, protocol and ports.
    pub fn write_to(&self, flow: &mut Flow) {
        let t = &self.table;
        flow.orig = self.orig_tuple();
        flow.present.insert(Present::ORIG);
        if let Some(status) = t.u32(id::STATUS) {
            flow.status = Status(status);
            flow.present.insert(Present::STATUS);
        }
        if let Some(timeout) = t.u32(id::TIMEOUT) {
            flow.timeout = timeout;
            flow.present.insert(Present::TIMEOUT);
        }
        if let Some(mark) = t.u32(id::MARK) {
            flow.mark = mark;
            flow.present.insert(Present::MARK);
        }
        self.write_protocol(flow);
        self.write_translation(flow);
        self.write_rare(flow);
    }

    /// The state of the flow's own protocol; other protocols' states are ignored.
    fn write_protocol(&self, flow: &mut Flow) {
        let t = &self.table;
        let known = flow.present.has(Present::PROTOINFO).then_some(flow.protoinfo);
        let info = match t.u8(id::L4PROTO) {
            Some(proto::TCP) => {
                let old = match known {
                    Some(ProtoInfo::Tcp(tcp)) => Some(tcp),
                    _ => None,
                };
                let state = t.u8(id::TCP_STATE).or(old.map(|tcp| tcp.state));
                let told = t.u8(id::TCP_WSCALE_ORIG).zip(t.u8(id::TCP_WSCALE_REPL));
                state.map(|state| {
                    let old = old.unwrap_or_default();
                    let wscale = told.map(|(orig, reply)| [orig, reply]).or(old.wscale);
                    ProtoInfo::Tcp(Tcp { state, wscale, flags: old.flags })
                })
            }
            Some(proto::SCTP) => {
                let old = match known {
                    Some(ProtoInfo::Sctp(sctp)) => Some(sctp),
                    _ => None,
                };
                let state = t.u8(id::SCTP_STATE).or(old.map(|sctp| sctp.state));
                let told = t.u32(id::SCTP_VTAG_ORIG).zip(t.u32(id::SCTP_VTAG_REPL));
                state.map(|state| {
                    let vtag = told.map(|(orig, reply)| [orig, reply]);
                    ProtoInfo::Sctp(Sctp { state, vtag: vtag.or(old.and_then(|o| o.vtag)) })
                })
            }
            Some(proto::DCCP) => t.u8(id::DCCP_STATE).map(|state| {
                let old = match known {
                    Some(ProtoInfo::Dccp(dccp)) => dccp,
                    _ => Dccp::default(),
                };
                let role = t.u8(id::DCCP_ROLE).unwrap_or(old.role);
                ProtoInfo::Dccp(Dccp { state, role, handshake_seq: old.handshake_seq })
            }),
            _ => None,
        };
        if let Some(info) = info {
            flow.protoinfo = info;
            flow.present.insert(Present::PROTOINFO);
        }
    }

    fn write_translation(&self, flow: &mut Flow) {
        let t = &self.table;
        if let Some(address) = address(t, id::SNAT_IPV4, id::SNAT_IPV6) {
            flow.snat = address;
            flow.present.insert(Present::SNAT);
        }
        if let Some(address) = address(t, id::DNAT_IPV4, id::DNAT_IPV6) {
            flow.dnat = address;
            flow.present.insert(Present::DNAT);
        }
        if let Some(port) = t.u16_reversed(id::SPAT_PORT) {
            flow.spat = port;
            flow.present.insert(Present::SPAT);
        }
        if let Some(port) = t.u16_reversed(id::DPAT_PORT) {
            flow.dpat = port;
            flow.present.insert(Present::DPAT);
        }
    }

    fn write_rare(&self, flow: &mut Flow) {
        let t = &self.table;
        if let Some(zone) = t.u16(id::ZONE) {
            flow.zone = zone;
            flow.present.insert(Present::ZONE);
        }
        if let (Some((src, dst)), Some(proto), Some(l4)) = (
            addresses(t, id::MASTER_IPV4, id::MASTER_IPV6),
            t.u8(id::MASTER_L4PROTO),
            ports(t, id::MASTER_PORT),
        ) {
            flow.master = Tuple { src, dst, proto, l4 };
            flow.present.insert(Present::MASTER);
        }
        if let Some([a, b, c, d, e, f]) = t.words::<24, 6>(id::NAT_SEQ_ADJ) {
            let adjust = |pos, before: u32, after: u32| SeqAdj {
                correction_pos: pos,
                offset_before: before.cast_signed(),
                offset_after: after.cast_signed(),
            };
            flow.seqadj = [adjust(a, b, c), adjust(d, e, f)];
            flow.present.insert(Present::SEQADJ);
        }
        if let Some(name) = t.bytes(id::HELPER_NAME).and_then(Name::new) {
            flow.helper = name;
            flow.present.insert(Present::HELPER);
        }
        if let Some(labels) = t.bytes(id::LABELS).and_then(labels) {
            flow.labels = labels;
            flow.present.insert(Present::LABELS);
        }
        if let Some([its, isn, tsoff]) = t.words::<12, 3>(id::SYNPROXY) {
            flow.synproxy = Synproxy { isn, its, tsoff };
            flow.present.insert(Present::SYNPROXY);
        }
    }
}

const UNSPECIFIED: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// Both addresses, of the family that is there.
pub(crate) fn addresses<const N: usize>(
    t: &Table<'_, N>,
    v4: u16,
    v6: u16,
) -> Option<(IpAddr, IpAddr)> {
    if let Some(&[a, b, c, d, e, f, g, h]) = t.get::<8>(v4) {
        return Some((Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into()));
    }
    let (src, dst) = t.get::<32>(v6)?.split_at(16);
    let of = |octets: &[u8]| Some(Ipv6Addr::from(*octets.first_chunk::<16>()?).into());
    Some((of(src)?, of(dst)?))
}

fn address(t: &Table<'_, 33>, v4: u16, v6: u16) -> Option<IpAddr> {
    let v4 = t.get::<4>(v4).map(|octets| Ipv4Addr::from(*octets).into());
    v4.or_else(|| t.get::<16>(v6).map(|octets| Ipv6Addr::from(*octets).into()))
}

/// The two ports of a PORT attribute.
pub(crate) fn ports<const N: usize>(t: &Table<'_, N>, id: u16) -> Option<L4> {
    let &[a, b, c, d] = t.get::<4>(id)?;
    Some(L4::ports(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The first 128 labels. Data that are no whole words say nothing.
fn labels(data: &[u8]) -> Option<Labels> {
    let (words, rest) = data.as_chunks::<4>();
    if words.is_empty() || !rest.is_empty() {
        return None;
    }
    let mut labels = Labels::default();
    for (label, octets) in labels.0.iter_mut().zip(words) {
        *label = u32::from_be_bytes(*octets);
    }
    Some(labels)
}
