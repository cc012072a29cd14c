//! Requests to the kernel, written without the codec that the tests try: a mistake there must not
//! cancel out here. Numbers are those of linux/netfilter/nfnetlink_conntrack.h.

use std::net::IpAddr;

use proto_ctnl::{Expect, ExpectPresent, Flow, Present, ProtoInfo, Status, Tuple, proto};

const NESTED: u16 = 0x8000;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;
const DUMP: u16 = 0x300;

const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;
const CT_DELETE: u16 = 0x102;
const EXPECT_NEW: u16 = 0x200;
const EXPECT_GET: u16 = 0x201;

/// Requests one after the other, to be sent at once.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: u32,
    /// Where the last message starts.
    last: usize,
    /// Where the message in work has its open nests.
    open: Vec<usize>,
}

impl Batch {
    /// The bytes, with an acknowledgement wanted for the last message. Sequence numbers count from
    /// 0.
    pub fn finish(&mut self) -> &[u8] {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            flags[0] |= ACK as u8;
        }
        &self.bytes
    }

    /// Number of messages.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages = 0;
        self.last = 0;
    }

    /// Creates a flow that must not exist. Translations are asked for by
    /// [`Flow::snat`] and so on, the reply is then the plain inversion.
    pub fn create(&mut self, flow: &Flow) {
        self.begin(CT_NEW, CREATE | EXCL, family(&flow.orig));
        self.flow(flow);
        self.end();
    }

    /// Updates a flow that must exist.
    pub fn update(&mut self, flow: &Flow) {
        self.begin(CT_NEW, 0, family(&flow.orig));
        self.flow(flow);
        self.end();
    }

    /// Deletes a flow.
    pub fn delete(&mut self, orig: &Tuple, zone: u16) {
        self.begin(CT_DELETE, 0, family(orig));
        self.tuple(1, orig);
        if zone != 0 {
            self.put(18, &zone.to_be_bytes());
        }
        self.end();
    }

    /// Asks for a flow.
    pub fn get(&mut self, orig: &Tuple) {
        self.begin(CT_GET, 0, family(orig));
        self.tuple(1, orig);
        self.end();
    }

    /// Deletes all flows.
    pub fn flush(&mut self) {
        self.begin(CT_DELETE, 0, 0);
        self.end();
    }

    /// Asks for all flows.
    pub fn dump(&mut self) {
        self.begin(CT_GET, DUMP, 0);
        self.end();
    }

    /// Asks for all expectations.
    pub fn dump_expectations(&mut self) {
        self.begin(EXPECT_GET, DUMP, 0);
        self.end();
    }

    /// Creates an expectation that must not exist.
    pub fn expect(&mut self, expect: &Expect) {
        self.begin(EXPECT_NEW, CREATE | EXCL, family(&expect.tuple));
        self.tuple(1, &expect.master);
        self.tuple(2, &expect.tuple);
        self.tuple(3, &expect.mask);
        if expect.present.has(ExpectPresent::TIMEOUT) {
            self.put(4, &expect.timeout.to_be_bytes());
        }
        if expect.present.has(ExpectPresent::HELPER) {
            self.text(6, expect.helper.as_bytes());
        }
        if expect.present.has(ExpectPresent::ZONE) {
            self.put(7, &expect.zone.to_be_bytes());
        }
        self.put(8, &expect.flags.to_be_bytes());
        self.put(9, &expect.class.to_be_bytes());
        if expect.present.has(ExpectPresent::NAT) {
            self.nest(10);
            self.put(1, &expect.nat_dir.to_be_bytes());
            self.tuple(2, &expect.nat);
            self.close();
        }
        if expect.present.has(ExpectPresent::FUNCTION) {
            self.text(11, expect.function.as_bytes());
        }
        self.end();
    }

    fn flow(&mut self, flow: &Flow) {
        let has = |bit| flow.present.has(bit);
        self.tuple(1, &flow.orig);
        let reply = if has(Present::REPLY) { Some(flow.reply) } else { flow.orig.inverted() };
        self.tuple(2, &reply.expect("the generators make only what has an answer"));
        if has(Present::ZONE) {
            self.put(18, &flow.zone.to_be_bytes());
        }
        if has(Present::MASTER) {
            self.tuple(14, &flow.master);
        }
        if has(Present::STATUS) {
            let status = flow.status.without(Status::EXPECTED).with(Status::CONFIRMED);
            self.put(3, &status.0.to_be_bytes());
        }
        if has(Present::TIMEOUT) {
            self.put(7, &flow.timeout.to_be_bytes());
        }
        if has(Present::MARK) {
            self.put(8, &flow.mark.to_be_bytes());
        }
        if has(Present::PROTOINFO) {
            self.protoinfo(&flow.protoinfo);
        }
        if has(Present::SNAT) {
            self.translation(6, flow.snat, has(Present::SPAT).then_some(flow.spat));
        }
        if has(Present::DNAT) {
            self.translation(13, flow.dnat, has(Present::DPAT).then_some(flow.dpat));
        }
        if has(Present::SEQADJ) {
            for (kind, adjust) in [15, 16].into_iter().zip(flow.seqadj) {
                self.nest(kind);
                self.put(1, &adjust.correction_pos.to_be_bytes());
                self.put(2, &adjust.offset_before.to_be_bytes());
                self.put(3, &adjust.offset_after.to_be_bytes());
                self.close();
            }
        }
        if has(Present::HELPER) {
            self.nest(5);
            self.text(1, flow.helper.as_bytes());
            self.close();
        }
        if has(Present::LABELS) {
            let mut blob = [0; 16];
            for (bytes, word) in blob.chunks_exact_mut(4).zip(flow.labels.0) {
                bytes.copy_from_slice(&word.to_ne_bytes());
            }
            self.put(22, &blob);
        }
        if has(Present::SYNPROXY) {
            self.nest(24);
            self.put(1, &flow.synproxy.isn.to_be_bytes());
            self.put(2, &flow.synproxy.its.to_be_bytes());
            self.put(3, &flow.synproxy.tsoff.to_be_bytes());
            self.close();
        }
    }

    fn protoinfo(&mut self, info: &ProtoInfo) {
        self.nest(4);
        match info {
            ProtoInfo::Tcp(tcp) => {
                self.nest(1);
                self.put(1, &[tcp.state]);
                if let Some([orig, reply]) = tcp.wscale {
                    self.put(2, &[orig]);
                    self.put(3, &[reply]);
                }
                if let Some([orig, reply]) = tcp.flags {
                    self.put(4, &[orig.flags, orig.mask]);
                    self.put(5, &[reply.flags, reply.mask]);
                }
                self.close();
            }
            ProtoInfo::Sctp(sctp) => {
                self.nest(3);
                self.put(1, &[sctp.state]);
                let [orig, reply] = sctp.vtag.unwrap_or_default();
                self.put(2, &orig.to_be_bytes());
                self.put(3, &reply.to_be_bytes());
                self.close();
            }
            ProtoInfo::Dccp(_) => {}
        }
        self.close();
    }

    fn translation(&mut self, kind: u16, address: IpAddr, port: Option<u16>) {
        self.nest(kind);
        match address {
            IpAddr::V4(v4) => self.put(1, &v4.octets()),
            IpAddr::V6(v6) => self.put(4, &v6.octets()),
        }
        if let Some(port) = port {
            self.nest(3);
            self.put(1, &port.to_be_bytes());
            self.put(2, &port.to_be_bytes());
            self.close();
        }
        self.close();
    }

    fn tuple(&mut self, kind: u16, tuple: &Tuple) {
        self.nest(kind);
        self.nest(1);
        match (tuple.src, tuple.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.put(1, &src.octets());
                self.put(2, &dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                self.put(3, &src.octets());
                self.put(4, &dst.octets());
            }
            _ => unreachable!("both ends of a generated tuple are of one family"),
        }
        self.close();
        self.nest(2);
        self.put(1, &[tuple.proto]);
        match tuple.proto {
            proto::ICMP | proto::ICMPV6 => {
                let first = if tuple.proto == proto::ICMP { 4 } else { 7 };
                self.put(first, &tuple.l4.a.to_be_bytes());
                self.put(first + 1, &[tuple.l4.icmp_type()]);
                self.put(first + 2, &[tuple.l4.icmp_code()]);
            }
            _ if tuple.has_ports() || tuple.proto == proto::GRE => {
                self.put(2, &tuple.l4.a.to_be_bytes());
                self.put(3, &tuple.l4.b.to_be_bytes());
            }
            _ => {}
        }
        self.close();
        self.close();
    }

    fn begin(&mut self, kind: u16, flags: u16, family: u8) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&self.messages.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0, 0, 0]);
    }

    fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.last).expect("a message is small");
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        self.messages += 1;
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("an attribute is small");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    fn text(&mut self, kind: u16, value: &[u8]) {
        let mut value = value.to_vec();
        value.push(0);
        self.put(kind, &value);
    }

    fn nest(&mut self, kind: u16) {
        self.open.push(self.bytes.len());
        self.put(kind | NESTED, &[]);
    }

    fn close(&mut self) {
        let start = self.open.pop().expect("each close has its nest");
        let length = u16::try_from(self.bytes.len() - start).expect("a nest is small");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

fn family(tuple: &Tuple) -> u8 {
    if tuple.is_v6() { 10 } else { 2 }
}
