//! Flows and expectations of every kind go from one node's kernel to the other's, and each of their
//! attributes is what the table says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::Duration;

use shardtrack_tests::cond::{wait_equal, wait_for, wait_until};
use shardtrack_tests::flows::{Without, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup};

use crate::attributes::{Object, Objects, expectations, flows};
use crate::kinds::{generations, helpers, rare};
use crate::table::{Fate, TABLE, row_of};

const LIMIT: Duration = Duration::from_secs(20);
/// How long a packet may take that is not lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// Seconds by which a timeout may differ: what a loaded machine takes between two readings.
const SECONDS: u64 = 15;
/// Flows of the mixture: each kind in each state, in both families.
const FLOWS: u32 = 1500;

/// Packets that the kernel counts, in a zone of one direction and in none.
const TRAFFIC: &str = r#"
table inet traffic {
	chain zones {
		type filter hook output priority raw;
		udp dport 7002 ct original zone set 9
	}
}
"#;

/// Flows of packets: what requests can not make.
fn traffic(ns: &Netns) {
    ns.nft(TRAFFIC);
    for address in ["10.66.0.1/32 dev lo", "fd66::1/128 dev lo nodad"] {
        ns.ip(&format!("addr add {address}"));
    }
    ns.enter(|| {
        for address in ["10.66.0.1", "fd66::1"] {
            for port in [7001, 7002] {
                let client = UdpSocket::bind((address, 0)).expect("a free port");
                let server = UdpSocket::bind((address, port)).expect("a free port");
                for socket in [&client, &server] {
                    socket.set_read_timeout(Some(PATIENCE)).expect("a fresh socket");
                }
                let asked = wait_for(LIMIT, || {
                    client.send_to(b"?", (address, port)).ok()?;
                    server.recv_from(&mut [0; 8]).ok()
                });
                let (_, asker) = asked.expect("a packet arrives");
                if port == 7001 {
                    let answered = wait_for(LIMIT, || {
                        server.send_to(b"!", asker).ok()?;
                        client.recv_from(&mut [0; 8]).ok()
                    });
                    answered.expect("a packet arrives");
                }
            }
        }
    });
}

/// Fills node `a`.
fn fill(pair: &Pair) -> u64 {
    let mut kernel = Kernel::of(&pair.a.ns);
    let (masters, expected) = helpers();
    let mut mixture = mixture(FLOWS, Without::default());
    mixture.flows.extend(masters);
    mixture.flows.extend(rare());
    for v6 in [false, true] {
        for host in 300..304 {
            mixture.flows.extend(generations(v6, host));
        }
    }
    kernel.create(&mixture.flows);
    kernel.expect(&mixture.expectations);
    kernel.expect(&expected);
    traffic(&pair.a.ns);
    (mixture.expectations.len() + expected.len()) as u64
}

/// What was seen of each row, by its place in the table.
#[derive(Debug, Default)]
struct Seen {
    times: BTreeMap<usize, u32>,
    differing: BTreeMap<usize, u32>,
    complaints: Vec<String>,
}

impl Seen {
    fn compare(&mut self, windows: bool, here: &Objects, there: &Objects) {
        for (key, object) in here {
            let Some(twin) = there.get(key) else {
                self.complaints.push(format!("not committed: {key} {:?}", object.attributes));
                continue;
            };
            let names: BTreeSet<_> =
                object.attributes.keys().chain(twin.attributes.keys()).copied().collect();
            for name in names {
                self.attribute(windows, key, name, object, twin);
            }
        }
        for key in there.keys().filter(|key| !here.contains_key(*key)) {
            self.complaints.push(format!("nobody's: {key}"));
        }
    }

    fn attribute(
        &mut self,
        windows: bool,
        key: &str,
        name: &'static str,
        here: &Object,
        there: &Object,
    ) {
        let Some((at, row)) = row_of(here.kind, name) else {
            self.complaints.push(format!("no row for `{name}' of {key}"));
            return;
        };
        *self.times.entry(at).or_default() += 1;
        let (left, right) = (here.get(name), there.get(name));
        let equal = match row.fate {
            Fate::Counted => {
                let secs = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
                matches!((secs(left), secs(right)), (Some(a), Some(b)) if a.abs_diff(b) <= SECONDS)
            }
            _ => left == right,
        };
        *self.differing.entry(at).or_default() += u32::from(!equal);
        let has_to_be_equal = match row.fate {
            Fate::Restored | Fate::Counted => true,
            Fate::WithWindows => windows,
            Fate::Anew | Fate::Lost | Fate::Unseen => false,
        };
        if has_to_be_equal && !equal || row.fate == Fate::Unseen {
            self.complaints.push(format!("{name} of {key}: {left:?} became {right:?}"));
        }
    }

    /// The table says neither too little nor too much.
    fn conclude(mut self, windows: bool) {
        for (at, row) in TABLE.iter().enumerate() {
            let count = |of: &BTreeMap<usize, u32>| of.get(&at).copied().unwrap_or(0);
            let what = format!("`{}' of {:?}", row.attribute, row.kinds);
            if row.fate != Fate::Unseen && count(&self.times) == 0 {
                self.complaints.push(format!("nothing has {what}"));
            }
            let lost = row.fate == Fate::Lost || row.fate == Fate::WithWindows && !windows;
            if lost && count(&self.differing) == 0 {
                self.complaints.push(format!("{what} is restored, whatever the table says"));
            }
        }
        let (count, first) = (self.complaints.len(), self.complaints.iter().take(20));
        assert!(count == 0, "{count} complaints: {:#?}", first.collect::<Vec<_>>());
    }
}

/// Every kind of flow in both families, and every state.
fn assert_complete(flows: &Objects) {
    let all = |name: &str| -> BTreeSet<String> {
        flows.values().filter_map(|flow| flow.get(name)).map(str::to_owned).collect()
    };
    let kinds: BTreeSet<_> = flows
        .values()
        .map(|flow| (flow.kind, flow.attributes["original addresses"].len() > 40))
        .collect();
    let mut wanted = BTreeSet::from([("icmp", false), ("icmpv6", true)]);
    for kind in ["tcp", "udp", "udplite", "sctp", "dccp", "gre", "generic"] {
        wanted.extend([(kind, false), (kind, true)]);
    }
    assert_eq!(kinds, wanted);
    assert_eq!(all("TCP state").len(), 10, "states of TCP");
    assert_eq!(all("SCTP state").len(), 9, "states of SCTP");
    assert_eq!(all("helper").len(), 11, "helpers");
    assert!(all("master").len() > 40 && all("SCTP verification tags").len() > 100);
}

fn figures(node: &Node) -> serde_json::Value {
    serde_json::from_str(&node.client(&["-s", "json"])).expect("figures are JSON")
}

/// A running pair, and how many expectations its first node has beside its flows.
fn filled(from: Setup, to: Setup) -> (Pair, u64) {
    let mut pair = Pair::new(from, to);
    for node in [&pair.a, &pair.b] {
        node.ns.sysctl("net/netfilter/nf_conntrack_acct", 1);
        node.ns.sysctl("net/netfilter/nf_conntrack_timestamp", 1);
    }
    pair.start();
    let expected = fill(&pair);
    (pair, expected)
}

/// Compares the tables of both nodes; gives the flows.
fn compare(windows: bool, sender: &mut Kernel, receiver: &mut Kernel) -> Objects {
    let mut seen = Seen::default();
    let here = flows(sender);
    assert_complete(&here);
    let there = flows(receiver);
    seen.compare(windows, &here, &there);
    seen.compare(windows, &expectations(sender), &expectations(receiver));
    seen.conclude(windows);
    assert_liberal(!windows, &there);
    there
}

/// Without tracked windows the kernel checks those of no TCP flow, in neither direction.
fn assert_liberal(liberal: bool, flows: &Objects) {
    const BE_LIBERAL: u8 = 0x08;
    let mut directions = 0;
    for (key, flow) in flows {
        for flags in flow.get("TCP flags").unwrap_or_default().split_whitespace() {
            let flags = u8::from_str_radix(&flags[..2], 16).expect("hexadecimal");
            assert_eq!(flags & BE_LIBERAL != 0, liberal, "{key}: {flags:#x}");
            directions += 1;
        }
    }
    assert!(directions > 0, "no flow of TCP");
}

fn restores(windows: bool, engine: &str) {
    let _alone = alone();
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let word = if windows { "on" } else { "off" };
    setup.options.push_str(&format!("TCPWindowTracking {word}\n"));
    if !engine.is_empty() {
        setup.engine = engine.into();
    }
    let (pair, expected) = filled(setup.clone(), setup);
    let (mut sender, mut receiver) = (Kernel::of(&pair.a.ns), Kernel::of(&pair.b.ns));
    let count = flows(&mut sender).len() as u64;
    assert!(count > u64::from(FLOWS), "only {count} flows");
    wait_equal(LIMIT, "flows of the backup", &count, || pair.b.cached(false));
    wait_until(LIMIT, "expectations of the backup", || {
        pair.b.client(&["-e", "expect"]).lines().count() as u64 == expected
    });
    pair.b.client(&["-c"]);
    let before = starts(&compare(windows, &mut sender, &mut receiver));
    let commits = &figures(&pair.b)["commits"];
    assert_eq!(commits["committed"], count + expected, "{commits}");
    for name in ["failed", "expired", "without_helper", "without_master"] {
        assert_eq!(commits[name], 0, "{commits}");
    }
    // Once more: everything is there, and nothing becomes another.
    pair.b.client(&["-c"]);
    let commits = &figures(&pair.b)["commits"];
    assert_eq!(commits["failed"], 0, "{commits}");
    let after = starts(&flows(&mut receiver));
    let replaced: Vec<_> = before.difference(&after).take(10).collect();
    assert!(replaced.is_empty(), "replaced instead of updated: {replaced:#?}");
}

/// The same without an external cache, where nothing is committed.
fn restores_at_once(mode: Mode) {
    let _alone = alone();
    let setup = Setup::new(Make::Ours, mode, Link::Udp);
    let mut receiving = setup.clone();
    receiving.mode_lines = "DisableExternalCache on\n".into();
    let (pair, expected) = filled(setup, receiving);
    let (mut sender, mut receiver) = (Kernel::of(&pair.a.ns), Kernel::of(&pair.b.ns));
    let count = flows(&mut sender).len();
    wait_equal(LIMIT, "flows in the kernel", &count, || flows(&mut receiver).len());
    let expected = usize::try_from(expected).expect("a few");
    wait_equal(LIMIT, "expectations", &expected, || expectations(&mut receiver).len());
    compare(false, &mut sender, &mut receiver);
    let injection = &figures(&pair.b)["injection"];
    for name in ["refused", "without_helper", "without_master"] {
        assert_eq!(injection[name], 0, "{injection}");
    }
}

/// When the entries were made: one that is updated keeps that, one that is made anew does not.
fn starts(flows: &Objects) -> BTreeSet<(String, String)> {
    flows.iter().map(|(key, flow)| (key.clone(), flow.attributes["start time"].clone())).collect()
}

#[test]
fn every_attribute_is_as_the_table_says() {
    need_root!();
    restores(false, "");
}

#[test]
fn every_attribute_is_as_the_table_says_on_four_shards() {
    need_root!();
    restores(false, "Shards 4");
}

#[test]
fn every_attribute_is_as_the_table_says_with_windows() {
    need_root!();
    restores(true, "");
}

#[test]
fn every_attribute_is_as_the_table_says_without_a_cache() {
    need_root!();
    restores_at_once(Mode::Ftfw);
}

#[test]
fn every_attribute_is_as_the_table_says_without_a_cache_notrack() {
    need_root!();
    restores_at_once(Mode::Notrack);
}

/// The manual has the table for people: each attribute as an item, and why it is not restored.
#[test]
fn the_manual_has_the_table() {
    let manual = include_str!("../../bins/conntrackd/conntrackd.8");
    let (_, section) = manual.split_once(".SH WHAT A COMMIT RESTORES\n").expect("a section");
    let section = section.split("\n.SH ").next().unwrap_or_default().replace("\\-", "-");
    let (of_flows, of_expectations) =
        section.split_once(".SS Expectations\n").expect("they have a part of their own");
    let items = |part: &str| -> Vec<(Vec<String>, String)> {
        let items = part.split(".TP\n.B ").skip(1).map(|item| {
            let (names, text) = item.split_once('\n').expect("an item has a text");
            let names = names.split(", ").map(str::to_owned).collect();
            (names, text.replace('\n', " "))
        });
        items.collect()
    };
    let parts = [items(of_flows), items(of_expectations)];
    let mut named = BTreeSet::new();
    for row in TABLE {
        let name = match row.attribute.strip_prefix("ICMP type, ") {
            // A comma separates names.
            Some(_) => "ICMP type and id",
            None => row.attribute.trim_start_matches("reply ICMP type, code and id"),
        };
        if name.is_empty() {
            continue;
        }
        let of_expectation = row.kinds == ["expectation"];
        let part = &parts[usize::from(of_expectation)];
        let item = part.iter().find(|(names, text)| {
            names.iter().any(|other| other == name) && text.contains(row.reason)
        });
        let (_, text) = item.unwrap_or_else(|| panic!("no item for `{name}': {}", row.reason));
        let restored = matches!(row.fate, Fate::Restored | Fate::Counted);
        assert_eq!(text.starts_with("As "), restored, "`{name}': {text}");
        named.insert((of_expectation, name.to_owned()));
    }
    let wanted: BTreeSet<_> = parts
        .iter()
        .enumerate()
        .flat_map(|(at, part)| part.iter().map(move |item| (at == 1, item)))
        .flat_map(|(at, (names, _))| names.iter().map(move |name| (at, name.clone())))
        .collect();
    assert_eq!(named, wanted, "the table and the manual name the same");
}
