//! Processes of the node that listen on a port a pod asks for.
//!
//! A host port is a translation before the node's own sockets are looked up, so it would take the port away
//! from whoever listens there, without a word: sshd on 22. The scheduler knows the host ports of pods only.
//! The kernel's lists of sockets say who is there (`/proc/net/tcp` and the like, one line a socket).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ports::{HostPort, Protocol};

/// Programs that hold the host ports of their containers open, so that no process of the node gets them,
/// and want them led to the container all the same: of podman, and older CRI-O.
const HOLDERS: [&str; 3] = ["conmon", "podman", "crio"];

/// Where the kernel lists the sockets of this thread's network namespace.
const NET: &str = "/proc/thread-self/net";

/// A socket that takes what comes to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    /// `None`: of all addresses. An IPv6 socket of all addresses may take IPv4 too, and counts for both.
    ip: Option<IpAddr>,
    port: u16,
    inode: u64,
}

/// Who listens on a port that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Name and id of the process, or what is known instead.
    pub who: String,
    /// It only holds the port for a container.
    pub holds: bool,
}

/// The first listener of the node on one of these ports, one that means it before one that holds it.
pub fn find(ports: &[HostPort]) -> Option<Listener> {
    let mut holder = None;
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let mut asked = ports.iter().filter(|port| port.protocol == protocol);
        if asked.clone().next().is_none() {
            continue;
        }
        let sockets = sockets(protocol);
        let taken = |port: &&HostPort| sockets.iter().any(|socket| takes(socket, port));
        while let Some(port) = asked.find(taken) {
            for socket in sockets.iter().filter(|socket| takes(socket, port)) {
                let process = process(socket.inode);
                // It may have ended meanwhile.
                if process.is_none() && !self::sockets(protocol).contains(socket) {
                    continue;
                }
                let holds = process
                    .as_ref()
                    .is_some_and(|(name, _)| HOLDERS.contains(&name.as_str()));
                let who = match process {
                    Some((name, pid)) => format!("{name} (pid {pid})"),
                    None => "the kernel, or a process that cannot be seen from here,".into(),
                };
                let listener = Listener {
                    port: port.host_port,
                    protocol,
                    who,
                    holds,
                };
                if !holds {
                    return Some(listener);
                }
                holder = holder.or(Some(listener));
            }
        }
    }
    holder
}

fn takes(socket: &Socket, port: &HostPort) -> bool {
    let family = socket
        .ip
        .is_none_or(|ip| ip.is_ipv6() == port.pod_ip.is_ipv6());
    let address = match (socket.ip, port.host_ip) {
        (Some(own), Some(asked)) => own.is_unspecified() || own == asked,
        _ => true,
    };
    socket.port == port.host_port && family && address
}

fn sockets(protocol: Protocol) -> Vec<Socket> {
    let files: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => &["sctp/eps"],
    };
    let mut all = Vec::new();
    for file in files {
        // What is not there has no sockets.
        let Ok(file) = File::open(format!("{NET}/{file}")) else {
            continue;
        };
        let lines = BufReader::new(file).lines().skip(1).map_while(Result::ok);
        match protocol {
            // Those that listen come first; connections, which may be a million, after them.
            Protocol::Tcp => all.extend(
                lines
                    .map_while(|line| inet(&line).filter(|(state, _)| *state == TCP_LISTEN))
                    .map(|(_, socket)| socket),
            ),
            Protocol::Udp => all.extend(
                lines
                    .filter_map(|line| inet(&line).filter(|(state, _)| *state == UDP_UNCONNECTED))
                    .map(|(_, socket)| socket),
            ),
            Protocol::Sctp => all.extend(lines.flat_map(|line| sctp(&line))),
        }
    }
    all
}

/// include/net/tcp_states.h: TCP_LISTEN, and TCP_CLOSE, which is a UDP socket that is not connected.
const TCP_LISTEN: u8 = 0x0a;
const UDP_UNCONNECTED: u8 = 0x07;

/// A line of tcp, tcp6, udp or udp6: state and socket (net/ipv4/tcp_ipv4.c, get_tcp4_sock).
fn inet(line: &str) -> Option<(u8, Socket)> {
    let mut words = line.split_ascii_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(
            u32::from_str_radix(address, 16).ok()?.to_ne_bytes(),
        )),
        32 => {
            let mut bytes = [0; 16];
            for (i, word) in bytes.chunks_mut(4).enumerate() {
                let digits = address.get(8 * i..8 * i + 8)?;
                word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    let socket = Socket {
        ip: bound(ip),
        port,
        inode,
    };
    Some((state, socket))
}

/// An IPv4 socket of all addresses is told from an IPv6 one, which may take IPv4 as well.
fn bound(ip: IpAddr) -> Option<IpAddr> {
    Some(ip).filter(|ip| !ip.is_unspecified() || ip.is_ipv4())
}

/// A line of sctp/eps, one socket for each address (net/sctp/proc.c, sctp_eps_seq_show).
fn sctp(line: &str) -> Vec<Socket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let read = || {
        let listens = *words.get(3)? == "10";
        let port = words.get(5)?.parse().ok()?;
        let inode = words.get(7)?.parse().ok()?;
        listens.then_some((port, inode))
    };
    let Some((port, inode)) = read() else {
        return Vec::new();
    };
    let addresses = words[8..]
        .iter()
        .filter_map(|word| word.trim_start_matches('*').parse().ok());
    addresses
        .map(|ip: IpAddr| Socket {
            ip: bound(ip.to_canonical()),
            port,
            inode,
        })
        .collect()
}

/// Name and id of the process that has a socket; `None` for one of the kernel's, or out of sight.
fn process(inode: u64) -> Option<(String, u32)> {
    let mark = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let has = |file: fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == mark.as_str())
        };
        if files.flatten().any(has) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((name.trim().to_owned(), pid));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_netns;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn port(protocol: Protocol, host_port: u16, host_ip: &str, v6: bool) -> HostPort {
        let pod_ip = if v6 { "fd77:1::2" } else { "10.77.1.2" };
        HostPort {
            host_ip: host_ip.parse().ok(),
            host_port,
            protocol,
            pod_ip: pod_ip.parse().unwrap(),
            pod_port: 80,
        }
    }

    #[test]
    fn who_listens_is_found() {
        in_netns(|| {
            let listens = |protocol, number, ip: &str, v6| {
                find(&[port(protocol, number, ip, v6)]).map(|found| (found.port, found.who))
            };
            let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
            let me = || {
                let name = fs::read_to_string("/proc/self/comm").unwrap();
                format!("{} (pid {})", name.trim(), std::process::id())
            };
            assert_eq!(listens(tcp, 80, "", false), None);
            let _one = TcpListener::bind("127.0.0.1:80").unwrap();
            assert_eq!(listens(tcp, 80, "", false), Some((80, me())));
            assert_eq!(listens(tcp, 80, "127.0.0.1", false), Some((80, me())));
            for (protocol, number, ip, v6) in [
                (tcp, 80, "192.0.2.1", false),
                (tcp, 80, "", true),
                (tcp, 81, "", false),
                (udp, 80, "", false),
            ] {
                assert_eq!(listens(protocol, number, ip, v6), None, "{ip} {v6}");
            }
            // Of all addresses of IPv6, and so of IPv4.
            let _two = TcpListener::bind("[::]:82").unwrap();
            for v6 in [false, true] {
                assert!(listens(tcp, 82, "", v6).is_some(), "{v6}");
            }
            let _three = TcpListener::bind("0.0.0.0:83").unwrap();
            assert_eq!(listens(tcp, 83, "", true), None);
            for ip in ["", "192.0.2.1"] {
                assert!(listens(tcp, 83, ip, false).is_some(), "{ip}");
            }
            let _four = UdpSocket::bind("[::1]:84").unwrap();
            assert!(listens(udp, 84, "", true).is_some());
            assert_eq!(listens(udp, 84, "", false), None);
            // Who asks somebody else listens to nobody.
            let asks = UdpSocket::bind("127.0.0.1:85").unwrap();
            assert!(listens(udp, 85, "", false).is_some());
            asks.connect("127.0.0.1:9").unwrap();
            assert_eq!(listens(udp, 85, "", false), None);
            let stream = TcpStream::connect("127.0.0.1:80").unwrap();
            let own = stream.local_addr().unwrap().port();
            assert_eq!(listens(tcp, own, "", false), None);
        });
    }

    #[test]
    fn lines_of_sctp_are_read() {
        let line = "       0        0 10  10  41   3868     0  2215 10.0.0.1 *fd00::1 ";
        let found: Vec<_> = sctp(line)
            .into_iter()
            .map(|s| (s.ip, s.port, s.inode))
            .collect();
        let ip = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            found,
            [(ip("10.0.0.1"), 3868, 2215), (ip("fd00::1"), 3868, 2215)]
        );
        assert_eq!(sctp("0 0 10 7 41 3868 0 2215 10.0.0.1"), []);
        for bad in ["", "x", "0 0 10 10 41 99999 0 1 ::", "0 0 10 10 41"] {
            assert_eq!(sctp(bad), [], "{bad}");
        }
    }

    #[test]
    fn a_line_that_makes_no_sense_is_none() {
        for bad in [
            "",
            "0: x",
            "0: 0100007F:0050 0 0A",
            "0: 01:0050 x 0A 0 0 0 0 0 1",
            "0: é:1 x 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(inet(bad), None, "{bad}");
        }
    }
}
