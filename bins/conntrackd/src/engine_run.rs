//! The engine that the program runs.

use std::io;

use engine::run::{Daemon, Parts};

use crate::daemon::{Engine, Running, Start, StartError};

/// The engine of this workspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisEngine;

impl Engine for ThisEngine {
    type Running = Daemon;

    fn start(self, start: Start) -> Result<Daemon, StartError> {
        let Start { config, control, log, flow_log, console, heartbeat } = start;
        Daemon::start(Parts { config, control, log, flow_log, console, heartbeat }).map_err(
            |error| match error {
                engine::run::StartError::Link(error) => {
                    StartError::Link(io::Error::from_raw_os_error(error.errno().unwrap_or(0)))
                }
                other => StartError::Other(other.to_string()),
            },
        )
    }
}

impl Running for Daemon {
    fn run(self) -> Result<(), String> {
        Self::run(self).map_err(|error| error.to_string())
    }
}
