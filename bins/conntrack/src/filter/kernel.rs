//! What of a filter the kernel can check.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{DumpFilter, L4, Tuple, TupleFields, TupleFilter, proto};

use super::{Condition, End, Filter};
use crate::args::{Family, Field};

impl Filter {
    /// What the kernel is asked to send only. Tuples need a family: without one there is a dump for
    /// either, if that spares anything.
    pub(crate) fn for_kernel(&self) -> Vec<DumpFilter> {
        let mut one =
            DumpFilter { family: self.family().map_or(0, Family::number), ..DumpFilter::default() };
        // Several filters in one run have nothing in common that could be asked for.
        for test in self.tests.iter().filter(|t| !t.not) {
            match test.condition {
                Condition::Mark(mark) => one.mark = Some(mark),
                Condition::Status(status) => one.status = Some(status),
                // Entries without a zone are asked for by the whole table.
                Condition::Zone(zone) if zone != 0 => one.zone = Some(zone),
                _ => {}
            }
        }
        let families = match self.family() {
            Some(family) => vec![family],
            None => vec![Family::V4, Family::V6],
        };
        let with_tuples: Vec<DumpFilter> = families
            .iter()
            .map(|family| DumpFilter {
                family: family.number(),
                orig: self.tuple(*family, false),
                reply: self.tuple(*family, true),
                ..one
            })
            .collect();
        if with_tuples.iter().all(|f| f.orig.is_none() && f.reply.is_none()) {
            vec![one]
        } else {
            with_tuples
        }
    }

    /// The exactly given members of a direction.
    fn tuple(&self, family: Family, is_reply: bool) -> Option<TupleFilter> {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut tuple = Tuple { src: any, dst: any, ..Tuple::default() };
        let mut fields = TupleFields::default();
        let ends =
            if is_reply { [End::ReplySrc, End::ReplyDst] } else { [End::OrigSrc, End::OrigDst] };
        for condition in self.sure() {
            match condition {
                // The protocol is the same in both directions, but the ports need it.
                Condition::Protocol(protocol) if !is_reply || self.has_reply_port() => {
                    tuple.proto = *protocol;
                    fields = fields.with(TupleFields::PROTO);
                }
                Condition::Address(end, address, None) if Family::of(*address) == family => {
                    if *end == ends[0] {
                        tuple.src = *address;
                        fields = fields.with(TupleFields::SRC);
                    } else if *end == ends[1] {
                        tuple.dst = *address;
                        fields = fields.with(TupleFields::DST);
                    }
                }
                _ => {}
            }
        }
        self.words(&mut tuple, &mut fields, is_reply);
        (fields != TupleFields::default()).then_some(TupleFilter { tuple, zone: 0, fields })
    }

    /// The original tuple, if all flows that the filter admits have the same.
    pub(crate) fn whole_tuple(&self) -> Option<Tuple> {
        let mut tuple = Tuple { proto: self.protocol_number()?, ..Tuple::default() };
        let address = |sought: End| {
            self.sure().find_map(|condition| match condition {
                Condition::Address(end, address, None) if *end == sought => Some(*address),
                _ => None,
            })
        };
        (tuple.src, tuple.dst) = (address(End::OrigSrc)?, address(End::OrigDst)?);
        if tuple.is_icmp() {
            let [id, kind, code] =
                [Field::IcmpId, Field::IcmpType, Field::IcmpCode].map(|field| self.exact(field));
            tuple.l4 = L4::icmp(id?, kind? as u8, code? as u8);
        } else if tuple.has_ports() || tuple.proto == proto::GRE {
            tuple.l4 = L4::ports(self.exact(Field::Sport)?, self.exact(Field::Dport)?);
        }
        Some(tuple)
    }

    /// The zone that all flows must be in with both directions.
    pub(crate) fn zone(&self) -> Option<u16> {
        self.sure().find_map(|condition| match condition {
            // Without a zone are also flows of which one direction has one.
            Condition::Zone(zone) if *zone != 0 => Some(*zone),
            _ => None,
        })
    }

    fn protocol_number(&self) -> Option<u8> {
        self.sure().find_map(|condition| match condition {
            Condition::Protocol(protocol) => Some(*protocol),
            _ => None,
        })
    }

    /// What must hold, without what must not.
    fn sure(&self) -> impl Iterator<Item = &Condition> {
        self.tests.iter().filter(|t| !t.not).map(|t| &t.condition)
    }

    fn has_reply_port(&self) -> bool {
        self.exact(Field::ReplySport).is_some() || self.exact(Field::ReplyDport).is_some()
    }

    /// The one value that a field must have.
    fn exact(&self, field: Field) -> Option<u16> {
        self.sure().find_map(|condition| match condition {
            Condition::Field(f, ranges) if *f == field => match ranges[..] {
                [(low, high)] if low == high => Some(low as u16),
                _ => None,
            },
            _ => None,
        })
    }

    /// Ports and ICMP words of the protocols for which the kernel compares them.
    fn words(&self, tuple: &mut Tuple, fields: &mut TupleFields, is_reply: bool) {
        let ports = if is_reply {
            [Field::ReplySport, Field::ReplyDport]
        } else {
            [Field::Sport, Field::Dport]
        };
        match tuple.proto {
            proto::TCP | proto::UDP => {
                let [source, destination] = ports.map(|field| self.exact(field));
                tuple.l4 = L4::ports(source.unwrap_or(0), destination.unwrap_or(0));
                for (given, bit) in
                    [(source, TupleFields::SRC_PORT), (destination, TupleFields::DST_PORT)]
                {
                    if given.is_some() {
                        *fields = fields.with(bit);
                    }
                }
            }
            proto::ICMP if !is_reply => {
                let word = |field| self.exact(field);
                let (id, kind, code) =
                    (word(Field::IcmpId), word(Field::IcmpType), word(Field::IcmpCode));
                let octet = |word: Option<u16>| word.unwrap_or(0) as u8;
                tuple.l4 = L4::icmp(id.unwrap_or(0), octet(kind), octet(code));
                for (given, bit) in [
                    (id, TupleFields::ICMP_ID),
                    (kind, TupleFields::ICMP_TYPE),
                    (code, TupleFields::ICMP_CODE),
                ] {
                    if given.is_some() {
                        *fields = fields.with(bit);
                    }
                }
            }
            _ => {}
        }
    }
}
