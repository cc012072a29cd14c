//! Figures as text, in the forms that scripts parse, and as JSON.

mod engine_table;
mod json;

use std::io::Write;

use engine::command::StatKind;
use engine::console::Console;
use engine::snapshot::{
    CacheFigures, ExternalFigures, InternalFigures, LinkFigures, LinkStatus, LinkTransport,
    NetworkFigures, OkFailed, Queue, QueueFigures, Resend, Snapshot, SyncFigures, Traffic,
};

/// Writes figures as the original does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl Console for Text {
    fn statistics(&self, kind: StatKind, snapshot: &Snapshot, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = render(kind, snapshot, out);
    }
}

fn render(kind: StatKind, snapshot: &Snapshot, out: &mut Vec<u8>) -> std::io::Result<()> {
    match (kind, &snapshot.sync) {
        (StatKind::Runtime, _) => runtime(snapshot, out),
        (StatKind::Process, _) => snapshot.children.iter().try_for_each(|child| {
            let kind = if child.flush { "flush" } else { "any" };
            writeln!(out, "PID={} type={kind}", child.pid)
        }),
        (StatKind::Json, _) => {
            json::render(snapshot, out);
            Ok(())
        }
        (StatKind::Engine, _) => engine_table::render(&snapshot.engine, out),
        (_, None) => match &snapshot.statistics {
            Some(cache) => counting_only(kind, snapshot, cache, out),
            None => Ok(()),
        },
        (StatKind::Flows, Some(sync)) => {
            internal_summary(&sync.internal, out)?;
            external_summary(&sync.external, out)?;
            summary_end(snapshot, sync, out)
        }
        (StatKind::Expects, Some(sync)) => match &sync.expects {
            Some((internal, external)) => {
                internal_summary(internal, out)?;
                external_summary(external, out)?;
                summary_end(snapshot, sync, out)
            }
            None => Ok(()),
        },
        (StatKind::Network, Some(sync)) => network(sync, out),
        (StatKind::Cache, Some(sync)) => {
            match &sync.internal {
                InternalFigures::Cache(cache) => cache_details("internal", cache, out)?,
                InternalFigures::Bypass { .. } => internal_summary(&sync.internal, out)?,
            }
            match &sync.external {
                ExternalFigures::Cache(cache) => cache_details("external", cache, out),
                ExternalFigures::Inject { .. } => external_summary(&sync.external, out),
            }
        }
        (StatKind::Link, Some(sync)) => sync
            .links
            .iter()
            .enumerate()
            .try_for_each(|(index, link)| link_details(link, index == sync.active_link, out)),
        (StatKind::Queue, Some(sync)) => queues(&sync.queues, out),
        (StatKind::ResendQueue, Some(sync)) => match &sync.resend {
            Some(elements) => resend_queue(elements, out),
            None => Ok(()),
        },
    }
}

fn summary_end(snapshot: &Snapshot, sync: &SyncFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    traffic(&snapshot.traffic, out)?;
    active_link(sync, out)?;
    writeln!(out, "message tracking:")?;
    let NetworkFigures { lost, .. } = sync.network;
    writeln!(out, "{:20} Malformed msgs {lost:20} Lost msgs\n", sync.network.malformed())
}

/// What a daemon says that has one cache and no peers.
fn counting_only(
    kind: StatKind,
    snapshot: &Snapshot,
    cache: &CacheFigures,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    match kind {
        StatKind::Flows => {
            cache_summary("stats", cache, out)?;
            traffic(&snapshot.traffic, out)
        }
        StatKind::Cache => cache_details("stats", cache, out),
        _ => Ok(()),
    }
}

fn traffic(traffic: &Traffic, out: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(out, "traffic processed:")?;
    writeln!(out, "{:20} Bytes      {:20} Pckts\n", traffic.bytes, traffic.packets)
}

fn internal_summary(figures: &InternalFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    match figures {
        InternalFigures::Cache(cache) => cache_summary("internal", cache, out),
        InternalFigures::Bypass { created, updated, destroyed } => {
            writeln!(out, "internal bypass:")?;
            writeln!(out, "connections new:\t\t{created:12}")?;
            writeln!(out, "connections updated:\t\t{updated:12}")?;
            writeln!(out, "connections destroyed:\t\t{destroyed:12}\n")
        }
    }
}

fn external_summary(figures: &ExternalFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    match figures {
        ExternalFigures::Cache(cache) => cache_summary("external", cache, out),
        ExternalFigures::Inject { created, updated, destroyed } => {
            writeln!(out, "external inject:")?;
            changes(created, updated, destroyed, out)
        }
    }
}

fn cache_summary(name: &str, cache: &CacheFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(out, "cache {name}:")?;
    writeln!(out, "current active connections:\t{:12}", cache.active)?;
    changes(&cache.created, &cache.updated, &cache.deleted, out)
}

fn changes(
    created: &OkFailed,
    updated: &OkFailed,
    destroyed: &OkFailed,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    let rows = [("created", created), ("updated", updated), ("destroyed", destroyed)];
    for (name, count) in rows {
        writeln!(out, "connections {name}:\t\t{:12}\tfailed:\t{:12}", count.ok, count.failed)?;
    }
    writeln!(out)
}

fn cache_details(name: &str, cache: &CacheFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    let CacheFigures { objects, active, total, created, updated, deleted, .. } = cache;
    writeln!(out, "cache:{name}\tactive objects:\t\t{objects:12}")?;
    writeln!(out, "\tactive/total entries:\t\t{active:12}/{total:12}")?;
    writeln!(out, "\tcreation OK/failed:\t\t{:12}/{:12}", created.ok, created.failed)?;
    writeln!(out, "\t\tno memory available:\t{:12}", cache.no_memory)?;
    writeln!(out, "\t\tno space left in cache:\t{:12}", cache.no_space)?;
    writeln!(out, "\tupdate OK/failed:\t\t{:12}/{:12}", updated.ok, updated.failed)?;
    writeln!(out, "\t\tentry not found:\t{:12}", cache.update_missing)?;
    writeln!(out, "\tdeletion created/failed:\t{:12}/{:12}", deleted.ok, deleted.failed)?;
    writeln!(out, "\t\tentry not found:\t{:12}\n", cache.delete_missing)
}

fn network(sync: &SyncFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    let figures = &sync.network;
    writeln!(out, "network statistics:\n\trecv:")?;
    let rows = [
        ("Malformed messages", figures.malformed()),
        ("Wrong protocol version", figures.bad_version),
        ("Malformed header", figures.bad_header),
        ("Malformed payload", figures.bad_payload),
        ("Bad message type", figures.bad_type),
        ("Truncated message", figures.truncated),
        ("Bad message size", figures.bad_size),
    ];
    for (name, count) in rows {
        writeln!(out, "\t\t{name}:\t{count:20}")?;
    }
    writeln!(out, "\tsend:\n\t\tMalformed messages:\t{:20}\n", figures.send_malformed)?;
    writeln!(out, "sequence tracking statistics:\n\trecv:")?;
    writeln!(out, "\t\tPackets lost:\t\t{:20}", figures.lost)?;
    writeln!(out, "\t\tPackets before:\t\t{:20}\n", figures.before)?;
    active_link(sync, out)
}

fn transport_name(link: &LinkFigures) -> &'static str {
    match link.transport {
        LinkTransport::Multicast => "multicast",
        LinkTransport::Udp => "UDP",
        LinkTransport::Tcp { .. } => "TCP",
    }
}

fn active_link(sync: &SyncFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(link) = sync.links.get(sync.active_link) else {
        return Ok(());
    };
    let state = |connected| if connected { "connected" } else { "disconnected" };
    write!(out, "{} traffic (active device={})", transport_name(link), link.device)?;
    if let LinkTransport::Tcp { server_connected, client_connected } = link.transport {
        let (server, client) = (state(server_connected), state(client_connected));
        write!(out, " server={server} client={client}")?;
    }
    writeln!(out, ":")?;
    link_counters(link, out)
}

fn link_details(link: &LinkFigures, active: bool, out: &mut Vec<u8>) -> std::io::Result<()> {
    let status = match link.status {
        LinkStatus::Running => "RUNNING",
        LinkStatus::NoCarrier => "NO-CARRIER",
        LinkStatus::Down => "DOWN",
    };
    let role = if active { "ACTIVE" } else { "BACKUP" };
    let (name, device) = (transport_name(link), &link.device);
    writeln!(out, "{name} traffic device={device} status={status} role={role}:")?;
    link_counters(link, out)
}

fn link_counters(link: &LinkFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    let rows = [
        ("Bytes sent", link.sent.bytes, "Bytes recv", link.received.bytes),
        ("Pckts sent", link.sent.packets, "Pckts recv", link.received.packets),
        ("Error send", link.send_errors, "Error recv", link.receive_errors),
    ];
    for (sent_name, sent, received_name, received) in rows {
        writeln!(out, "{sent:20} {sent_name} {received:20} {received_name}")?;
    }
    writeln!(out)
}

fn queues(figures: &QueueFigures, out: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(out, "allocated queue nodes:\t\t{:12}\n", figures.nodes)?;
    let mut one = |name: &str, queue: &Queue| {
        writeln!(out, "queue {name}:")?;
        writeln!(out, "current elements:\t\t{:12}", queue.elements)?;
        writeln!(out, "maximum elements:\t\t{:12}", queue.limit)?;
        writeln!(out, "not enough space errors:\t{:12}\n", queue.no_space)
    };
    one("txqueue", &figures.transmit)?;
    one("errorq", &figures.error)?;
    match &figures.resend {
        Some(queue) => one("rsqueue", queue),
        None => Ok(()),
    }
}

fn resend_queue(elements: &[Resend], out: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(out, "resent queue (len={})", elements.len())?;
    elements.iter().try_for_each(|element| match element.control_flags {
        Some(flags) => writeln!(out, "control -> seq:{} flags:{flags}", element.seq),
        None => writeln!(out, "object -> seq:{}", element.seq),
    })
}

fn uptime(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    let mut text = match days {
        0 => String::new(),
        1 => "1 day ".to_owned(),
        days => format!("{days} days "),
    };
    if hours > 0 {
        text += &format!("{hours} h ");
    }
    text + &format!("{minutes} min")
}

fn runtime(snapshot: &Snapshot, out: &mut Vec<u8>) -> std::io::Result<()> {
    let (netlink, runtime) = (&snapshot.netlink, &snapshot.runtime);
    writeln!(out, "daemon uptime: {}\n", uptime(snapshot.uptime_secs))?;
    writeln!(out, "netlink stats:")?;
    writeln!(out, "\tevents received:\t{:20}", netlink.events)?;
    writeln!(out, "\tevents filtered:\t{:20}", netlink.filtered)?;
    let rows = [
        ("events unknown type:\t\t", netlink.unknown_events),
        ("catch event failed:\t\t", netlink.event_errors),
        ("dump unknown type:\t\t", netlink.unknown_dumps),
        ("netlink overrun:\t\t", netlink.overruns),
        ("flush kernel table:\t\t", netlink.flushes),
        ("resync with kernel table:\t", netlink.resyncs),
        ("current buffer size (in bytes):\t", netlink.buffer_bytes),
    ];
    for (name, count) in rows {
        writeln!(out, "\t{name}{count:12}")?;
    }
    writeln!(out, "\nruntime stats:")?;
    let rows = [
        ("child process failed:\t\t", runtime.child_failed),
        ("\tchild process segfault:\t", runtime.child_segfault),
        ("\tchild process termsig:\t", runtime.child_termsig),
        ("select failed:\t\t\t", runtime.wait_ready_failed),
        ("wait failed:\t\t\t", runtime.wait_child_failed),
        ("local read failed:\t\t", runtime.local_read_failed),
        ("local unknown request:\t\t", runtime.local_unknown),
    ];
    for (name, count) in rows {
        writeln!(out, "\t{name}{count:12}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_names_only_what_there_is() {
        assert_eq!(uptime(59), "0 min");
        assert_eq!(uptime(3_600), "1 h 0 min");
        assert_eq!(uptime(86_400), "1 day 0 min");
        assert_eq!(uptime(2 * 86_400 + 3 * 3_600 + 125), "2 days 3 h 2 min");
    }
}
