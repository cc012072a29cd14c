//! Flows that can not be restored whole: their helper or their master is missing here, their time has
//! run out, or they come before their master.

use std::collections::BTreeMap;
use std::time::Duration;

use proto_ctnl::{Flow, Name, Present, ProtoInfo, Status, Tcp, proto};
use proto_sync::Kind;
use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair};

use crate::attributes::{Object, Objects, expectations, flows};
use crate::kinds::{generations, half_carried};
use crate::teller::Teller;

const LIMIT: Duration = Duration::from_secs(10);

fn with_helper(mut flow: Flow, name: &str) -> Flow {
    flow.helper = Name::new(name.as_bytes()).expect("it fits");
    flow.present.insert(Present::HELPER);
    flow
}

fn with_master(mut flow: Flow, master: &Flow) -> Flow {
    flow.master = master.orig;
    flow.present.insert(Present::MASTER);
    flow.status = flow.status.with(Status::EXPECTED);
    flow
}

/// Flows of a table by the source port, in hexadecimal.
fn by_port(flows: &Objects) -> BTreeMap<String, &Object> {
    flows.values().map(|flow| (flow.attributes["ports"][..4].to_owned(), flow)).collect()
}

fn port(flow: &Flow) -> String {
    format!("{:04x}", flow.orig.l4.a)
}

/// Flows and what they lack in this kernel: nothing, a helper, a master, both.
fn reduced() -> [Flow; 4] {
    let made = plain(0, 4);
    let nowhere = plain(9, 1)[0];
    [
        with_helper(made[0], "ftp"),
        with_helper(made[1], "nosuch"),
        with_master(made[2], &nowhere),
        with_master(with_helper(made[3], "nosuch"), &nowhere),
    ]
}

fn assert_reduced(kernel: &mut Kernel) {
    let flows = flows(kernel);
    let there = by_port(&flows);
    let [whole, others @ ..] = reduced();
    assert_eq!(there[&port(&whole)].get("helper"), Some("ftp"));
    for flow in others {
        let there = there[&port(&flow)];
        for name in ["helper", "master", "expected"] {
            assert_eq!(there.get(name), None, "{there:?}");
        }
        assert_eq!(there.get("assured"), Some("yes"), "{there:?}");
    }
}

#[test]
fn what_a_kernel_lacks_costs_that_and_not_the_flow() {
    need_root!();
    let mut teller = Teller::new("");
    teller.tell(Kind::New, &reduced());
    wait_equal(LIMIT, "flows that were told", &4, || teller.node.cached(false));
    teller.node.client(&["-c"]);
    assert_reduced(&mut Kernel::of(&teller.node.ns));
    let commits = teller.figures("commits");
    let counts = ["committed", "without_helper", "without_master", "failed", "expired"];
    assert_eq!(counts.map(|name| commits[name].as_u64()), [4, 2, 2, 0, 0].map(Some), "{commits}");
    for line in ["2 entries without their helper", "2 entries without their master"] {
        teller.node.told(line);
    }
}

#[test]
fn what_a_kernel_lacks_costs_that_and_not_the_flow_without_a_cache() {
    need_root!();
    let mut teller = Teller::new("DisableExternalCache on\n");
    teller.tell(Kind::New, &reduced());
    // A master may come late, so those without one have to wait.
    let mut kernel = Kernel::of(&teller.node.ns);
    wait_equal(2 * LIMIT, "flows in the kernel", &4, || flows(&mut kernel).len());
    assert_reduced(&mut kernel);
    let injection = teller.figures("injection");
    let counts = ["without_helper", "without_master", "waited", "refused"];
    assert_eq!(counts.map(|name| injection[name].as_u64()), [2, 2, 2, 0].map(Some), "{injection}");
    assert_eq!(teller.figures("caches")["external"]["create_failed"], 0);

    // One that went in without is changed where it is.
    let changed = shardtrack_tests::flows::marked(&reduced()[2], 7);
    let changed = Flow { status: reduced()[2].status, ..changed };
    let before = flows(&mut kernel);
    teller.tell(Kind::Update, &[with_master(changed, &plain(9, 1)[0])]);
    let key = port(&changed);
    wait_until(LIMIT, "the change arrives", || {
        by_port(&flows(&mut kernel)).get(&key).is_some_and(|flow| flow.get("mark") == Some("7"))
    });
    let after = flows(&mut kernel);
    let identifier = |flows| by_port(flows)[&key].attributes["identifier"].clone();
    assert_eq!(identifier(&before), identifier(&after), "it was replaced");
}

/// Flows of a second, and whether they may live longer than was told: only traffic, which nobody
/// hears of, prolongs a flow, and only one that is established.
fn short() -> [(Flow, bool); 4] {
    let mut flows = [0, 1, 2, 3].map(|number| (plain(number, 1)[0], false));
    for (flow, _) in &mut flows[..3] {
        flow.timeout = 1;
    }
    // UDP that had one answer.
    flows[0].0.orig.proto = proto::UDP;
    flows[0].0.present.remove(Present::PROTOINFO);
    flows[0].0.status = Status::CONFIRMED.with(Status::SEEN_REPLY);
    // TCP that is closing.
    flows[1].0.protoinfo = ProtoInfo::Tcp(Tcp { state: 7, ..Tcp::default() });
    // Established.
    flows[2].1 = true;
    // One that has time left.
    flows[3].1 = true;
    flows
}

fn commit_late(mode_lines: &str) -> (Teller, BTreeMap<String, u32>) {
    let mut teller = Teller::new(mode_lines);
    teller.tell(Kind::New, &short().map(|(flow, _)| flow));
    wait_equal(LIMIT, "flows that were told", &4, || teller.node.cached(false));
    // The second, and one because seconds are whole ones.
    std::thread::sleep(Duration::from_millis(2100));
    teller.node.client(&["-c"]);
    let flows = flows(&mut Kernel::of(&teller.node.ns));
    let timeout = |flow: &Object| flow.attributes["timeout"].parse().expect("seconds");
    let left = by_port(&flows).into_iter().map(|(port, flow)| (port, timeout(flow))).collect();
    (teller, left)
}

#[test]
fn flows_whose_time_has_run_out_are_not_revived() {
    need_root!();
    let (teller, left) = commit_late("");
    for (flow, lives) in short() {
        assert_eq!(left.contains_key(&port(&flow)), lives, "{flow:?}");
    }
    let [_, _, (prolonged, _), (long, _)] = short();
    assert!((50..=60).contains(&left[&port(&prolonged)]), "{left:?}");
    let told = long.timeout;
    assert!((told - 60..told).contains(&left[&port(&long)]), "{left:?}");
    let commits = teller.figures("commits");
    assert_eq!((&commits["committed"], &commits["expired"]), (&2.into(), &2.into()), "{commits}");
    teller.node.told("2 entries left out, their time has run out");
}

#[test]
fn a_fixed_life_makes_no_difference_between_flows() {
    need_root!();
    // With it nodes do not tell how long flows live.
    let (teller, left) = commit_late("CommitTimeout 100\n");
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.values().all(|left| (90..=100).contains(left)), "{left:?}");
    assert_eq!(teller.figures("commits")["expired"], 0);
}

/// Number of the request behind `-c`, whose client fails if not all could be committed.
const COMMIT: u32 = 46;

#[test]
fn what_the_protocol_does_not_carry_of_expectations_is_known() {
    need_root!();
    let pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, Link::Udp);
    let (masters, expected) = half_carried();
    let mut sender = Kernel::of(&pair.a.ns);
    sender.create(&masters);
    sender.expect(&expected);
    wait_equal(LIMIT, "expectations of the backup", &2, || {
        pair.b.client(&["-e", "expect"]).lines().count()
    });
    pair.b.request(COMMIT);
    pair.b.told("1 expectations can't be committed");
    let translated = |ns| {
        let there = expectations(&mut Kernel::of(ns));
        there.values().map(|expect| expect.get("translation").is_some()).collect::<Vec<_>>()
    };
    assert_eq!(translated(&pair.a.ns).iter().filter(|translated| **translated).count(), 1);
    assert_eq!(translated(&pair.b.ns), [false], "that of IPv6, without its translation");
}

#[test]
fn what_comes_before_its_master_waits_for_it() {
    need_root!();
    let mut teller = Teller::new("DisableExternalCache on\n");
    let mut told = [generations(false, 300), generations(true, 301)].concat();
    for flow in &mut told {
        if flow.is_related() {
            flow.status = flow.status.with(Status::EXPECTED);
        }
    }
    told.reverse();
    teller.tell(Kind::New, &told);
    let mut kernel = Kernel::of(&teller.node.ns);
    wait_equal(LIMIT, "flows in the kernel", &told.len(), || flows(&mut kernel).len());
    let related = flows(&mut kernel).values().filter(|flow| flow.get("master").is_some()).count();
    assert_eq!(related, told.len() - 2);
    // A shard that is ahead of another has fewer to wait for.
    let injection = teller.figures("injection");
    assert!(injection["waited"].as_u64().is_some_and(|waited| waited >= 4), "{injection}");
    assert_eq!(injection["without_master"], 0);
    teller.tell(Kind::Delete, &told);
    wait_until(LIMIT, "their ends arrive", || flows(&mut kernel).is_empty());
}

/// Who injects has nothing left to commit but what is on its way, and nobody would ask what became of
/// that.
#[test]
fn a_commit_fails_if_the_kernel_refuses_what_is_on_its_way() {
    need_root!();
    let mut teller = Teller::new("DisableExternalCache on\n");
    let impossible = |flow: &Flow| Flow {
        protoinfo: ProtoInfo::Tcp(Tcp { state: 99, ..Tcp::default() }),
        ..*flow
    };
    let refused: Vec<_> = plain(0, 3000).iter().map(impossible).collect();
    let conf = teller.node.directory().join("conf");
    let mut commit = teller.node.ns.command(Make::Ours.program("conntrackd"));
    commit.arg("-C").arg(conf).arg("-c");
    assert!(commit.status().expect("it runs").success(), "nothing is on its way");
    wait_until(LIMIT, "a commit fails", || {
        let mut client = commit.spawn().expect("it runs");
        teller.tell(Kind::New, &refused);
        client.wait().expect("it ends").code() == Some(1)
    });
    teller.node.told("entries can't be committed");
    let failed = teller.figures("caches")["external"]["create_failed"].as_u64();
    assert!(failed.is_some_and(|failed| failed > 0), "the kernel refused them");
    wait_until(LIMIT, "a commit succeeds", || commit.status().expect("it runs").success());
}
