//! Kernel settings (`/proc/sys/net`): forwarding, and what would get in its way.

use crate::reconcile::{Actual, Kernel, Kind, Refused, Wanted};
use crate::sysctl;

/// A setting, in the order in which they are set: what drags others along comes before those.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting {
    rank: usize,
    key: String,
}

/// The settings of a node.
#[derive(Debug)]
pub(super) struct Settings {
    /// Those of this interface go with it; of others it is kept what they were.
    pub(super) interface: String,
    /// `accept_ra` of the underlay.
    accept_ra: String,
}

/// A forwarding node accepts router advertisements with this value only.
const ACCEPT_FORWARDING: &str = "2";

impl Settings {
    pub(super) fn new(interface: &str, underlay: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            accept_ra: format!("ipv6/conf/{underlay}/accept_ra"),
        }
    }

    /// What is wanted for these families; with `localnet` packets to 127.0.0.1 come back by the interface
    /// translated.
    pub(super) fn wanted(&self, v4: bool, v6: bool, localnet: bool) -> Vec<(Setting, String)> {
        let mut all: Vec<(String, &str)> = Vec::new();
        let name = &self.interface;
        let v4_of = |key: &str| format!("ipv4/conf/{name}/{key}");
        let v6_of = |key: &str| format!("ipv6/conf/{name}/{key}");
        if v4 {
            all.extend([
                ("ipv4/ip_forward".to_owned(), "1"),
                // Dragged along by the one above, and off by itself if somebody turns it off here.
                (v4_of("forwarding"), "1"),
                // The effective value is the larger of all and the interface's own: 2
                // (loose) is the largest, so it holds whatever `all` says. Replies that
                // a DNAT brought here come with sources the strict mode may not expect.
                (v4_of("rp_filter"), "2"),
                // Effective if either is set, so both have to be off: pods behind one
                // interface would be told to talk to each other directly. Other
                // interfaces keep their own value, which is on by default.
                (v4_of("send_redirects"), "0"),
                ("ipv4/conf/all/send_redirects".to_owned(), "0"),
                // The switch sends ICMP errors from the gateway's address, which is the
                // node's own; a packet from an own address is a martian otherwise, and
                // the node would never learn a path's MTU. Nobody else can send from it:
                // the switch knows where every other source belongs.
                (v4_of("accept_local"), "1"),
            ]);
            if localnet {
                // A process of the node may use 127.0.0.1 for a host port; answers to that come by here.
                all.push((v4_of("route_localnet"), "1"));
            }
        }
        if v6 {
            all.extend([
                // Without link-local address the node sends no router or listener messages,
                // and no redirects, by this interface.
                (v6_of("disable_ipv6"), "0"),
                (v6_of("addr_gen_mode"), "1"),
                (v6_of("accept_ra"), "0"),
                (v6_of("accept_dad"), "0"),
                // A forwarding node ignores router advertisements unless told
                // otherwise: the underlay would lose its default route.
                (self.accept_ra.clone(), ACCEPT_FORWARDING),
                ("ipv6/conf/all/forwarding".to_owned(), "1"),
                (v6_of("forwarding"), "1"),
            ]);
        } else {
            all.push((v6_of("disable_ipv6"), "1"));
        }
        let ranked = all.into_iter().enumerate();
        ranked
            .map(|(rank, (key, value))| (Setting { rank, key }, value.to_owned()))
            .collect()
    }

    /// Whether router advertisements are accepted as they were before: `accept_ra` of a node that has forwarded
    /// already is its administrator's, and one that accepts none, or already accepts them while it forwards, needs
    /// nothing.
    fn is_accept_ra_right(&self, now: &str, kernel: &Kernel<'_>) -> Result<bool, Refused> {
        let ours =
            kernel.before.keeps(&self.accept_ra) || sysctl::get("ipv6/conf/all/forwarding")? != "1";
        Ok(!ours || now != "1")
    }
}

impl Kind for Settings {
    const NAME: &'static str = "settings";
    type Key = Setting;
    type Value = String;

    fn thing(&self, setting: &Setting) -> String {
        format!("setting {}", setting.key)
    }

    fn list(
        &mut self,
        kernel: &mut Kernel<'_>,
        wanted: &Wanted<Setting, String>,
        _: bool,
        each: &mut dyn FnMut(Setting, Actual<String>),
    ) -> Result<(), Refused> {
        for (setting, value) in wanted.iter() {
            let now = match sysctl::get(&setting.key) {
                Ok(now) => now,
                // A kernel without IPv6 has it switched off.
                Err(e)
                    if e.is_missing() && setting.key.ends_with("disable_ipv6") && value == "1" =>
                {
                    value.clone()
                }
                // Whoever sets it is told why not.
                Err(_) => continue,
            };
            let as_wanted =
                setting.key == self.accept_ra && self.is_accept_ra_right(&now, kernel)?;
            let value = if as_wanted { value.clone() } else { now };
            let protocol = None;
            each(setting.clone(), Actual { value, protocol });
        }
        Ok(())
    }

    /// Forwarding of all interfaces is that of each.
    fn followed(&mut self, setting: &Setting, value: &String) -> bool {
        sysctl::get(&setting.key).is_ok_and(|now| now == *value)
    }

    fn set(
        &mut self,
        kernel: &mut Kernel<'_>,
        setting: &Setting,
        value: &String,
        _: Option<&String>,
    ) -> Result<(), Refused> {
        let own = format!("/{}/", self.interface);
        if setting.key.contains(&own) {
            sysctl::set(&setting.key, value)?;
        } else {
            kernel.before.set(&setting.key, value)?;
        }
        Ok(())
    }

    /// It is left as it is: what it was before it was wanted nobody knows, and our own interface's do no harm.
    fn remove(&mut self, _: &mut Kernel<'_>, _: &Setting, _: &String) -> Result<(), Refused> {
        Ok(())
    }
}
