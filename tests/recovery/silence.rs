//! Flows that existed before the daemon: the kernel tells nobody when they change or end.

use std::time::{Duration, Instant};

use shardtrack_tests::cond::wait_until;
use shardtrack_tests::flows::{marked, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::table::{Masks, cache_lines};

const EVENTS: &str = "net/netfilter/nf_conntrack_events";
const FLOWS: u32 = 50_000;

/// A flow made while its namespace has no events is as silent as one made while nobody on the
/// machine listens: which nobody can be sure of where tests run beside each other.
fn make_silent(kernel: &mut Kernel, pair: &Pair, first: u32, count: u32) {
    pair.a.ns.sysctl(EVENTS, 0);
    kernel.create_at(&plain(first, count), 0);
    pair.a.ns.sysctl(EVENTS, 2);
}

#[test]
fn the_end_of_silent_flows_is_noticed() {
    need_root!();
    let _alone = alone();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut pair = Pair::new(setup.clone(), setup);
    let mut kernel = Kernel::of(&pair.a.ns);
    make_silent(&mut kernel, &pair, 0, FLOWS);
    pair.start();
    let all = u64::from(FLOWS);
    wait_until(Duration::from_secs(10), "both know the silent flows", || {
        pair.a.cached(true) == all && pair.b.cached(false) == all
    });
    let events = pair.a.counter(30, "events received:");
    let flows = plain(0, FLOWS);
    let gone: Vec<_> = flows.iter().step_by(2).copied().collect();
    kernel.delete_at(&gone, 0);
    let quarter = flows.iter().skip(1).step_by(4);
    let updated: Vec<_> = quarter.map(|flow| marked(flow, 5)).collect();
    kernel.update_at(&updated, 0);
    assert_eq!(pair.a.counter(30, "events received:"), events, "the flows are not silent");
    let begin = Instant::now();
    let left = all - gone.len() as u64;
    let know = |mark: bool| {
        let sent = cache_lines(&pair.a.client(&["-i"]), Masks { zero_mark: true, ..Masks::NONE });
        let got = cache_lines(&pair.b.client(&["-e"]), Masks { zero_mark: true, ..Masks::NONE });
        let marks = sent.iter().filter(|line| line.contains("mark=5")).count();
        (!mark || marks == updated.len()) && sent == got && sent.len() as u64 == left
    };
    wait_until(Duration::from_secs(60), "both caches agree with the kernel", || {
        pair.a.cached(true) == left && know(true)
    });
    println!("converged after {:.1} s", begin.elapsed().as_secs_f64());
}

#[test]
fn watching_silent_flows_costs_little_and_ends_with_them() {
    need_root!();
    let _alone = alone();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut pair = Pair::new(setup.clone(), setup);
    let mut kernel = Kernel::of(&pair.a.ns);
    make_silent(&mut kernel, &pair, 0, FLOWS);
    pair.start();
    let share = |pair: &Pair, seconds: u64| {
        let begin = (pair.a.cpu_time(), Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        (pair.a.cpu_time() - begin.0).as_secs_f64() / begin.1.elapsed().as_secs_f64()
    };
    std::thread::sleep(Duration::from_secs(3));
    let watching = share(&pair, 20);
    kernel.flush();
    wait_until(Duration::from_secs(60), "the flows are forgotten", || pair.a.cached(true) == 0);
    std::thread::sleep(Duration::from_secs(3));
    let idle = share(&pair, 10);
    let extra = watching - idle;
    println!("{:.3} % of a core while watching, {:.3} % idle", watching * 100.0, idle * 100.0);
    // Four hundredths of a core per million.
    let allowed = 0.04 * f64::from(FLOWS) / 1e6;
    assert!(extra <= allowed, "{extra:.5} of a core, {allowed:.5} allowed");
}

#[test]
fn flows_made_while_the_daemon_is_down_are_not_silent() {
    need_root!();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut pair = Pair::new(setup.clone(), setup);
    assert_eq!(pair.a.ns.read_sysctl(EVENTS), "2", "the kernel's default");
    pair.start();
    assert_eq!(pair.a.ns.read_sysctl(EVENTS), "1");
    assert!(pair.a.log().contains("nf_conntrack_events"), "it is not in the log");
    pair.a.kill9();
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&plain(0, 100));
    pair.a.start();
    wait_until(Duration::from_secs(10), "the flows are known", || pair.b.cached(false) == 100);
    kernel.flush();
    // At once, not by looking for silent ones.
    wait_until(Duration::from_secs(2), "their end is known", || pair.b.cached(false) == 0);
}
