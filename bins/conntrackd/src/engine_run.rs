//! The engine that the program runs.

use crate::daemon::{Engine, Running, Start, StartError};

/// The engine of this workspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisEngine;

impl Engine for ThisEngine {
    type Running = Never;

    fn start(self, _start: Start) -> Result<Never, StartError> {
        Err(StartError::Other("this build has no engine".to_owned()))
    }
}

/// An engine that cannot be.
#[derive(Debug)]
pub enum Never {}

impl Running for Never {
    fn run(self) -> Result<(), String> {
        match self {}
    }
}
