//! Everything of `conntrackd` but its engine: the configuration language, the command line, the
//! client, the rendering of figures, the log, the start and the end of the daemon.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "only the program itself uses this library")]

pub mod args;
pub mod check;
pub mod client;
pub mod conf;
pub mod daemon;
pub mod engine_run;
pub mod lock;
pub mod log;
pub mod notify;
pub mod program;
pub mod stats;
pub mod system;
pub mod text;
