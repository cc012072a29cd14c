//! What a call of the program does, from its arguments to its exit status.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use engine::command::Request;
use engine::log::Level;
use rustix::fs::{Mode, OFlags};

use crate::args::{self, Action, Command};
use crate::conf;
use crate::conf::environment::Machine;
use crate::conf::settings::Settings;
use crate::daemon::{self, Engine};
use crate::log::print_early;
use crate::system::error_text;
use crate::{check, client, text};

/// Octets of the largest configuration file: half a million networks to ignore. Whoever names a
/// larger one most likely meant another file.
pub const FILE_MAX: u64 = 16 << 20;

/// Runs the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>, engine: impl Engine) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_else(|| "conntrackd".into());
    let mut warnings = Vec::new();
    let command = args::parse(arguments, &mut warnings);
    for warning in warnings {
        print_early(Level::Warning, warning.as_bytes());
    }
    let command = match command {
        Ok(command) => command,
        Err(failure) => {
            if failure.shows_usage() {
                print(&text::usage(&program.to_string_lossy()));
            }
            print_early(Level::Error, &failure.text());
            return ExitCode::FAILURE;
        }
    };
    match command.action {
        Action::Help => print(&text::usage(&program.to_string_lossy())),
        Action::Version => print(&text::version()),
        Action::Check => {
            return with_file(&command, |file| {
                let (report, status) = check::check(&command.config, file);
                print(&report);
                ExitCode::from(status)
            });
        }
        Action::Request(request) => return configured(&command, |s| ask(s, request)),
        Action::Daemon { background } => {
            return configured(&command, |settings| daemon::run(settings, background, engine));
        }
    }
    ExitCode::SUCCESS
}

/// Reads the configuration and goes on with it.
fn configured(command: &Command, go_on: impl FnOnce(&Settings) -> u8) -> ExitCode {
    with_file(command, |file| understood(file, go_on))
}

/// Goes on with the octets of the configuration.
fn with_file(command: &Command, go_on: impl FnOnce(&[u8]) -> ExitCode) -> ExitCode {
    // Everything that is made from here on is for its owner alone.
    rustix::process::umask(Mode::from_raw_mode(0o177));
    match read_file(&command.config) {
        Ok(file) => go_on(&file),
        Err(Unread::Directory) => {
            print_early(Level::Error, b"the configuration file is a directory");
            match command.action {
                Action::Check => ExitCode::FAILURE,
                // The original's scanner gives up on what it opened and cannot read, with this
                // status.
                _ => ExitCode::from(2),
            }
        }
        Err(unread) => {
            let path = command.config.as_os_str().as_bytes();
            let reason = match unread {
                Unread::Special => ": it is no regular file".to_owned(),
                Unread::TooLarge => format!(": it is larger than {FILE_MAX} octets"),
                Unread::Broken(error) => format!(": {}", error_text(&error)),
                Unread::Closed | Unread::Directory => String::new(),
            };
            let text = [b"can't open config file `", path, b"'", reason.as_bytes()].concat();
            print_early(Level::Error, &text);
            ExitCode::FAILURE
        }
    }
}

/// Why a configuration was not read.
enum Unread {
    /// It is not there, or not for us.
    Closed,
    /// It is a directory.
    Directory,
    /// It is a pipe or a device, which need not have an end.
    Special,
    /// It is larger than [`FILE_MAX`].
    TooLarge,
    /// Reading fails.
    Broken(io::Error),
}

/// Reads a configuration, and waits for nobody.
fn read_file(path: &Path) -> Result<Vec<u8>, Unread> {
    // Otherwise a pipe would wait for somebody who writes to it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(path).map_err(|_| Unread::Closed)?;
    let kind = file.metadata().map_err(Unread::Broken)?.file_type();
    if kind.is_dir() {
        return Err(Unread::Directory);
    }
    if !kind.is_file() {
        return Err(Unread::Special);
    }
    let mut octets = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut octets).map_err(Unread::Broken)?;
    // The length is counted, as that of a file of the kernel may be 0 at any size.
    if octets.len() as u64 > FILE_MAX {
        return Err(Unread::TooLarge);
    }
    Ok(octets)
}

fn understood(file: &[u8], go_on: impl FnOnce(&Settings) -> u8) -> ExitCode {
    let reading = conf::read(file, &Machine);
    for diagnostic in &reading.diagnostics {
        print_early(diagnostic.level, &diagnostic.text);
        if let Some(hint) = &diagnostic.hint {
            print_early(diagnostic.level, hint.as_bytes());
        }
    }
    match &reading.settings {
        Some(settings) => ExitCode::from(go_on(settings)),
        None => ExitCode::FAILURE,
    }
}

fn ask(settings: &Settings, request: Option<Request>) -> u8 {
    let asked = match &settings.control_path {
        Some(path) => client::ask(path, request, &mut io::stdout().lock()),
        None => Err(client::Failure::Nobody),
    };
    match asked {
        Ok(()) => 0,
        // Whoever reads the output has enough.
        Err(client::Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(client::Failure::Output(error)) => {
            let text = format!("can't write the answer: {}", error_text(&error));
            print_early(Level::Error, text.as_bytes());
            1
        }
        Err(client::Failure::Refused) => {
            print_early(Level::Error, b"the daemon could not do all of it, its log tells why");
            1
        }
        Err(client::Failure::Broken) => {
            print_early(Level::Error, b"the daemon's answer broke off");
            1
        }
        Err(client::Failure::Ended) => {
            print_early(Level::Error, b"the daemon has ended before it answered");
            1
        }
        Err(client::Failure::Nobody) => {
            print_early(
                Level::Error,
                b"can't connect: is conntrackd running? appropriate permissions?",
            );
            1
        }
    }
}

fn print(text: &str) {
    // Nobody reads it: no reason to fail.
    let _ = io::stdout().write_all(text.as_bytes());
}
