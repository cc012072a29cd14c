//! Machine-wide limits that big tests raise, shared with every other test run on the machine.
//!
//! Each holder leaves a file with what it needs and keeps it locked, so a holder that was killed
//! is told from a living one. Nobody lowers the limit but the last holder, who restores it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

const DIRECTORY: &str = "/run/lock/shardtrack-limits";
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const MASTER: &str = "lock";
const ORIGINAL: &str = "original";

/// Keeps `nf_conntrack_max` at least at what was asked, until dropped.
#[derive(Debug)]
pub struct TableSize {
    path: PathBuf,
    // The lock on it says that we live.
    _alive: File,
}

impl TableSize {
    /// Raises the largest number of flows per namespace to at least `flows`.
    ///
    /// # Errors
    /// If the limit is not ours to change, as in a container or a user namespace.
    pub fn at_least(flows: u64) -> io::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(DIRECTORY)?;
        let _master = lock_master()?;
        let original = Path::new(DIRECTORY).join(ORIGINAL);
        if !original.exists() {
            fs::write(&original, fs::read(LIMIT)?)?;
        }
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(DIRECTORY).join(format!("need-{}-{count}", std::process::id()));
        fs::write(&path, flows.to_string())?;
        let alive = File::open(&path)?;
        flock(&alive, FlockOperation::LockExclusive)?;
        let held = Self { path, _alive: alive };
        if read_number(Path::new(LIMIT))? < flows {
            fs::write(LIMIT, flows.to_string())?;
        }
        Ok(held)
    }

    fn release(&self) -> io::Result<()> {
        let _master = lock_master()?;
        fs::remove_file(&self.path)?;
        if living_holders()? == 0 {
            let original = Path::new(DIRECTORY).join(ORIGINAL);
            fs::write(LIMIT, fs::read(&original)?)?;
            fs::remove_file(&original)?;
        }
        Ok(())
    }
}

impl Drop for TableSize {
    fn drop(&mut self) {
        // Nothing to be done about a failure: the next last holder restores the limit.
        let _ = self.release();
    }
}

fn lock_master() -> io::Result<File> {
    let path = Path::new(DIRECTORY).join(MASTER);
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Counts the holders that live and removes the files of the others.
fn living_holders() -> io::Result<usize> {
    let mut living = 0;
    for entry in fs::read_dir(DIRECTORY)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("need-") {
            continue;
        }
        let file = File::open(entry.path())?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_file(entry.path())?;
        } else {
            living += 1;
        }
    }
    Ok(living)
}

fn read_number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?
        .trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Waits until no other test of this checkout that asks for it is running. For tests that measure
/// or that load both cores.
///
/// # Panics
/// If the lock's file cannot be made beside the programs under test.
pub fn alone() -> Alone {
    let exe = std::env::current_exe().expect("a running test has a path");
    let path = exe.with_file_name("alone.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.expect("tests can write where they were built");
    flock(&file, FlockOperation::LockExclusive).expect("a lock can be waited for");
    Alone { _lock: file }
}

/// Nobody else runs until this is dropped.
#[derive(Debug)]
pub struct Alone {
    _lock: File,
}
