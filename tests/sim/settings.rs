//! What a run is like, drawn from its seed: each run leaves out a part of what can happen and
//! stresses another.

use proto_sync::Mode;
use shardtrack_tests::random::Random;

use crate::network::Weather;

/// How often something happens, relative to the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weights {
    pub(crate) new: u32,
    pub(crate) change: u32,
    pub(crate) end: u32,
    pub(crate) reuse: u32,
    pub(crate) refresh: u32,
    pub(crate) overrun: u32,
    pub(crate) cut: u32,
    pub(crate) crash: u32,
    pub(crate) resync: u32,
    pub(crate) request_resync: u32,
    pub(crate) bulk: u32,
    pub(crate) flush_external: u32,
    pub(crate) flush_internal: u32,
    pub(crate) flush_kernel: u32,
    pub(crate) takeover: u32,
    pub(crate) statistics: u32,
}

impl Weights {
    /// All of them.
    pub(crate) const fn list(&self) -> [u32; 16] {
        [
            self.new,
            self.change,
            self.end,
            self.reuse,
            self.refresh,
            self.overrun,
            self.cut,
            self.crash,
            self.resync,
            self.request_resync,
            self.bulk,
            self.flush_external,
            self.flush_internal,
            self.flush_kernel,
            self.takeover,
            self.statistics,
        ]
    }
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    pub(crate) shards: [usize; 2],
    /// Events are sorted by shard in the kernel.
    pub(crate) sorted: bool,
    /// Received flows go straight into the kernel.
    pub(crate) inject: bool,
    pub(crate) inject_queue: usize,
    pub(crate) commit_timeout: Option<u32>,
    /// Flows made while nobody listens are silent.
    pub(crate) lazy_events: bool,
    /// Flows per cache.
    pub(crate) limit: u32,
    /// Different flows there can be.
    pub(crate) keys: u32,
    /// Events that wait for one shard at most.
    pub(crate) intake: usize,
    /// Datagrams that wait for the hub at most.
    pub(crate) inbox: usize,
    pub(crate) weather: Weather,
    /// Seconds of the first phase.
    pub(crate) busy_secs: usize,
    /// Longest time between two actions, in microseconds.
    pub(crate) pause_us: usize,
    /// Most operations on flows in one action.
    pub(crate) burst: usize,
    pub(crate) weights: Weights,
    /// In thousandths: turns that a thread is late for, batches whose answers are lost, blocks of
    /// dumps that end it.
    pub(crate) stalls: u32,
    pub(crate) lost_answers: u32,
    pub(crate) broken_dumps: u32,
}

impl Settings {
    /// The settings of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut r = Random::new(seed ^ 0x5eed);
        let pick = |r: &mut Random, list: &[u32]| list[r.below(list.len())];
        let mode = if r.chance(700) {
            Mode::Ftfw {
                ack_window: pick(&mut r, &[1, 3, 20, 300]),
                resend_queue: pick(&mut r, &[4, 16, 200, 4096, 4096]),
            }
        } else {
            Mode::Notrack
        };
        let shards = [0, 1].map(|_| pick(&mut r, &[1, 2, 4]) as usize);
        let fair = r.chance(250);
        let weather = if fair {
            Weather::default()
        } else {
            Weather {
                loss: pick(&mut r, &[0, 10, 50, 150]),
                copies: pick(&mut r, &[0, 20, 50]),
                late: pick(&mut r, &[0, 10, 50]),
                late_ms: pick(&mut r, &[5, 300]) as usize,
            }
        };
        let keys = pick(&mut r, &[6, 40, 200]);
        let tight = r.chance(100);
        Self {
            seed,
            mode,
            shards,
            sorted: r.chance(700),
            inject: false,
            inject_queue: pick(&mut r, &[20, 8192]) as usize,
            commit_timeout: r.chance(400).then_some(180),
            // A silent flow that found no room is looked for by nobody.
            lazy_events: r.chance(400) && !tight,
            limit: if tight { keys / 2 } else { 2048 },
            keys,
            intake: pick(&mut r, &[30, 4096, 4096]) as usize,
            inbox: pick(&mut r, &[20, 2000, 2000]) as usize,
            weather,
            busy_secs: 3 + r.below(12),
            pause_us: pick(&mut r, &[2000, 20_000, 200_000]) as usize,
            burst: pick(&mut r, &[1, 5, 60]) as usize,
            weights: weights(&mut r, fair),
            stalls: pick(&mut r, &[0, 20, 200]),
            lost_answers: pick(&mut r, &[0, 0, 20]),
            broken_dumps: pick(&mut r, &[0, 0, 50]),
        }
    }
}

fn weights(r: &mut Random, fair: bool) -> Weights {
    let mut rare = |most: usize| if r.chance(350) { 1 + r.below(most) as u32 } else { 0 };
    let mut weights = Weights {
        new: 200,
        change: 200 + rare(600),
        end: 60 + rare(150),
        reuse: rare(100),
        refresh: rare(100),
        overrun: rare(8),
        cut: rare(5),
        crash: rare(4),
        resync: rare(6),
        request_resync: rare(5),
        bulk: rare(5),
        flush_external: rare(3),
        flush_internal: rare(2),
        flush_kernel: rare(2),
        takeover: rare(4),
        statistics: rare(3),
    };
    if fair {
        weights.cut = 0;
        weights.crash = 0;
    }
    weights
}
