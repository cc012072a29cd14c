//! Requests about many flows, and a line for each that succeeds.

use proto_ctnl::{Encoder, Flow, Full};

use crate::args::{Command, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Errno, GONE, Kernel};
use crate::output::{Out, Progress};
use crate::pipeline::Pipeline;
use crate::show::Show;

/// Requests on their way, and the lines to show when they have succeeded.
pub(super) struct Bulk<'a> {
    pipeline: Pipeline,
    show: Show<'a>,
    lines: Vec<u8>,
    ends: Vec<usize>,
    /// Which of the requests failed.
    failed: Vec<(usize, Errno)>,
    done: u64,
    progress: Progress,
}

impl<'a> Bulk<'a> {
    /// `what` is what becomes of the flows.
    pub(super) fn new(
        request: &'a Request,
        command: Command,
        what: &'static str,
    ) -> Result<Self, Failure> {
        Ok(Self {
            pipeline: Pipeline::new(Kernel::open(command, Table::Conntrack)?),
            show: Show::new(request),
            lines: Vec::new(),
            ends: Vec::new(),
            failed: Vec::new(),
            done: 0,
            progress: Progress::beside_output(what),
        })
    }

    /// Asks for what `encode` writes, and shows the flow if that succeeds.
    pub(super) fn add(
        &mut self,
        flow: &Flow,
        encode: impl Fn(&mut Encoder<'_>, u32) -> Result<(), Full>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        if self.pipeline.push(&encode).is_err() {
            self.exchange(out)?;
            let pushed = self.pipeline.push(&encode);
            pushed.map_err(|_| self.pipeline.kernel().failure(crate::kernel::NO_ROOM))?;
        }
        self.show.flow(flow, &mut self.lines);
        self.lines.push(b'\n');
        self.ends.push(self.lines.len());
        Ok(())
    }

    /// Sends the rest, and answers how many requests have succeeded.
    pub(super) fn finish(mut self, out: &mut Out) -> Result<u64, Failure> {
        self.exchange(out)?;
        self.progress.done();
        Ok(self.done)
    }

    fn exchange(&mut self, out: &mut Out) -> Result<(), Failure> {
        let failed = &mut self.failed;
        failed.clear();
        let result = self.pipeline.exchange(|place, answer| {
            if let Err(errno) = answer {
                failed.push((place, errno));
            }
        });
        result.map_err(|errno| self.pipeline.kernel().failure(errno))?;
        let mut begin = 0;
        let mut fatal = None;
        for (place, &end) in self.ends.iter().enumerate() {
            match self.failed.iter().find(|(p, _)| *p == place) {
                None => {
                    self.done += 1;
                    out.append(&self.lines[begin..end]);
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
        self.progress.show(self.done);
        fatal.map_or(Ok(()), |errno| Err(self.pipeline.kernel().failure(errno)))
    }
}
