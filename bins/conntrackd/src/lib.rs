//! Everything of `conntrackd` but its engine: the configuration language, the command line, the
//! client, the rendering of figures, the log.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "only the program itself uses this library")]

pub mod args;
pub mod client;
pub mod conf;
pub mod stats;
pub mod system;
pub mod text;
