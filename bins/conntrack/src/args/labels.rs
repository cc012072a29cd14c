//! The names of labels: `connlabel.conf`, and the options that use them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use proto_ctnl::render::LabelNames;

use super::numbers::{c_int, is_space};
use super::{Opt, Request};
use crate::failure::{Failure, complain};

/// Where the names are looked for.
const DEFAULT_PATH: &str = "/etc/xtables/connlabel.conf";
/// Octets of a line, its newline included; the rest counts as a line of its own.
const LINE_MAX: usize = 1023;
/// One more than the highest bit that can have a name. The kernel has 128.
const BITS: u64 = 1024;

/// Label bits that an option names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelBits {
    pub(crate) words: [u32; 4],
    /// A bit was named that the kernel does not have.
    pub(crate) beyond: bool,
}

impl LabelBits {
    fn insert(&mut self, bit: usize) {
        match self.words.get_mut(bit / 32) {
            Some(word) => *word |= 1 << (bit % 32),
            None => self.beyond = true,
        }
    }
}

/// A file of names that was read; lines of a loaded file mostly use the same.
#[derive(Debug, Default)]
pub(super) struct Cache(Option<(Vec<u8>, Option<Known>)>);

#[derive(Debug)]
struct Known {
    map: LabelMap,
    names: Arc<LabelNames>,
}

impl Cache {
    /// Whether no name was looked up yet.
    pub(super) const fn is_unused(&self) -> bool {
        self.0.is_none()
    }

    fn get(&mut self, path: &[u8]) -> Option<&Known> {
        if self.0.as_ref().is_none_or(|(p, _)| p != path) {
            let known = match LabelMap::read(Path::new(OsStr::from_bytes(path))) {
                Ok(map) => Some(Known { names: Arc::new(map.names()), map }),
                Err(text) => {
                    complain(format!("nfct_labelmap_new: {text}\n").as_bytes());
                    None
                }
            };
            self.0 = Some((path.to_vec(), known));
        }
        self.0.as_ref()?.1.as_ref()
    }
}

/// Resolves the names of labels, once all options are known.
pub(super) fn resolve(request: &mut Request, cache: &mut Cache) -> Result<(), Failure> {
    if request.given.has(Opt::LabelAdd) && request.given.has(Opt::LabelDel) {
        return Err(Failure::other(&[b"cannot use --label-add and --label-del at the same time"]));
    }
    if request.label_uses.is_empty() {
        return Ok(());
    }
    let path = request.label_path.as_deref().unwrap_or(DEFAULT_PATH.as_bytes());
    let known = cache.get(path);
    for (opt, list) in core::mem::take(&mut request.label_uses) {
        let bits = match opt {
            Opt::Label => &mut request.labels,
            Opt::LabelAdd => &mut request.labels_add,
            // Not so with an empty list, which names what is no label.
            Opt::LabelDel if list.is_none() => {
                request.labels_del = None;
                continue;
            }
            Opt::LabelDel => match &mut request.labels_del {
                Some(bits) => bits,
                // All of them are removed already.
                None => &mut LabelBits::default(),
            },
            _ => continue,
        };
        for name in list.unwrap_or_default().split(|&b| b == b',') {
            match known.and_then(|k| k.map.bit(name)) {
                Some(bit) => bits.insert(bit),
                None => return Err(Failure::usage(&[b"unknown label '", name, b"'"])),
            }
        }
    }
    request.label_names = known.map(|k| Arc::clone(&k.names));
    Ok(())
}

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
