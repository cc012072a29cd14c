//! Whole daemons in a simulated world: two engines, each with a kernel of its own, and a bad link
//! between them, on one thread and in virtual time.
//!
//! A run is made from its seed: what kind of daemons, what goes wrong, what happens. First things
//! happen and go wrong; then nothing goes wrong any more, and within a bounded time everything
//! must agree. A run that fails prints its seed; `SHARDTRACK_SEED=<seed>` runs that one alone,
//! with `SHARDTRACK_STORY=<lines>` it tells what happened. The seeds are always the same unless
//! `SHARDTRACK_RUNS=<count>` asks for fresh ones.

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

use engine::command::{Request, Scope};
use network::Weather;
use proto_sync::Mode;
use settings::{Settings, Weights};
use world::World;

/// Lives in an ordinary run: some ten seconds on a loaded machine.
const RUNS: u64 = 25;

/// Seeds that once found something: a flow whose master's own master was missing, one whose master
/// had so little time left that a commit may leave it out or not, a request of a restarted node that
/// an acknowledgement of its former life took away, a silent flow that ran out at the very end, a mark
/// of which an event that was lost said that it is zero, messages that were written before their
/// flows were forgotten, with the cache or with a flushed table, and a node that asked for everything
/// again because of a request that it had given up before.
const FOUND: [u64; 8] = [
    700_172,
    1_795_998_192_090_994_020,
    99_000_000_284_000,
    99_000_000_223_004,
    123_000_000_041_009,
    99_000_000_168_003,
    555_000_136,
    1_796_039_969_034_259_392,
];

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

/// The number in a variable of the environment.
fn asked(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seeds to run: the one asked for, as many fresh ones as asked for, or the usual ones.
fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = asked("SHARDTRACK_SEED") {
        return seed..seed + 1;
    }
    let Some(count) = asked("SHARDTRACK_RUNS") else { return 1..1 + RUNS };
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let base = asked("SHARDTRACK_BASE")
        .unwrap_or_else(|| time.expect("after 1970").as_micros() as u64 * 1000);
    base..base + count
}

/// Flows end while the peer hears nothing, more than the resend queue has places for: the word of
/// their ends is given up, and must come when the peer is back.
#[test]
fn ends_that_a_partition_swallowed_are_told_when_it_is_over() {
    for seed in 0..6 {
        let mut settings = Settings::of(seed);
        settings.mode = Mode::Ftfw { ack_window: 3, resend_queue: 16 };
        settings.keys = 200;
        settings.limit = 2048;
        settings.weather = Weather::default();
        settings.weights = Weights { new: 1, ..Weights::default() };
        settings.lazy_events = false;
        let guard = Named(seed);
        let mut world = World::new(settings);
        world.run(world.now + Duration::from_secs(5), true);
        let keys: Vec<_> = world.kernels[0].table.keys().copied().collect();
        assert!(keys.len() > 20, "{} flows", keys.len());
        for id in 0..2 {
            world.network.cut(id, world.now + Duration::from_secs(60));
        }
        for key in &keys[..keys.len() - 4] {
            world.end_flow(0, *key);
        }
        world.run(world.now + Duration::from_secs(30), false);
        checker::verify(&world);
        checker::finish(&mut world);
        std::mem::forget(guard);
    }
}

/// While new flows are not heard of, one begins in the place of another, and the word of the other's
/// end waits behind more events than a turn takes. The table is read then, and what it says is newer.
#[test]
fn an_end_that_waited_does_not_end_what_the_table_showed() {
    for seed in 0..8 {
        let mut settings = Settings::of(seed);
        settings.shards = [1 + seed as usize % 2; 2];
        // Or all by one socket.
        settings.sorted = seed < 4;
        settings.keys = 200;
        settings.limit = 2048;
        settings.intake = usize::MAX;
        settings.weather = Weather::default();
        settings.weights = Weights { new: 1, ..Weights::default() };
        settings.lazy_events = false;
        (settings.stalls, settings.lost_answers, settings.broken_dumps) = (0, 0, 0);
        let guard = Named(seed);
        let mut world = World::new(settings);
        world.run(world.now + Duration::from_secs(5), true);
        world.kernels[0].keep_alive(world.now);
        world.run(world.now + Duration::from_secs(2), false);
        let keys: Vec<_> = world.kernels[0].table.keys().copied().collect();
        assert!(keys.len() > 20, "{} flows", keys.len());
        world.ask(0, Request::Commit(Scope::Flows));
        while world.node(0).hears_new() {
            world.run(world.now + Duration::from_micros(5), false);
        }
        for _ in 0..20_000 / keys.len() {
            for key in &keys {
                world.change(*key);
            }
        }
        for key in &keys[..5] {
            world.end_flow(0, *key);
            world.begin(*key);
        }
        world.kernels[0].keep_alive(world.now);
        checker::agree(&mut world);
        std::mem::forget(guard);
    }
}

#[test]
fn what_seeds_have_found_stays_mended() {
    for seed in FOUND {
        live(Settings::of(seed));
    }
}

#[test]
fn every_seed_converges() {
    for seed in seeds() {
        live(Settings::of(seed));
    }
}
