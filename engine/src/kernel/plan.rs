//! What follows from the kernel's answer to one request: the transitions of commit and injection.
//!
//! An object goes through a few steps, each one request. The way is short when the kernel knows
//! nothing of the object, which is the rule; everything else costs another round:
//!
//! ```text
//! Create ──0──▶ done
//!   │ EEXIST ──▶ Compare ──much the same────▶ Update ──0──▶ done
//!   │               │ too different              │ refused
//!   │               └──────────────▶ Delete ◀────┘
//!   │                                  │ 0, ENOENT
//!   │                                  ▼
//!   │ EOPNOTSUPP, has a helper      Recreate ──0──▶ done, else failed
//!   ├──▶ the same step again without the helper
//!   │ ENOENT, has a master
//!   └──▶ later again; at last the same step without the master
//! ```
//!
//! An update never changes addresses or ports, so an entry with the same original tuple but
//! another translation is not brought up to date by one: it would keep sending packets elsewhere.
//! Nor does it attach a helper. That is why the entry in the way is compared first.

use super::errno::{EBUSY, EEXIST, ENOENT, EOPNOTSUPP};

/// One request about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Create, refusing an entry that exists.
    Create,
    /// Read the entry that is in the way.
    Compare,
    /// Change the entry that exists.
    Update,
    /// Delete the entry in the way.
    Delete,
    /// Create for the last time.
    Recreate,
}

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// A flow of the external cache into the kernel.
    Commit,
    /// An expectation of the external cache into the kernel.
    CommitExpect,
    /// A flow that a peer reported as new.
    InjectNew,
    /// A flow that a peer reported as changed.
    InjectUpdate,
    /// A flow that a peer reported as gone.
    InjectDelete,
    /// An expectation that a peer reported.
    InjectExpect,
    /// An expectation that a peer reported as gone.
    InjectExpectDelete,
    /// A flow of the kernel's table that passes the filter, away with it.
    Flush,
    /// All expectations, away with them.
    FlushExpects,
    /// Touch an entry, so that the kernel tells by an event whether it tells anything of it.
    Classify,
    /// Read a silent entry.
    Audit,
    /// Read the sequence adjustment of an entry.
    Read,
    /// Read an expectation that was inactive.
    ReadExpect,
}

impl Job {
    /// The step with which the object starts.
    pub(crate) const fn first(self) -> Step {
        match self {
            Self::Commit | Self::CommitExpect | Self::InjectNew | Self::InjectExpect => {
                Step::Create
            }
            Self::InjectUpdate | Self::Classify => Step::Update,
            Self::InjectDelete | Self::InjectExpectDelete | Self::Flush | Self::FlushExpects => {
                Step::Delete
            }
            Self::Audit | Self::Read | Self::ReadExpect => Step::Compare,
        }
    }

    /// Whether several objects of one batch may concern the same entry, so that their order
    /// counts.
    pub(crate) const fn ordered(self) -> bool {
        matches!(
            self,
            Self::InjectNew
                | Self::InjectUpdate
                | Self::InjectDelete
                | Self::InjectExpect
                | Self::InjectExpectDelete
        )
    }

    const fn is_expect(self) -> bool {
        matches!(self, Self::CommitExpect | Self::InjectExpect)
    }
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The object is where it should be.
    Done,
    /// The entry was not there.
    Absent,
    /// Another request.
    Again(Step),
    /// The same request without the helper that the kernel does not have.
    WithoutHelper(Step),
    /// The same request when the kernel has the master, which may yet come.
    Orphaned(Step),
    /// The same request for an entry that was made without the master.
    Unexpected(Step),
    /// Nothing helps.
    Failed,
}

/// What a request named that the kernel may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) helper: bool,
    pub(crate) master: bool,
}

/// What follows when `step` of `job` was answered with `errno` (positive, 0 for success).
pub(crate) const fn after(job: Job, step: Step, errno: i32, named: Named) -> Next {
    match job {
        Job::InjectDelete
        | Job::InjectExpectDelete
        | Job::Flush
        | Job::FlushExpects
        | Job::Classify
        | Job::Audit
        | Job::Read
        | Job::ReadExpect => match errno {
            0 => Next::Done,
            ENOENT => Next::Absent,
            _ => Next::Failed,
        },
        Job::Commit
        | Job::CommitExpect
        | Job::InjectNew
        | Job::InjectUpdate
        | Job::InjectExpect => match (step, errno) {
            // An entry to compare with comes as a message, not as an answer without an error.
            (Step::Compare, 0) => Next::Again(Step::Delete),
            (Step::Delete, 0 | ENOENT) => Next::Again(Step::Recreate),
            (_, 0) => Next::Done,
            (Step::Create, EEXIST) if job.is_expect() => Next::Again(Step::Delete),
            (Step::Create, EEXIST) => Next::Again(Step::Compare),
            (Step::Create | Step::Recreate, EOPNOTSUPP) if named.helper && !job.is_expect() => {
                Next::WithoutHelper(step)
            }
            (Step::Create | Step::Recreate, ENOENT) if named.master => Next::Orphaned(step),
            (Step::Update, EBUSY) if named.master => Next::Unexpected(step),
            // Gone since, or it was another flow's reply tuple that was in the way.
            (Step::Compare | Step::Update, ENOENT) => Next::Again(Step::Recreate),
            (Step::Compare | Step::Update, _) => Next::Again(Step::Delete),
            (Step::Create | Step::Delete | Step::Recreate, _) => Next::Failed,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::errno::{EINVAL, ENOMEM, ENOSPC, EPERM, ERANGE, ETIME};
    use super::*;

    const NOTHING: Named = Named { helper: false, master: false };
    const HELPER: Named = Named { helper: true, master: false };
    const MASTER: Named = Named { helper: false, master: true };

    #[test]
    fn a_create_that_is_refused_for_good_fails() {
        for job in [Job::Commit, Job::InjectNew] {
            for errno in [EINVAL, ENOENT, ERANGE, EBUSY, ENOMEM, ETIME] {
                assert_eq!(
                    after(job, Step::Create, errno, HELPER),
                    Next::Failed,
                    "{job:?} {errno}"
                );
                assert_eq!(
                    after(job, Step::Recreate, errno, HELPER),
                    Next::Failed,
                    "{job:?} {errno}"
                );
            }
            assert_eq!(after(job, Step::Create, 0, NOTHING), Next::Done);
            assert_eq!(after(job, Step::Recreate, EEXIST, NOTHING), Next::Failed);
        }
    }

    #[test]
    fn a_helper_that_is_missing_costs_the_helper_and_not_the_flow() {
        assert_eq!(
            after(Job::Commit, Step::Create, EOPNOTSUPP, HELPER),
            Next::WithoutHelper(Step::Create)
        );
        assert_eq!(
            after(Job::InjectUpdate, Step::Recreate, EOPNOTSUPP, HELPER),
            Next::WithoutHelper(Step::Recreate)
        );
        assert_eq!(after(Job::Commit, Step::Create, EOPNOTSUPP, NOTHING), Next::Failed);
        assert_eq!(after(Job::CommitExpect, Step::Create, EOPNOTSUPP, HELPER), Next::Failed);
    }

    #[test]
    fn a_master_that_is_missing_may_yet_come() {
        for step in [Step::Create, Step::Recreate] {
            for job in [Job::Commit, Job::InjectNew, Job::InjectUpdate, Job::InjectExpect] {
                assert_eq!(after(job, step, ENOENT, MASTER), Next::Orphaned(step), "{job:?}");
                assert_eq!(after(job, step, ENOENT, NOTHING), Next::Failed, "{job:?}");
            }
        }
        let update = after(Job::InjectUpdate, Step::Update, ENOENT, MASTER);
        assert_eq!(update, Next::Again(Step::Recreate), "it is the entry that is missing");
        let update = after(Job::InjectUpdate, Step::Update, EBUSY, MASTER);
        assert_eq!(update, Next::Unexpected(Step::Update), "the entry is there without it");
    }

    #[test]
    fn an_update_that_is_refused_becomes_delete_and_create() {
        for errno in [EBUSY, EOPNOTSUPP, ENOSPC, EPERM] {
            let next = after(Job::InjectUpdate, Step::Update, errno, HELPER);
            assert_eq!(next, Next::Again(Step::Delete), "{errno}");
        }
        assert_eq!(after(Job::InjectUpdate, Step::Update, 0, HELPER), Next::Done);
        assert_eq!(
            after(Job::InjectUpdate, Step::Update, ENOENT, HELPER),
            Next::Again(Step::Recreate)
        );
        for errno in [0, ENOENT] {
            let next = after(Job::InjectUpdate, Step::Delete, errno, HELPER);
            assert_eq!(next, Next::Again(Step::Recreate));
        }
        assert_eq!(after(Job::InjectUpdate, Step::Delete, EBUSY, HELPER), Next::Failed);
    }

    #[test]
    fn what_exists_is_compared_before_it_is_touched() {
        assert_eq!(after(Job::Commit, Step::Create, EEXIST, HELPER), Next::Again(Step::Compare));
        assert_eq!(after(Job::Commit, Step::Compare, ENOENT, HELPER), Next::Again(Step::Recreate));
        assert_eq!(
            after(Job::CommitExpect, Step::Create, EEXIST, HELPER),
            Next::Again(Step::Delete)
        );
        assert_eq!(
            after(Job::InjectExpect, Step::Delete, ENOENT, HELPER),
            Next::Again(Step::Recreate)
        );
    }

    #[test]
    fn what_is_gone_need_not_be_deleted() {
        for job in [Job::InjectDelete, Job::InjectExpectDelete, Job::Flush] {
            assert_eq!(after(job, Step::Delete, ENOENT, NOTHING), Next::Absent);
            assert_eq!(after(job, Step::Delete, 0, NOTHING), Next::Done);
            assert_eq!(after(job, Step::Delete, EPERM, NOTHING), Next::Failed);
        }
    }

    #[test]
    fn no_way_is_endless() {
        // Every chain of answers ends: a step leads only to a later one, or to itself once.
        let rank = |step| match step {
            Step::Create => 0,
            Step::Compare => 1,
            Step::Update => 2,
            Step::Delete => 3,
            Step::Recreate => 4,
        };
        let jobs = [Job::Commit, Job::CommitExpect, Job::InjectNew, Job::InjectUpdate];
        for job in jobs {
            for step in [Step::Create, Step::Compare, Step::Update, Step::Delete, Step::Recreate] {
                for errno in 0..=133 {
                    if let Next::Again(next) = after(job, step, errno, HELPER) {
                        assert!(rank(next) > rank(step), "{job:?} {step:?} {errno}");
                    }
                }
            }
        }
    }
}
