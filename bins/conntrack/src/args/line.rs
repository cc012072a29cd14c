//! Lines of a file of command lines, and their words.

use std::io::{self, BufRead};
use std::ops::Range;

use crate::failure::Failure;

/// Octets of a line; what is longer counts as several.
const LINE_MAX: usize = 10239;
/// Octets of a word, and one more.
const WORD_MAX: usize = 1024;
/// Words of a line, and one more.
const WORDS_MAX: usize = 254;

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it stands, from its first word on.
    pub(crate) place: Range<usize>,
    /// Counts from 1.
    pub(crate) number: u64,
}

impl Line {
    /// Refuses a line of `text` with an octet 0, which no argument of a program can hold. The original
    /// passes silently over what stands behind it.
    pub(crate) fn check(&self, text: &[u8]) -> Result<(), Failure> {
        if !text[self.place.clone()].contains(&0) {
            return Ok(());
        }
        Err(Failure::other(&[b"line ", self.number.to_string().as_bytes(), b" has a NUL octet"]))
    }
}

/// Reads lines, without blanks in front, empty lines and comments.
pub(crate) struct Lines<R> {
    input: R,
    number: u64,
    /// The line before was cut, so what follows has its number.
    cut: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) const fn new(input: R) -> Self {
        Self { input, number: 0, cut: false }
    }

    /// Appends the next line to `text`.
    pub(crate) fn next(&mut self, text: &mut Vec<u8>) -> io::Result<Option<Line>> {
        let start = text.len();
        loop {
            let mut piece = io::Read::take(&mut self.input, LINE_MAX as u64);
            if piece.read_until(b'\n', text)? == 0 {
                return Ok(None);
            }
            self.number += u64::from(!self.cut);
            self.cut = text.last() != Some(&b'\n');
            let blanks = text[start..].iter().position(|b| !matches!(b, b' ' | b'\t'));
            if let Some(begin) = blanks.map(|blanks| start + blanks)
                && !matches!(text[begin], b'\n' | b'#')
            {
                return Ok(Some(Line { place: begin..text.len(), number: self.number }));
            }
            text.truncate(start);
        }
    }

    /// How many lines were read.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// How many lines there are, those after the last that was read included.
    pub(crate) fn count(mut self) -> u64 {
        let mut rest = vec![0; 64 << 10];
        let mut more = 0;
        while let Ok(n @ 1..) = self.input.read(&mut rest) {
            more += rest[..n].iter().filter(|&&b| b == b'\n').count() as u64;
        }
        self.number + more
    }
}

/// Splits the line at a place of `text` into words, and appends to `words` where those stand.
///
/// Double quotes hold words together and end a word where they close; between them a backslash
/// takes what follows as it is. Words of a line with quotes are appended to `text`.
pub(crate) fn split(
    text: &mut Vec<u8>,
    line: Range<usize>,
    words: &mut Vec<Range<usize>>,
) -> Result<(), Failure> {
    if text[line.clone()].contains(&b'"') {
        return quoted(text, line, words);
    }
    let most = words.len() + WORDS_MAX;
    let mut begin = line.start;
    for word in text[line.clone()].split(is_blank) {
        let end = begin + word.len();
        if word.len() >= WORD_MAX {
            return Err(too_long());
        }
        if !word.is_empty() {
            words.push(begin..end);
        }
        // The last word of a line that has no newline is not counted.
        if words.len() >= most && end < line.end {
            return Err(too_many());
        }
        begin = end + 1;
    }
    Ok(())
}

/// What stands between words. Most octets are told from it by the first comparison.
fn is_blank(b: &u8) -> bool {
    *b <= b' ' && matches!(b, b' ' | b'\t' | b'\n')
}

fn quoted(
    text: &mut Vec<u8>,
    line: Range<usize>,
    words: &mut Vec<Range<usize>>,
) -> Result<(), Failure> {
    let most = words.len() + WORDS_MAX;
    let mut begin = text.len();
    let (mut quoted, mut escaped) = (false, false);
    for at in line {
        let b = text[at];
        let mut ends = false;
        match b {
            _ if escaped => {
                escaped = false;
                text.push(b);
            }
            b'\\' if quoted => escaped = true,
            b'"' => {
                // Also an empty pair of quotes makes a word.
                ends = quoted;
                quoted = !quoted;
            }
            b' ' | b'\t' | b'\n' if !quoted => {
                if text.len() > begin {
                    words.push(begin..text.len());
                }
                begin = text.len();
            }
            _ => text.push(b),
        }
        if ends {
            words.push(begin..text.len());
            begin = text.len();
        }
        if text.len() - begin >= WORD_MAX {
            return Err(too_long());
        }
        if words.len() >= most {
            return Err(too_many());
        }
    }
    // An open quote holds all that is left.
    if text.len() > begin {
        words.push(begin..text.len());
    }
    Ok(())
}

fn too_long() -> Failure {
    Failure::usage(&[b"Parameter too long!"])
}

fn too_many() -> Failure {
    Failure::usage(&[b"too many arguments"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_words(line: &str) -> Result<Vec<String>, Failure> {
        // What stands in front is no part of the line.
        let (mut text, mut words) = (b"x ".to_vec(), Vec::new());
        words.push(0..1);
        text.extend_from_slice(line.as_bytes());
        let place = 2..text.len();
        split(&mut text, place, &mut words)?;
        Ok(words[1..]
            .iter()
            .map(|w| String::from_utf8(text[w.clone()].to_vec()).unwrap())
            .collect())
    }

    fn words(line: &str) -> Vec<String> {
        try_words(line).unwrap()
    }

    #[test]
    fn quotes() {
        assert_eq!(words("-A  -p\t\"udp\" x\n"), ["-A", "-p", "udp", "x"]);
        assert_eq!(words("\"ud\"p ud\"p\""), ["ud", "p", "udp"]);
        assert_eq!(words("a \"\" b"), ["a", "", "b"]);
        assert_eq!(words("\"a \\\" b\" c"), ["a \" b", "c"]);
        assert_eq!(words("a \"b c"), ["a", "b c"]);
        assert_eq!(words("-A  -p\tudp x \n"), ["-A", "-p", "udp", "x"]);
    }

    /// With and without quotes, which are split by code of their own.
    #[test]
    fn bounds_of_words() {
        for quote in ["", "\"\""] {
            let few = format!("{quote} {}", "w ".repeat(WORDS_MAX - 2));
            assert!(try_words(&few).is_ok(), "{quote}");
            let many = format!("{quote} {}", "w ".repeat(WORDS_MAX));
            assert_eq!(try_words(&many), Err(too_many()), "{quote}");
            let short = format!("{quote} {}", "w".repeat(WORD_MAX - 1));
            assert_eq!(words(&short).last().unwrap().len(), WORD_MAX - 1, "{quote}");
            let long = format!("{quote} {}", "w".repeat(WORD_MAX));
            assert_eq!(try_words(&long), Err(too_long()), "{quote}");
        }
    }

    #[test]
    fn lines_have_numbers() {
        let input = b"# c\n\n  -A\nx";
        let (mut lines, mut text) = (Lines::new(&input[..]), Vec::new());
        assert_eq!(lines.next(&mut text).unwrap(), Some(Line { place: 2..5, number: 3 }));
        assert_eq!(lines.next(&mut text).unwrap(), Some(Line { place: 5..6, number: 4 }));
        assert_eq!(text, b"  -A\nx");
        assert_eq!(lines.next(&mut text).unwrap(), None);
    }
}
