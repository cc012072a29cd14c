//! `-L`: the table, filtered.

use proto_ctnl::render::{flow_save, flow_text, flow_xml};
use proto_ctnl::{Content, DumpFilter, Flow};

use super::{Document, Form, closing_line, form, rendering};
use crate::args::{Command, Opt, Request, Table};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::kernel::{Answers, Errno, INVALID, Kernel, is_unsupported};
use crate::output::Out;

pub(super) fn list(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::List, request.table)?;
    let mut out = Out::new()?;
    let filter = Filter::new(request);
    let mut printer = Printer::new(request, &filter, &mut out);

    let mut asked = filter.for_kernel();
    let mut result = dump(&mut kernel, request, &asked, &mut printer);
    if result.is_err_and(is_unsupported) && asked.orig.is_some() {
        // An old kernel, which then sends everything; all is checked here in any case.
        asked.orig = None;
        result = dump(&mut kernel, request, &asked, &mut printer);
    }
    let Printer { document, shown, failed, .. } = printer;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if let Err(errno) = result {
        out.flush()?;
        return Err(kernel.failure(errno));
    }
    document.close(&mut out);
    closing_line(shown, "flow entries have been shown.");
    out.flush()
}

fn dump(
    kernel: &mut Kernel,
    request: &Request,
    filter: &DumpFilter,
    printer: &mut Printer<'_>,
) -> Result<(), Errno> {
    // The kernel's answer to a status mask of 0, which is not worth a request.
    if request.table == Table::Conntrack && filter.status.is_some_and(|s| s.mask == 0) {
        return Err(INVALID);
    }
    kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| match request.table {
            Table::Dying => encoder.flow_dump_dying(filter.family, seq),
            Table::Unconfirmed => encoder.flow_dump_unconfirmed(filter.family, seq),
            _ if request.given.has(Opt::Zero) => encoder.flow_dump_zero(filter, seq),
            _ => encoder.flow_dump(filter, seq),
        },
        |content| match content {
            Content::Flow(seen) => {
                let flow = &mut printer.flow;
                flow.clear();
                seen.write_to(flow).map_err(|_| INVALID)?;
                printer.print();
                Ok(())
            }
            _ => Ok(()),
        },
    )
}

struct Printer<'a> {
    filter: &'a Filter<'a>,
    render: proto_ctnl::render::Render<'a>,
    form: Form,
    out: &'a mut Out,
    document: Document,
    flow: Flow,
    shown: u64,
    /// Standard output failed; nothing more is shown.
    failed: Option<Failure>,
}

impl<'a> Printer<'a> {
    fn new(request: &'a Request, filter: &'a Filter<'a>, out: &'a mut Out) -> Self {
        Self {
            filter,
            render: rendering(request),
            form: form(request),
            out,
            document: Document::new("conntrack"),
            flow: Flow::default(),
            shown: 0,
            failed: None,
        }
    }

    /// Shows `self.flow` if it is meant.
    #[inline]
    fn print(&mut self) {
        if !self.filter.admits(&self.flow) || self.failed.is_some() {
            return;
        }
        self.shown += 1;
        let buffer = &mut self.out.buffer;
        match self.form {
            Form::Text => flow_text(&self.flow, &self.render, buffer),
            Form::Save => flow_save(&self.flow, &self.render, buffer),
            Form::Xml => {
                self.document.before_element(self.out);
                flow_xml(&self.flow, &self.render, &mut self.out.buffer);
            }
        }
        self.out.buffer.push(b'\n');
        self.failed = self.out.line_done().err();
    }
}
