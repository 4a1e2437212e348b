//! What the driver of an interface can do for XDP and AF_XDP, from its own mouth.
//!
//! Generic netlink has no fixed numbers: the controller (`ctrl`, always 16) is asked for the number
//! of the family `netdev` first, then `netdev` for the interface (`dev-get`). Constants are those of
//! linux/netdev.h and linux/genetlink.h; Documentation/netlink/specs/netdev.yaml describes them.
//! The family came with Linux 6.3, `xdp-zc-max-segs` with 6.6, `xsk-features` with 6.8; what is
//! older says less, which reads as "cannot".
//!
//! A bit says what the driver implements, not that it works now: a veth has `redirect` always, and
//! can be sent to (`ndo-xmit`) only while its other end runs NAPI.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
    Nla, NlasIterator,
};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::NetlinkError;
use super::exchange::Exchange;

/// `GENL_ID_CTRL`.
const CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;

/// Version of both families, in every request.
const VERSION: u8 = 1;

/// Features of one interface. The bits are `enum netdev_xdp_act` and `enum netdev_xsk_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// `xdp-features` as they came; the methods name the bits.
    pub bits: u64,
    /// `xdp-zc-max-segs`: buffers of one packet in zero-copy mode. 1 without multi-buffer; `None`
    /// where there is no zero-copy.
    pub zero_copy_segments: Option<u32>,
    /// `xsk-features` as they came.
    pub xsk_bits: u64,
}

impl XdpFeatures {
    /// Asks for the features of the interface with this index in the calling thread's namespace;
    /// `None` when this kernel (before 6.3) cannot tell.
    ///
    /// # Errors
    /// ENODEV: there is no such interface.
    pub fn of(index: u32) -> Result<Option<Self>, NetlinkError> {
        let mut exchange = Exchange::open(NETLINK_GENERIC)?;
        let Some(family) = family(&mut exchange, "netdev")? else {
            return Ok(None);
        };
        let request = Message {
            family,
            command: NETDEV_CMD_DEV_GET,
            attributes: vec![DefaultNla::new(
                NETDEV_A_DEV_IFINDEX,
                index.to_ne_bytes().to_vec(),
            )],
        };
        let what = || format!("asking for the XDP features of interface {index}");
        let answers = exchange.request(what, request, 0)?;
        let Some(answer) = answers.first() else {
            return Err(NetlinkError::Answer {
                what: what(),
                detail: "an acknowledgement only".into(),
            });
        };
        Ok(Some(Self {
            bits: answer.number(NETDEV_A_DEV_XDP_FEATURES).unwrap_or(0),
            zero_copy_segments: answer
                .number(NETDEV_A_DEV_XDP_ZC_MAX_SEGS)
                .map(|n| n as u32),
            xsk_bits: answer.number(NETDEV_A_DEV_XSK_FEATURES).unwrap_or(0),
        }))
    }

    /// `NETDEV_XDP_ACT_BASIC`: programs run in the driver.
    pub fn basic(self) -> bool {
        self.bits & 1 != 0
    }

    /// `NETDEV_XDP_ACT_REDIRECT`: to other interfaces and to AF_XDP sockets.
    pub fn redirect(self) -> bool {
        self.bits & 2 != 0
    }

    /// `NETDEV_XDP_ACT_NDO_XMIT`: others can redirect to it.
    pub fn ndo_xmit(self) -> bool {
        self.bits & 4 != 0
    }

    /// `NETDEV_XDP_ACT_XSK_ZEROCOPY`: AF_XDP without a copy.
    pub fn zero_copy(self) -> bool {
        self.bits & 8 != 0
    }

    /// `NETDEV_XDP_ACT_RX_SG`: packets in several buffers come in.
    pub fn rx_sg(self) -> bool {
        self.bits & 32 != 0
    }

    /// `NETDEV_XDP_ACT_NDO_XMIT_SG`: packets in several buffers can be redirected to it.
    pub fn ndo_xmit_sg(self) -> bool {
        self.bits & 64 != 0
    }

    /// `NETDEV_XSK_FLAGS_TX_CHECKSUM`: the device fills a checksum in on request.
    pub fn tx_checksum(self) -> bool {
        self.xsk_bits & 2 != 0
    }
}

/// Number of a generic netlink family; `None` when the kernel has none of that name.
fn family(exchange: &mut Exchange, name: &str) -> Result<Option<u16>, NetlinkError> {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    let request = Message {
        family: CTRL,
        command: CTRL_CMD_GETFAMILY,
        attributes: vec![DefaultNla::new(CTRL_ATTR_FAMILY_NAME, value)],
    };
    let what = || format!("asking for the generic netlink family {name}");
    match exchange.request(what, request, 0) {
        Ok(answers) => match answers.iter().find_map(|m| m.number(CTRL_ATTR_FAMILY_ID)) {
            Some(id) => Ok(Some(id as u16)),
            None => Err(NetlinkError::Answer {
                what: what(),
                detail: "no family id in it".into(),
            }),
        },
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A generic netlink message: `struct genlmsghdr` (command, version, two bytes of zero), then
/// attributes.
struct Message {
    family: u16,
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl Message {
    /// Value of an unsigned attribute of any width.
    fn number(&self, kind: u16) -> Option<u64> {
        let attribute = self.attributes.iter().find(|a| a.kind() == kind)?;
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        Some(match value.len() {
            2 => u16::from_ne_bytes(value.try_into().ok()?).into(),
            4 => u32::from_ne_bytes(value.try_into().ok()?).into(),
            8 => u64::from_ne_bytes(value.try_into().ok()?),
            _ => return None,
        })
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        4 + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..4].copy_from_slice(&[self.command, VERSION, 0, 0]);
        self.attributes.as_slice().emit(&mut buffer[4..]);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some((&[command, _, _, _], rest)) = payload.split_first_chunk::<4>() else {
            return Err(DecodeError::buffer_too_small(payload.len(), 4));
        };
        let attributes = NlasIterator::new(rest)
            .map(|nla| nla.map(|nla| DefaultNla::new(nla.kind(), nla.value().to_vec())))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            family: header.message_type,
            command,
            attributes,
        })
    }
}
