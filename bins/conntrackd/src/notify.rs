//! Tells systemd how the daemon is doing.

use std::env;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Clone, Debug)]
pub struct Notify {
    path: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Looks for the service manager in the environment, unless it is not `wanted`.
    pub fn new(wanted: bool) -> Self {
        let path = env::var_os("NOTIFY_SOCKET").filter(|path| wanted && !path.is_empty());
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // A process id that is not ours means that the watchdog is for another process; a daemon
        // in the background is a child of the one that was meant.
        let ours = [std::process::id(), std::os::unix::process::parent_id()].map(u64::from);
        let meant = number("WATCHDOG_PID").is_none_or(|pid| ours.contains(&pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usecs| wanted && meant && *usecs > 0);
        Self { path, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// How often the watchdog wants to hear something.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.path.is_some()).map(|timeout| timeout / 2)
    }

    /// Whether there is a service manager.
    pub fn has_manager(&self) -> bool {
        self.path.is_some()
    }

    /// Sends one state, such as `READY=1`. Nobody to tell it to is no error.
    pub fn send(&self, state: &str) {
        self.deliver(state, false);
    }

    /// As [`Notify::send`], for what may as well be lost if the manager is behind.
    pub fn offer(&self, state: &str) {
        self.deliver(state, true);
    }

    fn deliver(&self, state: &str, at_once: bool) {
        let Some(path) = &self.path else {
            return;
        };
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(path),
        };
        if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound())
            && socket.set_nonblocking(at_once).is_ok()
        {
            let _ = socket.send_to_addr(state.as_bytes(), &address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_reach_the_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        let notify = Notify { path: Some(path.into()), watchdog: Some(Duration::from_secs(2)) };
        notify.send("READY=1");
        let mut state = [0; 64];
        let length = manager.recv(&mut state).expect("a state");
        assert_eq!(&state[..length], b"READY=1");
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_secs(1)));
        Notify { path: None, watchdog: None }.send("READY=1");
    }
}
