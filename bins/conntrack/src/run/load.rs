//! `-R`: the command lines of a file; and `--filter-file`, whose lines are conditions.
//!
//! All lines are read before the first is done, so that a slip in one does nothing. What they ask for
//! is kept as requests, in memory as far as it is little and in a temporary file beyond.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write};
use std::os::unix::ffi::OsStrExt as _;

use proto_ctnl::Encoder;

use super::batches::{self, Batch, Part, Words};
use super::loading::{Loading, SHORT_FILE, tell_line};
use super::lookup::Lookup;
use super::{delete, feasible, flush, update};
use crate::args::{Command, Lines, Opt, OptSet, Request, Shared, Table, parse_with, split};
use crate::failure::{Failure, complain, held_back, say};
use crate::filter::Filter;
use crate::kernel::{Errno, INVALID};
use crate::object;
use crate::output::Out;

/// Octets of requests that are kept in memory.
const MEMORY_MAX: usize = 4 << 20;
/// Octets of a request at most.
const REQUEST_MAX: usize = 4096;

/// What can stand in a file of conditions.
const SETTINGS: OptSet = OptSet::of(&[
    Opt::Output,
    Opt::Zero,
    Opt::EventMask,
    Opt::BufferSize,
    Opt::LabelAdd,
    Opt::LabelDel,
    Opt::FilterFile,
    Opt::Sort,
    Opt::Limit,
    Opt::CountBy,
    Opt::Snapshot,
]);

/// Does what the lines of a file say.
pub(crate) fn load(path: &[u8], posix: bool) -> Result<(), Failure> {
    let file = open(if path == b"-" { b"/dev/stdin" } else { path })?;
    let mut lines = Lines::new(BufReader::with_capacity(64 << 10, file));
    let spool = BufWriter::with_capacity(64 << 10, tempfile::spooled_tempfile(MEMORY_MAX));
    let mut compiler = Compiler::new(posix, spool);
    let read = batches::read(
        &mut lines,
        |batch| Compiled::of(batch, posix),
        |part| match part {
            Part::Line(line) => compiler.line(line),
            Part::Made(compiled) => compiler.take(&compiled),
        },
    );
    if let Err((number, failure)) = read.and_then(|()| compiler.forbidden.map_or(Ok(()), Err)) {
        if lines.count() > SHORT_FILE {
            say(&[b"line ", number.to_string().as_bytes(), b" of ", path, b":"]);
        }
        return Err(failure);
    }
    let mut spool = compiler.spool.into_inner().map_err(|e| system(e.error()))?;
    spool.rewind().map_err(|e| system(&e))?;
    let mut out = Out::new()?;
    let result = run(BufReader::with_capacity(64 << 10, spool), posix, &mut out);
    out.flush();
    result
}

fn open(path: &[u8]) -> Result<File, Failure> {
    File::open(OsStr::from_bytes(path))
        .map_err(|_| Failure::usage(&[b"Failed to open file ", path, b" for reading"]))
}

fn system(error: &io::Error) -> Failure {
    let reason = crate::failure::errno_text(error.raw_os_error().unwrap_or(0));
    Failure::other(&[b"can't keep what is to be loaded: ", reason.as_bytes()])
}

/// What stands in front of what is kept of a line: kind, command, zone, length, number of the line.
const HEAD: usize = 16;
const KIND_REQUEST: u8 = 0;
/// The line itself, for commands that need more than one request.
const KIND_LINE: u8 = 1;
/// The error number of a request that cannot be made.
const KIND_REFUSED: u8 = 2;

fn keep(spool: &mut impl Write, kept: &Kept, bytes: &[u8]) -> io::Result<()> {
    let Kept { kind, command, zone, number } = *kept;
    let mut head = [0; HEAD];
    head[0] = kind;
    head[1] = u8::from(command == Command::Add);
    head[2..4].copy_from_slice(&zone.to_ne_bytes());
    head[4..8].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
    head[8..16].copy_from_slice(&number.to_ne_bytes());
    spool.write_all(&head)?;
    spool.write_all(bytes)
}

/// Makes of lines what is kept of them.
struct Compiler<W> {
    reader: Reader,
    spool: W,
    buffer: [u8; REQUEST_MAX],
    /// The first line whose command no file may have, and what is said of it unless there is more to
    /// be said of a line behind it.
    forbidden: Option<(u64, Failure)>,
}

impl<W: Write> Compiler<W> {
    fn new(posix: bool, spool: W) -> Self {
        let buffer = [0; REQUEST_MAX];
        Self { reader: Reader::new(posix), spool, buffer, forbidden: None }
    }

    /// Keeps what was made of lines ahead.
    fn take(&mut self, compiled: &Compiled) -> Result<(), Failure> {
        complain(&compiled.complaints);
        self.spool.write_all(&compiled.kept).map_err(|e| system(&e))
    }

    fn line(&mut self, line: &Words<'_>) -> Result<(), Failure> {
        let request = self.reader.read(&[], line.iter())?;
        let command = match permitted(&request) {
            Ok(command) => command,
            Err(failure) => {
                self.forbidden.get_or_insert((line.number, failure));
                return Ok(());
            }
        };
        let mut kept = Kept { kind: KIND_LINE, command, zone: 0, number: line.number };
        if !matches!(command, Command::Create | Command::Add) {
            return keep(&mut self.spool, &kept, line.line).map_err(|e| system(&e));
        }
        let mut encoder = Encoder::new(&mut self.buffer);
        let made = object::flow(&request).and_then(|flow| {
            if object::is_half(&flow) {
                return Err(INVALID);
            }
            kept.zone = flow.key_zone();
            encoder.flow_create(&flow, 0, false).map_err(|_| crate::kernel::NO_ROOM)
        });
        let errno = made.map_or_else(|Errno(errno)| errno, |()| 0).to_ne_bytes();
        kept.kind = if made.is_ok() { KIND_REQUEST } else { KIND_REFUSED };
        let bytes = if made.is_ok() { encoder.bytes() } else { &errno };
        keep(&mut self.spool, &kept, bytes).map_err(|e| system(&e))
    }
}

/// What is kept of the lines of a batch that have nothing to do with those before it.
struct Compiled {
    kept: Vec<u8>,
    complaints: Vec<u8>,
}

impl Compiled {
    /// Of lines whose turn has not come. None if one is wrong, or has to do with what lines before
    /// may have said: then all are to be read again.
    fn of(batch: &Batch, posix: bool) -> Option<Self> {
        let mut compiler = Compiler::new(posix, Vec::with_capacity(batch.octets()));
        let (right, complaints) =
            held_back(|| batch.lines().all(|line| compiler.line(&line).is_ok()));
        let alone = compiler.reader.shared.is_unused() && compiler.forbidden.is_none();
        (right && alone).then_some(Self { kept: compiler.spool, complaints })
    }
}

/// Makes requests of lines.
struct Reader {
    posix: bool,
    shared: Shared,
}

impl Reader {
    fn new(posix: bool) -> Self {
        Self { posix, shared: Shared::of_file() }
    }

    /// The request of words, which follow those of `first`.
    fn read<'a>(
        &mut self,
        first: &[&'a [u8]],
        words: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<Request, Failure> {
        let mut all: Vec<&[u8]> = Vec::with_capacity(1 + first.len() + words.len());
        all.push(b"conntrack");
        all.extend_from_slice(first);
        all.extend(words);
        parse_with(all, self.posix, &mut self.shared)
    }

    /// The request of a line, to which words with quotes are appended.
    fn line(&mut self, line: &mut Vec<u8>) -> Result<Request, Failure> {
        let (mut places, whole) = (Vec::new(), 0..line.len());
        split(line, whole, &mut places)?;
        self.read(&[], places.into_iter().map(|place| &line[place]))
    }
}

/// The commands that a file may have.
fn permitted(request: &Request) -> Result<Command, Failure> {
    let expect = request.table == Table::Expect;
    let (name, ok) = match request.command {
        Some(c @ (Command::Create | Command::Add | Command::Update)) if !expect => ("", Some(c)),
        Some(c @ (Command::Delete | Command::Flush)) if !expect => ("", Some(c)),
        Some(Command::List) => ("-L", None),
        Some(Command::Get) => ("-G", None),
        Some(Command::Event) => ("-E", None),
        Some(Command::Version) => ("-V", None),
        Some(Command::Help) => ("-h", None),
        Some(Command::Stats) => ("-S", None),
        Some(Command::Delete) => ("-D", None),
        Some(Command::Flush) => ("-F", None),
        None => ("unknown", None),
        // The original calls the making of an expectation so too.
        _ => ("-C", None),
    };
    let named = matches!(name, "-V" | "-h");
    let table: &[u8] = if expect && !named { b" expect" } else { b"" };
    ok.ok_or_else(|| {
        let parts = [b"Cannot use command `", name.as_bytes(), table, b"' with --load-file"];
        Failure::usage(&parts)
    })
}

/// What is kept of a line.
struct Kept {
    kind: u8,
    command: Command,
    /// That of the original direction of what is made.
    zone: u16,
    number: u64,
}

fn next(spool: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<Option<Kept>> {
    let mut head = [0; HEAD];
    match spool.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let [kind, command, z0, z1, l0, l1, l2, l3, number @ ..] = head;
    bytes.resize(u32::from_ne_bytes([l0, l1, l2, l3]) as usize, 0);
    spool.read_exact(bytes)?;
    let command = if command == 1 { Command::Add } else { Command::Create };
    let (zone, number) = (u16::from_ne_bytes([z0, z1]), u64::from_ne_bytes(number));
    Ok(Some(Kept { kind, command, zone, number }))
}

fn run(mut spool: impl Read, posix: bool, out: &mut Out) -> Result<(), Failure> {
    let mut loading = Loading::new()?;
    let mut lookup = Lookup::new()?;
    let (mut reader, mut bytes) = (Reader::new(posix), Vec::new());
    while let Some(kept) = next(&mut spool, &mut bytes).map_err(|e| system(&e))? {
        match kept.kind {
            KIND_REQUEST => {
                lookup.made_in(kept.zone);
                loading.add(kept.command, kept.number, &bytes)?;
            }
            KIND_REFUSED => {
                loading.exchange()?;
                let errno = bytes.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
                tell_line(kept.number);
                return Err(loading.failure(kept.command, Errno(errno)));
            }
            _ => {
                loading.exchange()?;
                let request = reader.line(&mut bytes)?;
                other(&request, &mut lookup, out).inspect_err(|_| tell_line(kept.number))?;
            }
        }
    }
    loading.finish()
}

/// Does what a line says that makes no flow.
fn other(request: &Request, lookup: &mut Lookup, out: &mut Out) -> Result<(), Failure> {
    feasible(request)?;
    match request.command {
        Some(Command::Delete) => delete::run(request, Some(lookup), out).map(drop),
        Some(Command::Update) => update::run(request, Some(lookup), out).map(drop),
        _ => flush::flush(request),
    }
}

/// The conditions in the file that the request names, one filter for each line.
pub(super) fn filters(request: &Request) -> Result<Vec<Filter>, Failure> {
    let path = request.filter_file.as_slice();
    let mut lines = Lines::new(BufReader::new(open(path)?));
    let (mut reader, mut filters) = (Reader::new(false), Vec::new());
    let take = |part: Part<'_, Infallible>| {
        let line = match part {
            Part::Line(line) => line,
            Part::Made(never) => match never {},
        };
        let request = reader.read(&[b"-L"], line.iter())?;
        let mut conditions = request.given;
        conditions.remove(Opt::Labelmap);
        // All flows would match a line without a condition.
        let has_none = conditions.is_empty() || request.table != Table::Conntrack;
        if has_none || conditions.any(SETTINGS) {
            return Err(Failure::usage(&[b"only options that match entries go here"]));
        }
        feasible(&request)?;
        filters.push(Filter::new(&request));
        Ok(())
    };
    let read = batches::read(&mut lines, |_| None, take);
    read.map_err(|(number, failure)| {
        say(&[b"line ", number.to_string().as_bytes(), b" of ", path, b":"]);
        failure
    })?;
    if filters.is_empty() {
        return Err(Failure::other(&[b"no condition in ", path]));
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether what is kept of a long file's lines can be made before their turn.
    fn compiled(line: &str) -> Option<Compiled> {
        let mut compiled = None;
        // Enough for several batches.
        let text = format!("{line}\n").repeat(200_000 / line.len());
        let mut lines = Lines::new(text.as_bytes());
        let take = |part: Part<'_, Compiled>| {
            if let Part::Made(made) = part {
                compiled = Some(made);
            }
            Ok(())
        };
        let read = batches::read(&mut lines, |batch| Compiled::of(batch, false), take);
        assert_eq!(read, Ok(()));
        compiled
    }

    #[test]
    fn lines_that_have_to_do_with_others_wait_for_their_turn() {
        let flow = "-A -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -t 60";
        assert!(compiled(flow).is_some());
        assert!(compiled("-D -p udp").is_some());
        for line in [
            &format!("{flow} --label-add x"),
            "-D -o extended",
            "-U -m 1 --labelmap /nowhere",
            "-L",
            &format!("{flow} --sport 99999"),
        ] {
            assert!(compiled(line).is_none(), "{line}");
        }
    }

    #[test]
    fn complaints_wait_for_their_turn() {
        let made = compiled("-A -a x -p udp -s 1.1.1.1 -d 1.1.1.2 --sport 1 --dport 2 -t 60");
        let complaints = made.expect("nothing is wrong with it").complaints;
        assert!(complaints.starts_with(b"WARNING: ignoring -a, deprecated option.\n"));
    }
}
