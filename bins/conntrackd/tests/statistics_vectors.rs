//! Every recorded answer to a request for figures is rendered to the byte.
//!
//! Most recorded figures are zero, which would hide that two of them are swapped. So each figure
//! is first replaced by one of its own, and the snapshot is filled in the order of the file.

use std::fs;
use std::path::{Path, PathBuf};

use conntrackd::stats::Text;
use engine::command::StatKind;
use engine::console::Console;
use engine::snapshot::{
    CacheFigures, ExternalFigures, InternalFigures, LinkFigures, LinkTransport, NetworkFigures,
    OkFailed, Queue, Resend, Snapshot, SyncFigures,
};
use serde_json::Value;

fn runs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/conntrackd/runs")
}

/// The text with every figure in a column of its own replaced, and the figures in their order.
fn renumber(text: &str) -> (String, Vec<u64>) {
    let mut out = String::new();
    let mut figures = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let digits = rest.len() - rest.trim_start_matches(' ').len();
        let figure = &rest[digits..];
        let end =
            digits + figure.len() - figure.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        // Columns are at least this wide; other numbers belong to a name.
        if end > digits && end >= 12 {
            let figure = 1_001 + figures.len() as u64;
            out.push_str(&format!("{figure:>end$}"));
            figures.push(figure);
        } else {
            out.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    (out, figures)
}

/// Hands figures out in order.
struct Next(std::vec::IntoIter<u64>);

impl Next {
    fn one(&mut self) -> u64 {
        self.0.next().expect("another figure")
    }

    fn pair(&mut self) -> OkFailed {
        OkFailed { ok: self.one(), failed: self.one() }
    }

    fn summary(&mut self) -> CacheFigures {
        CacheFigures {
            active: self.one(),
            created: self.pair(),
            updated: self.pair(),
            deleted: self.pair(),
            ..Default::default()
        }
    }

    fn details(&mut self) -> CacheFigures {
        CacheFigures {
            objects: self.one(),
            active: self.one(),
            total: self.one(),
            created: self.pair(),
            no_memory: self.one(),
            no_space: self.one(),
            updated: self.pair(),
            update_missing: self.one(),
            deleted: self.pair(),
            delete_missing: self.one(),
        }
    }

    fn link(&mut self, link: &mut LinkFigures) {
        link.sent.bytes = self.one();
        link.received.bytes = self.one();
        link.sent.packets = self.one();
        link.received.packets = self.one();
        link.send_errors = self.one();
        link.receive_errors = self.one();
    }

    fn sides(&mut self, bypass: bool, details: bool) -> (InternalFigures, ExternalFigures) {
        if bypass {
            let internal = InternalFigures::Bypass {
                created: self.one(),
                updated: self.one(),
                destroyed: self.one(),
            };
            let external = ExternalFigures::Inject {
                created: self.pair(),
                updated: self.pair(),
                destroyed: self.pair(),
            };
            return (internal, external);
        }
        let mut cache = || if details { self.details() } else { self.summary() };
        (InternalFigures::Cache(cache()), ExternalFigures::Cache(cache()))
    }

    fn runtime(&mut self, snapshot: &mut Snapshot) {
        let netlink = &mut snapshot.netlink;
        for figure in [
            &mut netlink.events,
            &mut netlink.filtered,
            &mut netlink.unknown_events,
            &mut netlink.event_errors,
            &mut netlink.unknown_dumps,
            &mut netlink.overruns,
            &mut netlink.flushes,
            &mut netlink.resyncs,
            &mut netlink.buffer_bytes,
        ] {
            *figure = self.one();
        }
        let runtime = &mut snapshot.runtime;
        for figure in [
            &mut runtime.child_failed,
            &mut runtime.child_segfault,
            &mut runtime.child_termsig,
            &mut runtime.wait_ready_failed,
            &mut runtime.wait_child_failed,
            &mut runtime.local_read_failed,
            &mut runtime.local_unknown,
        ] {
            *figure = self.one();
        }
    }
}

/// The links that a recorded run has.
fn links(run: &str, text: &str) -> Vec<LinkFigures> {
    let tcp = LinkTransport::Tcp {
        server_connected: text.contains("server=connected"),
        client_connected: text.contains("client=connected"),
    };
    let (transport, devices) = match run {
        "alarm-tcp" => (tcp, vec!["sync0", "sync1"]),
        "notrack-multicast" => (LinkTransport::Multicast, vec!["sync0"]),
        _ => (LinkTransport::Udp, vec!["sync0", "sync1"]),
    };
    let link =
        |device: &str| LinkFigures { transport, device: device.to_owned(), ..Default::default() };
    devices.into_iter().map(link).collect()
}

/// The counters of `-s network`; the first figure is the sum of the six that follow.
fn network(text: &str, next: &mut Next) -> (String, NetworkFigures) {
    let sum = next.one();
    let figures = NetworkFigures {
        bad_version: next.one(),
        bad_header: next.one(),
        bad_payload: next.one(),
        bad_type: next.one(),
        truncated: next.one(),
        bad_size: next.one(),
        send_malformed: next.one(),
        lost: next.one(),
        before: next.one(),
    };
    (text.replacen(&sum.to_string(), &figures.malformed().to_string(), 1), figures)
}

fn fill(kind: StatKind, run: &str, text: &str, figures: Vec<u64>) -> (Snapshot, String) {
    let mut text = text.to_owned();
    let mut next = Next(figures.into_iter());
    let mut snapshot = Snapshot::default();
    let mut sync = SyncFigures { links: links(run, &text), ..Default::default() };
    let bypass = run == "notrack-nocache-udp";
    let counting = run == "stats-mode";
    match kind {
        StatKind::Runtime => next.runtime(&mut snapshot),
        StatKind::Process | StatKind::Engine | StatKind::Json => {}
        StatKind::Flows | StatKind::Cache if counting => {
            let details = kind == StatKind::Cache;
            snapshot.statistics = Some(if details { next.details() } else { next.summary() });
            if !details {
                snapshot.traffic.bytes = next.one();
                snapshot.traffic.packets = next.one();
            }
        }
        _ if counting => {}
        StatKind::Flows | StatKind::Expects => {
            if !text.is_empty() {
                let (internal, external) = next.sides(bypass, false);
                snapshot.traffic.bytes = next.one();
                snapshot.traffic.packets = next.one();
                next.link(&mut sync.links[0]);
                sync.network.bad_type = next.one();
                sync.network.lost = next.one();
                if kind == StatKind::Expects {
                    sync.expects = Some((internal, external));
                } else {
                    (sync.internal, sync.external) = (internal, external);
                }
            }
        }
        StatKind::Cache => (sync.internal, sync.external) = next.sides(bypass, true),
        StatKind::Network => {
            (text, sync.network) = network(&text, &mut next);
            next.link(&mut sync.links[0]);
        }
        StatKind::Link => sync.links.iter_mut().for_each(|link| next.link(link)),
        StatKind::Queue => {
            sync.queues.nodes = next.one();
            let mut queue =
                || Queue { elements: next.one(), limit: next.one(), no_space: next.one() };
            sync.queues.transmit = queue();
            sync.queues.error = queue();
            sync.queues.resend = (run == "ftfw-udp").then(queue);
        }
        StatKind::ResendQueue => {
            let number = |word: &str| word.rsplit(':').next().and_then(|n| n.parse::<u32>().ok());
            let element = |line: &str| {
                let mut words = line.split(' ').skip(2);
                Resend {
                    seq: words.next().and_then(number).expect("a number"),
                    control_flags: words.next().and_then(number).map(|flags| flags as u8),
                }
            };
            sync.resend = (run == "ftfw-udp").then(|| text.lines().skip(1).map(element).collect());
        }
    }
    assert!(next.0.next().is_none(), "{kind:?} of {run} has more figures");
    snapshot.sync = (!counting).then_some(sync);
    (snapshot, text)
}

#[test]
fn recorded_answers_are_rendered_to_the_byte() {
    let mut compared = 0;
    for run in fs::read_dir(runs()).expect("runs").map(|entry| entry.expect("a run").path()) {
        let name = run.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let index = fs::read_to_string(run.join("index.json")).expect("an index");
        let index: Value = serde_json::from_str(&index).expect("JSON");
        for step in index["steps"].as_array().expect("steps") {
            let args: Vec<_> =
                step["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let kind = match args[..] {
                ["-s"] | ["-s", "ct"] => StatKind::Flows,
                ["-s", "expect"] => StatKind::Expects,
                ["-s", "network"] => StatKind::Network,
                ["-s", "cache"] => StatKind::Cache,
                ["-s", "runtime"] => StatKind::Runtime,
                ["-s", "link" | "multicast"] => StatKind::Link,
                ["-s", "queue"] => StatKind::Queue,
                ["-s", "rsqueue"] => StatKind::ResendQueue,
                ["-s", "process"] => StatKind::Process,
                _ => continue,
            };
            let file = step["stdout_file"].as_str().expect("a file");
            let recorded = fs::read_to_string(run.join(file)).expect("an answer");
            // After the end of the daemon there is no answer.
            if recorded.is_empty() && step["exit"] != 0 {
                continue;
            }
            let (text, figures) = match kind {
                StatKind::ResendQueue => (recorded, Vec::new()),
                _ => renumber(&recorded),
            };
            let (snapshot, text) = fill(kind, &name, &text, figures);
            let mut out = Vec::new();
            Text.statistics(kind, &snapshot, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text, "{name}/{file}");
            compared += 1;
        }
    }
    assert!(compared > 80, "only {compared} answers");
}
