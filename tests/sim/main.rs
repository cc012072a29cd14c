//! Whole daemons in a simulated world: two engines, each with a kernel of its own, and a bad link
//! between them, on one thread and in virtual time.
//!
//! A run is made from its seed: what kind of daemons, what goes wrong, what happens. First things
//! happen and go wrong; then nothing goes wrong any more, and within a bounded time everything
//! must agree. A run that fails prints its seed; `SHARDTRACK_SEED=<seed>` runs that one alone,
//! with `SHARDTRACK_STORY=<lines>` it tells what happened.

#![cfg(test)]
#![forbid(unsafe_code)]

mod checker;
mod dump;
mod kernel;
mod network;
mod node;
mod settings;
mod traffic;
mod wire;
mod world;

use std::time::Duration;

use settings::Settings;
use world::World;

/// Runs a whole life.
fn live(settings: Settings) {
    let seed = settings.seed;
    let guard = Named(seed);
    let busy = settings.busy_secs as u64;
    let mut world = World::new(settings);
    for _ in 0..busy {
        let end = world.now + Duration::from_secs(1);
        world.run(end, true);
        checker::verify(&world);
    }
    checker::finish(&mut world);
    std::mem::forget(guard);
}

/// Says which run it was that panicked.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see this again: SHARDTRACK_SEED={}", self.0);
        }
    }
}

/// The seeds of a part of the runs: the one asked for, or fresh ones.
fn seeds(part: u64, count: u64) -> Vec<u64> {
    if let Ok(seed) = std::env::var("SHARDTRACK_SEED") {
        let seed = seed.parse().expect("SHARDTRACK_SEED is a number");
        return if part == 0 { vec![seed] } else { vec![] };
    }
    let count = std::env::var("SHARDTRACK_RUNS").map_or(count, |n| n.parse().expect("a number"));
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let base = std::env::var("SHARDTRACK_BASE").map_or_else(
        |_| time.expect("after 1970").as_nanos() as u64 / 1000 % 1_000_000_000_000 * 1000,
        |base| base.parse().expect("a number"),
    );
    let base = base + part * 1_000_000;
    (base..base + count).collect()
}

#[test]
fn fresh_seeds_converge() {
    for seed in seeds(0, 40) {
        live(Settings::of(seed));
    }
}
