//! The eBPF program that looks at many flows at once, without a message for each.
//!
//! It runs on a packet that is none: an array of [`LookupRecord`]s, each of which names a flow and
//! gets what the kernel's table says of it. For a flow this costs a seventh of asking by a
//! netlink message, but tells only status, mark and TCP state, and only of TCP and UDP.
//!
//! Stack: the tuple at `fp - 40`, the options of the look-up at `fp - 56`.

use core::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::btf::LookupIds;
use super::ebpf::reg::{FRAME, R0, R1, R2, R3, R4};
use super::ebpf::{
    ADD64, Assembler, Insn, JEQ, JGT_X, JNE, LDX_B, LDX_DW, LDX_H, LDX_W, MOV64, MOV64_X, ST_W,
    STX_B, STX_DW, STX_H, STX_W,
};
use crate::status::Status;
use crate::tuple::{L4, Tuple, proto};

/// Records of one run: what fits a page beside what the kernel keeps there.
pub const LOOKUP_RECORDS: usize = 54;

/// Octets of a record.
const RECORD: i32 = 64;
/// Offsets in a record.
const FAMILY: i16 = 36;
const PROTOCOL: i16 = 37;
const ZONE: i16 = 38;
const ERROR: i16 = 40;
const STATUS: i16 = 44;
const MARK: i16 = 48;
const TCP_STATE: i16 = 52;
const DIRECTION: i16 = 56;

/// The stack. `struct bpf_ct_opts` has 16 octets: namespace, error, protocol, direction, zone,
/// direction of the zone and 3 octets of zeros.
const TUPLE: i16 = -40;
const OPTIONS: i16 = -56;
const OPTIONS_ERROR: i16 = OPTIONS + 4;
const OPTIONS_PROTOCOL: i16 = OPTIONS + 8;
const OPTIONS_DIRECTION: i16 = OPTIONS + 9;
const OPTIONS_ZONE: i16 = OPTIONS + 10;
const OPTIONS_ZONE_DIRECTION: i16 = OPTIONS + 12;
const OPTIONS_BYTES: i32 = 16;
/// The zone counts in both directions.
const BOTH_DIRECTIONS: i32 = 3;

/// Result of the program: `XDP_PASS`.
const PASS: i32 = 2;

/// A flow to be looked at.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LookupRecord {
    /// `struct bpf_sock_tuple`: addresses and ports in network order.
    tuple: [u8; 36],
    /// 2 for IPv4.
    family: u8,
    protocol: u8,
    zone: u16,
    error: i32,
    status: u32,
    mark: u32,
    tcp_state: u32,
    direction: u32,
    /// The caller's own number.
    pub cookie: u32,
}

const _: () = assert!(size_of::<LookupRecord>() == RECORD as usize);

/// What the kernel's table says of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It is there.
    Found {
        /// Status bits.
        status: Status,
        /// Mark.
        mark: u32,
        /// TCP state; of no meaning for UDP.
        tcp_state: u8,
    },
    /// There is no flow with this original tuple.
    Missing,
    /// The kernel could not look; its error number.
    Failed(i32),
}

const ENOENT: i32 = 2;

impl LookupRecord {
    /// A record about the flow of an original tuple and zone. `None` if the kernel looks up no
    /// flows of this protocol.
    pub fn new(orig: &Tuple, zone: u16, cookie: u32) -> Option<Self> {
        if !matches!(orig.proto, proto::TCP | proto::UDP) {
            return None;
        }
        let mut tuple = [0; 36];
        let (family, ports) = match (orig.src, orig.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                tuple[..4].copy_from_slice(&src.octets());
                tuple[4..8].copy_from_slice(&dst.octets());
                (2, 8)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                tuple[..16].copy_from_slice(&src.octets());
                tuple[16..32].copy_from_slice(&dst.octets());
                (10, 32)
            }
            _ => return None,
        };
        let L4 { a, b } = orig.l4;
        tuple[ports..ports + 2].copy_from_slice(&a.to_be_bytes());
        tuple[ports + 2..ports + 4].copy_from_slice(&b.to_be_bytes());
        Some(Self {
            tuple,
            family,
            protocol: orig.proto,
            zone,
            // Stands until the program has been there.
            error: -1,
            status: 0,
            mark: 0,
            tcp_state: 0,
            direction: 0,
            cookie,
        })
    }

    /// A record that names no flow.
    pub const fn empty() -> Self {
        Self {
            tuple: [0; 36],
            family: 0,
            protocol: 0,
            zone: 0,
            error: -1,
            status: 0,
            mark: 0,
            tcp_state: 0,
            direction: 0,
            cookie: 0,
        }
    }

    /// Whether the record names the flow of this original tuple and zone.
    pub fn is_about(&self, orig: &Tuple, zone: u16) -> bool {
        Self::new(orig, zone, 0).is_some_and(|other| {
            self.tuple == other.tuple
                && (self.protocol, self.zone, self.family)
                    == (other.protocol, other.zone, other.family)
        })
    }

    /// Writes an answer, as the program does. For simulations of a kernel.
    pub const fn answer(&mut self, answer: Looked) {
        self.direction = 0;
        self.error = match answer {
            Looked::Found { .. } => 0,
            Looked::Missing => -ENOENT,
            Looked::Failed(errno) => errno.saturating_neg(),
        };
        if let Looked::Found { status, mark, tcp_state } = answer {
            (self.status, self.mark, self.tcp_state) = (status.0, mark, tcp_state as u32);
        }
    }

    /// What the kernel said.
    pub fn looked(&self) -> Looked {
        match (self.error.saturating_neg(), self.direction) {
            (0, 0) => Looked::Found {
                status: Status(self.status),
                mark: self.mark,
                // One octet was read.
                tcp_state: self.tcp_state as u8,
            },
            // Another flow's answers have this tuple.
            (0, _) | (ENOENT, _) => Looked::Missing,
            (errno, _) => Looked::Failed(errno),
        }
    }
}

/// The program, for a kernel of which `ids` tell.
pub fn lookup_program(ids: &LookupIds) -> Vec<Insn> {
    const RECORD_AT: u8 = 6;
    const END: u8 = 7;
    const CONTEXT: u8 = 8;
    const COUNT: u8 = 9;
    let mut a = Assembler::default();
    let (again, missing, end) = (a.label(), a.label(), a.label());
    a.op_x(MOV64_X, CONTEXT, R1);
    a.memory(LDX_W, RECORD_AT, R1, 0);
    a.memory(LDX_W, END, R1, 4);
    a.op(MOV64, COUNT, 0);

    a.place(again);
    a.op_x(MOV64_X, R1, RECORD_AT);
    a.op(ADD64, R1, RECORD);
    a.jump_if_x(JGT_X, R1, END, end);
    prepare(&mut a, RECORD_AT);
    a.op_x(MOV64_X, R1, CONTEXT);
    call_find(&mut a, ids, RECORD_AT);
    a.jump_if(JEQ, R0, 0, missing);
    a.memory(LDX_DW, R1, R0, ids.status);
    a.memory(STX_W, RECORD_AT, R1, STATUS);
    a.memory(LDX_W, R1, R0, ids.mark);
    a.memory(STX_W, RECORD_AT, R1, MARK);
    a.memory(LDX_B, R1, R0, ids.tcp_state);
    a.memory(STX_W, RECORD_AT, R1, TCP_STATE);
    a.op_x(MOV64_X, R1, R0);
    a.call_kernel(ids.release);

    a.place(missing);
    a.memory(LDX_W, R1, FRAME, OPTIONS_ERROR);
    a.memory(STX_W, RECORD_AT, R1, ERROR);
    a.memory(LDX_B, R1, FRAME, OPTIONS_DIRECTION);
    a.memory(STX_W, RECORD_AT, R1, DIRECTION);
    a.op(ADD64, RECORD_AT, RECORD);
    a.op(ADD64, COUNT, 1);
    a.jump_if(JNE, COUNT, LOOKUP_RECORDS as i32, again);

    a.place(end);
    a.exit(PASS);
    a.finish()
}

/// Puts tuple and options of the record on the stack.
fn prepare(a: &mut Assembler, record: u8) {
    for at in (0..40).step_by(8) {
        a.memory(LDX_DW, R1, record, at);
        a.memory(STX_DW, FRAME, R1, TUPLE + at);
    }
    // This namespace, no error.
    a.store(ST_W, FRAME, OPTIONS, -1);
    a.store(ST_W, FRAME, OPTIONS_ERROR, 0);
    // Protocol, and zeros where the direction and the zone come.
    a.store(ST_W, FRAME, OPTIONS_PROTOCOL, 0);
    a.store(ST_W, FRAME, OPTIONS_ZONE_DIRECTION, 0);
    a.memory(LDX_B, R1, record, PROTOCOL);
    a.memory(STX_B, FRAME, R1, OPTIONS_PROTOCOL);
    a.memory(LDX_H, R1, record, ZONE);
    a.memory(STX_H, FRAME, R1, OPTIONS_ZONE);
    a.op(MOV64, R1, BOTH_DIRECTIONS);
    a.memory(STX_B, FRAME, R1, OPTIONS_ZONE_DIRECTION);
}

/// Calls the function that finds a flow; the context is in place.
fn call_find(a: &mut Assembler, ids: &LookupIds, record: u8) {
    const R5: u8 = 5;
    let v4 = a.label();
    a.op_x(MOV64_X, R2, FRAME);
    a.op(ADD64, R2, i32::from(TUPLE));
    a.op_x(MOV64_X, R4, FRAME);
    a.op(ADD64, R4, i32::from(OPTIONS));
    a.op(MOV64, R5, OPTIONS_BYTES);
    a.op(MOV64, R3, 12);
    a.memory(LDX_B, R0, record, FAMILY);
    a.jump_if(JEQ, R0, 2, v4);
    a.op(MOV64, R3, 36);
    a.place(v4);
    a.call_kernel(ids.find);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_record_names_a_flow_in_network_order() {
        let mut orig = Tuple {
            src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
            proto: proto::UDP,
            l4: L4::ports(0x1234, 53),
        };
        let record = LookupRecord::new(&orig, 7, 99).unwrap();
        let bytes = record.as_bytes();
        assert_eq!(bytes[..12], [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 53]);
        assert_eq!((bytes[36], bytes[37]), (2, 17));
        assert_eq!((u16::from_ne_bytes([bytes[38], bytes[39]]), record.cookie), (7, 99));
        assert_eq!(record.looked(), Looked::Failed(1), "nobody looked");
        assert!(record.is_about(&orig, 7) && !record.is_about(&orig, 8));
        assert!(!record.is_about(&Tuple { proto: proto::TCP, ..orig }, 7));

        orig.src = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert!(LookupRecord::new(&orig, 0, 0).is_none(), "of one family");
        orig.dst = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let record = LookupRecord::new(&orig, 0, 0).unwrap();
        assert_eq!(record.as_bytes()[32..37], [0x12, 0x34, 0, 53, 10]);
        orig.proto = proto::SCTP;
        assert!(LookupRecord::new(&orig, 0, 0).is_none());
    }

    #[test]
    fn answers_are_told_apart() {
        let mut record = LookupRecord { error: 0, status: 0xe, mark: 3, ..LookupRecord::empty() };
        record.tcp_state = 5;
        let found = Looked::Found { status: Status(0xe), mark: 3, tcp_state: 5 };
        assert_eq!(record.looked(), found);
        for answer in [found, Looked::Missing, Looked::Failed(22)] {
            record.answer(answer);
            assert_eq!(record.looked(), answer);
        }
        record.answer(found);
        record.direction = 1;
        assert_eq!(record.looked(), Looked::Missing);
        record = LookupRecord { error: -ENOENT, ..LookupRecord::empty() };
        assert_eq!(record.looked(), Looked::Missing);
        record.error = i32::MIN;
        assert_eq!(record.looked(), Looked::Failed(i32::MAX));
    }

    #[test]
    fn the_program_is_of_the_size_it_was_tried_with() {
        let ids = LookupIds { find: 6, release: 5, status: 128, mark: 168, tcp_state: 224 };
        let program = lookup_program(&ids);
        assert!((50..70).contains(&program.len()), "{}", program.len());
        let calls: Vec<_> =
            program.iter().filter(|insn| insn.code == 0x85).map(|i| (i.src, i.imm)).collect();
        assert_eq!(calls, [(2, 6), (2, 5)]);
    }
}
