//! The options from left to right.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::address::{Family, address, nat};
use super::getopt::{Item, Long, Scanner};
use super::labels::{DEFAULT_PATH, LabelMap};
use super::numbers::{atol, c_int, whole_c_int};
use super::options::{Command, Key, LONGS, Opt, OptSet, SHORTS, Table, letter_of};
use super::protocol::{Extension, Field};
use super::words::{Output, add_events, add_output};
use super::{LabelBits, Nat, Request, check, fields};
use crate::failure::{Failure, complain};

/// Reads a whole command line; `words[0]` is the program.
pub(crate) fn parse(words: Vec<Vec<u8>>, stop_at_operand: bool) -> Result<Request, Failure> {
    let mut scan = Scanner::new(words, stop_at_operand);
    let mut request = Request::default();
    let mut longs: Vec<Long> = LONGS.to_vec();
    loop {
        match scan.next(&longs, SHORTS) {
            Item::End => break,
            Item::Unknown => {
                return Err(Failure::usage(&[b"unknown option `", scan.shown(), b"'"]));
            }
            Item::NoValue => {
                let word = scan.shown();
                return Err(Failure::usage(&[b"option `", word, b"' requires an argument"]));
            }
            Item::Option(Key::Command(c), value) => command(&mut request, c, value, &mut scan)?,
            Item::Option(Key::Field(field), value) => set_field(&mut request, field, value)?,
            Item::Option(Key::Opt(opt), value) => {
                option(&mut request, opt, &value.unwrap_or_default(), &mut scan)?;
                if opt == Opt::Protonum {
                    longs.truncate(LONGS.len());
                    longs.extend_from_slice(request.extension.map_or(&[], |e| e.longs));
                }
            }
        }
    }
    labels(&mut request)?;
    check::options(&request)?;
    Ok(request)
}

fn command(
    request: &mut Request,
    command: Command,
    attached: Option<Vec<u8>>,
    scan: &mut Scanner,
) -> Result<(), Failure> {
    if request.command.is_some() {
        return Err(Failure::usage(&[b"Invalid commands combination"]));
    }
    request.command = Some(command);
    // What is attached to the command is dropped, and no table is looked for then.
    if attached.is_none()
        && let Some(word) = scan.take_operand()
    {
        request.table = table(&word)?;
    }
    match (command, request.table) {
        (Command::List, _) | (_, Table::Conntrack) => Ok(()),
        (_, Table::Dying | Table::Unconfirmed) => {
            Err(Failure::usage(&[b"Can't do that command with tables `dying' and `unconfirmed'"]))
        }
        (Command::Add, _) => Err(Failure::usage(&[b"Can't do --add on expectations"])),
        (Command::Update, _) => Err(Failure::usage(&[b"Can't do --update on expectations"])),
        _ => Ok(()),
    }
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

fn option(
    request: &mut Request,
    opt: Opt,
    value: &[u8],
    scan: &mut Scanner,
) -> Result<(), Failure> {
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
        Opt::SrcNat | Opt::DstNat | Opt::AnyNat => set_nat(request, opt, scan)?,
        Opt::Protonum => protocol(request, value)?,
        Opt::Family => Family::agree(&mut request.family, family(value)?)?,
        Opt::Timeout => request.timeout = atol(value) as u32,
        Opt::Status => request.status.add(value)?,
        Opt::Zero => {}
        Opt::EventMask => add_events(&mut request.events, value)?,
        Opt::NatRange => {
            request.given = without(request.given, Opt::NatRange);
            complain(b"WARNING: ignoring -a, deprecated option.\n");
        }
        Opt::Mark => mark(request, value)?,
        // Neither filters anything; they are checked all the same.
        Opt::Secmark | Opt::Id => drop(number(opt, value, u64::from(u32::MAX))?),
        Opt::Output => {
            add_output(&mut request.output, value)?;
            if request.output.has(Output::LABELS) {
                request.label_uses.push((Opt::Output, Vec::new()));
            }
        }
        Opt::BufferSize => request.buffer_size = usize::try_from(atol(value)).unwrap_or(0),
        Opt::Zone => request.zone = number(opt, value, 0xffff)? as u16,
        Opt::OrigZone => request.orig_zone = number(opt, value, 0xffff)? as u16,
        Opt::ReplyZone => request.reply_zone = number(opt, value, 0xffff)? as u16,
        Opt::Label | Opt::LabelAdd => request.label_uses.push((opt, value.to_vec())),
        Opt::LabelDel => {
            let names = scan.take_operand().unwrap_or_default();
            request.label_uses.push((opt, names));
        }
        Opt::Labelmap => {
            if request.label_path.replace(value.to_vec()).is_some() {
                return Err(Failure::usage(&[b"option `--labelmap' can only be specified once"]));
            }
        }
    }
    Ok(())
}

fn without(set: OptSet, opt: Opt) -> OptSet {
    let mut rest = OptSet::default();
    for (o, ..) in super::options::MATRIX {
        if o != opt && set.has(o) {
            rest.insert(o);
        }
    }
    rest
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
        _ => {}
    }
    // A prefix length is as good as the option that gives the mask.
    if mask.is_some() {
        let source = matches!(opt, Opt::Src | Opt::TupleSrc);
        request.given.insert(if source { Opt::MaskSrc } else { Opt::MaskDst });
        *if source { &mut request.src_mask } else { &mut request.dst_mask } = mask;
    }
    Ok(())
}

fn set_nat(request: &mut Request, opt: Opt, scan: &mut Scanner) -> Result<(), Failure> {
    // The value is the next word. What is attached is dropped.
    let Some(word) = scan.take_operand() else { return Ok(()) };
    let (address, port) = nat(&word, opt, &mut request.family)?;
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

fn unexpected(opt: Opt, value: &[u8]) -> Failure {
    Failure::other(&[b"unexpected value '", value, b"' with -", &[letter_of(opt)], b" option"])
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

fn set_field(request: &mut Request, field: Field, value: Option<Vec<u8>>) -> Result<(), Failure> {
    if let Some(extension) = request.extension {
        let value = fields::parse(extension, field, &value.unwrap_or_default())?;
        request.fields[field as usize] = Some(value);
    }
    Ok(())
}

/// Resolves the names of labels, once all options are known.
fn labels(request: &mut Request) -> Result<(), Failure> {
    if request.given.has(Opt::LabelAdd) && request.given.has(Opt::LabelDel) {
        return Err(Failure::other(&[b"cannot use --label-add and --label-del at the same time"]));
    }
    if request.label_uses.is_empty() {
        return Ok(());
    }
    let path = request.label_path.as_deref().unwrap_or(DEFAULT_PATH.as_bytes());
    let path = Path::new(OsStr::from_bytes(path));
    let map = match LabelMap::read(path) {
        Ok(map) => Some(map),
        Err(text) => {
            complain(format!("nfct_labelmap_new: {text}\n").as_bytes());
            None
        }
    };
    for (opt, list) in core::mem::take(&mut request.label_uses) {
        let bits = match opt {
            Opt::Label => &mut request.labels,
            Opt::LabelAdd => &mut request.labels_add,
            // Bits to remove are only looked up: nothing here removes labels yet.
            _ => &mut LabelBits::default(),
        };
        if opt == Opt::Output || opt == Opt::LabelDel && list.is_empty() {
            continue;
        }
        for name in list.split(|&b| b == b',') {
            match map.as_ref().and_then(|m| m.bit(name)) {
                Some(bit) => bits.insert(bit),
                None => return Err(Failure::usage(&[b"unknown label '", name, b"'"])),
            }
        }
    }
    request.label_names = map.map(|m| m.names());
    Ok(())
}
