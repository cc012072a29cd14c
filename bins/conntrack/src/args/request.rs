//! What a command line asks for.

use core::net::IpAddr;
use std::sync::Arc;

use proto_ctnl::render::LabelNames;
use proto_ctnl::{Labels, Name, SeqAdj, Synproxy, Tuple, proto};

use super::counts::{CountKey, SortKey};
use super::fields::{self, Ranges};
use super::options::Key;
use super::{
    Command, Extension, Family, Field, LabelBits, Opt, OptSet, Output, StatusWords, Table,
};

/// Translation as an option names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: Option<u16>,
}

/// What the command line asks for. A member is meaningful if its option is in `given`.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `None`: nothing was asked, which shows the usage text.
    pub(crate) command: Option<Command>,
    pub(crate) table: Table,
    /// The command that help was asked for.
    pub(crate) help_for: Option<Command>,
    pub(crate) given: OptSet,
    /// Options of `given` with `!` in front.
    pub(crate) negated: OptSet,
    pub(crate) family: Option<Family>,
    pub(crate) src: Option<IpAddr>,
    pub(crate) dst: Option<IpAddr>,
    pub(crate) src_mask: Option<IpAddr>,
    pub(crate) dst_mask: Option<IpAddr>,
    pub(crate) reply_src: Option<IpAddr>,
    pub(crate) reply_dst: Option<IpAddr>,
    /// Ends of an expected tuple.
    pub(crate) tuple_src: Option<IpAddr>,
    pub(crate) tuple_dst: Option<IpAddr>,
    /// Address of either end of either direction, with its mask.
    pub(crate) any_addr: Option<(IpAddr, Option<IpAddr>)>,
    pub(crate) protocol: Option<u8>,
    pub(crate) extension: Option<&'static Extension>,
    /// What the protocol's options set, by [`Field`].
    pub(super) fields: [Option<u32>; fields::COUNT],
    /// Those of them that name more than one value.
    pub(super) ranges: Vec<(Field, Ranges)>,
    pub(super) negated_fields: u32,
    pub(crate) timeout: u32,
    pub(crate) timeout_below: u32,
    pub(crate) timeout_above: u32,
    pub(crate) bytes_above: u64,
    pub(crate) status: StatusWords,
    pub(crate) mark: u32,
    pub(crate) mark_mask: u32,
    pub(crate) secmark: u32,
    pub(crate) id: u32,
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
    pub(crate) helper: Name<16>,
    /// The labels to match.
    pub(crate) labels: LabelBits,
    /// The labels to set.
    pub(crate) labels_add: LabelBits,
    /// The labels to remove; `None` stands for all.
    pub(crate) labels_del: Option<LabelBits>,
    /// Labels to set by their bits.
    pub(crate) label_bits: Labels,
    pub(crate) seqadj: [SeqAdj; 2],
    pub(crate) synproxy: Synproxy,
    /// The connection that expects the one to make.
    pub(crate) master: Tuple,
    /// Names for rendering, if labels were asked for and a file with names was found.
    pub(crate) label_names: Option<Arc<LabelNames>>,
    pub(crate) filter_file: Vec<u8>,
    pub(crate) sort: Option<SortKey>,
    pub(crate) limit: Option<usize>,
    pub(crate) count_by: Option<CountKey>,
    /// Options about labels, with the names that were given.
    pub(super) label_uses: Vec<(Opt, Option<Vec<u8>>)>,
    pub(super) label_path: Option<Vec<u8>>,
}

impl Request {
    /// What the protocol's option set; the first of several values.
    pub(crate) const fn field(&self, field: Field) -> Option<u32> {
        self.fields[field as usize]
    }

    /// All that the protocol's option admits, if it names more than one value.
    pub(crate) fn ranges(&self, field: Field) -> Option<&Ranges> {
        self.ranges.iter().find(|(f, _)| *f == field).map(|(_, ranges)| ranges)
    }

    /// Whether it names a flow of DCCP alone, without ports and state: that is what kernels without
    /// support for the protocol tell of one.
    pub(crate) fn is_bare_dccp(&self) -> bool {
        self.protocol == Some(proto::DCCP) && self.fields.iter().all(Option::is_none)
    }

    /// Whether the option was given.
    pub(super) const fn has(&self, key: Key) -> bool {
        match key {
            Key::Command(_) => self.command.is_some(),
            Key::Opt(opt) => self.given.has(opt),
            Key::Field(field) => self.field(field).is_some(),
        }
    }

    /// Whether it was given with `!` in front.
    pub(super) const fn has_negated(&self, key: Key) -> bool {
        match key {
            Key::Command(_) => false,
            Key::Opt(opt) => self.negated.has(opt),
            Key::Field(field) => self.is_negated(field),
        }
    }

    /// Whether the protocol's option has `!` in front.
    pub(crate) const fn is_negated(&self, field: Field) -> bool {
        self.negated_fields >> field as u32 & 1 != 0
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            command: None,
            table: Table::Conntrack,
            help_for: None,
            given: OptSet::default(),
            negated: OptSet::default(),
            family: None,
            src: None,
            dst: None,
            src_mask: None,
            dst_mask: None,
            reply_src: None,
            reply_dst: None,
            tuple_src: None,
            tuple_dst: None,
            any_addr: None,
            protocol: None,
            extension: None,
            fields: [None; fields::COUNT],
            ranges: Vec::new(),
            negated_fields: 0,
            timeout: 0,
            timeout_below: 0,
            timeout_above: 0,
            bytes_above: 0,
            status: StatusWords::default(),
            mark: 0,
            mark_mask: u32::MAX,
            secmark: 0,
            id: 0,
            zone: 0,
            orig_zone: 0,
            reply_zone: 0,
            src_nat: Nat::default(),
            dst_nat: Nat::default(),
            any_nat: Nat::default(),
            output: Output::default(),
            events: 0,
            buffer_size: 0,
            helper: Name::EMPTY,
            labels: LabelBits::default(),
            labels_add: LabelBits::default(),
            labels_del: Some(LabelBits::default()),
            label_bits: Labels::default(),
            seqadj: [SeqAdj::default(); 2],
            synproxy: Synproxy::default(),
            master: Tuple::default(),
            label_names: None,
            filter_file: Vec::new(),
            sort: None,
            limit: None,
            count_by: None,
            label_uses: Vec::new(),
            label_path: None,
        }
    }
}
