//! `--count-by`: how many entries share a value.

use std::collections::HashMap;
use std::net::IpAddr;

use proto_ctnl::render::{address, decimal, proto_name, state_name};
use proto_ctnl::{Flow, Present};

use super::closing_line;
use super::dump::dump;
use crate::args::{Command, CountKey, Request};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::kernel::Kernel;
use crate::output::Out;
use crate::show::Form;

/// Values that are counted at a time. Beyond it the rarest make room, and what is left of them is
/// told: memory stays bounded however many there are.
const VALUES_MAX: usize = 100_000;

/// A value that entries are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value {
    Address(IpAddr),
    Number(u32),
    Protocol(u8),
    State(&'static str),
    /// The entry has none.
    None,
}

/// The counts of one listing.
pub(super) struct Counts {
    key: CountKey,
    form: Form,
    limit: usize,
    counts: HashMap<Value, u64>,
    /// Entries whose value made room.
    others: u64,
}

impl Counts {
    pub(super) fn new(key: CountKey, request: &Request) -> Self {
        let limit = request.limit.unwrap_or(usize::MAX);
        Self { key, form: Form::of(request), limit, counts: HashMap::new(), others: 0 }
    }

    /// Counts and prints, the most frequent first.
    pub(super) fn run(
        mut self,
        request: &Request,
        filter: &Filter,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let mut kernel = Kernel::open(Command::List, request.table)?;
        let mut seen = 0;
        dump(&mut kernel, request, filter, |flow| {
            seen += 1;
            self.add(self.value(flow));
            Ok(())
        })?;
        let mut rows: Vec<_> = self.counts.iter().map(|(value, count)| (*count, *value)).collect();
        rows.sort_unstable_by_key(|(count, value)| (core::cmp::Reverse(*count), *value));
        for (count, value) in rows.into_iter().take(self.limit) {
            self.row(count, value, &mut out.buffer);
            out.line_done();
        }
        if self.others > 0 {
            let text = format!("{} entries with rare values are not listed.", self.others);
            crate::failure::say(&[text.as_bytes()]);
        }
        closing_line(seen, "flow entries have been counted.");
        out.flush();
        Ok(())
    }

    fn add(&mut self, value: Value) {
        *self.counts.entry(value).or_default() += 1;
        if self.counts.len() > VALUES_MAX {
            let mut counts: Vec<u64> = self.counts.values().copied().collect();
            let middle = VALUES_MAX / 2;
            let threshold = *counts.select_nth_unstable(middle).1;
            let others = &mut self.others;
            let mut removed = 0;
            self.counts.retain(|_, count| {
                let keep = *count > threshold || *count == threshold && removed >= middle;
                if !keep {
                    removed += 1;
                    *others += *count;
                }
                keep
            });
        }
    }

    fn value(&self, flow: &Flow) -> Value {
        let optional = |bit, value: u32| {
            if flow.present.has(bit) { Value::Number(value) } else { Value::Number(0) }
        };
        match self.key {
            CountKey::Source => Value::Address(flow.orig.src),
            CountKey::Destination => Value::Address(flow.orig.dst),
            CountKey::Port if flow.orig.has_ports() => Value::Number(flow.orig.l4.b.into()),
            CountKey::Port => Value::None,
            CountKey::Protocol => Value::Protocol(flow.orig.proto),
            CountKey::State if flow.present.has(Present::PROTOINFO) => {
                Value::State(state_name(&flow.protoinfo))
            }
            CountKey::State => Value::None,
            CountKey::Zone => optional(Present::ZONE, flow.zone.into()),
            CountKey::Mark => optional(Present::MARK, flow.mark),
        }
    }

    fn row(&self, count: u64, value: Value, out: &mut Vec<u8>) {
        let json = self.form == Form::Json;
        if json {
            out.extend_from_slice(b"{\"count\":");
            decimal(count, out);
            out.extend_from_slice(b",\"value\":");
        } else {
            decimal(count, out);
            out.push(b' ');
        }
        let is_text = !matches!(value, Value::Number(_) | Value::None);
        if json && is_text {
            out.push(b'"');
        }
        match value {
            Value::Address(a) => address(&a, out),
            Value::Number(n) => decimal(n, out),
            Value::Protocol(p) => match proto_name(p) {
                "unknown" => decimal(p, out),
                name => out.extend_from_slice(name.as_bytes()),
            },
            Value::State(name) => out.extend_from_slice(name.as_bytes()),
            Value::None => out.extend_from_slice(if json { b"null" } else { b"-" }),
        }
        if json {
            if is_text {
                out.push(b'"');
            }
            out.push(b'}');
        }
        out.push(b'\n');
    }
}
