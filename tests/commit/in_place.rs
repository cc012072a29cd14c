//! What exists is changed where it is: it keeps the time of its start, which a flow that is deleted
//! and made again does not.

use std::collections::BTreeMap;
use std::time::Duration;

use proto_ctnl::{Flow, Present};
use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::{Without, marked, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};

use crate::attributes::{Objects, flows};

const LIMIT: Duration = Duration::from_secs(20);
/// All of them get it.
const MARK: u32 = 0x77;

/// A running pair whose second node is configured so, with flows of every kind.
fn filled(mode_lines: &str) -> (Pair, Vec<Flow>) {
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut receiver = setup.clone();
    receiver.mode_lines = mode_lines.into();
    let mut pair = Pair::new(setup, receiver);
    for node in [&pair.a, &pair.b] {
        node.ns.sysctl("net/netfilter/nf_conntrack_timestamp", 1);
    }
    pair.start();
    let made = mixture(1500, Without { lost_keys: true }).flows;
    let translated = |flow: &&Flow| flow.orig.is_v6() && flow.present.has(Present::SNAT);
    assert!(made.iter().filter(translated).count() > 20, "too few of IPv6 are translated");
    Kernel::of(&pair.a.ns).create(&made);
    (pair, made)
}

fn change(pair: &Pair, made: &[Flow]) {
    let changed: Vec<_> = made.iter().map(|flow| marked(flow, MARK)).collect();
    Kernel::of(&pair.a.ns).update_at(&changed, 0);
}

fn starts(flows: &Objects) -> BTreeMap<&String, &String> {
    flows.iter().map(|(key, flow)| (key, &flow.attributes["start time"])).collect()
}

fn all_marked(flows: &Objects) -> bool {
    flows.values().all(|flow| flow.get("mark") == Some(&*MARK.to_string()))
}

#[track_caller]
fn assert_same_entries(before: &Objects, after: &Objects) {
    let (before, after) = (starts(before), starts(after));
    assert_eq!(before.len(), after.len());
    let replaced = before.iter().filter(|(key, start)| after.get(*key) != Some(start));
    let replaced: Vec<_> = replaced.map(|(key, _)| key).collect();
    assert!(replaced.is_empty(), "{} were replaced, as {}", replaced.len(), replaced[0]);
}

#[test]
fn an_injected_change_replaces_nothing() {
    need_root!();
    let _alone = alone();
    let (pair, made) = filled("DisableExternalCache on\n");
    let mut kernel = Kernel::of(&pair.b.ns);
    wait_equal(LIMIT, "flows in the kernel", &made.len(), || flows(&mut kernel).len());
    let before = flows(&mut kernel);
    change(&pair, &made);
    wait_until(LIMIT, "the changes arrive", || all_marked(&flows(&mut kernel)));
    assert_same_entries(&before, &flows(&mut kernel));
}

#[test]
fn a_commit_over_older_flows_replaces_nothing() {
    need_root!();
    let _alone = alone();
    let (pair, made) = filled("");
    let all = made.len() as u64;
    wait_equal(LIMIT, "flows of the backup", &all, || pair.b.cached(false));
    pair.b.client(&["-c"]);
    let mut kernel = Kernel::of(&pair.b.ns);
    let before = flows(&mut kernel);
    assert_eq!(before.len(), made.len());
    change(&pair, &made);
    let mark = format!("mark={MARK} ");
    wait_until(LIMIT, "the changes arrive", || {
        pair.b.client(&["-e"]).matches(&mark).count() == made.len()
    });
    pair.b.client(&["-c"]);
    let after = flows(&mut kernel);
    assert!(all_marked(&after));
    assert_same_entries(&before, &after);
}
