//! A log file, which nobody waits for longer than he wants to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
    /// The file ends within a line.
    torn: bool,
}

/// What a file did not take.
#[derive(Debug)]
pub(super) struct Lost {
    /// Lines that are not in the file, or only in part.
    pub(super) lines: u64,
    /// Why the first of them is not.
    pub(super) reason: io::Error,
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
        let file = options.open(path)?;
        let torn = ends_within_line(&file)?;
        Ok(Self { file, patience, full: false, torn })
    }

    /// Writes lines, each with its line feed. They begin on a line of their own even if the last
    /// ones were cut short.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let mut rest = lines;
        let written = self.end_torn_line().and_then(|()| self.put(&mut rest));
        let Err(reason) = written else { return Ok(()) };
        if rest.len() < lines.len() {
            let taken = lines.len() - rest.len();
            self.torn = lines.get(..taken).is_some_and(|taken| !taken.ends_with(b"\n"));
        }
        // Nothing but the line feed is missing, and that comes before the next line.
        let rest = if self.torn { rest.strip_prefix(b"\n").unwrap_or(rest) } else { rest };
        let lines = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        Err(Lost { lines, reason })
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.torn {
            self.put(&mut &b"\n"[..])?;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes all; what is left of `rest` was not written.
    fn put(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        let mut until = None;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => *rest = rest.get(taken..).unwrap_or_default(),
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

/// Whether somebody before us was cut short.
fn ends_within_line(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    Ok(file.read_at(&mut byte, last)? == 1 && byte != *b"\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
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
    fn after_a_torn_line_the_next_begins_on_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        fifo(&path);
        let mut file = LineFile::open(&path, Duration::ZERO).expect("no reader is needed");
        // No pipe ends at a multiple of 7.
        let lost = file.write(&b"012345\n".repeat(100_000)).expect_err("more than a pipe takes");
        assert_eq!(lost.reason.to_string(), "nobody reads it fast enough");
        let mut reader = File::open(&path).expect("a writer is there");
        let mut take = || {
            let mut text = vec![0; 1 << 20];
            let taken = reader.read(&mut text).expect("lines");
            text.truncate(taken);
            String::from_utf8(text).expect("lines")
        };
        let first = take();
        let (whole, torn) = first.rsplit_once('\n').expect("a line");
        assert!(whole.lines().all(|line| line == "012345"));
        assert!(!torn.is_empty() && torn.len() < 7);
        assert_eq!(whole.lines().count() as u64 + lost.lines, 100_000);
        file.write(b"next\n").expect("room");
        file.write(b"last\n").expect("room");
        assert_eq!(take(), "\nnext\nlast\n");
    }

    #[test]
    fn a_file_that_ends_within_a_line_goes_on_with_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        for (before, after) in [("", "next\n"), ("whole\n", "whole\nnext\n"), ("to", "to\nnext\n")]
        {
            fs::write(&path, before).expect("a file");
            let mut file = LineFile::open(&path, Duration::ZERO).expect("a file");
            file.write(b"next\n").expect("room");
            assert_eq!(fs::read_to_string(&path).expect("a file"), after);
        }
    }

    #[test]
    fn a_full_disk_costs_the_lines_it_was_given() {
        let mut file = LineFile::open(Path::new("/dev/full"), Duration::ZERO).expect("a device");
        for _ in 0..2 {
            let lost = file.write(b"one\ntwo\n").expect_err("no space");
            assert_eq!((lost.lines, lost.reason.raw_os_error()), (2, Some(28)));
        }
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
