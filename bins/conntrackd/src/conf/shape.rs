//! How long a word of each kind is at the head of some bytes; 0 where there is none.

/// A letter, then letters, digits, `.`, `-` and `_`.
pub fn word(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(first) if first.is_ascii_alphabetic() => bytes
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric() && !b".-_".contains(byte))
            .unwrap_or(bytes.len()),
        _ => 0,
    }
}

/// Decimal digits.
pub fn digits(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len())
}

/// The longest of `words` in any case; a `|` may stand for each letter, as in the original.
pub fn any_case(bytes: &[u8], words: &[&str]) -> usize {
    let fits = |word: &&str| {
        bytes.len() >= word.len()
            && word.bytes().zip(bytes).all(|(w, b)| b.eq_ignore_ascii_case(&w) || *b == b'|')
    };
    words.iter().filter(|word| fits(word)).map(|word| word.len()).max().unwrap_or(0)
}

/// The old name of the alarm mode, whose last letter must be a capital one.
pub fn persistent(bytes: &[u8]) -> usize {
    match any_case(bytes, &["persistent"]) {
        0 => 0,
        length if bytes[length - 1] == b't' => 0,
        length => length,
    }
}

/// A slash and everything up to a quotation mark, a space or the end of the line.
pub fn path(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'/') => bytes.iter().position(|byte| b"\"\n ".contains(byte)).unwrap_or(bytes.len()),
        _ => 0,
    }
}

/// Four groups of digits joined by dots, and a slash with digits if there is one.
pub fn ipv4(bytes: &[u8]) -> usize {
    let mut end = 0;
    for group in 0..4 {
        if group > 0 {
            if bytes.get(end) != Some(&b'.') {
                return 0;
            }
            end += 1;
        }
        match digits(&bytes[end..]) {
            0 => return 0,
            length => end += length,
        }
    }
    with_prefix(bytes, end)
}

/// What looks like an IPv6 address: `::` with up to seven pieces on either side, a piece being
/// one to four hexadecimal digits and a colon that may be missing; or one to eight groups of
/// hexadecimal digits joined by colons. A slash with digits may follow.
pub fn ipv6(bytes: &[u8]) -> usize {
    if !bytes.first().is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':') {
        return 0;
    }
    let head = pieces(bytes, Ends(1));
    let middle = Ends(skip_pairs(bytes, head));
    let short = pieces(bytes, middle);
    let long = groups(bytes);
    // The longest end with its prefix: a prefix can follow any end, so all are tried.
    Ends(short.0 | long.0).map(|end| with_prefix(bytes, end)).max().unwrap_or(0)
}

/// A set of positions, and the way through it. The longest address has 7 pieces of 5 bytes, `::`
/// and 7 such pieces again, so that the highest position is 72.
#[derive(Clone, Copy)]
struct Ends(u128);

impl Iterator for Ends {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let position = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(position)
    }
}

/// Where zero to seven pieces may end that begin at one of `starts`.
fn pieces(bytes: &[u8], starts: Ends) -> Ends {
    let mut all = starts;
    let mut last = starts;
    for _ in 0..7 {
        let mut next = 0;
        for start in last {
            for length in 1..=hexadecimal(bytes, start) {
                let end = start + length;
                next |= 1 << end;
                if bytes.get(end) == Some(&b':') {
                    next |= 1 << (end + 1);
                }
            }
        }
        last = Ends(next);
        all.0 |= next;
    }
    all
}

/// The positions behind a `::` that begins at one of `starts`.
fn skip_pairs(bytes: &[u8], starts: Ends) -> u128 {
    starts
        .filter(|start| bytes.get(*start..start + 2) == Some(b"::"))
        .fold(0, |ends, start| ends | 1 << (start + 2))
}

/// Where one to eight groups joined by colons may end.
fn groups(bytes: &[u8]) -> Ends {
    let mut ends = 0;
    let mut start = 0;
    for _ in 0..8 {
        let length = hexadecimal(bytes, start);
        for length in 1..=length {
            ends |= 1 << (start + length);
        }
        if length == 0 || bytes.get(start + length) != Some(&b':') {
            break;
        }
        start += length + 1;
    }
    Ends(ends)
}

/// Hexadecimal digits from `start`, at most four.
fn hexadecimal(bytes: &[u8], start: usize) -> usize {
    bytes.iter().skip(start).take(4).take_while(|byte| byte.is_ascii_hexdigit()).count()
}

/// `end`, or the end of the slash and digits that follow it.
fn with_prefix(bytes: &[u8], end: usize) -> usize {
    if bytes.get(end) != Some(&b'/') {
        return end;
    }
    match digits(&bytes[end + 1..]) {
        0 => end,
        length => end + 1 + length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_end_where_they_end() {
        assert_eq!(ipv4(b"1.2.3.4.5"), 7);
        assert_eq!(ipv4(b"1.2.3"), 0);
        assert_eq!(ipv4(b"1.2.3.4/"), 7);
        assert_eq!(ipv4(b"1.2.3.4/24x"), 10);
        assert_eq!(ipv6(b"::"), 2);
        assert_eq!(ipv6(b":::"), 2);
        assert_eq!(ipv6(b"1:::2"), 5);
        assert_eq!(ipv6(b"1:2:3:4:5:6:7:8:9"), 15);
        assert_eq!(ipv6(b"abcd1234::1"), 11);
        assert_eq!(ipv6(b"abcde"), 4);
        assert_eq!(ipv6(b"1:"), 1);
        assert_eq!(ipv6(b"fe80::1/64 "), 10);
        assert_eq!(ipv6(b"eth0"), 1);
        assert_eq!(ipv6(b"xyz"), 0);
        assert_eq!(ipv6(&[b'a'; 400]), 4);
    }
}
