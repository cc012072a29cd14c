//! The `conntrackd` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    conntrackd::program::run(std::env::args_os(), conntrackd::engine_run::ThisEngine)
}
