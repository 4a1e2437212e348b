//! What the node's kernel is asked for, packets apart: links, addresses, routes and neighbours by netlink,
//! network namespaces, settings, and pods' interfaces. It knows neither the agent nor its configuration:
//! who calls says what shall be.

pub mod before;
pub mod bridge;
pub mod gso;
pub mod mac;
pub mod netlink;
pub mod netns;
pub mod network;
pub mod next_hop;
pub mod node;
pub mod pod;
pub mod reconcile;
pub mod rules;
pub mod sysctl;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
