//! The status line of the service manager: flows, the peer, and what it has yet to be told.

use engine::command::StatKind;
use engine::console::Console;
use engine::snapshot::{CacheFigures, ExternalFigures, InternalFigures, Snapshot};

use crate::notify::Notify;
use crate::stats::Text;

/// Renders figures for clients, and a line of them for the service manager.
pub(super) struct Reporter(pub(super) Notify);

impl Console for Reporter {
    fn statistics(&self, kind: StatKind, snapshot: &Snapshot, out: &mut Vec<u8>) {
        Text.statistics(kind, snapshot, out);
    }

    fn wants_status(&self) -> bool {
        self.0.has_manager()
    }

    fn status(&self, snapshot: &Snapshot) {
        self.0.offer(&format!("STATUS={}", line(snapshot)));
    }
}

fn line(snapshot: &Snapshot) -> String {
    let Some(sync) = &snapshot.sync else {
        let active = snapshot.statistics.map_or(0, |cache| cache.active);
        return format!("{active} flows");
    };
    let active = |cache: Option<&CacheFigures>| cache.map_or(0, |cache| cache.active);
    let own = match &sync.internal {
        InternalFigures::Cache(cache) => Some(cache),
        InternalFigures::Bypass { .. } => None,
    };
    let others = match &sync.external {
        ExternalFigures::Cache(cache) => Some(cache),
        ExternalFigures::Inject { .. } => None,
    };
    let peer = match (snapshot.conditions.peer_heard_ms, snapshot.conditions.peer_silent) {
        (_, None) => "",
        (None, _) => "; the peer was not heard yet",
        (_, Some(true)) => "; the peer is silent",
        (_, Some(false)) => "; the peer is heard",
    };
    let unacked = sync.queues.resend.map_or(0, |queue| queue.elements);
    format!(
        "{} own flows, {} of the peer{peer}; {} changes to send, {unacked} to be acknowledged",
        active(own),
        active(others),
        sync.queues.transmit.elements
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::snapshot::SyncFigures;

    #[test]
    fn the_line_names_flows_peer_and_lag() {
        let mut snapshot = Snapshot::default();
        assert_eq!(line(&snapshot), "0 flows");
        let internal =
            InternalFigures::Cache(CacheFigures { active: 7, ..CacheFigures::default() });
        let mut sync = SyncFigures { internal, ..SyncFigures::default() };
        sync.queues.transmit.elements = 3;
        snapshot.sync = Some(sync);
        snapshot.conditions.peer_silent = Some(true);
        snapshot.conditions.peer_heard_ms = Some(6000);
        assert_eq!(
            line(&snapshot),
            "7 own flows, 0 of the peer; the peer is silent; 3 changes to send, \
             0 to be acknowledged"
        );
    }
}
