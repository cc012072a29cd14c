//! Requests under way: one batch, its objects, and which answer belongs to which.
//!
//! The requests of a batch have consecutive sequence numbers and only the last one asks for an
//! acknowledgement. The kernel works them off in order and tells errors in any case, so the
//! answer to the last one settles all that were not answered: they succeeded. An answer can get
//! lost when the socket's buffer overflows, hence the deadline: after it nothing is known.

use std::time::{Duration, Instant};

use proto_ctnl::{Expect, Flow, Present, Tuple};

use super::origin::Lane;
use super::plan::{Job, Step};
use super::report::Object;

/// Most requests in a batch.
pub(crate) const BATCH_MAX: usize = 100;

/// How often the outcome of a request may be unknown before it counts as failed.
pub(crate) const TRIES_MAX: u8 = 3;

/// An object on its way into the kernel, or out of it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) job: Job,
    pub(crate) step: Step,
    /// The helper was taken away because the kernel does not have it.
    pub(crate) bare: bool,
    /// The master was taken away because the kernel does not have it.
    pub(crate) alone: bool,
    /// An entry was deleted to make room for it.
    pub(crate) replaces: bool,
    /// How often it had to wait for its master.
    pub(crate) orphaned: u8,
    /// It was created, but existed: then it is brought up to date.
    pub(crate) existed: bool,
    /// Unknown outcomes so far.
    pub(crate) tries: u8,
    /// Which of the injections it is, from 1 on; 0 for none, and for one that has to wait for its
    /// master.
    pub(crate) injection: u64,
    /// Place in the internal cache, for jobs about its flows.
    pub(crate) index: u32,
    /// Positive error number of the answer, 0 for success; `None` before an answer.
    pub(crate) answer: Option<i32>,
    /// Whether an update is enough for the entry in the way, once it was read.
    pub(crate) same: Option<bool>,
    pub(crate) object: Object,
}

impl Slot {
    pub(crate) fn empty(job: Job) -> Self {
        Self {
            job,
            step: job.first(),
            bare: false,
            alone: false,
            replaces: false,
            orphaned: 0,
            existed: false,
            tries: 0,
            injection: 0,
            index: 0,
            answer: None,
            same: None,
            object: Object::Flow(Flow::default()),
        }
    }

    /// Starts anew with another job; the object keeps its bytes.
    pub(crate) const fn reset(&mut self, job: Job) {
        self.job = job;
        self.tries = 0;
        self.existed = false;
        self.replaces = false;
        self.orphaned = 0;
        self.injection = 0;
        self.restart();
    }

    /// Whether an entry was made without the master that it had on the other node.
    pub(crate) const fn made_alone(&self) -> bool {
        self.alone && !matches!(self.step, Step::Update)
    }

    /// Starts the job anew with the same object.
    pub(crate) const fn restart(&mut self) {
        self.step = self.job.first();
        self.bare = false;
        self.alone = false;
        self.answer = None;
        self.same = None;
    }

    /// The slot as a flow, to be filled.
    pub(crate) fn flow_mut(&mut self) -> &mut Flow {
        if !matches!(self.object, Object::Flow(_)) {
            self.object = Object::Flow(Flow::default());
        }
        match &mut self.object {
            Object::Flow(flow) => flow,
            Object::Expect(_) => unreachable!("set above"),
        }
    }

    /// The slot as an expectation, to be filled.
    pub(crate) fn expect_mut(&mut self) -> &mut Expect {
        if !matches!(self.object, Object::Expect(_)) {
            self.object = Object::Expect(Expect::default());
        }
        match &mut self.object {
            Object::Expect(expect) => expect,
            Object::Flow(_) => unreachable!("set above"),
        }
    }

    pub(crate) const fn lane(&self) -> Lane {
        match self.job {
            Job::Flush | Job::FlushExpects => Lane::Flush,
            Job::Classify | Job::Audit | Job::Read | Job::ReadExpect => Lane::Audit,
            _ => Lane::Write,
        }
    }

    /// Whether both are about the same entry of the kernel.
    pub(crate) fn same_entry(&self, other: &Self) -> bool {
        match (&self.object, &other.object) {
            (Object::Flow(a), Object::Flow(b)) => a.orig == b.orig && a.key_zone() == b.key_zone(),
            (Object::Expect(a), Object::Expect(b)) => a.tuple == b.tuple && a.master == b.master,
            _ => false,
        }
    }
}

/// The one batch that may be under way.
#[derive(Debug)]
pub(crate) struct Batch {
    slots: Vec<Slot>,
    used: usize,
    first_seq: u32,
    deadline: Option<Instant>,
    complete: bool,
}

impl Batch {
    pub(crate) fn new(first_seq: u32) -> Self {
        let slots = (0..BATCH_MAX).map(|_| Slot::empty(Job::Commit)).collect();
        Self { slots, used: 0, first_seq, deadline: None, complete: false }
    }

    /// Whether answers are waited for.
    pub(crate) const fn in_flight(&self) -> bool {
        self.deadline.is_some()
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.used >= BATCH_MAX
    }

    /// The slot to be filled next, and the sequence number of its request. Only if not full.
    pub(crate) fn vacant(&mut self) -> (&mut Slot, u32) {
        let at = self.used.min(BATCH_MAX - 1);
        (&mut self.slots[at], self.first_seq.wrapping_add(at as u32))
    }

    /// Fills the vacant slot with a flow of the internal cache, by its place and key.
    pub(crate) fn fill(&mut self, job: Job, index: u32, (orig, zone): (Tuple, u16)) {
        let slot = self.vacant().0;
        slot.reset(job);
        slot.index = index;
        let flow = slot.flow_mut();
        (flow.orig, flow.zone) = (orig, zone);
        flow.present = Present::ORIG;
        if zone != 0 {
            flow.present.insert(Present::ZONE);
        }
    }

    /// The vacant slot was filled and its request written.
    pub(crate) const fn keep(&mut self) {
        self.used += 1;
    }

    /// Lane of the first request.
    pub(crate) fn lane(&self) -> Option<Lane> {
        self.slots.get(..self.used)?.first().map(Slot::lane)
    }

    /// What is under way.
    pub(crate) fn under_way(&self) -> &[Slot] {
        self.slots.get(..self.used).unwrap_or_default()
    }

    /// Whether it visits silent flows; they come last.
    pub(crate) fn visits_silent(&self) -> bool {
        let last = self.slots.get(..self.used).and_then(<[Slot]>::last);
        last.is_some_and(|slot| matches!(slot.job, Job::Classify | Job::Audit))
    }

    /// The requests are on their way.
    pub(crate) fn sent(&mut self, now: Instant, patience: Duration) {
        self.deadline = Some(now + patience);
        self.complete = false;
    }

    /// The slot of a sequence number, if it is of this batch and that is under way.
    pub(crate) fn by_seq(&mut self, seq: u32) -> Option<&mut Slot> {
        let at = seq.wrapping_sub(self.first_seq) as usize;
        if self.in_flight() && at < self.used { self.slots.get_mut(at) } else { None }
    }

    /// Takes an answer. Gives whether all requests are settled now; `None` if the answer belongs
    /// to none of them.
    pub(crate) fn answer(&mut self, seq: u32, errno: i32) -> Option<bool> {
        let last = self.first_seq.wrapping_add(self.used as u32).wrapping_sub(1);
        let slot = self.by_seq(seq)?;
        // The answer to a read is the message; the acknowledgement behind it adds nothing.
        slot.answer.get_or_insert(errno);
        self.complete |= seq == last;
        Some(self.complete)
    }

    /// Ends the batch. Gives its slots, how many of them are in use, and whether unanswered ones
    /// succeeded. The slots come back by [`Batch::restore`].
    pub(crate) fn finish(&mut self) -> (Vec<Slot>, usize, bool) {
        let used = std::mem::take(&mut self.used);
        self.first_seq = self.first_seq.wrapping_add(used as u32);
        self.deadline = None;
        (std::mem::take(&mut self.slots), used, self.complete)
    }

    /// Takes the slots back, so that their memory is used again.
    pub(crate) fn restore(&mut self, slots: Vec<Slot>) {
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch_of(n: usize) -> Batch {
        let mut batch = Batch::new(u32::MAX - 1);
        for _ in 0..n {
            let (slot, _) = batch.vacant();
            slot.reset(Job::Commit);
            batch.keep();
        }
        batch.sent(Instant::now(), Duration::from_secs(1));
        batch
    }

    #[test]
    fn answers_are_matched_by_number_across_the_wrap() {
        let mut batch = batch_of(4);
        assert_eq!(batch.answer(u32::MAX, 17), Some(false));
        assert_eq!(batch.answer(2, 0), None, "no request of this batch");
        assert_eq!(batch.answer(1, 0), Some(true), "the last one settles all");
        let (slots, used, known) = batch.finish();
        assert!(known);
        let answers: Vec<_> = slots[..used].iter().map(|s| s.answer).collect();
        assert_eq!(answers, [None, Some(17), None, Some(0)]);
        batch.restore(slots);
        assert_eq!(batch.answer(1, 0), None, "the batch is over");
        assert_eq!(batch.vacant().1, 2);
    }

    #[test]
    fn an_error_of_the_last_request_settles_all_too() {
        let mut batch = batch_of(2);
        assert_eq!(batch.answer(u32::MAX, 22), Some(true));
    }

    #[test]
    fn without_the_last_answer_nothing_is_known() {
        let mut batch = batch_of(3);
        assert_eq!(batch.answer(u32::MAX - 1, 22), Some(false));
        let (slots, used, known) = batch.finish();
        assert!(!known && slots[0].answer == Some(22) && slots[used - 1].answer.is_none());
    }
}
