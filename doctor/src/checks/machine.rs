//! The machine: underlay, ports, firewall, disk, permissions, clock.

use crate::{Asking, Finding, Observed, Rank, Severity};

use super::{Found, broken};

/// With less than this free, the next state may not fit.
const LITTLE: u64 = 1 << 20;
/// 2020: a machine without a clock battery starts in 1970.
const PLAUSIBLE: u64 = 1_577_836_800;

pub(super) fn check(seen: &Observed, found: &mut Found) {
    let machine = &seen.machine;
    for other in &machine.others {
        found.push(
            match seen.asked() {
                None => Rank::Start,
                Some(_) => Rank::Underlay,
            },
            Finding {
                evidence: vec![format!("UDP port {} belongs to {}", other.port, other.who)],
                remedy: "end it, or give Ringway another port on all nodes (underlay.vxlan_port, udp_port)".into(),
                commands: vec![other.command.clone()],
                ..broken(
                    "port_taken",
                    format!("The tunnels' UDP port {} is taken by somebody else", other.port),
                )
            },
        );
    }
    for rule in &machine.blocked {
        let partly = match rule.partly {
            true => " of some packets",
            false => "",
        };
        found.push(
            Rank::Underlay,
            Finding {
                severity: if rule.partly { Severity::Warning } else { Severity::Broken },
                evidence: vec![format!("{}: {}", rule.place, rule.rule)],
                remedy: "take the rule out where it comes from, or let that port through before it".into(),
                commands: vec![rule.command.clone()],
                ..broken(
                    "firewall",
                    format!("A firewall of this node drops UDP port {}{partly}, by which pods' packets go to other nodes and come from them", rule.port),
                )
            },
        );
    }
    if let (Some(name), Some(fault)) = (&machine.underlay, &machine.underlay_fault) {
        found.push(
            Rank::Underlay,
            Finding {
                evidence: vec![format!("{name} {fault}")],
                remedy: "see cable, switch port and who configures it".into(),
                commands: vec![format!("ip -d link show {name}"), format!("ethtool {name}")],
                ..broken(
                    "underlay",
                    format!("The underlay's interface {name} carries nothing: no pod reaches another node"),
                )
            },
        );
    }
    if let Some(why) = &machine.no_tun {
        found.push(
            Rank::Start,
            Finding {
                evidence: vec![format!("/dev/net/tun: {why}")],
                remedy: "load the module tun; in a container, give it the device".into(),
                commands: vec!["modprobe tun".into()],
                ..broken(
                    "tun",
                    "No pod can get an interface: /dev/net/tun cannot be opened".into(),
                )
            },
        );
    }
    state_dir(seen, found);
    if let (Some(first), Some(asked)) = (machine.cni_before_ours.first(), seen.asked()) {
        found.push(
            Rank::Hint,
            Finding {
                severity: Severity::Warning,
                evidence: vec![format!(
                    "{} is read before Ringway's file in {}",
                    machine.cni_before_ours.join(", "),
                    machine.cni_dir
                )],
                remedy: "remove it, with whoever writes it: new pods get their network from there"
                    .into(),
                commands: vec![format!("ls {}", machine.cni_dir)],
                ..broken(
                    "other_cni",
                    format!(
                        "Another network configuration ({first}) comes before Ringway's on {}",
                        asked.status.node
                    ),
                )
            },
        );
    }
    if machine.clock_s < PLAUSIBLE {
        found.push(
            Rank::Hint,
            Finding {
                severity: Severity::Warning,
                evidence: vec![format!("{} s since 1970", machine.clock_s)],
                remedy: "set the clock: certificates are judged by it".into(),
                commands: vec!["timedatectl status".into()],
                ..broken("clock", "The clock of this machine is wrong".into())
            },
        );
    }
}

/// Where the agent has not noticed yet, as it writes only when something changes.
fn state_dir(seen: &Observed, found: &mut Found) {
    let Some((dir, free)) = &seen.machine.state_dir else {
        return;
    };
    let noticed = match &seen.agent {
        Asking::Answered(asked) => asked.status.state_error.is_some(),
        Asking::Absent(_) => false,
    };
    let (cause, evidence) = match free {
        _ if noticed => return,
        Ok(free) if *free >= LITTLE => return,
        Ok(free) => (
            "The disk under the state directory is full: no pod can be added or removed",
            format!("{dir} has {free} bytes left"),
        ),
        Err(why) => (
            "The state directory cannot be used: no pod can be added or removed",
            format!("{dir}: {why}"),
        ),
    };
    found.push(
        Rank::Underlay,
        Finding {
            evidence: vec![evidence],
            remedy: "make room there; the agent writes again by itself".into(),
            commands: vec![format!("df -h {dir}; df -i {dir}")],
            ..broken("state", cause.into())
        },
    );
}
