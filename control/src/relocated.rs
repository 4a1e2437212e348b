//! Pods' interfaces that somebody renamed or moved while no agent was there.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringway_kernel::netns::Netns;
use ringway_kernel::pod::interface::{self, Queues};
use ringway_packet::mac::MacAddr;

use crate::state::PodRecord;

/// Interfaces of this agent's by MAC address, namespace and name; looked for when first asked for.
pub(super) type Places = LazyCell<
    BTreeMap<MacAddr, Vec<(PathBuf, String)>>,
    Box<dyn FnOnce() -> BTreeMap<MacAddr, Vec<(PathBuf, String)>>>,
>;

/// Those with this alias.
pub(super) fn places(alias: String) -> Places {
    LazyCell::new(Box::new(move || interface::everywhere(&alias)))
}

/// The queues of a pod's interface that somebody renamed or moved, if it is found by its MAC address: in its
/// own namespace, else in any other by this agent's alias, for another node may have the same addresses.
pub(super) fn relocated(
    name: &str,
    record: &PodRecord,
    places: &Places,
    workers: usize,
) -> Option<Queues> {
    let open = |path: &Path, ifname: &str| {
        let netns = Netns::open(path).ok()?;
        // A TAP, so not what somebody else gave the same address.
        let queues = interface::reopen(&netns, ifname, record.multi_queue, workers).ok()?;
        tracing::info!(
            pod = name,
            namespace = %path.display(),
            "its {} is called {ifname} now",
            record.ifname
        );
        Some(queues)
    };
    let own = interface::links(&Netns::open(&record.netns).ok()?);
    let own = own.iter().filter(|link| link.mac == Some(record.mac));
    own.into_iter()
        .find_map(|link| open(&record.netns, &link.name))
        .or_else(|| {
            let others = places.get(&record.mac)?;
            others.iter().find_map(|(path, ifname)| open(path, ifname))
        })
}
