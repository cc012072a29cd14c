//! The command line: from words to a [`Request`].

mod address;
mod check;
mod fields;
mod getopt;
mod labels;
mod numbers;
mod options;
mod protocol;
mod scan;
mod words;

use core::net::IpAddr;

use proto_ctnl::render::LabelNames;

pub(crate) use address::{Family, equal_under};
pub(crate) use options::{Command, Opt, OptSet, Table};
pub(crate) use protocol::{Extension, Field};
pub(crate) use scan::parse;
pub(crate) use words::{EVENT_ALL, Output, StatusWords};

/// Translation as an option names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: Option<u16>,
}

/// Label bits that an option names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelBits {
    pub(crate) words: [u32; 4],
    /// A bit was named that the kernel does not have.
    pub(crate) beyond: bool,
}

impl LabelBits {
    fn insert(&mut self, bit: usize) {
        match self.words.get_mut(bit / 32) {
            Some(word) => *word |= 1 << (bit % 32),
            None => self.beyond = true,
        }
    }
}

/// What the command line asks for. A member is meaningful if its option is in `given`.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `None`: nothing was asked, which shows the usage text.
    pub(crate) command: Option<Command>,
    pub(crate) table: Table,
    pub(crate) given: OptSet,
    pub(crate) family: Option<Family>,
    pub(crate) src: Option<IpAddr>,
    pub(crate) dst: Option<IpAddr>,
    pub(crate) src_mask: Option<IpAddr>,
    pub(crate) dst_mask: Option<IpAddr>,
    pub(crate) reply_src: Option<IpAddr>,
    pub(crate) reply_dst: Option<IpAddr>,
    pub(crate) protocol: Option<u8>,
    pub(crate) extension: Option<&'static Extension>,
    /// What the protocol's options set, by [`Field`].
    fields: [Option<u32>; fields::COUNT],
    pub(crate) timeout: u32,
    pub(crate) status: StatusWords,
    pub(crate) mark: u32,
    pub(crate) mark_mask: u32,
    pub(crate) zone: u16,
    pub(crate) orig_zone: u16,
    pub(crate) reply_zone: u16,
    pub(crate) src_nat: Nat,
    pub(crate) dst_nat: Nat,
    pub(crate) any_nat: Nat,
    pub(crate) output: Output,
    pub(crate) events: u32,
    /// Octets; what does not fit counts as the most.
    pub(crate) buffer_size: usize,
    /// The labels to match.
    pub(crate) labels: LabelBits,
    /// The labels to set.
    pub(crate) labels_add: LabelBits,
    /// Names for rendering, if they were asked for and found.
    pub(crate) label_names: Option<LabelNames>,
    label_uses: Vec<(Opt, Vec<u8>)>,
    label_path: Option<Vec<u8>>,
}

impl Request {
    /// What the protocol's option set.
    pub(crate) fn field(&self, field: Field) -> Option<u32> {
        self.fields[field as usize]
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            command: None,
            table: Table::Conntrack,
            given: OptSet::default(),
            family: None,
            src: None,
            dst: None,
            src_mask: None,
            dst_mask: None,
            reply_src: None,
            reply_dst: None,
            protocol: None,
            extension: None,
            fields: [None; fields::COUNT],
            timeout: 0,
            status: StatusWords::default(),
            mark: 0,
            mark_mask: u32::MAX,
            zone: 0,
            orig_zone: 0,
            reply_zone: 0,
            src_nat: Nat::default(),
            dst_nat: Nat::default(),
            any_nat: Nat::default(),
            output: Output::default(),
            events: 0,
            buffer_size: 0,
            labels: LabelBits::default(),
            labels_add: LabelBits::default(),
            label_names: None,
            label_uses: Vec::new(),
            label_path: None,
        }
    }
}
