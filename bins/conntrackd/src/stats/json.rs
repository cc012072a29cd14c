//! `-s json`: every figure in one object, as `conntrackd.schema.json` describes it.

use std::io::Write as _;

use engine::config::Intake;
use engine::snapshot::{
    CacheFigures, CommitFigures, Conditions, EngineFigures, ExternalFigures, Filtering,
    InjectionFigures, InternalFigures, LinkFigures, LinkStatus, LinkTransport, NetlinkFigures,
    NetworkFigures, OkFailed, Queue, QueueFigures, RuntimeFigures, SessionFigures, ShardFigures,
    Snapshot, SyncFigures, Traffic,
};

use crate::text::VERSION;

/// Writes the figures, with a line feed behind them.
pub(super) fn render(snapshot: &Snapshot, out: &mut Vec<u8>) {
    let mut top = Object::open(out);
    top.text("version", VERSION);
    top.number("pid", u64::from(snapshot.pid));
    top.number("uptime_seconds", snapshot.uptime_secs);
    top.text(
        "mode",
        match (&snapshot.sync, &snapshot.statistics) {
            (Some(_), _) => "sync",
            (None, Some(_)) => "statistics",
            (None, None) => "idle",
        },
    );
    top.object("conditions", |o| conditions(snapshot, o));
    top.object("commits", |o| {
        let CommitFigures { count, total } = &snapshot.conditions.commits;
        o.numbers(&[
            ("count", *count),
            ("committed", total.committed),
            ("updated", total.updated),
            ("without_helper", total.without_helper),
            ("without_master", total.without_master),
            ("failed", total.failed),
            ("expired", total.expired),
        ]);
    });
    top.object("traffic", |o| traffic(&snapshot.traffic, o));
    if let Some(cache) = &snapshot.statistics {
        top.object("caches", |o| o.object("stats", |o| figures_of_cache(cache, o)));
    }
    if let Some(sync) = &snapshot.sync {
        top.object("caches", |o| caches(sync, o));
        if matches!(sync.external, ExternalFigures::Inject { .. }) {
            top.object("injection", |o| injection(&sync.injection, o));
        }
        top.list("links", sync.links.iter().enumerate(), |(k, figures), o| {
            link(figures, k == sync.active_link, o);
        });
        top.object("network", |o| network(&sync.network, o));
        top.object("queues", |o| queues(&sync.queues, o));
    }
    if let Some(figures) = &snapshot.engine.session {
        top.object("session", |o| session(figures, o));
    }
    top.object("netlink", |o| netlink(&snapshot.netlink, o));
    top.object("runtime", |o| runtime(&snapshot.runtime, o));
    top.object("engine", |o| engine(&snapshot.engine, o));
    top.close();
    out.push(b'\n');
}

/// What an operator wants to be woken for.
fn conditions(snapshot: &Snapshot, o: &mut Object<'_>) {
    let Conditions { cache_full, peer_silent, peer_silences, peer_heard_ms, .. } =
        snapshot.conditions;
    o.number("cache_full", cache_full);
    let links = snapshot.sync.iter().flat_map(|sync| &sync.links);
    let down = links.filter(|link| link.status != LinkStatus::Running).count();
    o.number("links_down", down as u64);
    o.number("link_switches", snapshot.sync.as_ref().map_or(0, |sync| sync.link_switches));
    if let Some(silent) = peer_silent {
        o.flag("peer_silent", silent);
    }
    o.number("peer_silences", peer_silences);
    if let Some(heard) = peer_heard_ms {
        o.number("peer_heard_milliseconds", heard);
    }
    o.flag("resync_running", snapshot.conditions.resync_running);
    o.number("resyncs", snapshot.netlink.resyncs);
    o.number("messages_lost", snapshot.sync.as_ref().map_or(0, |sync| sync.network.lost));
    o.number("overruns", snapshot.netlink.overruns);
    o.flag("commit_running", snapshot.conditions.commit_running);
    o.number("commit_failures", snapshot.conditions.commits.total.failed);
    o.number("flow_log_dropped", snapshot.engine.flow_log_dropped);
}

fn traffic(figures: &Traffic, o: &mut Object<'_>) {
    o.numbers(&[("bytes", figures.bytes), ("packets", figures.packets)]);
}

fn caches(sync: &SyncFigures, o: &mut Object<'_>) {
    o.object("internal", |o| internal(&sync.internal, o));
    o.object("external", |o| external(&sync.external, o));
    if let Some((inner, outer)) = &sync.expects {
        o.object("expect_internal", |o| internal(inner, o));
        o.object("expect_external", |o| external(outer, o));
    }
}

fn internal(figures: &InternalFigures, o: &mut Object<'_>) {
    match figures {
        InternalFigures::Cache(cache) => figures_of_cache(cache, o),
        InternalFigures::Bypass { created, updated, destroyed } => {
            o.text("kind", "bypass");
            o.numbers(&[("created", *created), ("updated", *updated), ("destroyed", *destroyed)]);
        }
    }
}

fn external(figures: &ExternalFigures, o: &mut Object<'_>) {
    match figures {
        ExternalFigures::Cache(cache) => figures_of_cache(cache, o),
        ExternalFigures::Inject { created, updated, destroyed } => {
            o.text("kind", "inject");
            changes(created, updated, destroyed, o);
        }
    }
}

fn injection(figures: &InjectionFigures, o: &mut Object<'_>) {
    o.numbers(&[
        ("without_helper", figures.without_helper),
        ("without_master", figures.without_master),
        ("waited", figures.waited),
        ("refused", figures.refused),
    ]);
}

fn figures_of_cache(cache: &CacheFigures, o: &mut Object<'_>) {
    o.text("kind", "cache");
    o.numbers(&[("active", cache.active), ("total", cache.total), ("objects", cache.objects)]);
    changes(&cache.created, &cache.updated, &cache.deleted, o);
    o.number("no_memory", cache.no_memory);
    o.number("no_space", cache.no_space);
}

fn changes(created: &OkFailed, updated: &OkFailed, destroyed: &OkFailed, o: &mut Object<'_>) {
    o.numbers(&[
        ("created", created.ok),
        ("create_failed", created.failed),
        ("updated", updated.ok),
        ("update_failed", updated.failed),
        ("destroyed", destroyed.ok),
        ("destroy_failed", destroyed.failed),
    ]);
}

fn link(figures: &LinkFigures, active: bool, o: &mut Object<'_>) {
    o.text("device", &figures.device);
    let transport = match figures.transport {
        LinkTransport::Multicast => "multicast",
        LinkTransport::Udp => "udp",
        LinkTransport::Tcp { .. } => "tcp",
    };
    o.text("transport", transport);
    if let LinkTransport::Tcp { server_connected, client_connected } = figures.transport {
        o.flag("server_connected", server_connected);
        o.flag("client_connected", client_connected);
    }
    let status = match figures.status {
        LinkStatus::Running => "running",
        LinkStatus::NoCarrier => "no-carrier",
        LinkStatus::Down => "down",
    };
    o.text("status", status);
    o.flag("active", active);
    o.numbers(&[
        ("bytes_sent", figures.sent.bytes),
        ("packets_sent", figures.sent.packets),
        ("send_errors", figures.send_errors),
        ("bytes_received", figures.received.bytes),
        ("packets_received", figures.received.packets),
        ("receive_errors", figures.receive_errors),
    ]);
}

fn network(figures: &NetworkFigures, o: &mut Object<'_>) {
    o.numbers(&[
        ("malformed", figures.malformed()),
        ("bad_version", figures.bad_version),
        ("bad_header", figures.bad_header),
        ("bad_payload", figures.bad_payload),
        ("bad_type", figures.bad_type),
        ("truncated", figures.truncated),
        ("bad_size", figures.bad_size),
        ("send_malformed", figures.send_malformed),
        ("lost", figures.lost),
        ("before", figures.before),
    ]);
}

fn queues(figures: &QueueFigures, o: &mut Object<'_>) {
    let one = |queue: &Queue, o: &mut Object<'_>| {
        o.numbers(&[
            ("elements", queue.elements),
            ("limit", queue.limit),
            ("no_space", queue.no_space),
        ]);
    };
    o.object("transmit", |o| one(&figures.transmit, o));
    o.object("error", |o| one(&figures.error, o));
    if let Some(resend) = &figures.resend {
        o.object("resend", |o| one(resend, o));
    }
}

fn session(figures: &SessionFigures, o: &mut Object<'_>) {
    o.numbers(&[
        ("resent", figures.resent),
        ("evicted", figures.evicted),
        ("acks", figures.acks),
        ("nacks", figures.nacks),
        ("peer_restarts", figures.peer_restarts),
        ("bulks", figures.bulks),
        ("duplicates", figures.duplicates),
    ]);
}

fn netlink(figures: &NetlinkFigures, o: &mut Object<'_>) {
    o.numbers(&[
        ("events", figures.events),
        ("filtered", figures.filtered),
        ("unknown_events", figures.unknown_events),
        ("event_errors", figures.event_errors),
        ("unknown_dumps", figures.unknown_dumps),
        ("overruns", figures.overruns),
        ("flushes", figures.flushes),
        ("resyncs", figures.resyncs),
        ("buffer_bytes", figures.buffer_bytes),
    ]);
}

fn runtime(figures: &RuntimeFigures, o: &mut Object<'_>) {
    o.numbers(&[
        ("local_read_failed", figures.local_read_failed),
        ("local_unknown", figures.local_unknown),
    ]);
}

fn engine(figures: &EngineFigures, o: &mut Object<'_>) {
    let intake = match figures.intake {
        Intake::Auto => "auto",
        Intake::Ring => "ring",
        Intake::Filter => "filter",
        Intake::Single => "single",
    };
    o.text("intake", intake);
    o.text("intake_reason", &figures.intake_reason);
    let filtering = match figures.filtering {
        Filtering::Nothing => "none",
        Filtering::User => "user",
        Filtering::Kernel => "kernel",
        Filtering::Both => "both",
    };
    o.text("filtering", filtering);
    o.numbers(&[
        ("events_off", figures.events_off),
        ("silent_flows", figures.silent_flows),
        ("other_cpu_nanoseconds", figures.other_cpu_ns),
        ("clients_dropped", figures.clients_dropped),
        ("log_dropped", figures.log_dropped),
        ("flow_log_dropped", figures.flow_log_dropped),
    ]);
    o.list("shards", figures.shards.iter(), shard);
}

fn shard(figures: &ShardFigures, o: &mut Object<'_>) {
    if let Some(cpu) = figures.cpu {
        o.number("cpu", u64::from(cpu));
    }
    o.numbers(&[
        ("events", figures.events),
        ("drains", figures.drains),
        ("lost", figures.lost),
        ("overruns", figures.overruns),
        ("sent", figures.sent),
        ("received", figures.received),
        ("cpu_nanoseconds", figures.cpu_ns),
        ("internal", figures.internal),
        ("external", figures.external),
        ("cache_bytes", figures.cache_bytes),
        ("dirty", figures.dirty),
        ("dirty_max", figures.dirty_max),
        ("to_link_max", figures.to_link_max),
        ("from_link_max", figures.from_link_max),
        ("turn_max_microseconds", figures.turn_max_us),
    ]);
}

/// An object that is being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn close(self) {
        self.out.push(b'}');
    }

    /// Keys are ours and need no escapes.
    fn key(&mut self, key: &str) {
        let comma = if self.first { "" } else { "," };
        self.first = false;
        // Writing to memory does not fail.
        let _ = write!(self.out, "{comma}\"{key}\":");
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    fn numbers(&mut self, members: &[(&str, u64)]) {
        for (key, value) in members {
            self.number(key, *value);
        }
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        for c in value.chars() {
            let _ = match c {
                '"' | '\\' => write!(self.out, "\\{c}"),
                c if c < ' ' => write!(self.out, "\\u{:04x}", u32::from(c)),
                c => write!(self.out, "{c}"),
            };
        }
        self.out.push(b'"');
    }

    fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut inner = Object::open(self.out);
        fill(&mut inner);
        inner.close();
    }

    fn list<T>(
        &mut self,
        key: &str,
        items: impl Iterator<Item = T>,
        fill: impl Fn(T, &mut Object<'_>),
    ) {
        self.key(key);
        self.out.push(b'[');
        for (k, item) in items.enumerate() {
            if k > 0 {
                self.out.push(b',');
            }
            let mut inner = Object::open(self.out);
            fill(item, &mut inner);
            inner.close();
        }
        self.out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_json_whatever_the_texts_are() {
        let mut snapshot = Snapshot::default();
        snapshot.engine.intake_reason = "a \"quoted\" \\ word\n".to_owned();
        snapshot.engine.shards = vec![ShardFigures::default(); 2];
        snapshot.sync = Some(SyncFigures::default());
        let mut out = Vec::new();
        render(&snapshot, &mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json["engine"]["intake_reason"], snapshot.engine.intake_reason);
        assert_eq!(json["engine"]["shards"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["mode"], "sync");
        assert_eq!(out.last(), Some(&b'\n'));
    }
}
