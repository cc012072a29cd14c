//! The original and ours in turns, on the same machine and in the same minutes.

use std::io;
use std::time::{Duration, Instant};

use proto_ctnl::Flow;
use shardtrack_tests::cond::wait_until;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::TableSize;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup};
use shardtrack_tests::privilege;

use crate::report::{self, Comparison, Figures};
use crate::{Options, bare};

/// Events per second while CPU time is measured: what the original bears without an overrun.
const RATE: u32 = 60_000;
const LIMIT: Duration = Duration::from_secs(120);

/// Measures all rounds and prints the medians.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    if !privilege::owns_machine() {
        return Err(io::Error::other("needs root, and nf_conntrack_max must be ours to raise"));
    }
    let _size = TableSize::at_least(u64::from(options.flows) + 100_000)?;
    let rate = options.rate.unwrap_or(RATE);
    let makes = [Make::Original, if options.original { Make::Original } else { Make::Ours }];
    let mut figures = [Vec::new(), Vec::new()];
    let mut floors = [Vec::new(), Vec::new()];
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        for (make, figures) in makes.into_iter().zip(&mut figures) {
            let measured = measure(make, options, rate);
            println!("  {make:?}: {measured}");
            figures.push(measured);
        }
        for (listened, floors) in [false, true].into_iter().zip(&mut floors) {
            floors.push(bare::insert(options.flows, listened));
        }
        println!("  bare loop: {:?}", floors.each_ref().map(|floors| floors.last()));
    }
    let [original, ours] = figures.map(|figures| Figures::median(&figures));
    let floors = floors.map(report::median);
    let &Options { flows, rounds, hash_size, .. } = options;
    let text = Comparison { flows, rate, rounds, hash_size, original, ours, floors }.text();
    println!("\n{text}");
    if options.record {
        report::append(&text)?;
    }
    Ok(())
}

/// What a node calls its losses of events, in the answer to this request.
const OVERRUNS: (u32, &str) = (30, "netlink overrun:");

fn pair_of(make: Make, hash_size: u32) -> Pair {
    let mut setup = Setup::new(make, Mode::Ftfw, Link::Udp);
    // Unless told otherwise the original's chains are as short as they can be; its buffers are as
    // large as ours.
    setup.hash_size = hash_size;
    setup.event_buffer = 256 << 20;
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    pair
}

/// One pair of a make: replication of new flows from one to the other, then the first one fails
/// and the other commits. Then the same flows to a fresh pair, as fast as one core creates them.
fn measure(make: Make, options: &Options, rate: u32) -> Figures {
    let &Options { flows, hash_size, .. } = options;
    let mut pair = pair_of(make, hash_size);
    let table = plain(0, flows);
    let mut kernel = Kernel::of(&pair.a.ns);
    let before = (pair.a.cpu_time(), pair.b.cpu_time(), pair.b.resident());
    kernel.create_at(&table, rate);
    let all = u64::from(flows);
    wait_until(LIMIT, "the receiver knows every flow", || pair.b.cached(false) >= all);
    // Acknowledgements and what else follows belong to the price.
    std::thread::sleep(Duration::from_millis(1500));
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / f64::from(flows);
    let active = each(pair.a.cpu_time() - before.0);
    let backup = each(pair.b.cpu_time() - before.1);
    let memory = pair.b.resident().saturating_sub(before.2) as f64 / f64::from(flows);
    let steady_overruns = pair.a.counter(OVERRUNS.0, OVERRUNS.1).unwrap_or(0);
    // A firewall that has failed has no table. All namespaces share one hash table, in whose chains
    // its entries would stand.
    pair.a.kill9();
    kernel.flush();
    let (commit, commit_overruns) = commit(make, &pair.b, all);
    drop(pair);
    let (flood, flood_overruns) = flood(make, hash_size, &table);
    Figures {
        active,
        backup,
        memory,
        commit,
        flood,
        overruns: [steady_overruns, commit_overruns, flood_overruns],
    }
}

/// Seconds that a commit takes, and how often events were lost meanwhile.
fn commit(make: Make, node: &Node, all: u64) -> (f64, u64) {
    let begin = Instant::now();
    node.client(&["-c"]);
    let spent = begin.elapsed();
    let committed: u64 =
        node.ns.read_sysctl("net/netfilter/nf_conntrack_count").parse().unwrap_or(0);
    assert!(committed >= all, "only {committed} of {all} flows were committed by {make:?}");
    wait_until(LIMIT, "the node that committed knows its flows", || node.cached(true) >= all);
    (spent.as_secs_f64(), node.counter(OVERRUNS.0, OVERRUNS.1).unwrap_or(0))
}

/// Seconds from the first of the events until both nodes know all flows, and how often events were
/// lost.
fn flood(make: Make, hash_size: u32, table: &[Flow]) -> (f64, u64) {
    let pair = pair_of(make, hash_size);
    let all = table.len() as u64;
    let begin = Instant::now();
    Kernel::of(&pair.a.ns).create(table);
    wait_until(LIMIT, "both nodes know every flow", || {
        pair.a.cached(true) >= all && pair.b.cached(false) >= all
    });
    (begin.elapsed().as_secs_f64(), pair.a.counter(OVERRUNS.0, OVERRUNS.1).unwrap_or(0))
}
