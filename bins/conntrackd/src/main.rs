//! The `conntrackd` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: io::LargePages = io::LargePages;

fn main() -> ExitCode {
    conntrackd::program::run(std::env::args_os(), conntrackd::engine_run::ThisEngine)
}
