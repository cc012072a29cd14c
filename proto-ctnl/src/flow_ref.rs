//! A flow in a message of the kernel, borrowed.
//!
//! [`FlowRef::parse`] makes one pass over the outermost attributes and notes where those of a
//! flow stand. The original tuple is decoded at once, from fixed offsets if the message is laid
//! out as the kernel does it; everything else waits for [`FlowRef::write_to`].

use crate::attr::{Attr, HEAD};
use crate::consts::*;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::flow::{Counters, Flow, Labels, Present, SeqAdj, Synproxy};
use crate::name::Name;
use crate::names::AttrSet;
use crate::nl::{Message, NF_HEAD};
use crate::protoinfo;
use crate::status::Status;
use crate::tuple::Tuple;
use crate::tuple_codec::{TupleParts, general_tuple, tuple_at, usual_tuple};

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

/// Attribute numbers below this are noted.
const KINDS: usize = CTA_TIMESTAMP_EVENT as usize + 1;

/// Octets that the value of each attribute must have; 0 for nests and blobs.
const MIN_LEN: [u8; KINDS] = {
    let mut table = [0; KINDS];
    let words = [CTA_STATUS, CTA_TIMEOUT, CTA_MARK, CTA_USE, CTA_ID, CTA_SECMARK];
    let mut i = 0;
    while i < words.len() {
        table[words[i] as usize] = 4;
        i += 1;
    }
    table[CTA_ZONE as usize] = 2;
    table[CTA_TIMESTAMP_EVENT as usize] = 8;
    table
};

/// A flow as a message of the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub struct FlowRef<'a> {
    message: Message<'a>,
    orig: TupleParts,
    /// Offsets of the attributes in the message, 0 if absent.
    at: [u16; KINDS],
}

impl<'a> FlowRef<'a> {
    /// Reads a message that tells a flow: [`msg::CT_NEW`] or [`msg::CT_DELETE`].
    ///
    /// # Errors
    /// If an attribute's length is bad, a fixed-size value is too short or there is no original
    /// tuple. Nests other than that tuple are looked at by [`FlowRef::write_to`].
    #[inline]
    pub fn parse(message: &Message<'a>) -> Result<Self, DecodeError> {
        let mut flow = Self::notes(message).map_err(|error| error.rooted(AttrSet::Flow))?;
        flow.orig = flow.decode_orig().map_err(|error| error.rooted(AttrSet::Flow))?;
        Ok(flow)
    }

    /// Reads a request, which need not have an original tuple: without one [`FlowRef::orig`] is
    /// of no meaning.
    ///
    /// # Errors
    /// As [`FlowRef::parse`].
    pub fn parse_request(message: &Message<'a>) -> Result<Self, DecodeError> {
        let flow = Self::notes(message).map_err(|error| error.rooted(AttrSet::Flow))?;
        if flow.offset_of(CTA_TUPLE_ORIG).is_none() { Ok(flow) } else { Self::parse(message) }
    }

    #[inline]
    fn notes(message: &Message<'a>) -> Result<Self, DecodeError> {
        let bytes = message.bytes;
        if bytes.len() > usize::from(u16::MAX) {
            return Err(DecodeError::new(DecodeErrorKind::LongMessage, 0));
        }
        let mut at = [0; KINDS];
        for attr in message.attrs()? {
            let attr = attr?;
            let kind = usize::from(attr.kind);
            if kind < KINDS {
                if attr.value.len() < usize::from(MIN_LEN[kind]) {
                    return Err(DecodeError::new(DecodeErrorKind::ShortValue, attr.offset)
                        .within(attr.kind));
                }
                at[kind] = attr.offset as u16;
            }
        }
        Ok(Self { message: *message, orig: TupleParts { tuple: Tuple::default(), zone: None }, at })
    }

    #[inline]
    fn decode_orig(&self) -> Result<TupleParts, DecodeError> {
        if usize::from(self.at[usize::from(CTA_TUPLE_ORIG)]) == NF_HEAD
            && let Some(tuple) =
                self.message.bytes.get(NF_HEAD..).and_then(|at| usual_tuple(at, CTA_TUPLE_ORIG))
        {
            return Ok(TupleParts { tuple, zone: None });
        }
        match self.attr(CTA_TUPLE_ORIG) {
            Some(attr) => general_tuple(&attr),
            None => Err(DecodeError::new(DecodeErrorKind::Missing, self.message.bytes.len())
                .within(CTA_TUPLE_ORIG)),
        }
    }

    #[inline]
    fn offset_of(&self, kind: u16) -> Option<usize> {
        match self.at[usize::from(kind)] {
            0 => None,
            offset => Some(usize::from(offset)),
        }
    }

    /// The attribute of number `kind`, which must be below [`KINDS`].
    #[inline]
    fn attr(&self, kind: u16) -> Option<Attr<'a>> {
        let offset = self.offset_of(kind)?;
        let rest = self.message.bytes.get(offset..)?;
        let len = usize::from(u16::from_ne_bytes(*rest.first_chunk::<2>()?));
        let nested = rest.get(2..HEAD).is_some_and(|kind| {
            u16::from_ne_bytes(*kind.first_chunk::<2>().unwrap_or(&[0; 2])) & NLA_F_NESTED != 0
        });
        Some(Attr { kind, nested, value: rest.get(HEAD..len)?, offset })
    }

    /// The first octets of attribute `kind`, whose length [`MIN_LEN`] has ensured.
    #[inline]
    fn octets<const N: usize>(&self, kind: u16) -> Option<[u8; N]> {
        let value = self.offset_of(kind)? + HEAD;
        self.message.bytes.get(value..)?.first_chunk::<N>().copied()
    }

    #[inline]
    fn u32_of(&self, kind: u16) -> Option<u32> {
        self.octets(kind).map(u32::from_be_bytes)
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
    pub const fn orig(&self) -> Tuple {
        self.orig.tuple
    }

    /// The zone of both directions (`CTA_ZONE`), 0 if there is none.
    #[inline]
    pub fn zone(&self) -> u16 {
        self.octets(CTA_ZONE).map_or(0, u16::from_be_bytes)
    }

    /// The zone that tells this flow from others with the same original tuple: that of both
    /// directions or of the original one.
    #[inline]
    pub fn key_zone(&self) -> u16 {
        match self.orig.zone {
            Some(zone) => zone,
            None => self.zone(),
        }
    }

    /// Status bits, if told.
    #[inline]
    pub fn status(&self) -> Option<Status> {
        self.u32_of(CTA_STATUS).map(Status)
    }

    /// The kernel's identifier, if told.
    #[inline]
    pub fn id(&self) -> Option<u32> {
        self.u32_of(CTA_ID)
    }

    /// Seconds until expiry, if told.
    #[inline]
    pub fn timeout(&self) -> Option<u32> {
        self.u32_of(CTA_TIMEOUT)
    }

    /// Mark, if told.
    #[inline]
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
                .map(|parts| Some(parts.tuple))
                .map_err(|error| error.rooted(AttrSet::Flow)),
            None => Ok(None),
        }
    }

    /// Writes what the message tells into `flow` and adds it to [`Flow::present`]; the rest of
    /// `flow` stays, so that an update merges. [`Flow::clear`] it first for the message alone.
    ///
    /// # Errors
    /// If something inside a nest is bad. `flow` then holds a part of the message.
    pub fn write_to(&self, flow: &mut Flow) -> Result<(), DecodeError> {
        self.tuples_to(flow)
            .and_then(|()| {
                self.numbers_to(flow);
                self.nests_to(flow)
            })
            .map_err(|error| error.rooted(AttrSet::Flow))
    }

    fn tuples_to(&self, flow: &mut Flow) -> Result<(), DecodeError> {
        if self.offset_of(CTA_TUPLE_ORIG).is_some() {
            flow.orig = self.orig.tuple;
            flow.present.insert(Present::ORIG);
            if let Some(zone) = self.orig.zone {
                flow.orig_zone = zone;
                flow.present.insert(Present::ORIG_ZONE);
            }
        }
        if let Some(attr) = self.attr(CTA_TUPLE_REPLY) {
            let parts = tuple_at(self.message.bytes, &attr)?;
            flow.reply = parts.tuple;
            flow.present.insert(Present::REPLY);
            if let Some(zone) = parts.zone {
                flow.reply_zone = zone;
                flow.present.insert(Present::REPLY_ZONE);
            }
        }
        if let Some(attr) = self.attr(CTA_TUPLE_MASTER) {
            flow.master = tuple_at(self.message.bytes, &attr)?.tuple;
            flow.present.insert(Present::MASTER);
        }
        Ok(())
    }

    #[inline]
    fn numbers_to(&self, flow: &mut Flow) {
        let mut set = |kind, bit, member: &mut u32| {
            if let Some(value) = self.u32_of(kind) {
                *member = value;
                flow.present.insert(bit);
            }
        };
        set(CTA_STATUS, Present::STATUS, &mut flow.status.0);
        set(CTA_TIMEOUT, Present::TIMEOUT, &mut flow.timeout);
        set(CTA_MARK, Present::MARK, &mut flow.mark);
        set(CTA_ID, Present::ID, &mut flow.id);
        set(CTA_USE, Present::USE, &mut flow.use_count);
        set(CTA_SECMARK, Present::SECMARK, &mut flow.secmark);
        if let Some(octets) = self.octets(CTA_ZONE) {
            flow.zone = u16::from_be_bytes(octets);
            flow.present.insert(Present::ZONE);
        }
        if let Some(octets) = self.octets(CTA_TIMESTAMP_EVENT) {
            flow.event_time = u64::from_be_bytes(octets);
            flow.present.insert(Present::EVENT_TIME);
        }
    }

    fn nests_to(&self, flow: &mut Flow) -> Result<(), DecodeError> {
        if let Some(attr) = self.attr(CTA_PROTOINFO)
            && let Some(info) = protoinfo::decode(self.message.bytes, &attr)?
        {
            flow.protoinfo = info;
            flow.present.insert(Present::PROTOINFO);
        }
        // Most events have none of what follows: one test spares a dozen.
        const RARE: [u16; 10] = [
            CTA_HELP,
            CTA_COUNTERS_ORIG,
            CTA_COUNTERS_REPLY,
            CTA_SEQ_ADJ_ORIG,
            CTA_SEQ_ADJ_REPLY,
            CTA_SECCTX,
            CTA_TIMESTAMP,
            CTA_LABELS,
            CTA_SYNPROXY,
            CTA_NAT_SRC,
        ];
        if RARE
            .iter()
            .fold(self.at[usize::from(CTA_NAT_DST)], |all, &kind| all | self.at[usize::from(kind)])
            == 0
        {
            return Ok(());
        }
        self.rare_to(flow)
    }

    #[inline(never)]
    fn rare_to(&self, flow: &mut Flow) -> Result<(), DecodeError> {
        let counters = [
            (CTA_COUNTERS_ORIG, Present::COUNTERS_ORIG),
            (CTA_COUNTERS_REPLY, Present::COUNTERS_REPLY),
        ];
        for (direction, (kind, bit)) in counters.into_iter().enumerate() {
            if let Some(attr) = self.attr(kind) {
                flow.counters[direction] = counters_in(&attr).map_err(|e| attr.wrap(e))?;
                flow.present.insert(bit);
            }
        }
        if let Some(attr) = self.attr(CTA_TIMESTAMP) {
            times_in(&attr, flow).map_err(|e| attr.wrap(e))?;
        }
        if let Some(attr) = self.attr(CTA_HELP)
            && let Some(name) = find(&attr, CTA_HELP_NAME)?
        {
            flow.helper = name.name().map_err(|e| attr.wrap(e))?;
            flow.present.insert(Present::HELPER);
        }
        if let Some(attr) = self.attr(CTA_SECCTX)
            && let Some(name) = find(&attr, CTA_SECCTX_NAME)?
        {
            let text = name.text();
            flow.secctx = Name::new(&text[..text.len().min(64)]).unwrap_or_default();
            flow.present.insert(Present::SECCTX);
        }
        if let Some(attr) = self.attr(CTA_LABELS) {
            flow.labels = labels_in(&attr)?;
            flow.present.insert(Present::LABELS);
        }
        if let (Some(orig), Some(reply)) =
            (self.attr(CTA_SEQ_ADJ_ORIG), self.attr(CTA_SEQ_ADJ_REPLY))
        {
            flow.seqadj = [
                seqadj_in(&orig).map_err(|e| orig.wrap(e))?,
                seqadj_in(&reply).map_err(|e| reply.wrap(e))?,
            ];
            flow.present.insert(Present::SEQADJ);
        }
        if let Some(attr) = self.attr(CTA_SYNPROXY) {
            flow.synproxy = synproxy_in(&attr).map_err(|e| attr.wrap(e))?;
            flow.present.insert(Present::SYNPROXY);
        }
        if let Some(attr) = self.attr(CTA_NAT_SRC) {
            let (ip, port) = protoinfo::nat_in(&attr).map_err(|e| attr.wrap(e))?;
            set_if(ip, &mut flow.snat, &mut flow.present, Present::SNAT);
            set_if(port, &mut flow.spat, &mut flow.present, Present::SPAT);
        }
        if let Some(attr) = self.attr(CTA_NAT_DST) {
            let (ip, port) = protoinfo::nat_in(&attr).map_err(|e| attr.wrap(e))?;
            set_if(ip, &mut flow.dnat, &mut flow.present, Present::DNAT);
            set_if(port, &mut flow.dpat, &mut flow.present, Present::DPAT);
        }
        Ok(())
    }
}

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

fn counters_in(nest: &Attr<'_>) -> Result<Counters, DecodeError> {
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

fn times_in(nest: &Attr<'_>, flow: &mut Flow) -> Result<(), DecodeError> {
    for attr in nest.attrs() {
        let attr = attr?;
        match attr.kind {
            CTA_TIMESTAMP_START => {
                flow.start = attr.u64_be()?;
                flow.present.insert(Present::START);
            }
            CTA_TIMESTAMP_STOP => {
                flow.stop = attr.u64_be()?;
                flow.present.insert(Present::STOP);
            }
            _ => {}
        }
    }
    Ok(())
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
