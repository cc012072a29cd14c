//! A log file, which nobody waits for longer than he wants to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// A file that lines are appended to.
pub(super) struct LineFile {
    file: File,
    /// How long a FIFO or a terminal without room is waited for.
    patience: Duration,
    /// The last lines found no room: nobody waits for it again until some do.
    full: bool,
}

impl LineFile {
    /// Opens a log file to append to it; what is made is for its owner alone.
    ///
    /// It is opened for reading too, as the original does: so a FIFO opens before somebody reads
    /// it, and keeps the lines until then. `O_NONBLOCK` because it may be full.
    pub(super) fn open(path: &Path, patience: Duration) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
        Ok(Self { file: options.open(path)?, patience, full: false })
    }

    /// Writes lines, each with its line feed.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut rest = lines;
        let mut until = None;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let until = *until.get_or_insert_with(|| Instant::now() + self.patience);
                    self.full = self.full || !self.has_room(until)?;
                    if self.full {
                        return Err(io::Error::new(error.kind(), "nobody reads it fast enough"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.full = false;
        Ok(())
    }

    /// Waits for room; `false` if there is none in time.
    fn has_room(&self, until: Instant) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&left)) {
            Ok(ready) => Ok(ready > 0),
            // The next attempt to write tells.
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::io::Read;
    use std::thread;

    /// Makes a FIFO.
    pub(crate) fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    }

    #[test]
    fn a_fifo_opens_without_a_reader_and_keeps_the_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        fifo(&path);
        let mut file = LineFile::open(&path, Duration::ZERO).expect("no reader is needed");
        file.write(b"one\n").expect("room");
        let mut reader = File::open(&path).expect("a writer is there");
        let mut text = [0; 4];
        reader.read_exact(&mut text).expect("the line");
        assert_eq!(&text, b"one\n");
    }

    #[test]
    fn a_slow_reader_is_waited_for_and_none_only_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        fifo(&path);
        let mut file = LineFile::open(&path, Duration::from_millis(300)).expect("no reader");
        let mut reader = File::open(&path).expect("a writer is there");
        let lines = b"0123456\n".repeat(100_000);
        let all = lines.len();
        let slow = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut text = vec![0; all];
            reader.read_exact(&mut text).expect("all lines");
            (reader, text)
        });
        file.write(&lines).expect("the reader makes room");
        let (reader, text) = slow.join().expect("the reader");
        assert_eq!(text, lines);

        let begin = Instant::now();
        file.write(&lines).expect_err("more than a pipe takes");
        assert!(begin.elapsed() >= Duration::from_millis(300));
        let begin = Instant::now();
        file.write(&lines).expect_err("still full");
        assert!(begin.elapsed() < Duration::from_millis(300));
        drop(reader);
    }
}
