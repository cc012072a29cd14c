//! Numbers as the C library reads them.

/// What `strtoul(text, .., 0)` makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CInt {
    /// The value, with a minus applied modulo 2^64; all ones if it does not fit.
    pub(crate) value: u64,
    /// How many octets belong to it; 0 if there is no number.
    pub(crate) used: usize,
    /// It does not fit into 64 bits.
    pub(crate) overflow: bool,
}

/// Reads a number in base 10, 16 after `0x`, or 8 after `0`.
pub(crate) fn c_int(text: &[u8]) -> CInt {
    if let Some(b'1'..=b'9') = text.first() {
        let (value, used, overflow) = unsigned::<10>(text);
        return CInt { value, used, overflow };
    }
    let blanks = text.iter().take_while(|b| is_space(**b)).count();
    let (negative, sign) = match text.get(blanks) {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let start = blanks + sign;
    let digits = text.get(start..).unwrap_or_default();
    let (skip, (value, count, overflow)) = match digits {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
            (2, unsigned::<16>(rest))
        }
        [b'0', ..] => (0, unsigned::<8>(digits)),
        _ => (0, unsigned::<10>(digits)),
    };
    let used = if count == 0 { 0 } else { start + skip + count };
    let value = if negative && !overflow { value.wrapping_neg() } else { value };
    CInt { value, used, overflow }
}

/// A C number that fills the text and is at most `max`.
pub(crate) fn whole_c_int(text: &[u8], max: u64) -> Option<u64> {
    let n = c_int(text);
    (n.used > 0 && n.used == text.len() && !n.overflow && n.value <= max).then_some(n.value)
}

/// A decimal number that fills the text, as `strtoul(text, .., 10)` reads it.
pub(crate) fn whole_decimal(text: &[u8], max: u64) -> Option<u64> {
    let blanks = text.iter().take_while(|b| is_space(**b)).count();
    let sign = usize::from(text.get(blanks) == Some(&b'+'));
    let digits = text.get(blanks + sign..)?;
    let (value, count, overflow) = unsigned::<10>(digits);
    (count == digits.len() && !overflow && value <= max).then_some(value)
}

/// Digits that fit into 64 bits whatever they are.
const FITTING: usize = 16;

/// Value and length of the digits in front, and whether the value is more than 64 bits; all ones
/// then.
fn unsigned<const BASE: u32>(digits: &[u8]) -> (u64, usize, bool) {
    let mut value = 0u64;
    let mut overflow = false;
    let mut count = 0;
    for digit in digits.iter().map_while(|b| char::from(*b).to_digit(BASE)) {
        let (base, digit) = (u64::from(BASE), u64::from(digit));
        // Long files are mostly numbers, and short ones.
        if count < FITTING {
            value = value * base + digit;
        } else {
            match value.checked_mul(base).and_then(|v| v.checked_add(digit)) {
                Some(v) => value = v,
                None => overflow = true,
            }
        }
        count += 1;
    }
    (if overflow { u64::MAX } else { value }, count, overflow)
}

/// `isspace(3)` in the C locale.
pub(crate) const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_and_ends() {
        for (text, value) in [
            ("0x10", Some(16)),
            ("010", Some(8)),
            (" +7", Some(7)),
            ("0", Some(0)),
            ("4294967295", Some(0xffff_ffff)),
            ("4294967296", None),
            ("-1", None),
            ("", None),
            ("5x", None),
            ("08", None),
            ("0x", None),
        ] {
            assert_eq!(whole_c_int(text.as_bytes(), 0xffff_ffff), value, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_the_most() {
        for text in ["18446744073709551616", "-99999999999999999999", "0x1ffffffffffffffff"] {
            assert_eq!(c_int(text.as_bytes()).value, u64::MAX, "{text}");
        }
        assert_eq!(c_int(b"-18446744073709551615").value, 1);
    }

    #[test]
    fn prefix_lengths() {
        assert_eq!(whole_decimal(b"", 32), Some(0));
        assert_eq!(whole_decimal(b" +08", 32), Some(8));
        assert_eq!(whole_decimal(b"33", 32), None);
        assert_eq!(whole_decimal(b"-1", 32), None);
        assert_eq!(whole_decimal(b"8/", 32), None);
    }
}
