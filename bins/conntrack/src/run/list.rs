//! `-L`: the table, filtered; sorted, cut or counted if that was asked for.

use std::ops::ControlFlow;

use proto_ctnl::{Flow, Present};

use super::count_by::Counts;
use super::dump::dump_until;
use super::related::Related;
use super::sorted::Sorted;
use super::{Document, closing_line};
use crate::args::{Command, Opt, Request};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::kernel::Kernel;
use crate::output::{Out, Progress};
use crate::show::{Form, Show};

pub(super) fn list(request: &Request) -> Result<(), Failure> {
    let mut out = Out::new()?;
    let filter = super::filter(request)?;
    if let Some(key) = request.count_by {
        return Counts::new(key, request).run(request, &filter, &mut out);
    }
    let mut listing = Listing {
        show: Show::new(request),
        document: Document::new("conntrack"),
        progress: Progress::beside_output("shown"),
        shown: 0,
        related: Related::new(),
        line: Vec::new(),
        out: &mut out,
    };
    let result = if let Some(key) = request.sort {
        Sorted::new(key, request.limit).run(request, &filter, &mut listing)
    } else {
        all(request, &filter, &mut listing)
    };
    let result = listing.related.show(listing.out).and(result);
    listing.progress.done();
    if result.is_err() {
        // What was shown before stays.
        listing.out.flush();
        return result;
    }
    listing.document.close_list(listing.out);
    closing_line(listing.shown, "flow entries have been shown.");
    listing.out.flush();
    Ok(())
}

fn all(request: &Request, filter: &Filter, listing: &mut Listing<'_>) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::List, request.table)?;
    let most = request.limit.map_or(u64::MAX, |n| n as u64);
    // Counters are zeroed by being read.
    let whole = request.given.has(Opt::Zero);
    dump_until(&mut kernel, request, filter, |flow| {
        if listing.shown < most {
            listing.or_later(flow)?;
        }
        let enough = listing.shown >= most && !whole;
        Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
}

/// Where entries are shown.
pub(super) struct Listing<'a> {
    pub(super) show: Show<'a>,
    document: Document,
    progress: Progress,
    shown: u64,
    related: Related,
    line: Vec<u8>,
    out: &'a mut Out,
}

impl Listing<'_> {
    #[inline]
    fn flow(&mut self, flow: &Flow) {
        self.begin();
        self.show.flow(flow, &mut self.out.buffer);
        self.end();
    }

    /// Shows a flow, or keeps it for the end if it can only be made when all others are.
    fn or_later(&mut self, flow: &Flow) -> Result<(), Failure> {
        if self.show.form != Form::Save || !flow.present.has(Present::MASTER) {
            self.flow(flow);
            return Ok(());
        }
        self.shown += 1;
        self.line.clear();
        self.show.flow(flow, &mut self.line);
        self.line.push(b'\n');
        self.related.keep(flow, &self.line)
    }

    /// Shows what was rendered before.
    pub(super) fn line(&mut self, line: &[u8]) {
        self.begin();
        self.out.buffer.extend_from_slice(line);
        self.end();
    }

    fn begin(&mut self) {
        self.shown += 1;
        if self.show.form == Form::Xml {
            self.document.before_element(self.out);
        }
    }

    fn end(&mut self) {
        self.out.buffer.push(b'\n');
        if self.out.is_full() {
            self.progress.show(self.shown);
        }
        self.out.line_done();
    }
}
