//! Flows that existed before the daemon: the kernel tells nobody when they change or end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proto_ctnl::{Flow, FlowRef, Messages};
use serde_json::Value;
use shardtrack_tests::cond::wait_until;
use shardtrack_tests::flows::{marked, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::proc::own_cpu_time;

const EVENTS: &str = "net/netfilter/nf_conntrack_events";
const FLOWS: u32 = 50_000;
/// In which each silent flow is looked at once.
const PERIOD: Duration = Duration::from_secs(47);

/// A flow made while its namespace has no events is as silent as one made while nobody on the
/// machine listens: which nobody can be sure of where tests run beside each other.
fn make_silent(kernel: &mut Kernel, pair: &Pair, first: u32, count: u32) {
    pair.a.ns.sysctl(EVENTS, 0);
    kernel.create_at(&plain(first, count), 0);
    pair.a.ns.sysctl(EVENTS, 2);
}

/// What identifies a flow here, and what changes: all flows are TCP over IPv4.
type Known = BTreeSet<[String; 4]>;

/// What the kernel has.
fn in_kernel(kernel: &mut Kernel) -> Known {
    let mut known = Known::new();
    let visit = |bytes: &[u8]| {
        let message = Messages::new(bytes).next().unwrap().unwrap();
        let mut flow = Flow::default();
        FlowRef::parse(&message).unwrap().write_to(&mut flow).unwrap();
        let [src, dst] = [flow.orig.src, flow.orig.dst].map(|address| address.to_string());
        known.insert([src, dst, flow.orig.l4.a.to_string(), flow.mark.to_string()]);
    };
    kernel.read_whole(|batch| batch.dump(), visit);
    known
}

/// What a daemon prints of a cache.
fn printed(dump: &str) -> Known {
    let word = |line: &str, key: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(key));
        value.unwrap_or("0").to_owned()
    };
    dump.lines()
        .map(|line| ["src=", "dst=", "sport=", "mark="].map(|key| word(line, key)))
        .collect()
}

/// How often node A found that events had been off.
fn events_off(pair: &Pair) -> u64 {
    let figures: Value = serde_json::from_str(&pair.a.client(&["-s", "json"])).expect("JSON");
    figures["engine"]["events_off"].as_u64().expect("a number")
}

#[test]
fn the_end_of_silent_flows_is_noticed() {
    need_root!();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut pair = Pair::new(setup.clone(), setup);
    let mut kernel = Kernel::of(&pair.a.ns);
    make_silent(&mut kernel, &pair, 0, FLOWS);
    pair.start();
    let all = u64::from(FLOWS);
    wait_until(Duration::from_secs(20), "both know the silent flows", || {
        pair.a.cached(true) == all && pair.b.cached(false) == all
    });
    let events = pair.a.counter(30, "events received:");
    let flows = plain(0, FLOWS);
    let gone: Vec<_> = flows.iter().step_by(2).copied().collect();
    kernel.delete_at(&gone, 0);
    let quarter = flows.iter().skip(1).step_by(4);
    let updated: Vec<_> = quarter.map(|flow| marked(flow, 5)).collect();
    kernel.update_at(&updated, 0);
    let begin = Instant::now();
    assert_eq!(pair.a.counter(30, "events received:"), events, "the flows are not silent");
    let now = in_kernel(&mut kernel);
    let changed = now.iter().filter(|[.., mark]| mark == "5").count();
    assert_eq!((now.len(), changed), (flows.len() - gone.len(), updated.len()));
    let left = now.len() as u64;
    wait_until(Duration::from_secs(60), "both caches agree with the kernel", || {
        pair.a.cached(true) == left
            && pair.b.cached(false) == left
            && printed(&pair.a.client(&["-i"])) == now
            && printed(&pair.b.client(&["-e"])) == now
    });
    println!("converged after {:.1} s", begin.elapsed().as_secs_f64());
}

/// The kernel finds a flow with a zone of its original direction in that zone only. Such flows were
/// looked for in none, and passed for ended.
#[test]
fn silent_flows_with_a_zone_of_one_direction_stay() {
    need_root!();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut pair = Pair::new(setup.clone(), setup);
    let tool = Make::Ours.program("conntrack");
    let all = 30;
    pair.a.ns.sysctl(EVENTS, 0);
    for n in 0..all {
        let zone = ["--orig-zone 5", "--reply-zone 6", "-w 7"][n as usize % 3];
        let flow = "-I -p udp -d 10.2.0.1 --sport 7 --dport 8 -t 600";
        pair.a.ns.run(&format!("{} {flow} -s 10.1.0.{n} {zone}", tool.display()));
    }
    pair.a.ns.sysctl(EVENTS, 2);
    pair.start();
    wait_until(Duration::from_secs(20), "both know the silent flows", || {
        pair.a.cached(true) == all && pair.b.cached(false) == all
    });
    // They are asked for at once, to see which are silent.
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(6) {
        assert_eq!(pair.a.cached(true), all, "after {:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How much slower the machine is now than the one that the limit was set on, by what asking the
/// kernel for a flow costs: 3.8 µs there. Whoever shares caches or a core with us slows that down
/// as much as what is measured. Never below one.
fn slowness(kernel: &mut Kernel, flows: &[Flow]) -> f64 {
    let begin = own_cpu_time().expect("the scheduler counts");
    let failed = kernel.each(flows, 0, |batch, flow| batch.get(&flow.orig));
    let took = own_cpu_time().expect("the scheduler counts") - begin;
    assert!(failed.is_empty(), "{} flows are missing", failed.len());
    (took.as_secs_f64() / flows.len() as f64 / 3.8e-6).max(1.0)
}

/// The share of a core that the daemon took in a window. `work` is done from time to time.
fn share(pair: &Pair, window: Duration, mut work: impl FnMut()) -> f64 {
    let begin = (pair.a.cpu_time(), Instant::now());
    while begin.1.elapsed() < window {
        std::thread::sleep(window / 8);
        work();
    }
    (pair.a.cpu_time() - begin.0).as_secs_f64() / begin.1.elapsed().as_secs_f64()
}

#[test]
fn watching_silent_flows_costs_little_and_ends_with_them() {
    need_root!();
    let _alone = alone();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut pair = Pair::new(setup.clone(), setup);
    let mut kernel = Kernel::of(&pair.a.ns);
    make_silent(&mut kernel, &pair, 0, FLOWS);
    let sample = plain(0, 4000);
    pair.start();
    std::thread::sleep(Duration::from_secs(3));
    let idle = {
        // As much is going on as later, but nothing to be watched.
        let mut idle = Pair::new(pair.a.setup.clone(), pair.b.setup.clone());
        idle.start();
        std::thread::sleep(Duration::from_secs(3));
        share(&idle, Duration::from_secs(8), || ())
    };
    let per_million = 0.04;
    let mut cheap = false;
    for _ in 0..3 {
        let mut slow = Vec::new();
        let watching = share(&pair, PERIOD, || slow.push(slowness(&mut kernel, &sample)));
        let slow = slow.iter().sum::<f64>() / slow.len() as f64;
        let extra = (watching - idle) / f64::from(FLOWS) * 1e6;
        println!(
            "{:.2} % of a core per million flows, {:.3} % idle, machine {slow:.2} times slower",
            extra * 100.0,
            idle * 100.0
        );
        assert!(extra > 0.002, "nobody watches");
        cheap = extra <= per_million * slow;
        if cheap {
            break;
        }
    }
    assert!(cheap, "more than {:.0} % of a core per million silent flows", per_million * 100.0);
    kernel.flush();
    wait_until(Duration::from_secs(60), "the flows are forgotten", || pair.a.cached(true) == 0);
    wait_until(Duration::from_secs(90), "nothing is watched any more", || {
        share(&pair, Duration::from_secs(8), || ()) <= idle * 1.5
    });
}

#[test]
fn flows_made_while_the_daemon_is_down_are_not_silent() {
    need_root!();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut pair = Pair::new(setup.clone(), setup);
    assert_eq!(pair.a.ns.read_sysctl(EVENTS), "2", "the kernel's default");
    pair.start();
    assert_eq!(pair.a.ns.read_sysctl(EVENTS), "1");
    pair.a.told("nf_conntrack_events");
    pair.a.kill9();
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&plain(0, 100));
    pair.a.start();
    wait_until(Duration::from_secs(10), "the flows are known", || pair.b.cached(false) == 100);
    kernel.flush();
    // At once, not by looking for silent ones.
    wait_until(Duration::from_secs(2), "their end is known", || pair.b.cached(false) == 0);
}

/// Somebody else's switch, of which nobody is told: flows that began meanwhile were found only when
/// silent ones were counted, 40 s later.
#[test]
fn events_that_are_switched_off_are_switched_on_again() {
    need_root!();
    for (mode, mode_lines) in [(Mode::Ftfw, ""), (Mode::Notrack, "DisableInternalCache on\n")] {
        let mut setup = Setup::new(Make::Ours, mode, Link::Udp);
        let receiving = setup.clone();
        setup.mode_lines = mode_lines.into();
        let mut pair = Pair::new(setup, receiving);
        pair.start();
        let mut kernel = Kernel::of(&pair.a.ns);
        kernel.create_at(&plain(0, 100), 0);
        wait_until(Duration::from_secs(10), "flows are told", || pair.b.cached(false) == 100);
        pair.a.ns.sysctl(EVENTS, 0);
        kernel.create_at(&plain(100, 100), 0);
        wait_until(Duration::from_secs(5), "those of that time too", || {
            pair.b.cached(false) == 200
        });
        assert_eq!(pair.a.ns.read_sysctl(EVENTS), "1");
        pair.a.told("nf_conntrack_events was 0 and is set to 1 again");
        assert_eq!(events_off(&pair), 1);
    }
}

#[test]
fn events_that_must_not_be_switched_on_are_told_to_be_off() {
    need_root!();
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.engine += "EventsSysctl off\n";
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    pair.a.ns.sysctl(EVENTS, 0);
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create_at(&plain(0, 100), 0);
    pair.a.told("nf_conntrack_events is 0, nothing is heard of flows that begin now");
    assert_eq!(pair.a.ns.read_sysctl(EVENTS), "0", "it is forbidden");
    pair.a.ns.sysctl(EVENTS, 2);
    wait_until(Duration::from_secs(5), "what began is told", || pair.b.cached(false) == 100);
    assert_eq!(pair.a.log().matches("nf_conntrack_events is 0").count(), 1, "it is told once");
    assert_eq!(events_off(&pair), 1);
}
