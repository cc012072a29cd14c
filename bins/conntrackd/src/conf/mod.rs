//! The configuration language.
//!
//! `lexer` cuts a file into words, `parser` and its neighbours give them their meaning in the
//! order of the file, [`settings::Settings`] is everything that was said, and `convert` makes of
//! it what the engine takes, or refuses what the engine cannot do.

pub mod address;
pub mod convert;
pub mod diagnostic;
pub mod environment;
pub mod filter;
pub mod helper;
pub mod hint;
pub mod lexer;
pub mod outline;
pub mod own;
pub mod parser;
pub mod settings;
pub mod shape;
pub mod sync;
pub mod token;
pub mod vocabulary;

use diagnostic::Diagnostic;
use environment::Environment;
use outline::Outline;
use settings::Settings;

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The settings; nothing if the last diagnostic is an error.
    pub settings: Option<Settings>,
    /// Warnings, and the error that ended the reading.
    pub diagnostics: Vec<Diagnostic>,
    /// Further warnings, which go to the log of the daemon and not to every client's terminal.
    pub notes: Vec<Diagnostic>,
    /// Where everything stands.
    pub outline: Outline,
}

/// Reads the bytes of a file.
pub fn read(file: &[u8], environment: &dyn Environment) -> Reading {
    let mut parser = parser::Parser::new(file, environment);
    let settings = match parser.file() {
        Ok(()) => {
            let remark = |note: &Diagnostic| {
                format!("line {}: {}", note.place.line, String::from_utf8_lossy(&note.text))
            };
            let remarks = parser.notes.iter().map(remark).collect();
            Some(Settings { remarks, ..parser.settings })
        }
        Err(parser::Stop) => None,
    };
    let outline = Outline::new(&parser.outline);
    Reading { settings, diagnostics: parser.diagnostics, notes: parser.notes, outline }
}
