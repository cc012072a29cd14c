//! `--sort`: entries in an order, all of them or the first of it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use proto_ctnl::{Flow, Present};

use super::dump::dump;
use super::list::Listing;
use crate::args::{Command, Request, SortBy, SortKey};
use crate::failure::Failure;
use crate::filter::{Filter, bytes};
use crate::kernel::Kernel;

/// What stands in front of the order: addresses count as numbers, and what a flow lacks as 0.
type Rank = u128;

/// A rendered entry and its place in the order.
#[derive(Debug, PartialEq, Eq)]
struct Ranked {
    rank: Rank,
    /// Entries of one rank stay in the order of the table.
    place: u64,
    line: Box<[u8]>,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.rank, self.place).cmp(&(other.rank, other.place))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Entries on their way into an order. With a limit there are never more than that, the last of
/// them on top.
pub(super) struct Sorted {
    key: SortKey,
    limit: Option<usize>,
    entries: BinaryHeap<Ranked>,
    scratch: Vec<u8>,
}

impl Sorted {
    pub(super) const fn new(key: SortKey, limit: Option<usize>) -> Self {
        Self { key, limit, entries: BinaryHeap::new(), scratch: Vec::new() }
    }

    pub(super) fn run(
        mut self,
        request: &Request,
        filter: &Filter,
        listing: &mut Listing<'_>,
    ) -> Result<(), Failure> {
        let mut kernel = Kernel::open(Command::List, request.table)?;
        let mut place = 0;
        dump(&mut kernel, request, filter, |flow| {
            self.add(flow, place, listing);
            place += 1;
            Ok(())
        })?;
        for entry in self.entries.into_sorted_vec() {
            listing.line(&entry.line);
        }
        Ok(())
    }

    fn add(&mut self, flow: &Flow, place: u64, listing: &Listing<'_>) {
        let rank = rank(flow, self.key.by);
        let rank = if self.key.descending { !rank } else { rank };
        if let Some(limit) = self.limit
            && self.entries.len() >= limit
        {
            if self.entries.peek().is_none_or(|last| last.rank <= rank) {
                return;
            }
            self.entries.pop();
        }
        self.scratch.clear();
        listing.show.flow(flow, &mut self.scratch);
        self.entries.push(Ranked { rank, place, line: self.scratch.as_slice().into() });
    }
}

fn rank(flow: &Flow, by: SortBy) -> Rank {
    let has = |bit| flow.present.has(bit);
    let word = |bit, value: u64| if has(bit) { value } else { 0 };
    let number = match by {
        SortBy::Source => return address(flow.orig.src),
        SortBy::Destination => return address(flow.orig.dst),
        SortBy::Bytes => bytes(flow).unwrap_or(0),
        SortBy::Packets => {
            let packets = flow.counters[0].packets.saturating_add(flow.counters[1].packets);
            word(Present::COUNTERS_ORIG, packets)
        }
        SortBy::Timeout => word(Present::TIMEOUT, flow.timeout.into()),
        SortBy::SourcePort if flow.orig.has_ports() => flow.orig.l4.a.into(),
        SortBy::DestinationPort if flow.orig.has_ports() => flow.orig.l4.b.into(),
        SortBy::SourcePort | SortBy::DestinationPort => 0,
        SortBy::Protocol => flow.orig.proto.into(),
        SortBy::State => word(Present::PROTOINFO, flow.protoinfo.state().into()),
        SortBy::Zone => word(Present::ZONE, flow.zone.into()),
        SortBy::Mark => word(Present::MARK, flow.mark.into()),
        SortBy::Id => word(Present::ID, flow.id.into()),
        // The younger, the later it began.
        SortBy::Age => u64::MAX - word(Present::START, flow.start),
    };
    number.into()
}

/// IPv4 stands in front of IPv6.
fn address(address: IpAddr) -> Rank {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => u128::from(v6),
    }
}
