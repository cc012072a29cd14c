//! `-h`, `-V` and an empty command line.

use crate::args::Extension;
use crate::failure::Failure;
use crate::output::Out;

const COMMANDS: &str = "
Show and change the kernel's connection tracking tables (shardtrack).

Commands, for the table conntrack unless a table follows:
  -L [conntrack|expect]    list the entries
  -E [conntrack|expect]    print events as they happen, until interrupted
  -I [conntrack]           make an entry
  -F [conntrack|expect]    remove all entries
  -C [conntrack|expect]    print the number of entries
  -V                       print the version
  -h [-p PROTO]            print this text, and the options of a protocol

Options:
  -s, --src ADDR[/LEN]     source of the original direction
  -d, --dst ADDR[/LEN]     destination of the original direction
  -r, --reply-src ADDR     source of the reply direction
  -q, --reply-dst ADDR     destination of the reply direction
      --mask-src MASK      bits of the source that count
      --mask-dst MASK      bits of the destination that count
  -p, --protonum PROTO     layer 4 protocol, by name or number
  -f, --family FAMILY      ipv4 or ipv6
  -t, --timeout SECONDS    time until the entry expires (-I)
  -u, --status FLAGS       ASSURED, SEEN_REPLY, UNSET, FIXED_TIMEOUT, EXPECTED, OFFLOAD,
                           HW_OFFLOAD or UNREPLIED, separated by commas; ! in front negates
  -m, --mark VALUE[/MASK]  mark
  -w, --zone ZONE          zone
      --orig-zone ZONE     zone of the original direction only
      --reply-zone ZONE    zone of the reply direction only
  -l, --label NAMES        all of these labels
      --label-add NAMES    labels to set (-I)
  -M, --labelmap PATH      names of the labels, in place of /etc/xtables/connlabel.conf
  -n, --src-nat [ADDR[:PORT]]
  -g, --dst-nat [ADDR[:PORT]]
  -j, --any-nat [ADDR[:PORT]]
                           translation of source, destination or either
  -z, --zero               zero the counters that are listed
  -e, --event-mask KINDS   ALL, NEW, UPDATES or DESTROY, separated by commas (-E)
  -b, --buffer-size BYTES  receive buffer for events (-E)
  -o, --output TYPES       xml, extended, timestamp, id, ktimestamp, labels, userspace or save,
                           separated by commas; save stands alone
";

/// Prints the usage text, and the options of a protocol.
pub(super) fn usage(
    protocol: Option<(u8, Option<&'static Extension>)>,
    program: &[u8],
) -> Result<(), Failure> {
    let mut out = Out::new()?;
    let text = &mut out.buffer;
    let version = env!("CARGO_PKG_VERSION");
    text.extend_from_slice(
        format!("Command line interface for the connection tracking system. Version {version}\n")
            .as_bytes(),
    );
    text.extend_from_slice(b"Usage: ");
    text.extend_from_slice(program);
    text.extend_from_slice(b" [commands] [options]\n");
    text.extend_from_slice(COMMANDS.as_bytes());
    if let Some((number, extension)) = protocol {
        text.extend_from_slice(extension_help(number, extension).as_bytes());
    }
    out.flush()
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
