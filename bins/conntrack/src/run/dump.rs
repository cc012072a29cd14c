//! Reads a table through a filter.

use std::fs;
use std::ops::ControlFlow;

use proto_ctnl::{Content, DumpFilter, Flow};

use super::lookup::Lookup;
use crate::args::{Command, Opt, Request, Table};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::kernel::{Answers, Errno, INVALID, Kernel, STOPPED, is_unsupported, say_interrupted};

/// How many chains the kernel's table of flows has.
const CHAINS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// Hands each flow that the filter admits to `take`. A failure of `take` ends it. Where a lookup is
/// at hand, the table is read only for what that can not find.
pub(super) fn flows(
    command: Command,
    lookup: Option<&mut Lookup>,
    request: &Request,
    filter: &Filter,
    take: impl FnMut(&Flow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let found = lookup.map(|lookup| lookup.find(filter)).transpose()?.flatten();
    match found {
        Some(found) => found.iter().try_for_each(take),
        None => dump(&mut Kernel::open(command, Table::Conntrack)?, request, filter, take),
    }
}

/// Hands each flow that the filter admits to `take`. A failure of `take` ends it.
pub(super) fn dump(
    kernel: &mut Kernel,
    request: &Request,
    filter: &Filter,
    mut take: impl FnMut(&Flow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    dump_until(kernel, request, filter, |flow| take(flow).map(ControlFlow::Continue))
}

/// The same until `take` wants no more, after which the socket is of no use.
pub(super) fn dump_until(
    kernel: &mut Kernel,
    request: &Request,
    filter: &Filter,
    mut take: impl FnMut(&Flow) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    dump_all(kernel, request, filter, |flow| match flow {
        Some(flow) => take(flow),
        None => Ok(ControlFlow::Continue(())),
    })
}

/// The same, where `take` is called without a flow for each that the kernel sends and the filter refuses.
pub(super) fn dump_all(
    kernel: &mut Kernel,
    request: &Request,
    filter: &Filter,
    mut take: impl FnMut(Option<&Flow>) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    let mut end = None;
    let chains = fs::read(CHAINS).ok();
    for asked in filter.for_kernel() {
        let mut pass = |kernel: &mut Kernel, asked: &DumpFilter| {
            one(kernel, request, asked, |flow| {
                match take(Some(flow).filter(|flow| filter.admits(flow))) {
                    Ok(ControlFlow::Continue(())) => return Ok(()),
                    Ok(ControlFlow::Break(())) => end = Some(Ok(())),
                    Err(failure) => end = Some(Err(failure)),
                }
                Err(STOPPED)
            })
        };
        let mut result = pass(kernel, &asked);
        if result.is_err_and(is_unsupported) && (asked.orig.is_some() || asked.reply.is_some()) {
            // An old kernel, which refuses tuples and then sends everything.
            let plain = DumpFilter { orig: None, reply: None, ..asked };
            result = pass(kernel, &plain);
        }
        if let Some(end) = end {
            return end;
        }
        result.map_err(|errno| kernel.failure(errno))?;
    }
    // The kernel goes on at a place of the old table, and does not tell.
    if fs::read(CHAINS).ok() != chains {
        say_interrupted();
    }
    Ok(())
}

fn one(
    kernel: &mut Kernel,
    request: &Request,
    asked: &DumpFilter,
    mut take: impl FnMut(&Flow) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let zeroes = request.command == Some(Command::List) && request.given.has(Opt::Zero);
    let mut flow = Flow::default();
    kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| match request.table {
            Table::Dying => encoder.flow_dump_dying(asked.family, seq),
            Table::Unconfirmed => encoder.flow_dump_unconfirmed(asked.family, seq),
            _ if zeroes => encoder.flow_dump_zero(asked, seq),
            _ => encoder.flow_dump(asked, seq),
        },
        |content| match content {
            Content::Flow(seen) => {
                flow.clear();
                seen.write_to(&mut flow).map_err(|_| INVALID)?;
                take(&flow)
            }
            _ => Ok(()),
        },
    )
}
