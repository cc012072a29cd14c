//! Replication allocates nothing in steady state, from the bytes of a kernel event to the entry in
//! the peer's cache and back to the acknowledgement: both nodes whole but for their sockets, two
//! shards each.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::clock::Moment;
use engine::config::Expectations;
use engine::kernel::{KernelConfig, Ports};
use engine::mesh::{Content, INBOUND_BLOCKS, Pipe, Sleep};
use engine::shard::{Shard, ShardConfig};
use engine::shards::{Remote, Shards};
use engine::worker::Worker;
use io::CountingAlloc;
use proto_ctnl::{Encoder, Flow, L4, Present, ProtoInfo, Status, Tcp, Tuple, proto};
use proto_sync::{EncodeOptions, Mode, Session, SessionConfig, datagram_max};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

/// Flows that come and go in a round.
const FLOWS: u32 = 3000;

struct Node {
    shards: Shards,
    worker: Worker,
    session: Session,
}

fn shard(id: u8, began: Instant) -> Shard {
    let kernel = KernelConfig { shard: id.into(), shards: 2, ..KernelConfig::default() };
    let config = ShardConfig {
        id,
        limit: 4 * FLOWS,
        seed: Some(7),
        encode: EncodeOptions { window_tracking: false, timeout: true },
        acknowledged: true,
        replicates: true,
        bypass: false,
        alarm: None,
        kernel,
        expectations: Expectations::Off,
        cpu: None,
        cpu_time: || Duration::ZERO,
        flow_log: None,
    };
    Shard::new(config, Ports { write: 1, flush: 2, audit: 3 }, began)
}

impl Node {
    fn new(now: Instant) -> Self {
        let to_shard = Arc::new(Pipe::new(4 * INBOUND_BLOCKS, Arc::new(Sleep::default())));
        let to_hub = Arc::new(Pipe::new(4 * INBOUND_BLOCKS, Arc::new(Sleep::default())));
        let remote = Remote::new(Arc::clone(&to_shard), Arc::clone(&to_hub));
        let mode = Mode::Ftfw { ack_window: 100, resend_queue: 8192 };
        let session = SessionConfig { mode, first_seq: 1, in_flight_max: 0, datagrams_per_ms: 0 };
        Self {
            shards: Shards::new(shard(0, now), vec![remote], Moment::new(now, now)),
            worker: Worker::new(shard(1, now), to_shard, to_hub),
            session: Session::new(&session, now),
        }
    }

    fn turn(&mut self, now: Instant) {
        let moment = Moment::new(now, now);
        self.shards.begin_turn(moment);
        self.shards.work();
        self.worker.turn(moment, INBOUND_BLOCKS, || {});
        assert!(self.shards.poll_outcome().is_none(), "nothing was ordered");
        self.shards.flush(|_| {});
    }

    /// Sends what there is to `other`; whether there was anything.
    fn send(&mut self, now: Instant, datagram: &mut [u8], other: &mut Self) -> bool {
        let mut any = false;
        while let Some(len) = self.session.poll_transmit(now, datagram, &mut self.shards) {
            other.session.handle_datagram(now, &datagram[..len], &mut other.shards);
            any = true;
        }
        any
    }
}

/// Both ends, and what they work with.
struct Pair {
    now: Instant,
    a: Node,
    b: Node,
    datagram: Vec<u8>,
    message: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let datagram = vec![0; datagram_max(1500, false, false)];
        Self { now, a: Node::new(now), b: Node::new(now), datagram, message: vec![0; 512] }
    }

    /// An event of the kernel at `a`, written by `write`.
    fn event(&mut self, tuple: &Tuple, write: impl FnOnce(&mut Encoder<'_>)) {
        let mut encoder = Encoder::new(&mut self.message);
        write(&mut encoder);
        let len = encoder.len();
        self.a.shards.kernel_message(Content::Events, tuple, &self.message[..len]);
    }

    /// Until nothing moves any more.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 4 {
            // Time has to pass for acknowledgements that wait for more.
            self.now += Duration::from_millis(200);
            self.a.session.handle_timeout(self.now);
            self.b.session.handle_timeout(self.now);
            self.a.turn(self.now);
            self.b.turn(self.now);
            let mut any = self.a.send(self.now, &mut self.datagram, &mut self.b);
            any |= self.b.send(self.now, &mut self.datagram, &mut self.a);
            idle = if any { 0 } else { idle + 1 };
        }
    }

    /// States that the caches of `b` were given.
    fn received(&self) -> u64 {
        self.b.shards.local.counters.received + self.b.worker.shard.counters.received
    }

    /// Flows come, change and go.
    fn round(&mut self, first: u32) {
        for n in first..first + FLOWS {
            let flow = flow(n, 1);
            self.event(&flow.orig, |e| e.flow_create(&flow, 0, false).expect("there is room"));
        }
        self.settle();
        for n in first..first + FLOWS {
            let flow = flow(n, 3);
            self.event(&flow.orig, |e| e.flow_update(&flow, 0, false).expect("there is room"));
        }
        self.settle();
        for n in first..first + FLOWS {
            let tuple = flow(n, 3).orig;
            self.event(&tuple, |e| e.flow_delete(&tuple, 0, None, 0, false).expect("room"));
        }
        self.settle();
    }
}

fn flow(n: u32, state: u8) -> Flow {
    let orig = Tuple {
        src: Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
        dst: Ipv4Addr::new(192, 0, 2, 1).into(),
        proto: proto::TCP,
        l4: L4::ports(40_000, 443),
    };
    let mut flow = Flow {
        orig,
        reply: orig.inverted().expect("TCP has an answer"),
        status: Status(0xe),
        timeout: 432_000,
        protoinfo: ProtoInfo::Tcp(Tcp { state, ..Tcp::default() }),
        ..Flow::default()
    };
    for bit in
        [Present::ORIG, Present::REPLY, Present::STATUS, Present::TIMEOUT, Present::PROTOINFO]
    {
        flow.present.insert(bit);
    }
    flow
}

#[test]
fn replication_allocates_nothing() {
    let mut pair = Pair::new();
    // Caches, queues and blocks grow to what they need.
    pair.round(0);
    pair.round(FLOWS);
    let received = pair.received();
    let before = CountingAlloc::count();
    pair.round(2 * FLOWS);
    pair.round(0);
    assert_eq!(CountingAlloc::count() - before, 0, "allocations");
    assert_eq!(pair.received() - received, 2 * 3 * u64::from(FLOWS), "states");
}
