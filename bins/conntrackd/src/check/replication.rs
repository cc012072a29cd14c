//! The protocol's numbers against each other.

use super::Findings;
use crate::conf::convert::mode;
use crate::conf::outline::Outline;
use crate::conf::settings::Sync;
use crate::conf::token::ModeName;

/// Messages in the resend queue above which a warning is given: what a busy node says in several
/// seconds, and some tens of megabytes.
const RESEND_QUEUE_SENSIBLE: u32 = 1 << 20;
/// The same of messages that one acknowledgement covers: all of them wait in the resend queue for
/// it.
const ACK_WINDOW_SENSIBLE: u32 = 1 << 16;
/// Seconds between two repetitions above which the peer hardly learns what it has lost: a day.
const REFRESH_SENSIBLE: u32 = 86_400;

pub(super) fn check(sync: &Sync, outline: &Outline, findings: &mut Findings) {
    let in_mode = |word| outline.find(&["Sync", "Mode", word]);
    let modes = sync.modes.iter().filter(|line| line.is_some()).count();
    if modes == 0 {
        findings.warning(
            outline.find(&["Sync"]),
            "there is no `Mode': FTFW is used",
            "add: Mode FTFW { }",
        );
    }
    if modes > 1 {
        findings.warning(
            outline.find(&["Sync", "Mode"]),
            "there are several modes: FTFW goes before ALARM, ALARM before NOTRACK",
            "remove all but one",
        );
    }
    if mode(sync) == ModeName::Ftfw {
        let limits = [
            ("ResendQueueSize", sync.resend_queue, RESEND_QUEUE_SENSIBLE, 131_072),
            ("ACKWindowSize", sync.ack_window, ACK_WINDOW_SENSIBLE, 300),
        ];
        for (word, size, sensible, usual) in limits {
            if size > sensible {
                findings.warning(
                    in_mode(word),
                    format!("{word} {size} is beyond use: that many messages are kept in memory"),
                    format!("set {word} to {sensible} at most; {usual} is usual"),
                );
            }
        }
    }
    match mode(sync) {
        ModeName::Ftfw if sync.resend_queue < sync.ack_window => findings.warning(
            in_mode("ResendQueueSize").or_else(|| in_mode("ACKWindowSize")),
            format!(
                "ResendQueueSize {} is below ACKWindowSize {}: what is lost cannot be sent again",
                sync.resend_queue, sync.ack_window
            ),
            format!(
                "set ResendQueueSize to {} at least",
                sync.ack_window.min(ACK_WINDOW_SENSIBLE) * 4
            ),
        ),
        // A state is sent again up to a second after RefreshTime.
        ModeName::Alarm if sync.cache_secs <= sync.refresh_secs.saturating_add(1) => findings
            .warning(
                in_mode("CacheTimeout").or_else(|| in_mode("RefreshTime")),
                format!(
                    "CacheTimeout {} is not above RefreshTime {}: states are forgotten before they \
                     are sent again",
                    sync.cache_secs, sync.refresh_secs
                ),
                if sync.refresh_secs > REFRESH_SENSIBLE {
                    "set RefreshTime to 60 and CacheTimeout to 180, as is usual".to_owned()
                } else {
                    format!("set CacheTimeout to {}", sync.refresh_secs * 3)
                },
            ),
        _ => {}
    }
}

/// What readings of the table, in place of events, cannot tell without a cache to hold them against.
pub(super) fn check_polling(sync: &Sync, outline: &Outline, findings: &mut Findings) {
    let place = |word| outline.find(&["Sync", "Mode", word]);
    if sync.disable_internal_cache.value && mode(sync) == ModeName::Notrack {
        findings.warning(
            place("DisableInternalCache"),
            "with PollSecs nothing says that a flow has ended: the other node keeps and commits it",
            "set DisableInternalCache off, or remove PollSecs",
        );
    }
    if sync.disable_external_cache {
        findings.warning(
            place("DisableExternalCache"),
            "with PollSecs flows of the other node are read as own ones, and told back to it",
            "set DisableExternalCache off, or remove PollSecs",
        );
    }
}
