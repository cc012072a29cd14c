//! How a run ends when it does not succeed: exit status and what is said about it.

use std::cell::RefCell;
use std::io::Write;

/// What stands in front of nearly all messages. Scripts match it, so the program keeps the name
/// of the package whose place it takes.
pub(crate) const PREFIX: &str =
    concat!("conntrack v", env!("CARGO_PKG_VERSION"), " (conntrack-tools): ");

/// The hint behind messages about parameters.
const HINT: &[u8] = b"Try `conntrack -h' or 'conntrack --help' for more information.\n";

/// The end of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit status.
    pub(crate) status: u8,
    /// The lines for standard error, newlines included.
    pub(crate) text: Vec<u8>,
}

impl Failure {
    /// A mistake in the parameters: exit status 2 and the hint.
    pub(crate) fn usage(parts: &[&[u8]]) -> Self {
        let mut text = line(parts);
        text.extend_from_slice(HINT);
        Self { status: 2, text }
    }

    /// A value that cannot be used, or an error of the system: exit status 1.
    pub(crate) fn other(parts: &[&[u8]]) -> Self {
        Self { status: 1, text: line(parts) }
    }

    /// Nothing was found; the closing line has told it.
    pub(crate) const fn nothing() -> Self {
        Self { status: 1, text: Vec::new() }
    }

    /// The kernel refused a request.
    pub(crate) fn operation(text: &str) -> Self {
        Self::other(&[b"Operation failed: ", text.as_bytes()])
    }
}

/// Writes one prefixed line to standard error.
pub(crate) fn say(parts: &[&[u8]]) {
    complain(&line(parts));
}

/// Writes to standard error, unless inside [`held_back`]. There is nobody to tell if that fails.
pub(crate) fn complain(text: &[u8]) {
    let held = HELD_BACK
        .with_borrow_mut(|held| held.as_mut().map(|held| held.extend_from_slice(text)).is_some());
    if !held {
        let _ = std::io::stderr().write_all(text);
    }
}

thread_local! {
    /// What the thread has to say and must not say yet.
    static HELD_BACK: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Does `work` before its turn: what it complains of is not written but comes with its result.
pub(crate) fn held_back<T>(work: impl FnOnce() -> T) -> (T, Vec<u8>) {
    HELD_BACK.set(Some(Vec::new()));
    let result = work();
    (result, HELD_BACK.take().unwrap_or_default())
}

fn line(parts: &[&[u8]]) -> Vec<u8> {
    let mut text = PREFIX.as_bytes().to_vec();
    for part in parts {
        text.extend_from_slice(part);
    }
    text.push(b'\n');
    text
}

/// The C library's text for an error number.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    // The standard library adds the number.
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_as_the_c_library_says_it() {
        assert_eq!(errno_text(17), "File exists");
        assert_eq!(errno_text(95), "Operation not supported");
    }
}
