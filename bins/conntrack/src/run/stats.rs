//! `-S`: what each processor has counted.

use std::fs;

use proto_ctnl::render::decimal;
use proto_ctnl::{Content, CpuStats, ExpectStats};

use crate::args::{Command, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Answers, Kernel};
use crate::output::Out;
use crate::show::Form;

/// Where everybody may read the counters.
const FALLBACK: &str = "/proc/net/stat/nf_conntrack";

/// Names of the counters by their attribute, from 1 on.
const NAMES: [&str; 15] = [
    "searched",
    "found",
    "new",
    "invalid",
    "ignore",
    "delete",
    "delete_list",
    "insert",
    "insert_failed",
    "drop",
    "early_drop",
    "error",
    "search_restart",
    "clash_resolve",
    "chaintoolong",
];

pub(super) fn stats(request: &Request) -> Result<(), Failure> {
    let table = request.table;
    let line = Line { json: Form::of(request) == Form::Json };
    let mut kernel = Kernel::open(Command::Stats, table)?;
    let mut out = Out::new()?;
    let result = kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| match table {
            Table::Expect => encoder.expect_stats_cpu(seq),
            _ => encoder.stats_cpu(seq),
        },
        |content| {
            match content {
                Content::CpuStats(stats) => line.flows(&stats, &mut out.buffer),
                Content::ExpectStats(stats) => line.expectations(&stats, &mut out.buffer),
                _ => {}
            }
            Ok(())
        },
    );
    if result.is_err() {
        // The counters are told all the same, and then that the request failed.
        if let Ok(text) = fs::read_to_string(FALLBACK) {
            line.fallback(&text, &mut out.buffer);
        }
    }
    out.flush();
    result.map_err(|errno| kernel.failure(errno))
}

/// How the line of a processor is written.
#[derive(Clone, Copy)]
struct Line {
    json: bool,
}

impl Line {
    fn flows(self, stats: &CpuStats, out: &mut Vec<u8>) {
        self.processor(usize::from(stats.cpu), out);
        for (counter, name) in (1..).zip(NAMES).filter(|(counter, _)| stats.has(*counter)) {
            self.member(name, u64::from(stats.get(counter)), out);
        }
        self.end(out);
    }

    fn expectations(self, stats: &ExpectStats, out: &mut Vec<u8>) {
        self.processor(usize::from(stats.cpu), out);
        for (name, value) in [
            ("expect_new", stats.new),
            ("expect_create", stats.create),
            ("expect_delete", stats.delete),
        ] {
            self.member(name, u64::from(value), out);
        }
        self.end(out);
    }

    /// A head with names and a line of hexadecimal numbers for each processor.
    fn fallback(self, text: &str, out: &mut Vec<u8>) {
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap_or("").split_ascii_whitespace().collect();
        for (cpu, line) in lines.enumerate() {
            self.processor(cpu, out);
            for (name, value) in names.iter().zip(line.split_ascii_whitespace()) {
                self.member(name, u64::from_str_radix(value, 16).unwrap_or(0), out);
            }
            self.end(out);
        }
    }

    fn processor(self, cpu: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.json { b"{\"cpu\":" } else { b"cpu=" });
        let begin = out.len();
        decimal(cpu as u64, out);
        if !self.json {
            out.resize(out.len().max(begin + 4), b' ');
            out.push(b'\t');
        }
    }

    fn member(self, name: &str, value: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.json { b",\"" } else { b"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(if self.json { b"\":" } else { b"=" });
        decimal(value, out);
        if !self.json {
            out.push(b' ');
        }
    }

    fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.json { b"}\n" } else { b"\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "entries  found\n0000001f  00000000\n0000001f  000000ff\n";

    #[test]
    fn the_public_counters() {
        let mut out = Vec::new();
        Line { json: false }.fallback(TEXT, &mut out);
        assert_eq!(out, b"cpu=0   \tentries=31 found=0 \ncpu=1   \tentries=31 found=255 \n");
        out.clear();
        Line { json: true }.fallback(TEXT, &mut out);
        let (first, second) =
            ("{\"cpu\":0,\"entries\":31,\"found\":0}", "{\"cpu\":1,\"entries\":31,\"found\":255}");
        assert_eq!(out, format!("{first}\n{second}\n").into_bytes());
    }
}
