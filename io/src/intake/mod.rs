//! Taking conntrack events from the kernel, sorted by shard.
//!
//! Three ways, of which [`EventIntake::open`] takes the first that works here, or the one it is
//! told:
//!
//! | kind | how | cost |
//! |---|---|---|
//! | [`IntakeKind::Ring`] | an eBPF program copies each event into the mapped ring buffer of its shard | no system call per event, but `CAP_BPF` |
//! | [`IntakeKind::Filter`] | one socket per shard, each with a filter that keeps its events | one receive per event |
//! | [`IntakeKind::Single`] | one socket; user space has to sort | the same, and the sorting |
//!
//! The parts go to the threads of their shards and are used there with the thread's ring:
//!
//! ```no_run
//! # use std::time::Duration;
//! # fn run(ring: &mut io::Ring, part: &mut io::ShardIntake) -> Result<(), io::IoError> {
//! const EVENTS: u64 = 1;
//! part.start(ring, EVENTS)?;
//! loop {
//!     let mut event = |message: &[u8]| println!("{} octets", message.len());
//!     let drained = part.drain(4096, |events| events.iter().copied().for_each(&mut event));
//!     while let Some(completion) = ring.next_completion() {
//!         if completion.token == EVENTS {
//!             part.handle(completion.outcome, &mut event)?;
//!         }
//!     }
//!     // While events come, look again after a linger and let nobody wake this thread; when
//!     // none came, sleep until one does. Never sleep on records that are there already.
//!     if drained.messages > 0 || part.has_more() {
//!         ring.wait(64, Duration::from_millis(1))?;
//!     } else {
//!         ring.wait(1, Duration::from_millis(100))?;
//!     }
//! }
//! # }
//! ```
//!
//! [`ShardIntake::lost`] after each drain tells whether events were lost; then the shard has to
//! read the kernel's table again.

mod bpfring;
mod open;
mod shard;

use std::fmt;

use proto_ctnl::bpf::EventFilter;

use crate::error::IoError;

pub use shard::{Drained, ShardIntake};

/// How events leave the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeKind {
    /// BPF ring buffers, one per shard.
    Ring,
    /// One filtered socket per shard.
    Filter,
    /// One socket for all shards, read by shard 0.
    Single,
}

impl fmt::Display for IntakeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::Filter => "filtered sockets",
            Self::Single => "single socket",
        })
    }
}

/// What to take, and how.
#[derive(Clone, Debug)]
pub struct IntakeOptions {
    /// Shards, 1 to 255; 0 counts as 1.
    pub shards: u8,
    /// The only kind to try; `None` tries all in the order of [`IntakeKind`].
    pub kind: Option<IntakeKind>,
    /// Memory for events not yet read, in octets, all shards together. Rings are rounded up to
    /// a power of two each. A socket holds one event in 1280 octets, a ring in about 240.
    pub buffer_bytes: u32,
    /// Whether the kernel keeps undelivered `DESTROY` events and tries again. Other events may
    /// still be lost or merged.
    pub reliable: bool,
    /// Whether events of expectations are taken as well. They come to shard 0.
    pub expectations: bool,
    /// Without, nothing is subscribed to and no event arrives, for who reads the table from time to
    /// time instead. Then `kind` should be [`IntakeKind::Single`], which costs least.
    pub subscribe: bool,
    /// What the program of [`IntakeKind::Ring`] keeps back in the kernel, if it can be loaded with
    /// it. The other kinds deliver everything: a classic filter can not count what it drops.
    pub filter: EventFilter,
}

impl Default for IntakeOptions {
    fn default() -> Self {
        Self {
            shards: 1,
            kind: None,
            buffer_bytes: 32 << 20,
            reliable: false,
            expectations: false,
            subscribe: true,
            filter: EventFilter::default(),
        }
    }
}

/// An open intake, before its parts went to their threads.
#[derive(Debug)]
pub struct EventIntake {
    kind: IntakeKind,
    reason: String,
    opened: Opened,
}

/// What opening one kind gave.
#[derive(Debug)]
struct Opened {
    shards: Vec<ShardIntake>,
    filtering: Filtering,
}

/// What became of [`IntakeOptions::filter`].
#[derive(Debug)]
pub enum Filtering {
    /// There is nothing to be tested.
    Nothing,
    /// What it refuses stays in the kernel.
    InKernel,
    /// All events are delivered, as this kind of intake does.
    Delivered,
    /// All events are delivered, because the kernel refused.
    Refused(IoError),
}

impl EventIntake {
    /// Opens the intake in the caller's network namespace. Events arrive from now on.
    ///
    /// # Errors
    /// If the kind that was asked for does not work here, or none does.
    pub fn open(options: &IntakeOptions) -> Result<Self, IoError> {
        let count = options.shards.max(1);
        if let Some(kind) = options.kind {
            let opened = open::open(kind, count, options)?;
            return Ok(Self { kind, reason: "configured".into(), opened });
        }
        let mut reasons = Vec::new();
        for kind in [IntakeKind::Ring, IntakeKind::Filter] {
            match open::open(kind, count, options) {
                Ok(opened) => return Ok(Self { kind, reason: reason(&reasons), opened }),
                Err(error) => reasons.push(format!("no {kind}: {error}")),
            }
        }
        let kind = IntakeKind::Single;
        let opened = open::open(kind, count, options)?;
        Ok(Self { kind, reason: reason(&reasons), opened })
    }

    /// What was chosen.
    pub fn kind(&self) -> IntakeKind {
        self.kind
    }

    /// Why it was chosen, for the log and the statistics.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the filter acts in the kernel.
    pub fn filtering(&self) -> &Filtering {
        &self.opened.filtering
    }

    /// The parts, one for each shard in order.
    pub fn into_shards(self) -> Vec<ShardIntake> {
        self.opened.shards
    }
}

fn reason(refusals: &[String]) -> String {
    if refusals.is_empty() { "works here".into() } else { refusals.join("; ") }
}

/// Whether the ring intake would work here; the error says why not. It makes the smallest rings
/// and loads the program, attaches it to nothing and leaves nothing behind.
///
/// # Errors
/// The first step that is refused.
pub fn probe_ring_intake() -> Result<(), IoError> {
    open::Rings::load(1, 1, false, &EventFilter::default()).map(drop)
}
