//! `-R`: the command lines of a file; and `--filter-file`, whose lines are conditions.
//!
//! All lines are read before the first is done, so that a slip in one does nothing. What they ask for
//! is kept as requests, in memory as far as it is little and in a temporary file beyond.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek as _, Write};
use std::os::unix::ffi::OsStrExt as _;

use proto_ctnl::Encoder;
use tempfile::SpooledTempFile;

use super::create::encode;
use super::{delete, feasible, flush, update};
use crate::args::{Command, Line, Lines, Opt, OptSet, Request, Shared, Table, parse_with, split};
use crate::failure::{Failure, say};
use crate::filter::Filter;
use crate::kernel::{Errno, Kernel};
use crate::object;
use crate::output::{Out, Progress};
use crate::pipeline::Pipeline;

/// Octets of requests that are kept in memory.
const MEMORY_MAX: usize = 4 << 20;
/// Octets of a request at most.
const REQUEST_MAX: usize = 4096;
/// Lines of a file in which a bad one is found without its number. The original never tells it,
/// and what it says about short files is matched by scripts.
const SHORT_FILE: u64 = 100;
/// Requests that go one by one before they go together, so that in files of a usual size nothing
/// behind a line that the kernel refuses is done.
const CAREFUL: u64 = 64;
/// Requests that go together later.
const TOGETHER: u32 = 256;

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
    let mut spool = tempfile::spooled_tempfile(MEMORY_MAX);
    let mut lines = Lines::new(BufReader::with_capacity(64 << 10, file));
    if let Err((number, failure)) = compile(&mut lines, &mut spool, posix) {
        if lines.count() > SHORT_FILE {
            say(&[b"line ", number.to_string().as_bytes(), b" of ", path, b":"]);
        }
        return Err(failure);
    }
    spool.rewind().map_err(|e| system(&e))?;
    let mut out = Out::new()?;
    let result = run(BufReader::with_capacity(64 << 10, spool), posix, &mut out);
    out.flush()?;
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

/// What stands in front of what is kept of a line: kind, command, length, number of the line.
const HEAD: usize = 16;
const KIND_REQUEST: u8 = 0;
/// The line itself, for commands that need more than one request.
const KIND_LINE: u8 = 1;
/// The error number of a request that cannot be made.
const KIND_REFUSED: u8 = 2;

fn keep(
    spool: &mut impl Write,
    kind: u8,
    command: Command,
    number: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let mut head = [0; HEAD];
    head[0] = kind;
    head[1] = u8::from(command == Command::Add);
    head[4..8].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
    head[8..16].copy_from_slice(&number.to_ne_bytes());
    spool.write_all(&head)?;
    spool.write_all(bytes)
}

fn compile(
    lines: &mut Lines<impl BufRead>,
    spool: &mut SpooledTempFile,
    posix: bool,
) -> Result<(), (u64, Failure)> {
    let mut spool = BufWriter::with_capacity(64 << 10, spool);
    let mut shared = Shared::default();
    let mut text = Vec::new();
    let mut at = 0;
    // What cannot be read, a directory for one, counts as empty.
    while let Ok(Some(line)) = lines.next() {
        at = line.number;
        one(line, &mut text, &mut shared, &mut spool, posix).map_err(|failure| (at, failure))?;
    }
    spool.flush().map_err(|e| (at, system(&e)))
}

fn one(
    line: Line<'_>,
    text: &mut Vec<u8>,
    shared: &mut Shared,
    spool: &mut impl Write,
    posix: bool,
) -> Result<(), Failure> {
    let request = read(line.text, text, &[], shared, posix)?;
    let command = permitted(&request)?;
    let kept = match command {
        Command::Create | Command::Add => {
            let mut buffer = [0; REQUEST_MAX];
            let mut encoder = Encoder::new(&mut buffer);
            let made = object::flow(&request).and_then(|flow| {
                encode(command, &flow, &mut encoder, 0, 0).map_err(|_| crate::kernel::NO_ROOM)
            });
            match made {
                Ok(()) => keep(spool, KIND_REQUEST, command, line.number, encoder.bytes()),
                Err(Errno(errno)) => {
                    keep(spool, KIND_REFUSED, command, line.number, &errno.to_ne_bytes())
                }
            }
        }
        _ => keep(spool, KIND_LINE, command, line.number, line.text),
    };
    kept.map_err(|e| system(&e))
}

/// Makes a request of a line, whose words follow those of `first`.
fn read(
    line: &[u8],
    text: &mut Vec<u8>,
    first: &[&[u8]],
    shared: &mut Shared,
    posix: bool,
) -> Result<Request, Failure> {
    let mut ranges = Vec::with_capacity(32);
    text.clear();
    split(line, text, &mut ranges)?;
    let mut words: Vec<&[u8]> = Vec::with_capacity(1 + first.len() + ranges.len());
    words.push(b"conntrack");
    words.extend_from_slice(first);
    words.extend(ranges.into_iter().map(|range| &text[range]));
    parse_with(words, posix, shared)
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

/// What was kept of a line.
struct Kept {
    kind: u8,
    command: Command,
    number: u64,
}

fn next(spool: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<Option<Kept>> {
    let mut head = [0; HEAD];
    match spool.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let [kind, command, _, _, l0, l1, l2, l3, number @ ..] = head;
    bytes.resize(u32::from_ne_bytes([l0, l1, l2, l3]) as usize, 0);
    spool.read_exact(bytes)?;
    let command = if command == 1 { Command::Add } else { Command::Create };
    Ok(Some(Kept { kind, command, number: u64::from_ne_bytes(number) }))
}

fn run(mut spool: impl Read, posix: bool, out: &mut Out) -> Result<(), Failure> {
    let kernel = Kernel::open(Command::Create, Table::Conntrack)?;
    let mut loading = Loading {
        pipeline: Pipeline::new(kernel),
        waiting: Vec::new(),
        done: 0,
        progress: Progress::new("loaded"),
    };
    loading.pipeline.limit(1);
    let (mut shared, mut text, mut bytes) = (Shared::default(), Vec::new(), Vec::new());
    while let Some(kept) = next(&mut spool, &mut bytes).map_err(|e| system(&e))? {
        match kept.kind {
            KIND_REQUEST => loading.add(&kept, &bytes)?,
            KIND_REFUSED => {
                loading.exchange()?;
                let errno = bytes.first_chunk().map_or(0, |b| i32::from_ne_bytes(*b));
                return Err(loading.failure(kept.command, Errno(errno)));
            }
            _ => {
                loading.exchange()?;
                let request = read(&bytes, &mut text, &[], &mut shared, posix)?;
                feasible(&request)?;
                match request.command {
                    Some(Command::Delete) => delete::run(&request, out).map(drop)?,
                    Some(Command::Update) => update::run(&request, out).map(drop)?,
                    _ => flush::flush(&request)?,
                }
            }
        }
    }
    loading.exchange()?;
    loading.progress.done();
    Ok(())
}

struct Loading {
    pipeline: Pipeline,
    /// Command and line of each request on its way.
    waiting: Vec<(Command, u64)>,
    done: u64,
    progress: Progress,
}

impl Loading {
    fn add(&mut self, kept: &Kept, request: &[u8]) -> Result<(), Failure> {
        if self.pipeline.push_bytes(request).is_err() {
            self.exchange()?;
            if self.pipeline.push_bytes(request).is_err() {
                return Err(self.failure(kept.command, crate::kernel::NO_ROOM));
            }
        }
        self.waiting.push((kept.command, kept.number));
        Ok(())
    }

    fn exchange(&mut self) -> Result<(), Failure> {
        let mut refused: Option<(usize, Errno)> = None;
        let result = self.pipeline.exchange(|place, answer| {
            if let Err(errno) = answer
                && refused.is_none_or(|(first, _)| place < first)
            {
                refused = Some((place, errno));
            }
        });
        result.map_err(|errno| self.pipeline.kernel().failure(errno))?;
        if let Some((place, errno)) = refused {
            let (command, number) = self.waiting[place];
            if number > SHORT_FILE {
                say(&[b"line ", number.to_string().as_bytes(), b":"]);
            }
            return Err(self.failure(command, errno));
        }
        self.done += self.waiting.len() as u64;
        self.waiting.clear();
        if self.done >= CAREFUL {
            self.pipeline.limit(TOGETHER);
        }
        self.progress.show(self.done);
        Ok(())
    }

    fn failure(&mut self, command: Command, errno: Errno) -> Failure {
        let kernel = self.pipeline.kernel();
        kernel.asks_for(command);
        kernel.failure(errno)
    }
}

/// The conditions in the file that the request names, one filter for each line.
pub(super) fn filters(request: &Request) -> Result<Vec<Filter>, Failure> {
    let path = request.filter_file.as_slice();
    let mut lines = Lines::new(BufReader::new(open(path)?));
    let (mut shared, mut text, mut filters) = (Shared::default(), Vec::new(), Vec::new());
    while let Ok(Some(line)) = lines.next() {
        let at = |failure| {
            say(&[b"line ", line.number.to_string().as_bytes(), b" of ", path, b":"]);
            failure
        };
        let line_request = read(line.text, &mut text, &[b"-L"], &mut shared, false).map_err(at)?;
        if line_request.given.any(SETTINGS) {
            return Err(at(Failure::usage(&[b"only options that match entries go here"])));
        }
        feasible(&line_request).map_err(at)?;
        filters.push(Filter::new(&line_request));
    }
    if filters.is_empty() {
        return Err(Failure::other(&[b"no condition in ", path]));
    }
    Ok(filters)
}
