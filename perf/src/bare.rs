//! The floor of a commit: the same requests from a loop that does nothing else.

use std::io;
use std::time::{Duration, Instant};

use ::io::RequestSocket;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::TableSize;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::BASE_RULES;

use crate::Options;

/// `NFNLGRP_CONNTRACK_NEW`.
const NEW_FLOWS: u32 = 1;
/// Soon full: what is measured is that events are raised, not that they are taken.
const LISTENER_BYTES: u32 = 64 << 10;

/// Prints the time of each round.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let _size = TableSize::at_least(u64::from(options.flows) + 1000)?;
    for _ in 0..options.rounds {
        for listened in [false, true] {
            let spent = insert(options.flows, listened).as_secs_f64();
            println!(
                "bare loop, {}: {} inserts in {spent:.3} s, {:.2} us each",
                if listened { "events raised" } else { "no listener" },
                options.flows,
                spent * 1e6 / f64::from(options.flows)
            );
        }
    }
    Ok(())
}

/// Time to insert flows into an empty namespace, where only the writer's own work and the
/// kernel's is done: 64 requests per send, the last one acknowledged. The kernel raises events
/// only if somebody listens, anywhere on the machine; where a daemon runs, somebody does.
pub(crate) fn insert(flows: u32, listened: bool) -> Duration {
    let ns = Netns::new("bare");
    ns.nft(BASE_RULES);
    let _listener = listened.then(|| ns.enter(listen));
    let flows = plain(0, flows);
    let mut kernel = Kernel::of(&ns);
    let begin = Instant::now();
    kernel.create(&flows);
    let spent = begin.elapsed();
    kernel.flush();
    spent
}

fn listen() -> RequestSocket {
    let socket = RequestSocket::open(LISTENER_BYTES, 0).expect("a netlink socket");
    socket.subscribe(NEW_FLOWS).expect("events are ours to see");
    socket
}
