//! The commands.

mod count;
mod create;
mod event;
mod expect;
mod flush;
mod help;
mod list;
mod origin;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto_ctnl::render::{CivilTime, Parts, Render};

use crate::args::{Command, Opt, Output, Request, Table};
use crate::failure::{Failure, PREFIX, say};
use crate::filter::compares;
use crate::output::Out;

/// Does what was asked for.
pub(crate) fn run(request: &Request, program: &[u8]) -> Result<(), Failure> {
    let Some(command) = request.command else { return help::usage(None, program) };
    feasible(request)?;
    match (command, request.table) {
        (Command::List, Table::Expect) => expect::list(request),
        (Command::List, _) => list::list(request),
        (Command::Create, Table::Conntrack) => create::create(request),
        (Command::Event, Table::Expect) => event::expectations(request),
        (Command::Event, _) => event::flows(request),
        (Command::Flush, table) => flush::flush(table),
        (Command::Count, Table::Expect) => expect::count(),
        (Command::Count, _) => count::count(),
        (Command::Version, _) => version(),
        (Command::Help, _) => {
            help::usage(request.protocol.map(|p| (p, request.extension)), program)
        }
        (Command::Create, _) => Err(Failure::missing("creating expectations (-I expect)")),
        (Command::Add, _) => Err(Failure::missing("adding entries (-A)")),
        (Command::Update, _) => Err(Failure::missing("updating entries (-U)")),
        (Command::Delete, _) => Err(Failure::missing("deleting entries (-D)")),
        (Command::Get, _) => Err(Failure::missing("getting single entries (-G)")),
        (Command::Stats, _) => Err(Failure::missing("showing statistics (-S)")),
    }
}

/// What can only be checked when a command is about to run.
fn feasible(request: &Request) -> Result<(), Failure> {
    let given = request.given;
    if request.table == Table::Expect {
        return Ok(());
    }
    for (mask, address, text) in [
        (Opt::MaskSrc, Opt::Src, "Can't use --mask-src without --src"),
        (Opt::MaskDst, Opt::Dst, "Can't use --mask-dst without --dst"),
    ] {
        if given.has(mask) && !given.has(address) {
            return Err(Failure::usage(&[text.as_bytes()]));
        }
    }
    // The other tables have no counters to zero; the option is passed over there.
    if given.has(Opt::Zero) && request.table == Table::Conntrack && compares(request) {
        return Err(Failure::usage(&[b"Can't use -z with filtering parameters"]));
    }
    Ok(())
}

fn version() -> Result<(), Failure> {
    let mut out = Out::new()?;
    out.buffer.extend_from_slice(PREFIX.trim_end_matches(": ").as_bytes());
    out.buffer.push(b'\n');
    out.flush()
}

/// The form in which flows and expectations are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Xml,
    Save,
}

fn form(request: &Request) -> Form {
    if request.output.has(Output::XML) {
        Form::Xml
    } else if request.output.has(Output::SAVE) {
        Form::Save
    } else {
        Form::Text
    }
}

/// What the output options say about rendering.
fn rendering(request: &Request) -> Render<'_> {
    let mut parts = Parts::LIST;
    for (option, part) in [
        (Output::EXTENDED, Parts::LAYER3),
        (Output::ID, Parts::ID),
        (Output::KTIMESTAMP, Parts::KTIMESTAMP),
    ] {
        if request.output.has(option) {
            parts = parts.with(part);
        }
    }
    let labels = request.label_names.as_ref().filter(|_| request.output.has(Output::LABELS));
    Render { parts, labels, now: Some(now().as_secs()), local_time, ..Render::default() }
}

/// Unix time.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn local_time(seconds: u64) -> CivilTime {
    let t = io::process::local_time(i64::try_from(seconds).unwrap_or(i64::MAX));
    CivilTime {
        year: t.year,
        month: t.month + 1,
        day: t.day,
        weekday: t.weekday,
        hour: t.hour,
        minute: t.minute,
        second: t.second,
    }
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
}

/// The line that tells how many there were.
fn closing_line(count: u64, what: &str) {
    say(&[format!("{count} {what}").as_bytes()]);
}
