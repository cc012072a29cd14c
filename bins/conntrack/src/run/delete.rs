//! `-D`: removes the flows that are meant.

use proto_ctnl::{Flow, Present};

use super::dump::dump;
use super::finish;
use crate::args::{Command, Request, Table};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::kernel::{Errno, GONE, Kernel};
use crate::output::{Out, Progress};
use crate::pipeline::Pipeline;
use crate::show::Show;

pub(super) fn delete(request: &Request) -> Result<(), Failure> {
    let mut out = Out::new()?;
    let result = run(request, &mut out);
    out.flush()?;
    finish(result?, "flow entries have been deleted.")
}

/// Removes, shows what was removed, and answers how many there were.
pub(super) fn run(request: &Request, out: &mut Out) -> Result<u64, Failure> {
    let filter = super::filter(request)?;
    remove(request, &filter, out)
}

fn remove(request: &Request, filter: &Filter, out: &mut Out) -> Result<u64, Failure> {
    let mut reader = Kernel::open(Command::Delete, Table::Conntrack)?;
    let mut deletion = Deletion {
        pipeline: Pipeline::new(Kernel::open(Command::Delete, Table::Conntrack)?),
        show: Show::new(request),
        lines: Vec::new(),
        ends: Vec::new(),
        kept: Vec::new(),
        deleted: 0,
        progress: Progress::new("deleted"),
    };
    let result = dump(&mut reader, request, filter, |flow| deletion.add(flow, out));
    // What was asked for before an error is done in any case.
    let rest = deletion.exchange(out);
    result.and(rest)?;
    deletion.progress.done();
    Ok(deletion.deleted)
}

/// Requests on their way, and the lines to show when they have succeeded.
struct Deletion<'a> {
    pipeline: Pipeline,
    show: Show<'a>,
    lines: Vec<u8>,
    ends: Vec<usize>,
    /// Which of the requests failed.
    kept: Vec<(usize, Errno)>,
    deleted: u64,
    progress: Progress,
}

impl Deletion<'_> {
    fn add(&mut self, flow: &Flow, out: &mut Out) -> Result<(), Failure> {
        if self.pipeline.is_full() {
            self.exchange(out)?;
        }
        // The identifier spares a flow that took the place of this one in between.
        let id = flow.present.has(Present::ID).then_some(flow.id);
        let zone = zone_of(flow);
        let pushed = self
            .pipeline
            .push(|encoder, seq| encoder.flow_delete(&flow.orig, zone, id, seq, false));
        if pushed.is_err() {
            self.exchange(out)?;
            return self.add(flow, out);
        }
        self.show.flow(flow, &mut self.lines);
        self.lines.push(b'\n');
        self.ends.push(self.lines.len());
        Ok(())
    }

    fn exchange(&mut self, out: &mut Out) -> Result<(), Failure> {
        let kept = &mut self.kept;
        kept.clear();
        let result = self.pipeline.exchange(|place, answer| {
            if let Err(errno) = answer {
                kept.push((place, errno));
            }
        });
        result.map_err(|errno| self.pipeline.kernel().failure(errno))?;
        let mut begin = 0;
        let mut fatal = None;
        for (place, &end) in self.ends.iter().enumerate() {
            match self.kept.iter().find(|(p, _)| *p == place) {
                None => {
                    self.deleted += 1;
                    out.append(&self.lines[begin..end])?;
                }
                // It has gone by itself.
                Some((_, errno)) if *errno == GONE => {}
                Some((_, errno)) => {
                    fatal = fatal.or(Some(*errno));
                }
            }
            begin = end;
        }
        self.lines.clear();
        self.ends.clear();
        self.progress.show(self.deleted);
        fatal.map_or(Ok(()), |errno| Err(self.pipeline.kernel().failure(errno)))
    }
}

/// The zone that the original direction is in.
pub(super) const fn zone_of(flow: &Flow) -> u16 {
    if flow.present.has(Present::ORIG_ZONE) {
        flow.orig_zone
    } else if flow.present.has(Present::ZONE) {
        flow.zone
    } else {
        0
    }
}
