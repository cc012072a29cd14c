//! Expectations that were told as inactive are asked for again.
//!
//! The kernel's SIP helper makes what a registration expects at the request, and inactive: no call
//! matches it. When the registrar agrees it is made active, and no event tells that. The end of a
//! registration that is refused is told; so what is inactive waits for an answer, which comes at
//! once or hardly ever.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto_ctnl::{Expect, ExpectPresent, ExpectRef};

use crate::caches::Caches;
use crate::expects::ExpectIndex;

use super::KernelSide;
use super::plan::Job;
use super::sweep::AUDIT_BATCH;

/// `NF_CT_EXPECT_INACTIVE`.
const INACTIVE: u32 = 2;
/// Seconds from the event to the first question, and from each to the next. A SIP client gives up
/// after 32.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 16, 32];
/// Expectations that wait for one question; the kernel has hardly as many.
const WAITING_MAX: usize = 4096;

/// What waits for each of the questions, in order.
#[derive(Debug, Default)]
pub(super) struct Inactive([VecDeque<(Instant, ExpectIndex)>; PAUSES.len()]);

impl Inactive {
    /// The expectation waits for the question of this number, if there is one.
    fn wait(&mut self, now: Instant, index: ExpectIndex, question: usize) {
        if let (Some(queue), Some(&pause)) = (self.0.get_mut(question), PAUSES.get(question))
            && queue.len() < WAITING_MAX
        {
            queue.push_back((now + Duration::from_secs(pause), index));
        }
    }

    /// When the next question is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().filter_map(|queue| queue.front()).map(|(due, _)| *due).min()
    }

    /// Takes one that is due, and the number of the question.
    fn take(&mut self, now: Instant) -> Option<(ExpectIndex, usize)> {
        self.0.iter_mut().enumerate().find_map(|(question, queue)| {
            queue.front().filter(|(due, _)| *due <= now)?;
            queue.pop_front().map(|(_, index)| (index, question))
        })
    }
}

/// Whether no packet matches the expectation yet.
const fn is_inactive(expect: &Expect) -> bool {
    expect.present.has(ExpectPresent::FLAGS) && expect.flags & INACTIVE != 0
}

impl KernelSide {
    /// The kernel told this expectation, which the internal cache has there.
    pub fn read_if_inactive(&mut self, now: Instant, index: ExpectIndex, expect: &Expect) {
        if is_inactive(expect) {
            self.inactive.wait(now, index, 0);
        }
    }

    /// Fills the vacant slot with the next inactive expectation whose question is due.
    pub(super) fn take_inactive(&mut self, now: Instant, caches: &Caches) -> bool {
        if self.batch.len() >= AUDIT_BATCH {
            return false;
        }
        let expects = &caches.expects_internal;
        while let Some((index, question)) = self.inactive.take(now) {
            // It may have ended, or another have its place.
            if let Some((expect, _)) = expects.get(index).filter(|_| expects.contains(index))
                && is_inactive(expect)
            {
                self.inactive.wait(now, index, question + 1);
                let slot = self.batch.vacant().0;
                slot.reset(Job::ReadExpect);
                *slot.expect_mut() = *expect;
                return true;
            }
        }
        false
    }

    /// The kernel tells an expectation that was asked for.
    pub(super) fn on_expect_read(
        &mut self,
        now: Instant,
        caches: &mut Caches,
        expect: &ExpectRef<'_>,
    ) {
        let slot = self.batch.by_seq(expect.message().seq);
        let Some(slot) = slot.filter(|slot| slot.job == Job::ReadExpect) else {
            self.counters.strays += 1;
            return;
        };
        slot.answer = Some(0);
        let mut told = Expect::default();
        if expect.write_to(&mut told).is_err() {
            self.counters.malformed += 1;
            return;
        }
        let secs = self.secs(now);
        let expects = &mut caches.expects_internal;
        if expects.has_other_flags(&told)
            && let Ok(stored) = expects.merge(&told, secs)
        {
            expects.mark_changed(stored.index);
        }
    }
}
