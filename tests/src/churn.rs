//! Flows that begin, change and end at a steady rate for as long as it is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cond::{wait_for, wait_until};
use crate::flows::{marked, plain_flow};
use crate::kernel::Kernel;
use crate::netns::Netns;
use crate::pace::Pace;
use crate::peer::Pair;
use crate::snapshot::{Ignore, Snapshot};
use crate::table::{Lines, Masks, cache_lines, difference};

/// Flows that are alive at a time, once there are so many.
pub const ALIVE: u32 = 20_000;
/// Flows that differ from each other; after them the first ones come again.
const DISTINCT: u32 = 1 << 20;
/// Flows that are made, marked and ended in turn.
const BLOCK: u32 = 500;

/// How long a busy machine may take for some thousand of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// A thread that keeps the flows of a namespace changing. Ends when dropped.
#[derive(Debug)]
pub struct Churn {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    /// Starts in a namespace, with so many operations per second.
    ///
    /// # Panics
    /// If the namespace gives no netlink socket.
    pub fn start(ns: &Netns, rate: u32) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut kernel = Kernel::of(ns);
        let (stopping, count) = (stop.clone(), made.clone());
        let thread = std::thread::spawn(move || {
            let mut first = 0_u32;
            let mut pace = Pace::new(rate);
            while !stopping.load(Ordering::Relaxed) {
                let flows: Vec<_> = (0..BLOCK).map(|i| flow(first + i)).collect();
                kernel.create_paced(&flows, &mut pace);
                let made = count.fetch_add(u64::from(BLOCK), Ordering::Relaxed);
                let updated: Vec<_> = flows.iter().map(|flow| marked(flow, first + 1)).collect();
                kernel.update_paced(&updated, &mut pace);
                if made >= u64::from(ALIVE) {
                    let oldest = (first + DISTINCT - ALIVE) % DISTINCT;
                    let old: Vec<_> = (0..BLOCK).map(|i| flow(oldest + i)).collect();
                    kernel.delete_paced(&old, &mut pace);
                }
                first = (first + BLOCK) % DISTINCT;
            }
        });
        Self { stop, made, thread: Some(thread) }
    }

    /// Waits until so many flows have been made since the start.
    ///
    /// # Panics
    /// If that takes long.
    #[track_caller]
    pub fn reach(&self, flows: u64) {
        let made = || self.made.load(Ordering::Relaxed) >= flows;
        wait_until(PATIENCE, "the flows change", made);
    }

    /// Ends it and tells how many flows were made.
    ///
    /// # Panics
    /// If the kernel had refused something.
    #[track_caller]
    pub fn stop(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the kernel takes every flow");
        }
        self.made.load(Ordering::Relaxed)
    }
}

/// Numbers behind [`DISTINCT`] are the first ones again.
fn flow(number: u32) -> proto_ctnl::Flow {
    plain_flow(number % DISTINCT)
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What differs, within `limit`, between the kernel of node `a`, its cache, and what `b` has from
/// it; `None` if nothing does. `lossy` forgives that `b` keeps what ended while no link worked, as
/// without acknowledgements it does.
pub fn apart(pair: &Pair, limit: Duration, lossy: bool) -> Option<String> {
    let mut kernel = Kernel::of(&pair.a.ns);
    let table = Snapshot::of(&mut kernel, Ignore::default()).lines.len() as u64;
    wait_for(limit, || {
        let (own, other) = (pair.a.cached(true), pair.b.cached(false));
        (own == table && (other == table || (lossy && other > table))).then_some(())
    });
    // The counts may agree before the last states are there.
    let mut differing = None;
    wait_for(limit, || {
        differing = differing_now(pair, table, lossy);
        differing.is_none().then_some(())
    });
    differing
}

fn differing_now(pair: &Pair, table: u64, lossy: bool) -> Option<String> {
    let masks = Masks { zero_mark: true, ..Masks::NONE };
    let sent = cache_lines(&pair.a.client(&["-i"]), masks);
    let mut received = cache_lines(&pair.b.client(&["-e"]), masks);
    if lossy {
        received = received.intersection(&sent).cloned().collect::<Lines>();
    }
    if sent.len() as u64 != table {
        return Some(format!("the kernel has {table} flows, the sender's cache {}", sent.len()));
    }
    difference(("-i of the sender", &sent), ("-e of the receiver", &received), 4)
}
