//! Who is at an interface already.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::netlink::{self, Interface, Which};
use super::program::PROGRAM_NAME;
use super::{AttachError, BpfError, Mode};
use crate::bpf;

/// Whose program it is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Owner {
    /// It has our name: an agent at work, or what one left behind.
    Ours,
    /// Somebody else's.
    Foreign,
    /// That cannot be told without the privilege to ask for its name (`CAP_SYS_ADMIN`).
    Unknown,
}

/// A process that holds a link.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Holder {
    /// Process id as seen from here.
    pub pid: u32,
    /// Its command name.
    pub name: String,
}

/// A program that is attached to an interface.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Occupant {
    /// Whose it is, by its name.
    pub owner: Owner,
    /// How it is attached.
    pub mode: Mode,
    /// Id of the program.
    pub program: u32,
    /// Name of the program; `None` if that is unknown.
    pub name: Option<String>,
    /// Id of the link that holds it; `None` if it was attached by netlink, as `ip link set xdp` does, or
    /// without the privilege to ask.
    pub link: Option<u32>,
    /// Processes that hold a descriptor of the link, as far as they can be seen.
    pub holders: Vec<Holder>,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref();
        let name = name.unwrap_or("of unknown name, which takes CAP_SYS_ADMIN to see");
        write!(f, "program {} {name} ({}, ", self.program, self.mode)?;
        match self.link {
            Some(link) => write!(f, "link {link}")?,
            None => f.write_str("no link seen")?,
        }
        for (i, Holder { pid, name }) in self.holders.iter().enumerate() {
            let lead = if i == 0 { ", held by process" } else { "," };
            write!(f, "{lead} {pid} {name}")?;
        }
        f.write_str(")")
    }
}

/// The program at `interface`, of the calling thread's network namespace.
///
/// # Errors
/// [`AttachError::NoSuchInterface`], or what the kernel says.
pub fn occupant(interface: &str) -> Result<Option<Occupant>, AttachError> {
    let interface = find_interface(interface)?;
    find(&interface).map_err(AttachError::Bpf)
}

pub(super) fn find_interface(name: &str) -> Result<Interface, AttachError> {
    netlink::interface(Which::Name(name)).map_err(|source| AttachError::NoSuchInterface {
        interface: name.to_owned(),
        source,
    })
}

/// The program that is in the way at `interface`.
pub(super) fn find(interface: &Interface) -> Result<Option<Occupant>, BpfError> {
    let Some((mode, program)) = interface.programs.first().copied() else {
        return Ok(None);
    };
    let name = match bpf::prog_fd_by_id(program).and_then(|fd| bpf::prog_info(fd.as_fd())) {
        Ok((_, name)) => Some(name),
        // Gone since we asked.
        Err(error) if is(&error, libc::ENOENT) => return Ok(None),
        Err(error) if is(&error, libc::EPERM) => None,
        Err(error) => return Err(BpfError::call("BPF_PROG_GET_FD_BY_ID", error)),
    };
    let link = link_of(interface.index, program)?.map(|(id, _)| id);
    Ok(Some(Occupant {
        owner: match name.as_deref() {
            Some(PROGRAM_NAME) => Owner::Ours,
            Some(_) => Owner::Foreign,
            None => Owner::Unknown,
        },
        mode,
        program,
        name,
        link,
        holders: link.map(holders).unwrap_or_default(),
    }))
}

/// Removes a program of ours from the interface, whoever holds it. False if it has a link that cannot be
/// told from others.
pub(super) fn evict(interface: &Interface, occupant: &Occupant) -> Result<bool, BpfError> {
    let outcome = |result: io::Result<()>, call| match result.map_err(|e| (e.raw_os_error(), e)) {
        Ok(()) => Ok(true),
        // Somebody was faster: the program or link is no more, or is not at this interface.
        Err((Some(libc::ENOENT | libc::ENOLINK | libc::EEXIST), _)) => Ok(true),
        // Netlink does not remove what has a link.
        Err((Some(libc::EBUSY), _)) => Ok(false),
        Err((_, error)) => Err(BpfError::call(call, error)),
    };
    if let Some((_, link)) = link_of(interface.index, occupant.program)? {
        return outcome(bpf::link_detach(link.as_fd()), "BPF_LINK_DETACH");
    }
    let detach =
        |program: OwnedFd| netlink::detach(interface.index, occupant.mode, program.as_fd());
    let result = bpf::prog_fd_by_id(occupant.program).and_then(detach);
    outcome(result, "RTM_SETLINK")
}

/// The link by which a program is at an interface, and its id. An index says nothing about the network
/// namespace, so a program that several links have at interfaces of that index is told apart by nothing:
/// then it counts as having none, and nobody detaches the wrong one.
fn link_of(ifindex: u32, program: u32) -> Result<Option<(u32, OwnedFd)>, BpfError> {
    let mut found = None;
    let mut id = 0;
    loop {
        id = match bpf::link_next_id(id) {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(found),
            Err(error) if is(&error, libc::EPERM) => return Ok(None),
            Err(error) => return Err(BpfError::call("BPF_LINK_GET_NEXT_ID", error)),
        };
        // A link may go at any time.
        let Ok(fd) = bpf::link_fd_by_id(id) else {
            continue;
        };
        let info = bpf::link_info(fd.as_fd())
            .map_err(|error| BpfError::call("BPF_OBJ_GET_INFO_BY_FD", error))?;
        if info.is_some_and(|link| link.ifindex == ifindex && link.program == program)
            && found.replace((id, fd)).is_some()
        {
            return Ok(None);
        }
    }
}

/// Processes with a descriptor of that link, by what /proc shows of descriptors.
fn holders(link: u32) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let line = format!("link_id:\t{link}");
    let holds = |info: &str| info.contains("link_type:\txdp") && info.lines().any(|l| l == line);
    let holder = |process: fs::DirEntry| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut fds = fs::read_dir(process.path().join("fdinfo")).ok()?.flatten();
        fds.find(|fd| fs::read_to_string(fd.path()).is_ok_and(|info| holds(&info)))?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(Holder {
            pid,
            name: name.trim_end().to_owned(),
        })
    };
    processes.flatten().filter_map(holder).collect()
}

fn is(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}
