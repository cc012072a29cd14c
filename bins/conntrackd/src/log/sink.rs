//! Where lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use engine::log::Level;

use super::Line;
use super::line::{full, short_moment, to_console};
use crate::conf::settings::Facility;

/// Where the system log takes lines.
const SYSLOG_SOCKET: &str = "/dev/log";
/// The name of the daemon in the system log.
const IDENT: &str = "conntrack-tools";

/// The destinations of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// Standard output and standard error.
    pub console: bool,
    /// A file to append to.
    pub file: Option<PathBuf>,
    /// The system log.
    pub facility: Option<Facility>,
}

/// Open destinations.
pub struct Sink {
    to: Destinations,
    file: Option<File>,
    syslog: Option<UnixDatagram>,
}

impl Sink {
    /// Opens the file. The system log is looked for when there is something to say.
    pub fn open(to: Destinations) -> io::Result<Self> {
        let file = to.file.as_deref().map(open).transpose()?;
        Ok(Self { to, file, syslog: None })
    }

    /// No more lines for the console.
    pub(super) fn leave_console(&mut self) {
        self.to.console = false;
    }

    /// Opens the file again by its name. If that fails the old one is kept.
    pub(super) fn reopen(&mut self) {
        if let Some(Ok(file)) = self.to.file.as_deref().map(open) {
            self.file = Some(file);
        }
    }

    /// Writes a line everywhere; `false` if the file did not take it.
    pub(super) fn write(&mut self, line: &Line) -> bool {
        let text = full(line);
        let mut written = true;
        if let Some(file) = &mut self.file {
            written = file.write_all(&[&text[..], b"\n"].concat()).is_ok();
        }
        if self.to.console {
            to_console(line.level, text);
        }
        if let Some(facility) = self.to.facility {
            self.send_syslog(facility, line);
        }
        written
    }

    fn send_syslog(&mut self, facility: Facility, line: &Line) {
        let severity = match line.level {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Notice => 5,
            Level::Info => 6,
        };
        let priority = facility.0 * 8 + severity;
        let (moment, pid) = (short_moment(line.time, false), std::process::id());
        let message = format!("<{priority}>{moment} {IDENT}[{pid}]: {}", line.text);
        // The system log may have been restarted since the last line, so it is tried twice.
        for _ in 0..2 {
            if self.syslog.is_none() {
                self.syslog = connect();
            }
            let sent = self.syslog.as_ref().map(|socket| socket.send(message.as_bytes()));
            match sent {
                Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    self.syslog = None;
                }
                _ => return,
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(SYSLOG_SOCKET).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}
