//! The options that belong to no protocol: names, letters, and which command takes which.

use super::getopt::{Long, Short, Takes};
use super::protocol::Field;

/// What an option stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Command(Command),
    Opt(Opt),
    /// An option of the protocol given by `-p`.
    Field(Field),
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    List,
    Create,
    Add,
    Update,
    Delete,
    Get,
    Event,
    Flush,
    Count,
    Stats,
    Version,
    Help,
}

/// The table that a command works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Conntrack,
    Expect,
    Dying,
    Unconfirmed,
}

/// The options, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opt {
    Src,
    Dst,
    ReplySrc,
    ReplyDst,
    Protonum,
    Timeout,
    Status,
    Zero,
    EventMask,
    TupleSrc,
    TupleDst,
    MaskSrc,
    MaskDst,
    NatRange,
    Mark,
    Id,
    Family,
    SrcNat,
    DstNat,
    Output,
    Secmark,
    BufferSize,
    AnyNat,
    Zone,
    Label,
    LabelAdd,
    LabelDel,
    OrigZone,
    ReplyZone,
    Labelmap,
    // From here on those that the original does not have.
    AnyAddr,
    Helper,
    TimeoutBelow,
    TimeoutAbove,
    BytesAbove,
    FilterFile,
    Sort,
    Limit,
    CountBy,
    Snapshot,
    LabelBits,
    SeqadjOrig,
    SeqadjReply,
    Synproxy,
    Master,
}

/// A set of options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OptSet(u64);

impl OptSet {
    pub(crate) const fn of(opts: &[Opt]) -> Self {
        let mut set = Self(0);
        let mut i = 0;
        while i < opts.len() {
            set.0 |= 1 << opts[i] as u8;
            i += 1;
        }
        set
    }

    pub(crate) const fn insert(&mut self, opt: Opt) {
        self.0 |= 1 << opt as u8;
    }

    pub(crate) const fn has(self, opt: Opt) -> bool {
        self.0 & 1 << opt as u8 != 0
    }

    pub(crate) const fn remove(&mut self, opt: Opt) {
        self.0 &= !(1 << opt as u8);
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How a command takes an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Illegal,
    Optional,
    Required,
}

/// The letters of the table below.
pub(crate) const fn rule(letter: u8) -> Rule {
    match letter {
        b'.' => Rule::Illegal,
        b'R' => Rule::Required,
        // `P` is half of a pair, which has a check of its own.
        _ => Rule::Optional,
    }
}

/// Name of each option and how each command takes it: illegal, optional, required, or half of a
/// pair. The columns are those of [`column`].
pub(crate) const MATRIX: [(Opt, &str, [u8; 14]); 45] = [
    (Opt::Src, "src", *b"oPPooPo...RRR."),
    (Opt::Dst, "dst", *b"oPPooPo...RRR."),
    (Opt::ReplySrc, "reply-src", *b"oPPooPo...ooo."),
    (Opt::ReplyDst, "reply-dst", *b"oPPooPo...ooo."),
    (Opt::Protonum, "protonum", *b"oRRooRo.o.RRR."),
    (Opt::Timeout, "timeout", *b".RRoo.....R..."),
    (Opt::Status, "status", *b"ooooo.....o..."),
    (Opt::Zero, "zero", *b"o............."),
    (Opt::EventMask, "event-mask", *b"......o......."),
    (Opt::TupleSrc, "tuple-src", *b"..........R..."),
    (Opt::TupleDst, "tuple-dst", *b"..........R..."),
    (Opt::MaskSrc, "mask-src", *b"o..oo.o...R..."),
    (Opt::MaskDst, "mask-dst", *b"o..oo.o...R..."),
    (Opt::NatRange, "nat-range", *b".oo..........."),
    (Opt::Mark, "mark", *b"ooooo.o......."),
    (Opt::Id, "id", *b"...ooo........"),
    (Opt::Family, "family", *b"o..oo.oo.o...."),
    (Opt::SrcNat, "src-nat", *b"ooooo.o......."),
    (Opt::DstNat, "dst-nat", *b"ooooo.o......."),
    (Opt::Output, "output", *b"o..oooo..o...o"),
    (Opt::Secmark, "secmark", *b"o.....o......."),
    (Opt::BufferSize, "buffer-size", *b"......o......."),
    (Opt::AnyNat, "any-nat", *b"o.....o......."),
    (Opt::Zone, "zone", *b"ooo.o.o......."),
    (Opt::Label, "label", *b"o..oooo......."),
    (Opt::LabelAdd, "label-add", *b".ooo.........."),
    (Opt::LabelDel, "label-del", *b"...o.........."),
    (Opt::OrigZone, "orig-zone", *b"ooo.o.o......."),
    (Opt::ReplyZone, "reply-zone", *b"ooo.o.o......."),
    (Opt::Labelmap, "labelmap", *b"o..oo.o......."),
    (Opt::AnyAddr, "any-addr", *b"o..oo.o......."),
    (Opt::Helper, "helper", *b"ooooo.o......."),
    (Opt::TimeoutBelow, "timeout-below", *b"o..oo.o......."),
    (Opt::TimeoutAbove, "timeout-above", *b"o..oo.o......."),
    (Opt::BytesAbove, "bytes-above", *b"o..oo.o......."),
    (Opt::FilterFile, "filter-file", *b"o..oo.o......."),
    (Opt::Sort, "sort", *b"o............."),
    (Opt::Limit, "limit", *b"o............."),
    (Opt::CountBy, "count-by", *b"o............."),
    (Opt::Snapshot, "snapshot", *b"......o......."),
    (Opt::LabelBits, "label-bits", *b".oo..........."),
    (Opt::SeqadjOrig, "seqadj-orig", *b".oo..........."),
    (Opt::SeqadjReply, "seqadj-reply", *b".oo..........."),
    (Opt::Synproxy, "synproxy", *b".oo..........."),
    (Opt::Master, "master", *b".oo..........."),
];

/// The columns of [`MATRIX`] as sets: what a command must have, and what it must not have.
const RULES: [(OptSet, OptSet); 14] = {
    let mut sets = [(OptSet(0), OptSet(0)); 14];
    let mut row = 0;
    while row < MATRIX.len() {
        let (opt, _, rules) = MATRIX[row];
        let mut column = 0;
        while column < rules.len() {
            match rule(rules[column]) {
                Rule::Required => sets[column].0.insert(opt),
                Rule::Illegal => sets[column].1.insert(opt),
                Rule::Optional => {}
            }
            column += 1;
        }
        row += 1;
    }
    sets
};

/// Whether the command of a column has what it must and nothing that it must not have.
pub(crate) const fn complies(column: usize, given: OptSet) -> bool {
    let (required, illegal) = RULES[column];
    given.all(required) && !given.any(illegal)
}

/// The column of a command in [`MATRIX`]. `None` if the command takes no option at all.
pub(crate) const fn column(command: Command, table: Table) -> Option<usize> {
    let expect = matches!(table, Table::Expect);
    Some(match command {
        Command::List if expect => 9,
        Command::Create if expect => 10,
        Command::Delete if expect => 11,
        Command::Get if expect => 12,
        Command::Event if expect => 13,
        Command::Flush if expect => return None,
        Command::List => 0,
        Command::Create => 1,
        Command::Add => 2,
        Command::Update => 3,
        Command::Delete => 4,
        Command::Get => 5,
        Command::Event => 6,
        Command::Flush => 7,
        Command::Help => 8,
        Command::Count | Command::Stats | Command::Version => return None,
    })
}

/// Whether a command takes an option.
pub(crate) fn takes(command: Command, table: Table, opt: Opt) -> bool {
    column(command, table).is_some_and(|c| MATRIX[opt as usize].2[c] != b'.')
}

/// The command of a letter or a long name, with or without the dashes.
pub(crate) fn command_of(word: &[u8]) -> Option<Command> {
    let bare = word.iter().position(|&b| b != b'-').map_or(&[][..], |at| &word[at..]);
    let of = |key| match key {
        Key::Command(command) => Some(command),
        _ => None,
    };
    match bare {
        [letter] => short(*letter).and_then(|s| of(s.key)),
        _ => LONGS.iter().find(|l| l.name.as_bytes() == bare).and_then(|l| of(l.key)),
    }
}

const fn opt(name: &'static str, takes: Takes, opt: Opt) -> Long {
    Long { name, takes, key: Key::Opt(opt) }
}

const fn value(name: &'static str, o: Opt) -> Long {
    opt(name, Takes::Value, o)
}

const fn command(name: &'static str, takes: Takes, command: Command) -> Long {
    Long { name, takes, key: Key::Command(command) }
}

/// The long names.
pub(crate) const LONGS: &[Long] = &[
    command("dump", Takes::Attached, Command::List),
    command("get", Takes::Attached, Command::Get),
    command("create", Takes::Attached, Command::Create),
    command("add", Takes::Attached, Command::Add),
    command("update", Takes::Attached, Command::Update),
    command("delete", Takes::Attached, Command::Delete),
    command("event", Takes::Attached, Command::Event),
    command("flush", Takes::Attached, Command::Flush),
    command("counter", Takes::Attached, Command::Count),
    command("stats", Takes::Nothing, Command::Stats),
    command("version", Takes::Nothing, Command::Version),
    command("help", Takes::Attached, Command::Help),
    value("src", Opt::Src),
    value("orig-src", Opt::Src),
    value("dst", Opt::Dst),
    value("orig-dst", Opt::Dst),
    value("reply-src", Opt::ReplySrc),
    value("reply-dst", Opt::ReplyDst),
    value("mask-src", Opt::MaskSrc),
    value("mask-dst", Opt::MaskDst),
    value("tuple-src", Opt::TupleSrc),
    value("tuple-dst", Opt::TupleDst),
    value("protonum", Opt::Protonum),
    value("family", Opt::Family),
    value("timeout", Opt::Timeout),
    value("status", Opt::Status),
    value("mark", Opt::Mark),
    value("secmark", Opt::Secmark),
    value("id", Opt::Id),
    value("zone", Opt::Zone),
    value("orig-zone", Opt::OrigZone),
    value("reply-zone", Opt::ReplyZone),
    value("label", Opt::Label),
    value("label-add", Opt::LabelAdd),
    opt("label-del", Takes::Attached, Opt::LabelDel),
    value("labelmap", Opt::Labelmap),
    opt("src-nat", Takes::Attached, Opt::SrcNat),
    opt("dst-nat", Takes::Attached, Opt::DstNat),
    opt("any-nat", Takes::Attached, Opt::AnyNat),
    value("nat-range", Opt::NatRange),
    value("output", Opt::Output),
    value("event-mask", Opt::EventMask),
    value("buffer-size", Opt::BufferSize),
    opt("zero", Takes::Nothing, Opt::Zero),
];

/// The long names that the original does not have.
pub(crate) const OWN_LONGS: &[Long] = &[
    value("any-addr", Opt::AnyAddr),
    value("helper", Opt::Helper),
    value("timeout-below", Opt::TimeoutBelow),
    value("timeout-above", Opt::TimeoutAbove),
    value("bytes-above", Opt::BytesAbove),
    value("filter-file", Opt::FilterFile),
    value("sort", Opt::Sort),
    value("limit", Opt::Limit),
    value("count-by", Opt::CountBy),
    opt("snapshot", Takes::Nothing, Opt::Snapshot),
    value("label-bits", Opt::LabelBits),
    value("seqadj-orig", Opt::SeqadjOrig),
    value("seqadj-reply", Opt::SeqadjReply),
    value("synproxy", Opt::Synproxy),
    value("master", Opt::Master),
];

const fn letter(letter: u8, takes: Takes, o: Opt) -> Short {
    Short { letter, takes, key: Key::Opt(o) }
}

const fn verb(letter: u8, takes: Takes, command: Command) -> Short {
    Short { letter, takes, key: Key::Command(command) }
}

/// The letters. The bracket characters are as good as letters.
const SHORTS: &[Short] = &[
    verb(b'L', Takes::Nothing, Command::List),
    verb(b'G', Takes::Nothing, Command::Get),
    verb(b'I', Takes::Nothing, Command::Create),
    verb(b'A', Takes::Nothing, Command::Add),
    verb(b'U', Takes::Nothing, Command::Update),
    verb(b'D', Takes::Nothing, Command::Delete),
    verb(b'E', Takes::Nothing, Command::Event),
    verb(b'F', Takes::Nothing, Command::Flush),
    verb(b'C', Takes::Attached, Command::Count),
    verb(b'S', Takes::Nothing, Command::Stats),
    verb(b'V', Takes::Nothing, Command::Version),
    verb(b'h', Takes::Nothing, Command::Help),
    letter(b's', Takes::Value, Opt::Src),
    letter(b'd', Takes::Value, Opt::Dst),
    letter(b'r', Takes::Value, Opt::ReplySrc),
    letter(b'q', Takes::Value, Opt::ReplyDst),
    letter(b'{', Takes::Value, Opt::MaskSrc),
    letter(b'}', Takes::Value, Opt::MaskDst),
    letter(b'[', Takes::Value, Opt::TupleSrc),
    letter(b']', Takes::Value, Opt::TupleDst),
    letter(b'p', Takes::Value, Opt::Protonum),
    letter(b'f', Takes::Value, Opt::Family),
    letter(b't', Takes::Value, Opt::Timeout),
    letter(b'u', Takes::Value, Opt::Status),
    letter(b'm', Takes::Value, Opt::Mark),
    letter(b'c', Takes::Value, Opt::Secmark),
    letter(b'i', Takes::Value, Opt::Id),
    letter(b'w', Takes::Value, Opt::Zone),
    letter(b'(', Takes::Value, Opt::OrigZone),
    letter(b')', Takes::Value, Opt::ReplyZone),
    letter(b'l', Takes::Value, Opt::Label),
    letter(b'<', Takes::Value, Opt::LabelAdd),
    letter(b'>', Takes::Attached, Opt::LabelDel),
    letter(b'M', Takes::Value, Opt::Labelmap),
    letter(b'n', Takes::Attached, Opt::SrcNat),
    letter(b'g', Takes::Attached, Opt::DstNat),
    letter(b'j', Takes::Attached, Opt::AnyNat),
    letter(b'a', Takes::Value, Opt::NatRange),
    letter(b'o', Takes::Value, Opt::Output),
    letter(b'e', Takes::Value, Opt::EventMask),
    letter(b'b', Takes::Value, Opt::BufferSize),
    letter(b'z', Takes::Nothing, Opt::Zero),
];

/// Where each letter stands in [`SHORTS`].
const PLACES: [u8; 128] = {
    let mut places = [u8::MAX; 128];
    let mut at = 0;
    while at < SHORTS.len() {
        places[SHORTS[at].letter as usize] = at as u8;
        at += 1;
    }
    places
};

/// The option of a letter.
pub(crate) fn short(letter: u8) -> Option<&'static Short> {
    SHORTS.get(usize::from(*PLACES.get(usize::from(letter))?))
}

/// The letter of an option, for messages. Those of our own have none.
pub(crate) fn letter_of(o: Opt) -> Option<u8> {
    SHORTS.iter().find(|s| s.key == Key::Opt(o)).map(|s| s.letter)
}

/// The first name of an option, for messages.
pub(crate) fn name_of(o: Opt) -> &'static str {
    MATRIX.iter().find(|row| row.0 == o).map_or("", |row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_options() {
        for (i, (o, ..)) in MATRIX.iter().enumerate() {
            assert_eq!(*o as usize, i);
        }
    }

    #[test]
    fn every_option_has_a_letter_and_a_name() {
        for (o, name, _) in MATRIX {
            let own = o as u8 > Opt::Labelmap as u8;
            assert_ne!(letter_of(o).is_some(), own, "{name}");
            let longs = if own { OWN_LONGS } else { LONGS };
            assert!(longs.iter().any(|l| l.name == name && l.key == Key::Opt(o)), "{name}");
        }
    }
}
