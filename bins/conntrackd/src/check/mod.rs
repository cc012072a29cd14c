//! `--check`: reads a configuration, compares it with the machine, and says what is wrong with it
//! and what to do. Nothing is started, opened for others or changed.

mod general;
mod links;
mod replication;

use std::fmt::Write as _;
use std::path::Path;

use engine::log::Level;

use crate::conf::convert::{Refusal, convert};
use crate::conf::environment::Machine;
use crate::conf::outline::Outline;
use crate::conf::settings::Settings;
use crate::conf::token::Place;
use crate::conf::{self, Reading};

/// Exit status if nothing is wrong.
const CLEAN: u8 = 0;
/// Exit status if a daemon would not start, or not do its work.
const ERRORS: u8 = 1;
/// Exit status if a daemon works, but probably not as meant.
const WARNINGS: u8 = 2;

/// How bad a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A daemon does not start with it, or does not do its work.
    Error,
    /// It is probably not meant.
    Warning,
    /// It does nothing and may stay.
    Note,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    kind: Kind,
    /// Where; nothing for what is about the whole file.
    place: Option<Place>,
    /// What is wrong.
    text: String,
    /// What to do.
    advice: String,
}

/// All that was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Something with which a daemon does not start or does not do its work.
    fn error(&mut self, place: Option<Place>, text: impl Into<String>, advice: impl Into<String>) {
        let (text, advice) = (text.into(), advice.into());
        self.0.push(Finding { kind: Kind::Error, place, text, advice });
    }

    /// Something that is probably not meant.
    fn warning(
        &mut self,
        place: Option<Place>,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let (text, advice) = (text.into(), advice.into());
        self.0.push(Finding { kind: Kind::Warning, place, text, advice });
    }

    fn count(&self, kind: Kind) -> usize {
        self.0.iter().filter(|finding| finding.kind == kind).count()
    }
}

/// Checks what stands in a file. Gives the report and the exit status.
pub fn check(path: &Path, file: &[u8]) -> (String, u8) {
    let Reading { settings, diagnostics, notes, outline } = conf::read(file, &Machine);
    let mut findings = Findings::default();
    for diagnostic in diagnostics.into_iter().chain(notes) {
        let text = String::from_utf8_lossy(&diagnostic.text).trim_end().to_owned();
        // Devices are looked at with their links, where more can be said.
        let is_device = text.ends_with(" is an invalid interface");
        let (kind, standard_advice) = match diagnostic.level {
            Level::Error => (Kind::Error, "the file is read up to here"),
            _ if diagnostic.moot => (Kind::Note, "it does nothing and may stay"),
            _ => (Kind::Warning, "the daemon starts without it"),
        };
        let advice = diagnostic.hint.unwrap_or_else(|| standard_advice.to_owned());
        if !is_device {
            findings.0.push(Finding { kind, place: Some(diagnostic.place), text, advice });
        }
    }
    if let Some(settings) = &settings {
        check_settings(settings, &outline, &mut findings);
    }
    report(path, findings)
}

fn check_settings(settings: &Settings, outline: &Outline, findings: &mut Findings) {
    for (entry, first) in outline.repeated() {
        let text = format!("`{}' was set in line {} already", entry.word, first.line);
        findings.warning(Some(entry.place), text, "this one counts: remove the other");
    }
    general::check(settings, outline, findings);
    if let Some(sync) = &settings.sync {
        replication::check(sync, outline, findings);
        if settings.poll_secs.is_some() {
            replication::check_polling(sync, outline, findings);
        }
        links::check(sync, outline, findings);
    }
    match convert(settings, &Machine) {
        Ok(_) => {}
        // The links were looked at one by one.
        Err(Refusal::Channel(_)) if findings.count(Kind::Error) > 0 => {}
        Err(refusal @ Refusal::Channel(_)) => {
            findings.error(outline.find(&["Sync"]), refusal.to_string(), "look at the links");
        }
        Err(ref refusal @ Refusal::Helper { ref name, place }) => {
            let advice = match name.as_str() {
                "amanda" | "ftp" | "sane" | "tftp" => {
                    format!("remove the section: the kernel does it itself, nf_conntrack_{name}")
                }
                _ => "remove the section".to_owned(),
            };
            findings.error(Some(place), refusal.to_string(), advice);
        }
    }
}

fn report(path: &Path, mut findings: Findings) -> (String, u8) {
    findings.0.sort_by_key(|finding| finding.place.unwrap_or_default());
    let mut out = String::new();
    for Finding { kind, place, text, advice } in &findings.0 {
        let kind = kind.name();
        let _ = write!(out, "{}:", path.display());
        if let Some(Place { line, column }) = place {
            let _ = write!(out, "{line}:{column}:");
        }
        let _ = writeln!(out, " {kind}: {text}\n\t{advice}");
    }
    let [errors, warnings, notes] =
        [Kind::Error, Kind::Warning, Kind::Note].map(|kind| findings.count(kind));
    let _ = write!(out, "{}: errors: {errors}, warnings: {warnings}", path.display());
    let _ = match notes {
        0 => writeln!(out),
        _ => writeln!(out, ", notes: {notes}"),
    };
    let status = match (errors, warnings) {
        (0, 0) => CLEAN,
        (0, _) => WARNINGS,
        _ => ERRORS,
    };
    (out, status)
}
