//! Any program as the filter of a capture: what is refused is refused, and what is taken ends, whatever the packet.

use ringway_packet::bpf::{Bytes, Instruction, Program};

/// A packet of which each byte lies by itself.
struct Scattered<'a>(&'a [u8]);

impl Bytes for Scattered<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = *self.0.get(offset.checked_add(i)?)?;
        }
        Some(bytes)
    }
}

/// One input: how many instructions, they, the packet.
pub fn run(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let (program, packet) = rest.split_at((usize::from(*count) * 8).min(rest.len()));
    let instructions = program.chunks_exact(8).map(|bytes| Instruction {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    });
    let instructions: Vec<_> = instructions.collect();
    let Ok(program) = Program::new(&instructions) else {
        return;
    };
    let matched = program.run(packet);
    assert_eq!(matched, program.run(&Scattered(packet)));
    // Nothing but the packet decides.
    assert_eq!(matched, program.run(packet));
}
