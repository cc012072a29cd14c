//! What the kernel filters, it filters as we do.

use std::collections::BTreeSet;

use proto_ctnl::{Flow, Present, Status, proto};
use shardtrack_tests::flows::{Without, mixture, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::{self, Netns};
use shardtrack_tests::peer::{BASE_RULES, Make};
use shardtrack_tests::random::Random;

/// Conditions on each table.
const CONDITIONS: usize = 25;

/// Conditions in a file are never given to the kernel. The same ones on the command line are, as far as
/// it can check them, and find the same flows of random tables.
#[test]
fn the_kernel_finds_what_we_find() {
    need_root!();
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let file = directory.path().join("conditions");
    for seed in 0..3 {
        let mut random = Random::new(seed);
        let ns = Netns::new("filters");
        ns.nft(BASE_RULES);
        let mut flows = mixture(2000, Without::default()).flows;
        flows.retain(|flow| flow.present.has(Present::HELPER) || random.chance(300));
        flows.retain(|flow| !flow.present.has(Present::MASTER));
        Kernel::of(&ns).create(&flows);
        let found = |options: &str| -> BTreeSet<String> {
            let line = format!("-L -o id {options}");
            let mut command = ns.command(Make::Ours.program("conntrack"));
            let output = netns::run(command.args(line.split_whitespace()));
            let text = String::from_utf8_lossy(&output.stdout);
            let id = |line: &str| line.rsplit_once(" id=").map(|(_, id)| id.to_owned());
            text.lines().map(|line| id(line).expect("each line has an identifier")).collect()
        };
        let mut hits = 0;
        for _ in 0..CONDITIONS {
            let options = conditions(&flows[random.below(flows.len())], &mut random);
            std::fs::write(&file, &options).expect("the directory is ours");
            let with = found(&options);
            let without = found(&format!("--filter-file {}", file.display()));
            assert_eq!(with, without, "seed {seed}: {options}");
            hits += usize::from(!with.is_empty());
        }
        assert!(hits > CONDITIONS / 4, "only {hits} of the conditions find anything");
    }
}

/// Some conditions, most of which hold for the flow.
fn conditions(flow: &Flow, random: &mut Random) -> String {
    let mut words = Vec::new();
    let other = random.chance(100);
    let off = |value: u16| if other { value.wrapping_add(1) } else { value };
    if random.chance(300) {
        words.push(format!("-f ipv{}", if flow.orig.is_v6() { 6 } else { 4 }));
    }
    if random.chance(300) {
        words.push(format!("-s {}", flow.orig.src));
    }
    if random.chance(200) {
        words.push(format!("-d {}", flow.orig.dst));
    }
    if random.chance(200) && !flow.present.has(Present::SNAT) {
        words.push(format!("-q {}", flow.orig.src));
    }
    if random.chance(500) {
        protocol(flow, random, &mut words, off);
    }
    if random.chance(200) {
        let mask: u32 = if random.chance(500) { u32::MAX } else { 0xff };
        words.push(format!("-m {}/{mask:#x}", flow.mark & mask));
    }
    if random.chance(200) {
        let seen = flow.status.has(Status::SEEN_REPLY);
        words.push(format!("-u {}", if seen != other { "SEEN_REPLY" } else { "UNREPLIED" }));
    }
    if random.chance(200) {
        words.push(format!("-w {}", off(flow.zone)));
    }
    if words.is_empty() {
        words.push("-m 0".to_owned());
    }
    words.join(" ")
}

fn protocol(flow: &Flow, random: &mut Random, words: &mut Vec<String>, off: impl Fn(u16) -> u16) {
    let l4 = flow.orig.l4;
    match flow.orig.proto {
        proto::TCP | proto::UDP | proto::SCTP => {
            let name = match flow.orig.proto {
                proto::TCP => "tcp",
                proto::UDP => "udp",
                _ => "sctp",
            };
            words.push(format!("-p {name}"));
            if random.chance(400) {
                words.push(format!("--sport {}", l4.a));
            }
            if random.chance(600) {
                words.push(format!("--dport {}", off(l4.b)));
            }
        }
        proto::ICMP => {
            words.push(format!("-p icmp --icmp-type {}", l4.icmp_type()));
            if random.chance(500) {
                words.push(format!("--icmp-id {}", off(l4.a)));
            }
        }
        other => words.push(format!("-p {other}")),
    }
}

/// The kernel tells no security mark of a flow that has none.
#[test]
fn a_flow_without_a_security_mark_has_mark_0() {
    need_root!();
    let ns = Netns::new("secmark");
    Kernel::of(&ns).create(&plain(0, 3));
    for (mark, flows) in [("0", 3), ("5", 0)] {
        let mut command = ns.command(Make::Ours.program("conntrack"));
        let output = netns::run(command.args(["-L", "-c", mark]));
        assert_eq!(output.stdout.split_inclusive(|&b| b == b'\n').count(), flows, "{mark}");
    }
}
