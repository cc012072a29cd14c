//! `-U`: changes the flows that are meant, and shows what became of them.

use proto_ctnl::{Content, Flow, FlowMasks, Labels, Present, ProtoInfo, Sctp, Status, Tuple};

use super::bulk::Bulk;
use super::dump::flows;
use super::finish;
use super::lookup::Lookup;
use crate::args::{Command, Field, Opt, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Errno, GONE, INVALID, Kernel, NO_ROOM, RANGE};
use crate::object;
use crate::output::{Out, Progress};
use crate::pipeline::Pipeline;
use crate::show::Show;

pub(super) fn update(request: &Request) -> Result<(), Failure> {
    let mut out = Out::new()?;
    let result = run(request, None, &mut out);
    // Told before what is still to be written, as by the original.
    let told = result.and_then(|count| finish(count, "flow entries have been updated."));
    out.flush();
    told
}

/// Changes, shows what was changed, and answers how many there were.
pub(super) fn run(
    request: &Request,
    lookup: Option<&mut Lookup>,
    out: &mut Out,
) -> Result<u64, Failure> {
    let filter = super::filter(request)?;
    let change = Change::new(request);
    if change.is_mark() {
        let mut marking = Bulk::new(request, Command::Update, "updated")?;
        let result = flows(Command::Update, lookup, request, &filter, |flow| {
            let Some((wanted, masks)) = change.of(flow) else { return Ok(()) };
            let mut marked = *flow;
            marked.mark = change.marked(flow);
            marked.present.insert(Present::MARK);
            // Whoever asks for the flow then, as the original does, makes use of it as well.
            marked.use_count = flow.use_count.saturating_add(1);
            marking.add(&marked, |encoder, seq| encoder.flow_new(&wanted, masks, 0, seq), out)
        });
        let marked = marking.finish(out);
        result?;
        return marked;
    }
    let mut update = Updating {
        change,
        pipeline: Pipeline::new(Kernel::open(Command::Update, Table::Conntrack)?),
        show: Show::new(request),
        keys: Vec::new(),
        refused: Vec::new(),
        flow: Flow::default(),
        updated: 0,
        progress: Progress::beside_output("updated"),
    };
    let result = flows(Command::Update, lookup, request, &filter, |flow| update.add(flow, out));
    let rest = update.exchange(out);
    result.and(rest)?;
    update.progress.done();
    Ok(update.updated)
}

/// What the options change.
struct Change<'a> {
    request: &'a Request,
    /// Something of the protocol's state.
    state: bool,
    labels: bool,
}

impl<'a> Change<'a> {
    fn new(request: &'a Request) -> Self {
        let labels = request.given.has(Opt::LabelAdd) || request.given.has(Opt::LabelDel);
        let fields = [Field::State, Field::OrigVtag, Field::ReplyVtag];
        let state = fields.iter().any(|field| request.field(*field).is_some());
        Self { request, state, labels }
    }

    /// Whether marks are all that changes. How such flows are afterwards need not be read.
    fn is_mark(&self) -> bool {
        let given = self.request.given;
        let others = given.has(Opt::Status) || given.has(Opt::Timeout) || self.labels;
        given.has(Opt::Mark) && !self.state && !others
    }

    /// The mark that a flow gets.
    const fn marked(&self, flow: &Flow) -> u32 {
        (flow.mark & !self.request.mark_mask) ^ self.request.mark
    }

    /// The request for one flow; `None` if it is as it should be.
    fn of(&self, flow: &Flow) -> Option<(Flow, FlowMasks)> {
        let r = self.request;
        let mut wanted = Flow { orig: flow.orig, ..Flow::default() };
        let mut masks = FlowMasks::default();
        wanted.present.insert(Present::ORIG);
        let mut differs = false;
        if r.given.has(Opt::Status) {
            wanted.status = flow.status.with(Status(r.status.value));
            wanted.present.insert(Present::STATUS);
            differs |= wanted.status != flow.status;
        }
        if r.given.has(Opt::Timeout) {
            wanted.timeout = r.timeout;
            wanted.present.insert(Present::TIMEOUT);
            differs |= wanted.timeout != flow.timeout;
        }
        if r.given.has(Opt::Mark) {
            wanted.mark = r.mark;
            masks.mark = Some(r.mark_mask);
            wanted.present.insert(Present::MARK);
            differs |= self.marked(flow) != flow.mark;
        }
        if let Some((info, changes)) = self.protoinfo(flow) {
            wanted.protoinfo = info;
            wanted.present.insert(Present::PROTOINFO);
            differs |= changes;
        }
        // As in the original, -U takes none from a flow that has none.
        if self.labels && (r.given.has(Opt::LabelAdd) || flow.present.has(Present::LABELS)) {
            (wanted.labels, masks.labels) = self.labels();
            wanted.present.insert(Present::LABELS);
            differs = true;
        }
        let zone = flow.key_zone();
        if zone != 0 {
            wanted.zone = zone;
            wanted.present.insert(Present::ZONE);
        }
        differs.then_some((wanted, masks))
    }

    /// State of the protocol, if some of it was named, and whether that changes the flow.
    fn protoinfo(&self, flow: &Flow) -> Option<(ProtoInfo, bool)> {
        if !self.state {
            return None;
        }
        if let ProtoInfo::Sctp(is) = flow.protoinfo {
            // The kernel takes all of it or nothing, so what was not named stays.
            let named = |field| self.request.field(field);
            let [orig, reply] = is.vtag.unwrap_or_default();
            let vtag =
                [named(Field::OrigVtag).unwrap_or(orig), named(Field::ReplyVtag).unwrap_or(reply)];
            let state = named(Field::State).map_or(is.state, |state| state as u8);
            let info = Sctp { state, vtag: Some(vtag) };
            return Some((ProtoInfo::Sctp(info), info != is));
        }
        let info = object::protoinfo(self.request)?;
        Some((info, info.state() != flow.protoinfo.state()))
    }

    /// Only the named bits are touched.
    fn labels(&self) -> (Labels, Option<Labels>) {
        let r = self.request;
        if r.given.has(Opt::LabelAdd) {
            let bits = Labels(r.labels_add.words);
            return (bits, Some(bits));
        }
        (Labels::default(), r.labels_del.map(|bits| Labels(bits.words)))
    }

    /// Bits that no entry can have.
    fn is_beyond(&self) -> bool {
        self.request.labels_add.beyond
    }
}

/// A flow that was asked to change.
struct Key {
    tuple: Tuple,
    zone: u16,
    labelled: bool,
}

struct Updating<'a> {
    change: Change<'a>,
    pipeline: Pipeline,
    show: Show<'a>,
    keys: Vec<Key>,
    refused: Vec<(usize, Errno)>,
    flow: Flow,
    updated: u64,
    progress: Progress,
}

impl Updating<'_> {
    fn add(&mut self, flow: &Flow, out: &mut Out) -> Result<(), Failure> {
        let Some((wanted, masks)) = self.change.of(flow) else { return Ok(()) };
        if self.change.is_beyond() {
            return Err(self.pipeline.kernel().failure(RANGE));
        }
        if self.pipeline.is_full() {
            self.exchange(out)?;
        }
        let pushed = self.pipeline.push(|encoder, seq| encoder.flow_new(&wanted, masks, 0, seq));
        if pushed.is_err() {
            self.exchange(out)?;
            return self.add(flow, out);
        }
        let labelled = flow.present.has(Present::LABELS);
        self.keys.push(Key { tuple: flow.orig, zone: flow.key_zone(), labelled });
        Ok(())
    }

    fn exchange(&mut self, out: &mut Out) -> Result<(), Failure> {
        let refused = &mut self.refused;
        refused.clear();
        let result = self.pipeline.exchange(|place, answer| {
            if let Err(errno) = answer {
                refused.push((place, errno));
            }
        });
        result.map_err(|errno| self.pipeline.kernel().failure(errno))?;
        let fatal = self.refused.iter().find(|(place, errno)| {
            // It has gone by itself, or has no room for labels.
            let spared = self.change.labels && !self.keys[*place].labelled;
            *errno != GONE && !(*errno == NO_ROOM && spared)
        });
        let fatal = fatal.copied();
        self.read_back(out)?;
        self.keys.clear();
        self.progress.show(self.updated);
        fatal.map_or(Ok(()), |(_, errno)| Err(self.pipeline.kernel().failure(errno)))
    }

    /// Shows the flows that were changed as they are now.
    fn read_back(&mut self, out: &mut Out) -> Result<(), Failure> {
        for (place, key) in self.keys.iter().enumerate() {
            if self.refused.iter().any(|(p, _)| *p == place) {
                continue;
            }
            let pushed = self
                .pipeline
                .push(|encoder, seq| encoder.flow_get(&key.tuple, key.zone, seq, false));
            // There was room for the changes, which are larger.
            pushed.map_err(|_| self.pipeline.kernel().failure(INVALID))?;
        }
        let mut fatal = None;
        let (flow, show, updated) = (&mut self.flow, &self.show, &mut self.updated);
        let result = self.pipeline.exchange(|_, answer| match answer {
            Ok(Content::Flow(seen)) => {
                flow.clear();
                if seen.write_to(flow).is_ok() {
                    *updated += 1;
                    show.flow(flow, &mut out.buffer);
                    out.buffer.push(b'\n');
                    out.line_done();
                }
            }
            Err(errno) if errno != GONE => fatal = fatal.or(Some(errno)),
            _ => {}
        });
        let result = fatal.map_or(result, Err);
        result.map_err(|errno| self.pipeline.kernel().failure(errno))
    }
}
