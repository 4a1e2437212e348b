//! Programs: loading, trying, and finding out what one is.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::insn::Insn;
use super::{ATTACH_TYPE_XDP, Attr, NAME_LEN, bpf, id, info, name_bytes, owned};

const PROG_LOAD: u32 = 5;
const PROG_TEST_RUN: u32 = 10;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;
const PROG_TYPE_XDP: u32 = 6;
/// `BPF_F_XDP_HAS_FRAGS`: the program copes with frames of several buffers, Linux 5.18.
const XDP_HAS_FRAGS: u32 = 1 << 5;

/// Room for the log of the verifier, and the part of it an error shows.
const LOG_LEN: usize = 256 << 10;
const LOG_SHOWN: usize = 2000;

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    name: [u8; NAME_LEN],
    ifindex: u32,
    expected_attach_type: u32,
}
// SAFETY: pairs of words, aligned double words and sixteen bytes.
unsafe impl Attr for ProgLoad {}

/// Loads an XDP program. With `log`, the verifier writes there, ending with a zero byte.
pub(crate) fn prog_load_xdp(
    name: &str,
    insns: &[Insn],
    frags: bool,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let flags = if frags { XDP_HAS_FRAGS } else { 0 };
    prog_load((PROG_TYPE_XDP, ATTACH_TYPE_XDP), name, insns, flags, log)
}

/// Loads a socket filter, likewise.
pub(crate) fn prog_load_socket_filter(
    name: &str,
    insns: &[Insn],
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    prog_load((PROG_TYPE_SOCKET_FILTER, 0), name, insns, 0, log)
}

fn prog_load(
    (prog_type, expected_attach_type): (u32, u32),
    name: &str,
    insns: &[Insn],
    prog_flags: u32,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let (log_level, log_size, log_buf) = match log {
        Some(log) => (1, log.len() as u32, log.as_mut_ptr() as u64),
        None => (0, 0, 0),
    };
    let mut attr = ProgLoad {
        prog_type,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        // No helper of the program is for GPL programs only.
        license: c"Apache-2.0".as_ptr() as u64,
        log_level,
        log_size,
        log_buf,
        kern_version: 0,
        prog_flags,
        name: name_bytes(name),
        ifindex: 0,
        expected_attach_type,
    };
    // SAFETY: the layout of PROG_LOAD; instructions and log are live slices of the lengths given, the
    // licence is a C string, and `Insn` is `struct bpf_insn`.
    unsafe { bpf(PROG_LOAD, &mut attr) }.map(owned)
}

/// Why a program was not loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The verifier refused it.
    Verifier {
        /// What the kernel said.
        source: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// Anything else.
    Call(io::Error),
}

/// Loads without a log, which costs time, and once more with one if the verifier objects.
pub(crate) fn load(
    mut load: impl FnMut(Option<&mut [u8]>) -> io::Result<OwnedFd>,
) -> Result<OwnedFd, LoadError> {
    let error = match load(None) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    if !matches!(
        error.raw_os_error(),
        Some(libc::EACCES | libc::EINVAL | libc::E2BIG)
    ) {
        return Err(LoadError::Call(error));
    }
    let mut log = vec![0; LOG_LEN];
    let source = match load(Some(&mut log)) {
        Ok(fd) => return Ok(fd),
        Err(source) => source,
    };
    let log = log_end(&log);
    Err(LoadError::Verifier { source, log })
}

/// The end of a log that a zero byte ends.
fn log_end(log: &[u8]) -> String {
    let written = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    match &log[written.saturating_sub(LOG_SHOWN)..written] {
        [] => "(nothing)".to_owned(),
        shown => String::from_utf8_lossy(shown).trim().to_owned(),
    }
}

#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}
// SAFETY: pairs of words and aligned double words.
unsafe impl Attr for TestRun {}

/// Runs an XDP program once over a packet: its result. The packet comes from that interface, by index in the
/// calling thread's network namespace, and queue; without, from queue 0 of the loopback.
pub(crate) fn prog_test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    from: Option<(u32, u32)>,
) -> io::Result<u32> {
    let (ifindex, queue) = from.unwrap_or_default();
    // struct xdp_md: start, end and metadata of the packet, interface and queue it came by, and egress.
    let context = [0, packet.len() as u32, 0, ifindex, queue, 0];
    test_run(program, packet, &context)
}

/// Runs a socket filter once over what a packet has behind its MAC addresses: its result.
#[cfg(test)]
pub(crate) fn prog_test_run_socket_filter(
    program: BorrowedFd<'_>,
    packet: &[u8],
) -> io::Result<u32> {
    test_run(program, packet, &[])
}

fn test_run(program: BorrowedFd<'_>, packet: &[u8], context: &[u32]) -> io::Result<u32> {
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        retval: 0,
        data_size_in: packet.len() as u32,
        data_size_out: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat: 1,
        duration: 0,
        ctx_size_in: size_of_val(context) as u32,
        ctx_size_out: 0,
        ctx_in: match context {
            [] => 0,
            context => context.as_ptr() as u64,
        },
        ctx_out: 0,
    };
    // SAFETY: the layout of PROG_TEST_RUN; packet and context are alive and of the lengths given, no output
    // buffer is given, and the kernel writes its numbers into `attr`.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }.map(|_| attr.retval)
}

/// A descriptor of the program with that id. Needs `CAP_SYS_ADMIN`.
pub(crate) fn prog_fd_by_id(program: u32) -> io::Result<OwnedFd> {
    // SAFETY: the layout of PROG_GET_FD_BY_ID, without addresses.
    unsafe { bpf(PROG_GET_FD_BY_ID, &mut id(program)) }.map(owned)
}

/// Id and name of a program (`struct bpf_prog_info`: id at 4, name at 64).
pub(crate) fn prog_info(program: BorrowedFd<'_>) -> io::Result<(u32, String)> {
    let words = info::<20>(program)?;
    let name = words[16..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0);
    let name = String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned();
    Ok((words[1], name))
}
