//! Objects beside those of [`shardtrack_tests::flows::mixture`]: generations of masters, helpers of
//! every protocol with an expectation each, and attributes that few flows have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{
    Expect, ExpectPresent, Flow, L4, Name, Present, ProtoInfo, Status, Synproxy, Tcp, TcpFlags,
    Tuple, proto,
};
use shardtrack_tests::flows::{expected_by, plain_flow};

/// Name, protocol of the master, its port, families, and the protocol and class of what it expects.
type Helper = (&'static str, u8, u16, &'static [u8], u8, u32);

/// Helpers of the kernel.
const HELPERS: [Helper; 12] = [
    ("ftp", proto::TCP, 21, &[4, 6], proto::TCP, 0),
    ("tftp", proto::UDP, 69, &[4, 6], proto::UDP, 0),
    ("sip", proto::UDP, 5060, &[4, 6], proto::UDP, 0),
    ("sip", proto::TCP, 5060, &[4, 6], proto::UDP, 2),
    ("irc", proto::TCP, 6667, &[4], proto::TCP, 0),
    ("amanda", proto::UDP, 10080, &[4, 6], proto::TCP, 0),
    ("pptp", proto::TCP, 1723, &[4], proto::GRE, 0),
    ("sane", proto::TCP, 6566, &[4, 6], proto::TCP, 0),
    ("netbios-ns", proto::UDP, 137, &[4], proto::UDP, 0),
    ("snmp", proto::UDP, 161, &[4], proto::UDP, 0),
    ("RAS", proto::UDP, 1719, &[4, 6], proto::TCP, 0),
    ("Q.931", proto::TCP, 1720, &[4, 6], proto::TCP, 0),
];

/// How many masters stand behind each other at most.
const GENERATIONS: u16 = 5;

fn address(v6: bool, host: u32) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | 7 << 64 | u128::from(host)))
    } else {
        IpAddr::V4(Ipv4Addr::from(0x0a70_0000 | host))
    }
}

fn flow(v6: bool, host: u32, protocol: u8, l4: L4) -> Flow {
    let mut flow = plain_flow(host);
    flow.orig = Tuple { src: address(v6, host), dst: address(v6, 1), proto: protocol, l4 };
    if protocol != proto::TCP {
        flow.present.remove(Present::PROTOINFO);
    }
    flow
}

/// Each helper's master with an expectation.
pub(crate) fn helpers() -> (Vec<Flow>, Vec<Expect>) {
    let (mut flows, mut expectations) = (Vec::new(), Vec::new());
    for (number, (name, protocol, port, families, expected, class)) in (100..).zip(HELPERS) {
        for family in families {
            let v6 = *family == 6;
            let mut master = flow(v6, number, protocol, L4::ports(40_000, port));
            master.helper = Name::new(name.as_bytes()).expect("it fits");
            master.present.insert(Present::HELPER);
            let expect = expectation(&master, expected, class);
            flows.push(master);
            // Those that wait for answers to a broadcast have seconds only.
            if !matches!(name, "netbios-ns" | "snmp") {
                expectations.push(expect);
            }
        }
    }
    let ftp = expectations[0];
    expectations[0] = translated(ftp);
    // Permanent, and one that is not active.
    expectations[2].flags = 1;
    expectations[4].flags = 2;
    (flows, expectations)
}

/// Two masters and what they expect that the protocol between nodes does not carry whole: the
/// translation of IPv6, and a zone.
pub(crate) fn half_carried() -> ([Flow; 2], [Expect; 2]) {
    let mut masters = [true, false].map(|v6| flow(v6, 400, proto::TCP, L4::ports(40_000, 21)));
    for master in &mut masters {
        master.helper = Name::new(b"ftp").expect("it fits");
        master.present.insert(Present::HELPER);
    }
    masters[1].zone = 5;
    masters[1].present.insert(Present::ZONE);
    let mut expected = masters.map(|master| expectation(&master, proto::TCP, 0));
    expected[0].nat = Tuple {
        src: address(true, 77),
        dst: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        proto: proto::TCP,
        l4: L4::ports(50_001, 0),
    };
    expected[0].present.insert(ExpectPresent::NAT);
    expected[1].zone = 5;
    expected[1].present.insert(ExpectPresent::ZONE);
    (masters, expected)
}

fn expectation(master: &Flow, protocol: u8, class: u32) -> Expect {
    let l4 = L4::ports(0, 50_000);
    let tuple = Tuple { src: master.orig.dst, dst: master.orig.src, proto: protocol, l4 };
    Expect { class, ..expected_by(master, tuple) }
}

/// The same with what translation needs.
fn translated(mut expect: Expect) -> Expect {
    expect.nat = Tuple {
        src: address(false, 77),
        dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        proto: expect.tuple.proto,
        l4: L4::ports(50_001, 0),
    };
    expect.nat_dir = 1;
    expect.function = Name::new(b"nat-follow-master").expect("it fits");
    expect.present.insert(ExpectPresent::NAT);
    expect.present.insert(ExpectPresent::FUNCTION);
    expect
}

/// Flows whose master was expected itself, and so on; the masters come first.
pub(crate) fn generations(v6: bool, host: u32) -> Vec<Flow> {
    let mut flows: Vec<Flow> = Vec::new();
    for number in 0..=GENERATIONS {
        let mut flow = flow(v6, host, proto::TCP, L4::ports(41_000 + number, 1720));
        if let Some(master) = flows.last() {
            flow.master = master.orig;
            flow.present.insert(Present::MASTER);
        }
        flows.push(flow);
    }
    flows
}

/// What few flows have.
pub(crate) fn rare() -> Vec<Flow> {
    let mut flows = Vec::new();
    for v6 in [false, true] {
        // The state of a SYN proxy.
        let mut proxied = flow(v6, 201, proto::TCP, L4::ports(1, 80));
        proxied.synproxy = Synproxy { isn: 0x0102_0304, its: 0x1112_1314, tsoff: 0x2122_2324 };
        proxied.present.insert(Present::SYNPROXY);
        // Windows.
        let mut scaled = flow(v6, 202, proto::TCP, L4::ports(2, 80));
        let flags = TcpFlags { flags: 0x03, mask: 0x03 };
        let tcp = Tcp { state: 3, wscale: Some([7, 9]), flags: Some([flags; 2]) };
        scaled.protoinfo = ProtoInfo::Tcp(tcp);
        // A timeout that traffic does not change.
        let mut fixed = flow(v6, 203, proto::UDP, L4::ports(3, 80));
        fixed.status = fixed.status.with(Status(0x400));
        let dccp = flow(v6, 204, 33, L4::default());
        flows.extend([proxied, scaled, fixed, dccp]);
    }
    flows
}
