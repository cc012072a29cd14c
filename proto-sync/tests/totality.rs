//! No datagram and no stream panics or is refused uncounted.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use std::time::Instant;

use common::{Random, list, scenarios, unhex};
use proto_sync::{
    ExpectPayload, FlowPayload, Host, Kind, Messages, Mode, Next, Session, SessionConfig, Token,
    fuzzing,
};

/// Mutated inputs per target; the machines of developers run the debug build.
const ROUNDS: usize = if cfg!(debug_assertions) { 30_000 } else { 150_000 };

/// What the original sent, and what was made by hand to provoke it.
fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for s in scenarios() {
        let parts = ["datagrams", "relay", "cases"].iter().flat_map(|part| list(&s[*part]));
        all.extend(parts.filter_map(|d| d["hex"].as_str()).map(unhex));
    }
    all.retain(|octets| !octets.is_empty());
    all.sort();
    all.dedup();
    assert!(all.len() > 300);
    all
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut Random| seeds[random.below(seeds.len() as u64) as usize].clone();
    let mut octets = pick(random);
    for _ in 0..=random.below(4) {
        let at = random.below(octets.len() as u64 + 1) as usize;
        match random.below(8) {
            0 => octets.truncate(at),
            1 => octets.extend(pick(random)),
            2 => octets.insert(at, random.next() as u8),
            // Lengths, ids and flags are small numbers at even places.
            3 if at < octets.len() => octets[at & !1] = random.below(40) as u8,
            4 if at < octets.len() => {
                octets[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize]
            }
            5 if octets.len() > 4 => octets[1] = random.next() as u8,
            6 if octets.len() > 4 => octets[0] = 0x10 | random.below(16) as u8,
            _ if at < octets.len() => octets[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    octets
}

#[test]
fn any_datagram_and_any_stream_are_survived() {
    let seeds = seeds();
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let octets = mutate(&mut random, &seeds);
        fuzzing::datagram(&octets);
        fuzzing::stream(&octets);
        fuzzing::payload(octets.get(8..).unwrap_or_default());
    }
}

#[derive(Default)]
struct Count(u64);

impl Host for Count {
    fn flow(&mut self, _: Kind, _: &[u8], _: &FlowPayload<'_>) {
        self.0 += 1;
    }

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {
        self.0 += 1;
    }

    fn next(&mut self, _: &mut [u8]) -> Next {
        Next::Empty
    }

    fn oversize(&mut self) {}

    fn acked(&mut self, _: Token) {}

    fn nacked(&mut self, _: Token) {}

    fn evicted(&mut self, _: Token) {}
}

#[test]
fn every_refusal_is_counted() {
    let now = Instant::now();
    let seeds = seeds();
    let mut random = Random::new(2);
    let mut refused = 0;
    for mode in [Mode::Notrack, Mode::Ftfw { ack_window: 3, resend_queue: 64 }] {
        let ftfw = mode != Mode::Notrack;
        let config = SessionConfig { mode, first_seq: 1, in_flight_max: 0, datagrams_per_ms: 0 };
        let mut session = Session::new(&config, now);
        let mut count = Count::default();
        let (mut messages, mut control) = (0, 0);
        for _ in 0..ROUNDS {
            let octets = mutate(&mut random, &seeds);
            for m in Messages::new(&octets) {
                messages += 1;
                // Valid control, by the table of flags.
                control += u64::from(m.is_ok_and(|m| {
                    let ranges = m.flags & 0x0c != 0;
                    let backwards = (m.range.1.wrapping_sub(m.range.0) as i32) < 0;
                    m.message_type == 10
                        && if ranges { ftfw && !backwards } else { m.flags & 0x12 != 0 }
                }));
            }
            session.handle_datagram(now, &octets, &mut count);
        }
        let c = session.counters();
        refused += c.malformed();
        assert_eq!(c.received, messages);
        assert_eq!(c.state_received, count.0);
        if ftfw {
            // Late ones are counted apart, control or not.
            assert!(count.0 + c.malformed() + c.before <= messages);
            assert!(count.0 + c.malformed() + c.before + control >= messages);
        } else {
            assert_eq!(count.0 + c.malformed() + control, messages);
        }
        assert!([c.wrong_version, c.malformed_header, c.malformed_payload].iter().all(|&n| n > 50));
        assert!([c.truncated, c.bad_size].iter().all(|&n| n > 50));
    }
    assert!(refused > 1000);
}
