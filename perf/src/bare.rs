//! The floor of a commit: the same requests from a loop that does nothing else.

use std::io;
use std::time::{Duration, Instant};

use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::TableSize;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::BASE_RULES;

use crate::Options;

/// Prints the time of each round.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let _size = TableSize::at_least(u64::from(options.flows) + 1000)?;
    for _ in 0..options.rounds {
        let spent = insert(options.flows);
        println!(
            "bare loop: {} inserts in {:.3} s, {:.2} us each",
            options.flows,
            spent.as_secs_f64(),
            spent.as_secs_f64() * 1e6 / f64::from(options.flows)
        );
    }
    Ok(())
}

/// Time to insert flows into an empty namespace, where only the writer's own work and the
/// kernel's is done: 64 requests per send, one acknowledgement each.
pub(crate) fn insert(flows: u32) -> Duration {
    let ns = Netns::new("bare");
    ns.nft(BASE_RULES);
    let flows = plain(0, flows);
    let mut kernel = Kernel::of(&ns);
    let begin = Instant::now();
    kernel.create(&flows);
    let spent = begin.elapsed();
    kernel.flush();
    spent
}
