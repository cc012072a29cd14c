//! One condition on a flow.

use core::net::IpAddr;

use proto_ctnl::{Flow, Masked, Name, Present, Status, Tuple, proto};

use crate::args::{Family, Field, LabelBits, Nat, equal_under};

/// Where an address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    OrigSrc,
    OrigDst,
    ReplySrc,
    ReplyDst,
    Any,
}

/// Which end is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NatEnd {
    Source,
    Destination,
    Either,
}

/// A condition.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Family(Family),
    Nat(NatEnd, Nat),
    Mark(Masked),
    Status(Masked),
    Timeout(u32),
    TimeoutBelow(u32),
    TimeoutAbove(u32),
    /// Octets of both directions together.
    BytesAbove(u64),
    Labels(LabelBits),
    /// A flow without a security mark has the mark 0.
    Secmark(u32),
    Id(u32),
    /// A flow without a zone is in zone 0.
    Zone(u16),
    OrigZone(u16),
    ReplyZone(u16),
    Helper(Name<16>),
    /// Address and mask.
    Address(End, IpAddr, Option<IpAddr>),
    /// Protocol of the original direction.
    Protocol(u8),
    /// A member that the protocol adds is in one of the ranges.
    Field(Field, Vec<(u32, u32)>),
}

impl Condition {
    /// Whether the flow meets the condition. What it lacks meets none.
    pub(crate) fn holds(&self, flow: &Flow) -> bool {
        let has = |bit| flow.present.has(bit);
        let zone = |bit, zone: u16| if has(bit) { zone } else { 0 };
        match self {
            Self::Family(family) => *family == Family::of(flow.orig.src),
            Self::Nat(end, nat) => translated(flow, *end, *nat),
            Self::Mark(m) => has(Present::MARK) && flow.mark & m.mask == m.value,
            Self::Status(m) => {
                let bits = flow.status.0;
                has(Present::STATUS) && bits & m.mask == m.value && bits & m.value == m.value
            }
            Self::Timeout(seconds) => has(Present::TIMEOUT) && flow.timeout == *seconds,
            Self::TimeoutBelow(seconds) => has(Present::TIMEOUT) && flow.timeout < *seconds,
            Self::TimeoutAbove(seconds) => has(Present::TIMEOUT) && flow.timeout > *seconds,
            Self::BytesAbove(limit) => bytes(flow).is_some_and(|n| n > *limit),
            Self::Labels(bits) => {
                let wanted = bits.words.iter().zip(flow.labels.0);
                !bits.beyond
                    && has(Present::LABELS)
                    && wanted.into_iter().all(|(w, has)| has & w == *w)
            }
            Self::Secmark(mark) => (if has(Present::SECMARK) { flow.secmark } else { 0 }) == *mark,
            Self::Id(id) => has(Present::ID) && flow.id == *id,
            Self::Zone(z) => zone(Present::ZONE, flow.zone) == *z,
            Self::OrigZone(z) => zone(Present::ORIG_ZONE, flow.orig_zone) == *z,
            Self::ReplyZone(z) => zone(Present::REPLY_ZONE, flow.reply_zone) == *z,
            Self::Helper(name) => has(Present::HELPER) && flow.helper == *name,
            Self::Address(end, address, mask) => at(flow, *end, *address, *mask),
            Self::Protocol(protocol) => flow.orig.proto == *protocol,
            Self::Field(field, ranges) => value(flow, *field)
                .is_some_and(|v| ranges.iter().any(|(low, high)| (*low..=*high).contains(&v))),
        }
    }
}

/// Octets of both directions, if they are counted.
pub(crate) fn bytes(flow: &Flow) -> Option<u64> {
    flow.present
        .has(Present::COUNTERS_ORIG)
        .then(|| flow.counters[0].bytes.saturating_add(flow.counters[1].bytes))
}

fn at(flow: &Flow, end: End, address: IpAddr, mask: Option<IpAddr>) -> bool {
    let is = |has: IpAddr| match mask {
        Some(mask) => equal_under(address, has, mask),
        None => address == has,
    };
    let reply = flow.present.has(Present::REPLY);
    match end {
        End::OrigSrc => is(flow.orig.src),
        End::OrigDst => is(flow.orig.dst),
        End::ReplySrc => reply && is(flow.reply.src),
        End::ReplyDst => reply && is(flow.reply.dst),
        End::Any => {
            is(flow.orig.src)
                || is(flow.orig.dst)
                || reply && (is(flow.reply.src) || is(flow.reply.dst))
        }
    }
}

/// What the flow has of a member that protocols add.
fn value(flow: &Flow, field: Field) -> Option<u32> {
    let (orig, reply) = (flow.orig.l4, flow.reply.l4);
    let reply_word = |word: u16| flow.present.has(Present::REPLY).then_some(word.into());
    match field {
        Field::Sport => Some(orig.a.into()),
        Field::Dport => Some(orig.b.into()),
        Field::ReplySport => reply_word(reply.a),
        Field::ReplyDport => reply_word(reply.b),
        Field::IcmpType => Some(orig.icmp_type().into()),
        Field::IcmpCode => Some(orig.icmp_code().into()),
        Field::IcmpId => Some(orig.a.into()),
        Field::State => flow.present.has(Present::PROTOINFO).then(|| flow.protoinfo.state().into()),
        _ => None,
    }
}

/// Without a status (some events have none) a translation counts as done.
fn done(flow: &Flow, bit: Status) -> bool {
    !flow.present.has(Present::STATUS) || flow.status.has(bit)
}

fn translated(flow: &Flow, end: NatEnd, asked: Nat) -> bool {
    let (orig, reply) = (&flow.orig, &flow.reply);
    if !flow.present.has(Present::REPLY) {
        return false;
    }
    let source = || {
        let was = (orig.src, orig.l4.a);
        done(flow, Status::SRC_NAT_DONE) && differs(was, (reply.dst, reply.l4.b), orig, asked)
    };
    let destination = || {
        let was = (orig.dst, orig.l4.b);
        done(flow, Status::DST_NAT_DONE) && differs(was, (reply.src, reply.l4.a), orig, asked)
    };
    match end {
        NatEnd::Source => source(),
        NatEnd::Destination => destination(),
        NatEnd::Either => source() || destination(),
    }
}

/// Compares address and port before and after, and after with what was asked for. Only protocols
/// with ports have a port: in its place ICMP has words that always differ.
fn differs(was: (IpAddr, u16), now: (IpAddr, u16), tuple: &Tuple, asked: Nat) -> bool {
    let port = (tuple.has_ports() || tuple.proto == proto::GRE) && was.1 != now.1;
    let Some(address) = asked.address else { return was.0 != now.0 || port };
    let moved = was.0 != now.0 && now.0 == address;
    moved && asked.port.is_none_or(|p| port && now.1 == p)
}
