//! Filters that the kernel applies to a dump or a flush.

use crate::consts::*;
use crate::put::put_tuple;
use crate::tuple::Tuple;
use crate::writer::Writer;

/// A value and the bits of it that count: admits a flow if `(field & mask) == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    /// Value; a bit outside the mask can never match.
    pub value: u32,
    /// Mask.
    pub mask: u32,
}

/// Members of a tuple that a filter compares (`CTA_FILTER_FLAG_*` of the kernel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TupleFields(pub u32);

impl TupleFields {
    /// Source address.
    pub const SRC: Self = Self(0x001);
    /// Destination address.
    pub const DST: Self = Self(0x002);
    /// Zone of the direction.
    pub const ZONE: Self = Self(0x004);
    /// Protocol number; any of the following needs it too.
    pub const PROTO: Self = Self(0x008);
    /// Source port. The kernel compares ports of TCP and UDP only.
    pub const SRC_PORT: Self = Self(0x010);
    /// Destination port.
    pub const DST_PORT: Self = Self(0x020);
    /// ICMP type.
    pub const ICMP_TYPE: Self = Self(0x040);
    /// ICMP code.
    pub const ICMP_CODE: Self = Self(0x080);
    /// ICMP id.
    pub const ICMP_ID: Self = Self(0x100);
    /// ICMPv6 type.
    pub const ICMPV6_TYPE: Self = Self(0x200);
    /// ICMPv6 code.
    pub const ICMPV6_CODE: Self = Self(0x400);
    /// ICMPv6 id.
    pub const ICMPV6_ID: Self = Self(0x800);

    const LAYER4: u32 = 0xff0;

    /// These members and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One direction's tuple and which of its members a flow must share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TupleFilter {
    /// The values.
    pub tuple: Tuple,
    /// Zone of the direction, for [`TupleFields::ZONE`].
    pub zone: u16,
    /// The members that count.
    pub fields: TupleFields,
}

impl TupleFilter {
    /// The members that can be left to the kernel. It compares IPv6 addresses the wrong way
    /// round (it sends all flows but those asked for), and refuses layer 4 without a protocol.
    const fn trusted(&self) -> u32 {
        let mut fields = self.fields.0;
        if self.tuple.is_v6() {
            fields &= !(TupleFields::SRC.0 | TupleFields::DST.0);
        }
        if fields & TupleFields::PROTO.0 == 0 {
            fields &= !TupleFields::LAYER4;
        }
        fields
    }
}

/// What a dump is to contain.
///
/// The kernel filters by what it can be trusted with; older ones ignore parts of a filter and send
/// more. So the caller compares what arrives once more: the filter saves messages, it decides
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpFilter {
    /// Address family, see [`family`]; [`family::UNSPEC`] for both.
    pub family: u8,
    /// Mark.
    pub mark: Option<Masked>,
    /// Status bits. An empty mask admits all.
    pub status: Option<Masked>,
    /// Zone of either direction.
    pub zone: Option<u16>,
    /// Original tuple. Needs a [`DumpFilter::family`], without which it is not sent.
    pub orig: Option<TupleFilter>,
    /// Reply tuple, likewise.
    pub reply: Option<TupleFilter>,
}

impl DumpFilter {
    pub(crate) fn put(&self, w: &mut Writer<'_>) {
        let wanted = |filter: Option<TupleFilter>| {
            filter
                .map(|filter| (filter, filter.trusted()))
                .filter(|&(_, fields)| fields != 0 && self.family != family::UNSPEC)
        };
        let directions = [
            (CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS, wanted(self.orig)),
            (CTA_TUPLE_REPLY, CTA_FILTER_REPLY_FLAGS, wanted(self.reply)),
        ];
        for (kind, _, filter) in directions {
            if let Some((filter, fields)) = filter {
                let zone = (fields & TupleFields::ZONE.0 != 0).then_some(filter.zone);
                put_tuple(w, kind, &filter.tuple, zone);
            }
        }
        put_scalars(w, self.mark, self.status, self.zone);
        if directions.iter().any(|(_, _, filter)| filter.is_some()) {
            w.nest(CTA_FILTER, |w| {
                for (_, kind, filter) in directions {
                    if let Some((_, fields)) = filter {
                        w.u32_host(kind, fields);
                    }
                }
            });
        }
    }
}

/// What a flush removes. It has no tuples: a kernel that ignores them, or compares them wrongly,
/// would remove other flows.
///
/// Older kernels ignore parts of it, and flush all. Whoever must spare flows there dumps and
/// removes them one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushFilter {
    /// Address family, see [`family`]; [`family::UNSPEC`] for both.
    pub family: u8,
    /// Mark.
    pub mark: Option<Masked>,
    /// Status bits. An empty mask admits all.
    pub status: Option<Masked>,
    /// Zone of either direction.
    pub zone: Option<u16>,
}

impl FlushFilter {
    pub(crate) fn put(&self, w: &mut Writer<'_>) {
        put_scalars(w, self.mark, self.status, self.zone);
    }
}

fn put_scalars(
    w: &mut Writer<'_>,
    mark: Option<Masked>,
    status: Option<Masked>,
    zone: Option<u16>,
) {
    // The kernel refuses an empty status mask, which admits every flow unless a value bit lies
    // outside it, and then none.
    if let Some(Masked { value, mask }) = status
        && mask | value != 0
    {
        w.u32_be(CTA_STATUS, value);
        w.u32_be(CTA_STATUS_MASK, mask);
    }
    if let Some(Masked { value, mask }) = mark {
        w.u32_be(CTA_MARK, value);
        w.u32_be(CTA_MARK_MASK, mask);
    }
    if let Some(zone) = zone {
        w.u16_be(CTA_ZONE, zone);
    }
}
