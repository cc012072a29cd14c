//! Injection: what peers report straight into the kernel, without an external cache.

use proto_ctnl::{Expect, Flow};

use super::KernelSide;
use super::batch::Slot;
use super::errno::EOPNOTSUPP;
use super::orphans::Orphans;
use super::plan::{Job, Next};
use super::report::Object;

/// What a peer says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectKind {
    /// It is new.
    New,
    /// It changed.
    Update,
    /// It is gone.
    Delete,
}

/// The queue for injection is full: the object was refused and counted. What was lost this way
/// comes again with the next resync from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl std::fmt::Display for QueueFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too many objects wait for injection")
    }
}

impl std::error::Error for QueueFull {}

impl KernelSide {
    /// Queues a flow that a peer reported. Its timeout is taken as received.
    ///
    /// # Errors
    /// [`QueueFull`], and the flow is not injected.
    pub fn inject(&mut self, kind: InjectKind, flow: &Flow) -> Result<(), QueueFull> {
        let job = match kind {
            InjectKind::New => Job::InjectNew,
            InjectKind::Update => Job::InjectUpdate,
            InjectKind::Delete => Job::InjectDelete,
        };
        self.queue_injection(job, Object::Flow(*flow))
    }

    /// Queues an expectation that a peer reported.
    ///
    /// # Errors
    /// [`QueueFull`], and the expectation is not injected.
    pub fn inject_expect(&mut self, kind: InjectKind, expect: &Expect) -> Result<(), QueueFull> {
        let job = match kind {
            InjectKind::New | InjectKind::Update => Job::InjectExpect,
            InjectKind::Delete => Job::InjectExpectDelete,
        };
        self.queue_injection(job, Object::Expect(*expect))
    }

    /// Room for this many more objects, so that a reader can hold back what it has.
    pub fn inject_room(&self) -> usize {
        self.config.inject_queue_max.saturating_sub(self.inject.len())
    }

    /// How many objects were ever queued.
    pub(crate) const fn injections(&self) -> u64 {
        self.injected
    }

    /// Whether the kernel has answered for the first `count` of them, apart from those that had to
    /// wait for their masters. What comes after them does not put it off.
    pub(crate) fn has_injected(&self, count: u64) -> bool {
        let taken = self.injected - self.inject.len() as u64;
        let mut under_way = self.batch.under_way().iter().chain(&self.redo);
        taken >= count && under_way.all(|slot| slot.injection == 0 || slot.injection > count)
    }

    /// Forgets what is not under way, but for ends.
    pub(crate) fn forget_injections(&mut self) {
        self.inject.retain(|slot| matches!(slot.job, Job::InjectDelete | Job::InjectExpectDelete));
        self.orphans = Orphans::default();
    }

    /// So many objects found no room even to wait for room here.
    pub(crate) const fn refuse_injections(&mut self, objects: u64) {
        self.counters.inject_refused += objects;
    }

    fn queue_injection(&mut self, job: Job, object: Object) -> Result<(), QueueFull> {
        if self.inject_room() == 0 {
            self.counters.inject_refused += 1;
            return Err(QueueFull);
        }
        self.injected += 1;
        self.inject.push_back(Slot { object, injection: self.injected, ..Slot::empty(job) });
        let waiting = self.inject.len() as u64;
        self.counters.inject_queue_max = self.counters.inject_queue_max.max(waiting);
        self.busy = true;
        Ok(())
    }

    pub(super) fn settle_injected(&mut self, slot: &Slot, next: Next, errno: i32) {
        let counter = match slot.job {
            Job::InjectUpdate => &mut self.counters.inject_update,
            Job::InjectDelete => &mut self.counters.inject_delete,
            Job::InjectExpect => &mut self.counters.inject_expect,
            Job::InjectExpectDelete => &mut self.counters.inject_expect_delete,
            _ => &mut self.counters.inject_new,
        };
        if next == Next::Failed {
            counter.failed += 1;
            let missing = slot.job == Job::InjectExpect && errno == EOPNOTSUPP;
            self.counters.expects_without_helper += u64::from(missing);
            return;
        }
        counter.ok += 1;
        self.counters.without_helper += u64::from(slot.bare);
        self.counters.without_master += u64::from(slot.made_alone());
    }
}
