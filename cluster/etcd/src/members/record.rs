//! Records as they were read, and what they are held against.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ringway_cluster::{EncapKind, Node};
use ringway_tables::Cidr;
use serde::{Deserialize, Serialize};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it holds.
    pub(crate) value: String,
    /// Revision at which it was created.
    pub(crate) created: i64,
    /// Revision at which it was last written.
    pub(crate) modified: i64,
    /// Its lease; 0 if it does not expire: a reservation.
    pub(crate) lease: i64,
}

/// All records by the end of their key.
pub(crate) type Records = BTreeMap<String, Record>;

/// What every record is held against.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    /// Key of the own record.
    pub(crate) own: Option<&'a str>,
    /// This node, once it has networks.
    pub(crate) node: Option<&'a Node>,
    /// VXLAN network identifier that everybody has.
    pub(crate) vni: u32,
    /// Backend of the net-conf.
    pub(crate) backend: EncapKind,
    /// Networks of all pods.
    pub(crate) networks: Vec<Cidr>,
    /// This node's outer addresses: no pods' and no peers'.
    pub(crate) reserved: Vec<IpAddr>,
}
