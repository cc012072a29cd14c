//! The lock file: at most one daemon per file.
//!
//! The original takes the mere existence of the file for a running daemon. Ours also holds a
//! lock on it and writes its process id into it, so that the file of a daemon that was killed
//! stops nobody: nobody holds its lock. The file of a killed original is empty and never locked;
//! it is taken over if no other `conntrackd` runs in this network namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

/// How long the lock of a process that is dying is waited for.
const DYING: Duration = Duration::from_secs(3);
/// How long a killed process may look as if it lived.
const DOUBT: Duration = Duration::from_millis(100);
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A lock that is held; it goes with the value.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
    /// Whether a file of a daemon that is gone was taken over.
    pub taken_over: bool,
}

impl Lock {
    /// Takes the lock, or fails if another daemon has it or the file cannot be made. The lock of a
    /// daemon that was killed is waited for: the kernel takes its threads and rings apart first.
    pub fn take(path: &Path) -> io::Result<Self> {
        let began = Instant::now();
        loop {
            match Self::attempt(path) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let patience = if owner_lives(path) { DOUBT } else { DYING };
                    if began.elapsed() >= patience {
                        return Err(error);
                    }
                    thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }

    /// [`io::ErrorKind::WouldBlock`] if a process, dying perhaps, has the lock.
    fn attempt(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(flags);
        let (mut file, taken_over) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.open(path)?, true)
            }
            Err(error) => return Err(error),
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Its owner may have removed the file between our two steps.
        if !is_at(&file, path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if taken_over {
            let mut owner = String::new();
            (&mut file).take(64).read_to_string(&mut owner)?;
            // A slip in the configuration must not empty what is no lock file.
            if !owner.is_empty() && owner.trim().parse::<u32>().is_err() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if owner.is_empty() && other_daemon_runs() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        file.set_len(0)?;
        io::Seek::rewind(&mut file)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { path: path.to_owned(), file, taken_over })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the process that the file at `path` names lives: it exists and is no zombie.
fn owner_lives(path: &Path) -> bool {
    let owner = fs::read_to_string(path).unwrap_or_default();
    // Not written yet: a daemon that starts.
    let Ok(pid) = owner.trim().parse::<u32>() else { return true };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may hold anything.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether `file` is what stands at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Whether another process of the name `conntrackd` can be seen that may share our network.
fn other_daemon_runs() -> bool {
    let own = [std::process::id(), std::os::unix::process::parent_id()];
    let network = fs::read_link("/proc/self/ns/net").ok();
    let Ok(processes) = fs::read_dir("/proc") else {
        // Nobody can be seen, so anybody may be there.
        return true;
    };
    processes.flatten().any(|process| {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            return false;
        };
        let is_daemon = fs::read_to_string(process.path().join("comm"))
            .is_ok_and(|name| name.trim_end() == "conntrackd");
        let elsewhere = match fs::read_link(process.path().join("ns/net")) {
            Ok(theirs) => network.as_ref().is_some_and(|ours| *ours != theirs),
            Err(_) => false,
        };
        is_daemon && !elsewhere && !own.contains(&pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time_and_no_leftovers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let lock = Lock::take(&path).expect("a lock");
        assert!(!lock.taken_over);
        assert!(Lock::take(&path).is_err());
        let owner = fs::read_to_string(&path).expect("a file");
        assert_eq!(owner, format!("{}\n", std::process::id()));
        drop(lock);
        assert!(!path.exists());
        assert!(Lock::take(&folder.path().join("none/lock")).is_err());
    }

    #[test]
    fn the_file_of_a_killed_daemon_is_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        fs::write(&path, "4194999\n").expect("a file");
        let lock = Lock::take(&path).expect("a lock");
        assert!(lock.taken_over);
        assert!(Lock::take(&path).is_err());
    }

    #[test]
    fn what_is_no_lock_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("passwd");
        for content in [&b"root:x:0:0"[..], &[0xff; 80]] {
            fs::write(&path, content).expect("a file");
            assert!(Lock::take(&path).is_err());
            assert_eq!(fs::read(&path).expect("the file"), content);
        }
    }

    #[test]
    fn the_lock_of_a_daemon_that_is_dying_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        fs::write(&path, "4194999\n").expect("a file");
        let held = File::open(&path).expect("the file");
        flock(&held, FlockOperation::LockExclusive).expect("its lock");
        let dying = thread::spawn(move || {
            thread::sleep(2 * DOUBT);
            drop(held);
        });
        assert!(Lock::take(&path).expect("a lock").taken_over);
        dying.join().expect("it died");
    }

    #[test]
    fn the_file_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let lock = Lock::take(&path).expect("a lock");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "").expect("another");
        drop(lock);
        assert!(path.exists());
    }
}
