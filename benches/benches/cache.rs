//! The flow cache: storing, finding, reading, and the cycle of a change, at 100,000 flows.
//!
//! Times are of one operation; keys are visited in an order that does not help the processor's
//! caches, as traffic does.

use core::hash::{BuildHasher, Hasher};
use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::cache::{Cache, CacheConfig, FlowIndex, Role};
use proto_ctnl::{Flow, L4, Present, ProtoInfo, Status, Tcp, Tuple, proto};

const FLOWS: u32 = 100_000;
/// Prime, so that steps of it visit every flow.
const STRIDE: u32 = 61_813;

/// The original tuple of the `n`th flow.
fn orig(n: u32, ipv6: bool) -> Tuple {
    let [_, b, c, d] = n.to_be_bytes();
    let (src, dst) = if ipv6 {
        let src = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, u16::from(b), u16::from(c), u16::from(d));
        (IpAddr::V6(src), IpAddr::V6(Ipv6Addr::LOCALHOST))
    } else {
        (IpAddr::V4(Ipv4Addr::new(10, b, c, d)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))
    };
    Tuple { src, dst, proto: proto::TCP, l4: L4::ports(1024 + (n % 60_000) as u16, 443) }
}

/// An established TCP flow, to be given one original tuple after the other.
fn template() -> Flow {
    let mut flow = Flow { status: Status(0x18e), timeout: 432_000, ..Flow::default() };
    flow.protoinfo = ProtoInfo::Tcp(Tcp { state: 3, wscale: Some([7, 7]), flags: None });
    let members = [
        Present::ORIG,
        Present::REPLY,
        Present::STATUS,
        Present::TIMEOUT,
        Present::ID,
        Present::PROTOINFO,
        Present::SYNPROXY,
    ];
    for bit in members {
        flow.present.insert(bit);
    }
    flow
}

/// Makes `flow` the `n`th.
fn become_nth(flow: &mut Flow, n: u32, ipv6: bool) {
    flow.orig = orig(n, ipv6);
    let Tuple { src, dst, proto, l4 } = flow.orig;
    flow.reply = Tuple { src: dst, dst: src, proto, l4: L4 { a: l4.b, b: l4.a } };
    flow.id = n;
}

fn empty() -> Cache {
    Cache::new(CacheConfig { limit: 262_144, role: Role::Internal, seed: Some(1) })
}

fn fill(cache: &mut Cache, ipv6: bool) {
    let mut flow = template();
    for n in 0..FLOWS {
        become_nth(&mut flow, n, ipv6);
        let _ = cache.replace(&flow, 0);
    }
}

fn full(ipv6: bool) -> Cache {
    let mut cache = empty();
    fill(&mut cache, ipv6);
    cache
}

fn cache(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    for (name, ipv6) in [("v4", false), ("v6", true)] {
        let mut at = 0;
        let mut next = move || {
            at = (at + STRIDE) % FLOWS;
            at
        };
        let mut flow = template();
        let mut cache = full(ipv6);
        group.bench_function(BenchmarkId::new("find", name), |b| {
            b.iter(|| black_box(cache.find(&orig(next(), ipv6), 0)));
        });
        group.bench_function(BenchmarkId::new("find-absent", name), |b| {
            b.iter(|| black_box(cache.find(&orig(next(), ipv6), 1)));
        });
        group.bench_function(BenchmarkId::new("merge", name), |b| {
            b.iter(|| {
                become_nth(&mut flow, next(), ipv6);
                black_box(cache.merge(&flow, 1))
            });
        });
        group.bench_function(BenchmarkId::new("load", name), |b| {
            let mut out = Flow::default();
            b.iter(|| {
                let index = FlowIndex::from_raw(next());
                black_box(cache.load(index, &mut out));
                black_box(&out);
            });
        });
        group.bench_function(BenchmarkId::new("change-cycle", name), |b| {
            // An update, its sending, and the acknowledgement of the sending before.
            let mut last = (FlowIndex::FIRST, 0);
            let mut out = Flow::default();
            b.iter(|| {
                become_nth(&mut flow, next(), ipv6);
                if let Ok(stored) = cache.merge(&flow, 1) {
                    cache.mark_changed(stored.index);
                }
                if let Some((index, change)) = cache.next_changed() {
                    black_box((cache.load(index, &mut out), change));
                    let pos = cache.sent(index, true);
                    cache.acked(last.0, last.1);
                    last = (index, pos);
                }
            });
        });
        group.bench_function(BenchmarkId::new("create-destroy", name), |b| {
            b.iter(|| {
                become_nth(&mut flow, next(), ipv6);
                if let Some(index) = cache.find(&flow.orig, 0) {
                    cache.remove(index);
                }
                black_box(cache.replace(&flow, 2))
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("cache-fill");
    group.throughput(Throughput::Elements(u64::from(FLOWS)));
    group.sample_size(20);
    for (name, ipv6) in [("v4", false), ("v6", true)] {
        group.bench_function(name, |b| {
            let filled = |mut cache: Cache| {
                fill(&mut cache, ipv6);
                cache
            };
            b.iter_batched(empty, filled, BatchSize::LargeInput);
        });
    }
    group.finish();
}

/// The hash function of keys against two others, on the words of an IPv4 and an IPv6
/// key.
fn hashers(c: &mut Criterion) {
    fn run<S: BuildHasher>(state: &S, words: &[u64]) -> u64 {
        let mut hasher = state.build_hasher();
        for &word in words {
            hasher.write_u64(word);
        }
        hasher.finish()
    }
    let mut group = c.benchmark_group("hash");
    let words = black_box([1u64 << 40, 2, 3 << 50, 4, 5]);
    for (name, len) in [("v4", 2), ("v6", 5)] {
        let ahash = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let fold = foldhash::fast::RandomState::default();
        let sip = std::hash::RandomState::new();
        group.bench_function(BenchmarkId::new("ahash", name), |b| {
            b.iter(|| run(&ahash, black_box(&words[..len])));
        });
        group.bench_function(BenchmarkId::new("foldhash", name), |b| {
            b.iter(|| run(&fold, black_box(&words[..len])));
        });
        group.bench_function(BenchmarkId::new("siphash", name), |b| {
            b.iter(|| run(&sip, black_box(&words[..len])));
        });
    }
    group.finish();
}

criterion_group!(benches, cache, hashers);
criterion_main!(benches);
