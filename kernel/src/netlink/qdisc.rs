//! Queueing disciplines: whether a link has the one it got by default, and none in its place.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Netlink, NetlinkError};

/// `noqueue_qdisc_ops`, net/sched/sch_generic.c: frames go straight to the driver.
const NOQUEUE: &str = "noqueue";

impl Netlink {
    /// Has a link send without a queueing discipline. On a link that is down it is there before the
    /// default one would be made; one that is up loses what it sends for some milliseconds.
    ///
    /// # Errors
    /// There is no such link, or the kernel has no traffic control (`CONFIG_NET_SCHED`).
    pub fn set_noqueue(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.set_qdisc(index, NOQUEUE)
    }

    /// Has it send by another queueing discipline, with what that takes for settings by default.
    pub fn set_qdisc(&mut self, index: u32, kind: &str) -> Result<(), NetlinkError> {
        let mut message = at_root(index);
        message.attributes = vec![TcAttribute::Kind(kind.to_owned())];
        let what = || format!("setting the queueing discipline {kind} on interface {index}");
        self.request(
            what,
            RouteNetlinkMessage::NewQueueDiscipline(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Whether nobody has chosen how the link queues: what the kernel makes by default
    /// (`net.core.default_qdisc`) has no handle, and before the link is up there is nothing to see.
    ///
    /// # Errors
    /// There is no such link.
    pub fn has_default_qdisc(&mut self, index: u32) -> Result<bool, NetlinkError> {
        let what = || format!("looking up the queueing discipline of interface {index}");
        let request = RouteNetlinkMessage::GetQueueDiscipline(at_root(index));
        // Without it the answer goes to who listens for changes only.
        let answers = self.request(what, request, NLM_F_ECHO)?;
        Ok(answers.iter().all(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(root) => root.header.handle == TcHandle::UNSPEC,
            _ => true,
        }))
    }
}

fn at_root(index: u32) -> TcMessage {
    let mut message = TcMessage::with_index(index as i32);
    message.header.parent = TcHandle::ROOT;
    message
}
