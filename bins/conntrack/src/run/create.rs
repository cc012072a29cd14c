//! `-I` and `-A`: make a flow.

use proto_ctnl::consts::flag;
use proto_ctnl::{Encoder, Flow, Full};

use super::closing_line;
use crate::args::{Command, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Answers, GONE, INVALID, Kernel};
use crate::object;

pub(super) fn create(request: &Request) -> Result<(), Failure> {
    let command = request.command.unwrap_or(Command::Create);
    let mut kernel = Kernel::open(command, Table::Conntrack)?;
    let flow = object::flow(request).map_err(|errno| kernel.failure(errno))?;
    let result = kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| encode(command, &flow, encoder, seq),
        |_| Ok(()),
    );
    result.map_err(|errno| match errno {
        GONE if object::is_half(&flow) => kernel.failure(INVALID),
        _ => kernel.failure(errno),
    })?;
    closing_line(
        1,
        match command {
            Command::Add => "flow entries have been added.",
            _ => "flow entries have been created.",
        },
    );
    Ok(())
}

/// `-A` changes a flow that exists, `-I` leaves it alone and fails.
fn encode(command: Command, flow: &Flow, encoder: &mut Encoder<'_>, seq: u32) -> Result<(), Full> {
    let exclusive = if command == Command::Add { 0 } else { flag::EXCL };
    // Half a reply may name a flow that exists. Some kernels would make a new one with it.
    let create = if object::is_half(flow) { 0 } else { flag::CREATE };
    encoder.flow_new(flow, Default::default(), create | exclusive | flag::ACK, seq)
}
