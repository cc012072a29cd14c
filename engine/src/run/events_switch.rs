//! The kernel's switch for events, `net.netfilter.nf_conntrack_events`.
//!
//! With 0 the kernel says nothing of flows that begin from then on, nor ever after. With 2, its
//! default, the same holds for flows that begin while nobody listens. With 1 every flow is prepared
//! for events.

use std::time::{Duration, Instant};

use io::sysctl;

use crate::log::Log;

/// The switch.
const SWITCH: &str = "net/netfilter/nf_conntrack_events";
/// Time between two looks at it.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks at the switch while the daemon runs.
#[derive(Debug)]
pub(super) struct EventsSwitch {
    may_set: bool,
    look_at: Instant,
    /// It was seen off and stayed off, and that was told.
    off: bool,
}

impl EventsSwitch {
    /// Sets the switch if that is permitted, so that flows that begin while the daemon is down are
    /// not silent later.
    pub(super) fn new(may_set: bool, now: Instant, log: &dyn Log) -> Self {
        if may_set {
            raise(log);
        }
        Self { may_set, look_at: now + PERIOD, off: false }
    }

    /// When to call [`Self::look`] at the latest.
    pub(super) const fn poll_timeout(&self) -> Instant {
        self.look_at
    }

    /// Looks once in a second. `true` if the switch was off and is not any more: flows have begun
    /// of which nothing was heard.
    pub(super) fn look(&mut self, now: Instant, log: &dyn Log) -> bool {
        if now < self.look_at {
            return false;
        }
        self.look_at = now + PERIOD;
        let was_off = std::mem::take(&mut self.off);
        if !sysctl::read(SWITCH).is_ok_and(|value| value == "0") {
            if was_off {
                log.notice(format_args!(
                    "net.netfilter.nf_conntrack_events is not 0 any more, reading the kernel table"
                ));
            }
            return was_off;
        }
        let refused = match self.may_set.then(|| sysctl::write(SWITCH, 1)) {
            Some(Ok(())) => {
                log.warning(format_args!(
                    "net.netfilter.nf_conntrack_events was 0 and is set to 1 again, reading the \
                     kernel table for flows that began meanwhile"
                ));
                return true;
            }
            Some(Err(error)) => error.to_string(),
            None => "`EventsSysctl off' forbids to set it".into(),
        };
        self.off = true;
        if !was_off {
            log.warning(format_args!(
                "net.netfilter.nf_conntrack_events is 0, nothing is heard of flows that begin \
                 now: {refused}"
            ));
        }
        false
    }
}

fn raise(log: &dyn Log) {
    match sysctl::read(SWITCH) {
        Ok(value) if value == "1" => {}
        Ok(_) => match sysctl::write(SWITCH, 1) {
            Ok(()) => log.notice(format_args!(
                "net.netfilter.nf_conntrack_events set to 1, so that flows made while this daemon \
                 is down report their end"
            )),
            Err(error) => log.warning(format_args!("{error}")),
        },
        Err(error) => log.warning(format_args!("{error}")),
    }
}
