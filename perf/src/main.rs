//! Load generators, and the comparison with the original side by side.
//!
//! | command | does |
//! |---|---|
//! | `flood` | creates, updates or deletes flows in a namespace, at a rate or as fast as possible |
//! | `bare` | times a bare loop of batched inserts: what the kernel alone costs |
//! | `compare` | runs the original and ours in turns and prints the ratios |
//! | `cli` | does the same with the command lines |
//! | `filter` | runs ours with filters that act in the kernel and in user space, in turns |
//! | `soak` | keeps flows changing for a while, and checks tables, memory and logs at the end |

#![forbid(unsafe_code)]

mod bare;
mod cli;
mod compare;
mod filter;
mod flood;
mod report;
mod soak;

use std::ffi::OsString;
use std::process::ExitCode;
use std::str::FromStr;

use lexopt::prelude::*;
use shardtrack_tests::peer::Mode;

const USAGE: &str = "\
usage: shardtrack-perf COMMAND [OPTIONS]

  flood    create (or --update, --delete, --churn) flows in the namespace --netns NAME, else here
  bare     time a bare loop of batched inserts in a namespace of its own
  compare  run the original and ours in turns; --record appends to perf/RESULTS.md
  cli      the same with the command lines
  filter   what an event costs by where the filter acts; --record appends to perf/RESULTS.md
  soak     a pair of ours whose flows change all the time; fails unless tables are equal at the end,
           memory is steady and no log has an error; --record appends to perf/RESULTS.md

  --flows N      how many flows (500000)
  --first N      number of the first flow (0)
  --rate N       operations per second, 0 for as fast as possible (0; compare, filter: 60000, soak: 20000)
  --rounds N     how often everything is measured (3)
  --original     compare the original with itself
  --hash-size N  compare: HashSize of both, as many chains as the original's caches have (524288)
  --mode M       soak: ftfw, notrack or alarm (ftfw)
  --seconds N    soak: for how long (600)
  --part PART    listings, changes or events only (cli)
";

/// What the command line says.
#[derive(Debug)]
struct Options {
    command: String,
    flows: u32,
    first: u32,
    rate: Option<u32>,
    rounds: u32,
    netns: Option<String>,
    operation: flood::Operation,
    record: bool,
    original: bool,
    hash_size: u32,
    part: Option<Part>,
    mode: Mode,
    seconds: u32,
}

/// A mode by its name.
fn mode_of(name: &str) -> Result<Mode, lexopt::Error> {
    Ok(match name {
        "ftfw" => Mode::Ftfw,
        "notrack" => Mode::Notrack,
        "alarm" => Mode::Alarm,
        other => return Err(format!("there is no mode `{other}'").into()),
    })
}

/// A part of the comparison of command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `-L`, with and without filters.
    Listings,
    /// `-U`, `-D`, `-R`.
    Changes,
    /// `-E`.
    Events,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "listings" => Ok(Self::Listings),
            "changes" => Ok(Self::Changes),
            "events" => Ok(Self::Events),
            _ => Err(format!("no part of the comparison is called {name}")),
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, lexopt::Error> {
    let mut options = Options {
        command: String::new(),
        flows: 500_000,
        first: 0,
        rate: None,
        rounds: 3,
        netns: None,
        operation: flood::Operation::Create,
        record: false,
        original: false,
        hash_size: 1 << 19,
        part: None,
        mode: Mode::Ftfw,
        seconds: 600,
    };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(command) if options.command.is_empty() => options.command = command.string()?,
            Long("flows") => options.flows = parser.value()?.parse()?,
            Long("first") => options.first = parser.value()?.parse()?,
            Long("rate") => options.rate = Some(parser.value()?.parse()?),
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("netns") => options.netns = Some(parser.value()?.string()?),
            Long("update") => options.operation = flood::Operation::Update,
            Long("delete") => options.operation = flood::Operation::Delete,
            Long("churn") => options.operation = flood::Operation::Churn,
            Long("record") => options.record = true,
            Long("part") => options.part = Some(parser.value()?.parse()?),
            Long("original") => options.original = true,
            Long("hash-size") => options.hash_size = parser.value()?.parse()?,
            Long("mode") => options.mode = mode_of(&parser.value()?.string()?)?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprint!("shardtrack-perf: {error}\n\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let done = match options.command.as_str() {
        "flood" => flood::run(&options),
        "bare" => bare::run(&options),
        "compare" => compare::run(&options),
        "cli" => cli::run(&options),
        "filter" => filter::run(&options),
        "soak" => soak::run(&options),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardtrack-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
