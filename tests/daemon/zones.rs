//! Flows that only their zones tell apart.

use std::time::Duration;

use shardtrack_tests::cond::wait_equal;
use shardtrack_tests::need_root;
use shardtrack_tests::netns;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};

const LIMIT: Duration = Duration::from_secs(20);

/// Where only the original direction has a zone, the kernel finds the original tuple in that. The second
/// flow of a tuple took the place of the first, and with either's end both were gone.
#[test]
fn a_zone_of_the_original_direction_tells_flows_apart() {
    need_root!();
    for before in [true, false] {
        let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
        let mut pair = Pair::new(setup.clone(), setup);
        let conntrack = |pair: &Pair, line: &str| {
            let mut command = pair.a.ns.command(Make::Ours.program("conntrack"));
            netns::run(command.args(line.split_whitespace()));
        };
        let make = |pair: &Pair| {
            for zone in 1..=2 {
                let orig = "-s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2";
                let reply = format!("-r 10.0.0.2 -q 10.9.0.{zone}");
                let ports = "--reply-port-src 2 --reply-port-dst 1";
                let line = format!("-I -p udp -t 600 {orig} {reply} {ports} --orig-zone {zone}");
                conntrack(pair, &line);
            }
        };
        if before {
            make(&pair);
        }
        pair.a.start();
        if !before {
            make(&pair);
        }
        wait_equal(LIMIT, "flows of both zones", &2, || pair.a.cached(true));
        conntrack(&pair, "-D -p udp -s 10.0.0.1 --orig-zone 1");
        wait_equal(LIMIT, "flows of the other zone", &1, || pair.a.cached(true));
        let listed = pair.a.client(&["-i"]);
        assert!(listed.contains(" zone-orig=2 "), "{before}: {listed}");
    }
}
