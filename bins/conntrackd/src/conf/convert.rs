//! Makes the engine's configuration of a file's settings, and refuses what cannot work.

use std::fmt;
use std::net::IpAddr;

use engine::config::{self, AlarmTimes, Config, Events, Expectations, SyncMode};
use rustix::io::Errno;

use super::environment::Environment;
use super::settings::{Link, LinkKind, Settings, Sync};
use super::token::{ModeName, Place};

/// Why a daemon cannot start with some settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A helper in user space, which this version does not run.
    Helper {
        /// Its name.
        name: String,
        /// Where its `Type` stands.
        place: Place,
    },
    /// A link cannot be opened.
    Channel(Errno),
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Helper { name, place } => {
                let line = place.line;
                write!(out, "this version runs no user-space helpers: `Type {name}' in line {line}")
            }
            Self::Channel(errno) => {
                write!(
                    out,
                    "can't open channel socket: {}",
                    crate::system::error_text(&(*errno).into())
                )
            }
        }
    }
}

/// Makes the engine's configuration.
pub fn convert(settings: &Settings, machine: &dyn Environment) -> Result<Config, Refusal> {
    refuse_helpers(settings)?;
    let sync = match &settings.sync {
        Some(sync) => Some(convert_sync(sync, machine)?),
        None => None,
    };
    Ok(Config {
        control_path: settings.control_path.clone(),
        hash_limit: settings.hash_limit,
        events: convert_events(settings),
        sync,
        statistics: settings.stats.is_some(),
        filter: settings.filter.clone(),
        engine: settings.engine.clone(),
    })
}

/// The mode that several `Mode` blocks agree on: FT-FW unless another one is named alone.
pub fn mode(sync: &Sync) -> ModeName {
    let [alarm, ftfw, notrack] = sync.modes;
    match (alarm, ftfw, notrack) {
        (_, Some(_), _) | (None, None, None) => ModeName::Ftfw,
        (Some(_), None, _) => ModeName::Alarm,
        (None, None, Some(_)) => ModeName::Notrack,
    }
}

fn refuse_helpers(settings: &Settings) -> Result<(), Refusal> {
    match settings.helpers.first() {
        Some(helper) => Err(Refusal::Helper { name: helper.name.clone(), place: helper.place }),
        None => Ok(()),
    }
}

fn convert_events(settings: &Settings) -> Events {
    // A size beyond the ceiling is ignored, and without a ceiling every size is.
    let bytes = settings.buffer_bytes;
    let applies = bytes != 0 && bytes <= settings.buffer_max_bytes;
    Events {
        buffer_bytes: applies.then_some(bytes),
        buffer_max_bytes: settings.buffer_max_bytes,
        overrun_resync_secs: settings.overrun_resync_secs,
        poll_secs: settings.poll_secs.map(|poll| poll.value),
        reliable: settings.reliable,
        set_events_sysctl: settings.events_sysctl,
    }
}

fn convert_sync(sync: &Sync, machine: &dyn Environment) -> Result<config::Sync, Refusal> {
    // What the original finds in errno when there is nothing to open.
    if sync.links.is_empty() {
        return Err(Refusal::Channel(Errno::NOENT));
    }
    let links = sync.links.iter().map(|link| convert_link(link, machine));
    let links = links.collect::<Result<Vec<_>, _>>()?;
    let expectations = match (sync.expectations, sync.expectation_helpers.is_empty()) {
        (false, _) => Expectations::Off,
        (true, true) => Expectations::All,
        (true, false) => Expectations::Helpers(sync.expectation_helpers.clone()),
    };
    Ok(config::Sync {
        mode: match mode(sync) {
            ModeName::Notrack => SyncMode::Notrack,
            ModeName::Alarm => SyncMode::Alarm(AlarmTimes {
                refresh_secs: sync.refresh_secs,
                cache_secs: sync.cache_secs,
            }),
            ModeName::Ftfw => {
                SyncMode::Ftfw { ack_window: sync.ack_window, resend_queue: sync.resend_queue }
            }
        },
        links,
        default_link: sync.default_link,
        commit_timeout_secs: (sync.commit_secs != 0).then_some(sync.commit_secs),
        purge_timeout_secs: sync.purge_secs,
        // Another mode may have beaten the block that says so.
        disable_internal_cache: sync.disable_internal_cache.value
            && mode(sync) == ModeName::Notrack,
        disable_external_cache: sync.disable_external_cache,
        startup_resync: sync.startup_resync.unwrap_or(true),
        tcp_window_tracking: sync.tcp_window_tracking,
        expectations,
        error_queue: sync.error_queue,
    })
}

fn convert_link(link: &Link, machine: &dyn Environment) -> Result<config::Link, Refusal> {
    let Some(interface) = &link.interface else {
        return Err(Refusal::Channel(Errno::NOENT));
    };
    if !machine.has_interface(interface) {
        return Err(Refusal::Channel(Errno::NODEV));
    }
    // Without any address a link would send to whoever listens on this very node.
    if link.kind != LinkKind::Multicast && link.ipv6.is_none() {
        return Err(Refusal::Channel(Errno::AFNOSUPPORT));
    }
    let ipv6 = link.ipv6.unwrap_or(false);
    let choose = |v4, v6| if ipv6 { IpAddr::V6(v6) } else { IpAddr::V4(v4) };
    let local = choose(link.address_v4, link.address_v6);
    let peer = choose(link.peer_v4, link.peer_v6);
    let port = link.port;
    if link.kind == LinkKind::Multicast && (link.mixed || !local.is_multicast()) {
        // What binding to such a group would give.
        return Err(Refusal::Channel(Errno::ADDRNOTAVAIL));
    }
    let kind = match link.kind {
        LinkKind::Multicast => config::LinkKind::Multicast {
            group: local,
            port,
            interface_address: link.interface_v4.map(IpAddr::V4),
        },
        LinkKind::Udp => config::LinkKind::Udp { local, peer, port },
        LinkKind::Tcp => config::LinkKind::Tcp { local, peer, port },
    };
    Ok(config::Link {
        kind,
        interface: interface.clone(),
        send_buffer_bytes: link.send_buffer,
        receive_buffer_bytes: link.receive_buffer,
        checksum: link.checksum,
    })
}
