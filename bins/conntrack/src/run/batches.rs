//! Lines of a file in batches. All that a long file asks for is to be known before its first line is
//! done, so two threads take batches in turns and make what can be made of each before its turn:
//! each reads the lines that it works on, as handing them over costs as much as it gains.

use std::io::{self, BufRead, ErrorKind};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::args::{Line, Lines, split};
use crate::failure::{Failure, errno_text};

/// Octets of a batch, little more than a line more or less.
const BYTES: usize = 64 << 10;
/// Batches of the other thread that wait for their turn, at most.
const AHEAD: usize = 4;

/// Lines, with the places of their words.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// How many batches are before it.
    place: u64,
    text: Vec<u8>,
    words: Vec<Range<usize>>,
    /// Each line, and how many words it and those before it have.
    lines: Vec<(Line, usize)>,
    /// Number of the line that follows and cannot be read or split, and why.
    refused: Option<(u64, Failure)>,
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

/// What is to be used next.
pub(super) enum Part<'a, T> {
    /// A line.
    Line(&'a Words<'a>),
    /// What was made of all lines of a batch.
    Made(T),
}

/// Where the lines come from.
struct Source<'l, R> {
    lines: &'l mut Lines<R>,
    /// Batches that were read.
    read: u64,
    /// Nothing more follows.
    ended: bool,
}

impl<R: BufRead> Source<'_, R> {
    /// Reads lines into `batch`; whether there is anything left to say.
    fn fill(&mut self, batch: &mut Batch) -> bool {
        batch.text.clear();
        batch.words.clear();
        batch.lines.clear();
        if self.ended {
            return false;
        }
        batch.place = self.read;
        self.read += 1;
        while batch.text.len() < BYTES {
            match self.lines.next(&mut batch.text) {
                Ok(Some(line)) => batch.lines.push((line, 0)),
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Err(error) => {
                    // A directory counts as empty, as with the original.
                    if error.kind() != ErrorKind::IsADirectory {
                        batch.refused = Some((self.lines.number() + 1, unreadable(&error)));
                    }
                    self.ended = true;
                    break;
                }
            }
        }
        true
    }
}

impl Batch {
    /// Reads the next lines and finds their words; whether there were any, or a failure.
    fn next<R: BufRead>(&mut self, source: &Mutex<Source<'_, R>>) -> bool {
        let there = locked(source).fill(self);
        let Self { text, words, lines, refused, .. } = self;
        for place in 0..lines.len() {
            let (line, end) = &mut lines[place];
            let found = line.check(text).and_then(|()| split(text, line.place.clone(), words));
            if let Err(failure) = found {
                *refused = Some((line.number, failure));
                lines.truncate(place);
                break;
            }
            *end = words.len();
        }
        there
    }

    /// Octets of its lines.
    pub(super) const fn octets(&self) -> usize {
        self.text.len()
    }

    /// The lines in front of one that is refused.
    pub(super) fn lines(&self) -> impl Iterator<Item = Words<'_>> {
        let mut begin = 0;
        self.lines.iter().map(move |(Line { place, number }, end)| {
            let places = &self.words[begin..*end];
            begin = *end;
            Words { line: &self.text[place.clone()], number: *number, text: &self.text, places }
        })
    }

    /// Hands on what was made, or each line; a failure comes with the number of the line.
    fn hand<T>(
        &mut self,
        made: Option<T>,
        take: &mut impl FnMut(Part<'_, T>) -> Result<(), Failure>,
    ) -> Result<(), (u64, Failure)> {
        if let Some(made) = made {
            let first = self.lines.first().map_or(0, |(line, _)| line.number);
            return take(Part::Made(made)).map_err(|failure| (first, failure));
        }
        for line in self.lines() {
            take(Part::Line(&line)).map_err(|failure| (line.number, failure))?;
        }
        self.refused.take().map_or(Ok(()), Err)
    }

    /// What `make` makes of it.
    fn made<T>(&self, make: impl Fn(&Self) -> Option<T>) -> Option<T> {
        if self.refused.is_none() { make(self) } else { None }
    }
}

fn unreadable(error: &io::Error) -> Failure {
    let reason = errno_text(error.raw_os_error().unwrap_or(0));
    Failure::other(&[b"can't read further: ", reason.as_bytes()])
}

/// Hands to `take`, until it fails, what `make` makes of batches, or else their lines. It makes
/// nothing where lines have to do with those before them, which may not have been read yet.
pub(super) fn read<R: BufRead + Send, T: Send>(
    lines: &mut Lines<R>,
    make: impl Fn(&Batch) -> Option<T> + Sync,
    mut take: impl FnMut(Part<'_, T>) -> Result<(), Failure>,
) -> Result<(), (u64, Failure)> {
    let source = Mutex::new(Source { lines, read: 0, ended: false });
    let mut batch = Batch::default();
    batch.next(&source);
    batch.hand(None, &mut take)?;
    if locked(&source).ended {
        return Ok(());
    }
    thread::scope(|scope| {
        let (batches, received) = sync_channel(AHEAD);
        let (free, used) = sync_channel(AHEAD);
        let (source, make) = (&source, &make);
        let helper = thread::Builder::new().name("lines".into());
        // Where no further thread is allowed, all batches are read here.
        let _ = helper.spawn_scoped(scope, move || help(source, make, &used, &batches));
        let mut next = 1;
        while batch.next(source) {
            let made = batch.made(make);
            while next < batch.place {
                let Ok((mut earlier, made)) = received.recv() else { break };
                earlier.hand(made, &mut take)?;
                // Where there is no room for it, it is freed.
                let _ = free.try_send(earlier);
                next += 1;
            }
            batch.hand(made, &mut take)?;
            next += 1;
        }
        received.iter().try_for_each(|(mut batch, made)| batch.hand(made, &mut take))
    })
}

fn locked<'m, 'l, R>(source: &'m Mutex<Source<'l, R>>) -> MutexGuard<'m, Source<'l, R>> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the other thread does, until nothing is left or nobody wants more.
fn help<R: BufRead, T>(
    source: &Mutex<Source<'_, R>>,
    make: impl Fn(&Batch) -> Option<T>,
    used: &Receiver<Batch>,
    batches: &SyncSender<(Batch, Option<T>)>,
) {
    loop {
        let mut batch = used.try_recv().unwrap_or_default();
        if !batch.next(source) {
            return;
        }
        let made = batch.made(&make);
        if batches.send((batch, made)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of several batches.
    fn file(count: u32) -> Vec<u8> {
        (1..=count).flat_map(|n| format!("# as long as others\n-A {n}\n").into_bytes()).collect()
    }

    fn first_words(batch: &Batch) -> Vec<Vec<u8>> {
        batch.lines().map(|line| line.iter().last().unwrap_or_default().to_vec()).collect()
    }

    /// What was taken, and the number of the line at which it failed.
    fn taken(text: &[u8], make: impl Fn(&Batch) -> bool + Sync) -> (Vec<Vec<u8>>, Option<u64>) {
        let mut all = Vec::new();
        let take = |part: Part<'_, Vec<Vec<u8>>>| {
            match part {
                Part::Line(line) => {
                    let word = line.iter().last().unwrap_or_default();
                    if word == b"bad" {
                        return Err(Failure::nothing());
                    }
                    all.push(word.to_vec());
                }
                Part::Made(words) => all.extend(words),
            }
            Ok(())
        };
        let make = |batch: &Batch| make(batch).then(|| first_words(batch));
        let failed = read(&mut Lines::new(text), make, take).err();
        (all, failed.map(|(number, _)| number))
    }

    #[test]
    fn all_lines_come_in_their_order_whoever_works_on_them() {
        let text = file(100_000);
        let all: Vec<_> = (1..=100_000_u32).map(|n| n.to_string().into_bytes()).collect();
        for make in
            [|_: &Batch| true, |_: &Batch| false, |batch: &Batch| batch.place.is_multiple_of(3)]
        {
            assert_eq!(taken(&text, make), (all.clone(), None));
        }
    }

    #[test]
    fn nothing_is_taken_behind_a_line_that_fails() {
        let long = format!("{} \"unread", "w ".repeat(300));
        for bad in ["bad", &long] {
            let text = [&file(50_000)[..], bad.as_bytes(), b"\n", &file(50_000)].concat();
            let make = |batch: &Batch| first_words(batch).iter().all(|word| word != b"bad");
            let (all, failed) = taken(&text, make);
            assert_eq!((all.len(), failed), (50_000, Some(100_001)), "{bad}");
        }
    }
}
