//! Where the items of a file stand, for whoever has something to say about one.

use super::parser::Item;
use super::token::Place;

/// An item of the outline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How many blocks are around it.
    pub depth: usize,
    /// Its first word.
    pub word: String,
    /// Where that stands.
    pub place: Place,
}

/// All items in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline(Vec<Entry>);

/// Blocks whose items are settings that can be made once.
const ONCE: [&str; 11] = [
    "General",
    "UNIX",
    "Scheduler",
    "Sync",
    "Mode",
    "Multicast",
    "UDP",
    "TCP",
    "Options",
    "Stats",
    "Engine",
];
/// Items of these blocks that may stand in them repeatedly.
const REPEATED: [&str; 6] = ["Filter", "Mode", "Multicast", "UDP", "TCP", "Scheduler"];

impl Outline {
    /// Takes over what a parser has seen.
    pub fn new(items: &[Item<'_>]) -> Self {
        let own = |item: &Item<'_>| Entry {
            depth: item.depth,
            word: item.word.to_owned(),
            place: item.place,
        };
        Self(items.iter().map(own).collect())
    }

    /// The last item with these words, from the outermost block's to its own.
    pub fn find(&self, path: &[&str]) -> Option<Place> {
        let mut stack: Vec<&str> = Vec::new();
        let mut found = None;
        for entry in &self.0 {
            stack.truncate(entry.depth);
            stack.push(&entry.word);
            if stack == path {
                found = Some(entry.place);
            }
        }
        found
    }

    /// The links, each with its items behind it.
    pub fn links(&self) -> Vec<&[Entry]> {
        let is_link = |entry: &Entry| {
            entry.depth == 1 && ["Multicast", "UDP", "TCP"].contains(&entry.word.as_str())
        };
        let begins = self.0.iter().enumerate().filter(|(_, entry)| is_link(entry));
        let rest = begins.map(|(at, _)| &self.0[at..]);
        let whole = rest.map(|rest| {
            let end = rest.iter().skip(1).position(|entry| entry.depth <= 1);
            &rest[..end.map_or(rest.len(), |end| end + 1)]
        });
        whole.collect()
    }

    /// Settings that were made before in the same block, each with where it was made first.
    pub fn repeated(&self) -> Vec<(&Entry, Place)> {
        let mut blocks: Vec<Vec<&Entry>> = vec![Vec::new()];
        let mut repeated = Vec::new();
        for entry in &self.0 {
            blocks.truncate(entry.depth + 1);
            blocks.resize_with(entry.depth + 1, Vec::new);
            let (seen, outer) = match blocks.split_last_mut() {
                Some((seen, outer)) => (seen, outer.last().and_then(|block| block.last())),
                None => continue,
            };
            let once = outer.is_some_and(|block| ONCE.contains(&block.word.as_str()))
                && !REPEATED.contains(&entry.word.as_str());
            // A list may be long, and nothing in it is looked for.
            if once && let Some(first) = seen.iter().find(|other| other.word == entry.word) {
                repeated.push((entry, first.place));
            }
            seen.push(entry);
        }
        repeated
    }
}

#[cfg(test)]
mod tests {
    use crate::conf;
    use crate::conf::environment::Machine;

    #[test]
    fn items_are_found_by_the_blocks_around_them() {
        let text = b"General {\n HashLimit 1\n HashLimit 2\n Filter { Protocol Accept { TCP } }\n\
            }\nSync {\n UDP {\n  Port 1\n }\n UDP Default {\n  Port 2\n  Port 3\n }\n}\n";
        let outline = conf::read(text, &Machine).outline;
        let lines = |path: &[&str]| outline.find(path).map(|place| (place.line, place.column));
        assert_eq!(lines(&["General", "HashLimit"]), Some((3, 2)));
        assert_eq!(lines(&["Sync", "UDP", "Port"]), Some((12, 3)));
        assert_eq!(lines(&["Port"]), None);
        let links: Vec<_> = outline.links().iter().map(|link| link.len()).collect();
        assert_eq!(links, [2, 3]);
        let repeated: Vec<_> = outline
            .repeated()
            .iter()
            .map(|(entry, first)| (entry.place.line, first.line))
            .collect();
        assert_eq!(repeated, [(3, 2), (12, 11)]);
    }
}
