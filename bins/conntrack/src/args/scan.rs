//! The options from left to right.

use std::fs;

use super::address::{Family, address, nat};
use super::getopt::{Item, Longs, Scanner};
use super::numbers::{c_int, whole_c_int};
use super::options::{Command, Key, LONGS, OWN_LONGS, Opt, OptSet, Table, command_of, short};
use super::own::{self, seconds, unexpected};
use super::protocol::{Extension, Field};
use super::words::{Output, add_events, add_output};
use super::{Nat, Request, check, fields, labels};
use crate::failure::{Failure, complain};

/// Options that `!` can stand in front of.
const NEGATABLE: OptSet = OptSet::of(&[
    Opt::Src,
    Opt::Dst,
    Opt::ReplySrc,
    Opt::ReplyDst,
    Opt::AnyAddr,
    Opt::Protonum,
    Opt::Family,
    Opt::Timeout,
    Opt::TimeoutBelow,
    Opt::TimeoutAbove,
    Opt::BytesAbove,
    Opt::Status,
    Opt::Mark,
    Opt::Secmark,
    Opt::Id,
    Opt::Zone,
    Opt::OrigZone,
    Opt::ReplyZone,
    Opt::Label,
    Opt::SrcNat,
    Opt::DstNat,
    Opt::AnyNat,
    Opt::Helper,
]);

/// What the lines of a loaded file have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// They may be what was saved of flows.
    loading: bool,
    /// Output types add up over all lines.
    output: Output,
    /// A file of label names holds for the lines that follow.
    label_path: Option<Vec<u8>>,
    labels: labels::Cache,
}

impl Shared {
    /// For the lines of a file.
    pub(crate) fn of_file() -> Self {
        Self { loading: true, ..Self::default() }
    }

    /// Whether lines before could make no difference to those read so far, nor these to others.
    pub(crate) fn is_unused(&self) -> bool {
        self.output == Output::default() && self.label_path.is_none() && self.labels.is_unused()
    }
}

/// Reads a whole command line; `words[0]` is the program.
pub(crate) fn parse(words: Vec<&[u8]>, stop_at_operand: bool) -> Result<Request, Failure> {
    parse_with(words, stop_at_operand, &mut Shared::default())
}

/// Reads one of several command lines.
pub(crate) fn parse_with(
    words: Vec<&[u8]>,
    stop_at_operand: bool,
    shared: &mut Shared,
) -> Result<Request, Failure> {
    let mut scan = Scanner::new(words, stop_at_operand);
    let mut request = Request { output: shared.output, ..Request::default() };
    loop {
        let protocol = request.extension.map_or(&[][..], |e| e.longs);
        let longs = Longs { common: LONGS, protocol, own: OWN_LONGS };
        match scan.next(&longs, short) {
            Item::End => break,
            Item::Unknown => {
                return Err(Failure::usage(&[b"unknown option `", scan.shown(), b"'"]));
            }
            Item::NothingNegated => return Err(misplaced_negation()),
            Item::NoValue => {
                let word = scan.shown();
                return Err(Failure::usage(&[b"option `", word, b"' requires an argument"]));
            }
            Item::Option(key, value) => {
                let again = request.has(key);
                if scan.negated() {
                    negated(&mut request, key, value, &mut scan)?;
                } else {
                    one(&mut request, key, value, &mut scan)?;
                }
                // Which of them it would turn round, nobody could tell.
                if again && request.has_negated(key) {
                    return Err(Failure::usage(&[b"an option with `!' can only be given once"]));
                }
            }
        }
    }
    shared.output = request.output;
    if request.label_path.is_some() {
        shared.label_path.clone_from(&request.label_path);
    } else {
        request.label_path.clone_from(&shared.label_path);
    }
    labels::resolve(&mut request, &mut shared.labels)?;
    check::options(&request, shared.loading)?;
    Ok(request)
}

fn one<'a>(
    request: &mut Request,
    key: Key,
    value: Option<&'a [u8]>,
    scan: &mut Scanner<'a>,
) -> Result<(), Failure> {
    match key {
        Key::Command(c) => command(request, c, value, scan),
        Key::Field(field) => set_field(request, field, value.unwrap_or_default()),
        Key::Opt(opt) => option(request, opt, value, scan),
    }
}

fn negated<'a>(
    request: &mut Request,
    key: Key,
    value: Option<&'a [u8]>,
    scan: &mut Scanner<'a>,
) -> Result<(), Failure> {
    let before = request.family;
    match key {
        Key::Opt(opt) if !NEGATABLE.has(opt) => return Err(misplaced_negation()),
        Key::Command(_) => return Err(misplaced_negation()),
        Key::Opt(Opt::Family) => {
            request.given.insert(Opt::Family);
            request.negated.insert(Opt::Family);
            let other = family(value.unwrap_or_default())?.other();
            return Family::agree(&mut request.family, other);
        }
        Key::Opt(opt) => {
            one(request, key, value, scan)?;
            request.negated.insert(opt);
        }
        Key::Field(field) => {
            one(request, key, value, scan)?;
            request.negated_fields |= 1 << field as u32;
        }
    }
    // Entries of the other family do not have the address either.
    request.family = before;
    Ok(())
}

fn misplaced_negation() -> Failure {
    Failure::usage(&[b"`!' stands in front of options that match entries"])
}

fn command(
    request: &mut Request,
    command: Command,
    attached: Option<&[u8]>,
    scan: &mut Scanner<'_>,
) -> Result<(), Failure> {
    let second = request.command.replace(command).is_some();
    let combined = || Failure::usage(&[b"Invalid commands combination"]);
    if let (Command::Help, Some(word)) = (command, attached) {
        let found = command_of(word);
        let unknown = || Failure::usage(&[b"unknown option `--help=", word, b"'"]);
        request.help_for = Some(found.ok_or_else(unknown)?);
        return if second { Err(combined()) } else { Ok(()) };
    }
    // An attached name counts as well: the original drops it, and works on another table than
    // it was told.
    let attached = attached.filter(|word| !word.is_empty());
    let word = attached.or_else(|| scan.take_operand());
    request.table = word.map_or(Ok(Table::Conntrack), table)?;
    // What is wrong with the table of a second command is told before that there is one.
    match (command, request.table) {
        (Command::List, _) | (_, Table::Conntrack) => {}
        (_, Table::Dying | Table::Unconfirmed) => {
            let told: &[u8] = b"Can't do that command with tables `dying' and `unconfirmed'";
            return Err(Failure::usage(&[told]));
        }
        (Command::Add, _) => return Err(Failure::usage(&[b"Can't do --add on expectations"])),
        (Command::Update, _) => {
            return Err(Failure::usage(&[b"Can't do --update on expectations"]));
        }
        _ => {}
    }
    if second { Err(combined()) } else { Ok(()) }
}

/// Tables are named by any prefix, the empty one included.
fn table(word: &[u8]) -> Result<Table, Failure> {
    let tables = [
        ("expect", Table::Expect),
        ("conntrack", Table::Conntrack),
        ("dying", Table::Dying),
        ("unconfirmed", Table::Unconfirmed),
    ];
    let found = tables.iter().find(|(name, _)| name.as_bytes().starts_with(word));
    found.map(|(_, t)| *t).ok_or_else(|| Failure::usage(&[b"unknown type `", word, b"'"]))
}

fn option<'a>(
    request: &mut Request,
    opt: Opt,
    attached: Option<&'a [u8]>,
    scan: &mut Scanner<'a>,
) -> Result<(), Failure> {
    let value = attached.unwrap_or_default();
    request.given.insert(opt);
    match opt {
        Opt::Src
        | Opt::Dst
        | Opt::ReplySrc
        | Opt::ReplyDst
        | Opt::MaskSrc
        | Opt::MaskDst
        | Opt::TupleSrc
        | Opt::TupleDst => set_address(request, opt, value)?,
        Opt::SrcNat | Opt::DstNat | Opt::AnyNat => set_nat(request, opt, attached, scan)?,
        Opt::Protonum => protocol(request, value)?,
        Opt::Family => Family::agree(&mut request.family, family(value)?)?,
        Opt::Timeout => {
            request.timeout = seconds(value).ok_or_else(|| unexpected(opt, value))?;
        }
        Opt::Status => request.status.add(value)?,
        Opt::Zero => {}
        Opt::EventMask => add_events(&mut request.events, value)?,
        Opt::NatRange => {
            request.given.remove(Opt::NatRange);
            complain(b"WARNING: ignoring -a, deprecated option.\n");
        }
        Opt::Mark => mark(request, value)?,
        Opt::Secmark => request.secmark = number(opt, value, u64::from(u32::MAX))? as u32,
        Opt::Id => request.id = number(opt, value, u64::from(u32::MAX))? as u32,
        Opt::Output => {
            add_output(&mut request.output, value)?;
            if request.output.has(Output::LABELS) {
                request.label_uses.push((Opt::Output, None));
            }
        }
        Opt::BufferSize => {
            let bytes = seconds(value).ok_or_else(|| unexpected(opt, value))?;
            request.buffer_size = bytes as usize;
        }
        Opt::Zone => request.zone = number(opt, value, 0xffff)? as u16,
        Opt::OrigZone => request.orig_zone = number(opt, value, 0xffff)? as u16,
        Opt::ReplyZone => request.reply_zone = number(opt, value, 0xffff)? as u16,
        Opt::Label | Opt::LabelAdd => request.label_uses.push((opt, Some(value.to_vec()))),
        Opt::LabelDel => {
            let names = attached.or_else(|| scan.take_operand());
            request.label_uses.push((opt, names.map(<[u8]>::to_vec)));
        }
        Opt::Labelmap => {
            if request.label_path.replace(value.to_vec()).is_some() {
                return Err(Failure::usage(&[b"option `--labelmap' can only be specified once"]));
            }
        }
        Opt::AnyAddr => {
            request.any_addr = Some(address(value, opt, true, &mut request.family)?);
        }
        _ => own::set(request, opt, value)?,
    }
    Ok(())
}

fn set_address(request: &mut Request, opt: Opt, value: &[u8]) -> Result<(), Failure> {
    let mask_allowed = matches!(opt, Opt::Src | Opt::Dst | Opt::TupleSrc | Opt::TupleDst);
    let (address, mask) = address(value, opt, mask_allowed, &mut request.family)?;
    match opt {
        Opt::Src => request.src = Some(address),
        Opt::Dst => request.dst = Some(address),
        Opt::ReplySrc => request.reply_src = Some(address),
        Opt::ReplyDst => request.reply_dst = Some(address),
        Opt::MaskSrc => request.src_mask = Some(address),
        Opt::MaskDst => request.dst_mask = Some(address),
        Opt::TupleSrc => request.tuple_src = Some(address),
        _ => request.tuple_dst = Some(address),
    }
    // A prefix length is as good as the option that gives the mask.
    if mask.is_some() {
        let source = matches!(opt, Opt::Src | Opt::TupleSrc);
        request.given.insert(if source { Opt::MaskSrc } else { Opt::MaskDst });
        *if source { &mut request.src_mask } else { &mut request.dst_mask } = mask;
    }
    Ok(())
}

/// The value is attached or the next word.
fn set_nat<'a>(
    request: &mut Request,
    opt: Opt,
    attached: Option<&'a [u8]>,
    scan: &mut Scanner<'a>,
) -> Result<(), Failure> {
    let Some(word) = attached.or_else(|| scan.take_operand()) else { return Ok(()) };
    let (address, port) = nat(word, opt, &mut request.family)?;
    let target = match opt {
        Opt::SrcNat => &mut request.src_nat,
        Opt::DstNat => &mut request.dst_nat,
        _ => &mut request.any_nat,
    };
    *target = Nat { address: Some(address), port };
    Ok(())
}

fn family(word: &[u8]) -> Result<Family, Failure> {
    if word.starts_with(b"ipv4") {
        Ok(Family::V4)
    } else if word.starts_with(b"ipv6") {
        Ok(Family::V6)
    } else {
        Err(Failure::usage(&[b"`", word, b"' unsupported protocol"]))
    }
}

fn protocol(request: &mut Request, word: &[u8]) -> Result<(), Failure> {
    let (number, extension) = if let Some(extension) = Extension::by_name(word) {
        (extension.number, Some(extension))
    } else if let Some(number) = protocol_by_name(word) {
        (number, None)
    } else if let Some(number) = whole_c_int(word, 255) {
        (number as u8, Extension::by_number(number as u8))
    } else {
        return Err(Failure::usage(&[b"`", word, b"' unsupported protocol"]));
    };
    request.protocol = Some(number);
    request.extension = extension;
    Ok(())
}

/// Looks a name or alias up in the system's list of protocols.
fn protocol_by_name(word: &[u8]) -> Option<u8> {
    let list = fs::read("/etc/protocols").ok()?;
    list.split(|&b| b == b'\n').find_map(|line| {
        let line = line.split(|&b| b == b'#').next()?;
        let mut words = line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty());
        let name = words.next()?;
        let number = core::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        (name == word || words.any(|alias| alias == word)).then_some(number)
    })
}

fn number(opt: Opt, value: &[u8], max: u64) -> Result<u64, Failure> {
    whole_c_int(value, max).ok_or_else(|| unexpected(opt, value))
}

fn mark(request: &mut Request, value: &[u8]) -> Result<(), Failure> {
    let (mark, mask) = match value.iter().position(|&b| b == b'/') {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    };
    let Some(mark) = whole_c_int(mark, u64::from(u32::MAX)) else {
        return Err(unexpected(Opt::Mark, value));
    };
    request.mark = mark as u32;
    request.mark_mask = match mask {
        None => u32::MAX,
        // Its end is checked, its size is not; no digits at all are 0.
        Some(mask) => {
            let n = c_int(mask);
            if n.used != mask.len() {
                return Err(unexpected(Opt::Mark, value));
            }
            n.value as u32
        }
    };
    Ok(())
}

fn set_field(request: &mut Request, field: Field, value: &[u8]) -> Result<(), Failure> {
    if let Some(extension) = request.extension {
        let (value, ranges) = fields::parse(extension, field, value)?;
        request.fields[field as usize] = Some(value);
        request.ranges.retain(|(f, _)| *f != field);
        request.ranges.extend(ranges.map(|r| (field, r)));
    }
    Ok(())
}
