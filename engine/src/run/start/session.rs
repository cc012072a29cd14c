//! How this node talks with its peer, and what it says first.

use std::time::{SystemTime, UNIX_EPOCH};

use proto_sync::{Mode, Session, SessionConfig};

use super::Plan;
use crate::config::{LinkKind, Sync, SyncMode};
use crate::hub::Hub;

/// Unacknowledged messages under way, at least: as many as the system's default receive buffer
/// holds at the peer.
const IN_FLIGHT_MIN: u32 = 1400;
/// Datagrams per millisecond to a peer that can not ask for what it lost.
const UNACKNOWLEDGED_PACE: u32 = 12;

impl Plan {
    pub(super) fn session(&self) -> Option<Session> {
        let sync = self.config.sync.as_ref()?;
        let datagrams = !has_streams(sync);
        let (mode, in_flight_max) = match sync.mode {
            SyncMode::Notrack => (Mode::Notrack, 0),
            SyncMode::Alarm(_) => (Mode::Alarm, 0),
            SyncMode::Ftfw { ack_window, resend_queue } => {
                let window = ack_window.saturating_mul(4).max(IN_FLIGHT_MIN);
                // A stream holds the sender back by itself.
                let most = if datagrams { window } else { resend_queue / 2 };
                (Mode::Ftfw { ack_window, resend_queue }, most.min(resend_queue).max(1))
            }
        };
        let datagrams_per_ms =
            if datagrams && !self.acknowledges() { UNACKNOWLEDGED_PACE } else { 0 };
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let config =
            SessionConfig { mode, first_seq: unix as u32, in_flight_max, datagrams_per_ms };
        Some(Session::new(&config, self.began))
    }

    /// Has everything asked for that the peer knows.
    pub(super) fn ask(&self, hub: &mut Hub) {
        match &self.config.sync {
            Some(sync) if sync.startup_resync && !matches!(sync.mode, SyncMode::Alarm(_)) => {
                if has_streams(sync) {
                    hub.ask_when_connected();
                } else {
                    hub.request_resync();
                }
            }
            _ => {}
        }
    }
}

fn has_streams(sync: &Sync) -> bool {
    sync.links.iter().any(|link| matches!(link.kind, LinkKind::Tcp { .. }))
}
