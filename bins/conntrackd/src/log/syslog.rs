//! The system log: a datagram per line.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::line::short_moment;
use crate::conf::settings::Facility;

/// Where the system log takes lines.
const SOCKET: &str = "/dev/log";
/// The name of the daemon in the system log.
const IDENT: &str = "conntrack-tools";
/// How long a patient writer waits for room.
const PATIENCE: Duration = Duration::from_secs(1);

/// A way to the system log. It is looked for when there is something to say, and again after it
/// was restarted.
pub(super) struct Syslog {
    facility: Facility,
    patience: Option<Duration>,
    socket: Option<UnixDatagram>,
    /// The last line found no room: nobody waits for it again until one does.
    full: bool,
}

impl Syslog {
    /// Lines that find no room are dropped.
    pub(super) const fn new(facility: Facility) -> Self {
        Self { facility, patience: None, socket: None, full: false }
    }

    /// Lines that find no room wait a second, for a thread with nothing else to do.
    pub(super) const fn patient(facility: Facility) -> Self {
        Self { facility, patience: Some(PATIENCE), socket: None, full: false }
    }

    /// Sends a text; `false` if nobody took it. `severity` is that of syslog(3), `time` counts
    /// seconds since 1970.
    pub(super) fn send(&mut self, severity: u8, time: i64, text: &[u8]) -> bool {
        let priority = self.facility.0 * 8 + severity;
        let (moment, pid) = (short_moment(time, false), std::process::id());
        let mut message = format!("<{priority}>{moment} {IDENT}[{pid}]: ").into_bytes();
        message.extend_from_slice(text);
        // It may have been restarted since the last line, so it is tried twice.
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = self.connect();
            }
            let Some(socket) = &self.socket else { return false };
            match socket.send(&message) {
                Ok(_) => {
                    self.set_full(false);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set_full(true);
                    return false;
                }
                Err(_) => self.socket = None,
            }
        }
        false
    }

    fn connect(&mut self) -> Option<UnixDatagram> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        socket.set_write_timeout(self.patience).ok()?;
        socket.set_nonblocking(self.patience.is_none()).ok()?;
        self.full = false;
        Some(socket)
    }

    fn set_full(&mut self, full: bool) {
        if let Some(socket) = &self.socket
            && self.patience.is_some()
            && self.full != full
        {
            // A socket that can not be switched is as slow as before.
            let _ = socket.set_nonblocking(full);
        }
        self.full = full;
    }
}
