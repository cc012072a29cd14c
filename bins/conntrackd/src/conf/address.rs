//! Addresses as the original understands them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::lexer::number;

/// A text that looks like an address, without and with the number behind its slash.
pub fn split(text: &str) -> (&str, Option<u32>) {
    match text.split_once('/') {
        Some((address, prefix)) => (address, Some(number(prefix.as_bytes()))),
        None => (text, None),
    }
}

/// Four decimal numbers; a leading zero makes one octal.
pub fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut groups = text.split('.');
    let mut bytes = [0; 4];
    for byte in &mut bytes {
        let group = groups.next()?;
        let radix = if group.len() > 1 && group.starts_with('0') { 8 } else { 10 };
        if !group.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *byte = u8::from_str_radix(group, radix).ok()?;
    }
    groups.next().is_none().then(|| Ipv4Addr::from(bytes))
}

/// An IPv6 address.
pub fn ipv6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_quads_are_read_as_inet_aton_does() {
        assert_eq!(ipv4("10.0.0.1"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(ipv4("010.0.0.1"), Some(Ipv4Addr::new(8, 0, 0, 1)));
        assert_eq!(ipv4("08.1.1.1"), None);
        assert_eq!(ipv4("256.1.1.1"), None);
        assert_eq!(ipv4("0000.1.1.1"), Some(Ipv4Addr::new(0, 1, 1, 1)));
        assert_eq!(ipv4("cafe"), None);
        assert_eq!(ipv4("1.2.3.4/8"), None);
        assert_eq!(split("1.2.3.4/08"), ("1.2.3.4", Some(8)));
    }
}
