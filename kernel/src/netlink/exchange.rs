//! One request, its answers, its acknowledgement: what every netlink family has in common.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

use super::NetlinkError;

/// Size of the receive buffer: the kernel fills a dump message with at most
/// 32 KB (`NLMSG_GOODSIZE` and `netlink_dump`'s upper bound).
const BUFFER: usize = 64 * 1024;
/// Dump messages read before the answer is given up as endless.
const MAX_DUMP_MESSAGES: usize = 65_536;

/// A netlink socket in the namespace of the thread that opened it.
pub(super) struct Exchange {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Exchange {
    /// Opens a socket of a netlink protocol (`NETLINK_ROUTE`, …) in the calling thread's network
    /// namespace.
    pub(super) fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(protocol).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(NetlinkError::Socket)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Has the kernel take filters of dumps (`NETLINK_GET_STRICT_CHK`, Linux 4.20); false if it does not.
    pub(super) fn set_strict(&mut self) -> bool {
        self.socket.set_netlink_get_strict_chk(true).is_ok()
    }

    /// Sends one request and waits for its acknowledgement; messages that come
    /// before it are returned.
    pub(super) fn request<M>(
        &mut self,
        what: impl Fn() -> String,
        message: M,
        flags: u16,
    ) -> Result<Vec<M>, NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut answers = Vec::new();
        self.request_each(what, message, flags, |answer| answers.push(answer))?;
        Ok(answers)
    }

    /// The same, with every message given to `each` as it comes: a dump may have a hundred thousand.
    pub(super) fn request_each<M>(
        &mut self,
        what: impl Fn() -> String,
        message: M,
        flags: u16,
        mut each: impl FnMut(M),
    ) -> Result<(), NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags | if dump { 0 } else { NLM_F_ACK };
        self.sequence = self.sequence.wrapping_add(1);
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        let io = |source| NetlinkError::Io {
            what: what(),
            source,
        };
        self.socket.send(&bytes, 0).map_err(io)?;

        for _ in 0..MAX_DUMP_MESSAGES {
            let n = match self.socket.recv(&mut &mut self.buffer[..], 0) {
                Ok(n) => n.min(BUFFER),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(io(e)),
            };
            if self.take(&what, n, &mut each)? {
                return Ok(());
            }
        }
        Err(NetlinkError::Answer {
            what: what(),
            detail: format!("no end after {MAX_DUMP_MESSAGES} messages"),
        })
    }

    /// Reads the messages in the first `n` bytes of the buffer; true when the
    /// request is answered.
    fn take<M: NetlinkDeserializable>(
        &self,
        what: &impl Fn() -> String,
        n: usize,
        each: &mut impl FnMut(M),
    ) -> Result<bool, NetlinkError> {
        let mut rest = &self.buffer[..n];
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let sequence = u32::from_ne_bytes([rest[8], rest[9], rest[10], rest[11]]);
            if length < 16 || length > rest.len() {
                return Err(NetlinkError::Answer {
                    what: what(),
                    detail: format!("message of {length} bytes in {} received", rest.len()),
                });
            }
            let (one, _) = rest.split_at(length);
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            // A late answer to a request that was given up.
            if sequence != self.sequence {
                continue;
            }
            let parsed =
                NetlinkMessage::<M>::deserialize(one).map_err(|e| NetlinkError::Answer {
                    what: what(),
                    detail: e.to_string(),
                })?;
            match parsed.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(e) if e.code.is_none() => return Ok(true),
                NetlinkPayload::Error(e) => {
                    return Err(NetlinkError::Refused {
                        what: what(),
                        source: e.to_io(),
                    });
                }
                NetlinkPayload::InnerMessage(m) => each(m),
                _ => {}
            }
        }
        Ok(false)
    }
}
