//! Addresses with prefix lengths, and addresses with ports for translations.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::numbers::{c_int, is_space, whole_decimal};
use super::options::{Opt, name_of};
use crate::failure::Failure;

/// Octets of the text that are looked at.
const TEXT_MAX: usize = 45;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub(crate) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// There are two.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// `AF_INET` or `AF_INET6`.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// Takes over `other`, or fails if another one is fixed already.
    pub(crate) fn agree(family: &mut Option<Self>, other: Self) -> Result<(), Failure> {
        if family.is_some_and(|f| f != other) {
            return Err(Failure::usage(&[b"mismatched address family"]));
        }
        *family = Some(other);
        Ok(())
    }
}

/// Reads an address that may have `/LEN` behind it if `mask_allowed`. The mask is `None` if there
/// is no length or it covers the whole address.
pub(crate) fn address(
    text: &[u8],
    opt: Opt,
    mask_allowed: bool,
    family: &mut Option<Family>,
) -> Result<(IpAddr, Option<IpAddr>), Failure> {
    if let Some(address) = dotted(text) {
        return Family::agree(family, Family::V4).map(|()| (address.into(), None));
    }
    let cut = &text[..text.len().min(TEXT_MAX)];
    let (head, length) = match cut.iter().position(|&b| b == b'/') {
        Some(at) => (&cut[..at], Some(&cut[at + 1..])),
        None => (cut, None),
    };
    let Some(address) = parse_address(head) else {
        return Err(Failure::usage(&[b"Invalid IP address `", text, b"'"]));
    };
    Family::agree(family, Family::of(address))?;
    let Some(length) = length else { return Ok((address, None)) };
    if !mask_allowed {
        let name = name_of(opt).as_bytes();
        return Err(Failure::usage(&[b"CIDR notation unavailable for `--", name, b"'"]));
    }
    let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
    // An empty length, which the original takes for 0 and so for everything, is a slip.
    match whole_decimal(length, u64::from(bits)).filter(|_| !length.is_empty()) {
        Some(n) if n == u64::from(bits) => Ok((address, None)),
        Some(n) => Ok((address, Some(mask(address, n as u32)))),
        None => Err(Failure::usage(&[b"Invalid netmask"])),
    }
}

/// The mask with `bits` leading ones of the family of `address`.
fn mask(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or_default()).into(),
        IpAddr::V6(_) => {
            Ipv6Addr::from(u128::MAX.checked_shl(128 - bits).unwrap_or_default()).into()
        }
    }
}

/// Whether `a` and `b` agree in the bits of `mask`. Never if a family differs.
pub(crate) fn equal_under(a: IpAddr, b: IpAddr, mask: IpAddr) -> bool {
    match (a, b, mask) {
        (IpAddr::V4(a), IpAddr::V4(b), IpAddr::V4(m)) => {
            (u32::from(a) ^ u32::from(b)) & u32::from(m) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b), IpAddr::V6(m)) => {
            (u128::from(a) ^ u128::from(b)) & u128::from(m) == 0
        }
        _ => false,
    }
}

fn parse_address(text: &[u8]) -> Option<IpAddr> {
    if let Some(v4) = inet_aton(text) {
        return Some(v4.into());
    }
    // The standard library takes what inet_pton takes.
    core::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// The usual form alone, of which long files are full: four decimal numbers without zeros in front.
fn dotted(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut octets, mut place, mut digits) = ([0_u8; 4], 0, 0);
    for b in text {
        match b {
            b'.' if digits > 0 && place < 3 => (place, digits) = (place + 1, 0),
            b'0'..=b'9' if digits == 0 || octets[place] > 0 => {
                octets[place] = octets[place].checked_mul(10)?.checked_add(b - b'0')?;
                digits += 1;
            }
            _ => return None,
        }
    }
    (place == 3 && digits > 0).then(|| octets.into())
}

/// `inet_aton(3)`: one to four numbers in any base, the last of which fills what is left.
fn inet_aton(text: &[u8]) -> Option<Ipv4Addr> {
    let mut rest = text;
    let mut value = 0u32;
    for part in 0..4u32 {
        if !rest.first()?.is_ascii_digit() {
            return None;
        }
        let n = c_int(rest);
        if n.overflow {
            return None;
        }
        rest = &rest[n.used..];
        match rest.first() {
            Some(b'.') if part < 3 && n.value <= 0xff => {
                value |= (n.value as u32) << (24 - 8 * part);
                rest = &rest[1..];
            }
            None | Some(_) if rest.first().is_none_or(|b| is_space(*b)) => {
                let max = u32::MAX.checked_shr(8 * part)?;
                let last = u32::try_from(n.value).ok().filter(|v| *v <= max)?;
                return Some((value | last).into());
            }
            _ => return None,
        }
    }
    None
}

/// Address and port of `-n`, `-g` and `-j`.
pub(crate) fn nat(
    text: &[u8],
    opt: Opt,
    family: &mut Option<Family>,
) -> Result<(IpAddr, Option<u16>), Failure> {
    let (host, port) = split_port(text)?;
    let port = port.map(parse_port).transpose()?;
    let (address, _) = address(host, opt, false, family)?;
    Ok((address, port))
}

/// Takes `ADDR:PORT` and `[ADDR]:PORT` apart; what has more than one colon is an IPv6 address.
fn split_port(text: &[u8]) -> Result<(&[u8], Option<&[u8]>), Failure> {
    let colon = |t: &[u8]| t.iter().position(|&b| b == b':');
    let Some(open) = text.iter().position(|&b| b == b'[') else {
        return Ok(match colon(text) {
            Some(at) if colon(&text[at + 1..]).is_none() => (&text[..at], Some(&text[at + 1..])),
            _ => (text, None),
        });
    };
    let inside = &text[open + 1..];
    let Some(close) = inside.iter().position(|&b| b == b']') else {
        return Err(Failure::usage(&[b"No closing ']' around IPv6 address"]));
    };
    if close == 0 {
        return Err(Failure::usage(&[b"No IPv6 address specified"]));
    }
    let behind = &inside[close + 1..];
    Ok(match colon(behind) {
        Some(at) => (&inside[..close], Some(&behind[at + 1..])),
        None => (text, None),
    })
}

fn parse_port(text: &[u8]) -> Result<u16, Failure> {
    if text.is_empty() {
        return Err(Failure::usage(&[b"No port specified after `:'"]));
    }
    let digits = core::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| Failure::usage(&[b"Invalid port `", text, b"'"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_inet_aton() {
        for (text, expected) in [
            ("1", Some([0, 0, 0, 1])),
            ("0xc000020a", Some([192, 0, 2, 10])),
            ("0x7f.1", Some([127, 0, 0, 1])),
            ("1.2.3", Some([1, 2, 0, 3])),
            ("010.8.8.8", Some([8, 8, 8, 8])),
            ("1.2.3.4 ", Some([1, 2, 3, 4])),
            (" 1.2.3.4", None),
            ("1.2.3.4.5", None),
            ("300.1.1.1", None),
            ("1.2.3.256", None),
            ("1.65536.1", None),
            ("08.1.1.1", None),
            ("4294967296", None),
            ("", None),
            ("1.", None),
        ] {
            assert_eq!(inet_aton(text.as_bytes()), expected.map(Ipv4Addr::from), "{text}");
        }
    }

    #[test]
    fn the_usual_form_means_the_same() {
        for (text, is_usual) in [
            ("0.0.0.0", true),
            ("255.10.100.1", true),
            ("1.2.3", false),
            ("1.2.3.4.5", false),
            ("1..3.4", false),
            (".1.2.3.4", false),
            ("1.2.3.", false),
            ("1.2.3.4.", false),
            ("1.2.3.4 ", false),
            ("1.2.3.4/8", false),
            ("01.2.3.4", false),
            ("1.00.3.4", false),
            ("256.2.3.4", false),
            ("", false),
        ] {
            let usual = dotted(text.as_bytes());
            assert_eq!(usual.is_some(), is_usual, "{text}");
            assert!(!is_usual || usual == inet_aton(text.as_bytes()), "{text}");
        }
    }

    fn read(text: &str, mask_allowed: bool) -> Result<(IpAddr, Option<IpAddr>), String> {
        address(text.as_bytes(), Opt::ReplySrc, mask_allowed, &mut None)
            .map_err(|f| String::from_utf8_lossy(&f.text).lines().next().unwrap().to_owned())
    }

    #[test]
    fn prefix_lengths() {
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        let cases = [
            ("1.2.3.4/24", "1.2.3.4", Some("255.255.255.0")),
            ("1.2.3.4/0", "1.2.3.4", Some("0.0.0.0")),
            ("1.2.3.4/32", "1.2.3.4", None),
            ("::1/65", "::1", Some("ffff:ffff:ffff:ffff:8000::")),
            ("::1/128", "::1", None),
        ];
        for (text, address, mask) in cases {
            assert_eq!(read(text, true).unwrap(), (ip(address), mask.map(ip)), "{text}");
        }
        for (text, allowed, message) in [
            ("1.2.3.4/", true, "Invalid netmask"),
            ("1.2.3.4/33", true, "Invalid netmask"),
            ("1.2.3.4/8/8", true, "Invalid netmask"),
            ("1.2.3.4/", false, "CIDR notation unavailable for `--reply-src'"),
            ("foo/24", false, "Invalid IP address `foo/24'"),
        ] {
            assert!(read(text, allowed).unwrap_err().ends_with(message), "{text}");
        }
    }

    #[test]
    fn ports() {
        let read = |text: &str| {
            nat(text.as_bytes(), Opt::SrcNat, &mut None)
                .map(|(a, p)| (a.to_string(), p))
                .map_err(|f| String::from_utf8_lossy(&f.text).lines().next().unwrap().to_owned())
        };
        for (text, address, port) in [
            ("1.2.3.4", "1.2.3.4", None),
            ("1.2.3.4:0", "1.2.3.4", Some(0)),
            ("::1", "::1", None),
            ("x[::1]y:80", "::1", Some(80)),
            ("[1.2.3.4]:80", "1.2.3.4", Some(80)),
        ] {
            assert_eq!(read(text).unwrap(), (address.to_owned(), port), "{text}");
        }
        for (text, message) in [
            ("foo:bar", "Invalid port `bar'"),
            (":", "No port specified after `:'"),
            (":80", "Invalid IP address `'"),
            ("1.2.3.4:65536", "Invalid port `65536'"),
            ("1.2.3.4:80/24", "Invalid port `80/24'"),
            ("[::1]", "Invalid IP address `[::1]'"),
            ("[]:80", "No IPv6 address specified"),
            ("[::1", "No closing ']' around IPv6 address"),
        ] {
            assert!(read(text).unwrap_err().ends_with(message), "{text}");
        }
    }
}
