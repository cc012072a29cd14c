//! The harness itself, tried with a pair of originals: what fails here fails everywhere.

#[cfg(test)]
mod tests {
    use shardtrack_tests::cond::wait_equal;
    use shardtrack_tests::flows::{Without, mixture};
    use shardtrack_tests::kernel::Kernel;
    use shardtrack_tests::need_root;
    use shardtrack_tests::netns::Netns;
    use shardtrack_tests::peer::{BASE_RULES, Link, Make, Mode, Pair};
    use shardtrack_tests::snapshot::{Ignore, Snapshot, expectations};
    use shardtrack_tests::table::{Masks, assert_same, cache_lines};
    use std::time::Duration;

    #[test]
    fn namespaces_vanish_with_a_panic() {
        need_root!();
        let name = std::sync::Mutex::new(String::new());
        let result = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let ns = Netns::new("panic");
                    *name.lock().unwrap() = ns.name().to_owned();
                    assert!(ns.path().exists());
                    panic!("on purpose");
                })
                .join()
        });
        assert!(result.is_err());
        let name = name.into_inner().unwrap();
        assert!(name.starts_with("shardtrack-"), "{name}");
        assert!(!std::path::Path::new("/run/netns").join(name).exists());
    }

    #[test]
    fn two_originals_replicate_a_flow() {
        need_root!();
        let pair = Pair::running(Make::Original, Make::Original, Mode::Ftfw, Link::Udp);
        pair.a.ns.run(
            "conntrack -I -p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1000 --dport 80 \
             --state ESTABLISHED -u ASSURED -t 1000 -m 7",
        );
        let limit = Duration::from_secs(5);
        wait_equal(limit, "flows sent", &1, || pair.a.cached(true));
        wait_equal(limit, "flows received", &1, || pair.b.cached(false));
        let sent = cache_lines(&pair.a.client(&["-i"]), Masks::NONE);
        let received = cache_lines(&pair.b.client(&["-e"]), Masks::NONE);
        assert_same(("internal", &sent), ("external", &received));
        assert!(pair.b.ns.run("conntrack -L").is_empty());
        pair.b.client(&["-c"]);
        assert!(pair.b.ns.run("conntrack -L").contains("ESTABLISHED"));
    }

    /// What the other tests rest on: the kernel really holds each kind that the mixture promises.
    #[test]
    fn the_mixture_is_one() {
        need_root!();
        let ns = Netns::new("mixture");
        ns.nft(BASE_RULES);
        let mut kernel = Kernel::of(&ns);
        let mixture = mixture(5000, Without::default());
        kernel.create(&mixture.flows);
        kernel.expect(&mixture.expectations);
        let snapshot = Snapshot::of(&mut kernel, Ignore::default());
        assert_eq!(snapshot.lines.len(), mixture.flows.len());
        assert_eq!(snapshot.timeouts.len(), mixture.flows.len());
        assert_eq!(expectations(&mut kernel).len(), mixture.expectations.len());
        let count = |what: &str| snapshot.lines.iter().filter(|line| line.contains(what)).count();
        // Protocols of both families, by the family's address attribute and the number.
        for protocol in ["06", "11", "88", "84", "2f", "02", "32", "59", "fd"] {
            for family in ["orig={1={1=", "orig={1={3="] {
                let number = format!("2={{1={protocol}");
                let lines = snapshot.lines.iter();
                let found = lines.filter(|l| l.starts_with(family) && l.contains(&number)).count();
                assert!(found > 10, "{found} flows of {family} {number}");
            }
        }
        assert!(count("2={1=01 ") > 10 && count("2={1=3a ") > 10, "ICMP, ICMPv6");
        for state in 0..10 {
            assert!(count(&format!("protoinfo=1.1:0{state}")) > 10, "TCP state {state}");
        }
        for state in 0..9 {
            assert!(count(&format!("protoinfo=3.1:0{state}")) > 10, "SCTP state {state}");
        }
        for part in ["mark=", "labels=", "zone=", "help=", "master=", "seq-orig=", "synproxy="] {
            assert!(count(part) > 10, "{part} of {:?}", snapshot.lines.first());
        }
        let conntrack = ns.run("conntrack -L -n") + &ns.run("conntrack -L -n -f ipv6");
        assert!(conntrack.lines().count() > 100, "source NAT");
        let conntrack = ns.run("conntrack -L -g") + &ns.run("conntrack -L -g -f ipv6");
        assert!(conntrack.lines().count() > 100, "destination NAT");
        kernel.flush();
        assert!(Snapshot::of(&mut kernel, Ignore::default()).lines.is_empty());
    }
}
