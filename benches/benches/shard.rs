//! A shard that takes events: as many as wait together, as a ring hands them out, and one after the
//! other, as sockets do. 500,000 flows begin, change and end; times are of one event.

use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::clock::Moment;
use engine::config::Expectations;
use engine::kernel::{KernelConfig, Ports};
use engine::mesh::Content;
use engine::shard::{Shard, ShardConfig};
use proto_ctnl::consts::{flag, msg};
use proto_ctnl::{Encoder, Flow, FlowMasks, L4, Present, ProtoInfo, Status, Tcp, Tuple, proto};
use proto_sync::EncodeOptions;

const FLOWS: u32 = 500_000;
/// Events that a ring hands out at once.
const TOGETHER: usize = 16;

/// Events of one kind, of all flows.
struct Events {
    octets: Vec<u8>,
    len: usize,
}

impl Events {
    fn new(kind: u16, flags: u16) -> Self {
        let mut flow = Flow { status: Status(0x18e), timeout: 432_000, ..Flow::default() };
        flow.protoinfo = ProtoInfo::Tcp(Tcp { state: 3, wscale: Some([7, 7]), flags: None });
        let members =
            [Present::ORIG, Present::REPLY, Present::STATUS, Present::TIMEOUT, Present::PROTOINFO];
        for bit in members {
            flow.present.insert(bit);
        }
        let (mut octets, mut len) = (Vec::new(), 0);
        for n in 0..FLOWS {
            let client = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | (n / 50_000)));
            let server = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
            let port = 1024 + (n % 50_000) as u16;
            let way = |src, dst, l4| Tuple { src, dst, proto: proto::TCP, l4 };
            flow.orig = way(client, server, L4::ports(port, 443));
            flow.reply = way(server, client, L4::ports(443, port));
            let mut room = [0; 512];
            let mut encoder = Encoder::new(&mut room);
            encoder.flow_new(&flow, FlowMasks::default(), flags, 0).expect("there is room");
            let at = octets.len();
            octets.extend_from_slice(encoder.bytes());
            octets[at + 4..at + 6].copy_from_slice(&kind.to_ne_bytes());
            octets[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
            len = octets.len() - at;
        }
        Self { octets, len }
    }

    /// Gives the events to a shard, so many at a time.
    fn give(&self, shard: &mut Shard, now: Moment, together: usize) {
        let mut events = [&[][..]; TOGETHER];
        for some in self.octets.chunks(together * self.len) {
            if together == 1 {
                shard.on_kernel_datagram(now, Content::Events, some);
                continue;
            }
            let mut count = 0;
            for (place, event) in events.iter_mut().zip(some.chunks(self.len)) {
                *place = event;
                count += 1;
            }
            shard.on_kernel_events(now, &events[..count]);
        }
    }
}

fn shard(began: Instant) -> Shard {
    let config = ShardConfig {
        id: 0,
        limit: 2 * FLOWS,
        seed: Some(1),
        encode: EncodeOptions { window_tracking: false, timeout: false },
        acknowledged: true,
        replicates: true,
        bypass: false,
        alarm: None,
        kernel: KernelConfig::default(),
        expectations: Expectations::Off,
        cpu: None,
        cpu_time: || Duration::ZERO,
        flow_log: None,
    };
    Shard::new(config, Ports { write: 1, flush: 2, audit: 3 }, began)
}

fn events(c: &mut Criterion) {
    let began = Instant::now();
    let now = Moment::new(began, began);
    let new = Events::new(msg::CT_NEW, flag::CREATE | flag::EXCL);
    let update = Events::new(msg::CT_NEW, 0);
    let end = Events::new(msg::CT_DELETE, 0);
    let full = || {
        let mut shard = shard(began);
        new.give(&mut shard, now, TOGETHER);
        shard
    };
    let mut group = c.benchmark_group("events");
    group.throughput(Throughput::Elements(u64::from(FLOWS)));
    group.sample_size(10);
    for together in [1, TOGETHER] {
        let run = |events: &Events, mut shard: Shard| {
            events.give(&mut shard, now, together);
            black_box(shard)
        };
        group.bench_function(BenchmarkId::new("new", together), |b| {
            b.iter_batched(|| shard(began), |shard| run(&new, shard), BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("update", together), |b| {
            b.iter_batched(full, |shard| run(&update, shard), BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("destroy", together), |b| {
            b.iter_batched(full, |shard| run(&end, shard), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
