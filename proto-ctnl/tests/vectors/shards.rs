//! The shard function against the hash that a classic BPF program computed in the kernel.

use proto_ctnl::{FlowRef, Message, proto, shard_hash, shard_of};

use crate::load::{lines, vectors};

/// The recorded program hashed octets of the reply tuple for protocols without ports; the shard
/// function takes 0 there.
const WITHOUT_PORTS: usize = 14;

#[test]
fn the_shard_function_agrees_with_the_kernels() {
    let vectors = vectors();
    let (mut same, mut different) = (0, 0);
    for expected in lines("shard-expect.jsonl") {
        let vector = vectors.iter().find(|v| expected["id"] == v.id).unwrap();
        let label = vector.label();
        let orig = FlowRef::parse(&Message::parse(&vector.bytes).unwrap()).unwrap().orig();
        let portless = !orig.has_ports() && !orig.is_icmp() && orig.proto != proto::GRE
            // Of a kernel that does not track it.
            || orig.proto == proto::DCCP;
        let hash = shard_hash(&orig);
        assert_eq!(expected["hash"] == hash, !portless, "{label}: {orig:?}");
        if portless {
            different += 1;
            continue;
        }
        same += 1;
        for shards in [2, 4, 8] {
            assert_eq!(shard_of(&orig, shards), expected[format!("mod{shards}")], "{label}");
        }
    }
    assert_eq!((same, different), (203 - WITHOUT_PORTS, WITHOUT_PORTS));
}
