//! The attributes of tuples, flows and expectations in requests.

use core::net::IpAddr;

use zerocopy::IntoBytes;

use crate::consts::*;
use crate::encode::FlowMasks;
use crate::expect::{Expect, ExpectPresent};
use crate::flow::{Flow, Labels, Present, ProtoInfo};
use crate::tuple::{L4, Tuple, proto};
use crate::writer::Writer;

/// Zone 0 is not sent, as the kernel does not send it.
pub(crate) fn put_zone(w: &mut Writer<'_>, kind: u16, zone: u16) {
    if zone != 0 {
        w.u16_be(kind, zone);
    }
}

/// Appends a tuple, with the members that the kernel demands for its protocol.
pub(crate) fn put_tuple(w: &mut Writer<'_>, kind: u16, tuple: &Tuple, zone: Option<u16>) {
    w.nest(kind, |w| {
        w.nest(CTA_TUPLE_IP, |w| {
            put_address(w, CTA_IP_V4_SRC, CTA_IP_V6_SRC, tuple.src);
            put_address(w, CTA_IP_V4_DST, CTA_IP_V6_DST, tuple.dst);
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.u8(CTA_PROTO_NUM, tuple.proto);
            put_l4(w, tuple);
        });
        if let Some(zone) = zone {
            w.u16_be(CTA_TUPLE_ZONE, zone);
        }
    });
}

fn put_address(w: &mut Writer<'_>, v4: u16, v6: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => w.put(v4, &address.octets()),
        IpAddr::V6(address) => w.put(v6, &address.octets()),
    }
}

fn put_l4(w: &mut Writer<'_>, tuple: &Tuple) {
    let l4 = tuple.l4;
    match tuple.proto {
        proto::ICMP => {
            w.u16_be(CTA_PROTO_ICMP_ID, l4.a);
            w.u8(CTA_PROTO_ICMP_TYPE, l4.icmp_type());
            w.u8(CTA_PROTO_ICMP_CODE, l4.icmp_code());
        }
        proto::ICMPV6 => {
            w.u16_be(CTA_PROTO_ICMPV6_ID, l4.a);
            w.u8(CTA_PROTO_ICMPV6_TYPE, l4.icmp_type());
            w.u8(CTA_PROTO_ICMPV6_CODE, l4.icmp_code());
        }
        // Other protocols have no words, unless a kernel that knows more of them said so.
        _ if tuple.has_ports() || tuple.proto == proto::GRE || l4 != L4::default() => {
            w.u16_be(CTA_PROTO_SRC_PORT, l4.a);
            w.u16_be(CTA_PROTO_DST_PORT, l4.b);
        }
        _ => {}
    }
}

/// Appends what of a flow the kernel takes in [`msg::CT_NEW`]. What only it can know (counters,
/// times, identifier, references) is left out; a time of an event would even be refused.
pub(crate) fn put_flow(w: &mut Writer<'_>, flow: &Flow, masks: FlowMasks) {
    let has = |bit| flow.present.has(bit);
    let zone_if = |bit, zone| has(bit).then_some(zone);
    if has(Present::ORIG) {
        put_tuple(w, CTA_TUPLE_ORIG, &flow.orig, zone_if(Present::ORIG_ZONE, flow.orig_zone));
    }
    if has(Present::REPLY) {
        put_tuple(w, CTA_TUPLE_REPLY, &flow.reply, zone_if(Present::REPLY_ZONE, flow.reply_zone));
    }
    if has(Present::MASTER) {
        put_tuple(w, CTA_TUPLE_MASTER, &flow.master, None);
    }
    if has(Present::STATUS) {
        w.u32_be(CTA_STATUS, flow.status.0);
    }
    if has(Present::TIMEOUT) {
        w.u32_be(CTA_TIMEOUT, flow.timeout);
    }
    if has(Present::MARK) {
        w.u32_be(CTA_MARK, flow.mark);
        if let Some(mask) = masks.mark {
            w.u32_be(CTA_MARK_MASK, mask);
        }
    }
    if has(Present::SECMARK) {
        w.u32_be(CTA_SECMARK, flow.secmark);
    }
    if has(Present::PROTOINFO) {
        put_protoinfo(w, &flow.protoinfo);
    }
    put_nat(w, flow, CTA_NAT_SRC);
    put_nat(w, flow, CTA_NAT_DST);
    if has(Present::SEQADJ) {
        for (kind, adj) in [CTA_SEQ_ADJ_ORIG, CTA_SEQ_ADJ_REPLY].into_iter().zip(flow.seqadj) {
            w.nest(kind, |w| {
                w.u32_be(CTA_SEQADJ_CORRECTION_POS, adj.correction_pos);
                w.u32_be(CTA_SEQADJ_OFFSET_BEFORE, adj.offset_before.cast_unsigned());
                w.u32_be(CTA_SEQADJ_OFFSET_AFTER, adj.offset_after.cast_unsigned());
            });
        }
    }
    if has(Present::HELPER) {
        w.nest(CTA_HELP, |w| w.text(CTA_HELP_NAME, flow.helper.as_bytes()));
    }
    if has(Present::ZONE) {
        w.u16_be(CTA_ZONE, flow.zone);
    }
    if has(Present::LABELS) {
        put_labels(w, CTA_LABELS, &flow.labels);
        if let Some(mask) = &masks.labels {
            put_labels(w, CTA_LABELS_MASK, mask);
        }
    }
    if has(Present::SYNPROXY) {
        w.nest(CTA_SYNPROXY, |w| {
            w.u32_be(CTA_SYNPROXY_ISN, flow.synproxy.isn);
            w.u32_be(CTA_SYNPROXY_ITS, flow.synproxy.its);
            w.u32_be(CTA_SYNPROXY_TSOFF, flow.synproxy.tsoff);
        });
    }
}

fn put_labels(w: &mut Writer<'_>, kind: u16, labels: &Labels) {
    w.put(kind, labels.0.as_bytes());
}

fn put_protoinfo(w: &mut Writer<'_>, info: &ProtoInfo) {
    w.nest(CTA_PROTOINFO, |w| match info {
        ProtoInfo::Tcp(tcp) => w.nest(CTA_PROTOINFO_TCP, |w| {
            w.u8(CTA_PROTOINFO_TCP_STATE, tcp.state);
            if let Some([original, reply]) = tcp.wscale {
                w.u8(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, original);
                w.u8(CTA_PROTOINFO_TCP_WSCALE_REPLY, reply);
            }
            if let Some([original, reply]) = tcp.flags {
                w.put(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &[original.flags, original.mask]);
                w.put(CTA_PROTOINFO_TCP_FLAGS_REPLY, &[reply.flags, reply.mask]);
            }
        }),
        ProtoInfo::Sctp(sctp) => w.nest(CTA_PROTOINFO_SCTP, |w| {
            w.u8(CTA_PROTOINFO_SCTP_STATE, sctp.state);
            if let Some([original, reply]) = sctp.vtag {
                w.u32_be(CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, original);
                w.u32_be(CTA_PROTOINFO_SCTP_VTAG_REPLY, reply);
            }
        }),
        ProtoInfo::Dccp(dccp) => w.nest(CTA_PROTOINFO_DCCP, |w| {
            w.u8(CTA_PROTOINFO_DCCP_STATE, dccp.state);
            w.u8(CTA_PROTOINFO_DCCP_ROLE, dccp.role);
            if let Some(seq) = dccp.handshake_seq {
                w.u64_be(CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ, seq);
            }
        }),
    });
}

/// Appends one translation. A port is sent only for protocols that have ports: peers send
/// meaningless ones for ICMP.
fn put_nat(w: &mut Writer<'_>, flow: &Flow, kind: u16) {
    let (address_bit, address, port_bit, port) = if kind == CTA_NAT_SRC {
        (Present::SNAT, flow.snat, Present::SPAT, flow.spat)
    } else {
        (Present::DNAT, flow.dnat, Present::DPAT, flow.dpat)
    };
    let has_port = flow.present.has(port_bit) && flow.orig.has_ports();
    if !flow.present.has(address_bit) && !has_port {
        return;
    }
    w.nest(kind, |w| {
        if flow.present.has(address_bit) {
            put_address(w, CTA_NAT_V4_MINIP, CTA_NAT_V6_MINIP, address);
        }
        if has_port {
            w.nest(CTA_NAT_PROTO, |w| {
                w.u16_be(CTA_PROTONAT_PORT_MIN, port);
                w.u16_be(CTA_PROTONAT_PORT_MAX, port);
            });
        }
    });
}

pub(crate) fn put_expect(w: &mut Writer<'_>, expect: &Expect) {
    let has = |bit| expect.present.has(bit);
    for (bit, kind, tuple) in [
        (ExpectPresent::TUPLE, CTA_EXPECT_TUPLE, &expect.tuple),
        (ExpectPresent::MASK, CTA_EXPECT_MASK, &expect.mask),
        (ExpectPresent::MASTER, CTA_EXPECT_MASTER, &expect.master),
    ] {
        if has(bit) {
            put_tuple(w, kind, tuple, None);
        }
    }
    if has(ExpectPresent::TIMEOUT) {
        w.u32_be(CTA_EXPECT_TIMEOUT, expect.timeout);
    }
    if has(ExpectPresent::HELPER) {
        w.text(CTA_EXPECT_HELP_NAME, expect.helper.as_bytes());
    }
    if has(ExpectPresent::ZONE) {
        w.u16_be(CTA_EXPECT_ZONE, expect.zone);
    }
    if has(ExpectPresent::FLAGS) {
        w.u32_be(CTA_EXPECT_FLAGS, expect.flags);
    }
    if has(ExpectPresent::CLASS) {
        w.u32_be(CTA_EXPECT_CLASS, expect.class);
    }
    if has(ExpectPresent::NAT) {
        w.nest(CTA_EXPECT_NAT, |w| {
            w.u32_be(CTA_EXPECT_NAT_DIR, expect.nat_dir);
            put_tuple(w, CTA_EXPECT_NAT_TUPLE, &expect.nat, None);
        });
    }
    if has(ExpectPresent::FUNCTION) {
        w.text(CTA_EXPECT_FN, expect.function.as_bytes());
    }
}
