//! Features of a network interface, as `ethtool -k` shows and `ethtool -K` sets them
//! (linux/ethtool.h; `SIOCETHTOOL`).
//!
//! The kernel names features by strings and numbers them by position, and the numbers differ between
//! versions, so the names are asked for first.

use std::io;
use std::os::fd::AsFd;

use crate::sys;

/// Receive offload: the kernel puts packets of one flow together before anybody looks at them.
pub const GRO: &str = "rx-gro";
/// Receive offload of UDP for whoever comes last: on a veth, what has been sent by a socket is put
/// together again only with this.
pub const UDP_GRO_FORWARDING: &str = "rx-udp-gro-forwarding";

const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const SS_FEATURES: u32 = 4;
const NAME_LEN: usize = 32;
/// More feature strings than any kernel has (6.18: 66).
const MAX_FEATURES: usize = 512;

/// Turns features on and returns those that were off before and are on now. A feature that the
/// kernel does not know, or that the device cannot change, is left out.
///
/// # Errors
/// There is no such interface, or `CAP_NET_ADMIN` is missing.
pub fn turn_on<'a>(interface: &str, features: &[&'a str]) -> io::Result<Vec<&'a str>> {
    let names = names(interface)?;
    let mut changed = Vec::new();
    for feature in features {
        let Some(bit) = names.iter().position(|name| name == feature) else {
            continue;
        };
        if active(interface, bit, names.len())? {
            continue;
        }
        set(interface, bit, names.len())?;
        if active(interface, bit, names.len())? {
            changed.push(*feature);
        }
    }
    Ok(changed)
}

fn names(interface: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: cmd, reserved, u64 mask, data[0] = count
    let mut info = [GSSET_INFO, 0, 1 << SS_FEATURES, 0, 0];
    call(interface, &mut info)?;
    let count = (info[4] as usize).min(MAX_FEATURES);
    // struct ethtool_gstrings: cmd, string_set, len, data
    let mut strings = vec![0u32; 3 + count * NAME_LEN / 4];
    (strings[0], strings[1], strings[2]) = (GSTRINGS, SS_FEATURES, count as u32);
    call(interface, &mut strings)?;
    let bytes: Vec<u8> = strings[3..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    Ok(bytes
        .chunks_exact(NAME_LEN)
        .map(|name| {
            String::from_utf8_lossy(name)
                .trim_end_matches('\0')
                .to_owned()
        })
        .collect())
}

fn active(interface: &str, bit: usize, count: usize) -> io::Result<bool> {
    // struct ethtool_gfeatures: cmd, size, then blocks of available, requested, active, never_changed
    let blocks = count.div_ceil(32);
    let mut request = vec![0u32; 2 + blocks * 4];
    (request[0], request[1]) = (GFEATURES, blocks as u32);
    call(interface, &mut request)?;
    Ok(request[2 + bit / 32 * 4 + 2] & (1 << (bit % 32)) != 0)
}

fn set(interface: &str, bit: usize, count: usize) -> io::Result<()> {
    // struct ethtool_sfeatures: cmd, size, then blocks of valid, requested
    let blocks = count.div_ceil(32);
    let mut request = vec![0u32; 2 + blocks * 2];
    (request[0], request[1]) = (SFEATURES, blocks as u32);
    let mask = 1 << (bit % 32);
    (request[2 + bit / 32 * 2], request[3 + bit / 32 * 2]) = (mask, mask);
    call(interface, &mut request)
}

/// One `SIOCETHTOOL`. `request` is a struct of linux/ethtool.h that is made of 32-bit words and has
/// room for the kernel's answer, as the callers above have sized it.
fn call(interface: &str, request: &mut [u32]) -> io::Result<()> {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: an ifreq of zeroes is valid.
    let mut argument: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= argument.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in argument.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    argument.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: SIOCETHTOOL takes an ifreq whose data points to a struct that begins with the command;
    // it is alive over the call, and the kernel writes only as many words as its size fields allow,
    // which are those of `request`. There is no safe interface to it in the standard library.
    unsafe { sys::ioctl_ref(socket.as_fd(), libc::SIOCETHTOOL, &mut argument) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_the_features_and_nobody_else_is_asked() {
        let names = names("lo").unwrap();
        assert!(
            names.iter().any(|n| n == GRO) && names.iter().any(|n| n == UDP_GRO_FORWARDING),
            "{names:?}"
        );
        assert!(
            active(
                "lo",
                names.iter().position(|n| n == GRO).unwrap(),
                names.len()
            )
            .is_ok()
        );
        let error = turn_on("no-such-if", &[GRO]).unwrap_err();
        assert_eq!(sys::errno(&error), libc::ENODEV);
        assert!(turn_on("a-name-that-is-too-long-for-linux", &[GRO]).is_err());
        assert!(turn_on("lo", &["no-such-feature"]).unwrap().is_empty());
    }
}
