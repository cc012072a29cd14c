//! Lines that make flows which others expect: those must exist by then, so each stands behind its
//! master's.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufReader, Read as _, Seek as _, Write as _};

use proto_ctnl::{Flow, Tuple};
use tempfile::SpooledTempFile;

use crate::failure::Failure;
use crate::output::Out;

/// Octets of lines that are kept in memory; a file takes more.
const MEMORY: usize = 1 << 20;
/// What stands in front of a line: its flow and that one's master, as hashes, and its length.
const HEAD: usize = 20;

/// Lines that wait for those of all other flows.
pub(super) struct Related {
    lines: SpooledTempFile,
    hasher: RandomState,
    /// The flows whose lines wait.
    waiting: HashSet<u64>,
}

impl Related {
    pub(super) fn new() -> Self {
        let lines = tempfile::spooled_tempfile(MEMORY);
        Self { lines, hasher: RandomState::new(), waiting: HashSet::new() }
    }

    /// Keeps the line of a flow that has a master.
    pub(super) fn keep(&mut self, flow: &Flow, line: &[u8]) -> Result<(), Failure> {
        let zone = flow.key_zone();
        let hash = |tuple: &Tuple| self.hasher.hash_one((tuple, zone));
        let (own, master) = (hash(&flow.orig), hash(&flow.master));
        self.waiting.insert(own);
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&own.to_ne_bytes());
        head[8..16].copy_from_slice(&master.to_ne_bytes());
        head[16..].copy_from_slice(&(line.len() as u32).to_ne_bytes());
        let written = self.lines.write_all(&head).and_then(|()| self.lines.write_all(line));
        written.map_err(|e| failed(&e))
    }

    /// Shows all lines: in each pass those whose masters do not wait any more.
    pub(super) fn show(&mut self, out: &mut Out) -> Result<(), Failure> {
        while !self.waiting.is_empty() {
            let before = self.waiting.len();
            self.pass(out, false)?;
            // A table that changed while it was read may have shown a circle.
            if self.waiting.len() == before {
                return self.pass(out, true);
            }
        }
        Ok(())
    }

    fn pass(&mut self, out: &mut Out, all: bool) -> Result<(), Failure> {
        self.lines.rewind().map_err(|e| failed(&e))?;
        let mut lines = BufReader::new(&mut self.lines);
        let mut line = Vec::new();
        loop {
            let mut head = [0; HEAD];
            match lines.read_exact(&mut head) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                result => result.map_err(|e| failed(&e))?,
            }
            let [a, b, c, d, e, f, g, h, rest @ ..] = head;
            let own = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
            let [a, b, c, d, e, f, g, h, length @ ..] = rest;
            let master = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
            line.resize(u32::from_ne_bytes(length) as usize, 0);
            lines.read_exact(&mut line).map_err(|e| failed(&e))?;
            let ready = all || !self.waiting.contains(&master);
            if ready && self.waiting.remove(&own) {
                out.append(&line);
            }
        }
    }
}

fn failed(error: &io::Error) -> Failure {
    let reason = crate::failure::errno_text(error.raw_os_error().unwrap_or(0));
    Failure::other(&[b"can't keep what is to be shown last: ", reason.as_bytes()])
}
