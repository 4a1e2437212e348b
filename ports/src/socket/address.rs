//! Socket addresses as the kernel lays them out.

use super::Dest;

/// A `sockaddr_in` or `sockaddr_in6`, chosen by its family field.
#[derive(Copy, Clone)]
#[repr(C)]
pub(super) union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    pub(super) const SIZE: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

    pub(super) const fn empty() -> Name {
        // SAFETY: all members are integers, for which zeroes are valid.
        unsafe { std::mem::zeroed() }
    }

    /// The name of `dest` for a socket of the family `v6` says, and its length.
    #[inline]
    pub(super) fn of(dest: Dest, v6: bool, scope: u32) -> (Name, libc::socklen_t) {
        let mut name = Name::empty();
        if v6 {
            name.v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: dest.port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: dest.addr.to_be_bytes(),
                },
                sin6_scope_id: scope,
            };
            (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        } else {
            name.v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: dest.port.to_be(),
                sin_addr: libc::in_addr {
                    s_addr: (dest.addr as u32).to_be(),
                },
                sin_zero: [0; 8],
            };
            (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
    }

    /// Address and port, if the family is one of the two.
    #[inline]
    pub(super) fn dest(&self) -> Option<Dest> {
        // SAFETY: every bit pattern is a valid integer, and the union is always fully initialised.
        let family = i32::from(unsafe { self.family });
        match family {
            libc::AF_INET => {
                // SAFETY: as above; the family says which member the kernel wrote.
                let v4 = unsafe { self.v4 };
                let addr = 0xffff_0000_0000 | u128::from(u32::from_be(v4.sin_addr.s_addr));
                Some(Dest {
                    addr,
                    port: u16::from_be(v4.sin_port),
                })
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                Some(Dest {
                    addr: u128::from_be_bytes(v6.sin6_addr.s6_addr),
                    port: u16::from_be(v6.sin6_port),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn goes_to_the_kernels_form_and_back() {
        for (text, v6) in [("10.1.2.3:8472", false), ("[fd00::1]:4789", true)] {
            let dest = Dest::from(text.parse::<SocketAddr>().unwrap());
            assert_eq!(Name::of(dest, v6, 0).0.dest(), Some(dest));
        }
        assert_eq!(Name::empty().dest(), None);
    }
}
