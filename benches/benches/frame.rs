//! What one replicated state costs: its message, and the session around it. None allocates.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use io::CountingAlloc;
use proto_ctnl::{Flow, L4, Present, ProtoInfo, Status, Tcp, Tuple, proto};
use proto_sync::{
    EncodeOptions, ExpectPayload, FLOW_MESSAGE_MAX, FlowLayouts, FlowPayload, HEADER_LEN, Host,
    Kind, Mode, Next, Session, SessionConfig, Token, datagram_max, encode_flow,
};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

/// Messages of real traffic: 60 octets each.
const OPTIONS: EncodeOptions = EncodeOptions { window_tracking: false, timeout: true };

fn tcp_flow() -> Flow {
    let orig = Tuple {
        src: Ipv4Addr::new(10, 0, 0, 1).into(),
        dst: Ipv4Addr::new(10, 0, 0, 2).into(),
        proto: proto::TCP,
        l4: L4::ports(40_000, 443),
    };
    let mut flow = Flow {
        orig,
        reply: orig.inverted().expect("TCP has an answer"),
        status: Status(0x18e),
        timeout: 432_000,
        protoinfo: ProtoInfo::Tcp(Tcp { state: 3, ..Tcp::default() }),
        ..Flow::default()
    };
    for bit in
        [Present::ORIG, Present::REPLY, Present::STATUS, Present::TIMEOUT, Present::PROTOINFO]
    {
        flow.present.insert(bit);
    }
    flow
}

/// Sends the same flow as often as it is asked for, and reads what it gets.
struct Peer {
    changed: u64,
    message: [u8; FLOW_MESSAGE_MAX],
    len: usize,
    scratch: Flow,
    received: u64,
}

impl Peer {
    fn new() -> Self {
        let mut message = [0; FLOW_MESSAGE_MAX];
        let len = encode_flow(Kind::Update, &tcp_flow(), &OPTIONS, &mut message);
        let len = len.expect("the longest message fits");
        Self { changed: 0, message, len, scratch: Flow::default(), received: 0 }
    }
}

impl Host for Peer {
    fn flow(&mut self, _: Kind, _: &[u8], payload: &FlowPayload<'_>) {
        self.scratch.clear();
        payload.write_to(&mut self.scratch);
        self.received += 1;
    }

    fn expect(&mut self, _: Kind, _: &[u8], _: &ExpectPayload<'_>) {}

    fn next(&mut self, room: &mut [u8]) -> Next {
        if self.changed == 0 {
            return Next::Empty;
        }
        let Some(cell) = room.get_mut(..self.len) else { return Next::NoRoom };
        cell.copy_from_slice(&self.message[..self.len]);
        self.changed -= 1;
        Next::Message { len: self.len, token: Token::default() }
    }

    fn oversize(&mut self) {}

    fn acked(&mut self, _: Token) {}

    fn nacked(&mut self, _: Token) {}

    fn evicted(&mut self, _: Token) {}
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(1));
    let flow = tcp_flow();
    let mut out = [0; FLOW_MESSAGE_MAX];
    group.bench_function("encode_flow/tcp4", |b| {
        b.iter(|| encode_flow(Kind::Update, black_box(&flow), &OPTIONS, black_box(&mut out)));
    });
    let len = encode_flow(Kind::Update, &flow, &OPTIONS, &mut out).expect("it fits");
    let mut scratch = Flow::default();
    group.bench_function("parse/tcp4", |b| {
        b.iter(|| {
            let payload = FlowPayload::parse(black_box(&out[HEADER_LEN..len]));
            payload.map(|p| (p.orig_tuple(), p.zone()))
        });
    });
    let mut layouts = FlowLayouts::new();
    group.bench_function("read/tcp4", |b| {
        b.iter(|| {
            let mut payload = FlowPayload::EMPTY;
            let read = payload.read(black_box(&out[HEADER_LEN..len]), &mut layouts);
            read.map(|()| (payload.orig_tuple(), payload.zone()))
        });
    });
    group.bench_function("parse_write/tcp4", |b| {
        b.iter(|| {
            scratch.clear();
            if let Ok(payload) = FlowPayload::parse(black_box(&out[HEADER_LEN..len])) {
                payload.write_to(&mut scratch);
            }
            black_box(&scratch);
        });
    });
    group.finish();
}

fn session(now: Instant) -> Session {
    let mode = Mode::Ftfw { ack_window: 300, resend_queue: 131_072 };
    let config = SessionConfig { mode, first_seq: 1, in_flight_max: 0, datagrams_per_ms: 0 };
    Session::new(&config, now)
}

fn dialogue(c: &mut Criterion) {
    let now = Instant::now();
    let mut buffer = vec![0; datagram_max(1500, false, false)];
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(1));

    // Everything a message costs at both ends: built, sent, kept, received, acknowledged, freed.
    let (mut a, mut b) = (session(now), session(now));
    let (mut host_a, mut host_b) = (Peer::new(), Peer::new());
    let mut exchange = |count: u64| {
        host_a.changed = count;
        while let Some(len) = a.poll_transmit(now, &mut buffer, &mut host_a) {
            b.handle_datagram(now, &buffer[..len], &mut host_b);
            while let Some(len) = b.poll_transmit(now, &mut buffer, &mut host_b) {
                a.handle_datagram(now, &buffer[..len], &mut host_a);
            }
        }
    };
    exchange(10_000);
    let before = CountingAlloc::count();
    exchange(10_000);
    assert_eq!(CountingAlloc::count(), before, "messages allocate");
    group.bench_function("both_ends", |bencher| {
        bencher.iter_custom(|count| {
            let start = Instant::now();
            exchange(count);
            start.elapsed()
        });
    });
    let mut sender = session(now);
    let mut host = Peer::new();
    group.bench_function("send", |bencher| {
        bencher.iter_custom(|count| {
            // Nobody acknowledges: a new session before the resend queue is full.
            let mut left = count;
            let start = Instant::now();
            while left > 0 {
                host.changed = left.min(50_000);
                left -= host.changed;
                sender = session(now);
                while sender.poll_transmit(now, &mut buffer, &mut host).is_some() {}
            }
            start.elapsed()
        });
    });

    let mut datagrams = Vec::new();
    let mut host = Peer::new();
    host.changed = 24 * 2000;
    let mut sender = session(now);
    while let Some(len) = sender.poll_transmit(now, &mut buffer, &mut host) {
        datagrams.push(buffer[..len].to_vec());
    }
    let messages = sender.counters().state_sent;
    group.throughput(Throughput::Elements(messages));
    group.bench_function(format!("receive_{messages}"), |bencher| {
        bencher.iter_batched_ref(
            || (session(now), Peer::new(), vec![0; 1471]),
            |(receiver, host, out)| {
                for datagram in &datagrams {
                    receiver.handle_datagram(now, datagram, host);
                    while receiver.poll_transmit(now, out, host).is_some() {}
                }
                assert_eq!(host.received, messages);
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, codec, dialogue);
criterion_main!(benches);
