//! Requests to the kernel, many in one buffer.
//!
//! An [`Encoder`] appends whole requests to a buffer of the caller's. A request that does not fit
//! leaves the buffer as it was, so that the caller sends what is there and starts again. The
//! kernel works off the requests of one send in order; each fails alone.

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian;
use zerocopy::byteorder::native_endian::{U16, U32};

use crate::consts::*;
use crate::expect::{Expect, ExpectPresent};
use crate::filter::{DumpFilter, FlushFilter};
use crate::flow::{Flow, Labels, Present};
use crate::nl::{NF_HEAD, NL_HEAD, NfHead, NlHead};
use crate::put::{put_expect, put_flow, put_tuple, put_zone};
use crate::tuple::Tuple;
use crate::writer::Writer;

/// The buffer has no room for the request. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no room for the request")
    }
}

impl core::error::Error for Full {}

/// The headers of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Message type, see [`msg`].
    pub kind: u16,
    /// `NLM_F_*`, see [`flag`]; [`flag::REQUEST`] is added.
    pub flags: u16,
    /// Sequence number, which the answer repeats.
    pub seq: u32,
    /// Address family, see [`family`].
    pub family: u8,
    /// Version of the nfnetlink header: 0, but for a flush by family.
    pub version: u8,
    /// Resource id: queue number of [`subsys::QUEUE`] messages, else 0.
    pub resource: u16,
}

/// Which bits a request for a flow changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowMasks {
    /// Bits of the mark that are replaced (`CTA_MARK_MASK`); `None` replaces all.
    pub mark: Option<u32>,
    /// Labels that are replaced (`CTA_LABELS_MASK`); `None` replaces all.
    pub labels: Option<Labels>,
}

/// Appends requests to a buffer.
#[derive(Debug)]
pub struct Encoder<'b> {
    buf: &'b mut [u8],
    len: usize,
    count: usize,
    last: usize,
}

/// The flags of a request that changes something.
const fn acked(flags: u16, ack: bool) -> u16 {
    if ack { flags | flag::ACK } else { flags }
}

impl<'b> Encoder<'b> {
    /// Writes to `buf` from its start on.
    pub const fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, len: 0, count: 0, last: 0 }
    }

    /// Octets written.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no request was written.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Requests written.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// What was written: one or more requests, ready to be sent as one datagram.
    pub fn bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or(&[])
    }

    /// Forgets the requests and starts again at the buffer's start.
    pub const fn clear(&mut self) {
        (self.len, self.count, self.last) = (0, 0, 0);
    }

    /// Asks for an acknowledgement of the last request written, whose answer tells that all
    /// before it were worked off.
    pub fn ack_last(&mut self) {
        let flags = self.last + NL_HEAD - 10;
        if self.count > 0
            && let Some(field) = self.buf.get_mut(flags..flags + 2)
        {
            let old = u16::from_ne_bytes([field[0], field[1]]);
            field.copy_from_slice(&(old | flag::ACK).to_ne_bytes());
        }
    }

    /// Appends a request of any subsystem with the attributes that `attrs` writes.
    ///
    /// # Errors
    /// If there is no room; the encoder is then as it was before.
    #[inline]
    pub fn request(
        &mut self,
        request: &Request,
        attrs: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), Full> {
        let start = self.len;
        if self.buf.len() - start < NF_HEAD {
            return Err(Full);
        }
        let mut writer = Writer::new(self.buf, start + NF_HEAD);
        attrs(&mut writer);
        let end = writer.end().ok_or(Full)?;
        let nl = NlHead {
            len: U32::new(u32::try_from(end - start).map_err(|_| Full)?),
            kind: U16::new(request.kind),
            flags: U16::new(request.flags | flag::REQUEST),
            seq: U32::new(request.seq),
            port: U32::new(0),
        };
        let nf = NfHead {
            family: request.family,
            version: request.version,
            res_id: big_endian::U16::new(request.resource),
        };
        self.buf[start..start + NL_HEAD].copy_from_slice(nl.as_bytes());
        self.buf[start + NL_HEAD..start + NF_HEAD].copy_from_slice(nf.as_bytes());
        self.len = end;
        self.last = start;
        self.count += 1;
        Ok(())
    }

    /// Makes a flow (`CREATE|EXCL`): fails with `EEXIST` if there is one with its original or
    /// reply tuple. What [`Flow::present`] names is sent, as far as the kernel takes it.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_create(&mut self, flow: &Flow, seq: u32, ack: bool) -> Result<(), Full> {
        let flags = acked(flag::CREATE | flag::EXCL, ack);
        self.flow_new(flow, FlowMasks::default(), flags, seq)
    }

    /// Changes a flow: fails with `ENOENT` if there is none with its original tuple (or, without
    /// one, its reply tuple) and zone.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_update(&mut self, flow: &Flow, seq: u32, ack: bool) -> Result<(), Full> {
        self.flow_new(flow, FlowMasks::default(), acked(0, ack), seq)
    }

    /// [`msg::CT_NEW`] with the given flags and masks.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_new(
        &mut self,
        flow: &Flow,
        masks: FlowMasks,
        flags: u16,
        seq: u32,
    ) -> Result<(), Full> {
        let family = if flow.present.has(Present::ORIG) {
            family_of(&flow.orig)
        } else if flow.present.has(Present::REPLY) {
            family_of(&flow.reply)
        } else {
            family::UNSPEC
        };
        let request = Request { kind: msg::CT_NEW, flags, seq, family, ..Request::default() };
        self.request(&request, |w| put_flow(w, flow, masks))
    }

    /// Removes the flow of an original tuple, with `id` only if the kernel's identifier is that.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_delete(
        &mut self,
        key: &Tuple,
        zone: u16,
        id: Option<u32>,
        seq: u32,
        ack: bool,
    ) -> Result<(), Full> {
        self.by_key(msg::CT_DELETE, acked(0, ack), seq, key, |w| {
            put_tuple(w, CTA_TUPLE_ORIG, key, None);
            put_zone(w, CTA_ZONE, zone);
            if let Some(id) = id {
                w.u32_be(CTA_ID, id);
            }
        })
    }

    /// Asks for the flow of an original tuple.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_get(&mut self, key: &Tuple, zone: u16, seq: u32, ack: bool) -> Result<(), Full> {
        self.by_key(msg::CT_GET, acked(0, ack), seq, key, |w| {
            put_tuple(w, CTA_TUPLE_ORIG, key, None);
            put_zone(w, CTA_ZONE, zone);
        })
    }

    /// Asks for the flow of a reply tuple.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_get_by_reply(
        &mut self,
        key: &Tuple,
        zone: u16,
        seq: u32,
        ack: bool,
    ) -> Result<(), Full> {
        self.by_key(msg::CT_GET, acked(0, ack), seq, key, |w| {
            put_tuple(w, CTA_TUPLE_REPLY, key, None);
            put_zone(w, CTA_ZONE, zone);
        })
    }

    /// Asks for all flows that `filter` admits, as far as kernels can be trusted with it: see
    /// [`DumpFilter`].
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_dump(&mut self, filter: &DumpFilter, seq: u32) -> Result<(), Full> {
        self.dump(msg::CT_GET, filter.family, seq, |w| filter.put(w))
    }

    /// Like [`Encoder::flow_dump`]; the kernel also zeroes the counters that it tells.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_dump_zero(&mut self, filter: &DumpFilter, seq: u32) -> Result<(), Full> {
        self.dump(msg::CT_GET_CTRZERO, filter.family, seq, |w| filter.put(w))
    }

    /// Removes all flows that `filter` admits; all of the namespace with the default.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_flush(&mut self, filter: &FlushFilter, seq: u32, ack: bool) -> Result<(), Full> {
        let request = Request {
            kind: msg::CT_DELETE,
            flags: acked(0, ack),
            seq,
            family: filter.family,
            // The kernel looks at a flush's family only if the version is not 0.
            version: u8::from(filter.family != family::UNSPEC),
            ..Request::default()
        };
        self.request(&request, |w| filter.put(w))
    }

    /// Asks for the flows whose end could not be told to a listener.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_dump_dying(&mut self, family: u8, seq: u32) -> Result<(), Full> {
        self.dump(msg::CT_GET_DYING, family, seq, |_| {})
    }

    /// Asks for the flows whose first packet is still on its way. Recent kernels tell none.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn flow_dump_unconfirmed(&mut self, family: u8, seq: u32) -> Result<(), Full> {
        self.dump(msg::CT_GET_UNCONFIRMED, family, seq, |_| {})
    }

    /// Asks for the counters of every processor.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn stats_cpu(&mut self, seq: u32) -> Result<(), Full> {
        self.dump(msg::CT_GET_STATS_CPU, family::UNSPEC, seq, |_| {})
    }

    /// Asks how full the table is.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn stats_global(&mut self, seq: u32) -> Result<(), Full> {
        let request = Request { kind: msg::CT_GET_STATS, seq, ..Request::default() };
        self.request(&request, |_| {})
    }

    /// Asks for the expectation counters of every processor.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_stats_cpu(&mut self, seq: u32) -> Result<(), Full> {
        self.dump(msg::EXP_GET_STATS_CPU, family::UNSPEC, seq, |_| {})
    }

    /// Makes an expectation (`CREATE|EXCL`). What [`Expect::present`] names is sent.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_create(&mut self, expect: &Expect, seq: u32, ack: bool) -> Result<(), Full> {
        self.expect_new(expect, acked(flag::CREATE | flag::EXCL, ack), seq)
    }

    /// [`msg::EXP_NEW`] with the given flags. Of an expectation that exists the kernel changes
    /// the timeout only.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_new(&mut self, expect: &Expect, flags: u16, seq: u32) -> Result<(), Full> {
        let family = if expect.present.has(ExpectPresent::TUPLE) {
            family_of(&expect.tuple)
        } else if expect.present.has(ExpectPresent::MASTER) {
            family_of(&expect.master)
        } else {
            family::UNSPEC
        };
        let request = Request { kind: msg::EXP_NEW, flags, seq, family, ..Request::default() };
        self.request(&request, |w| put_expect(w, expect))
    }

    /// Removes the expectation of a concrete tuple.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_delete(
        &mut self,
        tuple: &Tuple,
        zone: u16,
        id: Option<u32>,
        seq: u32,
        ack: bool,
    ) -> Result<(), Full> {
        self.by_key(msg::EXP_DELETE, acked(0, ack), seq, tuple, |w| {
            put_tuple(w, CTA_EXPECT_TUPLE, tuple, None);
            put_zone(w, CTA_EXPECT_ZONE, zone);
            if let Some(id) = id {
                w.u32_be(CTA_EXPECT_ID, id);
            }
        })
    }

    /// Removes all expectations of a helper.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_delete_by_helper(
        &mut self,
        helper: &[u8],
        family: u8,
        seq: u32,
        ack: bool,
    ) -> Result<(), Full> {
        let flags = acked(0, ack);
        let request = Request { kind: msg::EXP_DELETE, flags, seq, family, ..Request::default() };
        self.request(&request, |w| w.text(CTA_EXPECT_HELP_NAME, helper))
    }

    /// Asks for the expectation of a concrete tuple.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_get(
        &mut self,
        tuple: &Tuple,
        zone: u16,
        seq: u32,
        ack: bool,
    ) -> Result<(), Full> {
        self.by_key(msg::EXP_GET, acked(0, ack), seq, tuple, |w| {
            put_tuple(w, CTA_EXPECT_TUPLE, tuple, None);
            put_zone(w, CTA_EXPECT_ZONE, zone);
        })
    }

    /// Asks for all expectations of a family.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_dump(&mut self, family: u8, seq: u32) -> Result<(), Full> {
        self.dump(msg::EXP_GET, family, seq, |_| {})
    }

    /// Asks for the expectations of one master, by its original tuple.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_dump_of(&mut self, master: &Tuple, zone: u16, seq: u32) -> Result<(), Full> {
        self.dump(msg::EXP_GET, family_of(master), seq, |w| {
            put_tuple(w, CTA_EXPECT_MASTER, master, None);
            put_zone(w, CTA_EXPECT_ZONE, zone);
        })
    }

    /// Removes all expectations of the namespace. The kernel does not look at the family.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn expect_flush(&mut self, family: u8, seq: u32, ack: bool) -> Result<(), Full> {
        let flags = acked(0, ack);
        let request = Request { kind: msg::EXP_DELETE, flags, seq, family, ..Request::default() };
        self.request(&request, |_| {})
    }

    fn by_key(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        key: &Tuple,
        attrs: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), Full> {
        let family = family_of(key);
        self.request(&Request { kind, flags, seq, family, ..Request::default() }, attrs)
    }

    fn dump(
        &mut self,
        kind: u16,
        family: u8,
        seq: u32,
        attrs: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), Full> {
        let flags = flag::DUMP;
        self.request(&Request { kind, flags, seq, family, ..Request::default() }, attrs)
    }
}

const fn family_of(tuple: &Tuple) -> u8 {
    if tuple.is_v6() { family::INET6 } else { family::INET }
}
