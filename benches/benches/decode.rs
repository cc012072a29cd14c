//! What one message of the kernel costs: decoding, and encoding as a request.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto_ctnl::{Content, Encoder, Flow, FlowRef, Message, Messages, shard_of};
use serde_json::Value;

/// The first recorded message of a kind in a scenario.
fn recorded(scenario: &str, kind: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ctnetlink");
    let text = std::fs::read_to_string(path.join("messages.jsonl")).expect("the vectors are read");
    let vector = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a vector is JSON"))
        .find(|vector| vector["scenario"] == scenario && vector["kind"] == kind)
        .expect("the vector is there");
    let digits = vector["hex"].as_str().expect("a vector has octets").as_bytes().to_vec();
    let octet = |pair: &[u8]| {
        u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("octets are hexadecimal")
    };
    digits.chunks(2).map(octet).collect()
}

fn flow_of(bytes: &[u8]) -> FlowRef<'_> {
    let message = Message::parse(bytes).expect("a vector is a message");
    FlowRef::parse(&message).expect("a vector is a flow")
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, scenario, kind) in [
        ("new_tcp4", "tcp4_full_life", "event_new"),
        ("update_tcp4", "tcp4_full_life", "event_update"),
        ("destroy_tcp4", "tcp4_full_life", "event_destroy"),
        ("update_tcp6", "tcp6_full_life", "event_update"),
        ("new_udp4", "udp4", "event_new"),
        ("new_icmp6", "icmp6_echo", "event_new"),
        ("dump_everything", "ctn_tcp4_create", "dump"),
    ] {
        let bytes = recorded(scenario, kind);
        let mut flow = Flow::default();
        group.bench_function(format!("whole/{name}"), |b| {
            b.iter(|| {
                for message in Messages::new(black_box(&bytes)) {
                    if let Ok(Content::Flow(seen)) = message.and_then(|m| m.content()) {
                        flow.clear();
                        let _ = seen.write_to(&mut flow);
                    }
                }
                black_box(&flow);
            });
        });
        group.bench_function(format!("key/{name}"), |b| {
            b.iter(|| {
                let message = Message::parse(black_box(&bytes));
                let Ok(Content::Flow(seen)) = message.and_then(|m| m.content()) else { return };
                black_box((seen.orig(), seen.key_zone(), seen.port()));
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let mut buf = vec![0; 4096];
    for (name, scenario) in [("tcp4", "tcp4_established"), ("everything", "ctn_tcp4_create")] {
        let bytes = recorded(scenario, "dump");
        let mut flow = Flow::default();
        flow_of(&bytes).write_to(&mut flow).expect("a vector is whole");
        group.bench_function(format!("create/{name}"), |b| {
            b.iter(|| {
                let mut encoder = Encoder::new(&mut buf);
                let _ = encoder.flow_create(black_box(&flow), 1, false);
                black_box(encoder.bytes().len())
            });
        });
        group.bench_function(format!("delete/{name}"), |b| {
            b.iter(|| {
                let mut encoder = Encoder::new(&mut buf);
                let _ = encoder.flow_delete(black_box(&flow.orig), 0, None, 1, false);
                black_box(encoder.bytes().len())
            });
        });
    }
    group.finish();
}

fn shard(c: &mut Criterion) {
    for (name, scenario) in [("v4", "tcp4_full_life"), ("v6", "tcp6_full_life")] {
        let bytes = recorded(scenario, "event_new");
        let orig = flow_of(&bytes).orig();
        c.bench_function(&format!("shard/{name}"), |b| {
            b.iter(|| shard_of(black_box(&orig), 4));
        });
    }
}

criterion_group!(benches, decode, encode, shard);
criterion_main!(benches);
