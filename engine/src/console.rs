//! How a snapshot of the engine's figures becomes the text that a client prints.

use crate::command::StatKind;
use crate::snapshot::Snapshot;

/// Writes figures as text.
pub trait Console: Send {
    /// Appends the answer to a request for `kind` to `out`. Appends nothing for what this node
    /// does not do, such as the resend queue of an unacknowledged protocol.
    fn statistics(&self, kind: StatKind, snapshot: &Snapshot, out: &mut Vec<u8>);

    /// Whether anybody reads [`Console::status`].
    fn wants_status(&self) -> bool {
        false
    }

    /// Takes the figures every few seconds, for a line that says how the daemon is doing. Must not
    /// wait for anything.
    fn status(&self, _snapshot: &Snapshot) {}
}
