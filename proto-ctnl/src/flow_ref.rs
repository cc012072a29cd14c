//! A flow in a message of the kernel, borrowed.
//!
//! [`FlowRef::parse`] walks the outermost attributes once, checks their lengths and takes what
//! tells the flow from others: the original tuple, from fixed offsets if the message is laid out
//! as the kernel does it, and the zone. Everything else waits for [`FlowRef::write_to`].

use core::net::IpAddr;

use zerocopy::byteorder::big_endian::U64;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::attr::{Attr, AttrHead, Attrs};
use crate::consts::*;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::flow::{Counters, Flow, Labels, Present, ProtoInfo, SeqAdj, Synproxy};
use crate::name::Name;
use crate::names::AttrSet;
use crate::nl::{Message, NF_HEAD};
use crate::protoinfo::{self, usual_tcp};
use crate::status::Status;
use crate::tuple::Tuple;
use crate::tuple_codec::{TupleParts, Usual, general_tuple, tuple_at, tuple_to};

/// What a message says about its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowMessage {
    /// Event: the flow was confirmed.
    New,
    /// Event: something changed. What the message leaves out stayed as it was.
    Update,
    /// Event: the flow ended.
    Destroy,
    /// Part of a dump, or the answer to a request for one flow.
    Dump,
}

/// A flow as a message of the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub struct FlowRef<'a> {
    message: Message<'a>,
    /// Where the original tuple's attribute stands, 0 if there is none.
    orig_at: usize,
    /// The original tuple, if it has the usual layout.
    orig: Option<Usual>,
    orig_zone: Option<u16>,
    zone: u16,
    /// Bit `n`: attribute number `n` is there.
    seen: u32,
}

/// The bit of an attribute in [`FlowRef::seen`].
const fn bit(kind: u16) -> u32 {
    1 << kind
}

impl<'a> FlowRef<'a> {
    /// Reads a message that tells a flow: [`msg::CT_NEW`] or [`msg::CT_DELETE`].
    ///
    /// # Errors
    /// If an attribute's length is bad, or original tuple or zone are. Other values are looked at
    /// by [`FlowRef::write_to`].
    #[inline]
    pub fn parse(message: &Message<'a>) -> Result<Self, DecodeError> {
        Self::walk(message, true).map_err(|error| error.rooted(AttrSet::Flow))
    }

    /// Reads a request, which need not have an original tuple: without one [`FlowRef::orig`] is
    /// of no meaning.
    ///
    /// # Errors
    /// As [`FlowRef::parse`].
    pub fn parse_request(message: &Message<'a>) -> Result<Self, DecodeError> {
        Self::walk(message, false).map_err(|error| error.rooted(AttrSet::Flow))
    }

    #[inline(always)]
    fn walk(message: &Message<'a>, needs_orig: bool) -> Result<Self, DecodeError> {
        let (mut seen, mut zone, mut orig_at) = (0, 0, 0);
        for attr in message.attrs()? {
            let attr = attr?;
            if attr.kind < 32 {
                seen |= bit(attr.kind);
            }
            if attr.kind == CTA_TUPLE_ORIG {
                orig_at = attr.offset;
            } else if attr.kind == CTA_ZONE {
                zone = attr.u16_be()?;
            }
        }
        let (mut orig, mut orig_zone) = (None, None);
        if orig_at != 0 {
            let bytes = message.bytes.get(orig_at..).unwrap_or(&[]);
            orig = Usual::look(bytes, CTA_TUPLE_ORIG);
            orig_zone = match &orig {
                Some(usual) => usual.zone,
                None => unusual_tuple(bytes, orig_at)?.zone,
            };
        } else if needs_orig {
            return Err(no_orig(message));
        }
        Ok(Self { message: *message, orig_at, orig, orig_zone, zone, seen })
    }

    #[inline]
    fn attrs(&self) -> Attrs<'a> {
        // That the message is long enough for its headers was seen in `walk`.
        Attrs::new(self.message.bytes.get(NF_HEAD..).unwrap_or(&[]), NF_HEAD)
    }

    /// The last attribute of number `kind`, which must be below 32.
    fn attr(&self, kind: u16) -> Option<Attr<'a>> {
        if self.seen & bit(kind) == 0 {
            return None;
        }
        self.attrs().filter_map(|attr| attr.ok().filter(|attr| attr.kind == kind)).last()
    }

    fn u32_of(&self, kind: u16) -> Option<u32> {
        self.attr(kind)?.u32_be().ok()
    }

    /// What the message says about the flow.
    #[inline]
    pub const fn what(&self) -> FlowMessage {
        if self.message.kind == msg::CT_DELETE {
            FlowMessage::Destroy
        } else if self.message.flags & flag::MULTI != 0 {
            FlowMessage::Dump
        } else if self.message.flags & flag::CREATE != 0 {
            FlowMessage::New
        } else {
            FlowMessage::Update
        }
    }

    /// In an event: port id of the socket whose request caused it, 0 for packets and timers.
    #[inline]
    pub const fn port(&self) -> u32 {
        self.message.port
    }

    /// The message.
    #[inline]
    pub const fn message(&self) -> &Message<'a> {
        &self.message
    }

    /// The original tuple.
    #[inline]
    pub fn orig(&self) -> Tuple {
        let bytes = self.message.bytes.get(self.orig_at..).unwrap_or(&[]);
        let usual = self.orig.and_then(|usual| usual.tuple(bytes));
        // That it can be decoded was seen in `walk`.
        usual.unwrap_or_else(|| match unusual_tuple(bytes, self.orig_at) {
            Ok(parts) => parts.tuple,
            Err(_) => Tuple::default(),
        })
    }

    /// The zone of both directions (`CTA_ZONE`), 0 if there is none.
    #[inline]
    pub const fn zone(&self) -> u16 {
        self.zone
    }

    /// The zone that tells this flow from others with the same original tuple: that of both
    /// directions or of the original one.
    #[inline]
    pub const fn key_zone(&self) -> u16 {
        match self.orig_zone {
            Some(zone) => zone,
            None => self.zone(),
        }
    }

    /// Status bits, if told. This and its siblings walk the message: to know many members, write
    /// it to a [`Flow`].
    pub fn status(&self) -> Option<Status> {
        self.u32_of(CTA_STATUS).map(Status)
    }

    /// The kernel's identifier, if told.
    pub fn id(&self) -> Option<u32> {
        self.u32_of(CTA_ID)
    }

    /// Seconds until expiry, if told.
    pub fn timeout(&self) -> Option<u32> {
        self.u32_of(CTA_TIMEOUT)
    }

    /// Mark, if told.
    pub fn mark(&self) -> Option<u32> {
        self.u32_of(CTA_MARK)
    }

    /// The reply tuple, if told.
    ///
    /// # Errors
    /// If the tuple is incomplete.
    pub fn reply(&self) -> Result<Option<Tuple>, DecodeError> {
        match self.attr(CTA_TUPLE_REPLY) {
            Some(attr) => tuple_at(self.message.bytes, &attr)
                .map(Some)
                .map_err(|error| error.rooted(AttrSet::Flow)),
            None => Ok(None),
        }
    }

    /// Writes what the message tells into `flow` and adds it to [`Flow::present`]; the rest of
    /// `flow` stays, so that an update merges. [`Flow::clear`] it first for the message alone.
    ///
    /// # Errors
    /// If a value is bad. `flow` then holds a part of the message.
    #[inline]
    pub fn write_to(&self, flow: &mut Flow) -> Result<(), DecodeError> {
        self.attrs_to(flow).map_err(|error| error.rooted(AttrSet::Flow))
    }

    fn attrs_to(&self, flow: &mut Flow) -> Result<(), DecodeError> {
        let mut present = flow.present;
        for attr in self.attrs() {
            let attr = attr?;
            match attr.kind {
                CTA_TUPLE_ORIG => {
                    let zone = tuple_to(self.message.bytes, &attr, &mut flow.orig)?;
                    present.insert(Present::ORIG);
                    set_if(zone, &mut flow.orig_zone, &mut present, Present::ORIG_ZONE);
                }
                CTA_TUPLE_REPLY => {
                    let zone = tuple_to(self.message.bytes, &attr, &mut flow.reply)?;
                    present.insert(Present::REPLY);
                    set_if(zone, &mut flow.reply_zone, &mut present, Present::REPLY_ZONE);
                }
                CTA_ID => {
                    flow.id = attr.u32_be()?;
                    present.insert(Present::ID);
                }
                CTA_STATUS => {
                    flow.status = Status(attr.u32_be()?);
                    present.insert(Present::STATUS);
                }
                CTA_TIMEOUT => {
                    flow.timeout = attr.u32_be()?;
                    present.insert(Present::TIMEOUT);
                }
                CTA_PROTOINFO => {
                    let usual = self.message.bytes.get(attr.offset..).and_then(usual_tcp);
                    if let Some(tcp) = usual {
                        flow.protoinfo = ProtoInfo::Tcp(tcp);
                        present.insert(Present::PROTOINFO);
                    } else if let Some(info) = protoinfo::decode(&attr)? {
                        flow.protoinfo = info;
                        present.insert(Present::PROTOINFO);
                    }
                }
                CTA_MARK => {
                    flow.mark = attr.u32_be()?;
                    present.insert(Present::MARK);
                }
                CTA_USE => {
                    flow.use_count = attr.u32_be()?;
                    present.insert(Present::USE);
                }
                CTA_ZONE => {
                    flow.zone = self.zone;
                    present.insert(Present::ZONE);
                }
                CTA_TIMESTAMP_EVENT => {
                    flow.event_time = attr.u64_be()?;
                    present.insert(Present::EVENT_TIME);
                }
                _ => present.insert(self.rare_to(&attr, flow)?),
            }
        }
        flow.present = present;
        Ok(())
    }

    /// Writes an attribute that few events have, and says what it was.
    fn rare_to(&self, attr: &Attr<'a>, flow: &mut Flow) -> Result<Present, DecodeError> {
        let wrap = |error| attr.wrap(error);
        Ok(match attr.kind {
            CTA_COUNTERS_ORIG => {
                flow.counters[0] = counters_in(attr).map_err(wrap)?;
                Present::COUNTERS_ORIG
            }
            CTA_COUNTERS_REPLY => {
                flow.counters[1] = counters_in(attr).map_err(wrap)?;
                Present::COUNTERS_REPLY
            }
            CTA_TIMESTAMP => times_in(attr, flow).map_err(wrap)?,
            CTA_HELP => match find(attr, CTA_HELP_NAME)? {
                Some(name) => {
                    flow.helper = name.name().map_err(wrap)?;
                    Present::HELPER
                }
                None => Present::NONE,
            },
            CTA_SECCTX => match find(attr, CTA_SECCTX_NAME)? {
                Some(name) => {
                    let text = name.text();
                    flow.secctx = Name::new(&text[..text.len().min(64)]).unwrap_or_default();
                    Present::SECCTX
                }
                None => Present::NONE,
            },
            CTA_LABELS => {
                flow.labels = labels_in(attr)?;
                Present::LABELS
            }
            CTA_TUPLE_MASTER => {
                flow.master = tuple_at(self.message.bytes, attr)?;
                Present::MASTER
            }
            CTA_SEQ_ADJ_ORIG | CTA_SEQ_ADJ_REPLY => {
                let adj = seqadj_in(attr).map_err(wrap)?;
                // One direction alone would mix with what the flow had of the other.
                const BOTH: u32 = bit(CTA_SEQ_ADJ_ORIG) | bit(CTA_SEQ_ADJ_REPLY);
                if self.seen & BOTH != BOTH {
                    return Ok(Present::NONE);
                }
                flow.seqadj[usize::from(attr.kind == CTA_SEQ_ADJ_REPLY)] = adj;
                Present::SEQADJ
            }
            CTA_SYNPROXY => {
                flow.synproxy = synproxy_in(attr).map_err(wrap)?;
                Present::SYNPROXY
            }
            CTA_SECMARK => {
                flow.secmark = attr.u32_be()?;
                Present::SECMARK
            }
            CTA_NAT_SRC => {
                nat_to(attr, (&mut flow.snat, Present::SNAT), (&mut flow.spat, Present::SPAT))?
            }
            CTA_NAT_DST => {
                nat_to(attr, (&mut flow.dnat, Present::DNAT), (&mut flow.dpat, Present::DPAT))?
            }
            _ => Present::NONE,
        })
    }
}

#[cold]
fn no_orig(message: &Message<'_>) -> DecodeError {
    DecodeError::new(DecodeErrorKind::Missing, message.bytes.len()).within(CTA_TUPLE_ORIG)
}

/// Decodes the tuple of any layout at the start of `bytes`, which stand at `offset`.
#[cold]
fn unusual_tuple(bytes: &[u8], offset: usize) -> Result<TupleParts, DecodeError> {
    match Attrs::new(bytes, offset).next() {
        Some(attr) => general_tuple(&attr?),
        None => Err(DecodeError::new(DecodeErrorKind::Missing, offset).within(CTA_TUPLE_ORIG)),
    }
}

fn nat_to(
    nest: &Attr<'_>,
    (address, address_bit): (&mut IpAddr, Present),
    (port, port_bit): (&mut u16, Present),
) -> Result<Present, DecodeError> {
    let (new_address, new_port) = protoinfo::nat_in(nest).map_err(|error| nest.wrap(error))?;
    let mut present = Present::NONE;
    set_if(new_address, address, &mut present, address_bit);
    set_if(new_port, port, &mut present, port_bit);
    Ok(present)
}

#[inline]
fn set_if<T>(value: Option<T>, member: &mut T, present: &mut Present, bit: Present) {
    if let Some(value) = value {
        *member = value;
        present.insert(bit);
    }
}

/// The last attribute of number `kind` inside `nest`.
fn find<'a>(nest: &Attr<'a>, kind: u16) -> Result<Option<Attr<'a>>, DecodeError> {
    let mut found = None;
    for attr in nest.attrs() {
        let attr = attr.map_err(|e| nest.wrap(e))?;
        if attr.kind == kind {
            found = Some(attr);
        }
    }
    Ok(found)
}

/// Two 64-bit numbers as the kernel lays them out inside counters and times.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct UsualPair {
    first_head: AttrHead,
    first: U64,
    second_head: AttrHead,
    second: U64,
}

impl UsualPair {
    fn read(nest: &Attr<'_>, kinds: [u16; 2]) -> Option<[u64; 2]> {
        let pair = Self::ref_from_bytes(nest.value).ok()?;
        (pair.first_head == AttrHead::new(kinds[0], 8)
            && pair.second_head == AttrHead::new(kinds[1], 8))
        .then_some([pair.first.get(), pair.second.get()])
    }
}

fn counters_in(nest: &Attr<'_>) -> Result<Counters, DecodeError> {
    let kinds = [CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES];
    if let Some([packets, bytes]) = UsualPair::read(nest, kinds) {
        return Ok(Counters { packets, bytes });
    }
    let mut counters = Counters::default();
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_COUNTERS_PACKETS => counters.packets = attr.u64_be()?,
            CTA_COUNTERS_BYTES => counters.bytes = attr.u64_be()?,
            CTA_COUNTERS32_PACKETS => counters.packets = attr.u32_be()?.into(),
            CTA_COUNTERS32_BYTES => counters.bytes = attr.u32_be()?.into(),
            _ => {}
        }
    }
    Ok(counters)
}

fn times_in(nest: &Attr<'_>, flow: &mut Flow) -> Result<Present, DecodeError> {
    let kinds = [CTA_TIMESTAMP_START, CTA_TIMESTAMP_STOP];
    if let Some([start, stop]) = UsualPair::read(nest, kinds) {
        (flow.start, flow.stop) = (start, stop);
        return Ok(Present(Present::START.0 | Present::STOP.0));
    }
    let mut present = Present::NONE;
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_TIMESTAMP_START => {
                flow.start = attr.u64_be()?;
                present.insert(Present::START);
            }
            CTA_TIMESTAMP_STOP => {
                flow.stop = attr.u64_be()?;
                present.insert(Present::STOP);
            }
            _ => {}
        }
    }
    Ok(present)
}

/// Decodes labels: words of host order, of which the kernel knows four. Fewer leave the rest 0.
fn labels_in(attr: &Attr<'_>) -> Result<Labels, DecodeError> {
    let mut labels = Labels::default();
    if !attr.value.len().is_multiple_of(4) {
        return Err(DecodeError::new(DecodeErrorKind::LabelLength, attr.offset).within(attr.kind));
    }
    for (word, octets) in labels.0.iter_mut().zip(attr.value.chunks_exact(4)) {
        *word = u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]);
    }
    Ok(labels)
}

fn seqadj_in(nest: &Attr<'_>) -> Result<SeqAdj, DecodeError> {
    let mut adj = SeqAdj::default();
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_SEQADJ_CORRECTION_POS => adj.correction_pos = attr.u32_be()?,
            CTA_SEQADJ_OFFSET_BEFORE => adj.offset_before = attr.u32_be()?.cast_signed(),
            CTA_SEQADJ_OFFSET_AFTER => adj.offset_after = attr.u32_be()?.cast_signed(),
            _ => {}
        }
    }
    Ok(adj)
}

fn synproxy_in(nest: &Attr<'_>) -> Result<Synproxy, DecodeError> {
    let mut state = Synproxy::default();
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_SYNPROXY_ISN => state.isn = attr.u32_be()?,
            CTA_SYNPROXY_ITS => state.its = attr.u32_be()?,
            CTA_SYNPROXY_TSOFF => state.tsoff = attr.u32_be()?,
            _ => {}
        }
    }
    Ok(state)
}
