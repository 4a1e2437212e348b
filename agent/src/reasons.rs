//! What is known of each reason to drop or to ignore, and of each counter of the kernel, by its name.

use ringway_control::losses::{self, KernelCounter};
use ringway_control::view::Explained;
use ringway_switch::{Direction, DropReason, IgnoreReason};

/// Names that are offered for one that is unknown.
const OFFERED: usize = 3;

/// What is known of the name; if it is unknown, the nearest ones.
pub(crate) fn explain(name: &str) -> Result<Explained, Vec<&'static str>> {
    let drops = DropReason::ALL.iter();
    let ignores = IgnoreReason::ALL.iter();
    let kernel = losses::ALL.iter();
    drops
        .map(of_drop)
        .chain(ignores.map(of_ignore))
        .chain(kernel.map(of_kernel))
        .find(|known| known.reason == name)
        .ok_or_else(|| nearest(name))
}

/// The drop reason of that name; if there is none, the nearest.
pub(crate) fn drop_reason(name: &str) -> Result<DropReason, Vec<&'static str>> {
    let known = DropReason::ALL.iter().find(|reason| reason.name() == name);
    known.copied().ok_or_else(|| nearest(name))
}

fn nearest(name: &str) -> Vec<&'static str> {
    let drops = DropReason::ALL.iter().map(|reason| reason.name());
    let ignores = IgnoreReason::ALL.iter().map(|reason| reason.name());
    let kernel = losses::ALL.iter().map(|counter| counter.name);
    let word = name.to_lowercase().replace('-', "_");
    let mut all: Vec<(bool, f64, &str)> = drops
        .chain(ignores)
        .chain(kernel)
        .map(|known| {
            let part = word.len() > 2 && known.contains(&word);
            let likeness = strsim::normalized_damerau_levenshtein(&word, known);
            (part, likeness, known)
        })
        .collect();
    all.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    all.iter().take(OFFERED).map(|(.., known)| *known).collect()
}

fn of_drop(reason: &DropReason) -> Explained {
    let counted = match (reason, reason.direction()) {
        (DropReason::SocketOverflow | DropReason::DatagramTruncated, _) => {
            "in datagrams; at no peer, since nothing of them was read, so that no frame is kept"
        }
        (DropReason::NoBuffer, _) => {
            "in frames, or, when it was sent on already, in packets and at no peer"
        }
        (_, Direction::From) => {
            "in frames, and in packets at the pod or peer that sent them; the last frames: \
             `ringway drops --last`"
        }
        (_, Direction::To) => {
            "in packets lost after their verdict, at the pod or peer they were going to, where \
             that is known; no frame is kept"
        }
    };
    Explained {
        reason: reason.name().into(),
        cause: reason.cause().into(),
        remedy: reason.remedy().into(),
        stage: reason.stage().into(),
        counted: counted.into(),
        example: reason.example().into(),
    }
}

fn of_ignore(reason: &IgnoreReason) -> Explained {
    Explained {
        reason: reason.name().into(),
        cause: reason.cause().into(),
        remedy: reason.remedy().into(),
        stage: "before lookup: what nobody needs is left without an answer".into(),
        counted: "in frames, as ignored: it is no fault".into(),
        example: reason.example().into(),
    }
}

fn of_kernel(counter: &KernelCounter) -> Explained {
    Explained {
        reason: counter.name.into(),
        cause: counter.cause.into(),
        remedy: counter.remedy.into(),
        stage: "in the kernel, before the switch or after it".into(),
        counted: counter.source.into(),
        example: counter.example.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_explained_and_no_text_is_missing() {
        let drops = DropReason::ALL.iter().map(|reason| reason.name());
        let ignores = IgnoreReason::ALL.iter().map(|reason| reason.name());
        let kernel = losses::ALL.iter().map(|counter| counter.name);
        for name in drops.chain(ignores).chain(kernel) {
            let known = explain(name).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(known.reason, name);
            let Explained {
                cause,
                remedy,
                stage,
                counted,
                example,
                ..
            } = known;
            for text in [cause, remedy, stage, counted, example] {
                assert!(text.len() > 7, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn an_unknown_name_has_near_ones() {
        for (wrong, right) in [
            ("spoofed_ip4", "spoofed_ipv4"),
            ("unknwon_peer", "unknown_peer"),
            ("Socket-Overflow", "socket_overflow"),
            ("vni", "unknown_vni"),
            ("tap_dropped", "tap_tx_dropped"),
            ("mdsn", "mdns"),
        ] {
            let near = explain(wrong).unwrap_err();
            assert!(near.contains(&right), "{wrong}: {near:?}");
            assert_eq!(near.len(), OFFERED);
        }
        // Hostile ones end, too.
        assert_eq!(explain(&"é".repeat(4000)).unwrap_err().len(), OFFERED);
        assert!(drop_reason("mdns").is_err());
        assert_eq!(drop_reason("no_route"), Ok(DropReason::NoRoute));
    }
}
