//! The command line: every argument is judged by its second character alone, one after another.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use engine::command::{Format, Object, Request, Scope, Side, StatKind};

/// Where the configuration is unless `-C` says it.
pub const CONFIG_FILE: &str = "/etc/conntrackd/conntrackd.conf";
/// Longest path of a configuration file in bytes.
const CONFIG_PATH_MAX: usize = 4096;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// `--check`: judge the configuration.
    Check,
    /// Be the daemon.
    Daemon {
        /// `-d`: in the background.
        background: bool,
    },
    /// Ask a running daemon. A word that an option does not know, and that is no error by itself,
    /// leaves nothing to ask for; the daemon is then asked for nothing, as the original does.
    Request(Option<Request>),
}

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub action: Action,
    /// The configuration file.
    pub config: PathBuf,
}

/// Why a command line was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An option that does not exist.
    Unknown(OsString),
    /// Options that do not go together.
    Invalid,
    /// `-C` at the end.
    NoConfig,
    /// A word that the option before it does not know.
    Parameter {
        /// The word.
        word: OsString,
        /// The option's letter.
        option: char,
    },
}

impl Failure {
    /// Whether the usage is printed.
    pub fn shows_usage(&self) -> bool {
        !matches!(self, Self::Parameter { .. })
    }

    /// The line that says what is wrong.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Self::Unknown(argument) => [b"Unknown option: ", argument.as_bytes()].concat(),
            Self::Invalid => b"Invalid parameters".to_vec(),
            Self::NoConfig => b"Missing config filename".to_vec(),
            Self::Parameter { word, option } => {
                let mut text = b"unknown parameter `".to_vec();
                text.extend_from_slice(word.as_bytes());
                text.extend_from_slice(format!("' for option `-{option}'").as_bytes());
                text
            }
        }
    }
}

/// Words of `-c`, `-F`, `-R`.
const SCOPES: [(&str, Scope); 2] = [("ct", Scope::Flows), ("expect", Scope::Expects)];
/// Words of `-i` and `-e`.
const OBJECTS: [(&str, Object); 2] = [("ct", Object::Flow), ("expect", Object::Expect)];
/// Words of `-f`.
const CACHES: [(&str, Request); 2] =
    [("internal", Request::FlushInternal), ("external", Request::FlushExternal)];
/// Words of `-s` in the order in which beginnings of them are looked for. The last is ours.
const STATISTICS: [(&str, StatKind); 12] = [
    ("network", StatKind::Network),
    ("cache", StatKind::Cache),
    ("runtime", StatKind::Runtime),
    ("multicast", StatKind::Link),
    ("link", StatKind::Link),
    ("rsqueue", StatKind::ResendQueue),
    ("process", StatKind::Process),
    ("queue", StatKind::Queue),
    ("ct", StatKind::Flows),
    ("expect", StatKind::Expects),
    ("engine", StatKind::Engine),
    ("json", StatKind::Json),
];

/// Understands a command line without its program name. What is to be said about it goes to
/// `warnings`, also if it is not understood in the end.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    warnings: &mut Vec<&'static str>,
) -> Result<Command, Failure> {
    let mut reader = Reader {
        arguments: arguments.into_iter().collect::<Vec<_>>().into_iter().peekable(),
        background: false,
        asks: false,
        check: false,
        request: None,
        config: PathBuf::from(CONFIG_FILE),
        warnings,
    };
    let mut done = None;
    while let Some(argument) = reader.arguments.next() {
        match argument.as_bytes().get(1) {
            _ if argument == "--check" => reader.check = true,
            Some(b'h') => done = Some(Action::Help),
            Some(b'v') => done = Some(Action::Version),
            Some(letter) => reader.option(*letter, &argument)?,
            None => return Err(Failure::Unknown(argument)),
        }
        if done.is_some() {
            break;
        }
    }
    let action = match done {
        Some(action) => action,
        // It starts nothing and asks nobody.
        None if reader.check && (reader.asks || reader.background) => return Err(Failure::Invalid),
        None if reader.check => Action::Check,
        None if reader.asks => Action::Request(reader.request),
        None => Action::Daemon { background: reader.background },
    };
    Ok(Command { action, config: reader.config })
}

struct Reader<'a> {
    arguments: std::iter::Peekable<std::vec::IntoIter<OsString>>,
    background: bool,
    asks: bool,
    check: bool,
    request: Option<Request>,
    config: PathBuf,
    warnings: &'a mut Vec<&'static str>,
}

impl Reader<'_> {
    fn option(&mut self, letter: u8, argument: &OsStr) -> Result<(), Failure> {
        match letter {
            b'd' if self.asks => return Err(Failure::Invalid),
            b'd' => self.background = true,
            b'C' => self.config()?,
            b'x' => self.format(Format::Xml)?,
            // Ours, so other words with this letter stay unknown.
            b'o' if argument == "-o" => self.output()?,
            b'c' | b'f' | b'F' | b'i' | b'e' | b's' | b'R' | b'B' | b'n' | b't' | b'k' => {
                if self.background {
                    return Err(Failure::Invalid);
                }
                self.asks = true;
                if let Some(request) = self.request(letter)? {
                    self.request = Some(request);
                }
            }
            _ => return Err(Failure::Unknown(argument.to_owned())),
        }
        Ok(())
    }

    fn request(&mut self, letter: u8) -> Result<Option<Request>, Failure> {
        Ok(match letter {
            b'c' => self.optional(&SCOPES, Scope::All).map(Request::Commit),
            b'F' => self.optional(&SCOPES, Scope::All).map(Request::FlushKernel),
            b'R' => self.optional(&SCOPES, Scope::All).map(Request::Resync),
            b'i' => self.dump(Side::Internal),
            b'e' => self.dump(Side::External),
            b'f' => Some(self.required('f', &CACHES, Request::FlushCaches(Scope::All))?),
            b's' => Some(self.statistics()?),
            b'B' => Some(Request::Bulk),
            b'n' => Some(Request::RequestResync),
            b't' => Some(Request::DelayedFlush),
            _ => Some(Request::Stop),
        })
    }

    fn dump(&mut self, side: Side) -> Option<Request> {
        let object = self.optional(&OBJECTS, Object::Flow)?;
        Some(Request::Dump(side, object, Format::Plain))
    }

    fn statistics(&mut self) -> Result<Request, Failure> {
        let multicast = self.word().is_some_and(|word| find(&STATISTICS, word) == Some(3));
        if multicast {
            self.warnings.push("use `link' instead of `multicast' as parameter.");
        }
        self.required('s', &STATISTICS, StatKind::Flows).map(Request::Statistics)
    }

    /// `-x` and `-o` say how the dump is written that was asked for last.
    fn format(&mut self, wanted: Format) -> Result<(), Failure> {
        match &mut self.request {
            Some(Request::Dump(_, _, format @ Format::Plain)) => {
                *format = wanted;
                Ok(())
            }
            _ => Err(Failure::Invalid),
        }
    }

    fn output(&mut self) -> Result<(), Failure> {
        let format = self.required('o', &[("json", Format::Json)], Format::Plain)?;
        match format {
            Format::Plain => Err(Failure::Invalid),
            format => self.format(format),
        }
    }

    fn config(&mut self) -> Result<(), Failure> {
        let mut path = self.arguments.next().ok_or(Failure::NoConfig)?.into_vec();
        if path.len() > CONFIG_PATH_MAX {
            self.warnings
                .push("the configuration path is longer than 4096 characters, the rest is cut");
            path.truncate(CONFIG_PATH_MAX);
        }
        self.config = OsString::from_vec(path).into();
        Ok(())
    }

    /// The next argument if it can belong to the option before it.
    fn word(&mut self) -> Option<&[u8]> {
        let word = self.arguments.peek()?.as_bytes();
        (word.first() != Some(&b'-')).then_some(word)
    }

    /// The value of the next argument, or `default` if that cannot belong here. A word that is
    /// not in the table has no value; it stays and is an argument of its own.
    fn optional<T: Copy>(&mut self, table: &[(&str, T)], default: T) -> Option<T> {
        let Some(word) = self.word() else {
            return Some(default);
        };
        let value = find(table, word).map(|at| table[at].1)?;
        self.arguments.next();
        Some(value)
    }

    /// The same, but another word is an error.
    fn required<T: Copy>(
        &mut self,
        option: char,
        table: &[(&str, T)],
        default: T,
    ) -> Result<T, Failure> {
        match self.optional(table, default) {
            Some(value) => Ok(value),
            None => {
                let word = self.arguments.next().unwrap_or_default();
                Err(Failure::Parameter { word, option })
            }
        }
    }
}

/// The first of the names that begins with `word`.
fn find<T>(table: &[(&str, T)], word: &[u8]) -> Option<usize> {
    table.iter().position(|(name, _)| name.as_bytes().starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(line: &str) -> Result<Option<u32>, Failure> {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let words = words.map(|word| OsString::from(word.replace('~', "")));
        parse(words, &mut Vec::new()).map(|command| match command.action {
            Action::Request(request) => request.and_then(Request::id),
            _ => None,
        })
    }

    #[test]
    fn requests_have_the_numbers_of_the_original() {
        let table = [
            ("-c", 46),
            ("-c ct", 18),
            ("-c e", 42),
            ("-f", 45),
            ("-f int", 33),
            ("-f external", 34),
            ("-F", 43),
            ("-F ct", 0),
            ("-F expect", 38),
            ("-i", 16),
            ("-i expect", 40),
            ("-e", 17),
            ("-e expect", 41),
            ("-i -x", 24),
            ("-e -x", 25),
            ("-i expect -x", 47),
            ("-e expect -x", 48),
            ("-s", 21),
            ("-s n", 28),
            ("-s ~", 28),
            ("-s c", 29),
            ("-s r", 30),
            ("-s rs", 32),
            ("-s m", 31),
            ("-s l", 31),
            ("-s p", 35),
            ("-s q", 36),
            ("-s ct", 21),
            ("-s e", 37),
            ("-s en", 100),
            ("-s j", 101),
            ("-i -o json", 102),
            ("-e -o json", 103),
            ("-i expect -o json", 104),
            ("-e expect -o json", 105),
            ("-R", 44),
            ("-R ct", 1),
            ("-R expect", 39),
            ("-B", 22),
            ("-n", 23),
            ("-t", 26),
            ("-k -s", 21),
            ("-i -e", 17),
            ("xkx", 20),
        ];
        for (line, id) in table {
            assert_eq!(ids(line), Ok(Some(id)), "{line}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(ids("-x -i"), Err(Failure::Invalid));
        assert_eq!(ids("-i -x -x"), Err(Failure::Invalid));
        assert_eq!(ids("-i -x -o json"), Err(Failure::Invalid));
        assert_eq!(ids("-i -o"), Err(Failure::Invalid));
        assert_eq!(ids("-s -o json"), Err(Failure::Invalid));
        let output = Failure::Parameter { word: "xml".into(), option: 'o' };
        assert_eq!(ids("-i -o xml"), Err(output));
        assert_eq!(ids("-s -d"), Err(Failure::Invalid));
        assert_eq!(ids("-d -s"), Err(Failure::Invalid));
        assert_eq!(ids("-C"), Err(Failure::NoConfig));
        assert_eq!(ids("-i bogus"), Err(Failure::Unknown("bogus".into())));
        let parameter = Failure::Parameter { word: "networks".into(), option: 's' };
        assert_eq!(ids("-s networks"), Err(parameter));
        assert_eq!(ids("-i xx"), Err(Failure::Invalid));
        assert_eq!(ids("-s -i xCx conf"), Ok(Some(21)));
        assert_eq!(ids("-i xCx conf"), Ok(None));
        assert_eq!(ids("-d"), Ok(None));
        assert_eq!(ids("-s -h"), Ok(None));
        assert_eq!(ids("--check -s"), Err(Failure::Invalid));
        assert_eq!(ids("-d --check"), Err(Failure::Invalid));
        assert_eq!(ids("--chec"), Err(Failure::Unknown("--chec".into())));
        let check = parse(["--check".into()], &mut Vec::new()).map(|command| command.action);
        assert_eq!(check, Ok(Action::Check));
    }
}
