//! A pair whose flows change all the time, and what is wrong with it after a while.

use std::fmt::Write as _;
use std::time::Duration;

use crate::churn::{Churn, apart};
use crate::peer::{Link, Make, Mode, Pair};

/// Bytes that a daemon may grow by after its first minute: pages that the allocator touches late,
/// a tenth of what a leak of one octet per event amounts to in ten minutes.
pub const GROWTH_MAX: u64 = 1 << 20;
/// After how long memory is taken as the measure, unless the whole time is shorter than thrice that.
const WARM: Duration = Duration::from_secs(60);
/// From the last change to equal tables.
const CONVERGE: Duration = Duration::from_secs(30);

/// What a soak found.
#[derive(Debug)]
pub struct Outcome {
    /// Flows that were made.
    pub flows: u64,
    /// Resident bytes of the sender and of the receiver, warm.
    pub warm: [u64; 2],
    /// The same at the end.
    pub last: [u64; 2],
    /// How often events were lost.
    pub overruns: u64,
    /// Lines of errors in the logs.
    pub errors: Vec<String>,
    /// What differs between the kernel, the sender and the receiver.
    pub apart: Option<String>,
}

impl Outcome {
    /// Has flows change for `time`, at `rate` events per second.
    ///
    /// # Panics
    /// If the pair does not start.
    pub fn of(mode: Mode, time: Duration, rate: u32) -> Self {
        let pair = Pair::running(Make::Ours, Make::Ours, mode, Link::Udp);
        let nodes = [&pair.a, &pair.b];
        let mut churn = Churn::start(&pair.a.ns, rate);
        let warm_up = WARM.min(time / 3);
        std::thread::sleep(warm_up);
        let warm = nodes.map(|node| node.resident());
        std::thread::sleep(time - warm_up);
        let last = nodes.map(|node| node.resident());
        let flows = churn.stop();
        let apart = apart(&pair, CONVERGE, false);
        let errors = nodes.map(|node| {
            let log = node.log();
            log.lines().filter(|line| line.contains("[ERROR]")).map(str::to_owned).collect()
        });
        let errors: [Vec<String>; 2] = errors;
        let overruns = nodes.map(|node| node.counter(30, "netlink overrun:").unwrap_or(0));
        Self { flows, warm, last, overruns: overruns.iter().sum(), errors: errors.concat(), apart }
    }

    /// Why it is not as it should be, line by line; empty if it is.
    pub fn faults(&self) -> String {
        let mut text = String::new();
        for (name, (warm, last)) in
            ["sender", "receiver"].into_iter().zip(self.warm.into_iter().zip(self.last))
        {
            let grown = last.saturating_sub(warm);
            if grown > GROWTH_MAX {
                let _ = writeln!(text, "the {name} has grown by {grown} bytes from {warm}");
            }
        }
        for line in self.errors.iter().take(20) {
            let _ = writeln!(text, "{line}");
        }
        text + self.apart.as_deref().unwrap_or_default()
    }
}
