//! The link between the two nodes: loses, copies, delays and parts, by a seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shardtrack_tests::random::Random;

/// What may go wrong, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u32,
    pub(crate) copies: u32,
    /// Datagrams that come late, and thus behind later ones.
    pub(crate) late: u32,
    /// Longest delay of those, in milliseconds.
    pub(crate) late_ms: usize,
}

/// Both directions.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    random: Random,
    /// Until when everything from this node is lost.
    cut: [Option<Instant>; 2],
    /// Datagrams under way by arrival and number: destination and octets.
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    count: u64,
    pub(crate) lost: u64,
}

impl Network {
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            random: Random::new(seed),
            cut: [None; 2],
            wire: BTreeMap::new(),
            count: 0,
            lost: 0,
        }
    }

    /// Everything that `from` sends until `until` is lost.
    pub(crate) fn cut(&mut self, from: usize, until: Instant) {
        self.cut[from] = Some(until);
    }

    /// Nothing goes wrong any more; what is late still arrives.
    pub(crate) fn heal(&mut self) {
        self.cut = [None; 2];
        self.weather = Weather::default();
    }

    /// A datagram from node `from` to the other one.
    pub(crate) fn send(&mut self, now: Instant, from: usize, datagram: &[u8]) {
        let copies = 1 + u32::from(self.random.chance(self.weather.copies));
        for _ in 0..copies {
            let cut = self.cut[from].is_some_and(|until| now < until);
            if cut || self.random.chance(self.weather.loss) {
                self.lost += 1;
                continue;
            }
            let late = self.random.chance(self.weather.late);
            let micros =
                if late { self.random.below(1000 * self.weather.late_ms) } else { 40 } as u64;
            self.count += 1;
            let at = now + Duration::from_micros(10 + micros);
            self.wire.insert((at, self.count), (1 - from, datagram.to_vec()));
        }
    }

    /// When the next datagram arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.wire.first_key_value().map(|(&(at, _), _)| at)
    }

    /// A datagram that has arrived: where, and its octets.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        if self.next_arrival()? > now {
            return None;
        }
        self.wire.pop_first().map(|(_, arrived)| arrived)
    }
}
