//! The protocols that bring options of their own.

use proto_ctnl::proto;

use super::getopt::{Long, Takes};
use super::options::{Command, Key, Table};

/// An option that a protocol brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Field {
    Sport,
    Dport,
    ReplySport,
    ReplyDport,
    MaskSport,
    MaskDport,
    TupleSport,
    TupleDport,
    State,
    IcmpType,
    IcmpCode,
    IcmpId,
    OrigVtag,
    ReplyVtag,
    Role,
}

/// One option: its first name, what it sets, and how each command takes it, in the columns of
/// [`column`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) field: Field,
    pub(crate) rules: [u8; 10],
}

const fn row(name: &'static str, field: Field, rules: [u8; 10]) -> Row {
    Row { name, field, rules }
}

/// A protocol with options.
#[derive(Debug)]
pub(crate) struct Extension {
    /// IP protocol number.
    pub(crate) number: u8,
    /// Name, compared without regard to case.
    pub(crate) name: &'static str,
    pub(crate) rows: &'static [Row],
    /// Everything that can be given, aliases included.
    pub(crate) longs: &'static [Long],
    /// What to say when neither pair of ports or keys is complete and the first is the one to
    /// blame, and when it is the second.
    pub(crate) pairs: Option<[&'static str; 2]>,
}

/// The column of a command in [`Row::rules`]. `None` if the command takes no such option.
pub(crate) const fn column(command: Command, table: Table) -> Option<usize> {
    let expect = matches!(table, Table::Expect);
    Some(match command {
        Command::Create if expect => 7,
        Command::Delete if expect => 8,
        Command::Get if expect => 9,
        Command::List | Command::Event if expect => return None,
        Command::List => 0,
        Command::Create => 1,
        Command::Add => 2,
        Command::Update => 3,
        Command::Delete => 4,
        Command::Get => 5,
        Command::Event => 6,
        _ => return None,
    })
}

impl Extension {
    /// The extension of a protocol by name.
    pub(crate) fn by_name(name: &[u8]) -> Option<&'static Self> {
        EXTENSIONS.iter().find(|e| e.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The extension of a protocol by number.
    pub(crate) fn by_number(number: u8) -> Option<&'static Self> {
        EXTENSIONS.iter().find(|e| e.number == number)
    }
}

const fn long(name: &'static str, field: Field) -> Long {
    Long { name, takes: Takes::Value, key: Key::Field(field) }
}

const SPORT: Row = row("sport", Field::Sport, *b"oPPooPoRRR");
const DPORT: Row = row("dport", Field::Dport, *b"oPPooPoRRR");
const REPLY_SPORT: Row = row("reply-port-src", Field::ReplySport, *b"oPPooPo.RR");
const REPLY_DPORT: Row = row("reply-port-dst", Field::ReplyDport, *b"oPPooPo.RR");
const MASK_SPORT: Row = row("mask-port-src", Field::MaskSport, *b".......R..");
const MASK_DPORT: Row = row("mask-port-dst", Field::MaskDport, *b".......R..");
const STATE: Row = row("state", Field::State, *b"oRRoooo...");
const TUPLE_SPORT: Row = row("tuple-port-src", Field::TupleSport, *b".......R..");
const TUPLE_DPORT: Row = row("tuple-port-dst", Field::TupleDport, *b".......R..");

const TCP_ROWS: &[Row] = &[
    SPORT,
    DPORT,
    REPLY_SPORT,
    REPLY_DPORT,
    MASK_SPORT,
    MASK_DPORT,
    STATE,
    TUPLE_SPORT,
    TUPLE_DPORT,
];
const UDP_ROWS: &[Row] =
    &[SPORT, DPORT, REPLY_SPORT, REPLY_DPORT, MASK_SPORT, MASK_DPORT, TUPLE_SPORT, TUPLE_DPORT];
const SCTP_ROWS: &[Row] = &[
    SPORT,
    DPORT,
    REPLY_SPORT,
    REPLY_DPORT,
    MASK_SPORT,
    MASK_DPORT,
    STATE,
    TUPLE_SPORT,
    TUPLE_DPORT,
    row("orig-vtag", Field::OrigVtag, *b".RRo.o.R.."),
    row("reply-vtag", Field::ReplyVtag, *b".RRo.o.R.."),
];
const DCCP_ROWS: &[Row] = &[
    SPORT,
    DPORT,
    REPLY_SPORT,
    REPLY_DPORT,
    MASK_SPORT,
    MASK_DPORT,
    STATE,
    TUPLE_SPORT,
    TUPLE_DPORT,
    row("role", Field::Role, *b".RR....R.."),
];
const ICMP_ROWS: &[Row] = &[
    row("icmp-type", Field::IcmpType, *b"oRRooRo..."),
    row("icmp-code", Field::IcmpCode, *b"oRRooRo..."),
    row("icmp-id", Field::IcmpId, *b"ooooooo..."),
];
const ICMPV6_ROWS: &[Row] = &[
    row("icmpv6-type", Field::IcmpType, *b"oRRooRo..."),
    row("icmpv6-code", Field::IcmpCode, *b"oRRooRo..."),
    row("icmpv6-id", Field::IcmpId, *b"ooooooo..."),
];
const GRE_ROWS: &[Row] = &[
    row("srckey", Field::Sport, *b"oPPooPoRRR"),
    row("dstkey", Field::Dport, *b"oPPooPoRRR"),
    row("reply-key-src", Field::ReplySport, *b"oPPooPoRRR"),
    row("reply-key-dst", Field::ReplyDport, *b"oPPooPoRRR"),
    row("mask-key-src", Field::MaskSport, *b".......R.."),
    row("mask-key-dst", Field::MaskDport, *b".......R.."),
    row("tuple-key-src", Field::TupleSport, *b".......R.."),
    row("tuple-key-dst", Field::TupleDport, *b".......R.."),
];

const PORT_LONGS: [Long; 10] = [
    long("orig-port-src", Field::Sport),
    long("orig-port-dst", Field::Dport),
    long("reply-port-src", Field::ReplySport),
    long("reply-port-dst", Field::ReplyDport),
    long("sport", Field::Sport),
    long("dport", Field::Dport),
    long("mask-port-src", Field::MaskSport),
    long("mask-port-dst", Field::MaskDport),
    long("tuple-port-src", Field::TupleSport),
    long("tuple-port-dst", Field::TupleDport),
];

/// The names of ports and `more`.
const fn with_ports<const N: usize>(more: &[Long]) -> [Long; N] {
    let mut longs = [PORT_LONGS[0]; N];
    let mut i = 0;
    while i < N {
        longs[i] = if i < PORT_LONGS.len() { PORT_LONGS[i] } else { more[i - PORT_LONGS.len()] };
        i += 1;
    }
    longs
}

const TCP_LONGS: [Long; 11] = with_ports(&[long("state", Field::State)]);
const SCTP_LONGS: [Long; 13] = with_ports(&[
    long("state", Field::State),
    long("orig-vtag", Field::OrigVtag),
    long("reply-vtag", Field::ReplyVtag),
]);
const DCCP_LONGS: [Long; 12] =
    with_ports(&[long("state", Field::State), long("role", Field::Role)]);

const PORT_PAIRS: [&str; 2] = [
    "you have to specify `--sport' and `--dport'",
    "you have to specify `--reply-src-port' and `--reply-dst-port'",
];

/// All of them.
pub(crate) const EXTENSIONS: [Extension; 8] = [
    Extension {
        number: proto::TCP,
        name: "tcp",
        rows: TCP_ROWS,
        longs: &TCP_LONGS,
        pairs: Some(PORT_PAIRS),
    },
    Extension {
        number: proto::UDP,
        name: "udp",
        rows: UDP_ROWS,
        longs: &PORT_LONGS,
        pairs: Some(PORT_PAIRS),
    },
    Extension {
        number: proto::UDPLITE,
        name: "udplite",
        rows: UDP_ROWS,
        longs: &PORT_LONGS,
        pairs: Some(PORT_PAIRS),
    },
    Extension {
        number: proto::ICMP,
        name: "icmp",
        rows: ICMP_ROWS,
        longs: &[
            long("icmp-type", Field::IcmpType),
            long("icmp-code", Field::IcmpCode),
            long("icmp-id", Field::IcmpId),
        ],
        pairs: None,
    },
    Extension {
        number: proto::ICMPV6,
        name: "icmpv6",
        rows: ICMPV6_ROWS,
        longs: &[
            long("icmpv6-type", Field::IcmpType),
            long("icmpv6-code", Field::IcmpCode),
            long("icmpv6-id", Field::IcmpId),
        ],
        pairs: None,
    },
    Extension {
        number: proto::SCTP,
        name: "sctp",
        rows: SCTP_ROWS,
        longs: &SCTP_LONGS,
        pairs: Some(PORT_PAIRS),
    },
    Extension {
        number: proto::DCCP,
        name: "dccp",
        rows: DCCP_ROWS,
        longs: &DCCP_LONGS,
        pairs: Some([
            "you have to specify `--sport' and `--dport'",
            "you have to specify `--reply-port-src' and `--report-port-dst'",
        ]),
    },
    Extension {
        number: proto::GRE,
        name: "gre",
        rows: GRE_ROWS,
        longs: &[
            long("srckey", Field::Sport),
            long("orig-key-src", Field::Sport),
            long("dstkey", Field::Dport),
            long("orig-key-dst", Field::Dport),
            long("reply-key-src", Field::ReplySport),
            long("reply-key-dst", Field::ReplyDport),
            long("mask-key-src", Field::MaskSport),
            long("mask-key-dst", Field::MaskDport),
            long("tuple-key-src", Field::TupleSport),
            long("tuple-key-dst", Field::TupleDport),
        ],
        pairs: Some([
            "you have to specify `--srckey' and `--dstkey'",
            "you have to specify `--reply-src-key' and `--reply-dst-key'",
        ]),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_given() {
        for e in &EXTENSIONS {
            for r in e.rows {
                let key = Key::Field(r.field);
                assert!(e.longs.iter().any(|l| l.name == r.name && l.key == key), "{}", r.name);
            }
        }
    }
}
