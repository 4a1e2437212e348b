//! FORWARD of the iptables programs. They come in two kinds: one writes nftables, the other the older tables
//! of the kernel, which stand beside them, and which nft does not show. Of changes of those the kernel tells
//! nobody: they are seen at the next look, after a minute at most.

use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use super::{COMMENT, Opened, Policy};

/// Longest row of chains that is followed.
const DEPTH: usize = 16;
/// Towards pods, and from them.
const DIRECTIONS: [&str; 2] = ["-o", "-i"];

/// A family's programs.
struct Family {
    /// Of one kind or the other.
    usual: &'static str,
    legacy: &'static str,
    /// The older tables that are in use.
    names: &'static str,
    /// The chain that the newer kind writes.
    chain: &'static str,
}

/// The file names the thread's own network namespace.
const FAMILIES: [Family; 2] = [
    Family {
        usual: "iptables",
        legacy: "iptables-legacy",
        names: "/proc/thread-self/net/ip_tables_names",
        chain: "ip filter FORWARD",
    },
    Family {
        usual: "ip6tables",
        legacy: "ip6tables-legacy",
        names: "/proc/thread-self/net/ip6_tables_names",
        chain: "ip6 filter FORWARD",
    },
];

impl Family {
    /// Whether the older filter table is in use. To ask the older programs would bring it into being.
    fn has_legacy(&self) -> bool {
        let names = std::fs::read_to_string(self.names).unwrap_or_default();
        names.lines().any(|name| name == "filter")
    }

    /// Whom to ask of what there is: the newer kind, the older.
    fn programs(&self) -> [Option<&'static str>; 2] {
        choose(self, self.has_legacy(), &kind)
    }
}

/// Which kind a program is; `None` if it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nftables,
    Legacy,
}

fn choose(
    family: &Family,
    has_legacy: bool,
    kind: &dyn Fn(&'static str) -> Option<Kind>,
) -> [Option<&'static str>; 2] {
    let is = |program, wanted| kind(program) == Some(wanted);
    let nftables = is(family.usual, Kind::Nftables).then_some(family.usual);
    let legacy = [family.legacy, family.usual]
        .into_iter()
        .find(|program| has_legacy && is(program, Kind::Legacy));
    [nftables, legacy]
}

/// Asked of each program once while it is there.
fn kind(program: &'static str) -> Option<Kind> {
    static KNOWN: Mutex<Vec<(&str, Kind)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, kind)) = known.iter().find(|(name, _)| *name == program) {
        return Some(*kind);
    }
    // "iptables v1.8.9 (nf_tables)"; before there were two kinds there was no word for them.
    let version = run(program, &["-V"]).ok()?;
    let kind = if version.contains("nf_tables") {
        Kind::Nftables
    } else {
        Kind::Legacy
    };
    known.push((program, kind));
    Some(kind)
}

/// Opens FORWARD where it denies by default. Which chains of nftables need not be looked at any more.
pub(super) fn open(interface: &str, opened: &mut Opened) -> Vec<&'static str> {
    let mut asked = Vec::new();
    for family in &FAMILIES {
        let [nftables, legacy] = family.programs();
        if nftables.is_some_and(|program| open_by(program, interface, opened)) {
            asked.push(family.chain);
        }
        match legacy {
            Some(program) => drop(open_by(program, interface, opened)),
            None if family.has_legacy() => {
                opened.obstacle(family.legacy, blind(family, interface));
            }
            None => {}
        }
    }
    asked
}

/// Takes our rules out of FORWARD. Whose.
pub(super) fn close(interface: &str) -> Vec<String> {
    let programs = FAMILIES.iter().flat_map(|family| family.programs());
    let mut closed = Vec::new();
    for program in programs.flatten() {
        let mut found = false;
        for direction in DIRECTIONS {
            while iptables(program, &with("-D", &rule(direction, interface))).is_ok() {
                found = true;
            }
        }
        if found {
            closed.push(format!("{program} FORWARD"));
        }
    }
    closed
}

/// `false` if the program does not say what there is.
fn open_by(program: &str, interface: &str, opened: &mut Opened) -> bool {
    let chain = format!("{program} FORWARD");
    let listed = match iptables(program, &["-S"]) {
        Ok(listed) => listed,
        Err(Unanswered::Busy) => {
            opened.obstacle(&chain, busy(program));
            return false;
        }
        Err(Unanswered::Refused) => return false,
    };
    if opened.leave.contains(&chain) || policy(&listed, "FORWARD", DEPTH) != Policy::Deny {
        return true;
    }
    let mut new = false;
    for direction in DIRECTIONS {
        let rule = rule(direction, interface);
        if iptables(program, &with("-C", &rule)).is_ok() {
            continue;
        }
        new = iptables(program, &with("-I", &rule)).is_ok();
        if !new {
            let run = |direction| format!("{program} -I FORWARD {direction} {interface} -j ACCEPT");
            opened.obstacle(
                &chain,
                format!(
                    "the firewall stops pods' packets in FORWARD of {program}, which could not be opened: \
                     run  {} && {}",
                    run("-o"),
                    run("-i")
                ),
            );
            return true;
        }
    }
    if new {
        opened.chains.push(chain);
    }
    true
}

/// Tables that nobody here can read.
fn blind(family: &Family, interface: &str) -> String {
    let Family { legacy, names, .. } = family;
    let names = names.replace("thread-self", "self");
    let run = |direction| format!("{legacy} -I FORWARD {direction} {interface} -j ACCEPT");
    format!(
        "the kernel has a filter table of the older iptables ({names}), which may stop pods' packets, and \
         {legacy} is not installed to look: install iptables, or where you can, run  {} && {}",
        run("-o"),
        run("-i")
    )
}

/// What FORWARD's rules in `iptables -S` come to for a packet that none of them is about.
fn policy(listed: &str, chain: &str, depth: usize) -> Policy {
    if depth == 0 {
        return Policy::Return;
    }
    let by_policy = || {
        let line = format!("-P {chain} DROP");
        let drops = listed.lines().any(|l| l == line);
        if drops { Policy::Deny } else { Policy::Return }
    };
    let begin = format!("-A {chain} ");
    for rule in listed.lines().filter_map(|line| line.strip_prefix(&begin)) {
        let rule = without_comment(rule);
        let mut words = rule.split_whitespace();
        // Whatever stands before the target is a condition.
        let (Some(how @ ("-j" | "-g")), Some(to)) = (words.next(), words.next()) else {
            continue;
        };
        let decided = match to {
            "ACCEPT" => Policy::Accept,
            "DROP" | "REJECT" => Policy::Deny,
            "RETURN" => break,
            chain => policy(listed, chain, depth - 1),
        };
        match decided {
            Policy::Return if how == "-g" => break,
            Policy::Return => {}
            decided => return decided,
        }
    }
    by_policy()
}

/// A rule without its comment, which may read like another one.
fn without_comment(rule: &str) -> String {
    const BEGIN: &str = "-m comment --comment ";
    let Some((before, rest)) = rule.split_once(BEGIN) else {
        return rule.to_owned();
    };
    let after = match rest.strip_prefix('"') {
        None => rest.split_once(' ').map_or("", |(_, after)| after),
        Some(quoted) => {
            let mut escaped = false;
            let end = quoted.find(|c| {
                let end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                end
            });
            end.map_or("", |end| &quoted[end + 1..])
        }
    };
    format!("{before}{after}")
}

fn rule(direction: &str, interface: &str) -> Vec<String> {
    let words = [
        "FORWARD",
        direction,
        interface,
        "-m",
        "comment",
        "--comment",
        COMMENT,
        "-j",
        "ACCEPT",
    ];
    words.map(str::to_owned).to_vec()
}

fn with<'a>(verb: &'a str, rule: &'a [String]) -> Vec<&'a str> {
    std::iter::once(verb)
        .chain(rule.iter().map(String::as_str))
        .collect()
}

/// Why a program prints nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// Somebody holds the lock of the older tables.
    Busy,
    /// It is not there, or says no.
    Refused,
}

/// `RESOURCE_PROBLEM`, iptables' include/xtables.h: the exit status when the lock was not had in time.
const LOCKED: i32 = 4;
/// Seconds for which the lock is waited for.
const PATIENCE: &str = "5";

/// What the program prints.
fn iptables(program: &str, arguments: &[&str]) -> Result<String, Unanswered> {
    run(program, &[&["-w", PATIENCE], arguments].concat())
}

/// Nobody can say what a table is like that is locked.
fn busy(program: &str) -> String {
    format!(
        "another process has held the lock of {program} for more than {PATIENCE} s, so that nobody can see \
         whether the firewall stops pods' packets; it is looked at again within a minute. See who it is:  \
         lslocks | grep xtables"
    )
}

fn run(program: &str, arguments: &[&str]) -> Result<String, Unanswered> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(Output { status, stdout, .. }) = output else {
        return Err(Unanswered::Refused);
    };
    match status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Some(LOCKED) => Err(Unanswered::Busy),
        _ => Err(Unanswered::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_that_are_asked() {
        let family = &FAMILIES[0];
        let both = |program| match program {
            "iptables" => Some(Kind::Nftables),
            _ => Some(Kind::Legacy),
        };
        assert_eq!(choose(family, false, &both), [Some("iptables"), None]);
        assert_eq!(
            choose(family, true, &both),
            [Some("iptables"), Some("iptables-legacy")]
        );
        let old = |program| (program == "iptables").then_some(Kind::Legacy);
        assert_eq!(choose(family, false, &old), [None, None]);
        assert_eq!(choose(family, true, &old), [None, Some("iptables")]);
        let new = |program| (program == "iptables").then_some(Kind::Nftables);
        assert_eq!(choose(family, true, &new), [Some("iptables"), None]);
        assert_eq!(choose(family, true, &|_| None), [None, None]);
        let text = blind(family, "ringway0");
        for words in [
            "/proc/self/net/ip_tables_names",
            "iptables-legacy -I FORWARD -o ringway0 -j ACCEPT",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_lock_that_is_held_is_no_missing_program() {
        let exits = |code: &str| run("sh", &["-c", code]);
        assert_eq!(exits("echo -P FORWARD DROP").unwrap(), "-P FORWARD DROP\n");
        assert_eq!(exits("exit 4"), Err(Unanswered::Busy));
        assert_eq!(exits("exit 1"), Err(Unanswered::Refused));
        assert_eq!(
            run("/nonexistent/iptables", &["-V"]),
            Err(Unanswered::Refused)
        );
        assert!(busy("iptables-legacy").contains("lslocks"));
    }

    #[test]
    fn what_forward_comes_to() {
        for (expected, rules) in [
            (Policy::Return, "-P FORWARD ACCEPT"),
            (Policy::Deny, "-P FORWARD DROP"),
            (Policy::Deny, "-P FORWARD DROP\n-A FORWARD -p tcp -j ACCEPT"),
            (Policy::Accept, "-P FORWARD DROP\n-A FORWARD -j ACCEPT"),
            // As iptables-services comes on Red Hat's.
            (
                Policy::Deny,
                "-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited",
            ),
            (
                Policy::Deny,
                "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP",
            ),
            (Policy::Return, "-A FORWARD -i eth1 -j DROP"),
            (
                Policy::Deny,
                "-A FORWARD -m comment --comment \"say \\\"no\\\" -j ACCEPT\" -j REJECT",
            ),
            (
                Policy::Return,
                "-A FORWARD -i eth1 -m comment --comment no -j REJECT",
            ),
            (
                Policy::Deny,
                "-N X\n-N Y\n-A FORWARD -j X\n-A FORWARD -g Y\n-A X -j LOG\n-A Y -j DROP",
            ),
            (
                Policy::Return,
                "-A FORWARD -g X\n-A FORWARD -j DROP\n-A X -j RETURN",
            ),
            (Policy::Return, "-A FORWARD -j X\n-A X -j X"),
        ] {
            assert_eq!(policy(rules, "FORWARD", DEPTH), expected, "{rules}");
        }
    }
}
