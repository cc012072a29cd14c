//! Daemons that live for a moment, with one file each, in a machine like that of the recording.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

/// Runs the daemon `$1` with the configuration `$2` until it has started, and ends it. Its lines
/// go to `$3.out` and `$3.err`. The places that the files name are empty and this process's own.
const ONE_LIFE: &str = r#"
mount -t tmpfs none /run && mkdir /run/lock || exit 90
mount -t tmpfs none /var/log || exit 90
"$1" -C "$2" >"$3.out" 2>"$3.err" </dev/null &
pid=$!
for step in $(seq 1500); do
	grep -q "starting in console mode" "$3.out" && break
	kill -0 $pid 2>/dev/null || break
	sleep 0.02
done
"$1" -C "$2" -k 2>/dev/null || kill -TERM $pid 2>/dev/null
wait $pid
"#;

/// The machine of the recording.
pub(crate) fn machine() -> Netns {
    let ns = Netns::new("start");
    for (device, addresses) in [
        ("sync0", &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"][..]),
        ("sync1", &["198.51.100.1/24"]),
        ("sync0.7", &[]),
    ] {
        ns.add_device(device);
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            ns.ip(&format!("addr add {address} dev {device} {nodad}"));
        }
    }
    ns
}

/// One life of a daemon: its lines without their heads, and its exit status.
pub(crate) struct Life {
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
    pub(crate) status: Option<i32>,
}

pub(crate) fn live(ns: &Netns, file: &Path) -> Life {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    let place = folder.path().join("life");
    let output = ns
        .daemon("unshare")
        .args(["--mount", "sh", "-c", ONE_LIFE, "sh"])
        .arg(Make::Ours.program("conntrackd"))
        .arg(file)
        .arg(&place)
        .output()
        .expect("nsenter can be started");
    let lines = |end: &str| {
        let text = fs::read(place.with_extension(end)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = |line: &str| match (line.starts_with('['), line.find(") [")) {
            (true, Some(end)) => line[end + 2..].to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect()
    };
    Life { out: lines("out"), err: lines("err"), status: output.status.code() }
}

impl Life {
    /// What it said on standard error. That nobody takes the lines for the system log is the
    /// machine's fault.
    pub(crate) fn told(&self) -> Vec<&str> {
        let lines = self.err.iter().map(String::as_str);
        lines.filter(|line| !line.contains("log lines were dropped")).collect()
    }

    /// Whether it started and ended in order.
    pub(crate) fn is_whole(&self) -> bool {
        let said = |text: &str| self.out.iter().any(|line| line.contains(text));
        self.status == Some(0)
            && said("initialization completed")
            && said("-- starting in console mode --")
            && said("---- shutdown received ----")
    }
}

pub(crate) fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrackd")
}

pub(crate) fn json(path: PathBuf) -> Value {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).expect("JSON")
}
