//! What the configuration says about the intake of events, and what is told of the one opened.

use io::{EventIntake, IntakeKind, IntakeOptions};

use crate::config::{Config, Expectations, Filter, Intake};
use crate::filter::FlowFilter;
use crate::log::Log;
use crate::snapshot::Filtering;

/// Memory for events, unless configured, at least.
const BUFFER_MIN: u32 = 32 << 20;

/// The intake that `config` asks for.
pub(super) fn options(config: &Config, shards: u8, filter: &FlowFilter) -> IntakeOptions {
    let listens = config.takes_events();
    IntakeOptions {
        shards,
        kind: match config.engine.intake {
            _ if !listens => Some(IntakeKind::Single),
            Intake::Auto => None,
            Intake::Ring => Some(IntakeKind::Ring),
            Intake::Filter => Some(IntakeKind::Filter),
            Intake::Single => Some(IntakeKind::Single),
        },
        buffer_bytes: config
            .engine
            .intake_buffer_bytes
            .unwrap_or_else(|| BUFFER_MIN.max(config.events.buffer_bytes.unwrap_or(0))),
        reliable: config.events.reliable,
        expectations: config
            .sync
            .as_ref()
            .is_some_and(|sync| sync.expectations != Expectations::Off),
        subscribe: listens,
        filter: filter.for_events(),
    }
}

/// Where events are filtered.
pub(super) fn filtering(filter: &Filter, intake: &EventIntake) -> Filtering {
    let in_kernel = matches!(intake.filtering(), io::Filtering::InKernel);
    match (in_kernel, filter.tcp_states.is_some()) {
        (true, false) => Filtering::Kernel,
        (true, true) => Filtering::Both,
        (false, false) if matches!(intake.filtering(), io::Filtering::Nothing) => {
            Filtering::Nothing
        }
        (false, _) => Filtering::User,
    }
}

/// Tells the log how events come.
pub(super) fn tell(config: &Config, intake: &EventIntake, options: &IntakeOptions, log: &dyn Log) {
    if config.is_idle() {
        log.notice(format_args!("neither `Sync' nor `Stats': flows are of no interest"));
        return;
    }
    tell_filter(&config.filter, intake, log);
    if config.events.poll_secs.is_some() {
        log.notice(format_args!("running in polling mode"));
        if config.sync.as_ref().is_some_and(|sync| sync.disable_internal_cache) {
            log.warning(format_args!(
                "`PollSecs' with `DisableInternalCache': that a flow has ended is told to nobody"
            ));
        }
        if config.sync.as_ref().is_some_and(|sync| sync.disable_external_cache) {
            log.warning(format_args!(
                "`PollSecs' with `DisableExternalCache': flows injected for the other node are \
                 read as own ones and told back to it"
            ));
        }
        return;
    }
    log.notice(format_args!(
        "{} shards, intake: {} ({})",
        options.shards,
        intake.kind(),
        intake.reason()
    ));
    log.notice(format_args!(
        "netlink event socket buffer size has been set to {} bytes",
        options.buffer_bytes
    ));
}

fn tell_filter(filter: &Filter, intake: &EventIntake, log: &dyn Log) {
    match filtering(filter, intake) {
        Filtering::Nothing => {}
        Filtering::Kernel => log.notice(format_args!("using kernel-space event filtering")),
        Filtering::Both => log.notice(format_args!(
            "using kernel-space event filtering, but for TCP states, which user space tests"
        )),
        Filtering::User => {
            log.notice(format_args!("using user-space event filtering"));
            match intake.filtering() {
                io::Filtering::Refused(error) => {
                    log.notice(format_args!("no event filtering in kernel-space: {error}"));
                }
                io::Filtering::Delivered if filter.kernelspace => log.notice(format_args!(
                    "`From Kernelspace': the intake by {} leaves filtering to user space",
                    intake.kind()
                )),
                io::Filtering::Nothing if filter.kernelspace => log
                    .notice(format_args!("`From Kernelspace': TCP states are left to user space")),
                _ => {}
            }
        }
    }
}
