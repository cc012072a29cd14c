//! Which flows a request means.
//!
//! Every flow that is shown passes [`Filter::admits`]. What of it the kernel can check itself goes
//! into the request as well, so that it sends less; kernels that check less send more, and the
//! result is the same.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{
    DumpFilter, Flow, L4, Masked, Present, Status, Tuple, TupleFields, TupleFilter, proto,
};

use crate::args::{Family, Field, Nat, Opt, OptSet, Request, equal_under};

/// Options any of which makes the members of a flow be compared.
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
]);

/// A request seen as a filter.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    request: &'a Request,
    comparing: bool,
    /// Whether anything but the family is asked for at all.
    trivial: bool,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(request: &'a Request) -> Self {
        let comparing = compares(request);
        let nat = OptSet::of(&[Opt::SrcNat, Opt::DstNat, Opt::AnyNat]);
        let trivial = !comparing && !request.given.any(nat) && request.family.is_none();
        Self { request, comparing, trivial }
    }

    /// Whether the flow is meant.
    #[inline]
    pub(crate) fn admits(&self, flow: &Flow) -> bool {
        if self.trivial {
            return true;
        }
        let r = self.request;
        let family = Family::of(flow.orig.src);
        r.family.is_none_or(|f| f == family)
            && self.nat(flow)
            && self.mark(flow)
            && self.labels(flow)
            && self.masks(flow)
            && (!self.comparing || self.members(flow))
    }

    fn nat(&self, flow: &Flow) -> bool {
        let r = self.request;
        if r.given.has(Opt::AnyNat) {
            return source_translated(flow, r.any_nat) || destination_translated(flow, r.any_nat);
        }
        (!r.given.has(Opt::SrcNat) || source_translated(flow, r.src_nat))
            && (!r.given.has(Opt::DstNat) || destination_translated(flow, r.dst_nat))
    }

    fn mark(&self, flow: &Flow) -> bool {
        let r = self.request;
        !r.given.has(Opt::Mark)
            || flow.present.has(Present::MARK) && flow.mark & r.mark_mask == r.mark
    }

    fn labels(&self, flow: &Flow) -> bool {
        let r = self.request;
        let wanted = r.labels.words.iter().zip(flow.labels.0);
        !r.given.has(Opt::Label)
            || !r.labels.beyond
                && flow.present.has(Present::LABELS)
                && wanted.into_iter().all(|(w, has)| has & w == *w)
    }

    fn masks(&self, flow: &Flow) -> bool {
        let r = self.request;
        let within = |asked: Option<IpAddr>, mask: Option<IpAddr>, has: IpAddr| {
            asked.zip(mask).is_none_or(|(asked, mask)| equal_under(asked, has, mask))
        };
        within(r.src, r.src_mask, flow.orig.src) && within(r.dst, r.dst_mask, flow.orig.dst)
    }

    /// Equality of everything that was named.
    fn members(&self, flow: &Flow) -> bool {
        let r = self.request;
        let given = r.given;
        let zone = |bit, zone: u16| if flow.present.has(bit) { zone } else { 0 };
        let equal = |asked: Option<IpAddr>, has: IpAddr| asked.is_none_or(|a| a == has);
        (!given.has(Opt::Status)
            || flow.present.has(Present::STATUS) && flow.status.has(Status(r.status.value)))
            && (!given.has(Opt::Zone) || zone(Present::ZONE, flow.zone) == r.zone)
            && (!given.has(Opt::OrigZone)
                || zone(Present::ORIG_ZONE, flow.orig_zone) == r.orig_zone)
            && (!given.has(Opt::ReplyZone)
                || zone(Present::REPLY_ZONE, flow.reply_zone) == r.reply_zone)
            && r.protocol.is_none_or(|p| p == flow.orig.proto)
            && equal(r.src.filter(|_| r.src_mask.is_none()), flow.orig.src)
            && equal(r.dst.filter(|_| r.dst_mask.is_none()), flow.orig.dst)
            // The original looks for the address of `-j` as the source too once it compares.
            && equal(r.any_nat.address, flow.orig.src)
            && (r.reply_src.is_none() && r.reply_dst.is_none()
                || flow.present.has(Present::REPLY)
                    && equal(r.reply_src, flow.reply.src)
                    && equal(r.reply_dst, flow.reply.dst))
            && self.fields(flow)
    }

    /// What the protocol's options name. GRE keys and verification tags do not filter.
    fn fields(&self, flow: &Flow) -> bool {
        let Some(extension) = self.request.extension else { return true };
        let same = |field, has: u32| self.request.field(field).is_none_or(|asked| asked == has);
        let (orig, reply) = (flow.orig.l4, flow.reply.l4);
        match extension.number {
            proto::GRE => true,
            proto::ICMP | proto::ICMPV6 => {
                same(Field::IcmpType, orig.icmp_type().into())
                    && same(Field::IcmpCode, orig.icmp_code().into())
                    && same(Field::IcmpId, orig.a.into())
            }
            _ => {
                same(Field::Sport, orig.a.into())
                    && same(Field::Dport, orig.b.into())
                    && same(Field::ReplySport, reply.a.into())
                    && same(Field::ReplyDport, reply.b.into())
                    && (self.request.field(Field::State).is_none()
                        || flow.present.has(Present::PROTOINFO)
                            && same(Field::State, flow.protoinfo.state().into()))
            }
        }
    }

    /// What the kernel is asked to send only.
    pub(crate) fn for_kernel(&self) -> DumpFilter {
        let r = self.request;
        let given = |opt| r.given.has(opt);
        let tuple = self.kernel_tuple();
        DumpFilter {
            family: r.family.map_or(0, Family::number),
            mark: given(Opt::Mark).then_some(Masked { value: r.mark, mask: r.mark_mask }),
            status: given(Opt::Status)
                .then_some(Masked { value: r.status.value, mask: r.status.mask }),
            // Entries without a zone are asked for by the whole table.
            zone: (given(Opt::Zone) && r.zone != 0).then_some(r.zone),
            orig: tuple.map(|(t, fields)| TupleFilter { tuple: t, zone: 0, fields }),
            reply: None,
        }
    }

    /// The exactly given members of the original direction.
    fn kernel_tuple(&self) -> Option<(Tuple, TupleFields)> {
        let r = self.request;
        let any: IpAddr = match r.family? {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut tuple = Tuple { src: any, dst: any, ..Tuple::default() };
        let mut fields = TupleFields::default();
        if let Some(src) = r.src.filter(|_| r.src_mask.is_none()) {
            tuple.src = src;
            fields = fields.with(TupleFields::SRC);
        }
        if let Some(dst) = r.dst.filter(|_| r.dst_mask.is_none()) {
            tuple.dst = dst;
            fields = fields.with(TupleFields::DST);
        }
        if let Some(protocol) = r.protocol {
            tuple.proto = protocol;
            fields = fields.with(TupleFields::PROTO);
        }
        if matches!(r.extension.map(|e| e.number), Some(proto::TCP | proto::UDP)) {
            let port = |field| r.field(field).map(|p| p as u16);
            let (source, destination) = (port(Field::Sport), port(Field::Dport));
            tuple.l4 = L4::ports(source.unwrap_or(0), destination.unwrap_or(0));
            if source.is_some() {
                fields = fields.with(TupleFields::SRC_PORT);
            }
            if destination.is_some() {
                fields = fields.with(TupleFields::DST_PORT);
            }
        }
        (fields != TupleFields::default()).then_some((tuple, fields))
    }
}

/// Whether the request compares members of flows.
pub(crate) fn compares(request: &Request) -> bool {
    request.given.any(COMPARING)
}

/// Without a status (some events have none) a translation counts as done.
fn done(flow: &Flow, bit: Status) -> bool {
    !flow.present.has(Present::STATUS) || flow.status.has(bit)
}

fn source_translated(flow: &Flow, asked: Nat) -> bool {
    let done = done(flow, Status::SRC_NAT_DONE);
    let (orig, reply) = (&flow.orig, &flow.reply);
    translated(
        asked,
        (done && reply.dst != orig.src).then_some(reply.dst),
        (done && reply.l4.b != orig.l4.a).then_some(reply.l4.b),
    )
}

fn destination_translated(flow: &Flow, asked: Nat) -> bool {
    let done = done(flow, Status::DST_NAT_DONE);
    let (orig, reply) = (&flow.orig, &flow.reply);
    translated(
        asked,
        (done && reply.src != orig.dst).then_some(reply.src),
        (done && reply.l4.a != orig.l4.b).then_some(reply.l4.a),
    )
}

/// Compares the new address and port, where there are any, with what was asked for. Of an IPv6
/// address only the family counts, as in the original.
fn translated(asked: Nat, address: Option<IpAddr>, port: Option<u16>) -> bool {
    let Some(wanted) = asked.address else { return address.is_some() || port.is_some() };
    let same_address = address.is_some_and(|has| match wanted {
        IpAddr::V4(_) => has == wanted,
        IpAddr::V6(_) => has.is_ipv6(),
    });
    same_address && asked.port.is_none_or(|p| port == Some(p))
}
