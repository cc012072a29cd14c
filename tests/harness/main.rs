//! The harness itself, tried with a pair of originals: what fails here fails everywhere.

#[cfg(test)]
mod tests {
    use shardtrack_tests::cond::wait_equal;
    use shardtrack_tests::need_root;
    use shardtrack_tests::netns::Netns;
    use shardtrack_tests::peer::{Link, Make, Mode, Pair};
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
}
