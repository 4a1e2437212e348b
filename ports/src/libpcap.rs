//! Filters in the language of tcpdump, compiled by libpcap.
//!
//! The library is loaded when a filter is compiled, and only then: the agent does without it, and a machine that
//! lacks it can still capture without a filter. Nothing is opened or captured by it.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

use ringway_packet::bpf::{Instruction, Program, ProgramError};

use crate::pcap::MAX_PACKET;

/// Names of the library: Debian's, everybody else's, that of a development package.
const NAMES: [&CStr; 3] = [c"libpcap.so.0.8", c"libpcap.so.1", c"libpcap.so"];
/// `DLT_EN10MB`, pcap/dlt.h.
const ETHERNET: c_int = 1;
/// `PCAP_NETMASK_UNKNOWN`, pcap/pcap.h.
const NETMASK_UNKNOWN: c_uint = 0xffff_ffff;

/// Why a filter was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The library is not there, or not the one that is known.
    #[error("a filter needs libpcap, which cannot be loaded: {0}")]
    NoLibrary(
        /// What the loader said.
        String,
    ),
    /// The filter has a zero byte.
    #[error("the filter has a zero byte")]
    Zero,
    /// It is no filter.
    #[error("{filter:?} is not a filter: {why}")]
    Syntax {
        /// What was given.
        filter: String,
        /// What libpcap said.
        why: String,
    },
    /// What came of it cannot be run.
    #[error("{filter:?} cannot be run: {why}")]
    Program {
        /// What was given.
        filter: String,
        /// Why.
        why: ProgramError,
    },
}

/// `struct bpf_program`, pcap/bpf.h.
#[repr(C)]
struct BpfProgram {
    len: c_uint,
    instructions: *mut BpfInstruction,
}

/// `struct bpf_insn`, pcap/bpf.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct BpfInstruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut c_void;
type Compile =
    unsafe extern "C" fn(*mut c_void, *mut BpfProgram, *const c_char, c_int, c_uint) -> c_int;
type FreeCode = unsafe extern "C" fn(*mut BpfProgram);
type GetError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type Close = unsafe extern "C" fn(*mut c_void);

struct Library {
    open_dead: OpenDead,
    compile: Compile,
    free_code: FreeCode,
    get_error: GetError,
    close: Close,
}

impl Library {
    /// Stays loaded until the process ends.
    fn load() -> Result<Library, FilterError> {
        let handle = NAMES.iter().find_map(|name| {
            // SAFETY: the name is a C string; libpcap's initialisers do nothing but set variables.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            (!handle.is_null()).then_some(handle)
        });
        let handle = handle.ok_or_else(|| FilterError::NoLibrary(loader_said()))?;
        let symbol = |name: &CStr| {
            // SAFETY: the handle is of a library that is loaded, the name is a C string.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            match symbol.is_null() {
                true => Err(FilterError::NoLibrary(loader_said())),
                false => Ok(symbol),
            }
        };
        // SAFETY: these functions have had these types since libpcap 0.8 (pcap/pcap.h), and a pointer to one is
        // as large as any.
        unsafe {
            Ok(Library {
                open_dead: std::mem::transmute::<*mut c_void, OpenDead>(symbol(c"pcap_open_dead")?),
                compile: std::mem::transmute::<*mut c_void, Compile>(symbol(c"pcap_compile")?),
                free_code: std::mem::transmute::<*mut c_void, FreeCode>(symbol(c"pcap_freecode")?),
                get_error: std::mem::transmute::<*mut c_void, GetError>(symbol(c"pcap_geterr")?),
                close: std::mem::transmute::<*mut c_void, Close>(symbol(c"pcap_close")?),
            })
        }
    }
}

fn loader_said() -> String {
    // SAFETY: dlerror gives a C string of this thread's, or null.
    let said = unsafe { libc::dlerror() };
    match said.is_null() {
        true => "no reason given".into(),
        // SAFETY: it is a C string until the next call of the loader, which is not before it was copied.
        false => unsafe { CStr::from_ptr(said) }.to_string_lossy().into(),
    }
}

/// Compiles a filter for Ethernet frames; what matches returns `snap_len`.
///
/// # Errors
/// It is none, or libpcap is not there.
pub fn compile(filter: &str) -> Result<Program, FilterError> {
    let text = CString::new(filter).map_err(|_| FilterError::Zero)?;
    let library = Library::load()?;
    // SAFETY: takes two numbers.
    let pcap = unsafe { (library.open_dead)(ETHERNET, MAX_PACKET as c_int) };
    if pcap.is_null() {
        return Err(FilterError::NoLibrary("out of memory".into()));
    }
    let mut compiled = BpfProgram {
        len: 0,
        instructions: std::ptr::null_mut(),
    };
    // SAFETY: the handle was just made, the program is ours to be filled in, the text is a C string.
    let code = unsafe { (library.compile)(pcap, &mut compiled, text.as_ptr(), 1, NETMASK_UNKNOWN) };
    let result = match code {
        0 if !compiled.instructions.is_null() => {
            // SAFETY: libpcap says that so many instructions are there, and they stay until they are freed.
            let all =
                unsafe { std::slice::from_raw_parts(compiled.instructions, compiled.len as usize) };
            let all: Vec<Instruction> = all
                .iter()
                .map(|&BpfInstruction { code, jt, jf, k }| Instruction { code, jt, jf, k })
                .collect();
            Program::new(&all).map_err(|why| FilterError::Program {
                filter: filter.into(),
                why,
            })
        }
        _ => {
            // SAFETY: the message is a C string within the handle, which is still open.
            let why = unsafe { CStr::from_ptr((library.get_error)(pcap)) };
            Err(FilterError::Syntax {
                filter: filter.into(),
                why: why.to_string_lossy().into(),
            })
        }
    };
    // SAFETY: both were made above, and nothing points into them any more. Freeing an empty program does nothing.
    unsafe {
        (library.free_code)(&mut compiled);
        (library.close)(pcap);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::kit;

    #[test]
    fn filters_match_as_tcpdump_says() {
        let dns = kit::udp("10.77.1.2:1000", "10.77.2.2:53").frame();
        let https = kit::tcp("[fd77:1::2]:1000", "[fd77:2::2]:443").frame();
        let compiled = match compile("udp port 53 or ip6 proto 6") {
            Err(FilterError::NoLibrary(why)) => {
                println!("SKIPPED: no libpcap: {why}");
                return;
            }
            compiled => compiled.unwrap(),
        };
        assert_eq!(compiled.run(&dns[..]), MAX_PACKET);
        assert_eq!(compiled.run(&https[..]), MAX_PACKET);
        assert_eq!(compile("tcp port 53").unwrap().run(&dns[..]), 0);
        assert_eq!(
            compile("host fd77:2::2 and tcp").unwrap().run(&https[..]),
            MAX_PACKET
        );
        // No filter is one, and matches everything.
        assert_eq!(compile("").unwrap().run(&dns[..]), MAX_PACKET);
    }

    #[test]
    fn what_is_no_filter_is_said_so() {
        let error = match compile("tcp prot 80") {
            Err(FilterError::NoLibrary(why)) => {
                println!("SKIPPED: no libpcap: {why}");
                return;
            }
            other => other.unwrap_err(),
        };
        let text = error.to_string();
        assert!(
            text.contains("tcp prot 80") && text.contains("syntax error"),
            "{text}"
        );
        assert!(matches!(compile("a\0b"), Err(FilterError::Zero)));
        // What only a kernel knows of a packet.
        let error = compile("inbound").unwrap_err();
        assert!(
            matches!(
                error,
                FilterError::Syntax { .. } | FilterError::Program { .. }
            ),
            "{error}"
        );
    }
}
