//! Addresses and numbers as decimal and hexadecimal text, without allocation.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Appends `n` in decimal.
#[inline]
pub fn decimal(n: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends `n` in lower-case hexadecimal, without leading zeros.
#[inline]
pub(super) fn hex(n: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u32| DIGITS[usize::from(n >> shift & 0xf)];
    if n > 0xfff {
        out.push(digit(12));
    }
    if n > 0xff {
        out.push(digit(8));
    }
    if n > 0xf {
        out.push(digit(4));
    }
    out.push(digit(0));
}

/// Appends an address as `inet_ntop(3)` writes it.
#[inline]
pub fn address(addr: &IpAddr, out: &mut Vec<u8>) {
    match addr {
        IpAddr::V4(v4) => address_v4(*v4, out),
        IpAddr::V6(v6) => address_v6(*v6, out),
    }
}

fn address_v4(addr: Ipv4Addr, out: &mut Vec<u8>) {
    // One copy into the output instead of four: the text has at most 15 characters.
    let mut text = [b'.'; 16];
    let mut len = 0;
    for octet in addr.octets() {
        if octet > 99 {
            text[len] = b'0' + octet / 100;
            len += 1;
        }
        if octet > 9 {
            text[len] = b'0' + octet / 10 % 10;
            len += 1;
        }
        text[len] = b'0' + octet % 10;
        text[len + 1] = b'.';
        len += 2;
    }
    out.extend_from_slice(&text[..len - 1]);
}

/// The rules of `inet_ntop(3)` in the GNU C library, which the standard library does not follow
/// for IPv4-compatible addresses: the first of the longest runs of at least two zero words is cut
/// out, and `::a.b.c.d` and `::ffff:a.b.c.d` end dotted.
fn address_v6(addr: Ipv6Addr, out: &mut Vec<u8>) {
    let words = addr.segments();
    let (start, len) = longest_zero_run(&words);
    let embeds_v4 = start == 0 && (len == 6 || len == 5 && words[5] == 0xffff);
    let end = if embeds_v4 { 6 } else { 8 };
    let mut i = 0;
    while i < end {
        if len > 0 && i == start {
            out.push(b':');
            i += len;
            if i >= 8 {
                out.push(b':');
            }
            continue;
        }
        if i > 0 {
            out.push(b':');
        }
        hex(words[i], out);
        i += 1;
    }
    if embeds_v4 {
        out.push(b':');
        let [.., a, b, c, d] = addr.octets();
        address_v4(Ipv4Addr::new(a, b, c, d), out);
    }
}

/// Start and length of the first of the longest runs of zero words; length 0 if none has two.
fn longest_zero_run(words: &[u16; 8]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut run = (0, 0);
    for (i, &word) in words.iter().enumerate() {
        if word != 0 {
            run = (i + 1, 0);
        } else {
            run.1 += 1;
            if run.1 > best.1 {
                best = run;
            }
        }
    }
    if best.1 < 2 { (0, 0) } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(addr: IpAddr) -> String {
        let mut out = Vec::new();
        address(&addr, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What `inet_ntop` of the GNU C library answered.
    #[test]
    fn v6_as_the_c_library_writes_it() {
        for canonical in [
            "::",
            "::1",
            "1::",
            "1::1",
            "::1:0:0:0:1",
            "0:1::",
            "1:0:0:1::",
            "1::1:0:0:1",
            "1:2:3:4:5:6:7:8",
            "1:0:3:4:5:6:7:8",
            "0:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:0",
            "::2:3:4:5:6:7",
            "2001:db8:1::2",
            "fe80::1234:5678:9abc:def0",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "::1.2.3.4",
            "::255.255.0.0",
            "::ffff:10.0.0.1",
            "::ffff:0.0.0.0",
            "64:ff9b::102:304",
            "::fffe:102:304",
        ] {
            assert_eq!(text(canonical.parse().unwrap()), canonical);
        }
        assert_eq!(text("::0:1".parse().unwrap()), "::1");
        assert_eq!(text("::0.1.0.0".parse().unwrap()), "::0.1.0.0");
    }

    proptest! {
        #[test]
        fn v4_like_the_standard_library(octets: [u8; 4]) {
            let addr = IpAddr::from(octets);
            prop_assert_eq!(text(addr), addr.to_string());
        }

        #[test]
        fn v6_reads_back(words in proptest::array::uniform8(prop_oneof![Just(0u16), any::<u16>()])) {
            let addr = IpAddr::from(words);
            prop_assert_eq!(text(addr).parse::<IpAddr>().unwrap(), addr);
        }

        #[test]
        fn hexadecimal(n: u16) {
            let mut out = Vec::new();
            hex(n, &mut out);
            prop_assert_eq!(out, format!("{n:x}").into_bytes());
        }
    }
}
