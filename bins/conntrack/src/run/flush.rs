//! `-F`: empties a table.

use proto_ctnl::FlushFilter;

use crate::args::{Command, Family, Request, Table};
use crate::failure::{Failure, say};
use crate::kernel::{Answers, Kernel};

/// Flows of the family that was given; expectations of all.
pub(super) fn flush(request: &Request) -> Result<(), Failure> {
    let table = request.table;
    let mut kernel = Kernel::open(Command::Flush, table)?;
    let family = request.family.map_or(0, Family::number);
    let filter = FlushFilter { family, ..FlushFilter::default() };
    let result = kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| match table {
            Table::Expect => encoder.expect_flush(0, seq, true),
            _ => encoder.flow_flush(&filter, seq, true),
        },
        |_| Ok(()),
    );
    // Told before the kernel's verdict is looked at, which scripts have learnt to expect.
    say(&[match table {
        Table::Expect => b"expectation table has been emptied.",
        _ => b"connection tracking table has been emptied.",
    }]);
    result.map_err(|errno| kernel.failure(errno))
}
