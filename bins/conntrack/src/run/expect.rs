//! The table of expectations: `-L`, `-C`, `-I`, `-G` and `-D`.

use proto_ctnl::render::{expect_json, expect_text, expect_xml};
use proto_ctnl::{Content, Expect, Tuple};

use super::{Document, closing_line, finish};
use crate::args::{Command, Family, Output, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Answers, Errno, INVALID, Kernel};
use crate::object;
use crate::output::Out;
use crate::show::{Form, now, rendering};

pub(super) fn list(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::List, Table::Expect)?;
    let mut out = Out::new()?;
    let mut render = rendering(request);
    let form = Form::of(request);
    let stamped = request.output.has(Output::TIMESTAMP);
    let mut document = Document::new("expect");
    let mut shown = 0;
    let family = request.family.unwrap_or(Family::V4);

    let result = each(&mut kernel, family, |expect| {
        shown += 1;
        render.time = stamped.then(now);
        match form {
            Form::Xml => {
                document.before_element(&mut out);
                expect_xml(expect, &render, &mut out.buffer);
            }
            // There is no command line that makes an expectation, so it is told as always.
            Form::Text | Form::Save => expect_text(expect, &render, &mut out.buffer),
            Form::Json => expect_json(expect, &render, &mut out.buffer),
        }
        out.buffer.push(b'\n');
        out.line_done();
    });
    if let Err(errno) = result {
        out.flush();
        return Err(kernel.failure(errno));
    }
    document.close_list(&mut out);
    closing_line(shown, "expectations have been shown.");
    out.flush();
    Ok(())
}

/// Counts those of IPv4, as the original does.
pub(super) fn count(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Count, Table::Expect)?;
    let mut count = 0u64;
    each(&mut kernel, Family::V4, |_| count += 1).map_err(|errno| kernel.failure(errno))?;
    let mut out = Out::new()?;
    super::count::number(request, count, &mut out);
    out.flush();
    Ok(())
}

/// Makes one. Nothing is said about success.
pub(super) fn create(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Create, Table::Expect)?;
    let result = object::expect(request).and_then(|expect| {
        kernel.ask(
            Answers::UntilEnd,
            |encoder, seq| encoder.expect_create(&expect, seq, true),
            |_| Ok(()),
        )
    });
    result.map_err(|errno| kernel.failure(errno))
}

/// Shows the one that foresees the tuple.
pub(super) fn get(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Get, Table::Expect)?;
    let mut out = Out::new()?;
    let result = object::expect_key(request).and_then(|tuple| ask_for(&mut kernel, &tuple));
    if let Ok(Some(expect)) = &result {
        show(request, expect, &mut out);
    }
    out.flush();
    result.map(drop).map_err(|errno| kernel.failure(errno))
}

/// Removes the one that foresees the tuple. What is shown of it must be read before.
pub(super) fn delete(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Delete, Table::Expect)?;
    let mut out = Out::new()?;
    let json = Form::of(request) == Form::Json;
    let result = object::expect_key(request).and_then(|tuple| {
        let removed = if json { ask_for(&mut kernel, &tuple)? } else { None };
        // The identifier spares one that took its place in between.
        let id = removed.as_ref().map(|expect| expect.id);
        kernel.ask(
            Answers::UntilEnd,
            |encoder, seq| encoder.expect_delete(&tuple, 0, id, seq, true),
            |_| Ok(()),
        )?;
        Ok(removed)
    });
    if let Some(expect) = result.map_err(|errno| kernel.failure(errno))? {
        show(request, &expect, &mut out);
    }
    out.flush();
    // The original's word for it.
    finish(1, "expectations have been shown.")
}

fn ask_for(kernel: &mut Kernel, tuple: &Tuple) -> Result<Option<Expect>, Errno> {
    let mut found = None;
    kernel.ask(
        Answers::One,
        |encoder, seq| encoder.expect_get(tuple, 0, seq, false),
        |content| {
            if let Content::Expect(seen) = content {
                let mut expect = Expect::default();
                seen.write_to(&mut expect).map_err(|_| INVALID)?;
                found = Some(expect);
            }
            Ok(())
        },
    )?;
    Ok(found)
}

fn show(request: &Request, expect: &Expect, out: &mut Out) {
    let mut render = rendering(request);
    render.time = request.output.has(Output::TIMESTAMP).then(now);
    match Form::of(request) {
        Form::Json => expect_json(expect, &render, &mut out.buffer),
        _ => expect_text(expect, &render, &mut out.buffer),
    }
    out.buffer.push(b'\n');
}

fn each(kernel: &mut Kernel, family: Family, mut take: impl FnMut(&Expect)) -> Result<(), Errno> {
    let mut expect = Expect::default();
    kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| encoder.expect_dump(family.number(), seq),
        |content| {
            if let Content::Expect(seen) = content {
                expect.present = Default::default();
                seen.write_to(&mut expect).map_err(|_| INVALID)?;
                take(&expect);
            }
            Ok(())
        },
    )
}
