//! Lines of a file and their words, found ahead of their use on a thread of their own: that is a
//! quarter of the work that a long file makes before its first line can be done.

use std::io::{self, BufRead, ErrorKind};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::args::{Line, Lines, split};
use crate::failure::{Failure, errno_text};

/// Octets after which a batch is handed on.
const BYTES: usize = 128 << 10;
/// Batches that wait to be used, at most.
const AHEAD: usize = 2;

/// Lines, with the places of their words.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    words: Vec<Range<usize>>,
    /// Each line, and how many words it and those before it have.
    lines: Vec<(Line, usize)>,
    /// Number of the line that follows and cannot be read or split, and why.
    refused: Option<(u64, Failure)>,
    /// Nothing more follows.
    last: bool,
}

/// A line and its words.
pub(super) struct Words<'a> {
    pub(super) line: &'a [u8],
    pub(super) number: u64,
    text: &'a [u8],
    places: &'a [Range<usize>],
}

impl<'a> Words<'a> {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let text = self.text;
        self.places.iter().map(move |place| &text[place.clone()])
    }
}

impl Batch {
    fn fill(&mut self, lines: &mut Lines<impl BufRead>) {
        self.text.clear();
        self.words.clear();
        self.lines.clear();
        while self.text.len() < BYTES {
            let line = match lines.next(&mut self.text) {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.last = true;
                    return;
                }
                Err(error) => {
                    // A directory counts as empty, as with the original.
                    if error.kind() != ErrorKind::IsADirectory {
                        self.refused = Some((lines.number() + 1, unreadable(&error)));
                    }
                    self.last = true;
                    return;
                }
            };
            if let Err(failure) = split(&mut self.text, line.place.clone(), &mut self.words) {
                self.refused = Some((line.number, failure));
                self.last = true;
                return;
            }
            self.lines.push((line, self.words.len()));
        }
    }

    /// Hands each line to `take`; a failure comes with the number of the line.
    fn each(
        &mut self,
        take: &mut impl FnMut(&Words<'_>) -> Result<(), Failure>,
    ) -> Result<(), (u64, Failure)> {
        let mut begin = 0;
        for (Line { place, number }, end) in &self.lines {
            let places = &self.words[begin..*end];
            let line = &self.text[place.clone()];
            let words = Words { line, number: *number, text: &self.text, places };
            take(&words).map_err(|failure| (*number, failure))?;
            begin = *end;
        }
        self.refused.take().map_or(Ok(()), Err)
    }
}

fn unreadable(error: &io::Error) -> Failure {
    let reason = errno_text(error.raw_os_error().unwrap_or(0));
    Failure::other(&[b"can't read further: ", reason.as_bytes()])
}

/// Hands each line to `take` until one fails.
pub(super) fn read<R: BufRead + Send>(
    lines: &mut Lines<R>,
    mut take: impl FnMut(&Words<'_>) -> Result<(), Failure>,
) -> Result<(), (u64, Failure)> {
    let mut batch = Batch::default();
    batch.fill(lines);
    batch.each(&mut take)?;
    if batch.last {
        return Ok(());
    }
    let helped = thread::scope(|scope| {
        let (batches, filled) = sync_channel(AHEAD);
        let (free, used) = sync_channel(AHEAD);
        let reader = thread::Builder::new().name("lines".into());
        let ahead = &mut *lines;
        let started = reader.spawn_scoped(scope, move || fill(ahead, &used, &batches)).is_ok();
        started.then(|| consume(&filled, &free, &mut take))
    });
    if let Some(result) = helped {
        return result;
    }
    // No further thread is allowed here.
    while !batch.last {
        batch.fill(lines);
        batch.each(&mut take)?;
    }
    Ok(())
}

/// What the thread does. It ends after the last batch, or when nobody wants more.
fn fill(lines: &mut Lines<impl BufRead>, used: &Receiver<Batch>, batches: &SyncSender<Batch>) {
    loop {
        let mut batch = used.try_recv().unwrap_or_default();
        batch.fill(lines);
        let last = batch.last;
        if batches.send(batch).is_err() || last {
            return;
        }
    }
}

fn consume(
    filled: &Receiver<Batch>,
    free: &SyncSender<Batch>,
    take: &mut impl FnMut(&Words<'_>) -> Result<(), Failure>,
) -> Result<(), (u64, Failure)> {
    while let Ok(mut batch) = filled.recv() {
        batch.each(take)?;
        // Where there is no room for it, it is freed.
        let _ = free.try_send(batch);
    }
    Ok(())
}
