//! What a shard does on the hub's orders, and the slices of long work between two drains.

use std::time::Instant;

use proto_ctnl::bpf::LookupRecord;
use proto_ctnl::render::{
    CacheLine, cache_json, cache_line, cache_xml, expect_cache_json, expect_cache_line,
    expect_cache_xml,
};

use crate::cache::{FlowIndex, Meta};
use crate::clock::Moment;
use crate::command::{Format, Object, Side};
use crate::expects::ExpectIndex;
use crate::kernel::{DumpPurpose, KernelEvent, Pass, Send};
use crate::order::{Caches as Which, CommitPass, Order, Outcome, TableUse};
use crate::report::ShardReport;
use crate::shard::{Settling, Shard, Until};

/// Objects of a bulk send that are queued at once. The next ones follow when these are sent, so
/// that live changes never wait for more than this.
const BULK_SLICE: u32 = 1024;
/// Octets of one part of a dump.
const DUMP_PART_BYTES: usize = 64 * 1024;

impl Shard {
    /// Does what the hub asks for, or begins to.
    pub fn order(&mut self, now: Moment, order: Order) {
        match order {
            Order::Snapshot => {
                let report = Box::new(ShardReport::of(self));
                self.outcomes.push_back(Outcome::Snapshot(report));
            }
            Order::Dump { asker, side, object, format, cursor, mut out } => {
                let next = match object {
                    Object::Flow => self.dump_flows(now, side, format, cursor, &mut out),
                    Object::Expect => self.dump_expects(now, side, format, cursor, &mut out),
                };
                self.outcomes.push_back(Outcome::Dump { asker, out, next });
            }
            // Who never listens has nothing to change, nor has who could not make good what it
            // does not hear.
            Order::HearNew(_) if self.kernel.polls() || self.bypass.is_some() => {
                self.outcomes.push_back(Outcome::HearsNew);
            }
            Order::HearNew(hear) => self.hear_new = Some(hear),
            Order::Commit(pass) => {
                let began = match pass {
                    CommitPass::Unrelated => self.kernel.start_commit(Pass::Unrelated),
                    CommitPass::Related => self.kernel.start_commit(Pass::Related),
                    CommitPass::Orphans(coming) => self.kernel.start_commit(Pass::Orphans(coming)),
                    CommitPass::Expectations => self.kernel.start_commit_expects(),
                };
                debug_assert!(began, "the hub gives one pass at a time");
            }
            Order::Settle => {
                let until = Until::Inbox(self.inbox.come());
                let failed = self.kernel.counters().injected().failed;
                self.settling.push_back(Settling { until, failed });
            }
            Order::Flush(which) => {
                self.flush(which);
                self.outcomes.push_back(Outcome::Flushed(which));
            }
            Order::ReadBegin(purpose) => self.begin_after_events(purpose),
            Order::ReadEnd { complete } => {
                if !self.bypass_read_end(complete) {
                    self.kernel.dump_finished(now.at, &mut self.caches, complete);
                }
            }
            Order::Census => self.outcomes.push_back(Outcome::Census {
                flows: u64::from(self.caches.internal.alive_len()),
                silent: u64::from(self.caches.internal.silent_len()),
            }),
            Order::Audit => {
                self.kernel.start_audit(now.at, &self.caches);
            }
            Order::Bulk { followed } => {
                self.caches.internal.begin_bulk();
                if !followed {
                    self.caches.internal.leave_followed_out();
                }
                self.caches.expects_internal.begin_bulk();
            }
            // The owner of the thread looks at this one itself.
            Order::Stop => {}
        }
    }

    /// How far the events of this shard's own intake were taken, and how many have come, in counts
    /// of one kind that only grow. To be told after each drain.
    pub fn intake_is_at(&mut self, taken: u64, come: u64) {
        self.intake = (taken, come);
        if let Some((purpose, _)) = self.reading.take_if(|(_, until)| *until <= taken) {
            self.read_begin(purpose);
        }
    }

    /// Whether a reading of the kernel's table waits for events of this shard's own intake.
    pub const fn waits_for_events(&self) -> bool {
        self.reading.is_some()
    }

    /// What the table says is newer than every event that waits now: they are handled before. The
    /// end of a flow in whose place another has begun, unheard of, would else end that one.
    fn begin_after_events(&mut self, purpose: TableUse) {
        let (taken, come) = self.intake;
        if taken < come {
            self.reading = Some((purpose, come));
        } else {
            self.read_begin(purpose);
        }
    }

    /// A reading that can not begin, which the plan of the hub excludes, is asked for again.
    fn read_begin(&mut self, purpose: TableUse) {
        if self.bypass_read_begin(purpose) {
            return;
        }
        let began = match purpose {
            TableUse::Flush => self.kernel.start_flush(),
            TableUse::Start => self.kernel.begin_dump(DumpPurpose::Start, &mut self.caches),
            // Shown where there is no internal cache, and then it is no matter of the kernel side.
            TableUse::Merge | TableUse::List => {
                self.kernel.begin_dump(DumpPurpose::Merge, &mut self.caches)
            }
            TableUse::Reconcile => self.kernel.begin_dump(DumpPurpose::Reconcile, &mut self.caches),
            TableUse::Committed => self.kernel.begin_dump(DumpPurpose::Committed, &mut self.caches),
        };
        self.outcomes.push_back(Outcome::ReadBegun);
        if !began {
            self.outcomes.push_back(Outcome::Read { again: true });
        }
    }

    /// Whether the intake is to hear of new flows or not, if that is to change. The owner of the
    /// intake sees to it before it sends anything for this shard.
    pub fn poll_hear_new(&mut self) -> Option<bool> {
        let hear = self.hear_new.take()?;
        self.outcomes.push_back(Outcome::HearsNew);
        Some(hear)
    }

    /// Deletes all expectations of the namespace from the kernel.
    pub fn flush_kernel_expects(&mut self) {
        self.kernel.start_flush_expects();
    }

    /// Whether a reading of the kernel's table has to wait for this shard.
    pub fn is_saturated(&self) -> bool {
        self.kernel.flush_saturated() || self.bypass_saturated()
    }

    fn flush(&mut self, which: Which) {
        let caches = &mut self.caches;
        if which.internal {
            caches.internal.clear();
        }
        if which.external {
            caches.external.clear();
        }
        if which.internal && which.expectations {
            caches.expects_internal.clear();
        }
        if which.external && which.expectations {
            caches.expects_external.clear();
        }
        if which.external {
            self.forget_waiting();
        }
    }

    /// Does a slice of what is under way: queues a part of a bulk send, sweeps, tells results.
    pub fn work(&mut self, now: Instant) {
        if let Some(alarm) = &self.alarm {
            alarm.work(now, &mut self.caches, BULK_SLICE);
        }
        let internal = &mut self.caches.internal;
        if internal.bulk_left() > 0 && internal.pending_len() < BULK_SLICE {
            internal.bulk_step(BULK_SLICE);
        }
        let expects = &mut self.caches.expects_internal;
        if expects.bulk_left() > 0 && expects.pending_len() < BULK_SLICE {
            expects.bulk_step(BULK_SLICE);
        }
        self.inject_more();
        self.kernel.handle_timeout(now, &mut self.caches);
        self.tell_settled();
        self.settle_changes(now);
        while let Some(event) = self.kernel.poll_event() {
            self.kernel_event(event);
        }
        if self.take_refused() {
            self.outcomes.push_back(Outcome::Refused);
        }
        let no_space = self.caches.refused();
        if no_space > self.no_space {
            self.outcomes.push_back(Outcome::NoSpace(no_space - self.no_space));
            self.no_space = no_space;
        }
        let nearly_full = self.caches.nearly_full(self.nearly_full);
        if nearly_full && !self.nearly_full {
            self.outcomes.push_back(Outcome::NearlyFull);
        }
        self.nearly_full = nearly_full;
        let forgotten = self.caches.ends_forgotten();
        if forgotten > self.forgotten {
            self.outcomes.push_back(Outcome::Forgotten(forgotten - self.forgotten));
            self.forgotten = forgotten;
        }
    }

    /// Tells those who wait for it that the kernel has what the peer had told when they asked.
    fn tell_settled(&mut self) {
        while let Some(first) = self.settling.front_mut() {
            if matches!(first.until, Until::Inbox(come) if come <= self.inbox.taken()) {
                first.until = Until::Kernel(self.kernel.injections());
            }
            if !matches!(first.until, Until::Kernel(count) if self.kernel.has_injected(count)) {
                return;
            }
            let failed = self.kernel.counters().injected().failed - first.failed;
            self.settling.pop_front();
            self.outcomes.push_back(Outcome::Settled { failed });
        }
    }

    /// Whether [`Self::work`] has more to do right away. Where as much is queued as may be, there is
    /// more only when the link has taken some of it.
    pub fn is_busy(&self) -> bool {
        let caches = &self.caches;
        let (flows, expects) = (&caches.internal, &caches.expects_internal);
        flows.pending_len() < BULK_SLICE && (flows.bulk_left() > 0 || flows.table.is_repeat_due())
            || expects.pending_len() < BULK_SLICE
                && (expects.bulk_left() > 0 || expects.table.is_repeat_due())
            || self.has_unsettled()
    }

    fn kernel_event(&mut self, event: KernelEvent) {
        let outcome = match event {
            KernelEvent::CommitDone(report) => {
                let left =
                    if report.committed == 0 { self.kernel.left(&self.caches) } else { Vec::new() };
                Outcome::Commit { report, left }
            }
            KernelEvent::CommitExpectsDone(report) => Outcome::Commit { report, left: Vec::new() },
            KernelEvent::FlushDone(report) => Outcome::Read { again: report.repeat },
            KernelEvent::ResyncDone(report) => Outcome::Read { again: report.repeat },
            KernelEvent::Failed(failure) => Outcome::Failed(failure),
            KernelEvent::FailuresSuppressed(count) => Outcome::FailuresSuppressed(count),
            KernelEvent::FlushExpectsDone(_)
            | KernelEvent::ClassifyDone(_)
            | KernelEvent::AuditDone(_) => return,
        };
        self.outcomes.push_back(outcome);
    }

    /// The next batch of requests for the kernel, written to the start of `buf`.
    pub fn poll_kernel(&mut self, now: Instant, buf: &mut [u8]) -> Option<Send> {
        self.kernel.poll_send(now, &mut self.caches, buf)
    }

    /// The silent flows that are to be looked at now; gives how many.
    pub fn poll_look(&mut self, now: Instant, records: &mut [LookupRecord]) -> usize {
        self.kernel.poll_look(now, &self.caches, records)
    }

    /// What looking at them showed.
    pub fn on_looked(&mut self, now: Instant, records: &[LookupRecord]) {
        self.kernel.on_looked(now, &mut self.caches, records);
    }

    /// Flows can not be looked at any more, only asked for.
    pub fn cannot_look(&mut self) {
        self.kernel.allow_look(false);
    }

    /// A datagram that answers requests.
    pub fn on_kernel_answer(&mut self, now: Instant, datagram: &[u8]) {
        self.kernel.on_datagram(now, &mut self.caches, datagram);
    }

    /// Requests could not be sent, or a request socket lost answers.
    pub fn kernel_answers_lost(&mut self, now: Instant) {
        self.kernel.answers_lost(now, &mut self.caches);
    }

    fn dump_flows(
        &mut self,
        now: Moment,
        side: Side,
        format: Format,
        cursor: u32,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let cache = match side {
            Side::Internal => &self.caches.internal,
            Side::External => &self.caches.external,
        };
        let mut line = CacheLine { external: side == Side::External, ..CacheLine::default() };
        let mut at = FlowIndex::from_raw(cursor);
        while let Some(index) = cache.next_from(at) {
            if out.len() >= DUMP_PART_BYTES {
                return Some(index.raw());
            }
            at = index.next();
            self.scratch.clear();
            let Some(meta) = cache.load(index, &mut self.scratch) else { continue };
            line.expires_in_s = self.expiry(side, &meta, now.secs);
            line.active_since_s = now.secs.saturating_sub(meta.created);
            match format {
                Format::Plain => cache_line(&self.scratch, &line, out),
                Format::Xml => cache_xml(&self.scratch, &line, out),
                Format::Json => cache_json(&self.scratch, &line, out),
            }
        }
        None
    }

    /// Seconds until an object is forgotten, if it ever is.
    fn expiry(&self, side: Side, meta: &Meta, now_secs: u32) -> Option<u32> {
        let alarm = self.alarm.as_ref().filter(|_| side == Side::External)?;
        Some(alarm.left(meta, now_secs))
    }

    fn dump_expects(
        &self,
        now: Moment,
        side: Side,
        format: Format,
        cursor: u32,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let cache = match side {
            Side::Internal => &self.caches.expects_internal,
            Side::External => &self.caches.expects_external,
        };
        let mut line = CacheLine { external: side == Side::External, ..CacheLine::default() };
        let mut at = ExpectIndex::from_raw(cursor);
        while let Some(index) = cache.next_from(at) {
            if out.len() >= DUMP_PART_BYTES {
                return Some(index.raw());
            }
            at = index.next();
            let Some((expect, meta)) = cache.get(index) else { continue };
            line.expires_in_s = self.expiry(side, &meta, now.secs);
            line.active_since_s = now.secs.saturating_sub(meta.created);
            match format {
                Format::Plain => expect_cache_line(expect, &line, out),
                Format::Xml => expect_cache_xml(expect, &line, out),
                Format::Json => expect_cache_json(expect, &line, out),
            }
        }
        None
    }
}
