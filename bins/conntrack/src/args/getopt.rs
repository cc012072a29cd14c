//! Scanning of a command line by the rules of GNU `getopt_long(3)`: options and operands may be
//! mixed, long names may be cut to an unambiguous prefix, short options may share a word.
//!
//! The usual argument crates do not keep to these rules (they take `-o=x` for `-o x` and do not
//! tell which word an error should show), and scripts depend on them.

use super::options::Key;

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Never.
    Nothing,
    /// Always: the rest of the word or the next word.
    Value,
    /// Only attached to its own word.
    Attached,
}

/// A long option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Long {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    pub(crate) key: Key,
}

/// A short option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short {
    pub(crate) letter: u8,
    pub(crate) takes: Takes,
    pub(crate) key: Key,
}

/// The long options that can be given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Longs<'t> {
    /// Those of every command line of the original.
    pub(crate) common: &'t [Long],
    /// Those of the protocol.
    pub(crate) protocol: &'t [Long],
    /// Those that the original does not have. They never make an abbreviation ambiguous that it
    /// takes.
    pub(crate) own: &'t [Long],
}

/// What the scan found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// An option with its value, if it takes one.
    Option(Key, Option<&'a [u8]>),
    /// No such option, or an ambiguous one.
    Unknown,
    /// An option at the end of the line that needs a value.
    NoValue,
    /// A `!` with no option behind it.
    NothingNegated,
    /// No more options.
    End,
}

/// A command line being scanned.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    words: Vec<&'a [u8]>,
    /// The next word.
    index: usize,
    /// Where the scan stands inside `words[index]`; 0 when it stands in front of it.
    letter: usize,
    /// The operands that were passed over and not yet moved behind the options.
    operands: core::ops::Range<usize>,
    stop_at_operand: bool,
    negated: bool,
}

impl<'a> Scanner<'a> {
    /// Starts behind `words[0]`, the name of the program.
    pub(crate) fn new(words: Vec<&'a [u8]>, stop_at_operand: bool) -> Self {
        Self { words, index: 1, letter: 0, operands: 1..1, stop_at_operand, negated: false }
    }

    /// The word in front of the scan: the one that messages show.
    pub(crate) fn shown(&self) -> &'a [u8] {
        self.words.get(self.index.wrapping_sub(1)).copied().unwrap_or_default()
    }

    /// Whether the option that was found last has a `!` for a word of its own in front of it.
    pub(crate) const fn negated(&self) -> bool {
        self.negated
    }

    /// Takes the next word unless it looks like an option or a negation.
    pub(crate) fn take_operand(&mut self) -> Option<&'a [u8]> {
        let word = *self.words.get(self.index)?;
        if matches!(word.first(), Some(b'-' | b'!')) {
            return None;
        }
        self.index += 1;
        Some(word)
    }

    /// The next option, its name sought in `longs` or its letter with `short`.
    pub(crate) fn next(
        &mut self,
        longs: &Longs<'_>,
        short: fn(u8) -> Option<&'static Short>,
    ) -> Item<'a> {
        self.negated = false;
        if self.letter == 0 {
            if !self.at_option() {
                return if self.negated { Item::NothingNegated } else { Item::End };
            }
            if self.words[self.index].starts_with(b"--") {
                let word = self.words[self.index];
                return self.long(&word[2..], longs);
            }
            self.letter = 1;
        }
        self.letter(short)
    }

    /// Moves to the next option word. `false` if there is none, or none behind a `!`.
    fn at_option(&mut self) -> bool {
        if self.stop_at_operand {
            // The `!` is no operand: what it stands in front of must not be passed over.
            self.negated = self.words.get(self.index).is_some_and(|word| *word == b"!");
            self.index += usize::from(self.negated);
        } else {
            self.move_operands();
            while let Some(word) = self.words.get(self.index).filter(|w| is_operand(w)) {
                if self.negated {
                    return false;
                }
                self.negated = *word == b"!";
                self.index += 1;
            }
            self.operands.end = self.index;
        }
        match self.words.get(self.index) {
            None => false,
            Some(word) if *word == b"--" => {
                self.index = self.words.len();
                false
            }
            Some(word) => !is_operand(word),
        }
    }

    /// Brings the options since the operands in front of them.
    fn move_operands(&mut self) {
        let (first, end) = (self.operands.start, self.operands.end);
        if first != end && end != self.index {
            self.words[first..self.index].rotate_left(end - first);
            self.operands = first + (self.index - end)..self.index;
        } else if end != self.index {
            self.operands = self.index..self.index;
        }
    }

    fn long(&mut self, word: &'a [u8], longs: &Longs<'_>) -> Item<'a> {
        self.index += 1;
        let (option, attached) = match longs.exact(word) {
            Some(option) => (option, None),
            None => {
                let (name, attached) = match word.iter().position(|&b| b == b'=') {
                    Some(at) => (&word[..at], Some(&word[at + 1..])),
                    None => (word, None),
                };
                let Some(option) = longs.find(name) else { return Item::Unknown };
                (option, attached)
            }
        };
        match (option.takes, attached) {
            (Takes::Nothing, Some(_)) => Item::Unknown,
            (Takes::Value, None) => match self.words.get(self.index) {
                Some(value) => {
                    self.index += 1;
                    Item::Option(option.key, Some(value))
                }
                None => Item::NoValue,
            },
            (_, attached) => Item::Option(option.key, attached),
        }
    }

    fn letter(&mut self, short: fn(u8) -> Option<&'static Short>) -> Item<'a> {
        let word = self.words[self.index];
        let letter = word[self.letter];
        self.letter += 1;
        let rest = &word[self.letter..];
        if rest.is_empty() {
            self.next_word();
        }
        let Some(option) = short(letter) else { return Item::Unknown };
        let value = match option.takes {
            Takes::Nothing => return Item::Option(option.key, None),
            _ if !rest.is_empty() => {
                self.next_word();
                Some(rest)
            }
            Takes::Attached => None,
            Takes::Value => match self.words.get(self.index) {
                Some(value) => {
                    self.index += 1;
                    Some(*value)
                }
                None => return Item::NoValue,
            },
        };
        Item::Option(option.key, value)
    }

    const fn next_word(&mut self) {
        self.index += 1;
        self.letter = 0;
    }
}

fn is_operand(word: &[u8]) -> bool {
    word.len() < 2 || word[0] != b'-'
}

impl<'t> Longs<'t> {
    /// The option of that name.
    fn exact(&self, name: &[u8]) -> Option<&'t Long> {
        // No two options have the same name. Lines that make flows have most of the protocol.
        let mut all = [self.protocol, self.common, self.own].into_iter();
        all.find_map(|longs| longs.iter().find(|o| o.name.as_bytes() == name))
    }

    /// The option of that name, or the one it is an unambiguous prefix of. Options that do the
    /// same do not make a prefix ambiguous.
    fn find(&self, name: &[u8]) -> Option<&'t Long> {
        let exact = self.exact(name);
        if exact.is_some() {
            return exact;
        }
        let known = || self.common.iter().chain(self.protocol);
        let is_prefix = |o: &&Long| o.name.as_bytes().starts_with(name);
        if known().any(|o| is_prefix(&o)) {
            only(known().filter(is_prefix))
        } else {
            only(self.own.iter().filter(is_prefix))
        }
    }
}

fn only<'t>(mut candidates: impl Iterator<Item = &'t Long>) -> Option<&'t Long> {
    let first = candidates.next()?;
    candidates.all(|o| o.key == first.key && o.takes == first.takes).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::super::options::{LONGS, OWN_LONGS, Opt, short};
    use super::*;

    fn scanner(line: &str) -> Scanner<'_> {
        let words = line.split(' ').map(str::as_bytes).collect();
        Scanner::new(words, false)
    }

    fn next<'a>(s: &mut Scanner<'a>) -> Item<'a> {
        s.next(&Longs { common: LONGS, protocol: &[], own: OWN_LONGS }, short)
    }

    fn value(opt: Opt, text: &str) -> Item<'_> {
        Item::Option(Key::Opt(opt), Some(text.as_bytes()))
    }

    #[test]
    fn values_attached_and_apart() {
        let mut s = scanner("ct extra -s1.1.1.1 more --dst=2.2.2.2 --orig-s 3.3.3.3 -z -- -q 1");
        assert_eq!(next(&mut s), value(Opt::Src, "1.1.1.1"));
        assert_eq!(next(&mut s), value(Opt::Dst, "2.2.2.2"));
        assert_eq!(next(&mut s), value(Opt::Src, "3.3.3.3"));
        assert_eq!(next(&mut s), Item::Option(Key::Opt(Opt::Zero), None));
        assert_eq!(next(&mut s), Item::End);
    }

    #[test]
    fn optional_values_only_attached() {
        let mut s = scanner("ct -n 1.2.3.4 -n1.2.3.4 --src-nat=x");
        assert_eq!(next(&mut s), Item::Option(Key::Opt(Opt::SrcNat), None));
        assert_eq!(s.take_operand(), Some(&b"1.2.3.4"[..]));
        assert_eq!(next(&mut s), value(Opt::SrcNat, "1.2.3.4"));
        assert_eq!(next(&mut s), value(Opt::SrcNat, "x"));
        assert_eq!(s.take_operand(), None);
    }

    #[test]
    fn a_lone_exclamation_mark_negates_the_next_option() {
        let mut s = scanner("ct ! -s 1.1.1.1 -d 2.2.2.2 x ! -z");
        let mut seen = Vec::new();
        while let Item::Option(..) = next(&mut s) {
            seen.push(s.negated());
        }
        assert_eq!(seen, [true, false, true]);
    }

    #[test]
    fn a_negation_is_never_passed_over() {
        for line in ["ct !", "ct ! ! -z", "ct ! x -z", "ct x ! -- -z"] {
            assert_eq!(next(&mut scanner(line)), Item::NothingNegated, "{line}");
        }
        let words = |line: &'static str| line.split(' ').map(str::as_bytes).collect();
        let mut s = Scanner::new(words("ct ! -z x ! -z"), true);
        assert_eq!(next(&mut s), Item::Option(Key::Opt(Opt::Zero), None));
        assert!(s.negated());
        assert_eq!(next(&mut s), Item::End);
        assert_eq!(next(&mut Scanner::new(words("ct ! x"), true)), Item::NothingNegated);
    }

    #[test]
    fn prefixes() {
        for (line, item) in [
            ("ct --s 1", Item::Unknown),
            ("ct --re 1", Item::Unknown),
            ("ct --mask 1", Item::Unknown),
            ("ct --zero=5", Item::Unknown),
            ("ct --dst-na", Item::Option(Key::Opt(Opt::DstNat), None)),
            ("ct --label x", value(Opt::Label, "x")),
            ("ct --src", Item::NoValue),
            ("ct --hel", Item::Option(Key::Command(super::super::options::Command::Help), None)),
            ("ct --any", Item::Option(Key::Opt(Opt::AnyNat), None)),
            ("ct --any-a x", value(Opt::AnyAddr, "x")),
            ("ct --timeout- 3", Item::Unknown),
        ] {
            assert_eq!(next(&mut scanner(line)), item, "{line}");
        }
    }

    /// The word in front of the scan is the offending one, except inside a cluster.
    #[test]
    fn shown_word() {
        for (line, shown) in [
            ("ct --foo=1 x", "--foo=1"),
            ("ct -zy", "-zy"),
            ("ct -xz", "ct"),
            ("ct -zo", "-zo"),
            ("ct extra -W", "-W"),
            ("ct -p", "-p"),
        ] {
            let mut s = scanner(line);
            while let Item::Option(..) = next(&mut s) {}
            assert_eq!(s.shown(), shown.as_bytes(), "{line}");
        }
    }
}
