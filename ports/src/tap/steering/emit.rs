//! The instructions that choose the queue of a frame.
//!
//! They are [`steer::slot`](ringway_packet::steer::slot), word for word, then what the slot's word says. Registers: `R6` context, `R7`
//! addresses and then the hash, `R8` protocol and ports, `R0`–`R5` scratch.

use ringway_packet::steer::{FRAGMENT_BITS, K0, K1, PLAIN_V4, SLOT_BITS, WITH_PORTS, at};
use ringway_packet::{ethertype, proto};

use super::{BULK, LANES};
use crate::bpf::insn::{Asm, Insn, Label, Reg, Width, half};

/// `bpf_skb_load_bytes(skb, offset, to, len)`.
const SKB_LOAD_BYTES: i32 = 26;
/// Where the bytes are put, from the end of the stack: so that both families' addresses are aligned, as
/// the verifier wants what is on the stack.
const ROOM: i16 = -66;
/// What an IPv6 frame has from its next header on is put there a second time.
const V6_FROM: usize = at::V6_PROTO;

/// The instructions for so many workers. `map` is the descriptor of the slots' words.
pub(super) fn emit(workers: u32, map: i32) -> Vec<Insn> {
    let mut asm = Asm::default();
    let (mixed, others, choose) = (asm.label(), asm.label(), asm.label());
    let mut emitter = Emitter { asm, mixed, others };
    emitter.frame();
    let mut asm = emitter.asm;

    asm.bind(mixed);
    asm.mov_imm64(Reg::R3, K0);
    asm.mov_imm64(Reg::R4, K1);
    asm.mul(Reg::R7, Reg::R3);
    fold(&mut asm);
    asm.mul(Reg::R8, Reg::R4);
    asm.xor(Reg::R7, Reg::R8);
    asm.mul(Reg::R7, Reg::R3);
    fold(&mut asm);
    asm.mul(Reg::R7, Reg::R4);
    asm.shift_right(Reg::R7, 64 - SLOT_BITS);
    asm.jump(choose);
    asm.bind(others);
    asm.mov_imm(Reg::R7, ringway_packet::steer::OTHERS.into());

    asm.bind(choose);
    asm.mov(Reg::R2, Reg::R7);
    asm.shift_left(Reg::R2, 2);
    asm.load_map_value(Reg::R1, map);
    asm.add(Reg::R1, Reg::R2);
    asm.load(Width::Word, Reg::R0, Reg::R1, 0);
    asm.shift_right(Reg::R0, BULK.trailing_zeros());
    let quiet = asm.label();
    asm.jump_if_equal32(Reg::R0, 0, quiet);
    // Whether it still is bulk is what the addition finds, so that who takes it back counts all.
    asm.mov_imm(Reg::R0, 1);
    asm.fetch_add32(Reg::R1, Reg::R0);
    asm.shift_right(Reg::R0, BULK.trailing_zeros());
    asm.bind(quiet);
    if workers > 1 {
        asm.modulo(Reg::R7, workers);
        asm.mov_imm(Reg::R2, LANES as i32);
        asm.mul(Reg::R7, Reg::R2);
        asm.add(Reg::R0, Reg::R7);
    }
    asm.exit();
    asm.finish()
}

/// The upper half into the lower one.
fn fold(asm: &mut Asm) {
    asm.mov(Reg::R2, Reg::R7);
    asm.shift_right(Reg::R2, 32);
    asm.xor(Reg::R7, Reg::R2);
}

/// Where a byte of the frame is, if the bytes from `from` on were loaded.
fn on_stack(off: usize, from: usize) -> i16 {
    ROOM + (off - from) as i16
}

struct Emitter {
    asm: Asm,
    mixed: Label,
    others: Label,
}

impl Emitter {
    fn frame(&mut self) {
        self.asm.mov(Reg::R6, Reg::R1);
        self.load_bytes(0, at::V4_END);
        self.asm
            .load(Width::Half, Reg::R2, Reg::R10, on_stack(at::ETHERTYPE, 0));
        let v6 = self.asm.label();
        self.asm.jump_if_equal32(Reg::R2, half(ethertype::IPV6), v6);
        self.asm
            .jump_if_not_equal32(Reg::R2, half(ethertype::IPV4), self.others);
        self.ipv4();
        self.asm.bind(v6);
        self.ipv6();
    }

    fn ipv4(&mut self) {
        let field = |off| on_stack(off, 0);
        let asm = &mut self.asm;
        asm.load(Width::Double, Reg::R7, Reg::R10, field(at::V4_ADDRESSES));
        asm.mov_imm(Reg::R8, 0);
        asm.load(Width::Half, Reg::R2, Reg::R10, field(at::V4_FRAGMENT));
        asm.and32_imm(Reg::R2, half(FRAGMENT_BITS));
        asm.jump_if_not_equal32(Reg::R2, 0, self.mixed);
        asm.load(Width::Byte, Reg::R8, Reg::R10, field(at::V4_PROTO));
        asm.load(Width::Byte, Reg::R2, Reg::R10, field(at::V4_VERSION));
        asm.jump_if_not_equal32(Reg::R2, PLAIN_V4.into(), self.mixed);
        self.ports(field(at::V4_PORTS), |asm, mixed| asm.jump(mixed));
    }

    fn ipv6(&mut self) {
        let field = |off| on_stack(off, V6_FROM);
        self.load_bytes(V6_FROM, at::V6_END);
        let asm = &mut self.asm;
        asm.load(Width::Double, Reg::R7, Reg::R10, field(at::V6_ADDRESSES));
        asm.mov_imm64(Reg::R3, K0);
        for off in [8, 16, 24] {
            let next = field(at::V6_ADDRESSES + off);
            asm.mul(Reg::R7, Reg::R3);
            asm.load(Width::Double, Reg::R2, Reg::R10, next);
            asm.xor(Reg::R7, Reg::R2);
        }
        asm.load(Width::Byte, Reg::R8, Reg::R10, field(at::V6_PROTO));
        self.ports(field(at::V6_PORTS), |asm, mixed| {
            asm.jump_if_equal32(Reg::R8, proto::ICMPV6.into(), mixed);
            asm.mov_imm(Reg::R8, 0);
            asm.jump(mixed);
        });
    }

    /// Puts the ports at that place of the stack before the protocol in `R8` if it is one that has some; ends
    /// with `without` for all others.
    fn ports(&mut self, place: i16, without: impl FnOnce(&mut Asm, Label)) {
        let asm = &mut self.asm;
        let with = asm.label();
        for proto in WITH_PORTS {
            asm.jump_if_equal32(Reg::R8, proto.into(), with);
        }
        without(asm, self.mixed);
        asm.bind(with);
        asm.load(Width::Word, Reg::R2, Reg::R10, place);
        asm.shift_left(Reg::R2, 8);
        asm.or(Reg::R8, Reg::R2);
        asm.jump(self.mixed);
    }

    /// Puts bytes `from` to `to` of the frame on the stack; one that has less is with the others.
    fn load_bytes(&mut self, from: usize, to: usize) {
        let asm = &mut self.asm;
        asm.mov(Reg::R1, Reg::R6);
        asm.mov_imm(Reg::R2, from as i32);
        asm.mov(Reg::R3, Reg::R10);
        asm.add_imm(Reg::R3, ROOM.into());
        asm.mov_imm(Reg::R4, (to - from) as i32);
        asm.call(SKB_LOAD_BYTES);
        asm.jump_if_not_equal32(Reg::R0, 0, self.others);
    }
}
