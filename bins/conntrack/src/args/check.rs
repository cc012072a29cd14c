//! Which options go with which command.

use super::options::{MATRIX, Opt, OptSet, Rule, Table, column, complies, rule};
use super::protocol::{self, Extension, Field};
use super::{Command, Output, Request};
use crate::failure::Failure;

/// Checks what was given against what the command takes. Of a file that is `loading` also what was
/// saved of any flow is taken.
pub(crate) fn options(request: &Request, loading: bool) -> Result<(), Failure> {
    let mut given = request.given;
    if has_json(request) {
        given.remove(Opt::Output);
    }
    if given.has(Opt::AnyNat) && (given.has(Opt::SrcNat) || given.has(Opt::DstNat)) {
        return Err(Failure::usage(&[
            b"cannot specify `--src-nat' or `--dst-nat' with `--any-nat'",
        ]));
    }
    let column = request.command.and_then(|c| column(c, request.table));
    if !column.is_some_and(|c| complies(c, given)) {
        for (opt, name, rules) in &MATRIX {
            let rule = column.map_or(Rule::Illegal, |c| rule(rules[c]));
            one(name, rule, given.has(*opt))?;
        }
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
        (Some(Command::Help), _) | (_, None) => {}
        (Some(Command::Add), _) if loading && request.is_bare_dccp() => {}
        (_, Some(extension)) => fields(request, extension)?,
    }
    own(request)
}

/// Commands that the original gives no output option take ours.
fn has_json(request: &Request) -> bool {
    let expect = request.table == Table::Expect;
    match request.command {
        Some(Command::Count | Command::Stats) => request.output == Output::JSON,
        // Those that stand beside it in listings do so here.
        Some(Command::Get | Command::Delete) => expect && request.output.has(Output::JSON),
        _ => false,
    }
}

/// Negations and lists match entries; what makes or names a single one takes none.
fn own(request: &Request) -> Result<(), Failure> {
    let single = matches!(request.command, Some(Command::Create | Command::Add | Command::Get))
        || request.table == Table::Expect;
    if single && (!request.negated.is_empty() || request.negated_fields != 0) {
        return Err(Failure::usage(&[b"`!' does not go with this command"]));
    }
    if single && let Some((field, _)) = request.ranges.first() {
        let row = request.extension.and_then(|e| e.rows.iter().find(|r| r.field == *field));
        let name = row.map_or("", |r| r.name).as_bytes();
        return Err(Failure::usage(&[b"only one value for `--", name, b"' with this command"]));
    }
    // Counts have an order, and few forms, of their own.
    if request.count_by.is_some() {
        if request.given.has(Opt::Sort) {
            return Err(Failure::usage(&[b"`--sort' does not go with `--count-by'"]));
        }
        if request.given.has(Opt::Output) && request.output != Output::JSON {
            return Err(Failure::usage(&[b"only `-o json' goes with `--count-by'"]));
        }
    }
    // What -U sets is no condition.
    let sets = OptSet::of(&[Opt::Status, Opt::Mark, Opt::Timeout]);
    let fields = [Field::State, Field::OrigVtag, Field::ReplyVtag];
    let turned = request.negated.any(sets) || fields.iter().any(|f| request.is_negated(*f));
    if request.command == Some(Command::Update) && turned {
        return Err(Failure::usage(&[b"`!' does not go with what `-U' sets"]));
    }
    Ok(())
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
