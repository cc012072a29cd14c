//! Interpreters for the programs that sort events, for tests without a kernel.
//!
//! They know the instructions that the programs use and stop on anything else, on a read of
//! memory that was not written and on an access outside a known region.

use super::ebpf::{self, Insn};
use super::{AddressFilter, EventFilter, RingMaps, SockFilter, classic};

/// What the ring program did with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left to the socket, whole.
    Pass,
    /// In the ring of a shard.
    Ring {
        /// The shard.
        shard: u32,
        /// Size of the record.
        record: u32,
        /// Its content, as long as the message.
        bytes: Vec<u8>,
    },
    /// Counted as lost for a shard.
    Lost {
        /// The shard.
        shard: u32,
        /// Whether the socket sees it nevertheless.
        kept: bool,
    },
    /// Refused by the filter and counted for a shard.
    Filtered {
        /// The shard.
        shard: u32,
    },
}

/// The maps of a [`Machine`], for a program with this filter.
pub fn maps(filter: &EventFilter) -> RingMaps {
    let addresses = filter.addresses.as_ref();
    RingMaps {
        rings: -1,
        control: -2,
        v4: addresses.filter(|list| !list.v4.is_empty()).map(|_| -3),
        v6: addresses.filter(|list| !list.v6.is_empty()).map(|_| -4),
    }
}

/// Whether the first `bits` of two addresses are the same.
fn agree(one: &[u8], other: &[u8], bits: u8) -> bool {
    let bit = |octets: &[u8], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    (0..usize::from(bits)).all(|at| bit(one, at) == bit(other, at))
}

/// Runs a classic filter; the number of octets kept. `None` for a broken program.
pub fn classic(program: &[SockFilter], message: &[u8]) -> Option<u32> {
    let (mut a, mut x, mut scratch) = (0u32, 0u32, [None::<u32>; 16]);
    let mut pc = 0;
    loop {
        let i = program.get(pc)?;
        pc += 1;
        let k = i.k as usize;
        let load = |n: usize| {
            let bytes = message.get(k..k + n)?;
            Some(bytes.iter().fold(0u32, |v, b| v << 8 | u32::from(*b)))
        };
        match i.code {
            // A load beyond the end drops the message.
            classic::LD_W_ABS | classic::LD_H_ABS | classic::LD_B_ABS => {
                let n = match i.code {
                    classic::LD_W_ABS => 4,
                    classic::LD_H_ABS => 2,
                    _ => 1,
                };
                match load(n) {
                    Some(v) => a = v,
                    None => return Some(0),
                }
            }
            classic::LD_IMM => a = i.k,
            classic::LD_MEM => a = scratch[k]?,
            classic::ST => scratch[k] = Some(a),
            classic::TAX => x = a,
            classic::MUL_K => a = a.wrapping_mul(i.k),
            classic::LSH_K => a <<= i.k,
            classic::RSH_K => a >>= i.k,
            classic::MOD_K => a %= i.k,
            classic::OR_X => a |= x,
            classic::XOR_X => a ^= x,
            classic::JA => pc += k,
            classic::JEQ_K => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
            classic::RET_K => return Some(i.k),
            _ => return None,
        }
    }
}

/// A register: a number or a pointer into one of the regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Context,
    Stack(i64),
    Outer,
    Ring(u32),
    Control(u64),
    Record(u32),
    Networks4,
    Networks6,
    /// What a look-up found.
    Element,
}

/// The machine that runs the ring program.
#[derive(Debug)]
pub struct Machine<'a> {
    program: &'a [Insn],
    message: &'a [u8],
    shards: u32,
    /// Whether every ring is full.
    full: bool,
    networks: Option<&'a AddressFilter>,
    registers: [Option<Value>; 11],
    stack: [Option<u8>; 512],
    record: Vec<u8>,
    ring: u32,
    /// The counter that was added to: its shard and its offset in the shard's line.
    counted: Option<(u32, i16)>,
    submitted: bool,
    reserved: bool,
}

impl<'a> Machine<'a> {
    /// A machine with empty rings, or with full ones.
    pub fn new(program: &'a [Insn], message: &'a [u8], shards: u32, full: bool) -> Self {
        let mut registers = [None; 11];
        registers[1] = Some(Value::Context);
        registers[10] = Some(Value::Stack(512));
        Self {
            program,
            message,
            shards,
            full,
            networks: None,
            registers,
            stack: [None; 512],
            record: Vec::new(),
            ring: 0,
            counted: None,
            submitted: false,
            reserved: false,
        }
    }

    /// The machine with the networks of a filter in its maps.
    #[must_use]
    pub fn knowing(mut self, filter: &'a EventFilter) -> Self {
        self.networks = filter.addresses.as_ref();
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The instruction at which the program broke a rule.
    pub fn run(mut self) -> Result<Verdict, usize> {
        let mut pc = 0;
        // No loops: each instruction runs at most once.
        for _ in 0..self.program.len() {
            let insn = *self.program.get(pc).ok_or(pc)?;
            if insn.code == ebpf::EXIT {
                return self.verdict().ok_or(pc);
            }
            pc = self.step(pc, insn).ok_or(pc)?;
        }
        Err(pc)
    }

    fn verdict(self) -> Option<Verdict> {
        let result = self.number(0)?.cast_signed();
        const LOST: i16 = super::CONTROL_LOST;
        const FILTERED: i16 = super::CONTROL_FILTERED;
        match (self.submitted, self.counted, result) {
            (true, None, 0) => Some(Verdict::Ring {
                shard: self.ring,
                record: self.record.len() as u32,
                bytes: self.record[..self.message.len()].to_vec(),
            }),
            (false, Some((shard, LOST)), 0) => Some(Verdict::Lost { shard, kept: false }),
            (false, Some((shard, LOST)), -1) => Some(Verdict::Lost { shard, kept: true }),
            (false, Some((shard, FILTERED)), 0) => Some(Verdict::Filtered { shard }),
            (false, None, -1) if !self.reserved => Some(Verdict::Pass),
            _ => None,
        }
    }

    fn number(&self, register: u8) -> Option<u64> {
        match self.registers[usize::from(register)]? {
            Value::Number(n) => Some(n),
            _ => None,
        }
    }

    fn step(&mut self, pc: usize, i: Insn) -> Option<usize> {
        let imm = i64::from(i.imm).cast_unsigned();
        let low = |v: u64| v as u32;
        let dst = usize::from(i.dst);
        let set = |n: u64| Some(Value::Number(n));
        let next = pc + 1;
        let taken = |condition: bool| {
            Some(if condition { next.checked_add_signed(isize::from(i.off))? } else { next })
        };
        match i.code {
            ebpf::MOV64 => self.registers[dst] = set(imm),
            ebpf::MOV64_X => self.registers[dst] = Some(self.registers[usize::from(i.src)]?),
            ebpf::MOV32_X => self.registers[dst] = set(low(self.number(i.src)?).into()),
            ebpf::ADD64 => match self.registers[dst]? {
                Value::Stack(at) => {
                    self.registers[dst] = Some(Value::Stack(at + i64::from(i.imm)));
                }
                Value::Number(n) => self.registers[dst] = set(n.wrapping_add(imm)),
                _ => return None,
            },
            ebpf::ADD64_X => {
                let Value::Control(base) = self.registers[usize::from(i.src)]? else { return None };
                self.registers[dst] = Some(Value::Control(base + self.number(i.dst)?));
            }
            ebpf::RSH64_X => {
                // An amount beyond the width is cut to it by some machines.
                let amount = self.number(i.src)?;
                (amount < 64).then_some(())?;
                self.registers[dst] = set(self.number(i.dst)? >> amount);
            }
            ebpf::LSH64 => self.registers[dst] = set(self.number(i.dst)? << i.imm),
            ebpf::TO_BE => {
                let v = self.number(i.dst)?;
                self.registers[dst] = set(match i.imm {
                    16 => (v as u16).to_be().into(),
                    32 => (v as u32).to_be().into(),
                    _ => return None,
                });
            }
            ebpf::AND32 | ebpf::MUL32 | ebpf::MOD32 | ebpf::LSH32 | ebpf::RSH32 => {
                let (v, k) = (low(self.number(i.dst)?), i.imm.cast_unsigned());
                let result = match i.code {
                    ebpf::AND32 => v & k,
                    ebpf::MUL32 => v.wrapping_mul(k),
                    ebpf::MOD32 => v.checked_rem(k)?,
                    ebpf::LSH32 => v.checked_shl(k)?,
                    _ => v.checked_shr(k)?,
                };
                self.registers[dst] = set(result.into());
            }
            ebpf::OR32_X | ebpf::XOR32_X => {
                let (v, k) = (low(self.number(i.dst)?), low(self.number(i.src)?));
                let result = if i.code == ebpf::OR32_X { v | k } else { v ^ k };
                self.registers[dst] = set(result.into());
            }
            ebpf::LDX_W | ebpf::LDX_H | ebpf::LDX_B => {
                let size = match i.code {
                    ebpf::LDX_W => 4,
                    ebpf::LDX_H => 2,
                    _ => 1,
                };
                self.registers[dst] = set(self.load(i.src, i.off, size)?);
            }
            ebpf::STX_W => {
                let Value::Stack(at) = self.registers[dst]? else { return None };
                self.store(at + i64::from(i.off), &low(self.number(i.src)?).to_ne_bytes())?;
            }
            ebpf::ST_W => {
                let Value::Stack(at) = self.registers[dst]? else { return None };
                self.store(at + i64::from(i.off), &i.imm.to_ne_bytes())?;
            }
            ebpf::ATOMIC_ADD64 => {
                let Value::Control(at) = self.registers[dst]? else { return None };
                (at % 64 == 0 && self.number(i.src)? == 1).then_some(())?;
                self.counted.is_none().then_some(())?;
                self.counted = Some(((at / 64) as u32, i.off));
            }
            ebpf::LD_IMM64 => {
                let high = self.program.get(next)?.imm;
                self.registers[dst] = Some(match (i.src, i.imm) {
                    (0, low) => Value::Number(
                        u64::from(high.cast_unsigned()) << 32 | u64::from(low.cast_unsigned()),
                    ),
                    (1, -1) => Value::Outer,
                    (2, -2) => Value::Control(0),
                    (1, -3) => Value::Networks4,
                    (1, -4) => Value::Networks6,
                    _ => return None,
                });
                return Some(pc + 2);
            }
            ebpf::JA => return taken(true),
            ebpf::JEQ | ebpf::JNE => {
                let zero = matches!(self.registers[dst]?, Value::Number(n) if n == imm);
                return taken(zero == (i.code == ebpf::JEQ));
            }
            ebpf::JNE_X => return taken(self.number(i.dst)? != self.number(i.src)?),
            ebpf::JNE32 => return taken(low(self.number(i.dst)?) != i.imm.cast_unsigned()),
            ebpf::JGT => return taken(self.number(i.dst)? > imm),
            ebpf::JGE => return taken(self.number(i.dst)? >= imm),
            ebpf::JLT => return taken(self.number(i.dst)? < imm),
            ebpf::JLE => return taken(self.number(i.dst)? <= imm),
            ebpf::CALL => self.call(i.imm)?,
            _ => return None,
        }
        Some(next)
    }

    fn load(&self, src: u8, off: i16, size: usize) -> Option<u64> {
        match self.registers[usize::from(src)]? {
            Value::Context if off == 0 && size == 4 => Some(self.message.len() as u64),
            Value::Stack(at) => {
                let mut bytes = [0; 8];
                self.read(at + i64::from(off), &mut bytes[..size])?;
                Some(u64::from_le_bytes(bytes))
            }
            _ => None,
        }
    }

    /// Octets of the stack, all of which were written before.
    fn read(&self, at: i64, bytes: &mut [u8]) -> Option<()> {
        let at = usize::try_from(at).ok()?;
        let written = self.stack.get(at..at + bytes.len())?;
        for (out, byte) in bytes.iter_mut().zip(written) {
            *out = (*byte)?;
        }
        Some(())
    }

    fn store(&mut self, at: i64, bytes: &[u8]) -> Option<()> {
        let at = usize::try_from(at).ok()?;
        for (slot, byte) in self.stack.get_mut(at..at + bytes.len())?.iter_mut().zip(bytes) {
            *slot = Some(*byte);
        }
        Some(())
    }

    /// Looks the key at a place of the stack up in the networks of one family.
    fn find_network<const N: usize>(
        &self,
        key: i64,
        networks: impl IntoIterator<Item = ([u8; N], u8)>,
    ) -> Option<Value> {
        let (mut bits, mut address) = ([0; 4], [0; N]);
        self.read(key, &mut bits)?;
        self.read(key + 4, &mut address)?;
        // The programs look whole addresses up.
        (u32::from_ne_bytes(bits) as usize == 8 * N).then_some(())?;
        let found = networks.into_iter().any(|(network, bits)| agree(&network, &address, bits));
        Some(if found { Value::Element } else { Value::Number(0) })
    }

    /// A helper call. Clobbers the argument registers as the kernel does.
    fn call(&mut self, helper: i32) -> Option<()> {
        let [_, r1, r2, r3, r4, ..] = self.registers;
        let result = match (helper, r1?) {
            (1, Value::Outer) => {
                let Value::Stack(key) = r2? else { return None };
                let mut bytes = [0; 4];
                self.read(key, &mut bytes)?;
                let shard = u32::from_ne_bytes(bytes);
                if shard < self.shards { Value::Ring(shard) } else { Value::Number(0) }
            }
            (1, Value::Networks4) => {
                let Value::Stack(key) = r2? else { return None };
                let list = self.networks?.v4.iter();
                self.find_network(key, list.map(|(network, bits)| (network.octets(), *bits)))?
            }
            (1, Value::Networks6) => {
                let Value::Stack(key) = r2? else { return None };
                let list = self.networks?.v6.iter();
                self.find_network(key, list.map(|(network, bits)| (network.octets(), *bits)))?
            }
            (26, Value::Context) => {
                let (Value::Number(from), Value::Number(n)) = (r2?, r4?) else { return None };
                let (from, n) = (usize::try_from(from).ok()?, usize::try_from(n).ok()?);
                match (self.message.get(from..from + n), r3?) {
                    (Some(bytes), Value::Stack(at)) => {
                        self.store(at, bytes)?;
                        Value::Number(0)
                    }
                    (Some(bytes), Value::Record(_)) => {
                        self.record.get_mut(..n)?.copy_from_slice(bytes);
                        Value::Number(0)
                    }
                    (None, _) => Value::Number(u64::MAX),
                    _ => return None,
                }
            }
            (131, Value::Ring(shard)) => {
                let Value::Number(size) = r2? else { return None };
                if self.full {
                    Value::Number(0)
                } else {
                    self.ring = shard;
                    self.reserved = true;
                    self.record = vec![0xee; usize::try_from(size).ok()?];
                    Value::Record(shard)
                }
            }
            (132, Value::Record(_)) => {
                self.submitted = self.reserved;
                self.reserved = false;
                Value::Number(0)
            }
            (133, Value::Record(_)) => {
                self.reserved = false;
                Value::Number(0)
            }
            _ => return None,
        };
        self.registers[0] = Some(result);
        self.registers[1..6].fill(None);
        Some(())
    }
}
