//! Classic BPF instructions and the labels that an assembler needs (`linux/filter.h`).

/// One classic instruction, `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions skipped when the condition holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Load a word, half-word or octet at an offset of the message, in network byte order.
pub(super) const LD_W_ABS: u16 = 0x20;
pub(super) const LD_H_ABS: u16 = 0x28;
pub(super) const LD_B_ABS: u16 = 0x30;
/// Load a constant or a scratch word.
pub(super) const LD_IMM: u16 = 0x00;
pub(super) const LD_MEM: u16 = 0x60;
/// Store A to a scratch word.
pub(super) const ST: u16 = 0x02;
/// X = A.
pub(super) const TAX: u16 = 0x07;
pub(super) const MUL_K: u16 = 0x24;
pub(super) const LSH_K: u16 = 0x64;
pub(super) const RSH_K: u16 = 0x74;
pub(super) const MOD_K: u16 = 0x94;
pub(super) const OR_X: u16 = 0x4c;
pub(super) const XOR_X: u16 = 0xac;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ_K: u16 = 0x15;
pub(super) const RET_K: u16 = 0x06;

/// A program under construction. Jumps go forward only, as the kernel demands.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<SockFilter>,
}

/// A jump that waits for its target.
pub(super) struct Pending(usize);

impl Assembler {
    /// Appends an instruction without a jump.
    pub(super) fn op(&mut self, code: u16, k: u32) -> &mut Self {
        self.code.push(SockFilter { code, jt: 0, jf: 0, k });
        self
    }

    /// Appends a test of A that falls through when it holds; [`Self::land`] sets where it goes
    /// otherwise.
    pub(super) fn unless_eq(&mut self, k: u32) -> Pending {
        self.op(JEQ_K, k);
        Pending(self.code.len() - 1)
    }

    /// Appends a jump; [`Self::land`] sets its target.
    pub(super) fn jump(&mut self) -> Pending {
        self.op(JA, 0);
        Pending(self.code.len() - 1)
    }

    /// Makes a pending jump go to the next instruction.
    pub(super) fn land(&mut self, pending: Pending) {
        let distance = self.code.len() - pending.0 - 1;
        let jump = &mut self.code[pending.0];
        if jump.code == JA {
            jump.k = u32::try_from(distance).expect("a program is short");
        } else {
            jump.jf = u8::try_from(distance).expect("conditional jumps here are short");
        }
    }

    /// The finished program.
    pub(super) fn finish(self) -> Vec<SockFilter> {
        self.code
    }
}
