//! Which options go with which command.

use super::options::{MATRIX, Opt, Rule, column, rule};
use super::protocol::{self, Extension, Field};
use super::{Command, Request};
use crate::failure::Failure;

/// Checks what was given against what the command takes.
pub(crate) fn options(request: &Request) -> Result<(), Failure> {
    let given = request.given;
    if given.has(Opt::AnyNat) && (given.has(Opt::SrcNat) || given.has(Opt::DstNat)) {
        return Err(Failure::usage(&[
            b"cannot specify `--src-nat' or `--dst-nat' with `--any-nat'",
        ]));
    }
    let column = request.command.and_then(|c| column(c, request.table));
    for (opt, name, rules) in MATRIX {
        let rule = column.map_or(Rule::Illegal, |c| rule(rules[c]));
        one(name, rule, given.has(opt))?;
    }
    let Some(column) = column else { return Ok(()) };
    let is_half = |opt: Opt| MATRIX[opt as usize].2[column] == b'P';
    if is_half(Opt::Src) {
        let has = |a, b| [given.has(a), given.has(b)];
        pair(
            has(Opt::Src, Opt::Dst),
            has(Opt::ReplySrc, Opt::ReplyDst),
            "you have to specify `--src' and `--dst'",
            "you have to specify `--reply-src' and `--reply-dst'",
        )?;
    }
    match (request.command, request.extension) {
        (Some(Command::Help), _) | (_, None) => Ok(()),
        (_, Some(extension)) => fields(request, extension),
    }
}

/// The same for the options of the protocol.
fn fields(request: &Request, extension: &Extension) -> Result<(), Failure> {
    let column = request.command.and_then(|c| protocol::column(c, request.table));
    for row in extension.rows {
        let rule = column.map_or(Rule::Illegal, |c| rule(row.rules[c]));
        one(row.name, rule, request.field(row.field).is_some())?;
    }
    let (Some(column), Some([first, second])) = (column, extension.pairs) else { return Ok(()) };
    if extension.rows.iter().any(|row| row.rules[column] == b'P') {
        let has = |a, b| [request.field(a).is_some(), request.field(b).is_some()];
        pair(
            has(Field::Sport, Field::Dport),
            has(Field::ReplySport, Field::ReplyDport),
            first,
            second,
        )?;
    }
    Ok(())
}

fn one(name: &str, rule: Rule, given: bool) -> Result<(), Failure> {
    match (rule, given) {
        (Rule::Required, false) => Err(Failure::usage(&[
            b"You need to supply the `--",
            name.as_bytes(),
            b"' option for this command",
        ])),
        (Rule::Illegal, true) => {
            Err(Failure::usage(&[b"Illegal option `--", name.as_bytes(), b"' with this command"]))
        }
        _ => Ok(()),
    }
}

/// One of the two pairs must be complete. A part of the second alone is blamed on the second,
/// everything else on the first.
fn pair(orig: [bool; 2], reply: [bool; 2], first: &str, second: &str) -> Result<(), Failure> {
    if orig == [true; 2] || reply == [true; 2] {
        return Ok(());
    }
    let blame_second = orig == [false; 2] && reply != [false; 2];
    Err(Failure::usage(&[if blame_second { second } else { first }.as_bytes()]))
}
