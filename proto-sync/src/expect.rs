//! Expectations on the wire: the attributes of the messages about them.
//!
//! All numbers are big-endian. The zone is not on the wire, nor is an IPv6 address that the
//! expected flow's translation gives back.

use core::net::{IpAddr, Ipv4Addr};

use proto_ctnl::{Expect, ExpectPresent, L4, Name, Tuple};

use crate::flow::{
    EncodeOptions, HELPER_NAME_MAX, addresses, port_octets, ports, put_addresses, sends_ports,
};
use crate::frame::Kind;
use crate::tlv::{Limits, PayloadError, Table, Writer, at_most, exactly};

/// Attribute ids.
mod id {
    pub(super) const MASTER_IPV4: u16 = 0;
    pub(super) const MASTER_IPV6: u16 = 1;
    pub(super) const MASTER_L4PROTO: u16 = 2;
    pub(super) const MASTER_PORT: u16 = 3;
    pub(super) const EXPECT_IPV4: u16 = 4;
    pub(super) const EXPECT_IPV6: u16 = 5;
    pub(super) const EXPECT_L4PROTO: u16 = 6;
    pub(super) const EXPECT_PORT: u16 = 7;
    pub(super) const MASK_IPV4: u16 = 8;
    pub(super) const MASK_IPV6: u16 = 9;
    pub(super) const MASK_L4PROTO: u16 = 10;
    pub(super) const MASK_PORT: u16 = 11;
    pub(super) const TIMEOUT: u16 = 12;
    pub(super) const FLAGS: u16 = 13;
    pub(super) const CLASS: u16 = 14;
    pub(super) const NAT_IPV4: u16 = 15;
    pub(super) const NAT_PORT: u16 = 16;
    pub(super) const NAT_L4PROTO: u16 = 17;
    pub(super) const NAT_DIR: u16 = 18;
    pub(super) const HELPER_NAME: u16 = 19;
    pub(super) const FN: u16 = 20;
}

/// Data sizes, by id.
const LIMITS: [Limits; 21] = [
    exactly(8),
    exactly(32),
    exactly(1),
    exactly(4),
    exactly(8),
    exactly(32),
    exactly(1),
    exactly(4),
    exactly(8),
    exactly(32),
    exactly(1),
    exactly(4),
    exactly(4),
    exactly(4),
    exactly(4),
    exactly(8),
    exactly(4),
    exactly(1),
    exactly(4),
    at_most(12),
    at_most(28),
];

/// The longest name of an expect function that fits its attribute, in octets.
pub const FUNCTION_NAME_MAX: usize = 27;

/// No message that [`encode_expect`] writes is longer, in octets.
pub const EXPECT_MESSAGE_MAX: usize = 272;

/// Writes a whole message about `expect` to the start of `out` and gives its length, a multiple of
/// four; flags and sequence number are 0. `None` if `out` has not the room.
///
/// Encoded is what `expect.present` names. Ports go with masters that have ports.
pub fn encode_expect(
    kind: Kind,
    expect: &Expect,
    options: &EncodeOptions,
    out: &mut [u8],
) -> Option<usize> {
    debug_assert!(kind.is_expect(), "an expectation is no flow");
    let p = expect.present;
    let with_ports = p.has(ExpectPresent::MASTER) && sends_ports(expect.master.proto);
    let mut w = Writer::new(out)?;
    if p.has(ExpectPresent::MASTER) {
        put_addresses(&mut w, &expect.master, id::MASTER_IPV4, id::MASTER_IPV6)?;
        w.put(id::MASTER_L4PROTO, [expect.master.proto])?;
        if with_ports {
            w.put(id::MASTER_PORT, port_octets(expect.master.l4))?;
        }
    }
    if p.has(ExpectPresent::TUPLE) {
        put_addresses(&mut w, &expect.tuple, id::EXPECT_IPV4, id::EXPECT_IPV6)?;
        w.put(id::EXPECT_L4PROTO, [expect.tuple.proto])?;
        if with_ports {
            w.put(id::EXPECT_PORT, port_octets(expect.tuple.l4))?;
        }
    }
    if p.has(ExpectPresent::MASK) {
        put_addresses(&mut w, &expect.mask, id::MASK_IPV4, id::MASK_IPV6)?;
        w.put(id::MASK_L4PROTO, [expect.mask.proto])?;
        if with_ports {
            w.put(id::MASK_PORT, port_octets(expect.mask.l4))?;
        }
    }
    if p.has(ExpectPresent::TIMEOUT) && options.timeout {
        w.put_u32(id::TIMEOUT, expect.timeout)?;
    }
    if p.has(ExpectPresent::FLAGS) {
        w.put_u32(id::FLAGS, expect.flags)?;
    }
    if p.has(ExpectPresent::CLASS) {
        w.put_u32(id::CLASS, expect.class)?;
    }
    if p.has(ExpectPresent::NAT) {
        put_nat(&mut w, expect)?;
    }
    let helper = expect.helper.as_bytes();
    if p.has(ExpectPresent::HELPER) && !helper.is_empty() && helper.len() <= HELPER_NAME_MAX {
        w.put_name(id::HELPER_NAME, helper)?;
    }
    let function = expect.function.as_bytes();
    if p.has(ExpectPresent::FUNCTION) && !function.is_empty() && function.len() <= FUNCTION_NAME_MAX
    {
        w.put_name(id::FN, function)?;
    }
    w.finish(kind)
}

/// What the expected flow's translation gives back: the source of the saved tuple.
fn put_nat(w: &mut Writer<'_>, expect: &Expect) -> Option<()> {
    if let IpAddr::V4(saved) = expect.nat.src {
        let [a, b, c, d] = saved.octets();
        w.put(id::NAT_IPV4, [a, b, c, d, 0, 0, 0, 0])?;
    }
    w.put(id::NAT_L4PROTO, [expect.nat.proto])?;
    let [a, b] = expect.nat.l4.a.to_be_bytes();
    w.put(id::NAT_PORT, [a, b, 0, 0])?;
    w.put_u32(id::NAT_DIR, expect.nat_dir)
}

/// The attributes of an expectation message, checked, and read from the message on demand.
#[derive(Clone, Copy, Debug)]
pub struct ExpectPayload<'a> {
    table: Table<'a, 21>,
}

impl<'a> ExpectPayload<'a> {
    /// Checks what follows a message's header. Nothing is mandatory.
    ///
    /// # Errors
    /// An attribute that an expectation can not have, or of a size that it can not have; no
    /// master; a name that is none.
    pub fn parse(payload: &'a [u8]) -> Result<Self, PayloadError> {
        let mut table = Table::EMPTY;
        table.walk(payload, &LIMITS)?;
        table.exclude(id::MASTER_IPV4, id::MASTER_IPV6);
        table.exclude(id::EXPECT_IPV4, id::EXPECT_IPV6);
        table.exclude(id::MASK_IPV4, id::MASK_IPV6);
        table.check_name(id::HELPER_NAME)?;
        table.check_name(id::FN)?;
        let payload = Self { table };
        match payload.master() {
            Some(_) => Ok(payload),
            None => Err(table.missing(id::MASTER_IPV4)),
        }
    }

    /// The master's original tuple, the key; `None` if a part of it is missing.
    pub fn master(&self) -> Option<Tuple> {
        let t = &self.table;
        let (src, dst) = addresses(t, id::MASTER_IPV4, id::MASTER_IPV6)?;
        let proto = t.u8(id::MASTER_L4PROTO)?;
        let l4 = match ports(t, id::MASTER_PORT) {
            Some(l4) => l4,
            None if sends_ports(proto) => return None,
            None => L4::default(),
        };
        Some(Tuple { src, dst, proto, l4 })
    }

    fn tuple(&self, v4: u16, v6: u16, proto: u16, port: u16) -> Option<Tuple> {
        let t = &self.table;
        let (src, dst) = addresses(t, v4, v6)?;
        let l4 = ports(t, port).unwrap_or_default();
        Some(Tuple { src, dst, proto: t.u8(proto).unwrap_or(0), l4 })
    }

    /// Writes what the message carries to `expect`, and nothing else. A tuple without addresses is
    /// absent, and so is a saved tuple without an address.
    pub fn write_to(&self, expect: &mut Expect) {
        let t = &self.table;
        if let Some(master) = self.master() {
            expect.master = master;
            expect.present.insert(ExpectPresent::MASTER);
        }
        if let Some(tuple) =
            self.tuple(id::EXPECT_IPV4, id::EXPECT_IPV6, id::EXPECT_L4PROTO, id::EXPECT_PORT)
        {
            expect.tuple = tuple;
            expect.present.insert(ExpectPresent::TUPLE);
        }
        if let Some(mask) =
            self.tuple(id::MASK_IPV4, id::MASK_IPV6, id::MASK_L4PROTO, id::MASK_PORT)
        {
            expect.mask = mask;
            expect.present.insert(ExpectPresent::MASK);
        }
        if let Some(timeout) = t.u32(id::TIMEOUT) {
            expect.timeout = timeout;
            expect.present.insert(ExpectPresent::TIMEOUT);
        }
        if let Some(flags) = t.u32(id::FLAGS) {
            expect.flags = flags;
            expect.present.insert(ExpectPresent::FLAGS);
        }
        if let Some(class) = t.u32(id::CLASS) {
            expect.class = class;
            expect.present.insert(ExpectPresent::CLASS);
        }
        if let Some(&[a, b, c, d, ..]) = t.get::<8>(id::NAT_IPV4) {
            let src = Ipv4Addr::new(a, b, c, d).into();
            let l4 = ports(t, id::NAT_PORT).unwrap_or_default();
            let proto = t.u8(id::NAT_L4PROTO).unwrap_or(0);
            expect.nat = Tuple { src, dst: Ipv4Addr::UNSPECIFIED.into(), proto, l4 };
            expect.nat_dir = t.u32(id::NAT_DIR).unwrap_or(0);
            expect.present.insert(ExpectPresent::NAT);
        }
        if let Some(name) = t.bytes(id::HELPER_NAME).and_then(Name::new) {
            expect.helper = name;
            expect.present.insert(ExpectPresent::HELPER);
        }
        if let Some(name) = t.bytes(id::FN).and_then(Name::new) {
            expect.function = name;
            expect.present.insert(ExpectPresent::FUNCTION);
        }
    }
}
