//! What the ring program refuses in the kernel is what user space would refuse, and it refuses
//! nothing else: the program's own instructions are run here against the user-space filter.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::config::{Filter, Network, Policy};
use engine::filter::FlowFilter;
use proptest::prelude::*;
use proptest::sample::select;
use proto_ctnl::bpf::interpret::{Machine, Verdict, maps};
use proto_ctnl::bpf::{EventFilter, ring_program};
use proto_ctnl::{
    Content, Encoder, Flow, FlowMasks, L4, Message, Present, Status, Tuple, proto, shard_of,
};

const SHARDS: u32 = 3;

/// What the program does with a message.
fn verdict(filter: &EventFilter, message: &[u8]) -> Verdict {
    let program = ring_program(SHARDS, &maps(filter), false, filter);
    Machine::new(&program, message, SHARDS, false).knowing(filter).run().unwrap()
}

/// The flow that a message is about.
fn flow_in(message: &[u8]) -> Flow {
    let message = Message::parse(message).unwrap();
    let Ok(Content::Flow(event)) = message.content() else { panic!("no flow") };
    let mut flow = Flow::default();
    event.write_to(&mut flow).unwrap();
    flow
}

/// Checks the program against user space on one message; whether it was refused.
fn agree(filter: &FlowFilter, message: &[u8]) -> bool {
    let flow = flow_in(message);
    let shard = shard_of(&flow.orig, SHARDS);
    match verdict(&filter.for_events(), message) {
        Verdict::Filtered { shard: counted } => {
            assert_eq!(counted, shard);
            assert!(!filter.passes_end(&flow), "refused: {flow:?}");
            true
        }
        Verdict::Ring { shard: to, bytes, .. } => {
            assert_eq!((to, bytes.as_slice()), (shard, message));
            // Without a reply tuple the program can not be sure.
            let refused = !filter.passes_end(&flow) && flow.present.has(Present::REPLY);
            assert!(!refused, "not refused: {flow:?}");
            false
        }
        other => panic!("{other:?}"),
    }
}

/// Addresses in few networks, some at their ends.
fn address(v6: bool) -> BoxedStrategy<IpAddr> {
    if v6 {
        let high = select(vec![0u128, 0x2001_0db8 << 96, 0x2001_0db8_0001 << 80, u128::MAX << 64]);
        (high, select(vec![0u128, 1, 2, 0xffff, u64::MAX.into()]))
            .prop_map(|(high, low)| Ipv6Addr::from(high | low).into())
            .boxed()
    } else {
        let high = select(vec![0u32, 0x0a00_0000, 0x0a01_0000, 0xffff_0000]);
        (high, select(vec![0u32, 1, 2, 0xff, 0xffff]))
            .prop_map(|(high, low)| Ipv4Addr::from(high | low).into())
            .boxed()
    }
}

fn network() -> impl Strategy<Value = Network> {
    let prefixes = |v6| {
        if v6 { vec![0u8, 1, 32, 48, 63, 64, 112, 127, 128] } else { vec![0, 1, 8, 16, 24, 31, 32] }
    };
    any::<bool>().prop_flat_map(move |v6| {
        (address(v6), select(prefixes(v6)))
            .prop_map(|(address, prefix)| Network { address, prefix })
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    select(vec![Policy::Accept, Policy::Ignore])
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![
        select(vec![0, 1, 6, 17, 47, 58, 63, 64, 127, 128, 132, 136, 191, 192, 255]),
        any::<u8>()
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let protocols = (policy(), prop::collection::vec(protocol(), 0..8));
    let addresses = (policy(), prop::collection::vec(network(), 0..8));
    let states = (policy(), prop::collection::vec(0u8..10, 0..4));
    let sets = (prop::option::of(protocols), prop::option::of(addresses), prop::option::of(states));
    sets.prop_map(|(protocols, addresses, tcp_states)| Filter {
        protocols,
        addresses,
        tcp_states,
        ..Filter::default()
    })
}

fn tuple(v6: bool) -> impl Strategy<Value = Tuple> {
    (address(v6), address(v6), protocol(), any::<u16>()).prop_map(|(src, dst, proto, a)| {
        let l4 = match proto {
            proto::ICMP | proto::ICMPV6 => L4::icmp(a, 8, 0),
            _ => L4 { a, b: a ^ 0x1234 },
        };
        let bare = Tuple { src, dst, proto, l4: L4::default() };
        if bare.has_ports() || matches!(proto, proto::ICMP | proto::ICMPV6) {
            Tuple { l4, ..bare }
        } else {
            bare
        }
    })
}

/// The message of a flow as the kernel writes it.
fn message(flow: &Flow, destroyed: bool) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut encoder = Encoder::new(&mut buffer);
    encoder.flow_new(flow, FlowMasks::default(), 0, 0).unwrap();
    let mut message = encoder.bytes().to_vec();
    message[4] = if destroyed { 2 } else { 0 };
    message
}

fn event() -> impl Strategy<Value = Vec<u8>> {
    let bits = [Present::ORIG_ZONE, Present::REPLY_ZONE, Present::MARK, Present::ZONE];
    (any::<bool>(), any::<bool>(), any::<[bool; 4]>(), prop::bool::weighted(0.9)).prop_flat_map(
        move |(v6, destroyed, has, reply)| {
            (tuple(v6), tuple(v6)).prop_map(move |(orig, other)| {
                let common = Present::ORIG.or(Present::STATUS).or(Present::TIMEOUT);
                let mut flow = Flow { present: common, orig, ..Flow::default() };
                flow.reply = Tuple { proto: orig.proto, l4: orig.l4, ..other };
                (flow.orig_zone, flow.reply_zone, flow.zone, flow.mark) = (7, 8, 9, 10);
                flow.status = Status(0x0e);
                for (bit, _) in bits.into_iter().zip(has).filter(|(_, has)| *has) {
                    flow.present.insert(bit);
                }
                if reply {
                    flow.present.insert(Present::REPLY);
                } else {
                    // As long as an event is at least.
                    flow.present.insert(Present::SEQADJ);
                }
                message(&flow, destroyed)
            })
        },
    )
}

/// The kernel's messages about flows.
fn recorded() -> Vec<Vec<u8>> {
    let text = include_str!("../../tests/vectors/ctnetlink/messages.jsonl");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|value: &serde_json::Value| value["kind"].as_str().unwrap().starts_with("event_"))
        .map(|value| {
            let digits = value["hex"].as_str().unwrap();
            let octets = (0..digits.len() / 2).map(|i| &digits[2 * i..2 * i + 2]);
            octets.map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_program_refuses_what_user_space_refuses(config in filter(), message in event()) {
        agree(&FlowFilter::new(&config), &message);
    }

    /// Whatever octets come, a refused message would have been refused in user space, or would not
    /// have been understood there.
    #[test]
    fn nothing_is_refused_that_is_only_damaged(
        config in filter(), message in event(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let filter = FlowFilter::new(&config);
        let mut message = message;
        for (at, value) in changes {
            let at = at.index(message.len());
            message[at] = value;
        }
        if let Verdict::Filtered { .. } = verdict(&filter.for_events(), &message) {
            let parsed = Message::parse(&message).unwrap();
            let mut flow = Flow::default();
            if let Ok(Content::Flow(event)) = parsed.content()
                && event.write_to(&mut flow).is_ok()
            {
                prop_assert!(!filter.passes_end(&flow), "{:?}", flow);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_filters_agree_on_the_kernels_messages(
        config in filter(), listed in prop::collection::vec((any::<prop::sample::Index>(), 8u8..33), 1..4),
    ) {
        let messages = recorded();
        let mut config = config;
        // Networks that hold some of them.
        for (message, prefix) in listed {
            let flow = flow_in(message.get::<Vec<u8>>(&messages));
            let address = if prefix % 2 == 0 { flow.orig.src } else { flow.reply.src };
            let prefix = if address.is_ipv6() { 4 * prefix - 4 } else { prefix };
            let list = config.addresses.get_or_insert((Policy::Accept, Vec::new()));
            list.1.push(Network { address, prefix });
        }
        let filter = FlowFilter::new(&config);
        for message in &messages {
            agree(&filter, message);
        }
    }
}

#[test]
fn each_set_refuses_and_keeps_some_of_the_kernels_messages() {
    let messages = recorded();
    assert!(messages.len() > 150, "{}", messages.len());
    let sources: Vec<_> = messages.iter().map(|message| flow_in(message).orig.src).collect();
    let whole = |address: &IpAddr| Network {
        address: *address,
        prefix: if address.is_ipv4() { 32 } else { 128 },
    };
    let v4 = sources.iter().copied().find(IpAddr::is_ipv4).unwrap();
    let v6 = sources.iter().copied().find(IpAddr::is_ipv6).unwrap();
    for policy in [Policy::Accept, Policy::Ignore] {
        let protocols = Filter { protocols: Some((policy, vec![6])), ..Filter::default() };
        let addresses = |list| Filter { addresses: Some((policy, list)), ..Filter::default() };
        for config in [protocols, addresses(vec![whole(&v4)]), addresses(vec![whole(&v6)])] {
            let filter = FlowFilter::new(&config);
            let refused = messages.iter().filter(|message| agree(&filter, message)).count();
            assert!(refused > 0 && refused < messages.len(), "{config:?}: {refused}");
        }
    }
    // No network of a family: none of it is listed.
    let only_v4 = Filter {
        addresses: Some((Policy::Accept, vec![Network { address: v4, prefix: 0 }])),
        ..Filter::default()
    };
    let filter = FlowFilter::new(&only_v4);
    for (message, source) in messages.iter().zip(&sources) {
        assert_eq!(agree(&filter, message), source.is_ipv6());
    }
}

#[test]
fn states_are_left_to_user_space() {
    let config = Filter { tcp_states: Some((Policy::Accept, vec![3])), ..Filter::default() };
    let filter = FlowFilter::new(&config).for_events();
    assert!(filter.is_empty());
    assert!(
        recorded()
            .iter()
            .all(|message| { matches!(verdict(&filter, message), Verdict::Ring { .. }) })
    );
}
