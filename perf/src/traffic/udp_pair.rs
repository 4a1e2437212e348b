//! Two UDP sockets that talk to each other, each in its network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::{Result, TrafficError};
use crate::lab::Netns;

/// A server at `address` in `to`, and a client in `from` that is connected to it.
///
/// # Errors
/// A namespace is gone, or the address is not there.
pub(super) fn udp_pair(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
) -> Result<(UdpSocket, UdpSocket)> {
    let what = || TrafficError::io(format!("open UDP sockets for {address}"));
    let server = to.run(|| UdpSocket::bind((address, 0)))?.map_err(what())?;
    let target = server.local_addr().map_err(what())?;
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = from
        .run(|| {
            let client = UdpSocket::bind((any, 0))?;
            client.connect(target)?;
            Ok::<_, io::Error>(client)
        })?
        .map_err(what())?;
    Ok((server, client))
}
