//! Lines of a file of command lines, and their words.

use std::io::{self, BufRead};

use crate::failure::Failure;

/// Octets of a line; what is longer counts as several.
const LINE_MAX: usize = 10239;
/// Octets of a word, and one more.
const WORD_MAX: usize = 1024;
/// Words of a line, and one more.
const WORDS_MAX: usize = 254;

/// A line that says something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) text: &'a [u8],
    /// Counts from 1.
    pub(crate) number: u64,
}

/// Reads lines, without blanks in front, empty lines and comments.
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
    /// The line before was cut, so what follows has its number.
    cut: bool,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: Vec::with_capacity(512), number: 0, cut: false }
    }

    /// The next line.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.buffer.clear();
            let mut piece = io::Read::take(&mut self.input, LINE_MAX as u64);
            if piece.read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(None);
            }
            self.number += u64::from(!self.cut);
            self.cut = self.buffer.last() != Some(&b'\n');
            let begin = self.buffer.iter().position(|b| !matches!(b, b' ' | b'\t'));
            if let Some(begin) = begin
                && !matches!(self.buffer[begin], b'\n' | b'#')
            {
                return Ok(Some(Line { text: &self.buffer[begin..], number: self.number }));
            }
        }
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

/// Splits a line into words and appends where they stand in `text`, which receives their octets.
///
/// Double quotes hold words together and end a word where they close; between them a backslash
/// takes what follows as it is.
pub(crate) fn split(
    line: &[u8],
    text: &mut Vec<u8>,
    words: &mut Vec<core::ops::Range<usize>>,
) -> Result<(), Failure> {
    let mut begin = text.len();
    let (mut quoted, mut escaped) = (false, false);
    for &b in line {
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
            return Err(Failure::usage(&[b"Parameter too long!"]));
        }
        if words.len() >= WORDS_MAX {
            return Err(Failure::usage(&[b"too many arguments"]));
        }
    }
    // An open quote holds all that is left.
    if text.len() > begin {
        words.push(begin..text.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let (mut text, mut words) = (Vec::new(), Vec::new());
        split(line.as_bytes(), &mut text, &mut words).unwrap();
        words.into_iter().map(|w| String::from_utf8(text[w].to_vec()).unwrap()).collect()
    }

    #[test]
    fn quotes() {
        assert_eq!(words("-A  -p\t\"udp\" x\n"), ["-A", "-p", "udp", "x"]);
        assert_eq!(words("\"ud\"p ud\"p\""), ["ud", "p", "udp"]);
        assert_eq!(words("a \"\" b"), ["a", "", "b"]);
        assert_eq!(words("\"a \\\" b\" c"), ["a \" b", "c"]);
        assert_eq!(words("a \"b c"), ["a", "b c"]);
    }

    #[test]
    fn lines_have_numbers() {
        let text = b"# c\n\n  -A\nx";
        let mut lines = Lines::new(&text[..]);
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.text, line.number), (&b"-A\n"[..], 3));
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.text, line.number), (&b"x"[..], 4));
        assert!(lines.next().unwrap().is_none());
    }
}
