//! What the kernel side tells its owner: results, and failures for the log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto_ctnl::{Expect, Flow};

use super::plan::{Job, Step};
use crate::snapshot::OkFailed;

/// Failures told in full per [`WINDOW`]; the others are counted.
const FAILURES_PER_WINDOW: u32 = 10;
/// Span over which failures are limited.
const WINDOW: Duration = Duration::from_secs(1);

/// Result of a commit pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Objects that are in the kernel now, [`CommitReport::updated`] included.
    pub committed: u64,
    /// Of these, flows whose entry existed and was brought up to date.
    pub updated: u64,
    /// Of these, flows that went in without the helper they had, because the kernel lacks it.
    pub without_helper: u64,
    /// Of these, flows that went in without the master they had, because the kernel lacks it.
    pub without_master: u64,
    /// Flows left for another pass, as their master may be there by then.
    pub orphaned: u64,
    /// Objects that could not be committed.
    pub failed: u64,
    /// Flows that had run out and were left out.
    pub expired: u64,
}

impl CommitReport {
    /// Adds the result of another shard or pass.
    pub const fn add(&mut self, other: &Self) {
        self.committed += other.committed;
        self.updated += other.updated;
        self.without_helper += other.without_helper;
        self.without_master += other.without_master;
        self.orphaned += other.orphaned;
        self.failed += other.failed;
        self.expired += other.expired;
    }
}

/// Result of a selective flush of the kernel's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Entries deleted.
    pub deleted: u64,
    /// Entries that were gone already.
    pub absent: u64,
    /// Entries that could not be deleted.
    pub failed: u64,
    /// Entries that the filter kept.
    pub kept: u64,
    /// The table was not read whole, so that some may be left.
    pub repeat: bool,
}

impl FlushReport {
    /// Adds the result of another shard.
    pub const fn add(&mut self, other: &Self) {
        self.deleted += other.deleted;
        self.absent += other.absent;
        self.failed += other.failed;
        self.kept += other.kept;
        self.repeat |= other.repeat;
    }
}

/// Result of reading the kernel's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResyncReport {
    /// Flows of this shard that the dump showed and the filter kept.
    pub seen: u64,
    /// Of these, flows that were not in the cache.
    pub created: u64,
    /// Of these, flows that differed from the cache.
    pub changed: u64,
    /// Flows of the cache that the kernel no longer has.
    pub vanished: u64,
    /// Flows for which the cache had no room.
    pub no_space: u64,
    /// Whether the dump has to be repeated: it broke off, or more flows were destroyed meanwhile
    /// than could be remembered.
    pub repeat: bool,
}

/// Result of a pass over silent flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Entries asked for.
    pub checked: u64,
    /// Flows that were gone.
    pub vanished: u64,
    /// Flows that had changed.
    pub changed: u64,
    /// Requests without a useful answer; the next pass asks again.
    pub failed: u64,
}

/// Requests and results since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Batches sent.
    pub batches: u64,
    /// Requests in them.
    pub requests: u64,
    /// Batches whose answers were lost or late.
    pub unanswered: u64,
    /// Answers that belong to no request.
    pub strays: u64,
    /// Answers that could not be decoded.
    pub malformed: u64,
    /// Flows that a peer reported as new.
    pub inject_new: OkFailed,
    /// Flows that a peer reported as changed.
    pub inject_update: OkFailed,
    /// Flows that a peer reported as gone.
    pub inject_delete: OkFailed,
    /// Expectations that a peer reported.
    pub inject_expect: OkFailed,
    /// Expectations that a peer reported as gone.
    pub inject_expect_delete: OkFailed,
    /// Objects that were refused because the queue was full.
    pub inject_refused: u64,
    /// Most objects in the queue for injection so far.
    pub inject_queue_max: u64,
    /// Flows put into the kernel without their helper.
    pub without_helper: u64,
    /// Flows put into the kernel without their master.
    pub without_master: u64,
    /// Injected objects that had to wait for their master.
    pub orphaned: u64,
    /// Expectations that failed because the kernel has no such helper, or their master none.
    pub expects_without_helper: u64,
}

impl KernelCounters {
    /// All injections together.
    pub fn injected(&self) -> OkFailed {
        [
            self.inject_new,
            self.inject_update,
            self.inject_delete,
            self.inject_expect,
            self.inject_expect_delete,
        ]
        .iter()
        .fold(OkFailed::default(), |sum, one| OkFailed {
            ok: sum.ok + one.ok,
            failed: sum.failed + one.failed,
        })
    }
}

/// What failed, in the words of the original's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Creating a flow or an expectation of the external cache.
    CommitCreate,
    /// Deleting what was in the way of it.
    CommitDestroy,
    /// Creating a flow that a peer reported.
    InjectCreate,
    /// The same after deleting what was in the way.
    InjectRecreate,
    /// Changing a flow that a peer reported.
    InjectUpdate,
    /// The same by deleting and creating it.
    InjectUpdateRecreate,
    /// Deleting a flow that a peer reported as gone.
    InjectDestroy,
    /// Creating an expectation that a peer reported.
    InjectExpectCreate,
    /// Deleting an expectation that a peer reported as gone.
    InjectExpectDestroy,
    /// Deleting an entry in a flush.
    Flush,
}

impl Operation {
    pub(crate) const fn of(job: Job, step: Step) -> Option<Self> {
        Some(match (job, step) {
            (Job::Commit | Job::CommitExpect, Step::Delete) => Self::CommitDestroy,
            (Job::Commit | Job::CommitExpect, _) => Self::CommitCreate,
            (Job::InjectNew, Step::Create) => Self::InjectCreate,
            (Job::InjectNew, _) => Self::InjectRecreate,
            (Job::InjectUpdate, Step::Update) => Self::InjectUpdate,
            (Job::InjectUpdate, _) => Self::InjectUpdateRecreate,
            (Job::InjectDelete, _) => Self::InjectDestroy,
            (Job::InjectExpect, _) => Self::InjectExpectCreate,
            (Job::InjectExpectDelete, _) => Self::InjectExpectDestroy,
            (Job::Flush | Job::FlushExpects, _) => Self::Flush,
            (Job::Classify | Job::Audit | Job::Read | Job::ReadExpect, _) => return None,
        })
    }

    /// The words of the original's log before the error's text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::CommitCreate => "commit-create",
            Self::CommitDestroy => "commit-destroy",
            Self::InjectCreate => "could not add new ct entry",
            Self::InjectRecreate => "could not add new ct entry, even when deleting it first",
            Self::InjectUpdate => "could not update ct entry",
            Self::InjectUpdateRecreate => "could not update ct entry, even when deleting it first",
            Self::InjectDestroy => "could not destroy ct entry",
            Self::InjectExpectCreate => "could not add new exp entry",
            Self::InjectExpectDestroy => "could not delete exp entry",
            Self::Flush => "could not flush ct entry",
        }
    }
}

/// The object of a request.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "flows are the rule, and are filled in place")]
pub enum Object {
    /// A flow.
    Flow(Flow),
    /// An expectation.
    Expect(Expect),
}

/// A request that failed for good.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was tried.
    pub operation: Operation,
    /// The kernel's answer, see [`super::errno::text`].
    pub errno: i32,
    /// The flow or expectation.
    pub object: Box<Object>,
}

/// Something the owner should know.
#[derive(Clone, Debug)]
pub enum KernelEvent {
    /// A pass over the external flow cache is done.
    CommitDone(CommitReport),
    /// The external expectation cache was committed.
    CommitExpectsDone(CommitReport),
    /// The kernel's flows that pass the filter are deleted.
    FlushDone(FlushReport),
    /// The kernel's expectations are deleted; the error number if not.
    FlushExpectsDone(i32),
    /// The internal cache agrees with the dump.
    ResyncDone(ResyncReport),
    /// A pass that asks which flows are silent is done.
    ClassifyDone(AuditReport),
    /// A pass over silent flows is done.
    AuditDone(AuditReport),
    /// A request failed. At most ten a second are told.
    Failed(Failure),
    /// As many more failed in the last second.
    FailuresSuppressed(u64),
}

/// Events that wait for the owner. Bounded: results are few, failures are limited in time and
/// dropped, counted, if the owner does not come for them.
#[derive(Debug)]
pub(crate) struct Events {
    queue: VecDeque<KernelEvent>,
    window_end: Option<Instant>,
    in_window: u32,
    suppressed: u64,
}

impl Events {
    const MAX: usize = 64;

    pub(crate) fn new() -> Self {
        let queue = VecDeque::with_capacity(Self::MAX);
        Self { queue, window_end: None, in_window: 0, suppressed: 0 }
    }

    pub(crate) fn push(&mut self, event: KernelEvent) {
        self.queue.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<KernelEvent> {
        self.queue.pop_front()
    }

    /// Whether nothing waits to be told.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The time at which suppressed failures are to be told.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.window_end.filter(|_| self.suppressed > 0)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.window_end.is_some_and(|end| now >= end) {
            self.window_end = None;
            self.in_window = 0;
            if self.suppressed > 0 {
                self.queue.push_back(KernelEvent::FailuresSuppressed(self.suppressed));
                self.suppressed = 0;
            }
        }
    }

    pub(crate) fn fail(&mut self, now: Instant, job: Job, step: Step, errno: i32, object: &Object) {
        let Some(operation) = Operation::of(job, step) else { return };
        self.handle_timeout(now);
        self.window_end.get_or_insert(now + WINDOW);
        if self.in_window >= FAILURES_PER_WINDOW || self.queue.len() >= Self::MAX {
            self.suppressed += 1;
            return;
        }
        self.in_window += 1;
        let object = Box::new(object.clone());
        self.queue.push_back(KernelEvent::Failed(Failure { operation, errno, object }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_failures_is_told_in_part_and_counted_in_full() {
        let mut events = Events::new();
        let start = Instant::now();
        let object = Object::Flow(Flow::default());
        for _ in 0..25 {
            events.fail(start, Job::Commit, Step::Create, 22, &object);
        }
        let deadline = events.deadline().unwrap();
        events.handle_timeout(deadline);
        let mut told = 0;
        let mut suppressed = 0;
        while let Some(event) = events.pop() {
            match event {
                KernelEvent::Failed(failure) => {
                    assert_eq!((failure.operation.text(), failure.errno), ("commit-create", 22));
                    told += 1;
                }
                KernelEvent::FailuresSuppressed(n) => suppressed += n,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((told, suppressed), (10, 15));
        events.fail(deadline, Job::Commit, Step::Delete, 16, &object);
        assert!(matches!(events.pop(), Some(KernelEvent::Failed(_))));
        assert!(events.deadline().is_none());
    }
}
