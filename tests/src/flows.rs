//! Flows of every kind that the kernel can hold, made from their numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{
    Expect, ExpectPresent, Flow, L4, Labels, Name, Present, ProtoInfo, Sctp, SeqAdj, Status, Tcp,
    Tuple, proto,
};

/// Shortest expiry of the flows made here, so that none expires during a test. Seconds.
const MIN_TIMEOUT: u32 = 2000;

/// `count` plain TCP flows over IPv4, all different, numbered from `first`.
pub fn plain(first: u32, count: u32) -> Vec<Flow> {
    (first..first + count).map(plain_flow).collect()
}

/// An established TCP flow over IPv4 by its number, below 2^24.
pub fn plain_flow(number: u32) -> Flow {
    let mut flow = Flow::default();
    let host = number / 50_000;
    flow.orig = Tuple {
        src: IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + host)),
        dst: IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1)),
        proto: proto::TCP,
        l4: L4::ports((1024 + number % 50_000) as u16, 443),
    };
    flow.status = Status::SEEN_REPLY.with(Status::ASSURED).with(Status::CONFIRMED);
    flow.timeout = MIN_TIMEOUT + number % 1000;
    flow.protoinfo = ProtoInfo::Tcp(Tcp { state: 3, ..Tcp::default() });
    for bit in [Present::ORIG, Present::STATUS, Present::TIMEOUT, Present::PROTOINFO] {
        flow.present.insert(bit);
    }
    flow
}

/// The same flow with another mark, for updates.
pub fn marked(flow: &Flow, mark: u32) -> Flow {
    let mut marked = *flow;
    marked.mark = mark;
    marked.present.insert(Present::MARK);
    if flow.is_related() {
        // The kernel wants the bit for that in every status, and ours never has it.
        marked.present.remove(Present::STATUS);
    }
    // These cannot be changed by an update.
    for bit in [Present::SNAT, Present::DNAT, Present::SPAT, Present::DPAT, Present::MASTER] {
        marked.present.remove(bit);
    }
    marked
}

/// Flows of every kind, expectations, and the flows that were expected.
#[derive(Clone, Debug, Default)]
pub struct Mixture {
    /// Flows; masters come before what they expected.
    pub flows: Vec<Flow>,
    /// Expectations of some of them.
    pub expectations: Vec<Expect>,
}

/// What a mixture leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Without {
    /// Protocols whose key the replication protocol loses.
    pub lost_keys: bool,
}

/// `count` flows of every kind: all protocols and their states, both families, translations, marks,
/// labels, zones, helpers, related flows, sequence adjustment.
pub fn mixture(count: u32, without: Without) -> Mixture {
    let mut mixture = Mixture::default();
    for number in 0..count {
        let flow = kind_of(number, without);
        if number % 97 == 5 {
            mixture.ftp(number, count);
        } else {
            mixture.flows.push(flow);
        }
    }
    mixture
}

impl Mixture {
    /// An FTP control connection with either an expectation or a data connection that it expected.
    fn ftp(&mut self, number: u32, count: u32) {
        let mut control = base(number, proto::TCP, number % 2 == 1);
        control.orig.l4.b = 21;
        established(&mut control, 3);
        control.helper = Name::new(b"ftp").expect("it fits");
        control.present.insert(Present::HELPER);
        let mut tuple = Tuple {
            src: control.orig.dst,
            dst: control.orig.src,
            proto: proto::TCP,
            l4: L4::ports(0, 40_000),
        };
        if number.is_multiple_of(3) {
            // The data connection's number is beyond all others, so it is a tuple of its own.
            let mut data = base(count + number, proto::TCP, number % 2 == 1);
            data.master = control.orig;
            data.present.insert(Present::MASTER);
            established(&mut data, 3);
            self.flows.extend([control, data]);
            return;
        }
        tuple.l4.b += (number % 1000) as u16;
        self.expectations.push(expected_by(&control, tuple));
        self.flows.push(control);
    }
}

/// What the helper of `master` expects: all of `tuple` but the source port.
pub fn expected_by(master: &Flow, tuple: Tuple) -> Expect {
    let ones = match tuple.src {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(u128::MAX)),
    };
    let mut expect = Expect {
        master: master.orig,
        tuple,
        mask: Tuple { src: ones, dst: ones, proto: tuple.proto, l4: L4::ports(0, 0xffff) },
        helper: master.helper,
        timeout: 300,
        ..Expect::default()
    };
    for bit in [
        ExpectPresent::MASTER,
        ExpectPresent::TUPLE,
        ExpectPresent::MASK,
        ExpectPresent::HELPER,
        ExpectPresent::TIMEOUT,
    ] {
        expect.present.insert(bit);
    }
    expect
}

/// The flow of a number: the remainder says its kind, the quotient the rest.
fn kind_of(number: u32, without: Without) -> Flow {
    let v6 = number / 13 % 2 == 1;
    let turn = number / 26;
    let kind = match number % 13 {
        9 | 10 if without.lost_keys => 0,
        kind => kind,
    };
    let mut flow = match kind {
        0..=3 => tcp(number, v6, turn),
        4 | 5 => udp(number, v6, turn),
        6 => icmp(number, v6, turn),
        7 | 8 => sctp(number, v6, turn),
        9 => base(number, proto::UDPLITE, v6),
        10 => gre(number, v6, turn),
        11 => generic(number, v6, turn),
        _ => translated(number, v6, turn),
    };
    if number.is_multiple_of(5) {
        flow.mark = number.wrapping_mul(0x9e37_79b1) | 1;
        flow.present.insert(Present::MARK);
    }
    if number.is_multiple_of(7) {
        flow.zone = (1 + number % 60_000) as u16;
        flow.present.insert(Present::ZONE);
    }
    if number.is_multiple_of(11) {
        let mut words = [0; 4];
        words[(turn % 4) as usize] = 1 << (number % 32);
        words[3] |= 1 << 31;
        flow.labels = Labels(words);
        flow.present.insert(Present::LABELS);
    }
    flow
}

/// A flow with the members that every request needs. Addresses differ with the number, so keys
/// do even for protocols without ports.
fn base(number: u32, protocol: u8, v6: bool) -> Flow {
    let mut flow = Flow::default();
    let (src, dst) = if v6 {
        let net = 0x2001_0db8_u128 << 96;
        (
            IpAddr::V6(Ipv6Addr::from(net | 1 << 64 | u128::from(number + 1))),
            IpAddr::V6(Ipv6Addr::from(net | 2 << 64 | 0x80)),
        )
    } else {
        (
            IpAddr::V4(Ipv4Addr::from(0x0a10_0000 + number + 1)),
            IpAddr::V4(Ipv4Addr::new(10, 2, 0, 128)),
        )
    };
    let ports = L4::ports(1024 + (number % 60_000) as u16, 1 + (number % 500) as u16);
    let l4 = match protocol {
        proto::TCP | proto::UDP | proto::UDPLITE | proto::SCTP | proto::GRE => ports,
        _ => L4::default(),
    };
    flow.orig = Tuple { src, dst, proto: protocol, l4 };
    flow.status = Status::CONFIRMED;
    if number.is_multiple_of(2) {
        flow.status = flow.status.with(Status::SEEN_REPLY);
    }
    if number.is_multiple_of(4) {
        flow.status = flow.status.with(Status::ASSURED);
    }
    flow.timeout = MIN_TIMEOUT + number % 3000;
    for bit in [Present::ORIG, Present::STATUS, Present::TIMEOUT] {
        flow.present.insert(bit);
    }
    flow
}

fn established(flow: &mut Flow, state: u8) {
    flow.status = Status::CONFIRMED.with(Status::SEEN_REPLY).with(Status::ASSURED);
    flow.protoinfo = ProtoInfo::Tcp(Tcp { state, ..Tcp::default() });
    flow.present.insert(Present::PROTOINFO);
}

fn tcp(number: u32, v6: bool, turn: u32) -> Flow {
    let mut flow = base(number, proto::TCP, v6);
    let state = (turn % 10) as u8;
    flow.protoinfo = ProtoInfo::Tcp(Tcp { state, ..Tcp::default() });
    flow.present.insert(Present::PROTOINFO);
    flow
}

fn udp(number: u32, v6: bool, _turn: u32) -> Flow {
    base(number, proto::UDP, v6)
}

fn icmp(number: u32, v6: bool, turn: u32) -> Flow {
    let mut flow = base(number, if v6 { proto::ICMPV6 } else { proto::ICMP }, v6);
    let kind = match (v6, turn % 3) {
        (true, 0 | 1) => 128,
        (true, _) => 129,
        (false, 0) => 8,
        (false, 1) => 13,
        (false, _) => 17,
    };
    flow.orig.l4 = L4::icmp(number as u16, kind, 0);
    flow
}

fn sctp(number: u32, v6: bool, turn: u32) -> Flow {
    let mut flow = base(number, proto::SCTP, v6);
    let vtag = Some([0x0102_0304 + number, 0x1112_1314 ^ number]);
    flow.protoinfo = ProtoInfo::Sctp(Sctp { state: (turn % 9) as u8, vtag });
    flow.present.insert(Present::PROTOINFO);
    flow
}

fn gre(number: u32, v6: bool, turn: u32) -> Flow {
    let mut flow = base(number, proto::GRE, v6);
    flow.orig.l4 =
        if turn.is_multiple_of(3) { L4::default() } else { L4::ports(number as u16, turn as u16) };
    flow
}

fn generic(number: u32, v6: bool, turn: u32) -> Flow {
    base(number, [2, 50, 89, 253][(turn % 4) as usize], v6)
}

/// Source, destination, both; with the port and without; TCP, UDP and SCTP.
fn translated(number: u32, v6: bool, turn: u32) -> Flow {
    let protocol = [proto::TCP, proto::UDP, proto::SCTP][(turn % 3) as usize];
    let mut flow = match protocol {
        proto::TCP => tcp(number, v6, 3),
        proto::UDP => udp(number, v6, turn),
        _ => sctp(number, v6, 4),
    };
    let host = |low: u32| {
        if v6 {
            IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | 9 << 64 | u128::from(low)))
        } else {
            IpAddr::V4(Ipv4Addr::from(0x0a63_0000 + low))
        }
    };
    // The original's requests keep the port of SCTP.
    let with_port = turn.is_multiple_of(2) && protocol != proto::SCTP;
    if turn / 3 % 3 != 1 {
        flow.snat = host(1 + number % 50_000);
        flow.present.insert(Present::SNAT);
        if with_port {
            flow.spat = 10_000 + (number % 50_000) as u16;
            flow.present.insert(Present::SPAT);
        }
    }
    if !(turn / 3).is_multiple_of(3) {
        flow.dnat = host(0x1_0001 + number % 100);
        flow.present.insert(Present::DNAT);
        if with_port {
            flow.dpat = 8000 + (number % 100) as u16;
            flow.present.insert(Present::DPAT);
        }
    }
    if protocol == proto::TCP && turn.is_multiple_of(4) {
        flow.seqadj = [
            SeqAdj { correction_pos: number, offset_before: -3, offset_after: 7 },
            SeqAdj { correction_pos: !number, offset_before: 0, offset_after: -7 },
        ];
        flow.present.insert(Present::SEQADJ);
    }
    flow
}
