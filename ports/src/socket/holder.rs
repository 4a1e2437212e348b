//! Who holds a UDP port, for an error that helps: a process, or a tunnel device of the kernel.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use crate::sys;

/// Who holds a UDP port.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum PortHolder {
    /// A process has the socket open.
    Process {
        /// Process id as seen from here.
        pid: u32,
        /// Its command name.
        name: String,
    },
    /// A socket exists that no process has open: one of the kernel's own.
    Kernel {
        /// VXLAN interfaces of this network namespace, the likely holders.
        vxlan: Vec<String>,
    },
    /// The kernel's tables show no such socket.
    Unknown,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortHolder::Process { pid, name } => write!(f, "held by process {pid} ({name})"),
            PortHolder::Kernel { vxlan } if vxlan.is_empty() => {
                f.write_str("no visible process holds it; a tunnel device of the kernel, or a process of another container, may")
            }
            PortHolder::Kernel { vxlan } => {
                let names = vxlan.join(", ");
                write!(f, "no visible process holds it, so probably a VXLAN device of the kernel; this namespace has: {names} (remove it with `ip link del`, or choose another port)")
            }
            PortHolder::Unknown => f.write_str("its holder could not be found"),
        }
    }
}

/// Looks for the holder of `local` in the calling thread's network namespace.
pub(super) fn find(local: SocketAddr) -> PortHolder {
    // Not /proc/net: that is the namespace of the process's first thread.
    let inodes: Vec<u64> = ["udp", "udp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|table| conflicting(&table, local))
        .collect();
    if inodes.is_empty() {
        return PortHolder::Unknown;
    }
    match inodes.iter().find_map(|inode| process_with(*inode)) {
        Some((pid, name)) => PortHolder::Process { pid, name },
        None => PortHolder::Kernel {
            vxlan: vxlan_devices(),
        },
    }
}

/// Inodes of the sockets in a table as in /proc/net/udp{,6} that conflict with `local`.
fn conflicting(table: &str, local: SocketAddr) -> Vec<u64> {
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let address = hex_address(address)?;
        let same = address == local.ip() || address.is_unspecified() || local.ip().is_unspecified();
        // Fields after the local address: remote, state, queues, timer, retransmits, uid, timeout, inode.
        (port == local.port() && same).then(|| fields.nth(7)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(parse).collect()
}

/// An address of those tables: 32-bit words of the address in memory order, each printed as a number.
fn hex_address(text: &str) -> Option<IpAddr> {
    if !text.is_ascii() || !matches!(text.len(), 8 | 32) {
        return None;
    }
    let mut bytes = [0u8; 16];
    for (word, at) in bytes.chunks_exact_mut(4).zip((0..text.len()).step_by(8)) {
        word.copy_from_slice(
            &u32::from_str_radix(&text[at..at + 8], 16)
                .ok()?
                .to_ne_bytes(),
        );
    }
    Some(match text.len() {
        8 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        _ => Ipv6Addr::from(bytes).to_canonical(),
    })
}

fn process_with(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut fds = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        fds.find(|fd| {
            fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        })?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some((pid, name.trim_end().to_owned()))
    })
}

/// VXLAN interfaces of the calling thread's namespace. Their driver name tells; sysfs would show the
/// namespace it was mounted in.
fn vxlan_devices() -> Vec<String> {
    let Ok(table) = fs::read_to_string("/proc/thread-self/net/dev") else {
        return Vec::new();
    };
    let names = table
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names
        .filter(|name| driver(name).as_deref() == Some("vxlan"))
        .map(str::to_owned)
        .collect()
}

/// `ETHTOOL_GDRVINFO` (linux/ethtool.h).
fn driver(interface: &str) -> Option<String> {
    const GET_DRIVER_INFO: u32 = 3;
    /// `struct ethtool_drvinfo`: command, then the driver's name in 32 bytes, and more.
    const SIZE: usize = 196;
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).ok()?;
    let mut info = [0u32; SIZE / 4];
    info[0] = GET_DRIVER_INFO;
    // SAFETY: an ifreq of zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= libc::IFNAMSIZ {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = info.as_mut_ptr().cast();
    // SAFETY: SIOCETHTOOL takes an ifreq whose data pointer is to the command's structure, here a live
    // local of its size.
    unsafe {
        sys::ioctl_ref(
            socket.as_fd(),
            libc::SIOCETHTOOL as libc::Ioctl,
            &mut request,
        )
    }
    .ok()?;
    let name: Vec<u8> = info[1..9]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
  101: 0100007F:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0\n\
  102: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 4712 2 0000000000000000 0\n\
 nonsense\n  103: xx:yy\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn finds_the_conflicting_socket() {
        let at = |text: &str| conflicting(UDP, text.parse().unwrap());
        assert_eq!(at("127.0.0.1:8472"), [4711]);
        assert_eq!(at("127.0.0.2:8472"), []);
        assert_eq!(at("0.0.0.0:8472"), [4711]);
        assert_eq!(at("10.0.0.1:53"), [4712]);
        assert_eq!(at("10.0.0.1:54"), []);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_ipv6_addresses() {
        assert_eq!(
            hex_address("0000000000000000FFFF00000100007F"),
            Some("127.0.0.1".parse().unwrap())
        );
        assert_eq!(
            hex_address("000080FE000000000000000001000000"),
            Some("fe80::1".parse().unwrap())
        );
        assert_eq!(hex_address("0000"), None);
        assert_eq!(hex_address("ääää"), None);
    }

    #[test]
    fn names_this_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = find(socket.local_addr().unwrap());
        let PortHolder::Process { pid, .. } = found else {
            panic!("{found:?}")
        };
        assert_eq!(pid, std::process::id());
    }
}
