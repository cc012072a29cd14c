//! The command line: from words to a [`Request`].

mod address;
mod check;
mod counts;
mod fields;
mod getopt;
mod labels;
mod line;
mod numbers;
mod options;
mod own;
mod protocol;
mod request;
mod scan;
mod words;

pub(crate) use address::{Family, equal_under};
pub(crate) use counts::{CountKey, SortBy, SortKey};
pub(crate) use labels::LabelBits;
pub(crate) use line::{Line, Lines, split};
pub(crate) use options::{Command, Opt, OptSet, Table, takes};
pub(crate) use protocol::{Extension, Field};
pub(crate) use request::{Nat, Request};
pub(crate) use scan::{Shared, parse, parse_with};
pub(crate) use words::{EVENT_ALL, Output, StatusWords};

/// The long names of all options, those of protocols included.
#[cfg(test)]
pub(crate) fn every_name() -> impl Iterator<Item = &'static str> {
    let own = options::LONGS.iter().chain(options::OWN_LONGS);
    own.chain(protocol::EXTENSIONS.iter().flat_map(|e| e.longs)).map(|long| long.name)
}
