//! Classic BPF: the filter of a capture, checked once and run on each frame.
//!
//! libpcap compiles what a user writes (`tcp port 443`) to this machine: an accumulator, an index register, 16
//! words of memory, and jumps that only go forward. A program that passed [`Program::new`] therefore ends within
//! as many steps as it has instructions, reads no memory but its own 16 words, and every load from the packet is
//! bounded; whoever sent it need not be trusted.
//!
//! Instruction codes: linux/bpf_common.h. What the machine does where the packet ends, or a divisor is zero: it
//! returns 0, no match, as the kernel and libpcap do. Linux's extensions (loads at negative offsets) are refused:
//! they ask for what the kernel knows of a packet, and no kernel has seen this one.

/// Most instructions of a program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY: usize = 16;
/// From here on an absolute offset means one of Linux's extensions (`SKF_LL_OFF`).
const EXTENSIONS: u32 = 0xffe0_0000;

/// One instruction, as libpcap and the kernel have it (`struct bpf_insn`).
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip if a comparison is true.
    pub jt: u8,
    /// Instructions to skip if it is not.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// Why a program is not run.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum ProgramError {
    /// Nothing to run, or more than any filter needs.
    #[error("the filter has {0} instructions, 1 to {MAX_INSTRUCTIONS} are allowed")]
    Length(
        /// Instructions it has.
        usize,
    ),
    /// An instruction that there is not.
    #[error("instruction {at} of the filter has the unknown code {code:#06x}")]
    Code {
        /// Its position, from 0.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A jump to behind the last instruction.
    #[error("instruction {at} of the filter jumps behind its end")]
    Jump {
        /// Its position, from 0.
        at: usize,
    },
    /// A word of memory that there is not.
    #[error("instruction {at} of the filter uses memory word {word}, there are {MEMORY}")]
    Memory {
        /// Its position, from 0.
        at: usize,
        /// The word.
        word: u32,
    },
    /// A division by a constant zero, or a shift by more than there are bits.
    #[error("instruction {at} of the filter cannot compute with the constant {k}")]
    Constant {
        /// Its position, from 0.
        at: usize,
        /// The constant.
        k: u32,
    },
    /// One of Linux's extensions.
    #[error("instruction {at} of the filter asks for what only a kernel knows of a packet")]
    Extension {
        /// Its position, from 0.
        at: usize,
    },
    /// It does not end with a return.
    #[error("the last instruction of the filter is no return")]
    NoReturn,
}

/// A packet that a filter looks at, in whatever pieces it lies.
pub trait Bytes {
    /// Bytes of the packet.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes from `offset` on; none if they are not all there.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Bytes for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    #[inline]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let end = offset.checked_add(N)?;
        self.get(offset..end)?.try_into().ok()
    }
}

/// A program that was checked.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Program(Box<[Instruction]>);

// Classes.
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
// Sizes and modes of a load.
const W: u16 = 0x00;
const H: u16 = 0x08;
const B: u16 = 0x10;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH: u16 = 0xa0;
// Sources of an operand.
const K: u16 = 0x00;
const X: u16 = 0x08;
const A: u16 = 0x10;
// Operations.
const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const MOD: u16 = 0x90;
const XOR: u16 = 0xa0;
// Comparisons.
const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;
// Copies.
const TAX: u16 = 0x00;
const TXA: u16 = 0x80;

/// Bits of the code that hold an operation.
const OPERATION: u16 = 0xf0;

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// It could do what a filter may not, or is none.
    pub fn new(instructions: &[Instruction]) -> Result<Program, ProgramError> {
        let count = instructions.len();
        if count == 0 || count > MAX_INSTRUCTIONS {
            return Err(ProgramError::Length(count));
        }
        for (at, instruction) in instructions.iter().enumerate() {
            check(at, *instruction, count)?;
        }
        match instructions.last() {
            Some(last) if last.code & 0x07 == RET => Ok(Program(instructions.into())),
            _ => Err(ProgramError::NoReturn),
        }
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// What the program returns for a packet: 0 if it does not match.
    #[inline]
    pub fn run(&self, packet: &(impl Bytes + ?Sized)) -> u32 {
        self.step_through(packet).unwrap_or(0)
    }

    /// `None`: a load beyond the packet, or a division by zero.
    fn step_through(&self, packet: &(impl Bytes + ?Sized)) -> Option<u32> {
        let (mut a, mut x) = (0u32, 0u32);
        let mut memory = [0u32; MEMORY];
        let mut next = 0usize;
        loop {
            let Instruction { code, jt, jf, k } = *self.0.get(next)?;
            next += 1;
            let operand = if code & X != 0 { x } else { k };
            match code & 0x07 {
                LD => a = load(code, k, x, &memory, packet)?,
                LDX => {
                    x = match code {
                        MSH_B => u32::from(byte(packet, k)? & 0x0f) * 4,
                        _ => load(code & !LDX, k, x, &memory, packet)?,
                    }
                }
                ST => memory[k as usize % MEMORY] = a,
                STX => memory[k as usize % MEMORY] = x,
                ALU => a = compute(code & OPERATION, a, operand)?,
                JMP => {
                    let skip = match code & OPERATION {
                        JA => k as usize,
                        operation => usize::from(match compare(operation, a, operand) {
                            true => jt,
                            false => jf,
                        }),
                    };
                    next = next.checked_add(skip)?;
                }
                RET => return Some(if code & A != 0 { a } else { k }),
                _ if code & TXA != 0 => a = x,
                _ => x = a,
            }
        }
    }
}

const MSH_B: u16 = LDX | MSH | B;

fn check(at: usize, instruction: Instruction, count: usize) -> Result<(), ProgramError> {
    let Instruction { code, jt, jf, k } = instruction;
    let class = code & 0x07;
    let rest = code & !0x07;
    let known = match class {
        LD => {
            let size = matches!(code & 0x18, W | H | B);
            match code & 0xe0 {
                ABS | IND => size && code < 0x60,
                IMM | MEM | LEN => code & 0x18 == W && code < 0xa0,
                _ => false,
            }
        }
        LDX => matches!(rest, IMM | MEM | LEN) || code == MSH_B,
        ST | STX => rest == 0,
        ALU => code <= 0xff && matches!(code & OPERATION, ADD..=XOR),
        JMP => code <= 0xff && matches!(code & OPERATION, JA | JEQ | JGT | JGE | JSET),
        RET => matches!(rest, K | A),
        MISC => matches!(rest, TAX | TXA),
        _ => false,
    };
    if !known {
        return Err(ProgramError::Code { at, code });
    }
    match class {
        LD if code & 0xe0 == ABS && k >= EXTENSIONS => Err(ProgramError::Extension { at }),
        LD | LDX if code & 0xe0 == MEM => memory_word(at, k),
        ST | STX => memory_word(at, k),
        ALU if code & X == 0 => match code & OPERATION {
            DIV | MOD if k == 0 => Err(ProgramError::Constant { at, k }),
            LSH | RSH if k > 31 => Err(ProgramError::Constant { at, k }),
            _ => Ok(()),
        },
        JMP => {
            let farthest = match code & OPERATION {
                JA => k as usize,
                _ => usize::from(jt.max(jf)),
            };
            // Behind this one and what is skipped there must be another.
            match farthest < count - at - 1 {
                true => Ok(()),
                false => Err(ProgramError::Jump { at }),
            }
        }
        _ => Ok(()),
    }
}

fn memory_word(at: usize, word: u32) -> Result<(), ProgramError> {
    match (word as usize) < MEMORY {
        true => Ok(()),
        false => Err(ProgramError::Memory { at, word }),
    }
}

#[inline]
fn load(
    code: u16,
    k: u32,
    x: u32,
    memory: &[u32; MEMORY],
    packet: &(impl Bytes + ?Sized),
) -> Option<u32> {
    let offset = match code & 0xe0 {
        IMM => return Some(k),
        MEM => return Some(memory[k as usize % MEMORY]),
        LEN => return Some(packet.len() as u32),
        ABS => k,
        _ => x.checked_add(k)?,
    } as usize;
    Some(match code & 0x18 {
        H => u32::from(u16::from_be_bytes(packet.read(offset)?)),
        B => u32::from(packet.read::<1>(offset)?[0]),
        _ => u32::from_be_bytes(packet.read(offset)?),
    })
}

fn byte(packet: &(impl Bytes + ?Sized), offset: u32) -> Option<u8> {
    Some(packet.read::<1>(offset as usize)?[0])
}

#[inline]
fn compute(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(operand),
        SUB => a.wrapping_sub(operand),
        MUL => a.wrapping_mul(operand),
        DIV => a.checked_div(operand)?,
        MOD => a.checked_rem(operand)?,
        OR => a | operand,
        AND => a & operand,
        LSH => a.checked_shl(operand).unwrap_or(0),
        RSH => a.checked_shr(operand).unwrap_or(0),
        NEG => a.wrapping_neg(),
        _ => a ^ operand,
    })
}

#[inline]
fn compare(operation: u16, a: u32, operand: u32) -> bool {
    match operation {
        JEQ => a == operand,
        JGT => a > operand,
        JGE => a >= operand,
        _ => a & operand != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn run(program: &[(u16, u8, u8, u32)], packet: &[u8]) -> u32 {
        let program: Vec<_> = program
            .iter()
            .map(|&(c, t, f, k)| one(c, t, f, k))
            .collect();
        Program::new(&program).unwrap().run(packet)
    }

    /// What `tcpdump -dd 'ip and udp port 53'` prints.
    const DNS: [(u16, u8, u8, u32); 13] = [
        (0x28, 0, 0, 12),
        (0x15, 0, 10, 0x0800),
        (0x30, 0, 0, 23),
        (0x15, 0, 8, 17),
        (0x28, 0, 0, 20),
        (0x45, 6, 0, 0x1fff),
        (0xb1, 0, 0, 14),
        (0x48, 0, 0, 14),
        (0x15, 2, 0, 53),
        (0x48, 0, 0, 16),
        (0x15, 0, 1, 53),
        (0x06, 0, 0, 262_144),
        (0x06, 0, 0, 0),
    ];

    #[test]
    fn a_filter_of_libpcap_matches_what_it_says() {
        let mut frame = vec![0; 42];
        frame[12..14].copy_from_slice(&[8, 0]);
        // A header of 24 bytes: the index register finds the ports.
        frame[14] = 0x46;
        frame[23] = 17;
        let with = |at: usize, value: u8| {
            let mut other = frame.clone();
            other[at] = value;
            run(&DNS, &other)
        };
        assert_eq!(run(&DNS, &frame), 0);
        assert_eq!(with(39, 53), 262_144);
        assert_eq!(with(41, 53), 262_144);
        frame[41] = 53;
        // Cut short: a load beyond the end is no match.
        assert_eq!(run(&DNS, &frame[..41]), 0);
        let with = |at: usize, value: u8| {
            let mut other = frame.clone();
            other[at] = value;
            run(&DNS, &other)
        };
        assert_eq!(with(23, 6), 0);
        // A later fragment has no ports.
        assert_eq!(with(21, 1), 0);
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        let with = |operation: u16, a: u32, k: u32| {
            run(
                &[
                    (LD | IMM, 0, 0, a),
                    (LDX | IMM, 0, 0, k),
                    (ALU | operation | X, 0, 0, 0),
                    (RET | A, 0, 0, 0),
                ],
                &[],
            )
        };
        for (operation, a, k, result) in [
            (ADD, u32::MAX, 2, 1),
            (SUB, 1, 2, u32::MAX),
            (MUL, 0x1_0001, 0x1_0001, 0x2_0001),
            (DIV, 7, 2, 3),
            (DIV, 7, 0, 0),
            (MOD, 7, 4, 3),
            (MOD, 7, 0, 0),
            (OR, 5, 2, 7),
            (AND, 5, 4, 4),
            (XOR, 5, 4, 1),
            (LSH, 1, 31, 1 << 31),
            (LSH, 1, 32, 0),
            (RSH, 8, 3, 1),
            (RSH, 8, 40, 0),
        ] {
            assert_eq!(with(operation, a, k), result, "{operation:#x} {a} {k}");
        }
        assert_eq!(
            run(
                &[(LD, 0, 0, 5), (ALU | NEG, 0, 0, 0), (RET | A, 0, 0, 0)],
                &[]
            ),
            5u32.wrapping_neg()
        );
    }

    #[test]
    fn memory_index_and_length() {
        let program = [
            (LD | LEN, 0, 0, 0),
            (ST, 0, 0, 3),
            (LDX | MEM, 0, 0, 3),
            (MISC | TXA, 0, 0, 0),
            (ALU | ADD | K, 0, 0, 1),
            (MISC | TAX, 0, 0, 0),
            (STX, 0, 0, 15),
            (LD | MEM, 0, 0, 15),
            (RET | A, 0, 0, 0),
        ];
        assert_eq!(run(&program, &[0; 9]), 10);
        // An index that overflows reads nothing.
        let far = [
            (LDX | IMM, 0, 0, u32::MAX),
            (LD | IND | W, 0, 0, 2),
            (RET | K, 0, 0, 1),
        ];
        assert_eq!(run(&far, &[0; 64]), 0);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let ret = one(RET, 0, 0, 1);
        let refused = |instruction: Instruction| Program::new(&[instruction, ret]).unwrap_err();
        assert_eq!(Program::new(&[]), Err(ProgramError::Length(0)));
        let endless = vec![ret; MAX_INSTRUCTIONS + 1];
        assert_eq!(Program::new(&endless), Err(ProgramError::Length(4097)));
        assert_eq!(
            Program::new(&[one(LD, 0, 0, 0)]),
            Err(ProgramError::NoReturn)
        );
        assert_eq!(
            refused(one(JMP | JA, 0, 0, 1)),
            ProgramError::Jump { at: 0 }
        );
        // Backwards: an offset is unsigned, and this one is far behind the end.
        assert_eq!(
            refused(one(JMP | JA, 0, 0, u32::MAX)),
            ProgramError::Jump { at: 0 }
        );
        assert_eq!(
            refused(one(JMP | JEQ, 0, 1, 0)),
            ProgramError::Jump { at: 0 }
        );
        assert_eq!(
            refused(one(ST, 0, 0, 16)),
            ProgramError::Memory { at: 0, word: 16 }
        );
        assert_eq!(
            refused(one(LD | MEM, 0, 0, 99)),
            ProgramError::Memory { at: 0, word: 99 }
        );
        assert_eq!(
            refused(one(ALU | DIV, 0, 0, 0)),
            ProgramError::Constant { at: 0, k: 0 }
        );
        assert_eq!(
            refused(one(ALU | LSH, 0, 0, 32)),
            ProgramError::Constant { at: 0, k: 32 }
        );
        assert_eq!(
            refused(one(LD | B | ABS, 0, 0, 0xffff_f000)),
            ProgramError::Extension { at: 0 }
        );
        for code in [
            0x18, 0xc0, 0xe0, 0x08, 0x07f, 0xff, 0x0105, 0x16e, 0xb4, 0x55, 0x0e,
        ] {
            let all = Program::new(&[one(code, 0, 0, 0), ret]);
            assert_eq!(all, Err(ProgramError::Code { at: 0, code }), "{code:#x}");
        }
    }
}
