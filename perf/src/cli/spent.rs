//! What one run of a command costs.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

/// Costs of a run, and whether it succeeded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    /// Wall time, in seconds.
    pub(super) wall: f64,
    /// CPU time in user mode, in seconds.
    pub(super) user: f64,
    /// Memory at its peak, in MiB.
    pub(super) peak: f64,
    /// Whether the exit status was 0.
    pub(super) succeeded: bool,
}

/// How often memory is looked at. The kernel keeps the highest value itself.
const LOOK: Duration = Duration::from_millis(10);

/// Runs a command line with its output in a file.
pub(super) fn spent(ns: &Netns, make: Make, line: &str, out: &Path) -> io::Result<Spent> {
    // No run pays for giving up the output of the one before, or for writing it to a disk meanwhile.
    match fs::remove_file(out) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut command = command(ns, make, line, out)?;
    let before = user_of_children()?;
    let begin = Instant::now();
    let mut child = command.spawn()?;
    let peak = watch(&child);
    let status = child.wait()?;
    let wall = begin.elapsed().as_secs_f64();
    Ok(Spent {
        wall,
        user: user_of_children()? - before,
        peak: peak.finish(),
        succeeded: status.success(),
    })
}

/// The command line in the namespace.
pub(super) fn command(ns: &Netns, make: Make, line: &str, out: &Path) -> io::Result<Command> {
    let mut command = ns.command(make.program("conntrack"));
    command.args(line.split(' ')).stdin(Stdio::null()).stdout(File::create(out)?);
    command.stderr(Stdio::null());
    Ok(command)
}

/// Looks at the memory of a process until it is finished.
pub(super) struct Watch {
    ended: std::sync::mpsc::Sender<()>,
    thread: thread::JoinHandle<f64>,
}

impl Watch {
    /// The highest that was seen, in MiB.
    pub(super) fn finish(self) -> f64 {
        drop(self.ended);
        self.thread.join().unwrap_or(f64::NAN)
    }
}

/// Begins to look.
pub(super) fn watch(child: &Child) -> Watch {
    let (ended, end) = channel();
    let path = format!("/proc/{}/status", child.id());
    Watch { ended, thread: thread::spawn(move || highest(&path, &end)) }
}

fn highest(path: &str, end: &Receiver<()>) -> f64 {
    let mut highest = 0.0_f64;
    loop {
        let status = fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
        highest = highest.max(kib.unwrap_or(0.0) / 1024.0);
        if end.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            return highest;
        }
    }
}

/// User CPU time of all children that have ended, in seconds.
fn user_of_children() -> io::Result<f64> {
    /// Clock ticks per second in `/proc`, on all architectures.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, which may hold anything, ends with the last parenthesis. `cutime` is the 16th.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().nth(13).and_then(|n| n.parse::<f64>().ok());
    ticks.map(|ticks| ticks / TICKS).ok_or_else(|| io::Error::other("no CPU time in /proc"))
}
