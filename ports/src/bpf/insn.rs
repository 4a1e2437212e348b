//! An assembler for the few BPF instructions that our programs need (RFC 9669; linux/bpf.h).
//!
//! Jumps name labels; [`Asm::finish`] turns them into distances. Code that no jump and no fall-through
//! reaches is refused by the kernel's verifier, so a block is bound only if its label is
//! [used](Asm::is_used).

/// One instruction as the kernel takes it (RFC 9669 §3.1; `struct bpf_insn`).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(C)]
pub(crate) struct Insn {
    code: u8,
    /// Destination and source register, four bits each.
    regs: u8,
    off: i16,
    imm: i32,
}

/// Registers: `R0` result, `R1` context at entry, `R1`–`R5` arguments of a call, `R10` end of the stack.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub(crate) enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// Width of a load (RFC 9669 §5).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub(crate) enum Width {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// Two bytes in network order as a load of a half word finds them.
pub(crate) fn half(value: u16) -> u32 {
    u16::from_ne_bytes(value.to_be_bytes()).into()
}

/// A place in the program, bound or still to be.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Label(usize);

// Instruction classes and codes, RFC 9669 §3.3, §4.1, §4.3, §5.
const LDX_MEM: u8 = 0x61;
const LD_IMM64: u8 = 0x18;
const ALU64_ADD_IMM: u8 = 0x07;
const ALU64_MOV_IMM: u8 = 0xb7;
const ALU64_MOV_REG: u8 = 0xbf;
const ALU64_ADD_REG: u8 = 0x0f;
const ALU64_MUL_REG: u8 = 0x2f;
const ALU64_OR_REG: u8 = 0x4f;
const ALU64_XOR_REG: u8 = 0xaf;
const ALU64_LSH_IMM: u8 = 0x67;
const ALU64_RSH_IMM: u8 = 0x77;
const ALU64_MOD_IMM: u8 = 0x97;
const ALU32_AND_IMM: u8 = 0x54;
const ALU32_MOV_REG: u8 = 0xbc;
const JMP_ALWAYS: u8 = 0x05;
const JMP_GREATER_REG: u8 = 0x2d;
const JMP32_EQUAL_IMM: u8 = 0x16;
const JMP32_NOT_EQUAL_IMM: u8 = 0x56;
/// RFC 9669 §5.3, a word.
const ATOMIC_WORD: u8 = 0xc3;
/// `BPF_ADD | BPF_FETCH`, Linux 5.12.
const FETCH_ADD: i32 = 0x01;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `BPF_PSEUDO_MAP_FD`: the 64-bit immediate is the descriptor of a map.
const PSEUDO_MAP_FD: u8 = 1;
/// `BPF_PSEUDO_MAP_VALUE`: the same, for the address of the first value of an array.
const PSEUDO_MAP_VALUE: u8 = 2;

/// A program being written.
#[derive(Debug, Default)]
pub(crate) struct Asm {
    insns: Vec<Insn>,
    labels: Vec<Option<usize>>,
    /// Jumps, and where they go.
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    /// A label without a place yet.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The next instruction is where `label` is.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    /// Whether anything jumps to `label` so far.
    pub(crate) fn is_used(&self, label: Label) -> bool {
        self.jumps.iter().any(|(_, to)| *to == label)
    }

    /// `dst = *(width *)(src + off)`, the rest of `dst` zero.
    pub(crate) fn load(&mut self, width: Width, dst: Reg, src: Reg, off: i16) {
        self.push(LDX_MEM | width as u8, dst, src as u8, off, 0);
    }

    /// `dst = src`.
    pub(crate) fn mov(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64_MOV_REG, dst, src as u8, 0, 0);
    }

    /// `dst = src` for the lower 32 bits, the upper ones zero.
    pub(crate) fn mov32(&mut self, dst: Reg, src: Reg) {
        self.push(ALU32_MOV_REG, dst, src as u8, 0, 0);
    }

    /// `dst = imm`.
    pub(crate) fn mov_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64_MOV_IMM, dst, 0, 0, imm);
    }

    /// `dst = imm`, 64 bits (two instructions long).
    pub(crate) fn mov_imm64(&mut self, dst: Reg, imm: u64) {
        self.push(LD_IMM64, dst, 0, 0, imm as i32);
        self.push(0, Reg::R0, 0, 0, (imm >> 32) as i32);
    }

    /// `dst += src`.
    pub(crate) fn add(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64_ADD_REG, dst, src as u8, 0, 0);
    }

    /// `src = *(word *)dst; *(word *)dst += src` at once, the upper half of `src` zero.
    pub(crate) fn fetch_add32(&mut self, dst: Reg, src: Reg) {
        self.push(ATOMIC_WORD, dst, src as u8, 0, FETCH_ADD);
    }

    /// `dst *= src`.
    pub(crate) fn mul(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64_MUL_REG, dst, src as u8, 0, 0);
    }

    /// `dst |= src`.
    pub(crate) fn or(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64_OR_REG, dst, src as u8, 0, 0);
    }

    /// `dst ^= src`.
    pub(crate) fn xor(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64_XOR_REG, dst, src as u8, 0, 0);
    }

    /// `dst <<= bits`.
    pub(crate) fn shift_left(&mut self, dst: Reg, bits: u32) {
        self.push(ALU64_LSH_IMM, dst, 0, 0, bits as i32);
    }

    /// `dst >>= bits`, unsigned.
    pub(crate) fn shift_right(&mut self, dst: Reg, bits: u32) {
        self.push(ALU64_RSH_IMM, dst, 0, 0, bits as i32);
    }

    /// `dst %= by`, unsigned.
    pub(crate) fn modulo(&mut self, dst: Reg, by: u32) {
        self.push(ALU64_MOD_IMM, dst, 0, 0, by as i32);
    }

    /// `dst += imm`.
    pub(crate) fn add_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64_ADD_IMM, dst, 0, 0, imm);
    }

    /// `dst &= imm` for the lower 32 bits, the upper ones zero.
    pub(crate) fn and32_imm(&mut self, dst: Reg, imm: u32) {
        self.push(ALU32_AND_IMM, dst, 0, 0, imm as i32);
    }

    /// To `label`.
    pub(crate) fn jump(&mut self, label: Label) {
        self.branch(JMP_ALWAYS, Reg::R0, 0, 0, label);
    }

    /// To `label` if the lower 32 bits of `reg` are `imm`.
    pub(crate) fn jump_if_equal32(&mut self, reg: Reg, imm: u32, label: Label) {
        self.branch(JMP32_EQUAL_IMM, reg, 0, imm as i32, label);
    }

    /// To `label` if the lower 32 bits of `reg` are not `imm`.
    pub(crate) fn jump_if_not_equal32(&mut self, reg: Reg, imm: u32, label: Label) {
        self.branch(JMP32_NOT_EQUAL_IMM, reg, 0, imm as i32, label);
    }

    /// To `label` if `left > right`, unsigned.
    pub(crate) fn jump_if_greater(&mut self, left: Reg, right: Reg, label: Label) {
        self.branch(JMP_GREATER_REG, left, right as u8, 0, label);
    }

    /// `dst` = the map whose descriptor is `fd` (RFC 9669 §5.4: two instructions long).
    pub(crate) fn load_map(&mut self, dst: Reg, fd: i32) {
        self.push(LD_IMM64, dst, PSEUDO_MAP_FD, 0, fd);
        self.push(0, Reg::R0, 0, 0, 0);
    }

    /// `dst` = the address of the first value of the array map whose descriptor is `fd`.
    pub(crate) fn load_map_value(&mut self, dst: Reg, fd: i32) {
        self.push(LD_IMM64, dst, PSEUDO_MAP_VALUE, 0, fd);
        self.push(0, Reg::R0, 0, 0, 0);
    }

    /// Calls a helper of the kernel: `R0` = helper(`R1`–`R5`).
    pub(crate) fn call(&mut self, helper: i32) {
        self.push(CALL, Reg::R0, 0, 0, helper);
    }

    /// Returns `R0`.
    pub(crate) fn exit(&mut self) {
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// The instructions, with every jump's distance filled in.
    ///
    /// # Panics
    /// If a label that is jumped to was not bound, or a jump is longer than 32,767 instructions: both are
    /// mistakes of the program's author, not of its input, whose size is limited.
    pub(crate) fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("a label that is jumped to is bound");
            // A distance counts from the instruction after the jump.
            let distance = target as isize - (at as isize + 1);
            self.insns[at].off = i16::try_from(distance).expect("a filter is short");
        }
        self.insns
    }

    fn branch(&mut self, code: u8, dst: Reg, src: u8, imm: i32, label: Label) {
        self.jumps.push((self.insns.len(), label));
        self.push(code, dst, src, 0, imm);
    }

    fn push(&mut self, code: u8, dst: Reg, src: u8, off: i16, imm: i32) {
        // Two bit fields of a C struct: the first one is the low half only on little-endian machines.
        let regs = if cfg!(target_endian = "little") {
            src << 4 | dst as u8
        } else {
            (dst as u8) << 4 | src
        };
        self.insns.push(Insn {
            code,
            regs,
            off,
            imm,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn encodes_as_the_standard_says() {
        let mut asm = Asm::default();
        let (end, start) = (asm.label(), asm.label());
        asm.bind(start);
        asm.load(Width::Half, Reg::R5, Reg::R2, 12);
        asm.jump_if_equal32(Reg::R5, 0x8100, end);
        asm.load_map(Reg::R1, 7);
        asm.jump(start);
        asm.bind(end);
        asm.exit();
        assert!(asm.is_used(end) && asm.is_used(start));
        let bytes: Vec<[u8; 8]> = asm
            .finish()
            .iter()
            .map(|i| {
                let (off, imm) = (i.off.to_ne_bytes(), i.imm.to_ne_bytes());
                [
                    i.code, i.regs, off[0], off[1], imm[0], imm[1], imm[2], imm[3],
                ]
            })
            .collect();
        assert_eq!(
            bytes,
            [
                [0x69, 0x25, 12, 0, 0, 0, 0, 0],
                [0x16, 0x05, 3, 0, 0x00, 0x81, 0, 0],
                [0x18, 0x11, 0, 0, 7, 0, 0, 0],
                [0; 8],
                [0x05, 0x00, 0xfb, 0xff, 0, 0, 0, 0],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
            ]
        );
    }

    #[test]
    #[should_panic(expected = "bound")]
    fn a_jump_to_nowhere_is_a_mistake() {
        let mut asm = Asm::default();
        let nowhere = asm.label();
        asm.jump(nowhere);
        asm.finish();
    }
}
