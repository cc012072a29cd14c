//! What is encoded is decoded again, for any flow and any expectation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use proptest::prelude::*;
use proto_ctnl::{
    Dccp, Encoder, Expect, ExpectPresent, ExpectRef, Flow, FlowMasks, FlowRef, L4, Labels, Message,
    Name, Present, ProtoInfo, Sctp, SeqAdj, Status, Synproxy, Tcp, TcpFlags, Tuple, proto,
};

fn address(v6: bool) -> BoxedStrategy<IpAddr> {
    if v6 {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    }
}

prop_compose! {
    fn tuple()(
        v6 in any::<bool>(),
        number in prop_oneof![
            Just(proto::TCP), Just(proto::UDP), Just(proto::ICMP), Just(proto::ICMPV6),
            Just(proto::SCTP), Just(proto::DCCP), Just(proto::GRE), Just(proto::UDPLITE),
            any::<u8>(),
        ],
        l4 in any::<(u16, u16)>(),
    )(
        src in address(v6), dst in address(v6),
        proto in Just(number), l4 in Just(L4 { a: l4.0, b: l4.1 }),
    ) -> Tuple {
        Tuple { src, dst, proto, l4 }
    }
}

fn name<const N: usize>() -> impl Strategy<Value = Name<N>> {
    prop::collection::vec(1..=255u8, 0..=N).prop_map(|octets| Name::new(&octets).unwrap())
}

fn tcp_flags() -> impl Strategy<Value = TcpFlags> {
    any::<(u8, u8)>().prop_map(|(flags, mask)| TcpFlags { flags, mask })
}

fn protoinfo() -> impl Strategy<Value = ProtoInfo> {
    let tcp = (any::<u8>(), any::<Option<[u8; 2]>>(), prop::option::of([tcp_flags(), tcp_flags()]))
        .prop_map(|(state, wscale, flags)| ProtoInfo::Tcp(Tcp { state, wscale, flags }));
    let sctp = any::<(u8, Option<[u32; 2]>)>()
        .prop_map(|(state, vtag)| ProtoInfo::Sctp(Sctp { state, vtag }));
    let dccp = any::<(u8, u8, Option<u64>)>().prop_map(|(state, role, handshake_seq)| {
        ProtoInfo::Dccp(Dccp { state, role, handshake_seq })
    });
    prop_oneof![tcp, sctp, dccp]
}

fn seqadj() -> impl Strategy<Value = SeqAdj> {
    any::<(u32, i32, i32)>().prop_map(|(correction_pos, offset_before, offset_after)| SeqAdj {
        correction_pos,
        offset_before,
        offset_after,
    })
}

/// What only the kernel tells is not part of a request.
const SENT: u32 = Present::ORIG.0
    | Present::REPLY.0
    | Present::STATUS.0
    | Present::TIMEOUT.0
    | Present::MARK.0
    | Present::ZONE.0
    | Present::PROTOINFO.0
    | Present::HELPER.0
    | Present::MASTER.0
    | Present::LABELS.0
    | Present::SEQADJ.0
    | Present::SYNPROXY.0
    | Present::ORIG_ZONE.0
    | Present::REPLY_ZONE.0
    | Present::SECMARK.0
    | Present::SNAT.0
    | Present::DNAT.0
    | Present::SPAT.0
    | Present::DPAT.0;

prop_compose! {
    fn flow()(
        present in any::<u32>(),
        tuples in [tuple(), tuple(), tuple()],
        words in any::<[u32; 8]>(),
        halves in any::<[u16; 5]>(),
        protoinfo in protoinfo(),
        helper in name(),
        labels in any::<[u32; 4]>(),
        seqadj in [seqadj(), seqadj()],
        nat in any::<[IpAddr; 2]>(),
    ) -> Flow {
        let [orig, reply, master] = tuples;
        let mut present = Present(present & SENT);
        // Parts of tuples are only sent with them, ports of a translation only with ports.
        if !present.has(Present::ORIG) {
            present.remove(Present::ORIG_ZONE);
        }
        if !present.has(Present::REPLY) {
            present.remove(Present::REPLY_ZONE);
        }
        if !orig.has_ports() {
            present.remove(Present(Present::SPAT.0 | Present::DPAT.0));
        }
        Flow {
            present, orig, reply, master, protoinfo, helper, seqadj,
            zone: halves[0], orig_zone: halves[1], reply_zone: halves[2],
            status: Status(words[0]), timeout: words[1], mark: words[2], secmark: words[3],
            labels: Labels(labels),
            synproxy: Synproxy { isn: words[4], its: words[5], tsoff: words[6] },
            snat: nat[0], dnat: nat[1], spat: halves[3], dpat: halves[4],
            ..Flow::default()
        }
    }
}

prop_compose! {
    fn expect()(
        present in any::<u16>(),
        tuples in [tuple(), tuple(), tuple(), tuple()],
        words in any::<[u32; 4]>(),
        zone in any::<u16>(),
        helper in name(),
        function in name(),
    ) -> Expect {
        let [master, tuple, mask, nat] = tuples;
        let all = Expect {
            master, tuple, mask, nat, helper, function, zone,
            timeout: words[0], flags: words[1], class: words[2], nat_dir: words[3],
            ..Expect::default()
        };
        only(&all, ExpectPresent(present & 0x7ff & !ExpectPresent::ID.0))
    }
}

/// `all` with the members of `present` only, so that it can be compared.
fn only(all: &Expect, present: ExpectPresent) -> Expect {
    let mut expect = Expect { present, ..Expect::default() };
    let has = |bit| present.has(bit);
    if has(ExpectPresent::MASTER) {
        expect.master = all.master
    }
    if has(ExpectPresent::TUPLE) {
        expect.tuple = all.tuple
    }
    if has(ExpectPresent::MASK) {
        expect.mask = all.mask
    }
    if has(ExpectPresent::TIMEOUT) {
        expect.timeout = all.timeout
    }
    if has(ExpectPresent::HELPER) {
        expect.helper = all.helper
    }
    if has(ExpectPresent::ZONE) {
        expect.zone = all.zone
    }
    if has(ExpectPresent::FLAGS) {
        expect.flags = all.flags
    }
    if has(ExpectPresent::CLASS) {
        expect.class = all.class
    }
    if has(ExpectPresent::FUNCTION) {
        expect.function = all.function
    }
    if has(ExpectPresent::NAT) {
        (expect.nat, expect.nat_dir) = (all.nat, all.nat_dir)
    }
    expect
}

proptest! {
    #[test]
    fn flows_survive(flow in flow(), seq in any::<u32>()) {
        let mut buf = [0xa5; 2048];
        let mut encoder = Encoder::new(&mut buf);
        encoder.flow_new(&flow, FlowMasks::default(), 0, seq).unwrap();
        let message = Message::parse(encoder.bytes()).unwrap();
        prop_assert_eq!(message.seq, seq);
        let mut again = Flow::default();
        FlowRef::parse_request(&message).unwrap().write_to(&mut again).unwrap();
        prop_assert_eq!(again, flow);
    }

    #[test]
    fn expectations_survive(expect in expect(), seq in any::<u32>()) {
        let mut buf = [0xa5; 2048];
        let mut encoder = Encoder::new(&mut buf);
        encoder.expect_new(&expect, 0, seq).unwrap();
        let message = Message::parse(encoder.bytes()).unwrap();
        let mut again = Expect::default();
        ExpectRef::parse(&message).unwrap().write_to(&mut again).unwrap();
        prop_assert_eq!(again, expect);
    }

    /// A request takes its whole room or none, whatever the room is.
    #[test]
    fn a_request_without_room_leaves_no_trace(flow in flow(), room in 0..600usize) {
        let mut whole = [0; 2048];
        let mut encoder = Encoder::new(&mut whole);
        encoder.stats_global(1).unwrap();
        encoder.flow_create(&flow, 2, true).unwrap();
        let expected = encoder.bytes().to_vec();

        let mut buf = vec![0xa5; 20 + room];
        let mut encoder = Encoder::new(&mut buf);
        encoder.stats_global(1).unwrap();
        let fits = encoder.flow_create(&flow, 2, true).is_ok();
        prop_assert_eq!(fits, expected.len() <= 20 + room);
        prop_assert_eq!(encoder.count(), 1 + usize::from(fits));
        prop_assert_eq!(encoder.bytes(), if fits { &expected[..] } else { &expected[..20] });
    }
}
