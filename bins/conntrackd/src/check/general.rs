//! The daemon itself: its files, its limits, and what the kernel has to offer.

use std::path::Path;

use io::{cpu, sysctl};
use rustix::fs::{Access, access};

use super::Findings;
use crate::conf::outline::Outline;
use crate::conf::settings::Settings;
use crate::daemon::control::is_occupied;

/// Largest number of flows of the kernel, for all namespaces.
const FLOWS_MAX: &str = "net/netfilter/nf_conntrack_max";

pub(super) fn check(settings: &Settings, outline: &Outline, findings: &mut Findings) {
    check_files(settings, outline, findings);
    check_buffers(settings, outline, findings);
    check_kernel(settings, outline, findings);
    check_cpus(settings, outline, findings);
    if settings.sync.is_none() && settings.stats.is_none() && settings.helpers.is_empty() {
        findings.warning(
            None,
            "there is neither a `Sync' nor a `Stats' section",
            "without one the daemon has nothing to do",
        );
    }
    let scheduler = |word| outline.find(&["General", "Scheduler", word]);
    match (settings.scheduler, settings.priority) {
        (Some(_), 0) => findings.warning(
            scheduler("Type"),
            "real-time scheduling has no priority 0",
            "set `Priority' to 1 at least, or remove `Scheduler'",
        ),
        (None, 1..) => findings.warning(
            scheduler("Priority"),
            "`Priority' has no effect without `Type'",
            "add `Type FIFO' or remove it",
        ),
        _ => {}
    }
}

fn check_files(settings: &Settings, outline: &Outline, findings: &mut Findings) {
    let general = |word| outline.find(&["General", word]);
    let stats_log = settings.stats.as_ref().and_then(|stats| stats.value.log_file.as_deref());
    let socket = outline.find(&["General", "UNIX", "Path"]);
    let files = [
        ("LockFile", Some(settings.lock_file.as_path()), general("LockFile")),
        ("LogFile", settings.log_file.as_deref(), general("LogFile")),
        ("LogFile", stats_log, outline.find(&["Stats", "LogFile"])),
        ("Path", settings.control_path.as_deref(), socket),
    ];
    for (word, file, place) in files {
        let Some(file) = file else { continue };
        if let Some(odd) = odd_character(file) {
            findings.warning(
                place,
                format!("the path ends in or holds {odd}: {}", file.display()),
                "a path goes on up to the next space or line feed: put one behind it",
            );
        }
        let folder = file.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            findings.error(
                place,
                format!("the folder of `{word}' does not exist: {}", folder.display()),
                format!("mkdir -p {}", folder.display()),
            );
        } else if access(folder, Access::WRITE_OK).is_err() {
            findings.error(
                place,
                format!("the folder of `{word}' may not be written to: {}", folder.display()),
                "start the daemon as root, or choose another folder",
            );
        }
    }
    if let Some(path) = settings.control_path.as_deref().filter(|path| is_occupied(path)) {
        findings.error(
            socket,
            format!("`{}' exists and is no socket", path.display()),
            "choose another path, or move away what is there",
        );
    }
    if settings.control_path.is_none() {
        findings.warning(
            outline.find(&["General", "UNIX"]).or_else(|| outline.find(&["General"])),
            "there is no control socket: the daemon can be asked and told nothing",
            "add to General: UNIX { Path /var/run/conntrackd.ctl }",
        );
    }
}

/// What a path has swallowed that was probably not meant to belong to it.
fn odd_character(file: &Path) -> Option<&'static str> {
    let text = file.as_os_str().as_encoded_bytes();
    let table = [
        (b'\r', "a carriage return"),
        (b'\t', "a tab"),
        (b'}', "a brace"),
        (b'{', "a brace"),
        (b'#', "a number sign"),
    ];
    table.iter().find(|(byte, _)| text.contains(byte)).map(|(_, name)| *name)
}

fn check_buffers(settings: &Settings, outline: &Outline, findings: &mut Findings) {
    let (size, most) = (settings.buffer_bytes, settings.buffer_max_bytes);
    if size > most {
        let place = outline
            .find(&["General", "NetlinkBufferSize"])
            .or_else(|| outline.find(&["General", "SocketBufferSize"]));
        findings.warning(
            place,
            format!("NetlinkBufferSize {size} is above NetlinkBufferSizeMaxGrowth {most}: ignored"),
            format!("set NetlinkBufferSizeMaxGrowth to {size} at least"),
        );
    }
    // The kernel doubles what it is asked for.
    let wanted = if size <= most { size / 2 } else { 0 };
    if let Ok((granted, _)) = io::buffers_granted(wanted, 0)
        && granted < wanted
    {
        findings.warning(
            outline.find(&["General", "NetlinkBufferSize"]),
            format!("this process gets {} octets of NetlinkBufferSize {size}", granted * 2),
            format!("start the daemon with CAP_NET_ADMIN, or sysctl net.core.rmem_max={wanted}"),
        );
    }
}

fn check_cpus(settings: &Settings, outline: &Outline, findings: &mut Findings) {
    let here = cpu::available_cores();
    let list = |cpus: &[u16]| cpus.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let mut absent = settings.engine.cpus.clone();
    absent.retain(|cpu| !here.contains(cpu));
    if let [first, rest @ ..] = &absent[..] {
        let others =
            if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        findings.warning(
            outline.find(&["Engine", "CPUs"]),
            format!("the daemon may not run on CPU {first}{others}: their shards run anywhere"),
            format!("choose from {}, or remove it", list(&here)),
        );
    }
}

fn check_kernel(settings: &Settings, outline: &Outline, findings: &mut Findings) {
    if sysctl::read("kernel/io_uring_disabled").is_ok_and(|value| value != "0") {
        findings.error(
            None,
            "io_uring, which the daemon needs, is switched off",
            "sysctl kernel.io_uring_disabled=0",
        );
    }
    let Ok(flows) = sysctl::read(FLOWS_MAX) else {
        findings.warning(
            None,
            "the kernel does not track connections yet",
            "modprobe nf_conntrack, and load rules that use it",
        );
        return;
    };
    let flows: u32 = flows.parse().unwrap_or(u32::MAX);
    if settings.hash_limit < flows && settings.sync.is_some() {
        findings.warning(
            outline.find(&["General", "HashLimit"]).or_else(|| outline.find(&["General"])),
            format!(
                "HashLimit {} is below the kernel's limit of {flows} flows: those beyond it do not \
                 survive a failover",
                settings.hash_limit
            ),
            format!("set HashLimit to {flows}, or sysctl net.netfilter.nf_conntrack_max down"),
        );
    }
    let events = sysctl::read("net/netfilter/nf_conntrack_events");
    if !settings.events_sysctl && events.is_ok_and(|value| value == "0") {
        findings.error(
            outline.find(&["Engine", "EventsSysctl"]),
            "the kernel reports no events, and the daemon may not switch them on",
            "sysctl net.netfilter.nf_conntrack_events=1, or remove `EventsSysctl off'",
        );
    }
}
