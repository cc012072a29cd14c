//! Where lines go.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::log::Level;

use super::Line;
use super::line::{full, to_console};
use super::line_file::LineFile;
use super::syslog::Syslog;
use crate::conf::settings::Facility;

/// What goes to standard output and standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// All lines.
    All,
    /// Errors only: a daemon that leaves its terminal tells why it does not start, nothing else.
    Errors,
    /// Nothing.
    Nothing,
}

impl Terminal {
    fn takes(self, level: Level) -> bool {
        match self {
            Self::All => true,
            Self::Errors => level == Level::Error,
            Self::Nothing => false,
        }
    }
}

/// The destinations of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// Standard output and standard error.
    pub console: Terminal,
    /// A file to append to.
    pub file: Option<PathBuf>,
    /// The system log.
    pub facility: Option<Facility>,
}

/// Open destinations.
pub struct Sink {
    to: Destinations,
    file: Option<LineFile>,
    syslog: Option<Syslog>,
}

impl Sink {
    /// Opens the file. The system log is looked for when there is something to say.
    pub fn open(to: Destinations) -> io::Result<Self> {
        let file = to.file.as_deref().map(open).transpose()?;
        let syslog = to.facility.map(Syslog::new);
        Ok(Self { to, file, syslog })
    }

    /// From now on the console gets this.
    pub(super) fn set_console(&mut self, console: Terminal) {
        self.to.console = console;
    }

    /// Opens the file again by its name. If that fails the old one is kept.
    pub(super) fn reopen(&mut self) -> Result<(), (&Path, io::Error)> {
        let Some(path) = self.to.file.as_deref() else { return Ok(()) };
        self.file = Some(open(path).map_err(|error| (path, error))?);
        Ok(())
    }

    /// Writes a line everywhere; `false` if the file or the system log did not take it.
    pub(super) fn write(&mut self, line: &Line) -> bool {
        let text = full(line);
        let mut written = true;
        if let Some(file) = &mut self.file {
            written = file.write(&[&text[..], b"\n"].concat()).is_ok();
        }
        if self.to.console.takes(line.level) {
            to_console(line.level, text);
        }
        if let Some(syslog) = &mut self.syslog {
            let severity = match line.level {
                Level::Error => 3,
                Level::Warning => 4,
                Level::Notice => 5,
                Level::Info => 6,
            };
            written &= syslog.send(severity, line.time, line.text.as_bytes());
        }
        written
    }
}

/// Opens the log file. Until the writer starts whoever logs writes to it, so nobody waits for room.
fn open(path: &Path) -> io::Result<LineFile> {
    LineFile::open(path, Duration::ZERO)
}
