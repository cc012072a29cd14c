//! Cuts a configuration file into words: always the longest that fits, and of two kinds that fit
//! equally well the one named first in [`Lexer::longest`].

use super::diagnostic::Diagnostic;
use super::shape;
use super::token::{Class, ModeName, Place, Token, is_reserved};

/// Reads one file.
pub struct Lexer<'a> {
    /// What is left of the file.
    rest: &'a [u8],
    /// Where `rest` begins.
    place: Place,
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of `file`.
    pub fn new(file: &'a [u8]) -> Self {
        Self { rest: file, place: Place { line: 1, column: 1 } }
    }

    /// The next word. Old names of modes are remarked upon wherever they stand.
    pub fn next(&mut self, remarks: &mut Vec<Diagnostic>) -> Token<'a> {
        self.skip();
        let (class, length) = self.longest();
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        let place = self.place;
        self.go_on(length);
        if let Class::Mode(_) = class {
            remark_old_mode(text, place, remarks);
        }
        Token { class, text, place }
    }

    /// Leaves `length` octets of this line behind.
    fn go_on(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.place.column = self.place.column.saturating_add(length);
    }

    /// Leaves out blanks and comments; the last line may end with the file.
    fn skip(&mut self) {
        while let Some(byte) = self.rest.first() {
            let length = match byte {
                b' ' | b'\t' | b'\r' => 1,
                b'\n' => {
                    self.place = Place { line: self.place.line.saturating_add(1), column: 0 };
                    1
                }
                b'#' => {
                    let end = self.rest.iter().position(|byte| *byte == b'\n');
                    end.unwrap_or(self.rest.len())
                }
                _ => return,
            };
            self.rest = &self.rest[length..];
            self.go_on(length);
        }
    }

    /// What the rest begins with, and how long that is.
    fn longest(&self) -> (Class, usize) {
        let rest = self.rest;
        let Some(first) = rest.first() else {
            return (Class::End, 0);
        };
        // In the order in which the kinds win; only a longer one replaces an earlier one.
        let mut best = (Class::Symbol(*first), 0);
        let mut offer = |class: Class, length: usize| {
            if length > best.1 {
                best = (class, length);
            }
        };
        let word = shape::word(rest);
        if is_reserved(&rest[..word]) {
            offer(Class::Reserved, word);
        }
        offer(Class::Bool(true), shape::any_case(rest, &["on", "yes"]));
        offer(Class::Bool(false), shape::any_case(rest, &["off", "no"]));
        let digits = shape::digits(rest);
        offer(Class::Number(number(&rest[..digits])), digits);
        if matches!(first, b'+' | b'-') {
            match shape::digits(&rest[1..]) {
                0 => {}
                digits => offer(Class::Signed, digits + 1),
            }
        }
        offer(Class::Address, shape::ipv4(rest));
        offer(Class::Address, shape::ipv6(rest));
        offer(Class::Path, shape::path(rest));
        offer(Class::Mode(ModeName::Alarm), shape::any_case(rest, &["alarm"]));
        offer(Class::Mode(ModeName::Alarm), shape::persistent(rest));
        offer(Class::Mode(ModeName::Ftfw), shape::any_case(rest, &["ftfw", "nack"]));
        offer(Class::Mode(ModeName::Notrack), shape::any_case(rest, &["notrack"]));
        offer(Class::Word, word);
        if best.1 == 0 { (best.0, 1) } else { best }
    }
}

/// Reads digits as `atoi` does: what does not fit 64 bits is clamped, the lower 32 bits stay.
pub fn number(digits: &[u8]) -> u32 {
    let value = digits.iter().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0')))
    });
    (value & 0xffff_ffff) as u32
}

fn remark_old_mode(text: &[u8], place: Place, remarks: &mut Vec<Diagnostic>) {
    if text.eq_ignore_ascii_case(b"nack") {
        remarks.push(Diagnostic::warning(
            place,
            "Now `nack' mode is called `ftfw'. Please, update your conntrackd.conf file.\n",
        ));
    } else if text.len() == "persistent".len() {
        remarks.push(Diagnostic::warning(
            place,
            "Now `persistent' mode is called `alarm'. Please, update your conntrackd.conf file.",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(file: &[u8]) -> Vec<(Class, String)> {
        let mut lexer = Lexer::new(file);
        let mut remarks = Vec::new();
        let mut tokens = Vec::new();
        loop {
            let token = lexer.next(&mut remarks);
            if token.class == Class::End {
                return tokens;
            }
            tokens.push((token.class, token.string()));
        }
    }

    fn one(text: &str) -> Class {
        let tokens = all(text.as_bytes());
        assert_eq!(tokens.len(), 1, "{tokens:?}");
        assert_eq!(tokens[0].1, text);
        tokens[0].0
    }

    #[test]
    fn the_longest_word_wins_and_the_earlier_kind_at_equal_length() {
        assert_eq!(one("General"), Class::Reserved);
        assert_eq!(one("Generals"), Class::Word);
        assert_eq!(one("oN"), Class::Bool(true));
        assert_eq!(one("o|"), Class::Bool(true));
        assert_eq!(one("nothing"), Class::Word);
        assert_eq!(one("cafe"), Class::Address);
        assert_eq!(one("cafes"), Class::Word);
        assert_eq!(one("1234"), Class::Number(1234));
        assert_eq!(one("10.0.0.0/8"), Class::Address);
        assert_eq!(one("2001:db8::/32"), Class::Address);
        assert_eq!(one("::"), Class::Address);
        assert_eq!(one("/"), Class::Path);
        assert_eq!(one("/a}#\t\r"), Class::Path);
        assert_eq!(one("PERSISTENT"), Class::Mode(ModeName::Alarm));
        assert_eq!(one("persistenT"), Class::Mode(ModeName::Alarm));
        assert_eq!(one("persistent"), Class::Word);
        assert_eq!(one("FtFw"), Class::Mode(ModeName::Ftfw));
        assert_eq!(one("+5"), Class::Signed);
        assert_eq!(one("4294967396"), Class::Number(100));
        assert_eq!(one("99999999999999999999"), Class::Number(u32::MAX));
    }

    #[test]
    fn what_is_not_a_word_is_cut() {
        let cut = |text: &str| all(text.as_bytes()).into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(cut("64k"), ["64", "k"]);
        assert_eq!(cut("0x10"), ["0", "x10"]);
        assert_eq!(cut("6.4"), ["6", ".", "4"]);
        assert_eq!(cut("0-3,5"), ["0", "-3", ",", "5"]);
        assert_eq!(cut("a#b\nc#"), ["a", "c"]);
        assert_eq!(all(b"a # \0\xff").len(), 1);
        assert_eq!(cut("::ffff:1.2.3.4"), ["::ffff:1", ".", "2", ".", "3", ".", "4"]);
        assert_eq!(all(b"\xef{")[0].0, Class::Symbol(0xef));
    }
}
