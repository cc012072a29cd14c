//! Flows for tests.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proto_ctnl::{
    Dccp, Flow, L4, Labels, Name, Present, ProtoInfo, Sctp, SeqAdj, Status, Synproxy, Tcp, Tuple,
    proto,
};

pub(crate) fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

pub(crate) fn v6(last: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)))
}

/// One of a few original tuples, so that they meet again.
pub(crate) fn tuple(n: u8) -> Tuple {
    let (src, dst) = if n & 1 == 0 { (v4(1), v4(2)) } else { (v6(1), v6(2)) };
    let (proto, l4) = match n / 2 % 4 {
        0 => (proto::TCP, L4::ports(1000 + u16::from(n / 8), 80)),
        1 => (proto::UDP, L4::ports(1000 + u16::from(n / 8), 80)),
        2 if n & 1 == 0 => (proto::ICMP, L4::icmp(u16::from(n / 8), 8, 0)),
        2 => (proto::ICMPV6, L4::icmp(u16::from(n / 8), 128, 0)),
        _ => (proto::GRE, L4 { a: u16::from(n / 8), b: 7 }),
    };
    Tuple { src, dst, proto, l4 }
}

/// An established TCP or UDP flow as the kernel reports it, the `n`th of many.
pub(crate) fn kernel_flow(n: u32, ipv6: bool) -> Flow {
    let [_, b, c, d] = n.to_be_bytes();
    let (src, dst) = if ipv6 {
        let src = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, u16::from(b), u16::from(c), u16::from(d));
        (IpAddr::V6(src), v6(9))
    } else {
        (IpAddr::V4(Ipv4Addr::new(10, b, c, d)), v4(9))
    };
    let proto = if n.is_multiple_of(3) { proto::UDP } else { proto::TCP };
    let orig = Tuple { src, dst, proto, l4: L4::ports(1024 + (n % 60000) as u16, 443) };
    let mut flow = Flow { orig, ..Flow::default() };
    flow.reply = orig.inverted().expect("has ports");
    flow.status = Status(0x18e);
    flow.timeout = 432_000;
    flow.id = n.wrapping_mul(2_654_435_761);
    flow.present = Present::ORIG;
    for bit in [Present::REPLY, Present::STATUS, Present::TIMEOUT, Present::ID] {
        flow.present.insert(bit);
    }
    if proto == proto::TCP {
        flow.present.insert(Present::PROTOINFO);
        flow.protoinfo = ProtoInfo::Tcp(Tcp { state: 3, wscale: Some([7, 7]), flags: None });
    }
    flow
}

fn protoinfo() -> impl Strategy<Value = ProtoInfo> {
    let small = 0..3u32;
    prop_oneof![
        (0..10u8, proptest::option::of([0..15u8, 0..15u8]))
            .prop_map(|(state, wscale)| ProtoInfo::Tcp(Tcp { state, wscale, flags: None })),
        (0..9u8, proptest::option::of([small.clone(), small.clone()]))
            .prop_map(|(state, vtag)| ProtoInfo::Sctp(Sctp { state, vtag })),
        (0..8u8, 0..2u8, proptest::option::of(0..3u64)).prop_map(|(state, role, seq)| {
            let handshake_seq = seq.map(|s| s << 31);
            ProtoInfo::Dccp(Dccp { state, role, handshake_seq })
        }),
    ]
}

/// Any flow with one of a few keys, any members present, zeros among them.
pub(crate) fn any_flow() -> impl Strategy<Value = Flow> {
    let zero_or = |n: u32| prop_oneof![2 => Just(0u32), 1 => 1..n];
    let names = (0..3usize, 0..3usize, proptest::bool::ANY);
    (
        (0..20u8, 0..2u16, any::<u32>(), protoinfo(), names),
        (zero_or(5), zero_or(5), zero_or(5), zero_or(5), zero_or(5), zero_or(9)),
    )
        .prop_map(|((key, zone, present, protoinfo, names), numbers)| {
            let (mark, synproxy, label, seqadj, secmark, nat) = numbers;
            let orig = tuple(key);
            let mut flow = Flow { orig, zone, protoinfo, mark, secmark, ..Flow::default() };
            flow.present = Present(present);
            flow.present.insert(Present::ORIG);
            // A zone is that of both directions or of one.
            if zone != 0 && !flow.present.has(Present::ORIG_ZONE) {
                flow.present.insert(Present::ZONE);
            } else {
                (flow.zone, flow.present.0) = (0, flow.present.0 & !Present::ZONE.0);
            }
            flow.reply = orig.inverted().expect("all tuples here have an answer");
            if nat > 4 {
                flow.reply.dst = if orig.is_v6() { v6(nat as u8) } else { v4(nat as u8) };
                flow.reply.l4.b = nat as u16;
            }
            let other_family = nat == 4;
            flow.snat = if orig.is_v6() ^ other_family { v6(nat as u8) } else { v4(nat as u8) };
            flow.dnat = if orig.is_v6() { v6(0) } else { v4(nat as u8) };
            (flow.spat, flow.dpat) = (nat as u16, mark as u16);
            (flow.status, flow.timeout, flow.id) = (Status(present), present >> 7, present ^ 9);
            flow.synproxy = Synproxy { isn: synproxy, its: 0, tsoff: synproxy };
            flow.labels = Labels([0, label, 0, 0]);
            flow.seqadj[1] = SeqAdj { correction_pos: seqadj, offset_before: 0, offset_after: 0 };
            (flow.orig_zone, flow.reply_zone) = (label as u16, 0);
            let helpers: [&[u8]; 3] = [b"", b"ftp", b"netbios-ns"];
            flow.helper = Name::new(helpers[names.0]).expect("short");
            let contexts: [&[u8]; 3] = [b"", b"system_u:object_r:x:s0", b"unconfined"];
            flow.secctx = Name::new(contexts[names.1]).expect("short");
            if names.2 {
                flow.master = tuple(key ^ 1);
            }
            flow
        })
}
