//! eBPF instructions and labels (RFC 9669).

/// One eBPF instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register, 0 to 10.
    pub dst: u8,
    /// Source register, 0 to 10, or what the immediate of a wide load means.
    pub src: u8,
    /// Jump distance from the next instruction, or offset of a memory access.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

impl Insn {
    /// The instruction as the kernel reads it, in the machine's byte order.
    pub fn to_u64(self) -> u64 {
        let registers = if cfg!(target_endian = "little") {
            self.dst | self.src << 4
        } else {
            self.dst << 4 | self.src
        };
        let off = self.off.to_ne_bytes();
        let imm = self.imm.to_ne_bytes();
        u64::from_ne_bytes([self.code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]])
    }
}

/// Registers by their use in the programs here.
pub(super) mod reg {
    pub(in crate::bpf) const R0: u8 = 0;
    pub(in crate::bpf) const R1: u8 = 1;
    pub(in crate::bpf) const R2: u8 = 2;
    pub(in crate::bpf) const R3: u8 = 3;
    pub(in crate::bpf) const R4: u8 = 4;
    /// The socket buffer.
    pub(in crate::bpf) const CONTEXT: u8 = 6;
    /// Length of the message, later the reserved record.
    pub(in crate::bpf) const LENGTH: u8 = 7;
    /// The hash, then the shard, then the shard's control line.
    pub(in crate::bpf) const SHARD: u8 = 8;
    /// The shard's ring.
    pub(in crate::bpf) const RING: u8 = 9;
    /// Frame pointer.
    pub(in crate::bpf) const FRAME: u8 = 10;
}

pub(super) const MOV64: u8 = 0xb7;
pub(super) const MOV64_X: u8 = 0xbf;
pub(super) const MOV32_X: u8 = 0xbc;
pub(super) const ADD64: u8 = 0x07;
pub(super) const ADD64_X: u8 = 0x0f;
pub(super) const LSH64: u8 = 0x67;
pub(super) const RSH64_X: u8 = 0x7f;
pub(super) const AND32: u8 = 0x54;
pub(super) const MUL32: u8 = 0x24;
pub(super) const MOD32: u8 = 0x94;
pub(super) const LSH32: u8 = 0x64;
pub(super) const RSH32: u8 = 0x74;
pub(super) const OR32_X: u8 = 0x4c;
pub(super) const XOR32_X: u8 = 0xac;
/// To big endian; the immediate is the width in bits.
pub(super) const TO_BE: u8 = 0xdc;
pub(super) const LDX_W: u8 = 0x61;
pub(super) const LDX_H: u8 = 0x69;
pub(super) const LDX_B: u8 = 0x71;
pub(super) const LDX_DW: u8 = 0x79;
pub(super) const STX_W: u8 = 0x63;
pub(super) const STX_H: u8 = 0x6b;
pub(super) const STX_B: u8 = 0x73;
pub(super) const STX_DW: u8 = 0x7b;
/// Stores an immediate.
pub(super) const ST_W: u8 = 0x62;
/// Atomic addition to a double word.
pub(super) const ATOMIC_ADD64: u8 = 0xdb;
/// Wide load; takes two instructions.
pub(super) const LD_IMM64: u8 = 0x18;
pub(super) const JA: u8 = 0x05;
pub(super) const JEQ: u8 = 0x15;
pub(super) const JNE: u8 = 0x55;
pub(super) const JNE_X: u8 = 0x5d;
pub(super) const JNE32: u8 = 0x56;
pub(super) const JGT: u8 = 0x25;
pub(super) const JGT_X: u8 = 0x2d;
pub(super) const JGE: u8 = 0x35;
pub(super) const JLT: u8 = 0xa5;
pub(super) const JLE: u8 = 0xb5;
pub(super) const CALL: u8 = 0x85;
pub(super) const EXIT: u8 = 0x95;

/// A place in a program, known once it was placed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program under construction.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<Insn>,
    /// Instruction index of each label.
    labels: Vec<Option<usize>>,
    /// Jumps and the labels they go to.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label to be placed later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label at the next instruction.
    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// Appends an operation of a register and an immediate.
    pub(super) fn op(&mut self, code: u8, dst: u8, imm: i32) {
        self.code.push(Insn { code, dst, imm, ..Insn::default() });
    }

    /// Appends an operation of two registers.
    pub(super) fn op_x(&mut self, code: u8, dst: u8, src: u8) {
        self.code.push(Insn { code, dst, src, ..Insn::default() });
    }

    /// Appends a memory access: a load from `src + off`, or a store to `dst + off`.
    pub(super) fn memory(&mut self, code: u8, dst: u8, src: u8, off: i16) {
        self.code.push(Insn { code, dst, src, off, imm: 0 });
    }

    /// Appends a wide load of a map's descriptor.
    pub(super) fn map(&mut self, dst: u8, meaning: u8, fd: i32) {
        self.code.push(Insn { code: LD_IMM64, dst, src: meaning, off: 0, imm: fd });
        self.code.push(Insn::default());
    }

    /// Appends a wide load of a number.
    pub(super) fn wide(&mut self, dst: u8, number: u64) {
        let half = |number: u64| (number as u32).cast_signed();
        self.code.push(Insn { code: LD_IMM64, dst, src: 0, off: 0, imm: half(number) });
        self.code.push(Insn { imm: half(number >> 32), ..Insn::default() });
    }

    /// Appends a call of a helper function.
    pub(super) fn call(&mut self, helper: i32) {
        self.op(CALL, 0, helper);
    }

    /// Appends a store of an immediate to `dst + off`.
    pub(super) fn store(&mut self, code: u8, dst: u8, off: i16, imm: i32) {
        self.code.push(Insn { code, dst, src: 0, off, imm });
    }

    /// Appends a call of a function of the kernel by its number in the kernel's type information.
    pub(super) fn call_kernel(&mut self, function: i32) {
        const KERNEL_FUNCTION: u8 = 2;
        self.code.push(Insn { code: CALL, dst: 0, src: KERNEL_FUNCTION, off: 0, imm: function });
    }

    /// Appends the end of the program with a constant result.
    pub(super) fn exit(&mut self, result: i32) {
        self.op(MOV64, reg::R0, result);
        self.op(EXIT, 0, 0);
    }

    /// Appends a jump on a register and an immediate.
    pub(super) fn jump_if(&mut self, code: u8, dst: u8, imm: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.op(code, dst, imm);
    }

    /// Appends a jump on two registers.
    pub(super) fn jump_if_x(&mut self, code: u8, dst: u8, src: u8, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.op_x(code, dst, src);
    }

    /// Appends a jump.
    pub(super) fn jump(&mut self, to: Label) {
        self.jump_if(JA, 0, 0, to);
    }

    /// The finished program, its jumps resolved.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("every label used is placed");
            // Wrapping arithmetic gives the two's complement of a jump back as well.
            let distance = target.wrapping_sub(at + 1).cast_signed();
            self.code[at].off = i16::try_from(distance).expect("a program is short");
        }
        self.code
    }
}
