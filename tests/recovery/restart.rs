//! A receiver that is killed in the middle of everything and comes back.

use std::collections::HashSet;
use std::time::Duration;

use proto_ctnl::Flow;
use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::{marked, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup};
use shardtrack_tests::table::{Masks, assert_same, cache_lines};

/// How long a node may take to converge after its return.
const CONVERGE: Duration = Duration::from_secs(10);
const FLOWS: u32 = 100_000;

fn converges(mode: Mode, link: Link, kill_sender: bool) {
    let setup = Setup::new(Make::Ours, mode, link);
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let flows = plain(0, FLOWS);
    let (before, during) = flows.split_at(flows.len() / 2);
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create_at(before, 50_000);
    let victim = if kill_sender { &mut pair.a } else { &mut pair.b };
    victim.kill9();
    // Not a moment of quiet while it is away.
    kernel.create_at(during, 50_000);
    let updated: Vec<_> = flows.iter().step_by(3).map(|flow| marked(flow, 9)).collect();
    kernel.update_at(&updated, 50_000);
    let gone: Vec<_> = flows.iter().step_by(4).copied().collect();
    kernel.delete_at(&gone, 50_000);
    let victim = if kill_sender { &mut pair.a } else { &mut pair.b };
    victim.start();
    let left = (flows.len() - gone.len()) as u64;
    // A sender that comes back does not know what ended while it was away, and nothing it could
    // say removes that from the receiver: it stays there until it is flushed.
    let missed = if kill_sender { before.iter().step_by(4).count() as u64 } else { 0 };
    wait_until(CONVERGE, "the receiver knows what is left", || {
        pair.a.cached(true) == left && (left..=left + missed).contains(&pair.b.cached(false))
    });
    let mut sent = cache_lines(&pair.a.client(&["-i"]), Masks { zero_mark: true, ..Masks::NONE });
    let received = cache_lines(&pair.b.client(&["-e"]), Masks { zero_mark: true, ..Masks::NONE });
    if kill_sender {
        let ended: HashSet<(String, String)> = gone
            .iter()
            .map(|flow| (format!("src={}", flow.orig.src), format!("sport={}", flow.orig.l4.a)))
            .collect();
        let word = |line: &str, key: &str| {
            line.split(' ').find(|word| word.starts_with(key)).unwrap_or_default().to_owned()
        };
        let stale = |line: &&String| ended.contains(&(word(line, "src="), word(line, "sport=")));
        sent.extend(received.iter().filter(stale).cloned());
    }
    assert_same(("the sender", &sent), ("the receiver", &received));
}

macro_rules! restarts {
    ($($name:ident: $mode:ident over $link:ident, sender: $sender:literal;)*) => {$(
        #[test]
        fn $name() {
            need_root!();
            converges(Mode::$mode, Link::$link, $sender);
        }
    )*};
}

restarts! {
    a_killed_receiver_converges_ftfw_udp: Ftfw over Udp, sender: false;
    a_killed_receiver_converges_notrack_udp: Notrack over Udp, sender: false;
    a_killed_receiver_converges_notrack_tcp: Notrack over Tcp, sender: false;
    a_killed_sender_converges_ftfw_udp: Ftfw over Udp, sender: true;
}

/// A killed daemon leaves files behind; they must not stop the next start.
#[test]
fn what_a_killed_daemon_left_does_not_stop_the_next() {
    need_root!();
    let mut pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, Link::Udp);
    for _ in 0..3 {
        pair.a.kill9();
        pair.a.keep_files = true;
        pair.a.start();
    }
    assert!(pair.a.client(&["-s"]).contains("cache internal:"));
}

/// Without an external cache a node that starts takes the flows of its peer in the kernel for its own.
/// What the peer then ended stayed in its cache for ever, from where everything is told to a peer that
/// asks for it.
#[test]
fn what_the_peer_ended_is_not_told_back_to_it() {
    need_root!();
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.mode_lines = "DisableExternalCache on\n".into();
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let flows = plain(0, 1000);
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&flows);
    wait_until(CONVERGE, "the peer's kernel has them", || {
        pair.b.ns.read_sysctl("net/netfilter/nf_conntrack_count").parse().unwrap_or(0) >= 1000
    });
    pair.b.kill9();
    pair.b.start();
    wait_equal(CONVERGE, "flows read at the start", &1000, || pair.b.cached(true));
    kernel.delete_at(&flows[..500], 50_000);
    wait_equal(CONVERGE, "flows that are left", &500, || pair.b.cached(true));
}

/// A flow of the peer that was taken for an own one stayed in the cache as it had been read, however
/// the peer changed it.
#[test]
fn what_the_peer_changed_is_not_kept_as_it_was() {
    need_root!();
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.mode_lines = "DisableExternalCache on\n".into();
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let flows = plain(0, 1000);
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&flows);
    wait_until(CONVERGE, "the peer's kernel has them", || {
        pair.b.ns.read_sysctl("net/netfilter/nf_conntrack_count").parse().unwrap_or(0) >= 1000
    });
    pair.b.kill9();
    pair.b.start();
    wait_equal(CONVERGE, "flows read at the start", &1000, || pair.b.cached(true));
    let marked: Vec<_> = flows[..500].iter().map(|flow| marked(flow, 7)).collect();
    kernel.update_at(&marked, 50_000);
    wait_equal(CONVERGE, "changed flows in the cache", &500, || {
        pair.b.client(&["-i"]).matches(" mark=7 ").count()
    });
    assert_eq!(pair.b.cached(true), 1000);
}

/// A flow of which packets come goes on at the peer, and its copy here runs out: nobody tells of the
/// packets. The copy was taken for an own flow, and the end of it ended the flow at the peer.
#[test]
fn what_runs_out_here_goes_on_at_the_peer() {
    need_root!();
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.mode_lines = "DisableExternalCache on\n".into();
    let mut pair = Pair::new(setup.clone(), setup);
    pair.start();
    let of_timeout = |timeout| {
        plain(0, 100).into_iter().map(move |flow| Flow { timeout, ..flow }).collect::<Vec<_>>()
    };
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&of_timeout(9));
    let count = |node: &Node| -> u32 {
        node.ns.read_sysctl("net/netfilter/nf_conntrack_count").parse().unwrap_or(0)
    };
    wait_until(CONVERGE, "the peer's kernel has them", || count(&pair.b) >= 100);
    pair.b.kill9();
    let bulks = |node: &Node| node.log().matches("sending bulk update").count();
    let before = bulks(&pair.b);
    pair.b.start();
    wait_equal(CONVERGE, "flows read at the start", &100, || pair.b.cached(true));
    wait_until(CONVERGE, "all that is not the peer's was told", || bulks(&pair.b) > before);
    // Packets are told to nobody; a request is, unless the link loses it.
    pair.a.ns.run("nft add table ip lose");
    pair.a.ns.run("nft add chain ip lose out { type filter hook output priority 0; policy drop; }");
    kernel.update_at(&of_timeout(600), 0);
    // The kernel looks for such in its own time.
    wait_until(Duration::from_secs(60), "the copies have run out", || pair.b.cached(true) == 0);
    pair.a.ns.run("nft delete table ip lose");
    kernel.create(&plain(100, 1));
    wait_until(CONVERGE, "the link is in use again", || count(&pair.b) > 0);
    assert_eq!(count(&pair.a), 101);
}
