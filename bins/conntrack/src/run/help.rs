//! `-h`, `-V` and an empty command line.

use crate::args::{Command, Extension, Opt, Request, takes};
use crate::failure::Failure;
use crate::output::Out;

const COMMANDS: [(Command, &str, &str); 13] = [
    (Command::List, "-L [TABLE]", "list the entries"),
    (Command::Get, "-G [TABLE]", "show one entry"),
    (Command::Create, "-I [TABLE]", "make an entry; fail if it exists"),
    (Command::Add, "-A", "make an entry, or change the one that exists"),
    (Command::Update, "-U", "change all entries that match"),
    (Command::Delete, "-D [TABLE]", "remove all entries that match"),
    (Command::Event, "-E [TABLE]", "print events as they happen, until interrupted"),
    (Command::Flush, "-F [TABLE]", "remove all entries"),
    (Command::Count, "-C [TABLE]", "print the number of entries"),
    (Command::Stats, "-S [TABLE]", "print the counters of each processor"),
    (Command::Version, "-V", "print the version"),
    (Command::Help, "-h [-p PROTO]", "print this text, and the options of a protocol"),
    (Command::Help, "--help=COMMAND", "print the options of a command, such as --help=D"),
];

/// Whose program it is.
const ABOUT: &str =
    "shardtrack's program to look at, change and watch the flows of this machine.\n\n";

/// What is said of the other commands and the tables.
const NOTES: &str =
    "  -R FILE                    do what the lines of a file say; - is standard input
TABLE is conntrack, expect, dying or unconfirmed, or a beginning of it.
";

/// How each option is written, and what it is for.
const OPTIONS: [(Opt, &str, &str); 44] = [
    (Opt::Src, "-s, --src ADDR[/LEN]", "source of the original direction"),
    (Opt::Dst, "-d, --dst ADDR[/LEN]", "destination of the original direction"),
    (Opt::ReplySrc, "-r, --reply-src ADDR", "source of the reply direction"),
    (Opt::ReplyDst, "-q, --reply-dst ADDR", "destination of the reply direction"),
    (Opt::AnyAddr, "--any-addr ADDR[/LEN]", "address of either end in either direction"),
    (Opt::MaskSrc, "--mask-src MASK", "bits of the source that count"),
    (Opt::MaskDst, "--mask-dst MASK", "bits of the destination that count"),
    (Opt::TupleSrc, "--tuple-src ADDR", "source that is expected"),
    (Opt::TupleDst, "--tuple-dst ADDR", "destination that is expected"),
    (Opt::Protonum, "-p, --protonum PROTO", "layer 4 protocol, by name or number"),
    (Opt::Family, "-f, --family FAMILY", "ipv4 or ipv6"),
    (Opt::Timeout, "-t, --timeout SECONDS", "time until the entry expires"),
    (Opt::TimeoutBelow, "--timeout-below SECONDS", "expires sooner"),
    (Opt::TimeoutAbove, "--timeout-above SECONDS", "expires later"),
    (Opt::BytesAbove, "--bytes-above N", "carried more octets, both directions together"),
    (Opt::Status, "-u, --status FLAGS", "ASSURED, SEEN_REPLY, UNREPLIED, EXPECTED, OFFLOAD, ..."),
    (Opt::Mark, "-m, --mark VALUE[/MASK]", "mark"),
    (Opt::Secmark, "-c, --secmark VALUE", "security mark"),
    (Opt::Id, "-i, --id ID", "identifier"),
    (Opt::Zone, "-w, --zone ZONE", "zone"),
    (Opt::OrigZone, "--orig-zone ZONE", "zone of the original direction only"),
    (Opt::ReplyZone, "--reply-zone ZONE", "zone of the reply direction only"),
    (Opt::Helper, "--helper NAME", "helper"),
    (Opt::Label, "-l, --label NAMES", "has all of these labels"),
    (Opt::LabelAdd, "--label-add NAMES", "labels to set"),
    (Opt::LabelDel, "--label-del [NAMES]", "labels to remove, or all"),
    (Opt::LabelBits, "--label-bits 0xBITS", "labels to set, by their bits"),
    (Opt::Labelmap, "-M, --labelmap PATH", "file with the names of labels"),
    (Opt::SrcNat, "-n, --src-nat [ADDR[:PORT]]", "translation of the source"),
    (Opt::DstNat, "-g, --dst-nat [ADDR[:PORT]]", "translation of the destination"),
    (Opt::AnyNat, "-j, --any-nat [ADDR[:PORT]]", "either translation"),
    (Opt::SeqadjOrig, "--seqadj-orig POS,OLD,NEW", "sequence adjustment"),
    (Opt::SeqadjReply, "--seqadj-reply POS,OLD,NEW", "the same of the reply direction"),
    (Opt::Synproxy, "--synproxy ISN,ITS,TSOFF", "state of the SYN proxy"),
    (Opt::Master, "--master PROTO,SRC,DST,SPORT,DPORT", "the flow that expects this one"),
    (Opt::FilterFile, "--filter-file FILE", "matches one line of options in FILE at least"),
    (Opt::Zero, "-z, --zero", "zero the counters that are listed"),
    (Opt::EventMask, "-e, --event-mask KINDS", "ALL, NEW, UPDATES, DESTROY"),
    (Opt::BufferSize, "-b, --buffer-size BYTES", "room for events that wait"),
    (Opt::Snapshot, "--snapshot", "list the table before the events"),
    (
        Opt::Sort,
        "--sort [-]KEY",
        "bytes, packets, timeout, source, dport, ...; - for largest first",
    ),
    (Opt::Limit, "--limit N", "show N lines at most"),
    (Opt::CountBy, "--count-by KEY", "source, destination, port, protocol, state, zone or mark"),
    (
        Opt::Output,
        "-o, --output TYPES",
        "xml, json, save, extended, id, timestamp, ktimestamp, labels",
    ),
];

/// Prints the usage text, and the options of a protocol.
pub(super) fn usage(request: &Request, program: &[u8]) -> Result<(), Failure> {
    let mut out = Out::new()?;
    let text = &mut out.buffer;
    let version = env!("CARGO_PKG_VERSION");
    text.extend_from_slice(
        format!("Command line interface for the connection tracking system. Version {version}\n")
            .as_bytes(),
    );
    text.extend_from_slice(b"Usage: ");
    text.extend_from_slice(program);
    text.extend_from_slice(b" [commands] [options]\n\n");
    text.extend_from_slice(ABOUT.as_bytes());
    let table = request.table;
    for (command, name, what) in COMMANDS {
        if request.help_for.is_none_or(|c| c == command) {
            row(name, what, text);
        }
    }
    if request.help_for.is_none() {
        text.extend_from_slice(NOTES.as_bytes());
    }
    text.extend_from_slice(b"\nOptions; ! in front of one that matches turns it round:\n");
    for (opt, name, what) in OPTIONS {
        if request.help_for.is_none_or(|command| takes(command, table, opt)) {
            row(name, what, text);
        }
    }
    if let Some(number) = request.protocol {
        text.extend_from_slice(extension_help(number, request.extension).as_bytes());
    }
    out.flush();
    Ok(())
}

fn row(name: &str, what: &str, text: &mut Vec<u8>) {
    text.extend_from_slice(format!("  {name:<28} {what}\n").as_bytes());
}

fn extension_help(number: u8, extension: Option<&Extension>) -> String {
    let Some(extension) = extension else {
        let name = name_of(number).unwrap_or_else(|| "unknown".to_owned());
        return format!("\nProto `{name}' help:\n  no options (unsupported)\n");
    };
    let mut text = format!("\nProto `{}' help:\n", extension.name);
    for row in extension.rows {
        text.push_str("  --");
        text.push_str(row.name);
        text.push('\n');
    }
    text
}

/// The name in the system's list of protocols.
fn name_of(number: u8) -> Option<String> {
    let list = std::fs::read_to_string("/etc/protocols").ok()?;
    list.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let name = words.next()?;
        (words.next()?.parse() == Ok(number)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Table, every_name};

    /// What of the program is written down elsewhere names every option.
    #[test]
    fn everything_is_documented() {
        let manual = include_str!("../../conntrack.8").replace("\\-", "-");
        for (name, text) in [
            ("manual", manual.as_str()),
            ("bash", include_str!("../../completions/conntrack.bash")),
            ("zsh", include_str!("../../completions/_conntrack")),
        ] {
            for option in every_name() {
                let rare = option.starts_with("orig-")
                    || option.starts_with("mask-")
                    || option.starts_with("tuple-");
                if name == "manual" || !rare {
                    assert!(text.contains(&format!("--{option}")), "{name} lacks --{option}");
                }
            }
        }
    }

    #[test]
    fn help_of_a_command_fits_a_screen() {
        for (command, ..) in COMMANDS {
            let fits = OPTIONS.iter().filter(|(o, ..)| takes(command, Table::Conntrack, *o));
            assert!(fits.count() <= 40, "{command:?}");
        }
    }
}
