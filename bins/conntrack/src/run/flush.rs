//! `-F`: empties a table.

use proto_ctnl::FlushFilter;

use crate::args::{Command, Table};
use crate::failure::{Failure, say};
use crate::kernel::{Answers, Kernel};

/// The family that may be given has no effect, as in the original: the request says nothing of it.
pub(super) fn flush(table: Table) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Flush, table)?;
    let result = kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| match table {
            Table::Expect => encoder.expect_flush(0, seq, true),
            _ => encoder.flow_flush(&FlushFilter::default(), seq, true),
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
