//! `-C`: how many flows there are.

use std::fs;

use proto_ctnl::Content;

use crate::args::{Command, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Answers, Kernel};
use crate::output::Out;
use crate::show::Form;

/// Where everybody may read the number.
const FALLBACK: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

pub(super) fn count(request: &Request) -> Result<(), Failure> {
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
            number(request, u64::from(entries), &mut out);
            out.flush();
            Ok(())
        }
        (_, result) => {
            // The number is told all the same, and then that the request failed.
            if let Ok(text) = fs::read_to_string(FALLBACK)
                && let Ok(entries) = text.trim().parse()
            {
                number(request, entries, &mut out);
                out.flush();
            }
            result.map_err(|errno| kernel.failure(errno))
        }
    }
}

/// Prints a number of entries.
pub(super) fn number(request: &Request, entries: u64, out: &mut Out) {
    let text = match Form::of(request) {
        Form::Json => format!("{{\"entries\":{entries}}}\n"),
        _ => format!("{entries}\n"),
    };
    out.buffer.extend_from_slice(text.as_bytes());
}
