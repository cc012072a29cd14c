//! Flows as packets make and change them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{
    Flow, L4, Labels, Name, Present, ProtoInfo, Sctp, SeqAdj, Status, Tcp, Tuple, proto,
};
use shardtrack_tests::random::Random;

use crate::kernel::Key;

/// The key of a number: every fifth has the tuple of the one before it, in another zone.
pub(crate) fn key_of(number: u32) -> Key {
    let (number, zone) = if number % 5 == 4 { (number - 1, 9) } else { (number, 0) };
    let v6 = number % 7 == 3;
    let (src, dst) = if v6 {
        let net = 0x2001_0db8_u128 << 96;
        (
            IpAddr::V6(Ipv6Addr::from(net | u128::from(number % 11 + 1))),
            IpAddr::V6(Ipv6Addr::from(net | 1 << 64 | 0x80)),
        )
    } else {
        (
            IpAddr::V4(Ipv4Addr::from(0x0a01_0001 + number % 13)),
            IpAddr::V4(Ipv4Addr::new(10, 2, 0, 128)),
        )
    };
    let port = 1024 + number as u16;
    let (protocol, l4) = match number % 9 {
        0..=3 => (proto::TCP, L4::ports(port, 21)),
        4 | 5 => (proto::UDP, L4::ports(port, 53)),
        6 if v6 => (proto::ICMPV6, L4::icmp(port, 128, 0)),
        6 => (proto::ICMP, L4::icmp(port, 8, 0)),
        7 => (proto::SCTP, L4::ports(port, 36_412)),
        _ => (proto::TCP, L4::ports(port, 443)),
    };
    (Tuple { src, dst, proto: protocol, l4 }, zone)
}

/// A new flow with this key. `master` is one that it may have been expected by.
pub(crate) fn new_flow(key: Key, master: Option<Tuple>, random: &mut Random) -> Flow {
    let (orig, zone) = key;
    let mut flow = Flow { orig, zone, ..Flow::default() };
    flow.reply = orig.inverted().expect("it has an answer");
    flow.present = Present::ORIG.or(Present::REPLY).or(Present::STATUS).or(Present::TIMEOUT);
    if zone != 0 {
        flow.present.insert(Present::ZONE);
    }
    flow.status = Status::CONFIRMED.with(Status::SRC_NAT_DONE).with(Status::DST_NAT_DONE);
    flow.timeout = timeout(random);
    match orig.proto {
        proto::TCP => {
            flow.protoinfo = ProtoInfo::Tcp(Tcp { state: 1, ..Tcp::default() });
            flow.present.insert(Present::PROTOINFO);
        }
        proto::SCTP => {
            let vtag = Some([random.word() as u32, random.word() as u32]);
            flow.protoinfo = ProtoInfo::Sctp(Sctp { state: 2, vtag });
            flow.present.insert(Present::PROTOINFO);
        }
        _ => {}
    }
    translate(&mut flow, random);
    if random.chance(300) {
        flow.mark = 1 + random.below(1000) as u32;
        flow.present.insert(Present::MARK);
    }
    if random.chance(100) {
        flow.labels = Labels([0, 1 << random.below(32), 0, 0]);
        flow.present.insert(Present::LABELS);
    }
    if orig.proto == proto::TCP && orig.l4.b == 21 && random.chance(300) {
        flow.helper = Name::new(b"ftp").expect("it fits");
        flow.present.insert(Present::HELPER);
    }
    if let Some(master) = master.filter(|master| *master != orig) {
        flow.master = master;
        flow.present.insert(Present::MASTER);
        flow.status = flow.status.with(Status::EXPECTED);
    }
    flow
}

/// Mostly long, sometimes so short that the flow runs out during the run.
fn timeout(random: &mut Random) -> u32 {
    if random.chance(150) { 1 + random.below(20) as u32 } else { 600 + random.below(3000) as u32 }
}

fn translate(flow: &mut Flow, random: &mut Random) {
    let v6 = flow.orig.is_v6();
    let host = |n: u32| {
        if v6 {
            IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | 9 << 64 | u128::from(n)))
        } else {
            IpAddr::V4(Ipv4Addr::from(0x0a63_0000 + n))
        }
    };
    let kind = random.below(6);
    let ports = flow.orig.has_ports() && flow.orig.proto != proto::SCTP;
    if kind == 1 || kind == 3 {
        flow.reply.dst = host(1 + random.below(4) as u32);
        flow.status = flow.status.with(Status::SRC_NAT);
        if ports && random.chance(500) {
            flow.reply.l4.b = 30_000 + flow.orig.l4.a;
        }
    }
    if kind == 2 || kind == 3 {
        flow.reply.src = host(100 + random.below(4) as u32);
        flow.status = flow.status.with(Status::DST_NAT);
        if ports && random.chance(500) {
            flow.reply.l4.a = 8080;
        }
    }
}

/// Packets change a flow; gives what the event tells.
pub(crate) fn change(flow: &mut Flow, random: &mut Random) -> Present {
    flow.status = flow.status.with(Status::SEEN_REPLY);
    match random.below(6) {
        0 => {
            flow.mark = if random.chance(200) { 0 } else { random.below(1000) as u32 };
            flow.present.insert(Present::MARK);
            Present::MARK
        }
        1 => {
            flow.labels = Labels([random.below(4) as u32, 0, 0, 0]);
            flow.present.insert(Present::LABELS);
            Present::LABELS
        }
        2 if flow.orig.proto == proto::TCP => {
            let adj = SeqAdj {
                correction_pos: random.word() as u32,
                offset_before: -3,
                offset_after: random.below(9) as i32,
            };
            flow.seqadj = [adj, SeqAdj::default()];
            flow.status = flow.status.with(Status::SEQ_ADJUST);
            flow.present.insert(Present::SEQADJ);
            Present::SEQADJ
        }
        _ => {
            flow.status = flow.status.with(Status::ASSURED);
            flow.timeout = timeout(random);
            match &mut flow.protoinfo {
                ProtoInfo::Tcp(tcp) if flow.orig.proto == proto::TCP => {
                    tcp.state = 1 + random.below(9) as u8;
                }
                ProtoInfo::Sctp(sctp) => sctp.state = 1 + random.below(8) as u8,
                _ => return Present::STATUS,
            }
            Present::PROTOINFO
        }
    }
}
