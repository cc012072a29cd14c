//! Rights that a test needs: root, or a user namespace of its own in which it is root.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Set in a process that was started again inside its own namespaces.
const INSIDE: &str = "SHARDTRACK_INSIDE_USERNS";
/// Names a file that collects the names of skipped tests.
const SKIPPED: &str = "SHARDTRACK_SKIPPED";

/// Returns from the test unless it may make network namespaces in this process.
///
/// Without root the test is run again in a user, network and mount namespace of its own and its
/// result is taken over; where that is forbidden it is reported as skipped, by name.
#[macro_export]
macro_rules! need_root {
    () => {
        fn here() {}
        if !$crate::privilege::granted(std::any::type_name_of_val(&here)) {
            return;
        }
    };
}

/// Whether the caller may go on in this process. `path` is the type name of a function inside the
/// test function, which tells the test's name.
///
/// # Panics
/// If the test was run again in its own namespaces and failed there.
pub fn granted(path: &str) -> bool {
    if is_inside() {
        static RUN: OnceLock<()> = OnceLock::new();
        RUN.get_or_init(prepare_inside);
        return true;
    }
    if is_root() {
        return true;
    }
    // `binary::module::test::here` is run as `module::test`.
    let name = path.split_once("::").map_or(path, |(_, rest)| rest);
    let name = name.strip_suffix("::here").unwrap_or(name);
    if !own_namespaces_allowed() {
        skip(name, "neither root nor unprivileged user namespaces");
        return false;
    }
    run_inside(name);
    false
}

/// For programs: goes on if it may make network namespaces, starts itself again in namespaces of
/// its own if only that is allowed (and ends with that one's status), or says `false`.
pub fn enter() -> bool {
    if is_inside() {
        prepare_inside();
        return true;
    }
    if is_root() {
        return true;
    }
    if !own_namespaces_allowed() {
        return false;
    }
    let exe = std::env::current_exe().expect("a running program has a path");
    let status = Command::new("unshare")
        .args(["-Urnm", "--"])
        .arg(exe)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status();
    std::process::exit(status.ok().and_then(|s| s.code()).unwrap_or(1))
}

/// Whether this process is root in the namespaces that the machine was started with, or in a
/// container that gives it the network.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/run").exists() && may_administer()
}

/// Reports a test as skipped: to the terminal past the capture of the test runner, and to the
/// file that the runner's summary reads.
pub fn skip(name: &str, reason: &str) {
    let line = format!("SKIPPED {name}: {reason}\n");
    // Written by hand because the test runner keeps back what the print macros write.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(SKIPPED)
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Whether this process runs in a user namespace of its own. There sockets get no more buffer than
/// anybody else's.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether the machine-wide settings of the kernel are writable from here. They are not in a user
/// namespace.
pub fn owns_machine() -> bool {
    !is_inside()
        && OpenOptions::new().write(true).open("/proc/sys/net/netfilter/nf_conntrack_max").is_ok()
}

fn may_administer() -> bool {
    Command::new("unshare").args(["-nm", "true"]).output().is_ok_and(|o| o.status.success())
}

fn own_namespaces_allowed() -> bool {
    Command::new("unshare").args(["-Urnm", "true"]).output().is_ok_and(|o| o.status.success())
}

fn run_inside(name: &str) {
    let exe = std::env::current_exe().expect("a running test has a path");
    let status = Command::new("unshare")
        .args(["-Urnm", "--"])
        .arg(exe)
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare has just worked");
    assert!(status.success(), "{name} failed in its own namespaces");
}

/// `ip netns` keeps its names under /run, which is not ours to write in a user namespace.
fn prepare_inside() {
    let done = Command::new("mount").args(["-t", "tmpfs", "none", "/run"]).status();
    assert!(done.is_ok_and(|s| s.success()), "no tmpfs in the own mount namespace");
}
