//! Maps: of AF_XDP sockets, and an array that is shared with the program.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{Attr, NAME_LEN, address, bpf, name_bytes, owned};

const MAP_CREATE: u32 = 0;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_XSKMAP: u32 = 17;
/// `BPF_F_MMAPABLE`, Linux 5.5.
const MMAPABLE: u32 = 1 << 10;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; NAME_LEN],
}
// SAFETY: seven words and sixteen bytes.
unsafe impl Attr for MapCreate {}

/// A map of AF_XDP sockets, by queue.
pub(crate) fn map_create_xsk(name: &str, entries: u32) -> io::Result<OwnedFd> {
    map_create(MAP_TYPE_XSKMAP, name, (4, entries), 0)
}

/// `len` bytes, zeroed, that a program reads and writes in place and that can be mapped.
pub(crate) fn map_create_shared(name: &str, len: u32) -> io::Result<OwnedFd> {
    map_create(MAP_TYPE_ARRAY, name, (len, 1), MMAPABLE)
}

fn map_create(
    map_type: u32,
    name: &str,
    (value_size, max_entries): (u32, u32),
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        map_type,
        key_size: 4,
        value_size,
        max_entries,
        flags,
        inner_map_fd: 0,
        numa_node: 0,
        name: name_bytes(name),
    };
    // SAFETY: the layout of MAP_CREATE, without addresses.
    unsafe { bpf(MAP_CREATE, &mut attr) }.map(owned)
}

#[repr(C)]
struct MapElem {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}
// SAFETY: two words, then aligned double words.
unsafe impl Attr for MapElem {}

/// Puts the socket into the slot, whatever was there.
pub(crate) fn map_update(map: BorrowedFd<'_>, key: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = socket.as_raw_fd();
    let mut attr = MapElem {
        map_fd: map.as_raw_fd() as u32,
        zero: 0,
        key: address(&key),
        value: address(&value),
        flags: 0,
    };
    // SAFETY: the layout of MAP_UPDATE_ELEM; key and value are live locals of the four bytes that a
    // map of sockets has for each.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Empties the slot.
pub(crate) fn map_delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let mut attr = MapElem {
        map_fd: map.as_raw_fd() as u32,
        zero: 0,
        key: address(&key),
        value: 0,
        flags: 0,
    };
    // SAFETY: the layout of MAP_DELETE_ELEM; the key is a live local of four bytes.
    unsafe { bpf(MAP_DELETE_ELEM, &mut attr) }.map(drop)
}
