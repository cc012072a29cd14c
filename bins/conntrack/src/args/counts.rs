//! The keys of `--sort` and `--count-by`.

use super::words::abbreviates;

/// What entries are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SortKey {
    pub(crate) by: SortBy,
    /// Largest first.
    pub(crate) descending: bool,
}

/// A member that has an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SortBy {
    Bytes,
    Packets,
    Timeout,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    Protocol,
    State,
    Zone,
    Mark,
    Id,
    Age,
}

const SORTS: [(&str, SortBy); 13] = [
    ("bytes", SortBy::Bytes),
    ("packets", SortBy::Packets),
    ("timeout", SortBy::Timeout),
    ("source", SortBy::Source),
    ("destination", SortBy::Destination),
    ("sport", SortBy::SourcePort),
    ("dport", SortBy::DestinationPort),
    ("protocol", SortBy::Protocol),
    ("state", SortBy::State),
    ("zone", SortBy::Zone),
    ("mark", SortBy::Mark),
    ("id", SortBy::Id),
    ("age", SortBy::Age),
];

impl SortKey {
    /// Reads a key; `-` in front turns the order round.
    pub(crate) fn parse(word: &[u8]) -> Option<Self> {
        let (name, descending) = match word {
            [b'-', rest @ ..] => (rest, true),
            _ => (word, false),
        };
        Some(Self { by: lookup(&SORTS, name)?, descending })
    }
}

/// What entries are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountKey {
    Source,
    Destination,
    Port,
    Protocol,
    State,
    Zone,
    Mark,
}

const COUNTS: [(&str, CountKey); 7] = [
    ("source", CountKey::Source),
    ("destination", CountKey::Destination),
    ("port", CountKey::Port),
    ("protocol", CountKey::Protocol),
    ("state", CountKey::State),
    ("zone", CountKey::Zone),
    ("mark", CountKey::Mark),
];

impl CountKey {
    /// Reads a key.
    pub(crate) fn parse(word: &[u8]) -> Option<Self> {
        lookup(&COUNTS, word)
    }
}

/// Keys are abbreviated like output types: the first that fits wins.
fn lookup<T: Copy>(table: &[(&str, T)], word: &[u8]) -> Option<T> {
    let fits = |name: &str| !word.is_empty() && abbreviates(word, name);
    table.iter().find(|(name, _)| fits(name)).map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(SortKey::parse(b"-by"), Some(SortKey { by: SortBy::Bytes, descending: true }));
        assert_eq!(SortKey::parse(b"-"), None);
        assert_eq!(SortKey::parse(b"color"), None);
        assert_eq!(CountKey::parse(b"p"), Some(CountKey::Port));
        assert_eq!(CountKey::parse(b""), None);
    }
}
