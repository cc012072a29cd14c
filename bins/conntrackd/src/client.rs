//! Asks a running daemon: one number, the answer until the connection ends.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use engine::command::{REPORT, Request};

/// The number that asks for nothing.
const NOTHING: u32 = !REPORT;
/// Octets of a report behind an answer.
const REPORT_BYTES: usize = 2;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens.
    Nobody,
    /// The daemon ended before it answered.
    Ended,
    /// The daemon refused, or could not do all of it; its log tells what.
    Refused,
    /// The answer ended in the middle.
    Broken,
    /// The answer can not be written.
    Output(io::Error),
}

/// Sends `request`, or one that asks for nothing, to the daemon that listens at `path` and copies
/// its answer to `out`.
///
/// # Errors
/// See [`Failure`]. The original does not tell what it makes of a request, so asking it succeeds
/// whenever it listens.
pub fn ask(path: &Path, request: Option<Request>, out: &mut impl Write) -> Result<(), Failure> {
    let id = request.and_then(Request::id).unwrap_or(NOTHING);
    let mut answer = Tail { out, held: Vec::new(), any: false };
    exchange(path, id | REPORT, &mut answer)?;
    match answer.held[..] {
        [0, 0] => answer.out.flush().map_err(Failure::Output),
        [0, _] => {
            answer.out.flush().map_err(Failure::Output)?;
            Err(Failure::Refused)
        }
        // A daemon that knows nothing of reports, or one that has ended meanwhile.
        [] if !answer.any => {
            match exchange(path, id, &mut answer) {
                Err(Failure::Nobody) => return Err(Failure::Ended),
                exchanged => exchanged?,
            }
            answer.end().map_err(Failure::Output)
        }
        _ => {
            answer.end().map_err(Failure::Output)?;
            Err(Failure::Broken)
        }
    }
}

fn exchange(path: &Path, id: u32, answer: &mut Tail<'_, impl Write>) -> Result<(), Failure> {
    let mut daemon = UnixStream::connect(path).map_err(|_| Failure::Nobody)?;
    // A daemon that ended meanwhile gives an empty answer.
    let _ = daemon.write_all(&id.to_ne_bytes());
    let mut chunk = [0; 16_384];
    loop {
        match daemon.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => answer.take(&chunk[..length]).map_err(Failure::Output)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Passes everything on but the last octets, which may be a report.
struct Tail<'a, W> {
    out: &'a mut W,
    held: Vec<u8>,
    any: bool,
}

impl<W: Write> Tail<'_, W> {
    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.any = true;
        self.held.extend_from_slice(chunk);
        let ready = self.held.len().saturating_sub(REPORT_BYTES);
        self.out.write_all(&self.held[..ready])?;
        self.held.drain(..ready);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(&self.held)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What a client prints and says of a daemon that gives these answers one after the other,
    /// and the numbers that it sent.
    fn asked(
        answers: &'static [&'static [&'static [u8]]],
    ) -> (Vec<u8>, Result<(), Failure>, Vec<u32>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ctl");
        assert!(matches!(ask(&path, Some(Request::Stop), &mut Vec::new()), Err(Failure::Nobody)));
        let listener = UnixListener::bind(&path).expect("a socket");
        let daemon = thread::spawn(move || {
            let numbers = answers.iter().map(|answer| {
                let (mut client, _) = listener.accept().expect("a client");
                let mut id = [0; 4];
                client.read_exact(&mut id).expect("a number");
                for part in *answer {
                    client.write_all(part).expect("room");
                }
                u32::from_ne_bytes(id)
            });
            numbers.collect()
        });
        let mut out = Vec::new();
        let result = ask(&path, Some(Request::Stop), &mut out);
        (out, result, daemon.join().expect("numbers"))
    }

    #[test]
    fn the_answer_is_what_comes_until_the_report() {
        let (out, result, ids) = asked(&[&[b"some\n", b"text\n\0", b"\0"]]);
        assert_eq!((out, ids), (b"some\ntext\n".to_vec(), vec![20 | REPORT]));
        assert!(result.is_ok());
        let (out, result, _) = asked(&[&[b"\0\x01"]]);
        assert!(out.is_empty() && matches!(result, Err(Failure::Refused)));
    }

    #[test]
    fn a_daemon_without_reports_is_asked_again() {
        let (out, result, ids) = asked(&[&[], &[b"text\n"]]);
        assert_eq!((out, ids), (b"text\n".to_vec(), vec![20 | REPORT, 20]));
        assert!(result.is_ok());
    }

    /// It was there: that it can not be connected to is not what went wrong.
    #[test]
    fn a_daemon_that_ends_meanwhile_is_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ctl");
        let listener = UnixListener::bind(&path).expect("a socket");
        let daemon = thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            client.read_exact(&mut [0; 4]).expect("a number");
            // Before the client knows that this one is over.
            drop(listener);
        });
        let result = ask(&path, Some(Request::Bulk), &mut Vec::new());
        daemon.join().expect("its end");
        assert!(matches!(result, Err(Failure::Ended)), "{result:?}");
    }

    #[test]
    fn an_answer_that_breaks_off_is_no_success() {
        let (out, result, _) = asked(&[&[b"half a li"]]);
        assert_eq!(out, b"half a li");
        assert!(matches!(result, Err(Failure::Broken)));
    }
}
