//! VXLAN header, RFC 7348 §5.
//!
//! ```text
//! | R R R R I R R R | reserved 24 |   flags: I = VNI is valid
//! | VNI 24                | res 8 |
//! ```
//! Reserved bits are sent as zero and ignored on receipt, as the RFC demands.

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// Largest VNI (24 bits).
pub const VNI_MAX: u32 = 0x00ff_ffff;
/// IANA's port; Linux and Flannel default to [`LINUX_PORT`].
pub const IANA_PORT: u16 = 4789;
/// Port of a Linux VXLAN device that was given none, and so of Flannel.
pub const LINUX_PORT: u16 = 8472;

/// The I flag in the first byte.
const FLAG_VNI: u8 = 0x08;

/// Why bytes are not a VXLAN header.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum VxlanError {
    /// Fewer than [`HEADER_LEN`] bytes.
    #[error("VXLAN header needs {HEADER_LEN} bytes, {len} there")]
    Truncated {
        /// Bytes there.
        len: usize,
    },
    /// The I flag is clear: the VNI is not valid (RFC 7348 §5).
    #[error("VXLAN flags {flags:#04x} lack the I flag (0x08): no valid VNI")]
    NoVni {
        /// First byte of the header.
        flags: u8,
    },
}

/// Writes a header. Bits of `vni` above 24 are cut off.
#[inline]
pub fn write(vni: u32, out: &mut [u8; HEADER_LEN]) {
    out[..4].copy_from_slice(&[FLAG_VNI, 0, 0, 0]);
    out[4..].copy_from_slice(&((vni & VNI_MAX) << 8).to_be_bytes());
}

/// Reads the header at the start of `bytes` and returns its VNI.
#[inline]
pub fn read(bytes: &[u8]) -> Result<u32, VxlanError> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Err(VxlanError::Truncated { len: bytes.len() });
    };
    if header[0] & FLAG_VNI == 0 {
        return Err(VxlanError::NoVni { flags: header[0] });
    }
    Ok(u32::from_be_bytes([0, header[4], header[5], header[6]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_header_of_vni_1() {
        let mut out = [0xff; 8];
        write(1, &mut out);
        assert_eq!(out, [0x08, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(read(&out), Ok(1));
    }

    #[test]
    fn largest_vni_and_no_overflow_into_reserved() {
        let mut out = [0; 8];
        write(VNI_MAX, &mut out);
        assert_eq!(out, [0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
        write(0x0100_0002, &mut out);
        assert_eq!(read(&out), Ok(2));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let noisy = [0xff, 0xff, 0xff, 0xff, 0x12, 0x34, 0x56, 0xff, 0xaa];
        assert_eq!(read(&noisy), Ok(0x0012_3456));
    }

    #[test]
    fn refuses_every_truncation_and_a_missing_flag() {
        let good = [0x08, 0, 0, 0, 0, 0, 1, 0];
        for len in 0..8 {
            assert_eq!(read(&good[..len]), Err(VxlanError::Truncated { len }));
        }
        let mut bad = good;
        bad[0] = 0xf7;
        assert_eq!(read(&bad), Err(VxlanError::NoVni { flags: 0xf7 }));
    }
}
