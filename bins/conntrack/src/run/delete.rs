//! `-D`: removes the flows that are meant.

use proto_ctnl::Present;

use super::bulk::Bulk;
use super::dump::flows;
use super::finish;
use super::lookup::Lookup;
use crate::args::{Command, Request};
use crate::failure::Failure;
use crate::output::Out;

pub(super) fn delete(request: &Request) -> Result<(), Failure> {
    let mut out = Out::new()?;
    let result = run(request, None, &mut out);
    // Told before what is still to be written, as by the original.
    let told = result.and_then(|count| finish(count, "flow entries have been deleted."));
    out.flush();
    told
}

/// Removes, shows what was removed, and answers how many there were.
pub(super) fn run(
    request: &Request,
    lookup: Option<&mut Lookup>,
    out: &mut Out,
) -> Result<u64, Failure> {
    let filter = super::filter(request)?;
    let mut deletion = Bulk::new(request, Command::Delete, "deleted")?;
    let result = flows(Command::Delete, lookup, request, &filter, |flow| {
        // The identifier spares a flow that took the place of this one in between.
        let id = flow.present.has(Present::ID).then_some(flow.id);
        let zone = flow.key_zone();
        deletion.add(
            flow,
            |encoder, seq| encoder.flow_delete(&flow.orig, zone, id, seq, false),
            out,
        )
    });
    // What was asked for before an error is done in any case.
    let deleted = deletion.finish(out);
    result?;
    deleted
}
