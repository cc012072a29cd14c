//! A short name held inline: helper, expect function, security context.

use core::fmt;

/// At most `N` octets, without a terminating NUL, held inline. The kernel does not promise UTF-8,
/// so neither does this.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Name<N> {
    /// No name.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; N] };

    /// The octets of `bytes` before the first NUL. `None` if they are more than `N`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let mut name = Self::EMPTY;
        name.bytes.get_mut(..end)?.copy_from_slice(&bytes[..end]);
        name.len = u8::try_from(end).ok()?;
        Some(name)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether there is no name.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Name<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> fmt::Debug for Name<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn ends_at_nul_and_refuses_what_does_not_fit() {
        assert_eq!(Name::<4>::new(b"ftp\0x").unwrap().as_bytes(), b"ftp");
        assert_eq!(Name::<4>::new(b"tftp").unwrap().as_bytes(), b"tftp");
        assert!(Name::<4>::new(b"q.931").is_none());
        assert!(Name::<4>::new(b"").unwrap().is_empty());
    }
}
