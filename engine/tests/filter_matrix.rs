//! The recorded verdicts of the original's user-space filter: which of eight flows arrived in the
//! cache under each filter, through events and through a resync.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use engine::config::{Filter, Network, Policy};
use engine::filter::FlowFilter;
use proto_ctnl::{Flow, Present, ProtoInfo, Tcp};
use proto_ctnl::{L4, Tuple};
use serde_json::Value;

/// A flow from the `conntrack -I` arguments that made it.
fn flow(arguments: &str) -> Flow {
    let present = Present(Present::ORIG.0 | Present::REPLY.0);
    let mut flow = Flow { present, ..Flow::default() };
    let mut server: Option<IpAddr> = None;
    let mut client: Option<IpAddr> = None;
    let words: Vec<&str> = arguments.split_whitespace().collect();
    for pair in words.windows(2) {
        let (option, value) = (pair[0], pair[1]);
        match option {
            "-p" => flow.orig.proto = protocol(value),
            "-s" => flow.orig.src = value.parse().unwrap(),
            "-d" => flow.orig.dst = value.parse().unwrap(),
            "--sport" => flow.orig.l4.a = value.parse().unwrap(),
            "--dport" => flow.orig.l4.b = value.parse().unwrap(),
            "--icmp-id" => flow.orig.l4 = L4::icmp(value.parse().unwrap(), 8, 0),
            "--dst-nat" => server = Some(value.parse().unwrap()),
            "--src-nat" => client = Some(value.parse().unwrap()),
            "--state" => {
                flow.present.insert(Present::PROTOINFO);
                flow.protoinfo = ProtoInfo::Tcp(Tcp { state: state(value), ..Tcp::default() });
            }
            _ => {}
        }
    }
    let plain = flow.orig.inverted().unwrap();
    flow.reply =
        Tuple { src: server.unwrap_or(plain.src), dst: client.unwrap_or(plain.dst), ..plain };
    flow
}

fn protocol(name: &str) -> u8 {
    match name.to_ascii_lowercase().as_str() {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        other => panic!("protocol {other}"),
    }
}

fn state(name: &str) -> u8 {
    match name {
        "SYN_SENT" => 1,
        "ESTABLISHED" => 3,
        other => panic!("state {other}"),
    }
}

/// Reads the few configuration lines that the matrix uses; a set named twice is merged and its
/// last policy holds.
fn configured(lines: &[Value]) -> Filter {
    let mut filter = Filter::default();
    for line in lines {
        let words: Vec<&str> =
            line.as_str().unwrap().split_whitespace().filter(|w| !"{}".contains(w)).collect();
        let policy = if words[1] == "Accept" { Policy::Accept } else { Policy::Ignore };
        let mut rest = words[2..].iter();
        match words[0] {
            "Protocol" => {
                let set = filter.protocols.get_or_insert((policy, Vec::new()));
                set.0 = policy;
                set.1.extend(rest.map(|name| protocol(name)));
            }
            "State" => {
                let set = filter.tcp_states.get_or_insert((policy, Vec::new()));
                set.0 = policy;
                set.1.extend(rest.filter(|w| !["for", "TCP"].contains(w)).map(|w| state(w)));
            }
            "Address" => {
                let set = filter.addresses.get_or_insert((policy, Vec::new()));
                set.0 = policy;
                while let (Some(_), Some(value)) = (rest.next(), rest.next()) {
                    let (address, prefix) = value.split_once('/').unwrap_or((value, ""));
                    let address: IpAddr = address.parse().unwrap();
                    let all = if address.is_ipv4() { 32 } else { 128 };
                    set.1.push(Network { address, prefix: prefix.parse().unwrap_or(all) });
                }
            }
            other => panic!("set {other}"),
        }
    }
    filter
}

#[test]
fn every_recorded_verdict_of_the_original() {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/conntrackd/filter/matrix.json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let flows = recorded["flows"].as_object().unwrap();
    let mut seen = 0;
    for (name, case) in recorded["matrix"].as_object().unwrap() {
        let filter = FlowFilter::new(&configured(case["filter"].as_array().unwrap()));
        let kept: BTreeSet<&str> = flows
            .iter()
            .filter(|(_, arguments)| filter.passes(&flow(arguments.as_str().unwrap())))
            .map(|(name, _)| name.as_str())
            .collect();
        for how in ["cached_from_events", "cached_after_flush_and_resync"] {
            let expected: BTreeSet<&str> = case["Userspace"][how]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap())
                .collect();
            assert_eq!(kept, expected, "{name}, {how}");
            seen += 1;
        }
    }
    assert!(seen >= 50, "only {seen} verdicts");
}
