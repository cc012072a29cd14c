//! The filter: which flows count, for events, dumps and selective flushes. Whatever the intake
//! left out of it in the kernel, what arrives is judged here.
//!
//! Sets that the configuration names are ANDed; a set that it does not name is not tested.
//! Addresses are compared with the original source and the reply source, that is with the client
//! and with the server that really answers. IPv4 flows look at IPv4 networks only and IPv6 flows
//! at IPv6 networks only, so a list that keeps IPv4 networks alone refuses all of IPv6.

use std::net::IpAddr;

use proto_ctnl::bpf::{AddressFilter, EventFilter};
use proto_ctnl::{Flow, Present, ProtoInfo};

use crate::config::{Filter, Network, Policy};

/// A set of 256 numbers: protocols or states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers([u64; 4]);

impl Numbers {
    fn of(list: &[u8]) -> Self {
        let mut set = Self::default();
        for &n in list {
            set.0[usize::from(n >> 6)] |= 1 << (n & 63);
        }
        set
    }

    const fn has(&self, n: u8) -> bool {
        self.0[(n >> 6) as usize] >> (n & 63) & 1 == 1
    }

    fn inverted(&self) -> Self {
        Self(self.0.map(|word| !word))
    }
}

/// Networks of one family as disjoint ranges in ascending order. Only whether any network holds
/// an address matters, not which one, so overlapping networks are merged once and a test is one
/// binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges<T> {
    first: Vec<T>,
    last: Vec<T>,
}

impl<T: Copy + Ord> Ranges<T> {
    /// `touches(a, b)`: whether a range that begins at `b` overlaps or touches one that ends at `a`.
    fn of(mut ranges: Vec<(T, T)>, touches: impl Fn(T, T) -> bool) -> Self {
        ranges.sort_unstable();
        let mut set = Self { first: Vec::new(), last: Vec::new() };
        for (first, last) in ranges {
            match set.last.last_mut() {
                Some(end) if touches(*end, first) => *end = last.max(*end),
                _ => {
                    set.first.push(first);
                    set.last.push(last);
                }
            }
        }
        set
    }

    fn iter(&self) -> impl Iterator<Item = (T, T)> {
        self.first.iter().copied().zip(self.last.iter().copied())
    }

    fn has(&self, address: T) -> bool {
        let after = self.first.partition_point(|first| *first <= address);
        after.checked_sub(1).is_some_and(|at| self.last[at] >= address)
    }
}

/// The networks of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Networks {
    fn of(list: &[Network]) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in list {
            match network.address {
                IpAddr::V4(address) => {
                    let host = u32::MAX.checked_shr(u32::from(network.prefix)).unwrap_or(0);
                    let bits = u32::from(address);
                    v4.push((bits & !host, bits | host));
                }
                IpAddr::V6(address) => {
                    let host = u128::MAX.checked_shr(u32::from(network.prefix)).unwrap_or(0);
                    let bits = u128::from(address);
                    v6.push((bits & !host, bits | host));
                }
            }
        }
        Self {
            v4: Ranges::of(v4, |end, next| next <= end.saturating_add(1)),
            v6: Ranges::of(v6, |end, next| next <= end.saturating_add(1)),
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.has(u32::from(address)),
            IpAddr::V6(address) => self.v6.has(u128::from(address)),
        }
    }
}

/// The fewest networks that hold just what lies between two addresses of `width` bits.
fn networks(first: u128, last: u128, width: u32) -> impl Iterator<Item = (u128, u8)> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let at = next?;
        // As many host bits as the address ends in zeros and as there are addresses left.
        let left = (last - at).checked_add(1).map_or(u128::BITS, u128::ilog2);
        let host = at.trailing_zeros().min(left).min(width);
        let end = at | u128::MAX.checked_shr(u128::BITS - host).unwrap_or(0);
        next = (end < last).then(|| end + 1);
        // A width is 128 at most.
        Some((at, (width - host) as u8))
    })
}

/// A set with its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule<T> {
    keep_listed: bool,
    set: T,
}

impl<T> Rule<T> {
    fn of<L>(rule: &Option<(Policy, L)>, set: impl Fn(&L) -> T) -> Option<Self> {
        let (policy, list) = rule.as_ref()?;
        Some(Self { keep_listed: *policy == Policy::Accept, set: set(list) })
    }

    fn keeps(&self, listed: impl FnOnce(&T) -> bool) -> bool {
        listed(&self.set) == self.keep_listed
    }
}

/// The filter of a configuration, made ready for being asked once per flow: no allocation, no
/// hashing, and logarithmic time in the number of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    protocols: Option<Rule<Numbers>>,
    addresses: Option<Rule<Networks>>,
    tcp_states: Option<Rule<Numbers>>,
}

impl FlowFilter {
    /// The filter that `config` describes.
    pub fn new(config: &Filter) -> Self {
        Self {
            protocols: Rule::of(&config.protocols, |list| Numbers::of(list)),
            addresses: Rule::of(&config.addresses, |list| Networks::of(list)),
            tcp_states: Rule::of(&config.tcp_states, |list| Numbers::of(list)),
        }
    }

    /// Whether every flow passes because nothing is tested.
    pub const fn is_empty(&self) -> bool {
        self.protocols.is_none() && self.addresses.is_none() && self.tcp_states.is_none()
    }

    /// What the intake may judge by: all but the states, which do not count for every event.
    pub fn for_events(&self) -> EventFilter {
        let kept = |rule: &Rule<Numbers>| {
            if rule.keep_listed { rule.set.0 } else { rule.set.inverted().0 }
        };
        let addresses = |rule: &Rule<Networks>| {
            let v4 = rule.set.v4.iter().flat_map(|(first, last)| {
                networks(first.into(), last.into(), u32::BITS)
                    .map(|(address, bits)| ((address as u32).into(), bits))
            });
            let v6 = rule.set.v6.iter().flat_map(|(first, last)| {
                networks(first, last, u128::BITS).map(|(address, bits)| (address.into(), bits))
            });
            AddressFilter { keep_listed: rule.keep_listed, v4: v4.collect(), v6: v6.collect() }
        };
        EventFilter {
            protocols: self.protocols.as_ref().map(kept),
            addresses: self.addresses.as_ref().map(addresses),
        }
    }

    /// Whether a flow counts. Its original tuple must be present.
    #[inline]
    pub fn passes(&self, flow: &Flow) -> bool {
        self.is_empty() || self.passes_end(flow) && self.passes_state(flow)
    }

    /// Whether the end of a flow counts: as [`FlowFilter::passes`] without the state. A flow that
    /// was kept in one state may well end in another, and must not be kept for ever then; that of
    /// a flow never kept changes nothing.
    #[inline]
    pub fn passes_end(&self, flow: &Flow) -> bool {
        let protocol = flow.orig.proto;
        self.protocols.as_ref().is_none_or(|rule| rule.keeps(|set| set.has(protocol)))
            && self.addresses.as_ref().is_none_or(|rule| {
                rule.keeps(|set| set.has(flow.orig.src) || set.has(server(flow)))
            })
    }

    fn passes_state(&self, flow: &Flow) -> bool {
        let Some(rule) = &self.tcp_states else { return true };
        match flow.protoinfo {
            ProtoInfo::Tcp(tcp) if flow.present.has(Present::PROTOINFO) => {
                rule.keeps(|set| set.has(tcp.state))
            }
            _ => true,
        }
    }
}

/// The source of the reply direction. What a peer sends has no reply tuple but the translated
/// destination, from which it follows.
fn server(flow: &Flow) -> IpAddr {
    if flow.present.has(Present::REPLY) {
        flow.reply.src
    } else if flow.present.has(Present::DNAT) {
        flow.dnat
    } else {
        flow.orig.dst
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn contains(network: &Network, address: IpAddr) -> bool {
        let (bits, a, b) = match (network.address, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => (32, u32::from(n).into(), u32::from(a).into()),
            (IpAddr::V6(n), IpAddr::V6(a)) => (128, u128::from(n), u128::from(a)),
            _ => return false,
        };
        (0..u32::from(network.prefix))
            .all(|i| (a >> (bits - 1 - i) & 1) == (b >> (bits - 1 - i) & 1))
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        // Few distinct high bits, so that networks do hold addresses.
        prop_oneof![
            (0u32..4, any::<u8>())
                .prop_map(|(high, low)| IpAddr::V4(Ipv4Addr::from(high << 30 | u32::from(low)))),
            (0u128..4, any::<u8>())
                .prop_map(|(high, low)| IpAddr::V6(Ipv6Addr::from(high << 126 | u128::from(low)))),
            Just(IpAddr::V4(Ipv4Addr::BROADCAST)),
            Just(IpAddr::V6(Ipv6Addr::from(u128::MAX))),
        ]
    }

    fn network() -> impl Strategy<Value = Network> {
        (address(), any::<u8>()).prop_map(|(address, n)| Network {
            address,
            prefix: if address.is_ipv4() { n % 33 } else { n % 129 },
        })
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_every_network(
            list in proptest::collection::vec(network(), 0..40),
            src in address(), server in address(), accept: bool,
        ) {
            let policy = if accept { Policy::Accept } else { Policy::Ignore };
            let config = Filter { addresses: Some((policy, list.clone())), ..Filter::default() };
            let present = Present(Present::ORIG.0 | Present::REPLY.0);
            let mut flow = Flow { present, ..Flow::default() };
            flow.orig.src = src;
            flow.reply.src = server;
            let listed = list.iter().any(|n| contains(n, src) || contains(n, server));
            prop_assert_eq!(FlowFilter::new(&config).passes(&flow), listed == accept);
        }

        #[test]
        fn the_intake_gets_the_same_networks_in_fewer_parts(
            list in proptest::collection::vec(network(), 0..40), probe in address(),
        ) {
            let addresses = Some((Policy::Accept, list.clone()));
            let config = Filter { addresses, ..Filter::default() };
            let given = FlowFilter::new(&config).for_events().addresses.unwrap_or_default();
            let v4 = given.v4.iter().map(|&(n, prefix)| Network { address: n.into(), prefix });
            let v6 = given.v6.iter().map(|&(n, prefix)| Network { address: n.into(), prefix });
            let parts: Vec<_> = v4.chain(v6).collect();
            prop_assert!(parts.len() <= list.len());
            let holding = parts.iter().filter(|n| contains(n, probe)).count();
            prop_assert_eq!(holding, usize::from(list.iter().any(|n| contains(n, probe))));
        }
    }

    #[test]
    fn ranges_fall_into_the_fewest_networks() {
        let parts = |first, last, width| networks(first, last, width).collect::<Vec<_>>();
        assert_eq!(parts(0, u128::MAX, 128), [(0, 0)]);
        assert_eq!(parts(0, u32::MAX.into(), 32), [(0, 0)]);
        assert_eq!(parts(u128::MAX, u128::MAX, 128), [(u128::MAX, 128)]);
        assert_eq!(parts(1, 8, 32), [(1, 32), (2, 31), (4, 30), (8, 32)]);
        assert_eq!(parts(1, u128::MAX, 128).len(), 128);
    }

    #[test]
    fn the_end_of_a_flow_counts_in_any_state() {
        let config = Filter { tcp_states: Some((Policy::Accept, vec![3])), ..Filter::default() };
        let filter = FlowFilter::new(&config);
        let mut flow =
            Flow { present: Present(Present::ORIG.0 | Present::PROTOINFO.0), ..Flow::default() };
        flow.protoinfo = ProtoInfo::Tcp(proto_ctnl::Tcp { state: 7, ..Default::default() });
        assert!(!filter.passes(&flow));
        assert!(filter.passes_end(&flow));
        flow.present = Present::ORIG;
        assert!(filter.passes(&flow), "a flow without a state passes");
    }

    #[test]
    fn a_received_flow_is_judged_by_its_translated_destination() {
        let listed = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 9));
        let network = Network { address: listed, prefix: 32 };
        let config =
            Filter { addresses: Some((Policy::Ignore, vec![network])), ..Filter::default() };
        let filter = FlowFilter::new(&config);
        let mut flow = Flow { present: Present::ORIG, ..Flow::default() };
        assert!(filter.passes(&flow));
        flow.present.insert(Present::DNAT);
        flow.dnat = listed;
        assert!(!filter.passes(&flow));
        flow.present = Present::ORIG;
        flow.orig.dst = listed;
        assert!(!filter.passes(&flow));
    }
}
