//! Expectations under every kind of mask: what either make prints of them, of its own and of its
//! peer's, is what a pair of originals prints, to the octet and apart from their ages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proto_ctnl::{Expect, Flow, L4, Name, Present, Tuple, proto};
use regex::Regex;
use shardtrack_tests::cond::wait_equal;
use shardtrack_tests::flows::{expected_by, plain_flow};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair};

const LIMIT: Duration = Duration::from_secs(20);
/// Bits of the source address and of the source port that count. Of the destination all do: the
/// kernel knows no other expectation.
const MASKS: [(u8, u16); 8] = [
    (0, 0),
    (8, 0xffff),
    (13, 0),
    (24, 0xff00),
    (31, 0x0001),
    (32, 0xffff),
    (64, 0),
    (128, 0xfffe),
];
/// Of the master and of what it expects.
const PROTOCOLS: [(u8, u8); 4] = [
    (proto::TCP, proto::TCP),
    (proto::TCP, proto::UDP),
    (proto::UDP, proto::TCP),
    (proto::UDP, proto::UDP),
];

fn address(v6: bool, host: u16) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, host))
    } else {
        IpAddr::V4(Ipv4Addr::from(0x0a70_0000 | u32::from(host)))
    }
}

fn mask(v6: bool, bits: u8) -> IpAddr {
    if v6 {
        let ones = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        IpAddr::V6(Ipv6Addr::from(ones))
    } else {
        let ones = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::from(ones))
    }
}

/// Masters, and what each of them expects.
fn objects() -> (Vec<Flow>, Vec<Expect>) {
    let (mut masters, mut expectations) = (Vec::new(), Vec::new());
    for v6 in [false, true] {
        for (number, (bits, port)) in MASKS.into_iter().enumerate() {
            for (of_master, expected) in PROTOCOLS {
                let host = 10 + masters.len() as u16;
                let (client, server) = (address(v6, host), address(v6, 1));
                let service = if of_master == proto::TCP { 21 } else { 69 };
                let mut master = plain_flow(u32::from(host));
                master.orig = Tuple {
                    src: client,
                    dst: server,
                    proto: of_master,
                    l4: L4::ports(4000 + host, service),
                };
                master.helper =
                    Name::new(if service == 21 { b"ftp" } else { b"tftp" }).expect("it fits");
                master.present.insert(Present::HELPER);
                if of_master != proto::TCP {
                    master.present.remove(Present::PROTOINFO);
                }
                let l4 = L4::ports(port & 0x1234, 50_000 + host);
                let tuple = Tuple { src: server, dst: client, proto: expected, l4 };
                let mut expect = expected_by(&master, tuple);
                expect.mask.src = mask(v6, bits);
                expect.mask.l4 = L4::ports(port, 0xffff);
                // Permanent, inactive, for user space, and any two of these.
                expect.flags = number as u32;
                masters.push(master);
                expectations.push(expect);
            }
        }
    }
    (masters, expectations)
}

/// What a pair prints, sorted and without ages: of the sender's own, of the receiver's foreign ones.
fn printed(from: Make, to: Make) -> Vec<(String, Vec<String>)> {
    let pair = Pair::running(from, to, Mode::Ftfw, Link::Udp);
    let (masters, expectations) = objects();
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&masters);
    kernel.expect(&expectations);
    let age = Regex::new(r"\[active since \d+s\]").expect("an expression");
    [
        (&pair.a, "-i expect"),
        (&pair.a, "-i expect -x"),
        (&pair.b, "-e expect"),
        (&pair.b, "-e expect -x"),
    ]
    .into_iter()
    .map(|(node, words)| {
        let arguments: Vec<_> = words.split(' ').collect();
        wait_equal(LIMIT, words, &expectations.len(), || node.client(&arguments).lines().count());
        let text = node.client(&arguments);
        let mut lines: Vec<_> =
            text.lines().map(|line| age.replace(line, "[active]").into_owned()).collect();
        lines.sort();
        (words.to_owned(), lines)
    })
    .collect()
}

#[test]
fn masks_are_told_as_by_the_original() {
    need_root!();
    let theirs = printed(Make::Original, Make::Original);
    for network in ["mask-src=255.248.0.0", "mask-src=ffff:ffff:ffff:ffff::", "sport=65280"] {
        assert!(theirs[0].1.iter().any(|line| line.contains(network)), "{network}: {theirs:#?}");
    }
    for (from, to) in
        [(Make::Ours, Make::Original), (Make::Original, Make::Ours), (Make::Ours, Make::Ours)]
    {
        for (ours, theirs) in printed(from, to).into_iter().zip(&theirs) {
            assert_eq!(&ours, theirs, "{from:?} to {to:?}, two originals");
        }
    }
}
