//! The instructions that decide what the sockets have.
//!
//! The way of a frame: group MAC → passes; up to two VLAN tags are stepped over; then by EtherType. A
//! destination in one of the CIDRs is redirected as it is. Otherwise it must be UDP that stands directly
//! behind an IP header without options, unfragmented, to one of the addresses and one of the ports.
//! Whatever else, or too short to tell, passes to the kernel.
//!
//! Registers: `R1` context, `R2` start of the frame plus four per tag, `R3` end, `R0`, `R4`, `R5` scratch,
//! `R6`–`R9` the destination address. Values of the packet are compared as they lie in memory: it is the
//! immediates that are put in network order.

use std::net::IpAddr;

use super::filter::Filter;
use crate::bpf::insn::{Asm, Insn, Label, Reg, Width, half};

const ETHERNET_LEN: i16 = 14;
const TAG_LEN: i32 = 4;
/// Ends of the network headers without options, from `R2`.
const V4_END: i16 = ETHERNET_LEN + 20;
const V6_END: i16 = ETHERNET_LEN + 40;
const UDP_LEN: i16 = 8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
/// IEEE 802.1ad's outer tag.
const QINQ: u16 = 0x88a8;
const UDP: u32 = 17;

/// Fields of `struct xdp_md` (linux/bpf.h).
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_RX_QUEUE_INDEX: i16 = 16;
/// `enum xdp_action`.
const XDP_PASS: i32 = 2;
/// `bpf_redirect_map(map, index, flags)`: with flags < 5 that is the result for an empty slot.
const REDIRECT_MAP: i32 = 51;

/// Where the words of the destination address are kept.
const DESTINATION: [Reg; 4] = [Reg::R6, Reg::R7, Reg::R8, Reg::R9];

/// The instructions for a [checked](Filter::checked) filter. `xsks` is the descriptor of the map of
/// sockets.
pub(super) fn emit(filter: &Filter, xsks: i32) -> Vec<Insn> {
    let mut asm = Asm::default();
    let (pass, redirect) = (asm.label(), asm.label());
    let mut emitter = Emitter {
        asm,
        pass,
        redirect,
    };
    emitter.frame(&filter.family(true), &filter.family(false));
    let mut asm = emitter.asm;
    asm.bind(pass);
    asm.mov_imm(Reg::R0, XDP_PASS);
    asm.exit();
    if asm.is_used(redirect) {
        asm.bind(redirect);
        asm.load(Width::Word, Reg::R2, Reg::R1, MD_RX_QUEUE_INDEX);
        asm.load_map(Reg::R1, xsks);
        asm.mov_imm(Reg::R3, XDP_PASS);
        asm.call(REDIRECT_MAP);
        asm.exit();
    }
    asm.finish()
}

/// Four bytes as a load of a word finds them.
fn words(address: IpAddr) -> Vec<u32> {
    let bytes: Vec<u8> = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_ne_bytes(*word)).collect()
}

struct Emitter {
    asm: Asm,
    pass: Label,
    redirect: Label,
}

impl Emitter {
    fn frame(&mut self, v4: &Filter, v6: &Filter) {
        self.asm.load(Width::Word, Reg::R2, Reg::R1, MD_DATA);
        self.asm.load(Width::Word, Reg::R3, Reg::R1, MD_DATA_END);
        self.require(ETHERNET_LEN);
        // The group bit (IEEE 802 §8.2): broadcast and multicast are the kernel's.
        self.asm.load(Width::Byte, Reg::R0, Reg::R2, 0);
        self.asm.and32_imm(Reg::R0, 1);
        self.pass_unless(Reg::R0, 0);
        self.asm.load(Width::Half, Reg::R5, Reg::R2, 12);
        let network = self.asm.label();
        for _ in 0..2 {
            let tag = self.asm.label();
            self.asm.jump_if_equal32(Reg::R5, half(VLAN), tag);
            self.asm.jump_if_not_equal32(Reg::R5, half(QINQ), network);
            self.asm.bind(tag);
            self.asm.add_imm(Reg::R2, TAG_LEN);
            self.require(ETHERNET_LEN);
            self.asm.load(Width::Half, Reg::R5, Reg::R2, 12);
        }
        self.asm.bind(network);
        for (ethertype, filter) in [(IPV4, v4), (IPV6, v6)] {
            // What nothing can reach, the verifier refuses.
            if filter.is_empty() {
                continue;
            }
            let other = self.asm.label();
            self.asm
                .jump_if_not_equal32(Reg::R5, half(ethertype), other);
            match ethertype {
                IPV4 => self.ipv4(filter),
                _ => self.ipv6(filter),
            }
            self.asm.bind(other);
        }
        // Falls through to pass.
    }

    /// RFC 791 §3.1.
    fn ipv4(&mut self, filter: &Filter) {
        self.require(V4_END);
        self.asm.load(Width::Byte, Reg::R5, Reg::R2, ETHERNET_LEN);
        self.version(0x40);
        self.destination(ETHERNET_LEN + 16, 1);
        self.cidrs(&filter.cidrs);
        if filter.addresses.is_empty() {
            return self.asm.jump(self.pass);
        }
        // Five words: no options.
        self.pass_unless(Reg::R5, 0x45);
        self.asm
            .load(Width::Byte, Reg::R0, Reg::R2, ETHERNET_LEN + 9);
        self.pass_unless(Reg::R0, UDP);
        // More fragments, or an offset.
        self.asm
            .load(Width::Half, Reg::R0, Reg::R2, ETHERNET_LEN + 6);
        self.asm.and32_imm(Reg::R0, half(0x3fff));
        self.pass_unless(Reg::R0, 0);
        self.addresses(&filter.addresses);
        self.ports(V4_END, &filter.ports);
    }

    /// RFC 8200 §3.
    fn ipv6(&mut self, filter: &Filter) {
        self.require(V6_END);
        self.asm.load(Width::Byte, Reg::R5, Reg::R2, ETHERNET_LEN);
        self.version(0x60);
        self.destination(ETHERNET_LEN + 24, 4);
        self.cidrs(&filter.cidrs);
        if filter.addresses.is_empty() {
            return self.asm.jump(self.pass);
        }
        // An extension header, that of a fragment too, is another next header.
        self.asm
            .load(Width::Byte, Reg::R0, Reg::R2, ETHERNET_LEN + 6);
        self.pass_unless(Reg::R0, UDP);
        self.addresses(&filter.addresses);
        self.ports(V6_END, &filter.ports);
    }

    fn pass_unless(&mut self, reg: Reg, value: u32) {
        self.asm.jump_if_not_equal32(reg, value, self.pass);
    }

    /// Passes unless `len` bytes from `R2` are there. The verifier wants to see this before every load.
    fn require(&mut self, len: i16) {
        self.asm.mov(Reg::R4, Reg::R2);
        self.asm.add_imm(Reg::R4, len.into());
        self.asm.jump_if_greater(Reg::R4, Reg::R3, self.pass);
    }

    /// Passes unless the version in `R5`, the first byte of a network header, is that.
    fn version(&mut self, version: u32) {
        self.asm.mov32(Reg::R0, Reg::R5);
        self.asm.and32_imm(Reg::R0, 0xf0);
        self.pass_unless(Reg::R0, version);
    }

    fn destination(&mut self, at: i16, words: usize) {
        for (reg, off) in DESTINATION.into_iter().take(words).zip((at..).step_by(4)) {
            self.asm.load(Width::Word, reg, Reg::R2, off);
        }
    }

    /// Redirects if the destination is in one of them.
    fn cidrs(&mut self, cidrs: &[(IpAddr, u8)]) {
        for (network, prefix) in cidrs {
            let miss = self.asm.label();
            let mut bits = u32::from(*prefix);
            for (word, reg) in words(*network).into_iter().zip(DESTINATION) {
                match bits {
                    0 => break,
                    1..32 => {
                        let mask = u32::from_ne_bytes((u32::MAX << (32 - bits)).to_be_bytes());
                        self.asm.mov32(Reg::R0, reg);
                        self.asm.and32_imm(Reg::R0, mask);
                        self.asm.jump_if_not_equal32(Reg::R0, word, miss);
                    }
                    _ => self.asm.jump_if_not_equal32(reg, word, miss),
                }
                bits = bits.saturating_sub(32);
            }
            self.asm.jump(self.redirect);
            self.asm.bind(miss);
        }
    }

    /// Passes unless the destination is one of them.
    fn addresses(&mut self, addresses: &[IpAddr]) {
        let ours = self.asm.label();
        for address in addresses {
            let miss = self.asm.label();
            for (word, reg) in words(*address).into_iter().zip(DESTINATION) {
                self.asm.jump_if_not_equal32(reg, word, miss);
            }
            self.asm.jump(ours);
            self.asm.bind(miss);
        }
        self.asm.jump(self.pass);
        self.asm.bind(ours);
    }

    /// Redirects if the destination port of the UDP header (RFC 768) at `at` is one of them, else passes.
    fn ports(&mut self, at: i16, ports: &[u16]) {
        self.require(at + UDP_LEN);
        self.asm.load(Width::Half, Reg::R0, Reg::R2, at + 2);
        for port in ports {
            self.asm
                .jump_if_equal32(Reg::R0, half(*port), self.redirect);
        }
        self.asm.jump(self.pass);
    }
}
