//! The commands.

mod batches;
mod bulk;
mod count;
mod count_by;
mod create;
mod delete;
mod dump;
mod event;
mod expect;
mod flush;
mod get;
mod help;
mod list;
mod load;
mod loading;
mod lookup;
mod origin;
mod related;
mod snapshot;
mod sorted;
mod stats;
mod update;

use crate::args::{Command, Opt, Request, Table};
use crate::failure::{Failure, PREFIX, say};
use crate::filter::{Filter, compares};
use crate::output::Out;

pub(crate) use load::load;

/// Does what was asked for.
pub(crate) fn run(request: &Request, program: &[u8]) -> Result<(), Failure> {
    let Some(command) = request.command else { return help::usage(request, program) };
    // Events tell first how large their buffer is.
    if command != Command::Event {
        feasible(request)?;
    }
    match (command, request.table) {
        (Command::List, Table::Expect) => expect::list(request),
        (Command::List, _) => list::list(request),
        (Command::Create, Table::Expect) => expect::create(request),
        (Command::Create | Command::Add, _) => create::create(request),
        (Command::Get, Table::Expect) => expect::get(request),
        (Command::Get, _) => get::get(request),
        (Command::Delete, Table::Expect) => expect::delete(request),
        (Command::Delete, _) => delete::delete(request),
        (Command::Update, _) => update::update(request),
        (Command::Event, Table::Expect) => event::expectations(request),
        (Command::Event, _) => event::flows(request),
        (Command::Flush, _) => flush::flush(request),
        (Command::Count, Table::Expect) => expect::count(request),
        (Command::Count, _) => count::count(request),
        (Command::Stats, _) => stats::stats(request),
        (Command::Version, _) => version(),
        (Command::Help, _) => help::usage(request, program),
    }
}

/// The filter of a request.
fn filter(request: &Request) -> Result<Filter, Failure> {
    let mut filter = Filter::new(request);
    if request.given.has(Opt::FilterFile) {
        filter.or(load::filters(request)?);
    }
    Ok(filter)
}

/// Tells how many there were; none is a failure.
fn finish(count: u64, what: &str) -> Result<(), Failure> {
    closing_line(count, what);
    if count == 0 { Err(Failure::nothing()) } else { Ok(()) }
}

/// What can only be checked when a command is about to run.
fn feasible(request: &Request) -> Result<(), Failure> {
    let given = request.given;
    if request.table == Table::Expect {
        return Ok(());
    }
    // In the other tables the kernel filters nothing, has no counters to zero, and masks without addresses
    // are passed over.
    let is_main = request.table == Table::Conntrack;
    // The kernel zeroes all that it tells of, so that the counters of what is not shown were lost.
    let is_part = compares(request) || given.has(Opt::Limit) || given.has(Opt::CountBy);
    if is_main && given.has(Opt::Zero) && is_part {
        return Err(Failure::usage(&[b"Can't use -z with filtering parameters"]));
    }
    for (mask, address, text) in [
        (Opt::MaskSrc, Opt::Src, "Can't use --mask-src without --src"),
        (Opt::MaskDst, Opt::Dst, "Can't use --mask-dst without --dst"),
    ] {
        if is_main && given.has(mask) && !given.has(address) {
            return Err(Failure::usage(&[text.as_bytes()]));
        }
    }
    // No flag at all would mean every entry. The kernel refuses to list so; all else follows it.
    let matches = matches!(request.command, Some(Command::List | Command::Delete));
    if is_main && matches && given.has(Opt::Status) && request.status.mask == 0 {
        return Err(Failure::operation("invalid parameters"));
    }
    Ok(())
}

fn version() -> Result<(), Failure> {
    let mut out = Out::new()?;
    out.buffer.extend_from_slice(PREFIX.trim_end_matches(": ").as_bytes());
    out.buffer.push(b'\n');
    out.flush();
    Ok(())
}

/// The document around XML. Its head waits for the first element, so that an empty list prints
/// nothing.
struct Document {
    root: &'static str,
    opened: bool,
}

impl Document {
    const fn new(root: &'static str) -> Self {
        Self { root, opened: false }
    }

    fn before_element(&mut self, out: &mut Out) {
        if !self.opened {
            self.opened = true;
            out.buffer.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<");
            out.buffer.extend_from_slice(self.root.as_bytes());
            out.buffer.extend_from_slice(b">\n");
        }
    }

    fn close(&self, out: &mut Out) {
        if self.opened {
            out.buffer.extend_from_slice(b"</");
            out.buffer.extend_from_slice(self.root.as_bytes());
            out.buffer.extend_from_slice(b">\n");
        }
    }

    /// The same for a list. What is told of it stands behind it, and in front of all other output, as
    /// with the original.
    fn close_list(&self, out: &mut Out) {
        self.close(out);
        if self.opened {
            out.flush();
        }
    }
}

/// The line that tells how many there were.
fn closing_line(count: u64, what: &str) {
    say(&[format!("{count} {what}").as_bytes()]);
}
