//! The `conntrack` command line: shows and changes the kernel's connection tracking tables.
//!
//! Command lines, output, messages and exit statuses are those of conntrack-tools, so that what
//! was written for that works with this.
//!
//! The way of a command line: [`args`] makes a request of it, [`run`] does it, with [`filter`] for what
//! is meant, [`object`] for what is made, [`kernel`], [`ahead`] and [`pipeline`] for the requests, and [`show`]
//! and [`output`] for what is printed.

#![forbid(unsafe_code)]

mod ahead;
mod args;
mod failure;
mod filter;
mod kernel;
mod object;
mod output;
mod pipeline;
mod run;
mod show;

use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use failure::Failure;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    io::die_of_broken_pipes();
    let words: Vec<Vec<u8>> = std::env::args_os().map(|word| word.into_vec()).collect();
    let posix = std::env::var_os("POSIXLY_CORRECT").is_some();
    match command_line(&words, posix) {
        Ok(()) if output::is_incomplete() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure::complain(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

fn command_line(words: &[Vec<u8>], posix: bool) -> Result<(), Failure> {
    // `-R FILE` is no option: it is looked for in front of all others.
    if let [_, first, path, ..] = words
        && (first == b"-R" || first == b"--load-file")
    {
        return run::load(path, posix);
    }
    let request = args::parse(words.iter().map(Vec::as_slice).collect(), posix)?;
    run::run(&request, words.first().map_or(b"conntrack", |program| program))
}
