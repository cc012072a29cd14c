//! What a client may ask over the control socket: one 32-bit number per connection.
//!
//! The numbers are those of the original, plus some from 100 on, to which the original gives its
//! answer to unknown numbers: an empty one.

/// Added to a request's number by a client that wants to know how it ended: behind the answer
/// follow a zero octet and one more, 0 for success and 1 for failure. To the original this is an
/// unknown number, to which its answer is empty.
pub const REPORT: u32 = 1 << 31;

/// Which tables a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Flows.
    Flows,
    /// Expectations.
    Expects,
    /// Flows, then expectations.
    All,
}

/// How a dump is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line per object.
    Plain,
    /// One `<flow>` element per line.
    Xml,
    /// One JSON object per line, not known to the original.
    Json,
}

/// Which cache a dump reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What this node's kernel reports.
    Internal,
    /// What the peer reported.
    External,
}

/// Which object a dump lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Flows.
    Flow,
    /// Expectations.
    Expect,
}

/// Which figures are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// `-s`, `-s ct`: the summary.
    Flows,
    /// `-s expect`: the summary with the expectation caches.
    Expects,
    /// `-s network`.
    Network,
    /// `-s cache`.
    Cache,
    /// `-s runtime`.
    Runtime,
    /// `-s link`.
    Link,
    /// `-s rsqueue`.
    ResendQueue,
    /// `-s process`.
    Process,
    /// `-s queue`.
    Queue,
    /// `-s engine`, not known to the original.
    Engine,
    /// `-s json`, not known to the original.
    Json,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Remove from the kernel's tables what passes the filter.
    FlushKernel(Scope),
    /// Read the kernel's tables into the internal caches.
    Resync(Scope),
    /// List a cache.
    Dump(Side, Object, Format),
    /// Create the external caches' objects in the kernel.
    Commit(Scope),
    /// Empty both flow caches (19, which no option of a client sends) or all caches (45).
    FlushCaches(Scope),
    /// Empty the internal flow cache.
    FlushInternal,
    /// Empty the external flow cache.
    FlushExternal,
    /// Stop the daemon.
    Stop,
    /// Figures.
    Statistics(StatKind),
    /// Send the whole internal cache to the peers.
    Bulk,
    /// Ask the peers for their flows.
    RequestResync,
    /// Flush the kernel's table after `PurgeTimeout`.
    DelayedFlush,
}

/// Every request with its number.
const TABLE: [(u32, Request); 40] = {
    use Format::{Json, Plain, Xml};
    use Object::{Expect, Flow};
    use Request::{
        Bulk, Commit, DelayedFlush, Dump, FlushCaches, FlushExternal, FlushInternal, FlushKernel,
        RequestResync, Resync, Statistics, Stop,
    };
    use Side::{External, Internal};
    [
        (0, FlushKernel(Scope::Flows)),
        (38, FlushKernel(Scope::Expects)),
        (43, FlushKernel(Scope::All)),
        (1, Resync(Scope::Flows)),
        (39, Resync(Scope::Expects)),
        (44, Resync(Scope::All)),
        (16, Dump(Internal, Flow, Plain)),
        (24, Dump(Internal, Flow, Xml)),
        (17, Dump(External, Flow, Plain)),
        (25, Dump(External, Flow, Xml)),
        (40, Dump(Internal, Expect, Plain)),
        (47, Dump(Internal, Expect, Xml)),
        (41, Dump(External, Expect, Plain)),
        (48, Dump(External, Expect, Xml)),
        (18, Commit(Scope::Flows)),
        (42, Commit(Scope::Expects)),
        (46, Commit(Scope::All)),
        (19, FlushCaches(Scope::Flows)),
        (45, FlushCaches(Scope::All)),
        (33, FlushInternal),
        (34, FlushExternal),
        (20, Stop),
        (21, Statistics(StatKind::Flows)),
        (37, Statistics(StatKind::Expects)),
        (28, Statistics(StatKind::Network)),
        (29, Statistics(StatKind::Cache)),
        (30, Statistics(StatKind::Runtime)),
        (31, Statistics(StatKind::Link)),
        (32, Statistics(StatKind::ResendQueue)),
        (35, Statistics(StatKind::Process)),
        (36, Statistics(StatKind::Queue)),
        (100, Statistics(StatKind::Engine)),
        (101, Statistics(StatKind::Json)),
        (102, Dump(Internal, Flow, Json)),
        (103, Dump(External, Flow, Json)),
        (104, Dump(Internal, Expect, Json)),
        (105, Dump(External, Expect, Json)),
        (22, Bulk),
        (23, RequestResync),
        (26, DelayedFlush),
    ]
};

impl Request {
    /// The request that `id` stands for.
    pub fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().find(|(number, _)| *number == id).map(|(_, request)| *request)
    }

    /// The number that stands for this request; `None` for what no number says, such as emptying
    /// the expectation caches alone.
    pub fn id(self) -> Option<u32> {
        TABLE.iter().find(|(_, request)| *request == self).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_requests_are_one_to_one() {
        let mut known = 0;
        for id in 0..=300 {
            if let Some(request) = Request::from_id(id) {
                assert_eq!(request.id(), Some(id));
                known += 1;
            }
        }
        assert_eq!(known, TABLE.len());
        assert_eq!(Request::from_id(27), None);
        assert_eq!(Request::from_id(99), None);
        assert_eq!(Request::FlushCaches(Scope::Expects).id(), None);
    }
}
