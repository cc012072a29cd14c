//! Which flows a request means.
//!
//! A request becomes a list of conditions that all must hold. Every flow that is shown, changed or
//! removed passes them. What of it the kernel can check itself goes into the request for the dump as
//! well (`kernel`), so that it sends less; kernels that check less send more, and the result is the
//! same.

mod condition;
mod kernel;

use proto_ctnl::{Flow, Masked};

pub(crate) use condition::bytes;
use condition::{Condition, End, NatEnd};

use crate::args::{Command, Family, Field, Opt, OptSet, Request};

/// Options any of which makes `-z` impossible.
const COMPARING: OptSet = OptSet::of(&[
    Opt::Protonum,
    Opt::Src,
    Opt::Dst,
    Opt::ReplySrc,
    Opt::ReplyDst,
    Opt::Mark,
    Opt::Secmark,
    Opt::Status,
    Opt::Id,
    Opt::Zone,
    Opt::Label,
    Opt::OrigZone,
    Opt::ReplyZone,
    Opt::AnyAddr,
    Opt::Helper,
    Opt::TimeoutBelow,
    Opt::TimeoutAbove,
    Opt::BytesAbove,
    Opt::FilterFile,
]);

/// Whether the request compares members of flows.
pub(crate) fn compares(request: &Request) -> bool {
    request.given.any(COMPARING)
}

/// A condition, or its opposite.
#[derive(Clone, Debug)]
struct Test {
    not: bool,
    condition: Condition,
}

/// A request seen as a filter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    tests: Vec<Test>,
    /// At least one of these must hold as well, if there are any.
    any: Vec<Self>,
}

impl Filter {
    /// The conditions that the request names.
    pub(crate) fn new(request: &Request) -> Self {
        let mut filter = Self::default();
        if let Some(family) = request.family {
            filter.push(false, Condition::Family(family));
        }
        // What -U is told to set is no condition.
        let updates = request.command == Some(Command::Update);
        filter.translations(request);
        filter.members(request, updates);
        filter.addresses(request);
        filter.protocol(request, updates);
        filter
    }

    /// Adds filters of which one must hold.
    pub(crate) fn or(&mut self, filters: Vec<Self>) {
        self.any = filters;
    }

    /// Whether the flow is meant.
    #[inline]
    pub(crate) fn admits(&self, flow: &Flow) -> bool {
        self.tests.iter().all(|t| t.condition.holds(flow) != t.not)
            && (self.any.is_empty() || self.any.iter().any(|filter| filter.admits(flow)))
    }

    fn push(&mut self, not: bool, condition: Condition) {
        self.tests.push(Test { not, condition });
    }

    fn translations(&mut self, r: &Request) {
        for (opt, end, nat) in [
            (Opt::SrcNat, NatEnd::Source, r.src_nat),
            (Opt::DstNat, NatEnd::Destination, r.dst_nat),
            (Opt::AnyNat, NatEnd::Either, r.any_nat),
        ] {
            if r.given.has(opt) {
                self.push(r.negated.has(opt), Condition::Nat(end, nat));
            }
        }
    }

    fn members(&mut self, r: &Request, updates: bool) {
        let mark = Masked { value: r.mark, mask: r.mark_mask };
        let status = Masked { value: r.status.value, mask: r.status.mask };
        let conditions = [
            (Opt::Mark, Condition::Mark(mark), updates),
            (Opt::Status, Condition::Status(status), updates),
            (Opt::Timeout, Condition::Timeout(r.timeout), updates),
            (Opt::Label, Condition::Labels(r.labels), false),
            (Opt::Secmark, Condition::Secmark(r.secmark), false),
            (Opt::Id, Condition::Id(r.id), false),
            (Opt::Zone, Condition::Zone(r.zone), false),
            (Opt::OrigZone, Condition::OrigZone(r.orig_zone), false),
            (Opt::ReplyZone, Condition::ReplyZone(r.reply_zone), false),
            (Opt::Helper, Condition::Helper(r.helper), false),
            (Opt::TimeoutBelow, Condition::TimeoutBelow(r.timeout_below), false),
            (Opt::TimeoutAbove, Condition::TimeoutAbove(r.timeout_above), false),
            (Opt::BytesAbove, Condition::BytesAbove(r.bytes_above), false),
        ];
        for (opt, condition, is_set) in conditions {
            if r.given.has(opt) && !is_set {
                self.push(r.negated.has(opt), condition);
            }
        }
    }

    fn addresses(&mut self, r: &Request) {
        for (opt, end, address, mask) in [
            (Opt::Src, End::OrigSrc, r.src, r.src_mask),
            (Opt::Dst, End::OrigDst, r.dst, r.dst_mask),
            (Opt::ReplySrc, End::ReplySrc, r.reply_src, None),
            (Opt::ReplyDst, End::ReplyDst, r.reply_dst, None),
        ] {
            if let Some(address) = address {
                self.push(r.negated.has(opt), Condition::Address(end, address, mask));
            }
        }
        if let Some((address, mask)) = r.any_addr {
            let condition = Condition::Address(End::Any, address, mask);
            self.push(r.negated.has(Opt::AnyAddr), condition);
        }
    }

    fn protocol(&mut self, r: &Request, updates: bool) {
        let Some(protocol) = r.protocol else { return };
        self.push(r.negated.has(Opt::Protonum), Condition::Protocol(protocol));
        for field in [
            Field::Sport,
            Field::Dport,
            Field::ReplySport,
            Field::ReplyDport,
            Field::IcmpType,
            Field::IcmpCode,
            Field::IcmpId,
            Field::State,
        ] {
            let Some(value) = r.field(field).filter(|_| !(updates && field == Field::State)) else {
                continue;
            };
            let ranges = r.ranges(field).cloned().unwrap_or_else(|| vec![(value, value)]);
            self.push(r.is_negated(field), Condition::Field(field, ranges));
        }
    }

    /// The family that all flows must have.
    pub(crate) fn family(&self) -> Option<Family> {
        self.tests.iter().find_map(|t| match t.condition {
            Condition::Family(family) => Some(family),
            _ => None,
        })
    }
}
