//! Reads a file: the general section, and what all sections share.
//!
//! What an item means is done when it was read, so that warnings come in the order of the file
//! and a wrong value ends the reading before a syntax error behind it is seen.

use std::collections::HashSet;

use engine::config::Network;

use super::diagnostic::Diagnostic;
use super::environment::Environment;
use super::helper::StackItem;
use super::hint::A_WORD;
use super::lexer::Lexer;
use super::settings::{At, Facility, LOG_FILE, Scheduler, Settings, path};
use super::token::{Class, Place, Token};

/// The reading ended with an error, which is the last of the diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// What every reading function gives.
pub type Parse<T = ()> = Result<T, Stop>;

/// Longest path of a log or lock file in bytes.
const FILE_PATH_MAX: usize = 256;
/// Longest path of the control socket in bytes.
const SOCKET_PATH_MAX: usize = 107;

/// The first word of an item or block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Item<'a> {
    /// How many blocks are around it.
    pub depth: usize,
    /// The word; empty if it is none of the language.
    pub word: &'a str,
    /// Where it stands.
    pub place: Place,
}

/// The state of a reading.
pub struct Parser<'a> {
    lexer: Lexer<'a>,
    /// A word that was looked at and not taken.
    peeked: Option<Token<'a>>,
    /// Where the word stands that was taken last.
    last: Place,
    /// The item that is being read.
    pub item: Item<'a>,
    /// The blocks that are open, the innermost last.
    pub blocks: Vec<Item<'a>>,
    /// All items in the order of the file.
    pub outline: Vec<Item<'a>>,
    /// What is known of the machine.
    pub environment: &'a dyn Environment,
    /// What the original accepts without a word and does not do as written, with what to do. Only
    /// told to whoever asks for a check.
    pub notes: Vec<Diagnostic>,
    /// What was said so far.
    pub diagnostics: Vec<Diagnostic>,
    /// What was read so far.
    pub settings: Settings,
    /// Networks of all filters as they were written, to find repeated ones.
    pub networks: HashSet<Network>,
    /// Settings of helpers that no `Type` has used yet.
    pub helper_stack: Vec<StackItem>,
}

impl<'a> Parser<'a> {
    /// Starts at the beginning of `file`.
    pub fn new(file: &'a [u8], environment: &'a dyn Environment) -> Self {
        Self {
            lexer: Lexer::new(file),
            peeked: None,
            last: Place::default(),
            item: Item::default(),
            blocks: Vec::new(),
            outline: Vec::new(),
            environment,
            notes: Vec::new(),
            diagnostics: Vec::new(),
            settings: Settings::default(),
            networks: HashSet::new(),
            helper_stack: Vec::new(),
        }
    }

    /// Reads the whole file.
    pub fn file(&mut self) -> Parse {
        let mut sync_seen = false;
        let mut stats_seen = false;
        loop {
            let token = self.take();
            self.begin(token);
            match token.reserved() {
                "General" => self.block(Self::general_item)?,
                "Sync" => {
                    self.sync_section()?;
                    sync_seen = true;
                    self.refuse_both(stats_seen)?;
                }
                "Stats" => {
                    self.stats_section(token.place.line)?;
                    stats_seen = true;
                    self.refuse_both(sync_seen)?;
                }
                "Helper" => self.block(Self::helper_section_item)?,
                _ if token.class == Class::End => break,
                _ if token.class == Class::Word && token.text == b"Engine" => {
                    self.block(Self::engine_item)?;
                }
                _ => return self.unexpected(token),
            }
        }
        self.check_commit_timeout();
        Ok(())
    }

    fn refuse_both(&mut self, other_seen: bool) -> Parse {
        if other_seen {
            return self.fail("cannot use both `Stats' and `Sync' clauses in conntrackd.conf");
        }
        Ok(())
    }

    /// A fixed timeout for commits makes no sense if nothing is ever committed.
    fn check_commit_timeout(&mut self) {
        let Some(sync) = &mut self.settings.sync else {
            return;
        };
        if sync.commit_secs != 0 && sync.disable_external_cache {
            sync.commit_secs = 0;
            self.warn(
                "`CommitTimeout' can't be combined with `DisableExternalCache', \
                 ignoring this option. Fix your configuration file.",
            );
        }
    }

    fn general_item(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "HashSize" => self.settings.hash_size = self.number_or(65_536)?,
            "HashLimit" => self.settings.hash_limit = self.number_or(262_144)?,
            "LogFile" => {
                self.settings.log_file = self.log_file(LOG_FILE, "LogFile")?.map(path);
            }
            "Syslog" => {
                let other = self.settings.stats.as_ref().and_then(|stats| stats.value.syslog);
                let now = self.settings.syslog;
                self.settings.syslog = self.syslog(now, other, "")?;
            }
            "LockFile" => {
                let file = self.path()?;
                if file.len() > FILE_PATH_MAX {
                    return self.fail("LockFile path is longer than 256 characters");
                }
                self.settings.lock_file = path(file);
            }
            "UNIX" => self.block(Self::unix_item)?,
            "NetlinkBufferSize" | "SocketBufferSize" => {
                self.settings.buffer_bytes = self.number()?;
            }
            "NetlinkBufferSizeMaxGrowth"
            | "SocketBufferSizeMaxGrowth"
            | "SocketBufferSizeMaxGrown" => self.settings.buffer_max_bytes = self.number()?,
            "NetlinkOverrunResync" => self.settings.overrun_resync_secs = self.overrun_resync()?,
            "NetlinkEventsReliable" => self.settings.reliable = self.bool()?,
            "EventIterationLimit" => {
                self.settings.iteration_limit = Some(self.number_or(100)?);
            }
            "PollSecs" => {
                let value = self.number()?;
                if value == 0 {
                    return self.fail("`PollSecs' clause must be > 0");
                }
                self.settings.poll_secs = Some(At { value, line: token.place.line });
            }
            "Nice" => {
                self.expect(Class::Signed, "a number with its sign")?;
                self.warn_moot(
                    "deprecated nice configuration, ignoring. The nice value can be set \
                     externally with nice(1) and renice(1).",
                );
            }
            "Scheduler" => self.block(Self::scheduler_item)?,
            "Systemd" => self.settings.systemd = self.bool()?,
            "Filter" => self.filter()?,
            _ => return self.unexpected(token),
        }
        Ok(())
    }

    fn unix_item(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "Path" => {
                let file = self.path()?;
                if file.len() > SOCKET_PATH_MAX {
                    return self.fail("Path is longer than 107 characters");
                }
                self.settings.control_path = Some(path(file));
            }
            "Backlog" => {
                self.number()?;
                self.warn_moot("deprecated unix backlog configuration, ignoring.");
            }
            _ => return self.unexpected(token),
        }
        Ok(())
    }

    fn scheduler_item(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "Type" => {
                let word = self.word()?;
                self.settings.scheduler = match word.to_ascii_lowercase().as_str() {
                    "rr" => Some(Scheduler::RoundRobin),
                    "fifo" => Some(Scheduler::Fifo),
                    _ => return self.fail(format!("unknown scheduler `{word}'")),
                };
            }
            "Priority" => {
                self.settings.priority = self.number()?;
                if self.settings.priority > 99 {
                    return self.fail("`Priority' must be [0, 99]\n");
                }
            }
            _ => return self.unexpected(token),
        }
        Ok(())
    }

    fn overrun_resync(&mut self) -> Parse<Option<u32>> {
        let token = self.take();
        match token.class {
            Class::Bool(true) | Class::Number(0) => Ok(Some(30)),
            Class::Bool(false) => Ok(None),
            Class::Number(secs) => Ok(Some(secs)),
            _ => self.unexpected_for(token, "a number of seconds, on or off"),
        }
    }

    /// The value of a `LogFile`; nothing if it is `off`.
    pub fn log_file(&mut self, default: &'static str, name: &str) -> Parse<Option<&'a [u8]>> {
        let token = self.take();
        match token.class {
            Class::Bool(true) => Ok(Some(default.as_bytes())),
            Class::Bool(false) => Ok(None),
            Class::Path if token.text.len() > FILE_PATH_MAX => {
                self.fail(format!("{name} path is longer than 256 characters"))
            }
            Class::Path => Ok(Some(token.text)),
            _ => self.unexpected_for(token, "an absolute path, on or off"),
        }
    }

    /// The value of a `Syslog` whose section has `now` and the other section `other`.
    pub fn syslog(
        &mut self,
        now: Option<Facility>,
        other: Option<Facility>,
        stop: &str,
    ) -> Parse<Option<Facility>> {
        let token = self.take();
        match token.class {
            Class::Bool(on) => Ok(on.then_some(Facility::DAEMON)),
            Class::Word => {
                let name = token.string();
                let Some(facility) = Facility::named(&name) else {
                    self.warn(format!("'{name}' is not a known syslog facility, ignoring{stop}"));
                    return Ok(now);
                };
                if other.is_some_and(|other| other != facility) {
                    self.warn("conflicting Syslog facility values, defaulting to General");
                }
                Ok(Some(facility))
            }
            _ => self.unexpected_for(token, "a facility, on or off"),
        }
    }

    /// The next word of the file.
    pub fn take(&mut self) -> Token<'a> {
        let token = match self.peeked.take() {
            Some(token) => token,
            None => self.lexer.next(&mut self.diagnostics),
        };
        self.last = token.place;
        token
    }

    /// Notes that an item begins with this word.
    pub fn begin(&mut self, token: Token<'a>) {
        let word = match token.class {
            Class::Word | Class::Reserved => std::str::from_utf8(token.text).unwrap_or_default(),
            _ => "",
        };
        self.item = Item { depth: self.blocks.len(), word, place: token.place };
        self.outline.push(self.item);
    }

    /// The next word of the file, which stays there.
    pub fn peek(&mut self) -> Token<'a> {
        let token = self.take();
        self.peeked = Some(token);
        token
    }

    /// An opening brace, items, a closing brace; `item` is called with the first word of each.
    pub fn block(&mut self, item: impl FnMut(&mut Self, Token<'a>) -> Parse) -> Parse {
        self.expect(Class::Symbol(b'{'), "`{'")?;
        self.items(item)
    }

    /// An opening brace, behind which the items of a block are read one by one.
    pub fn enter(&mut self) -> Parse {
        self.expect(Class::Symbol(b'{'), "`{'")?;
        self.blocks.push(self.item);
        Ok(())
    }

    /// Whether a word is the brace that closes the innermost block.
    pub fn leaves(&mut self, token: Token<'a>) -> bool {
        let leaves = token.class == Class::Symbol(b'}');
        if leaves {
            self.blocks.pop();
        }
        leaves
    }

    /// Items up to a closing brace.
    pub fn items(&mut self, mut item: impl FnMut(&mut Self, Token<'a>) -> Parse) -> Parse {
        self.blocks.push(self.item);
        loop {
            let token = self.take();
            if self.leaves(token) {
                return Ok(());
            }
            self.begin(token);
            item(self, token)?;
        }
    }

    /// A word of exactly this class, which `name` describes.
    fn expect(&mut self, class: Class, name: &str) -> Parse<Token<'a>> {
        let token = self.take();
        if token.class == class { Ok(token) } else { self.unexpected_for(token, name) }
    }

    /// A number.
    pub fn number(&mut self) -> Parse<u32> {
        let token = self.take();
        match token.class {
            Class::Number(value) => {
                let written = String::from_utf8_lossy(token.text);
                if written.parse() != Ok(value) {
                    self.note(
                        format!("`{written}' is too large: it is read as {value}"),
                        "write a number below 4294967296",
                    );
                }
                Ok(value)
            }
            _ => self.unexpected_for(token, "a number"),
        }
    }

    /// A number, 0 standing for `default`.
    pub fn number_or(&mut self, default: u32) -> Parse<u32> {
        Ok(match self.number()? {
            0 => default,
            value => value,
        })
    }

    /// A yes or no.
    pub fn bool(&mut self) -> Parse<bool> {
        let token = self.take();
        match token.class {
            Class::Bool(value) => Ok(value),
            _ => self.unexpected_for(token, "on or off"),
        }
    }

    /// A word that is not reserved.
    pub fn word(&mut self) -> Parse<String> {
        Ok(self.expect(Class::Word, A_WORD)?.string())
    }

    /// What looks like an address.
    pub fn address(&mut self) -> Parse<String> {
        Ok(self.expect(Class::Address, "an address")?.string())
    }

    fn path(&mut self) -> Parse<&'a [u8]> {
        Ok(self.expect(Class::Path, "an absolute path")?.text)
    }

    /// Adds a warning.
    pub fn warn(&mut self, text: impl Into<Vec<u8>>) {
        self.diagnostics.push(Diagnostic::warning(self.last, text));
    }

    /// Adds a warning about a setting that does nothing.
    pub fn warn_moot(&mut self, text: impl Into<Vec<u8>>) {
        let warning = Diagnostic::warning(self.last, text);
        self.diagnostics.push(Diagnostic { moot: true, ..warning });
    }

    /// Adds what a check and the daemon's log tell.
    pub fn note(&mut self, text: impl Into<Vec<u8>>, advice: &str) {
        let hint = Some(advice.to_owned());
        self.notes.push(Diagnostic { hint, ..Diagnostic::warning(self.last, text) });
    }

    /// Ends the reading.
    pub fn fail<T>(&mut self, text: impl Into<Vec<u8>>) -> Parse<T> {
        self.diagnostics.push(Diagnostic::error(self.last, text));
        Err(Stop)
    }

    /// Ends the reading at a word that cannot stand where it does.
    pub fn unexpected<T>(&mut self, token: Token<'a>) -> Parse<T> {
        let hint = self.hint(token, None);
        self.refuse(token, hint)
    }

    /// Ends the reading at a word where something else is wanted.
    fn unexpected_for<T>(&mut self, token: Token<'a>, wanted: &str) -> Parse<T> {
        let hint = self.hint(token, Some(wanted));
        self.refuse(token, hint)
    }

    fn refuse<T>(&mut self, token: Token<'a>, hint: Option<String>) -> Parse<T> {
        // The original prints the symbol as a C string.
        let symbol = token.text.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut text =
            format!("parsing config file in line ({}), symbol '", token.place.line).into_bytes();
        text.extend_from_slice(symbol);
        text.extend_from_slice(b"': syntax error");
        self.diagnostics.push(Diagnostic { hint, ..Diagnostic::error(token.place, text) });
        Err(Stop)
    }
}
