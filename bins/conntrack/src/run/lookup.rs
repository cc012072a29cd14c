//! Finds the flows of a whole original tuple without reading the table.
//!
//! For lines of a loaded file, which would read the whole table one after the other. In one zone no
//! two flows have the same original tuple; so one is asked for in each zone that the table has.

use std::collections::BTreeSet;

use proto_ctnl::{Content, DumpFilter, Flow, Present};

use crate::args::{Command, Table};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::kernel::{Answers, Errno, GONE, INVALID, Kernel};
use crate::pipeline::Pipeline;

/// Zones in which a tuple is asked for at most. With more of them the table is read.
const ZONES_MAX: usize = 64;

/// What lines of one file have in common.
pub(super) struct Lookup {
    pipeline: Pipeline,
    /// The zones of original directions. They are read once, and those of flows that the file makes
    /// are added.
    zones: Option<BTreeSet<u16>>,
}

impl Lookup {
    pub(super) fn new() -> Result<Self, Failure> {
        let kernel = Kernel::open(Command::Get, Table::Conntrack)?;
        Ok(Self { pipeline: Pipeline::new(kernel), zones: None })
    }

    /// To be called for each flow that is made.
    pub(super) fn made_in(&mut self, zone: u16) {
        if let Some(zones) = &mut self.zones {
            zones.insert(zone);
        }
    }

    /// The flows that the filter admits; `None` if they must be sought in the table.
    pub(super) fn find(&mut self, filter: &Filter) -> Result<Option<Vec<Flow>>, Failure> {
        let Some(tuple) = filter.whole_tuple() else { return Ok(None) };
        let zones = match filter.zone() {
            Some(zone) => &BTreeSet::from([zone]),
            None => self.zones()?,
        };
        if zones.len() > ZONES_MAX {
            return Ok(None);
        }
        for zone in zones.clone() {
            let pushed =
                self.pipeline.push(|encoder, seq| encoder.flow_get(&tuple, zone, seq, false));
            pushed.map_err(|_| self.pipeline.kernel().failure(INVALID))?;
        }
        let (mut found, mut refused) = (Vec::new(), false);
        let result = self.pipeline.exchange(|_, answer| match answer {
            Ok(Content::Flow(seen)) => {
                let mut flow = Flow::default();
                // The kernel also finds a flow by the tuple of its other direction.
                if seen.write_to(&mut flow).is_ok() && filter.admits(&flow) {
                    // Being asked for is a use that the table, when it is read, does not tell.
                    flow.use_count = flow.use_count.saturating_sub(1);
                    found.push(flow);
                }
            }
            Err(errno) => refused |= errno != GONE,
            _ => {}
        });
        result.map_err(|errno| self.pipeline.kernel().failure(errno))?;
        Ok((!refused).then_some(found))
    }

    fn zones(&mut self) -> Result<&BTreeSet<u16>, Failure> {
        if self.zones.is_none() {
            let mut kernel = Kernel::open(Command::Get, Table::Conntrack)?;
            let zones = read_zones(&mut kernel).map_err(|errno| kernel.failure(errno))?;
            self.zones = Some(zones);
        }
        Ok(self.zones.get_or_insert_default())
    }
}

fn read_zones(kernel: &mut Kernel) -> Result<BTreeSet<u16>, Errno> {
    let (mut zones, mut flow) = (BTreeSet::from([0]), Flow::default());
    kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| encoder.flow_dump(&DumpFilter::default(), seq),
        |content| {
            if let Content::Flow(seen) = content {
                flow.clear();
                seen.write_to(&mut flow).map_err(|_| INVALID)?;
                if flow.present.any(Present::ZONE.or(Present::ORIG_ZONE)) {
                    zones.insert(flow.key_zone());
                }
            }
            Ok(())
        },
    )?;
    Ok(zones)
}
