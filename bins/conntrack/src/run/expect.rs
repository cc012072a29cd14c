//! `-L expect` and `-C expect`.

use proto_ctnl::render::{expect_text, expect_xml};
use proto_ctnl::{Content, Expect};

use super::{Document, Form, closing_line, form, now, rendering};
use crate::args::{Command, Family, Output, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Answers, Errno, INVALID, Kernel};
use crate::output::Out;

pub(super) fn list(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::List, Table::Expect)?;
    let mut out = Out::new()?;
    let mut render = rendering(request);
    let form = form(request);
    let stamped = request.output.has(Output::TIMESTAMP);
    let mut document = Document::new("expect");
    let mut shown = 0;
    let family = request.family.unwrap_or(Family::V4);

    let mut failed = None;
    let result = each(&mut kernel, family, |expect| {
        if failed.is_some() {
            return;
        }
        shown += 1;
        render.time = stamped.then(now);
        match form {
            Form::Xml => {
                document.before_element(&mut out);
                expect_xml(expect, &render, &mut out.buffer);
            }
            // There is no command line that makes an expectation, so it is told as always.
            Form::Text | Form::Save => expect_text(expect, &render, &mut out.buffer),
        }
        out.buffer.push(b'\n');
        failed = out.line_done().err();
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    if let Err(errno) = result {
        out.flush()?;
        return Err(kernel.failure(errno));
    }
    document.close(&mut out);
    closing_line(shown, "expectations have been shown.");
    out.flush()
}

/// Counts those of IPv4, as the original does.
pub(super) fn count() -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Count, Table::Expect)?;
    let mut count = 0u64;
    each(&mut kernel, Family::V4, |_| count += 1).map_err(|errno| kernel.failure(errno))?;
    let mut out = Out::new()?;
    out.buffer.extend_from_slice(format!("{count}\n").as_bytes());
    out.flush()
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
