//! `-C`: how many flows there are.

use std::fs;

use proto_ctnl::Content;

use crate::args::{Command, Table};
use crate::failure::Failure;
use crate::kernel::{Answers, Kernel};
use crate::output::Out;

/// Where everybody may read the number.
const FALLBACK: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

pub(super) fn count() -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Count, Table::Conntrack)?;
    let mut entries = None;
    let result = kernel.ask(
        Answers::One,
        |encoder, seq| encoder.stats_global(seq),
        |content| {
            if let Content::GlobalStats(stats) = content {
                entries = Some(stats.entries);
            }
            Ok(())
        },
    );
    let mut out = Out::new()?;
    match (entries, result) {
        (Some(entries), Ok(())) => {
            out.buffer.extend_from_slice(format!("{entries}\n").as_bytes());
            out.flush()
        }
        (_, result) => {
            // The number is told all the same, and then that the request failed.
            if let Ok(text) = fs::read_to_string(FALLBACK) {
                out.buffer.extend_from_slice(format!("{}\n", text.trim()).as_bytes());
                out.flush()?;
            }
            result.map_err(|errno| kernel.failure(errno))
        }
    }
}
