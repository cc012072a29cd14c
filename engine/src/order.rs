//! What the hub asks of every shard, and what comes back: control commands cut into steps that
//! one shard can do between two drains of its events.

use crate::command::{Format, Object, Side};
use crate::kernel::{Coming, CommitReport, Failure, FlowKey};
use crate::report::ShardReport;

/// A number of the hub's for who asked; comes back with the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker(pub u32);

/// Which entries a commit takes: masters go before the flows that they expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitPass {
    /// Flows without a master.
    Unrelated,
    /// Flows with one.
    Related,
    /// Flows whose master was missing in the pass before.
    Orphans(Coming),
    /// Expectations.
    Expectations,
}

/// What the kernel's table is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableUse {
    /// To fill the caches at the start. Nothing is told to the peer.
    Start,
    /// To delete the flows that pass the filter from the kernel.
    Flush,
    /// To add what the cache lacks, as an operator asks. Nothing is told to the peer.
    Merge,
    /// To show it to clients.
    List,
    /// To agree with it after a loss of events. What differs is told to the peer.
    Reconcile,
    /// The same after a commit, during which new flows were not heard of.
    Committed,
}

/// Which caches a flush empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Own flows.
    pub internal: bool,
    /// The peer's flows.
    pub external: bool,
    /// The expectations of the caches named.
    pub expectations: bool,
}

/// Something for a shard to do.
#[derive(Debug)]
pub enum Order {
    /// Report all figures.
    Snapshot,
    /// Write a part of a cache.
    Dump {
        /// Who asked.
        asker: Asker,
        /// Which cache.
        side: Side,
        /// Flows or expectations.
        object: Object,
        /// How.
        format: Format,
        /// Where the last part ended; 0 at first.
        cursor: u32,
        /// Empty buffer to write into.
        out: Vec<u8>,
    },
    /// Hear of new flows, or do not.
    HearNew(bool),
    /// Write cached entries into the kernel.
    Commit(CommitPass),
    /// Tell when all that the peer has told so far is in the kernel, where it goes without a cache.
    /// What waits for its master may still be missing.
    Settle,
    /// Empty caches. Nothing is told to the peer.
    Flush(Caches),
    /// The kernel's table is read; its entries follow.
    ReadBegin(TableUse),
    /// The kernel has told all entries, or has broken off.
    ReadEnd {
        /// Whether every entry was told.
        complete: bool,
    },
    /// Tell how many flows are silent.
    Census,
    /// Ask the kernel for every silent flow.
    Audit,
    /// Send every flow of the internal cache.
    Bulk {
        /// Also those that a reading showed and the peer has told since.
        followed: bool,
    },
    /// End the thread.
    Stop,
}

/// What came of an [`Order`].
#[derive(Debug)]
pub enum Outcome {
    /// Figures.
    Snapshot(Box<ShardReport>),
    /// A part of a dump; `next` is where to go on, `None` at the end.
    Dump {
        /// Who asked.
        asker: Asker,
        /// The text.
        out: Vec<u8>,
        /// Where to go on.
        next: Option<u32>,
    },
    /// [`Order::HearNew`] is done.
    HearsNew,
    /// A pass of a commit has ended.
    Commit {
        /// What it did.
        report: CommitReport,
        /// What it left, unless it has put something in: that may have been what they need.
        left: Vec<FlowKey>,
    },
    /// [`Order::Settle`] is done.
    Settled {
        /// Objects that the kernel has refused meanwhile.
        failed: u64,
    },
    /// These caches are empty.
    Flushed(Caches),
    /// What the kernel's table says from now on is newer than every event that was handled.
    ReadBegun,
    /// The reading of the kernel's table is worked off.
    Read {
        /// Whether it has to be repeated.
        again: bool,
    },
    /// How many flows there are.
    Census {
        /// In the internal cache.
        flows: u64,
        /// Of these, flows that only the table shows.
        silent: u64,
    },
    /// A request to the kernel failed for good.
    Failed(Failure),
    /// So many more failed in the last second.
    FailuresSuppressed(u64),
    /// Received objects were refused: the peer has to tell them again.
    Refused,
    /// The shard lost so many events: its part of the table must be read again.
    Lost(u64),
    /// So many objects found no room in a cache.
    NoSpace(u64),
    /// A cache of flows is nearly full.
    NearlyFull,
    /// So many ends of objects were forgotten that the peer may not know of.
    Forgotten(u64),
}
