//! Asks a running daemon: one number, the answer until the connection ends.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use engine::command::Request;

/// The number that asks for nothing.
const NOTHING: u32 = u32::MAX;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens.
    Nobody,
    /// The answer can not be written.
    Output(io::Error),
}

/// Sends `request`, or one that asks for nothing, to the daemon that listens at `path` and copies
/// its answer to `out`.
///
/// What the daemon makes of the request, and whether it lives through it, is not told.
pub fn ask(path: &Path, request: Option<Request>, out: &mut impl Write) -> Result<(), Failure> {
    let id = request.and_then(Request::id).unwrap_or(NOTHING);
    let mut daemon = UnixStream::connect(path).map_err(|_| Failure::Nobody)?;
    // A daemon that ended meanwhile gives an empty answer.
    let _ = daemon.write_all(&id.to_ne_bytes());
    let mut chunk = [0; 16_384];
    loop {
        let length = match daemon.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        out.write_all(&chunk[..length]).map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn the_answer_is_what_comes_until_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ctl");
        assert!(ask(&path, Some(Request::Stop), &mut Vec::new()).is_err());
        let listener = UnixListener::bind(&path).expect("a socket");
        let daemon = thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut id = [0; 4];
            client.read_exact(&mut id).expect("a number");
            client.write_all(b"some\n").expect("room");
            client.write_all(b"text\n").expect("room");
            u32::from_ne_bytes(id)
        });
        let mut out = Vec::new();
        ask(&path, Some(Request::Stop), &mut out).expect("a daemon");
        assert_eq!(out, b"some\ntext\n");
        assert_eq!(daemon.join().expect("an id"), 20);
    }
}
