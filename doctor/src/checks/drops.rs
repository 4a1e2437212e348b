//! What is lost, by reason.
//!
//! Some reasons are a fault wherever they occur; others come with ordinary life, such as packets to a pod that has
//! just gone, and are worth a word only when there are many.

use ringway_control::view::{Drop, DropAt, KernelLoss, rates};
use ringway_switch::DropReason;

use crate::{About, Asked, Finding, Rank, Severity};

use super::{Found, broken};

/// Of what is a fault: the last one may be as old as this.
const RECENT_MS: u64 = 60_000;
/// Of what comes with ordinary life: as many a second.
const MANY: f64 = 10.0;
/// Findings about losses of the kernel.
const KERNEL: usize = 3;

/// How a reason is judged.
enum Kind {
    /// Something is set up wrongly: said when seen lately, at this rank.
    Fault(Rank),
    /// Said when there are many.
    Ordinary,
    /// Something else says it better, or it says nothing.
    Silent,
}

fn kind(reason: DropReason) -> Kind {
    use DropReason as R;
    match reason {
        R::UnderlayDenied => Kind::Fault(Rank::Underlay),
        R::OuterChecksum => Kind::Fault(Rank::Corrupted),
        R::UnknownVni
        | R::EncapMismatch
        | R::UnknownPeer
        | R::VtepMac
        | R::ForeignInnerSource
        | R::MalformedVxlan
        | R::MalformedUdpEncap
        | R::MalformedOuter
        | R::NotOurPort
        | R::NotOurs
        | R::UnderlayError
        | R::DatagramTruncated => Kind::Fault(Rank::FromPeer),
        R::SpoofedMac | R::SpoofedIpv4 | R::SpoofedIpv6 | R::VlanTagged => {
            Kind::Fault(Rank::FromPod)
        }
        R::PortDown => Kind::Fault(Rank::Pod),
        R::NoBuffer | R::BadOffload | R::PortRefused => Kind::Fault(Rank::Loss),
        // The pair of these and the peers' own check are about the same.
        R::UnderlayUnreachable => Kind::Silent,
        // A few belong to each pod that comes or goes.
        R::PortGone => Kind::Silent,
        _ => Kind::Ordinary,
    }
}

pub(super) fn check(asked: &Asked, found: &mut Found) {
    let mut drops = asked.drops.clone();
    rates::enter(&mut drops, &asked.before, asked.between);
    for drop in &drops.drops {
        let known = DropReason::ALL.iter().find(|r| r.name() == drop.reason);
        let Some(reason) = known else { continue };
        let rate = drop.rate.unwrap_or(0.0);
        let recent = rate > 0.0 || drop.last_ago_ms.is_some_and(|ago| ago < RECENT_MS);
        let (rank, severity) = match kind(*reason) {
            Kind::Fault(rank) if recent => (rank, Severity::Broken),
            Kind::Ordinary if rate >= MANY => (Rank::Loss, Severity::Warning),
            _ => continue,
        };
        found.push(rank, of_reason(asked, drop, rate, severity));
    }
    kernel(&drops.kernel, found);
}

fn of_reason(asked: &Asked, drop: &Drop, rate: f64, severity: Severity) -> Finding {
    // Where it grows most, or else applied most.
    let rate_of = |at: &DropAt| at.rate.unwrap_or(0.0);
    let place = drop.at.iter().max_by(|a, b| {
        let rates = rate_of(a).total_cmp(&rate_of(b));
        rates.then(a.packets.cmp(&b.packets))
    });
    let (about, whom) = match place {
        Some(at) if at.kind == "pod" => (About::Pod(at.name.clone()), format!("pod {}", at.name)),
        Some(at) if at.kind == "peer" => {
            (About::Peer(at.name.clone()), format!("peer {}", at.name))
        }
        Some(at) => (About::Node, at.kind.clone()),
        None => (About::Node, "the underlay".into()),
    };
    let direction = match place {
        Some(at) if at.direction == "to" => "to",
        // Lost when it was sent.
        None if drop.frames == 0 => "to",
        _ => "from",
    };
    let mut evidence = vec![format!(
        "{} {} of what went {direction} {whom}, {rate:.1} a second now",
        drop.reason,
        match drop.frames + drop.lost_packets {
            1 => "1 time".to_owned(),
            n => format!("{n} times"),
        }
    )];
    let last = asked
        .last
        .iter()
        .rev()
        .find(|last| last.reason == drop.reason);
    evidence.extend(last.map(|last| match last.name.is_empty() {
        true => format!("the last one: {}", last.summary),
        false => format!(
            "the last one, {} {}: {}",
            last.kind, last.name, last.summary
        ),
    }));
    let sentence = drop.cause.trim_end_matches('.');
    let mut commands = vec![format!("ringway drops --last {}", drop.reason)];
    commands.push(match &about {
        About::Pod(name) => format!("ringway capture --pod {name} --only-dropped"),
        About::Peer(name) => format!("ringway capture --peer {name} --only-dropped"),
        About::Node => "ringway capture --drops".into(),
    });
    Finding {
        severity,
        about,
        evidence,
        remedy: drop.remedy.clone(),
        commands,
        ..broken(
            "drops",
            format!(
                "Packets {direction} {whom} are dropped: {}",
                lower(sentence)
            ),
        )
    }
}

/// Losses of the kernel that grow.
fn kernel(losses: &[KernelLoss], found: &mut Found) {
    let growing = losses.iter().filter_map(|loss| {
        let rate = loss.rate.unwrap_or(0.0);
        (rate >= MANY).then_some((loss, rate))
    });
    for (loss, rate) in growing.take(KERNEL) {
        found.push(
            Rank::Loss,
            Finding {
                severity: Severity::Warning,
                about: match loss.at.strip_prefix("pod ") {
                    Some(pod) => About::Pod(pod.to_owned()),
                    None => About::Node,
                },
                evidence: vec![format!(
                    "{} of {}: {} in all, {rate:.0} a second now",
                    loss.counter, loss.at, loss.count
                )],
                remedy: loss.remedy.clone(),
                commands: vec!["ringway drops --watch".into()],
                ..broken(
                    "kernel_losses",
                    format!(
                        "The kernel loses packets of {}: {}",
                        loss.at,
                        lower(loss.cause.trim_end_matches('.'))
                    ),
                )
            },
        );
    }
}

/// With a small letter in front, unless it is the first of an abbreviation.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let (first, second) = (letters.next(), letters.clone().next());
    match (first, second) {
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}
