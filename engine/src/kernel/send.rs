//! Filling batches, and what follows from their answers.

use std::time::Instant;

use proto_ctnl::{Encoder, Flow, Full, Present, Status};

use crate::caches::Caches;

use super::batch::{Slot, TRIES_MAX};
use super::errno::{EMSGSIZE, ETIMEDOUT};
use super::origin::Lane;
use super::plan::{Job, Named, Next, Step, after};
use super::report::Object;
use super::{KernelSide, Send, request};

/// Why a request was not written.
enum Refusal {
    /// The buffer has no room.
    Full,
    /// The kernel would answer so.
    Errno(i32),
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl KernelSide {
    /// Writes the next batch into `buf` if one is due and none is under way. Room for 32 KiB
    /// makes full batches. If sending it fails, tell [`KernelSide::answers_lost`].
    pub fn poll_send(&mut self, now: Instant, caches: &mut Caches, buf: &mut [u8]) -> Option<Send> {
        self.last_now = now;
        if self.batch.in_flight() {
            return None;
        }
        self.orphans.take_due(now, &mut self.redo);
        let mut encoder = Encoder::new(buf);
        while !self.batch.is_full() && self.take_next(now, caches) {
            let (slot, seq) = self.batch.vacant();
            slot.answer = None;
            slot.same = None;
            let scaled = self.config.window_tracking;
            match write(slot, seq, scaled, &mut self.scratch, &mut encoder) {
                Ok(()) => self.batch.keep(),
                Err(Refusal::Errno(errno)) => {
                    let slot = self.batch.vacant().0.clone();
                    self.settle(now, caches, &slot, Next::Failed, errno);
                }
                Err(Refusal::Full) => {
                    let slot = slot.clone();
                    if encoder.is_empty() {
                        // It will never fit.
                        self.settle(now, caches, &slot, Next::Failed, EMSGSIZE);
                    } else {
                        self.redo.push_front(slot);
                    }
                    break;
                }
            }
        }
        let lane = self.batch.lane();
        let Some(lane) = lane else {
            if let Some(sweep) = &mut self.sweep {
                sweep.wait(now, caches);
            }
            self.announce_results(now, caches);
            return None;
        };
        encoder.ack_last();
        self.counters.batches += 1;
        self.counters.requests += encoder.count() as u64;
        self.batch.sent(now, self.config.patience);
        if self.batch.visits_silent()
            && let Some(sweep) = &mut self.sweep
        {
            sweep.advance_asked(now, caches);
        }
        Some(Send { lane, len: encoder.len() })
    }

    /// Fills the vacant slot with the next object whose request may go into this batch.
    fn take_next(&mut self, now: Instant, caches: &mut Caches) -> bool {
        let lane = self.batch.lane();
        let fits = |wanted| lane.is_none_or(|lane| lane == wanted);
        if let Some(front) = self.redo.front() {
            if !fits(front.lane()) {
                return false;
            }
            return self.take_queued(true);
        }
        if fits(Lane::Audit)
            && (self.take_unread(now, caches)
                || self.take_inactive(now, caches)
                || self.take_silent(now, caches))
        {
            return true;
        }
        if fits(Lane::Write) {
            return self.take_queued(false)
                || self.take_commit(now, caches)
                || self.take_commit_expect(now, caches)
                || lane.is_none() && self.take_flush();
        }
        fits(Lane::Flush) && self.take_flush()
    }

    fn take_queued(&mut self, redo: bool) -> bool {
        let queue = if redo { &mut self.redo } else { &mut self.inject };
        let Some(slot) = queue.pop_front() else { return false };
        *self.batch.vacant().0 = slot;
        true
    }

    /// All answers that will come are there.
    pub(super) fn complete(&mut self, now: Instant, caches: &mut Caches) {
        let (mut slots, used, known) = self.batch.finish();
        let mut redo: Vec<Slot> = Vec::new();
        for slot in slots.iter_mut().take(used) {
            self.conclude(now, caches, slot, known, &mut redo);
        }
        self.batch.restore(slots);
        // What this batch left is older than what waits already.
        for slot in redo.into_iter().rev() {
            self.redo.push_front(slot);
        }
        self.announce_results(now, caches);
    }

    /// Decides what follows for one object of a batch.
    fn conclude(
        &mut self,
        now: Instant,
        caches: &mut Caches,
        slot: &mut Slot,
        known: bool,
        redo: &mut Vec<Slot>,
    ) {
        if slot.job.ordered() && redo.iter().any(|earlier| earlier.same_entry(slot)) {
            // An earlier word about this entry is not done. This one, which may have been
            // obeyed, has to be said again after it.
            let mut again = slot.clone();
            again.restart();
            redo.push(again);
            return;
        }
        if slot.job.ordered() && self.orphans.has(slot) {
            if slot.job == Job::InjectUpdate {
                self.follow(now, caches, slot);
                return;
            }
            // This word is about all of the entry, so those that wait are out of date.
            for earlier in self.orphans.remove(slot) {
                self.settle(now, caches, &earlier, Next::Absent, 0);
            }
        }
        let errno = match slot.answer {
            Some(errno) => errno,
            None if known => 0,
            None => {
                self.unknown(now, caches, slot, redo);
                return;
            }
        };
        let next = self.refine(caches, slot, after(slot.job, slot.step, errno, named(slot)));
        let step = match next {
            Next::Again(step) => step,
            Next::Orphaned(step) => {
                // A flow whose entry was taken away for it must not be missing for so long.
                if !slot.replaces && self.may_wait(now, caches, slot) {
                    return;
                }
                slot.alone = true;
                step
            }
            Next::Unexpected(step) => {
                slot.alone = true;
                step
            }
            Next::WithoutHelper(step) => {
                slot.bare = true;
                step
            }
            Next::Done | Next::Absent | Next::Failed => {
                self.settle(now, caches, slot, next, errno);
                return;
            }
        };
        let mut again = slot.clone();
        again.existed |= step == Step::Update;
        again.replaces |= slot.step == Step::Delete && errno == 0;
        // What an entry lacks that is replaced, the new one need not.
        again.alone &= step != Step::Delete;
        again.step = step;
        redo.push(again);
    }

    /// Uses what is known of the entry that is in the way.
    fn refine(&mut self, caches: &Caches, slot: &Slot, next: Next) -> Next {
        match (slot.step, next) {
            (Step::Compare, Next::Again(Step::Delete)) if slot.same == Some(true) => {
                Next::Again(Step::Update)
            }
            (_, Next::Again(Step::Compare)) => match self.update_suffices(caches, slot) {
                Some(true) => Next::Again(Step::Update),
                Some(false) => Next::Again(Step::Delete),
                None => next,
            },
            _ => next,
        }
    }

    /// Whether an update is enough for the kernel's entry, as the internal cache knows it. `None`:
    /// not known.
    fn update_suffices(&mut self, caches: &Caches, slot: &Slot) -> Option<bool> {
        let Object::Flow(flow) = &slot.object else { return None };
        let index = caches.internal.find(&flow.orig, flow.key_zone())?;
        caches.internal.load(index, &mut self.stored)?;
        Some(request::update_suffices(&self.stored, flow))
    }

    /// No answer came: it is asked again, from the start.
    fn unknown(&mut self, now: Instant, caches: &mut Caches, slot: &Slot, redo: &mut Vec<Slot>) {
        let asked_often = slot.tries + 1 >= TRIES_MAX;
        if asked_often || matches!(slot.job, Job::Classify | Job::Audit) {
            self.settle(now, caches, slot, Next::Failed, ETIMEDOUT);
            return;
        }
        let mut again = slot.clone();
        again.tries += 1;
        again.restart();
        redo.push(again);
    }

    /// The object needs nothing more.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        caches: &mut Caches,
        slot: &Slot,
        next: Next,
        errno: i32,
    ) {
        if next == Next::Failed {
            self.events.fail(now, slot.job, slot.step, errno, &slot.object);
        }
        match slot.job {
            Job::Commit => {
                if let Some(run) = &mut self.commit {
                    run.settle(slot, next, &mut self.counters);
                }
            }
            Job::CommitExpect => {
                if let Some(run) = &mut self.commit_expects {
                    run.settle(next, errno, &mut self.counters);
                }
            }
            Job::InjectNew
            | Job::InjectUpdate
            | Job::InjectDelete
            | Job::InjectExpect
            | Job::InjectExpectDelete => self.settle_injected(slot, next, errno),
            Job::Flush => {
                if let Some(run) = &mut self.flush {
                    run.settle(next);
                }
            }
            Job::FlushExpects => {
                let result = if next == Next::Failed { errno } else { 0 };
                self.events.push(super::KernelEvent::FlushExpectsDone(result));
            }
            Job::Classify | Job::Audit => self.settle_silent(caches, slot, next),
            // The answer said all; that the object is gone is told by an event.
            Job::Read | Job::ReadExpect => {}
        }
    }

    /// Tells what is finished.
    fn announce_results(&mut self, now: Instant, caches: &Caches) {
        self.announce_commit();
        self.announce_flush();
        self.announce_sweep(now, caches);
    }
}

/// What the request of a slot names. An expectation of the external cache has to wait for no
/// master, as those are committed before; and it is nothing without one.
fn named(slot: &Slot) -> Named {
    let (helper, master) = match &slot.object {
        Object::Flow(flow) => (
            flow.present.has(Present::HELPER) && !flow.helper.is_empty(),
            match slot.step {
                Step::Update => {
                    flow.present.has(Present::STATUS) && flow.status.has(Status::EXPECTED)
                }
                _ => flow.present.has(Present::MASTER),
            },
        ),
        Object::Expect(_) => (true, slot.job == Job::InjectExpect),
    };
    Named { helper: helper && !slot.bare, master: master && !slot.alone }
}

/// Writes the request of a slot.
fn write(
    slot: &Slot,
    seq: u32,
    window_tracking: bool,
    scratch: &mut Flow,
    encoder: &mut Encoder<'_>,
) -> Result<(), Refusal> {
    match &slot.object {
        Object::Flow(flow) => write_flow(slot, flow, seq, window_tracking, scratch, encoder),
        Object::Expect(expect) => {
            match (slot.job, slot.step) {
                (Job::FlushExpects, _) => {
                    encoder.expect_flush(proto_ctnl::consts::family::UNSPEC, seq, false)?;
                }
                (_, Step::Delete) => {
                    encoder.expect_delete(&expect.tuple, expect_zone(expect), None, seq, false)?;
                }
                (_, Step::Compare) => {
                    encoder.expect_get(&expect.tuple, expect_zone(expect), seq, false)?;
                }
                _ => {
                    let mut expect = *expect;
                    request::for_expect(&mut expect);
                    encoder.expect_create(&expect, seq, false)?;
                }
            }
            Ok(())
        }
    }
}

fn expect_zone(expect: &proto_ctnl::Expect) -> u16 {
    if expect.present.has(proto_ctnl::ExpectPresent::ZONE) { expect.zone } else { 0 }
}

fn write_flow(
    slot: &Slot,
    flow: &Flow,
    seq: u32,
    window_tracking: bool,
    scratch: &mut Flow,
    encoder: &mut Encoder<'_>,
) -> Result<(), Refusal> {
    match slot.step {
        Step::Create | Step::Recreate => {
            scratch.clone_from(flow);
            request::for_create(scratch, window_tracking).map_err(Refusal::Errno)?;
            if slot.bare {
                scratch.present.remove(Present::HELPER);
            }
            if slot.alone {
                scratch.present.remove(Present::MASTER);
            }
            encoder.flow_create(scratch, seq, false)?;
        }
        Step::Update => {
            scratch.clone_from(flow);
            if slot.job == Job::Classify {
                request::for_key(scratch);
            } else {
                request::for_update(scratch, window_tracking);
                if slot.alone {
                    scratch.status = scratch.status.without(Status::EXPECTED);
                }
                if slot.job != Job::InjectUpdate && !scratch.present.has(Present::MARK) {
                    // A whole flow without a mark has none, whatever the entry in the way has.
                    scratch.mark = 0;
                    scratch.present.insert(Present::MARK);
                }
            }
            encoder.flow_update(scratch, seq, false)?;
        }
        Step::Delete => {
            let id = (slot.job == Job::Flush && flow.present.has(Present::ID)).then_some(flow.id);
            encoder.flow_delete(&flow.orig, flow.key_zone(), id, seq, false)?;
        }
        Step::Compare => encoder.flow_get(&flow.orig, flow.key_zone(), seq, false)?,
    }
    Ok(())
}
