//! `-G`: one flow.

use proto_ctnl::{Content, Flow};

use super::{Document, finish};
use crate::args::{Command, Request, Table};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::kernel::{Answers, INVALID, Kernel};
use crate::object;
use crate::output::Out;
use crate::show::{Form, Show};

pub(super) fn get(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Get, Table::Conntrack)?;
    let mut out = Out::new()?;
    let (key, by_reply) = object::key(request).map_err(|errno| kernel.failure(errno))?;
    let filter = Filter::new(request);
    let show = Show::new(request);
    let mut document = Document::new("conntrack");
    let mut flow = Flow::default();
    let mut shown = 0;
    let result = kernel.ask(
        Answers::One,
        |encoder, seq| {
            if by_reply {
                encoder.flow_get_by_reply(&key, 0, seq, false)
            } else {
                encoder.flow_get(&key, 0, seq, false)
            }
        },
        |content| {
            if let Content::Flow(seen) = content {
                seen.write_to(&mut flow).map_err(|_| INVALID)?;
                // The kernel also finds a flow by the tuple of its other direction.
                if filter.admits(&flow) {
                    shown += 1;
                    if show.form == Form::Xml {
                        document.before_element(&mut out);
                    }
                    show.flow(&flow, &mut out.buffer);
                    out.buffer.push(b'\n');
                }
            }
            Ok(())
        },
    );
    result.map_err(|errno| kernel.failure(errno))?;
    // Told before what is still to be written, as by the original.
    let told = finish(shown, "flow entries have been shown.");
    out.flush();
    told
}
