//! Somebody else's XDP program at an interface, by `ip link set xdp`.
//!
//! `ip` takes programs from object files, and a compiler for BPF is much to ask of a test: the file is
//! written here, sixty-four bytes at a time (ELF-64, System V ABI).

use ringway_perf::lab::{LabError, Netns};
use std::path::Path;

/// Its name in the kernel.
pub(crate) const NAME: &str = "somebody_else";
/// `r0 = XDP_PASS; exit` (linux/bpf.h: `BPF_ALU64 | BPF_MOV | BPF_K`, `BPF_JMP | BPF_EXIT`).
const CODE: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// Sections: none, `xdp`, `license`, `.strtab`, `.symtab`.
const NAMES: &[u8] = b"\0xdp\0license\0.strtab\0.symtab\0somebody_else\0";
const FILE_HEADER: u64 = 64;

/// Attaches a program that passes everything. The file is made in `folder`.
pub(crate) fn attach(ns: &Netns, interface: &str, folder: &Path) -> Result<(), LabError> {
    let file = folder.join("foreign.o");
    std::fs::write(&file, object()).unwrap();
    let file = file.display();
    ns.ip(&format!(
        "link set {interface} xdp object {file} section xdp"
    ))
    .map(drop)
}

/// Takes it off.
pub(crate) fn detach(ns: &Netns, interface: &str) {
    ns.ip(&format!("link set {interface} xdp off")).unwrap();
}

fn object() -> Vec<u8> {
    // STB_GLOBAL << 4 | STT_FUNC in section 1, sixteen bytes long.
    let symbol = [
        &name("somebody_else").to_le_bytes()[..],
        &[0x12, 0],
        &1_u16.to_le_bytes(),
        &[0; 8],
        &(CODE.len() as u64).to_le_bytes(),
    ];
    let symbols = [&[0; 24][..], &symbol.concat()].concat();
    let parts: [&[u8]; 4] = [&CODE, b"GPL\0", NAMES, &symbols];
    // Name, type, flags (write, allocate, execute), link, info, size of an entry.
    let sections: [(&str, u32, u64, u32, u32, u64); 4] = [
        ("xdp", 1, 2 | 4, 0, 0, 0),
        ("license", 1, 1 | 2, 0, 0, 0),
        (".strtab", 3, 0, 0, 0, 0),
        (".symtab", 2, 0, 3, 1, 24),
    ];
    let (mut body, mut table) = (Vec::new(), vec![0; 64]);
    for (part, (section, kind, flags, link, info, entry)) in parts.into_iter().zip(sections) {
        let at = FILE_HEADER + body.len() as u64;
        body.extend(part);
        body.resize(body.len().next_multiple_of(8), 0);
        table.extend(name(section).to_le_bytes());
        table.extend(kind.to_le_bytes());
        for field in [flags, 0, at, part.len() as u64] {
            table.extend(field.to_le_bytes());
        }
        table.extend(link.to_le_bytes());
        table.extend(info.to_le_bytes());
        table.extend(8_u64.to_le_bytes());
        table.extend(entry.to_le_bytes());
    }
    // 64 bits, little-endian, version 1; ET_REL, EM_BPF.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([1, 0, 247, 0, 1, 0, 0, 0]);
    for field in [0, 0, FILE_HEADER + body.len() as u64] {
        file.extend(field.to_le_bytes());
    }
    // Flags; sizes of this header, of segments (none) and of the five sections; where their names are.
    file.extend([0; 4]);
    for field in [64_u16, 0, 0, 64, 5, 3] {
        file.extend(field.to_le_bytes());
    }
    [file, body, table].concat()
}

/// Offset of a name.
fn name(name: &str) -> u32 {
    let needle = [b"\0", name.as_bytes(), b"\0"].concat();
    let at = NAMES.windows(needle.len()).position(|part| part == needle);
    at.expect("it is in the list") as u32 + 1
}
