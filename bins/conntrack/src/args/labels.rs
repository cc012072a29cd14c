//! The names of labels: `connlabel.conf`.

use std::fs;
use std::path::Path;

use proto_ctnl::render::LabelNames;

use super::numbers::{c_int, is_space};

/// Where the names are looked for.
pub(crate) const DEFAULT_PATH: &str = "/etc/xtables/connlabel.conf";
/// Octets of a line, its newline included; the rest counts as a line of its own.
const LINE_MAX: usize = 1023;
/// One more than the highest bit that can have a name. The kernel has 128.
const BITS: u64 = 1024;

/// Label bits with their names, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelMap(Vec<(usize, Vec<u8>)>);

impl LabelMap {
    /// Reads a file; the error is the text to show.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read(path)
            .map_err(|e| crate::failure::errno_text(e.raw_os_error().unwrap_or_default()))?;
        let map = Self::parse(&text);
        // What the original says about a file without names.
        if map.0.is_empty() { Err("Success".to_owned()) } else { Ok(map) }
    }

    fn parse(text: &[u8]) -> Self {
        let mut map = Self::default();
        for line in text.split_inclusive(|&b| b == b'\n') {
            for piece in line.chunks(LINE_MAX) {
                if let Some((bit, name)) = entry(piece)
                    && !map.0.iter().any(|(b, n)| *b == bit || n == name)
                {
                    map.0.push((bit, name.to_vec()));
                }
            }
        }
        map
    }

    /// The bit of a name.
    pub(crate) fn bit(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().find(|(_, n)| n == name).map(|(bit, _)| *bit)
    }

    /// The names for rendering.
    pub(crate) fn names(&self) -> LabelNames {
        let mut names = LabelNames::default();
        for (bit, name) in &self.0 {
            names.insert(*bit, name);
        }
        names
    }
}

/// Bit and name of a line, if it defines one.
fn entry(line: &[u8]) -> Option<(usize, &[u8])> {
    if line.first() == Some(&b'#') {
        return None;
    }
    let number = c_int(line);
    if number.used == 0 || number.overflow || number.value >= BITS {
        return None;
    }
    let rest = &line[number.used..];
    if !rest.first().is_some_and(|b| is_space(*b)) {
        return None;
    }
    let begin = rest.iter().position(|b| !is_space(*b))?;
    let end = rest.iter().rposition(|b| !is_space(*b))? + 1;
    let name = &rest[begin..end];
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b' ');
    name.iter().all(allowed).then_some((number.value as usize, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = b"# comment\n0 zero\n0x10\tsixteen bits \n0 again\n3 zero\n5 bad_name\n\n1024 far\nx y\n\
                     1000 high-1";
        let map = LabelMap::parse(text);
        assert_eq!(map.bit(b"zero"), Some(0));
        assert_eq!(map.bit(b"sixteen bits"), Some(16));
        assert_eq!(map.bit(b"high-1"), Some(1000));
        assert_eq!(map.0.len(), 3);
        assert_eq!(map.names().iter().count(), 2, "only bits the kernel has are rendered");
    }
}
