//! Filters mean the same wherever they are said to be evaluated, and wherever the intake lets them
//! be, and know no limit of addresses.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use proto_ctnl::Flow;
use serde_json::Value;
use shardtrack_tests::cond::wait_until;
use shardtrack_tests::flows::plain_flow;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{BASE_RULES, Make};

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(30);
/// What the configuration says, and the intake.
const SIDES: [(&str, &str); 4] = [
    ("Userspace", "auto"),
    ("Kernelspace", "auto"),
    ("Userspace", "filter"),
    ("Kernelspace", "single"),
];
/// Single addresses of each family in the long list; the original's program takes 127.
const MANY: u32 = 3000;

fn start(ns: &Netns, (side, intake): (&str, &str), sets: &str) -> Place {
    let config = format!(
        "Stats {{\nLogFile HERE/flows\n}}\nGeneral {{\nLogFile HERE/log\n\
         Filter From {side} {{\n{sets}\n}}\n}}\nEngine {{\nShards 1\nIntake {intake}\n\
         IntakeBuffer 16777216\n}}\n"
    );
    Place::start(ns, Make::Ours, &config)
}

/// The `sport=` or `id=` of each flow in the daemon's cache.
fn cached(place: &Place) -> BTreeSet<String> {
    let dump = place.client(&["-i"]).stdout;
    let number = |line: &str| {
        let mut words = line.split_whitespace();
        words
            .find_map(|word| word.strip_prefix("sport=").or(word.strip_prefix("id=")))
            .map(str::to_owned)
    };
    String::from_utf8_lossy(&dump).lines().filter_map(number).collect()
}

fn figures(place: &Place) -> Value {
    serde_json::from_slice(&place.client(&["-s", "json"]).stdout).expect("figures")
}

/// Events, and how many of them were filtered.
fn events(place: &Place) -> [u64; 2] {
    let answer = place.ask(30).unwrap_or_default();
    ["events received:", "events filtered:"].map(|name| {
        let line = answer.lines().find_map(|line| line.trim().strip_prefix(name));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    })
}

/// Checks that the kernel filters what it can, and that the daemon says so.
fn check_place(place: &Place, side: &str, sets: &str) {
    wait_until(LIMIT, "the log", || place.read("log").contains("initialization completed"));
    let log = place.read("log");
    let engine = &figures(place)["engine"];
    if sets.is_empty() {
        assert_eq!(engine["filtering"], "none");
        assert!(!log.contains("event filtering"), "{log}");
        return;
    }
    let names_states = sets.contains("State ");
    let names_others = sets.contains("Protocol ") || sets.contains("Address ");
    let in_kernel = engine["intake"] == "ring" && names_others;
    let (filtering, line) = match (in_kernel, names_states) {
        (true, false) => ("kernel", "using kernel-space event filtering\n"),
        (true, true) => ("both", "using kernel-space event filtering, but for TCP states"),
        (false, _) => ("user", "using user-space event filtering\n"),
    };
    assert_eq!(engine["filtering"], filtering, "{engine}");
    assert!(log.contains(line), "{log}");
    let explained = log.contains("`From Kernelspace': ");
    assert_eq!(explained, !in_kernel && side == "Kernelspace", "{log}");
}

#[test]
fn the_matrix_holds_on_either_side() {
    need_root!();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrackd/filter/matrix.json");
    let text = std::fs::read_to_string(path).expect("our own file");
    let recorded: Value = serde_json::from_str(&text).expect("JSON");
    let ns = Netns::new("matrix");
    ns.nft(BASE_RULES);
    let mut cases = Vec::new();
    for (name, case) in recorded["matrix"].as_object().expect("cases") {
        let lines = case["filter"].as_array().expect("lines").iter().filter_map(Value::as_str);
        let sets = lines.collect::<Vec<_>>().join("\n");
        for side in SIDES {
            let place = start(&ns, side, &sets);
            check_place(&place, side.0, &sets);
            cases.push((format!("{name} from {side:?}"), place, case));
        }
    }
    assert!(cases.len() >= 4 * 29);
    let flows = recorded["flows"].as_object().expect("flows");
    let number = |name: &Value| {
        let arguments = flows[name.as_str().expect("a name")].as_str().expect("arguments");
        let words: Vec<_> = arguments.split_whitespace().collect();
        let key = |pair: &&[&str]| matches!(pair[0], "--sport" | "--icmp-id");
        words.windows(2).find(key).expect("a number")[1].to_owned()
    };
    let program = Make::Ours.program("conntrack");
    for arguments in flows.values().filter_map(Value::as_str) {
        ns.run(&format!("{} {arguments}", program.display()));
    }
    let expected = |case: &Value, how| -> BTreeSet<String> {
        case["Userspace"][how].as_array().expect("names").iter().map(number).collect()
    };
    for (name, place, case) in &cases {
        wait_until(LIMIT, "all events came", || events(place)[0] >= flows.len() as u64);
        // The other daemons' looks at flows make further events.
        let [all, filtered] = events(place);
        let kept = expected(case, "cached_from_events").len() as u64;
        let refused = flows.len() as u64 - kept;
        assert!(filtered >= refused && all - filtered >= kept, "{name}: {filtered} of {all}");
        assert_eq!((filtered > 0, all > filtered), (refused > 0, kept > 0), "{name}");
        assert_eq!(cached(place), expected(case, "cached_from_events"), "{name}: events");
        place.client(&["-f"]);
        assert!(cached(place).is_empty(), "{name}");
        place.client(&["-R"]);
        let want = expected(case, "cached_after_flush_and_resync");
        wait_until(LIMIT, name, || cached(place) == want);
    }
}

/// An established flow with this source and number, to nowhere that is listed.
fn from(src: IpAddr, number: u32) -> Flow {
    let mut flow = plain_flow(number);
    flow.orig.src = src;
    flow.orig.dst = match src {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb9, 1, 0, 0, 0, 0, 1)),
    };
    flow
}

#[test]
fn thousands_of_addresses_count_on_either_side() {
    need_root!();
    let _alone = alone();
    // Every other address of 10.1.0.0/16 and of 2001:db8:1::/112, and nested networks.
    let v4 = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + n));
    let v6 = |n: u32| IpAddr::V6(Ipv6Addr::from(0x2001_0db8_0001_u128 << 80 | u128::from(n)));
    let mut list = String::new();
    for n in 0..MANY {
        let _ = writeln!(list, "IPv4_address {}\nIPv6_address {}", v4(2 * n), v6(2 * n));
    }
    list += "IPv4_address 10.8.0.0/13\nIPv4_address 10.9.9.0/24\nIPv4_address 10.9.0.0/16\n\
             IPv6_address 2001:db8:8000::/33\nIPv6_address 2001:db8:9000:1::/64\n";
    let (mut listed, mut others) = (Vec::new(), Vec::new());
    for n in 0..MANY {
        listed.extend([v4(2 * n), v6(2 * n)]);
        others.extend([v4(2 * n + 1), v6(2 * n + 1)]);
    }
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    // The first and the last of each network, inside and outside of those that it holds.
    listed.extend(
        ["10.8.0.0", "10.15.255.255", "10.9.9.0", "10.9.9.255", "10.9.10.0", "10.10.0.0"]
            .map(parse),
    );
    listed.extend(
        ["2001:db8:8000::", "2001:db8:9000:1::1", "2001:db8:9000:2::", "2001:db8:fffe::1"]
            .map(parse),
    );
    others.extend(["10.7.255.255", "10.16.0.0", "2001:db8:7fff:ffff::1", "2001:db9::1"].map(parse));
    let ns = Netns::new("many");
    ns.nft(BASE_RULES);
    let mut places = Vec::new();
    for side in SIDES {
        for policy in ["Accept", "Ignore"] {
            let set = format!("Address {policy} {{\n{list}}}");
            let place = start(&ns, side, &set);
            check_place(&place, side.0, &set);
            places.push((side, policy, place));
        }
    }
    let mut kernel = Kernel::of(&ns);
    let sources = listed.iter().chain(&others);
    let flows: Vec<_> = sources.zip(0..).map(|(src, number)| from(*src, number)).collect();
    kernel.create_at(&flows, 10_000);
    let texts = |sources: &[IpAddr]| -> BTreeSet<String> {
        sources.iter().map(|src| format!("src={src}")).collect()
    };
    for (side, policy, place) in &places {
        let want = texts(if *policy == "Accept" { &listed } else { &others });
        let known = || -> BTreeSet<String> {
            let dump = place.client(&["-i"]).stdout;
            let source = |line: &str| {
                let mut words = line.split_whitespace();
                words.find(|word| word.starts_with("src=")).map(str::to_owned)
            };
            String::from_utf8_lossy(&dump).lines().filter_map(source).collect()
        };
        let counted = [flows.len(), flows.len() - want.len()].map(|count| count as u64);
        wait_until(LIMIT, "all events came", || events(place) == counted);
        let known = known();
        let apart: Vec<_> = known.symmetric_difference(&want).take(5).collect();
        assert!(apart.is_empty(), "{policy} from {side:?}: {apart:?}");
    }
}
