//! Features of a network interface, as `ethtool -k` shows and `ethtool -K` sets them, its queues
//! (`ethtool -l`) and its driver (`ethtool -i`): linux/ethtool.h, `SIOCETHTOOL`.
//!
//! An interface is looked up in the network namespace of the calling thread.
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

const GDRVINFO: u32 = 0x3;
const GLINK: u32 = 0xa;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const GCHANNELS: u32 = 0x3c;
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
    turn(interface, features, true)
}

/// Turns features off and returns those that were on before and are off now, as [`turn_on`].
///
/// # Errors
/// As there.
pub fn turn_off<'a>(interface: &str, features: &[&'a str]) -> io::Result<Vec<&'a str>> {
    turn(interface, features, false)
}

fn turn<'a>(interface: &str, features: &[&'a str], on: bool) -> io::Result<Vec<&'a str>> {
    let names = names(interface)?;
    let mut changed = Vec::new();
    for feature in features {
        let Some(bit) = names.iter().position(|name| name == feature) else {
            continue;
        };
        if active(interface, bit, names.len())? == on {
            continue;
        }
        set(interface, bit, names.len(), on)?;
        if active(interface, bit, names.len())? == on {
            changed.push(*feature);
        }
    }
    Ok(changed)
}

/// Queues of an interface, by what shares an interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Channels that only receive.
    pub rx: u32,
    /// Channels that only transmit.
    pub tx: u32,
    /// Channels that do both.
    pub combined: u32,
    /// Most that `rx` can be set to.
    pub max_rx: u32,
    /// Most that `tx` can be set to.
    pub max_tx: u32,
    /// Most that `combined` can be set to.
    pub max_combined: u32,
}

impl Channels {
    /// Receive queues in use, numbered from 0.
    pub fn rx_queues(&self) -> u32 {
        self.rx + self.combined
    }

    /// Transmit queues in use, numbered from 0.
    pub fn tx_queues(&self) -> u32 {
        self.tx + self.combined
    }
}

/// The queues in use; `None` when the driver does not say, as TAPs and lo do not.
///
/// # Errors
/// There is no such interface.
pub fn channels(interface: &str) -> io::Result<Option<Channels>> {
    // struct ethtool_channels: cmd, max_rx, max_tx, max_other, max_combined, then the four counts
    let mut request = [GCHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
    if !supported(call(interface, &mut request))? {
        return Ok(None);
    }
    let [_, max_rx, max_tx, _, max_combined, rx, tx, _, combined] = request;
    Ok(Some(Channels {
        rx,
        tx,
        combined,
        max_rx,
        max_tx,
        max_combined,
    }))
}

/// Whether it has a carrier, which a TAP has while a process has a queue of it open.
///
/// # Errors
/// There is no such interface.
pub fn has_carrier(interface: &str) -> io::Result<bool> {
    // struct ethtool_value: cmd, data
    let mut request = [GLINK, 0];
    Ok(supported(call(interface, &mut request))? && request[1] != 0)
}

/// Name of the driver, such as `ixgbe` or `veth`; `None` for a device that has none.
///
/// # Errors
/// There is no such interface.
pub fn driver(interface: &str) -> io::Result<Option<String>> {
    // struct ethtool_drvinfo: cmd, then driver[32] and what else there is: 196 bytes
    let mut request = [0u32; 196 / 4];
    request[0] = GDRVINFO;
    if !supported(call(interface, &mut request))? {
        return Ok(None);
    }
    let name = text(&request[1..1 + NAME_LEN / 4]);
    Ok(Some(name).filter(|n| !n.is_empty()))
}

/// False when the driver has no answer to the request.
fn supported(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(e) if sys::errno(&e) == libc::EOPNOTSUPP => Ok(false),
        Err(e) => Err(e),
    }
}

/// A string that ends at its first zero or with the words.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
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
    Ok(strings[3..].chunks_exact(NAME_LEN / 4).map(text).collect())
}

fn active(interface: &str, bit: usize, count: usize) -> io::Result<bool> {
    // struct ethtool_gfeatures: cmd, size, then blocks of available, requested, active, never_changed
    let blocks = count.div_ceil(32);
    let mut request = vec![0u32; 2 + blocks * 4];
    (request[0], request[1]) = (GFEATURES, blocks as u32);
    call(interface, &mut request)?;
    Ok(request[2 + bit / 32 * 4 + 2] & (1 << (bit % 32)) != 0)
}

fn set(interface: &str, bit: usize, count: usize, on: bool) -> io::Result<()> {
    // struct ethtool_sfeatures: cmd, size, then blocks of valid, requested
    let blocks = count.div_ceil(32);
    let mut request = vec![0u32; 2 + blocks * 2];
    (request[0], request[1]) = (SFEATURES, blocks as u32);
    let mask = 1 << (bit % 32);
    request[2 + bit / 32 * 2] = mask;
    request[3 + bit / 32 * 2] = if on { mask } else { 0 };
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
    // it is alive over the call, and the kernel writes only the struct of that command with as many words
    // behind it as its size fields allow, for which the callers have made `request` large enough. There is no safe interface to it in the standard library.
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

    #[test]
    fn what_a_device_does_not_say_is_none() {
        assert_eq!(channels("lo").unwrap(), None);
        assert_eq!(driver("lo").unwrap(), None);
        for error in [
            channels("no-such-if").unwrap_err(),
            driver("no-such-if").unwrap_err(),
        ] {
            assert_eq!(sys::errno(&error), libc::ENODEV);
        }
    }

    #[test]
    fn a_text_ends_at_its_zero_or_with_its_words() {
        let words = [u32::from_ne_bytes(*b"veth"), u32::from_ne_bytes(*b"\0xyz")];
        assert_eq!(text(&words), "veth");
        assert_eq!(text(&words[..1]), "veth");
        assert_eq!(text(&[]), "");
    }
}
