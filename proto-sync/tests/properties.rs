//! Any flow and any expectation survive the wire.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use proto_ctnl::{
    Dccp, Expect, ExpectPresent, Flow, L4, Labels, Name, Present, ProtoInfo, Sctp, SeqAdj, Status,
    Synproxy, Tcp, Tuple, proto,
};
use proto_sync::{
    EXPECT_MESSAGE_MAX, EncodeOptions, ExpectPayload, FLOW_MESSAGE_MAX, FlowLayouts, FlowPayload,
    HEADER_LEN, Kind, Messages, PayloadErrorKind, encode_expect, encode_flow,
};

const ALL: EncodeOptions = EncodeOptions { window_tracking: true, timeout: true };

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![
        Just(proto::TCP),
        Just(proto::UDP),
        Just(proto::SCTP),
        Just(proto::DCCP),
        Just(proto::ICMP),
        Just(proto::ICMPV6),
        Just(proto::GRE),
        any::<u8>(),
    ]
}

/// Whether the wire carries the ports of this protocol.
fn has_ports(protocol: u8) -> bool {
    [proto::TCP, proto::UDP, proto::SCTP, proto::DCCP].contains(&protocol)
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (addresses(), protocol(), any::<(u16, u16)>()).prop_map(|((src, dst), proto, (a, b))| Tuple {
        src,
        dst,
        proto,
        l4: L4 { a, b },
    })
}

fn name<const N: usize>(longest: usize) -> impl Strategy<Value = Name<N>> {
    let octet = prop::sample::select(b"-.0aZ_~".as_slice());
    prop::collection::vec(octet, 1..=longest).prop_map(|octets| Name::new(&octets).unwrap())
}

prop_compose! {
    fn protoinfo(protocol: u8)(
        state in any::<u8>(),
        wscale in any::<Option<[u8; 2]>>(),
        vtag in any::<Option<[u32; 2]>>(),
        role in any::<u8>(),
    ) -> Option<ProtoInfo> {
        match protocol {
            proto::TCP => Some(ProtoInfo::Tcp(Tcp { state, wscale, flags: None })),
            proto::SCTP => Some(ProtoInfo::Sctp(Sctp { state, vtag })),
            proto::DCCP => Some(ProtoInfo::Dccp(Dccp { state, role, handshake_seq: None })),
            _ => None,
        }
    }
}

/// What the wire carries of every flow that has it.
const COMMON: u32 = Present::STATUS.0
    | Present::TIMEOUT.0
    | Present::MARK.0
    | Present::HELPER.0
    | Present::MASTER.0
    | Present::SEQADJ.0
    | Present::SYNPROXY.0
    | Present::SNAT.0
    | Present::DNAT.0;

prop_compose! {
    /// A flow as a peer tells it.
    fn told_flow()(orig in tuple())(
        info in protoinfo(orig.proto),
        present in any::<u32>(),
        numbers in any::<[u32; 3]>(),
        zone in any::<u16>(),
        helper in name::<16>(11),
        master in tuple(),
        labels in any::<[u32; 4]>(),
        adjust in any::<[[i32; 3]; 2]>(),
        synproxy in any::<[u32; 3]>(),
        (snat, dnat) in addresses(),
        ports in any::<[u16; 2]>(),
        orig in Just(orig),
    ) -> Flow {
        let [status, timeout, mark] = numbers;
        let mut flow = Flow {
            present: Present(Present::ORIG.0 | present & COMMON),
            orig,
            zone,
            status: Status(status),
            timeout,
            mark,
            helper,
            master,
            labels: Labels(labels),
            seqadj: adjust.map(|[pos, before, after]| SeqAdj {
                correction_pos: pos.cast_unsigned(),
                offset_before: before,
                offset_after: after,
            }),
            synproxy: Synproxy { isn: synproxy[0], its: synproxy[1], tsoff: synproxy[2] },
            snat,
            dnat,
            spat: ports[0],
            dpat: ports[1],
            ..Flow::default()
        };
        if let Some(info) = info {
            flow.protoinfo = info;
            flow.present.insert(Present::PROTOINFO);
        }
        let chosen = Present(present);
        if has_ports(orig.proto) {
            flow.present.insert(Present(present & (Present::SPAT.0 | Present::DPAT.0)));
        } else if !orig.is_icmp() {
            flow.orig.l4 = L4::default();
        }
        if zone != 0 && chosen.has(Present::ZONE) {
            flow.present.insert(Present::ZONE);
        }
        if !flow.labels.is_empty() && chosen.has(Present::LABELS) {
            flow.present.insert(Present::LABELS);
        }
        flow
    }
}

prop_compose! {
    fn told_expect()(
        master in tuple(),
        mut tuple in tuple(),
        mut mask in tuple(),
        numbers in any::<[u32; 4]>(),
        helper in name::<16>(11),
        function in name::<32>(27),
        saved in any::<([u8; 4], u8, u16)>(),
        present in any::<u16>(),
    ) -> Expect {
        let mut master = master;
        if !has_ports(master.proto) {
            for t in [&mut master, &mut tuple, &mut mask] {
                t.l4 = L4::default();
            }
        }
        let carried = ExpectPresent::TUPLE.0
            | ExpectPresent::MASK.0
            | ExpectPresent::TIMEOUT.0
            | ExpectPresent::HELPER.0
            | ExpectPresent::FLAGS.0
            | ExpectPresent::CLASS.0
            | ExpectPresent::NAT.0
            | ExpectPresent::FUNCTION.0;
        let [timeout, flags, class, nat_dir] = numbers;
        let (address, proto, port) = saved;
        Expect {
            present: ExpectPresent(ExpectPresent::MASTER.0 | present & carried),
            master,
            tuple,
            mask,
            timeout,
            flags,
            class,
            nat_dir,
            nat: Tuple {
                src: address.into(),
                dst: Ipv4Addr::UNSPECIFIED.into(),
                proto,
                l4: L4::ports(port, 0),
            },
            helper,
            function,
            ..Expect::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_told_flow_comes_back(flow in told_flow()) {
        let mut out = [0xaa; FLOW_MESSAGE_MAX];
        let len = encode_flow(Kind::Update, &flow, &ALL, &mut out).unwrap();
        prop_assert_eq!(len % 4, 0);
        let message = Messages::new(&out[..len]).next().unwrap().unwrap();
        let payload = FlowPayload::parse(message.payload()).unwrap();
        prop_assert_eq!(payload.orig_tuple(), flow.orig);
        prop_assert_eq!(payload.zone(), if flow.present.has(Present::ZONE) { flow.zone } else { 0 });
        let mut back = Flow::default();
        payload.write_to(&mut back);
        prop_assert_eq!(back, flow);
    }

    #[test]
    fn who_knows_layouts_reads_the_same(
        flows in proptest::collection::vec(told_flow(), 1..6),
        hits in proptest::collection::vec((0usize..12, any::<proptest::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut messages = Vec::new();
        for flow in &flows {
            let mut out = [0; FLOW_MESSAGE_MAX];
            let len = encode_flow(Kind::Update, flow, &ALL, &mut out).unwrap();
            // What was read is read again, perhaps with another octet.
            messages.extend([out[HEADER_LEN..len].to_vec(), out[HEADER_LEN..len].to_vec()]);
        }
        for (which, at, octet) in hits {
            if let Some(message) = messages.get_mut(which) {
                let at = at.index(message.len());
                message[at] = octet;
            }
        }
        let mut layouts = FlowLayouts::new();
        for message in &messages {
            let mut payload = FlowPayload::EMPTY;
            let read = payload.read(message, &mut layouts).map(|()| payload);
            let told = |payload: FlowPayload<'_>| {
                let mut flow = Flow::default();
                payload.write_to(&mut flow);
                (flow, payload.orig_tuple(), payload.zone())
            };
            prop_assert_eq!(read.map(told), FlowPayload::parse(message).map(told));
        }
    }

    #[test]
    fn room_is_respected_to_the_octet(flow in told_flow(), room in 0usize..FLOW_MESSAGE_MAX) {
        let mut out = [0xaa; FLOW_MESSAGE_MAX];
        let len = encode_flow(Kind::New, &flow, &ALL, &mut out).unwrap();
        let mut small = [0xaa; FLOW_MESSAGE_MAX];
        let result = encode_flow(Kind::New, &flow, &ALL, &mut small[..room]);
        prop_assert_eq!(result, (room >= len).then_some(len));
        prop_assert!(small[room..].iter().all(|&octet| octet == 0xaa));
    }

    #[test]
    fn an_update_changes_what_it_carries_and_keeps_the_rest(old in told_flow(), new in told_flow()) {
        let mut out = [0; FLOW_MESSAGE_MAX];
        let len = encode_flow(Kind::Update, &new, &ALL, &mut out).unwrap();
        let payload = FlowPayload::parse(&out[HEADER_LEN..len]).unwrap();
        let mut merged = old;
        payload.write_to(&mut merged);
        let (p, q) = (merged.present, new.present);
        prop_assert!(p.has(q) && p.has(old.present));
        let mark = if q.has(Present::MARK) { new.mark } else { old.mark };
        prop_assert!(!p.has(Present::MARK) || merged.mark == mark);
        let snat = if q.has(Present::SNAT) { new.snat } else { old.snat };
        prop_assert!(!p.has(Present::SNAT) || merged.snat == snat);
    }

    #[test]
    fn a_told_expectation_comes_back(expect in told_expect()) {
        let mut out = [0xaa; EXPECT_MESSAGE_MAX];
        let len = encode_expect(Kind::ExpectNew, &expect, &ALL, &mut out).unwrap();
        prop_assert_eq!(len % 4, 0);
        let payload = ExpectPayload::parse(&out[HEADER_LEN..len]).unwrap();
        let mut back = Expect::default();
        payload.write_to(&mut back);
        // What is absent was not filled in.
        let present = back.present;
        prop_assert_eq!(present, expect.present);
        let mut wanted = expect;
        for (bit, clear) in [
            (ExpectPresent::TUPLE, (|e| e.tuple = Tuple::default()) as fn(&mut Expect)),
            (ExpectPresent::MASK, |e| e.mask = Tuple::default()),
            (ExpectPresent::TIMEOUT, |e| e.timeout = 0),
            (ExpectPresent::FLAGS, |e| e.flags = 0),
            (ExpectPresent::CLASS, |e| e.class = 0),
            (ExpectPresent::NAT, |e| { e.nat = Tuple::default(); e.nat_dir = 0; }),
            (ExpectPresent::HELPER, |e| e.helper = Name::EMPTY),
            (ExpectPresent::FUNCTION, |e| e.function = Name::EMPTY),
        ] {
            if !present.has(bit) {
                clear(&mut wanted);
            }
        }
        prop_assert_eq!(back, wanted);
    }
}

#[test]
fn the_longest_messages_have_the_promised_length() {
    let v6 = |last| Tuple {
        src: IpAddr::from([last; 16]),
        dst: IpAddr::from([1; 16]),
        proto: proto::ICMPV6,
        l4: L4::icmp(1, 128, 0),
    };
    let mut flow = Flow {
        present: Present(
            COMMON | Present::ORIG.0 | Present::LABELS.0 | Present::ZONE.0 | Present::PROTOINFO.0,
        ),
        orig: v6(1),
        master: v6(2),
        zone: 7,
        helper: Name::new(b"abcdefghijk").unwrap(),
        labels: Labels([1; 4]),
        snat: IpAddr::from([3; 16]),
        dnat: IpAddr::from([3; 16]),
        ..Flow::default()
    };
    let mut longest = 0;
    for protocol in 0..=255 {
        flow.orig.proto = protocol;
        flow.present.insert(Present(Present::SPAT.0 | Present::DPAT.0));
        let infos = [
            ProtoInfo::Tcp(Tcp { wscale: Some([1, 2]), ..Tcp::default() }),
            ProtoInfo::Sctp(Sctp { vtag: Some([1, 2]), ..Sctp::default() }),
            ProtoInfo::Dccp(Dccp::default()),
        ];
        for info in infos {
            flow.protoinfo = info;
            let len = encode_flow(Kind::New, &flow, &ALL, &mut [0; 1000]).unwrap();
            longest = longest.max(len);
        }
    }
    assert_eq!(longest, FLOW_MESSAGE_MAX);

    let mut tcp = v6(2);
    tcp.proto = proto::TCP;
    let expect = Expect {
        present: ExpectPresent(u16::MAX),
        master: tcp,
        tuple: tcp,
        mask: tcp,
        helper: Name::new(b"abcdefghijk").unwrap(),
        function: Name::new(&[b'f'; 27]).unwrap(),
        ..Expect::default()
    };
    let len = encode_expect(Kind::ExpectNew, &expect, &ALL, &mut [0; 1000]).unwrap();
    assert_eq!(len, EXPECT_MESSAGE_MAX);
}

#[test]
fn names_that_do_not_fit_are_left_out() {
    let mut flow = Flow { present: Present::HELPER, ..Flow::default() };
    let mut out = [0; 64];
    flow.helper = Name::new(b"abcdefghijk").unwrap();
    assert_eq!(encode_flow(Kind::New, &flow, &ALL, &mut out), Some(24));
    flow.helper = Name::new(b"abcdefghijkl").unwrap();
    assert_eq!(encode_flow(Kind::New, &flow, &ALL, &mut out), Some(8));
    let mut expect = Expect { present: ExpectPresent::FUNCTION, ..Expect::default() };
    expect.function = Name::new(&[b'f'; 28]).unwrap();
    assert_eq!(encode_expect(Kind::ExpectNew, &expect, &ALL, &mut out), Some(8));
}

/// A peer that sends such a name would write to the operator's terminal, or break XML.
#[test]
fn what_is_no_name_of_a_helper_costs_the_message() {
    let present = Present(Present::ORIG.0 | Present::HELPER.0);
    let mut flow = Flow { present, ..Flow::default() };
    for (name, good) in
        [(b"Q.931".as_slice(), true), (b"a\x1b[31m", false), (b"a<b", false), (b"\xc3\xa9", false)]
    {
        flow.helper = Name::new(name).unwrap();
        let mut out = [0; 400];
        let len = encode_flow(Kind::New, &flow, &ALL, &mut out).unwrap();
        let refused = FlowPayload::parse(&out[HEADER_LEN..len]).err().map(|error| error.kind);
        assert_eq!(refused, (!good).then_some(PayloadErrorKind::BadName), "{name:?}");
    }
}
