//! The `conntrack` command line: shows and changes the kernel's connection tracking tables.
//!
//! Command lines, output, messages and exit statuses are those of conntrack-tools, so that what
//! was written for that works with this.
//!
//! The way of a command line: [`args`] makes a request of it, [`run`] does it with [`kernel`] and
//! [`filter`], and [`output`] takes what `proto_ctnl::render` prints.

#![forbid(unsafe_code)]

mod args;
mod failure;
mod filter;
mod kernel;
mod output;
mod run;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::ExitCode;

use failure::Failure;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    io::die_of_broken_pipes();
    let words: Vec<Vec<u8>> = std::env::args_os().map(|word| word.into_vec()).collect();
    let program = words.first().cloned().unwrap_or_default();
    let posix = std::env::var_os("POSIXLY_CORRECT").is_some();
    let result = load_file(&words)
        .and_then(|()| args::parse(words, posix))
        .and_then(|request| run::run(&request, &program));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure::complain(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// `-R FILE` is no option: it is looked for in front of all others.
fn load_file(words: &[Vec<u8>]) -> Result<(), Failure> {
    match words {
        [_, first, name, ..] if first == b"-R" || first == b"--load-file" => {
            let path = if name == b"-" { b"/dev/stdin" } else { name.as_slice() };
            Err(match File::open(OsStr::from_bytes(path)) {
                Ok(_) => Failure::missing("loading a file of commands (-R)"),
                Err(_) => Failure::usage(&[b"Failed to open file ", path, b" for reading"]),
            })
        }
        _ => Ok(()),
    }
}
