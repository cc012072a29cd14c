//! Load generators, and the comparison with the original side by side.
//!
//! | command | does |
//! |---|---|
//! | `flood` | creates, updates or deletes flows in a namespace, at a rate or as fast as possible |
//! | `bare` | times a bare loop of batched inserts: what the kernel alone costs |
//! | `compare` | runs the original and ours in turns and prints the ratios |
//! | `cli` | does the same with the command lines |

#![forbid(unsafe_code)]

mod bare;
mod cli;
mod compare;
mod flood;
mod report;

use std::ffi::OsString;
use std::process::ExitCode;
use std::str::FromStr;

use lexopt::prelude::*;

const USAGE: &str = "\
usage: shardtrack-perf COMMAND [OPTIONS]

  flood    create (or --update, --delete, --churn) flows in the namespace --netns NAME, else here
  bare     time a bare loop of batched inserts in a namespace of its own
  compare  run the original and ours in turns; --record appends to perf/RESULTS.md
  cli      the same with the command lines

  --flows N      how many flows (500000)
  --first N      number of the first flow (0)
  --rate N       operations per second, 0 for as fast as possible (0; compare: 60000)
  --rounds N     how often everything is measured (3)
  --original     compare the original with itself
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
    part: Option<Part>,
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
        part: None,
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
