//! Comma lists of words: status flags, output types, event kinds.

use proto_ctnl::Status;

use crate::failure::{Failure, complain};

/// Output types, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output(pub(crate) u16);

impl Output {
    pub(crate) const XML: Self = Self(1 << 0);
    pub(crate) const EXTENDED: Self = Self(1 << 1);
    pub(crate) const TIMESTAMP: Self = Self(1 << 2);
    pub(crate) const ID: Self = Self(1 << 3);
    pub(crate) const KTIMESTAMP: Self = Self(1 << 4);
    pub(crate) const LABELS: Self = Self(1 << 5);
    /// Accepted without effect, also beside `save`: the origin of an event is always shown.
    pub(crate) const USERSPACE: Self = Self(0);
    pub(crate) const SAVE: Self = Self(1 << 7);
    pub(crate) const JSON: Self = Self(1 << 8);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The order decides what an abbreviation means.
const OUTPUTS: [(&str, u32); 9] = [
    ("xml", Output::XML.0 as u32),
    ("extended", Output::EXTENDED.0 as u32),
    ("timestamp", Output::TIMESTAMP.0 as u32),
    ("id", Output::ID.0 as u32),
    ("ktimestamp", Output::KTIMESTAMP.0 as u32),
    ("labels", Output::LABELS.0 as u32),
    ("userspace", Output::USERSPACE.0 as u32),
    ("save", Output::SAVE.0 as u32),
    ("json", Output::JSON.0 as u32),
];

/// Kinds of events: also the bits of the multicast groups of flows.
pub(crate) const EVENT_ALL: u32 = 7;
const EVENTS: [(&str, u32); 4] = [("ALL", EVENT_ALL), ("NEW", 1), ("UPDATES", 2), ("DESTROY", 4)];

const STATUS: [(&str, u32); 7] = [
    ("ASSURED", Status::ASSURED.0),
    ("SEEN_REPLY", Status::SEEN_REPLY.0),
    ("UNSET", 0),
    ("FIXED_TIMEOUT", Status::FIXED_TIMEOUT.0),
    ("EXPECTED", Status::EXPECTED.0),
    ("OFFLOAD", Status::OFFLOAD.0),
    ("HW_OFFLOAD", Status::HW_OFFLOAD.0),
];

/// The two numbers that `-u` makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatusWords {
    /// Bits that must be set.
    pub(crate) value: u32,
    /// Bits that count.
    pub(crate) mask: u32,
}

impl StatusWords {
    /// Adds a list. As in the original, a mask that is already there does not grow by plain names.
    pub(crate) fn add(&mut self, list: &[u8]) -> Result<(), Failure> {
        each_word(list, true, |word, negated| {
            // Not an abbreviation and not a name of its own: "no reply seen".
            let found = if !negated && word.starts_with(b"UNREPLIED") {
                self.mask |= Status::SEEN_REPLY.0;
                return true;
            } else {
                lookup(&STATUS, word)
            };
            let target = if negated { &mut self.mask } else { &mut self.value };
            found.map(|bits| *target |= bits).is_some()
        })?;
        if self.mask == 0 {
            self.mask = self.value;
        }
        Ok(())
    }
}

/// Adds the output types of a list.
pub(crate) fn add_output(output: &mut Output, list: &[u8]) -> Result<(), Failure> {
    each_word(list, false, |word, _| {
        lookup(&OUTPUTS, word).map(|bits| output.0 |= bits as u16).is_some()
    })?;
    if output.has(Output::SAVE) && *output != Output::SAVE {
        return Err(Failure::other(&[
            b"cannot combine save output with any other output type, use -o save only",
        ]));
    }
    if output.has(Output::XML) && output.has(Output::JSON) {
        return Err(Failure::other(&[b"cannot combine json output with xml output"]));
    }
    Ok(())
}

/// Adds the events of a list.
pub(crate) fn add_events(events: &mut u32, list: &[u8]) -> Result<(), Failure> {
    each_word(list, false, |word, _| lookup(&EVENTS, word).map(|bits| *events |= bits).is_some())
}

/// Hands each word to `take`, which answers whether it knows it.
fn each_word(
    list: &[u8],
    may_negate: bool,
    mut take: impl FnMut(&[u8], bool) -> bool,
) -> Result<(), Failure> {
    let mut rest = list;
    loop {
        let negated = may_negate && rest.first() == Some(&b'!');
        if negated {
            rest = &rest[1..];
        }
        let end = rest.iter().position(|&b| b == b',');
        let word = &rest[..end.unwrap_or(rest.len())];
        if word.is_empty() || !is_nat_word(word) && !take(word, negated) {
            return Err(Failure::usage(&[b"Bad parameter `", rest, b"'"]));
        }
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => return Ok(()),
        }
    }
}

/// The translation flags have options of their own; their names are passed over with a warning,
/// in all lists alike.
fn is_nat_word(word: &[u8]) -> bool {
    for (name, option) in [("SRC_NAT", "--src-nat"), ("DST_NAT", "--dst-nat")] {
        if abbreviates(word, name) {
            complain(format!("WARNING: ignoring {name}, use {option} instead\n").as_bytes());
            return true;
        }
    }
    false
}

fn lookup(table: &[(&str, u32)], word: &[u8]) -> Option<u32> {
    table.iter().find(|(name, _)| abbreviates(word, name)).map(|(_, bits)| *bits)
}

/// Whether `word` is the beginning of `name`, without regard to case.
pub(crate) fn abbreviates(word: &[u8], name: &str) -> bool {
    name.as_bytes().get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(lists: &[&str]) -> Result<(u32, u32), String> {
        let mut words = StatusWords::default();
        for list in lists {
            words.add(list.as_bytes()).map_err(|f| {
                let text = String::from_utf8_lossy(&f.text).into_owned();
                text.lines().next().unwrap().split_once("Bad parameter ").unwrap().1.to_owned()
            })?;
        }
        Ok((words.value, words.mask))
    }

    #[test]
    fn status_lists() {
        assert_eq!(status(&["ass"]), Ok((4, 4)));
        assert_eq!(status(&["UNREPLIEDfoo"]), Ok((0, 2)));
        assert_eq!(status(&["ASSURED,UNREPLIED"]), Ok((4, 2)));
        assert_eq!(status(&["!ASSURED,!SEEN_REPLY"]), Ok((0, 6)));
        assert_eq!(status(&["UN"]), Ok((0, 0)));
        assert_eq!(status(&["SEEN_REPLY", "ASSURED"]), Ok((6, 2)));
        assert_eq!(status(&["EXPECTED,FIXED_TIMEOUT,OFF,HW"]), Ok((0xc401, 0xc401)));
    }

    #[test]
    fn bad_lists_show_what_is_left() {
        for (list, rest) in [
            ("", "`'"),
            (",ASSURED", "`,ASSURED'"),
            ("ASSURED,", "`'"),
            ("ASSURED,,SEEN_REPLY", "`,SEEN_REPLY'"),
            ("!", "`'"),
            ("!UNREPLIED", "`UNREPLIED'"),
            ("!!ASSURED", "`!ASSURED'"),
            ("unreplied", "`unreplied'"),
            ("ASSURED,CONFIRMED", "`CONFIRMED'"),
        ] {
            assert_eq!(status(&[list]).unwrap_err(), rest, "{list}");
        }
    }

    #[test]
    fn save_stands_alone() {
        let mut output = Output::default();
        add_output(&mut output, b"save").unwrap();
        add_output(&mut output, b"sav").unwrap();
        assert_eq!(add_output(&mut output, b"id").unwrap_err().status, 1);
        let mut output = Output::default();
        assert_eq!(add_output(&mut output, b"save,foo").unwrap_err().status, 2);
    }
}
