//! Clients of a running daemon: some that do not read, and the flush that comes later.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::snapshot::{Ignore, Snapshot};

const LIMIT: Duration = Duration::from_secs(10);
/// Requests of the control protocol.
const DUMP_INTERNAL: u32 = 16;
const RUNTIME: u32 = 30;

#[test]
fn clients_that_do_not_read_hold_up_nobody() {
    need_root!();
    let pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, Link::Udp);
    Kernel::of(&pair.a.ns).create_at(&plain(0, 50_000), 50_000);
    wait_equal(LIMIT, "flows of the sender", &50_000, || pair.a.cached(true));
    let stuck: Vec<_> = (0..200)
        .filter_map(|_| {
            let mut client = UnixStream::connect(pair.a.directory().join("ctl")).ok()?;
            client.write_all(&DUMP_INTERNAL.to_ne_bytes()).ok()?;
            Some(client)
        })
        .collect();
    assert!(stuck.len() > 100);
    for _ in 0..3 {
        let begin = Instant::now();
        let answered = || pair.a.request(RUNTIME).is_some_and(|text| text.contains("uptime"));
        wait_until(LIMIT, "another client is answered", answered);
        assert!(begin.elapsed() < Duration::from_secs(5), "after {:?}", begin.elapsed());
    }
    let figures = pair.a.client(&["-s", "engine"]);
    let dropped = figures.lines().find_map(|line| line.strip_prefix("clients dropped: "));
    assert!(dropped.is_some_and(|count| count != "0"), "{figures}");
    drop(stuck);
    assert_eq!(pair.a.client(&["-i"]).lines().count(), 50_000);
}

#[test]
fn a_delayed_flush_comes_later_or_is_called_off() {
    need_root!();
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.mode_lines = "PurgeTimeout 2\n".into();
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&plain(0, 100));
    wait_equal(LIMIT, "flows of the receiver", &100, || pair.b.cached(false));
    pair.a.client(&["-t"]);
    pair.a.client(&["-f", "internal"]);
    std::thread::sleep(Duration::from_secs(3));
    let count = |kernel: &mut Kernel| Snapshot::of(kernel, Ignore::default()).lines.len();
    assert_eq!(count(&mut kernel), 100, "it was called off");
    pair.a.client(&["-R"]);
    wait_equal(LIMIT, "flows of the sender", &100, || pair.a.cached(true));
    pair.a.client(&["-t"]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count(&mut kernel), 100, "not at once");
    wait_equal(LIMIT, "flows of the kernel", &0, || count(&mut kernel));
    assert_eq!(pair.a.cached(true), 0);
    assert_eq!(pair.b.cached(false), 100, "the other node is told nothing: it has them by now");
    pair.a.told("flushing conntrack table in 2 secs");
    pair.a.told("flushing kernel conntrack table (scheduled)");
}
