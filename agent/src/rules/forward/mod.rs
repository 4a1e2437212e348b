//! The way through a firewall that forwards nothing by default.
//!
//! An accept in a chain of ours does not help: a packet has to pass every chain at the hook, and one that
//! drops by policy has the last word. So the rule goes into that very chain, at its top, marked as ours.
//! Docker's `iptables -P FORWARD DROP` is such a chain, of nftables or of the older tables, which nft does
//! not show; where the iptables programs are there, they are asked.

use std::process::{Command, Output, Stdio};

use super::{RulesError, nft};

/// Mark of our rules.
const COMMENT: &str = "ringway";

/// Lets pods' packets through wherever a chain drops by policy. Which chains were opened just now.
pub(super) fn open(interface: &str) -> Result<Vec<String>, RulesError> {
    let mut opened = Vec::new();
    for program in ["iptables", "ip6tables"] {
        let Some(rules) = iptables(program, &["-S", "FORWARD"]) else {
            continue;
        };
        if !rules.starts_with("-P FORWARD DROP") {
            continue;
        }
        let mut new = false;
        for direction in ["-o", "-i"] {
            let rule = rule(direction, interface);
            if iptables(program, &with("-C", &rule)).is_none() {
                iptables(program, &with("-I", &rule)).ok_or_else(|| {
                    RulesError::Nft(format!("{program} -I FORWARD {} failed", rule.join(" ")))
                })?;
                new = true;
            }
        }
        if new {
            opened.push(format!("{program} FORWARD"));
        }
    }
    for chain in dropping() {
        // That of the iptables programs, which were asked above.
        let program = match chain.as_str() {
            "ip filter FORWARD" => Some("iptables"),
            "ip6 filter FORWARD" => Some("ip6tables"),
            _ => None,
        };
        if program.is_some_and(|program| iptables(program, &["-S", "FORWARD"]).is_some()) {
            continue;
        }
        let listed = nft::ask(&list(&chain)).unwrap_or_default();
        let ours = ours(&listed, interface);
        let both = ["iifname", "oifname"]
            .iter()
            .all(|of| ours.iter().any(|(_, text)| text.contains(of)));
        if both && ours.len() == 2 {
            continue;
        }
        // What is left of them goes in the same transaction, so that they never become more.
        let mut script = deletion(&chain, &ours);
        for of in ["oifname", "iifname"] {
            script += &format!(
                "insert rule {chain} {of} \"{interface}\" counter accept comment \"{COMMENT}\"\n"
            );
        }
        nft::run(&script)?;
        opened.push(chain);
    }
    Ok(opened)
}

/// Takes the rules out again. Of which chains.
pub(super) fn close(interface: &str) -> Result<Vec<String>, RulesError> {
    let mut closed = Vec::new();
    for program in ["iptables", "ip6tables"] {
        let mut found = false;
        for direction in ["-o", "-i"] {
            while iptables(program, &with("-D", &rule(direction, interface))).is_some() {
                found = true;
            }
        }
        if found {
            closed.push(format!("{program} FORWARD"));
        }
    }
    for chain in chains() {
        let listed = nft::ask(&list(&chain.name)).unwrap_or_default();
        let script = deletion(&chain.name, &ours(&listed, interface));
        if !script.is_empty() {
            nft::run(&script)?;
            closed.push(chain.name);
        }
    }
    Ok(closed)
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

/// What the program prints; `None` if it is not there or says no.
fn iptables(program: &str, arguments: &[&str]) -> Option<String> {
    let Output { status, stdout, .. } = Command::new(program)
        // Whoever holds the lock longer must not hold up every pod.
        .args(["-w", "5"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    status
        .success()
        .then(|| String::from_utf8_lossy(&stdout).into_owned())
}

/// A chain at the forward hook.
struct Chain {
    /// Family, table, name.
    name: String,
    drops: bool,
}

fn chains() -> Vec<Chain> {
    let Some(text) = nft::ask(&["-j", "list", "chains"]) else {
        return Vec::new();
    };
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let all = value["nftables"].as_array().cloned().unwrap_or_default();
    let at_forward = |chain: &serde_json::Value| {
        let word = |key: &str| chain[key].as_str().map(str::to_owned);
        let family = word("family").filter(|f| ["ip", "ip6", "inet"].contains(&f.as_str()))?;
        (word("hook")? == "forward").then_some(())?;
        Some(Chain {
            name: format!("{family} {} {}", word("table")?, word("name")?),
            drops: chain["policy"] == "drop",
        })
    };
    all.iter()
        .filter_map(|item| at_forward(&item["chain"]))
        .collect()
}

fn dropping() -> Vec<String> {
    chains()
        .into_iter()
        .filter(|chain| chain.drops)
        .map(|chain| chain.name)
        .collect()
}

fn list(chain: &str) -> Vec<&str> {
    let mut words = vec!["-a", "list", "chain"];
    words.extend(chain.split(' '));
    words
}

/// Our rules in what `nft -a list chain` prints: handle and text.
fn ours<'a>(listed: &'a str, interface: &str) -> Vec<(u64, &'a str)> {
    let mark = format!("\"{interface}\"");
    let comment = format!("\"{COMMENT}\"");
    let ours =
        |line: &&str| line.contains(&mark) && line.contains(&comment) && line.contains("accept");
    let split = |line: &'a str| {
        let (text, handle) = line.rsplit_once("# handle ")?;
        Some((handle.trim().parse().ok()?, text))
    };
    listed.lines().filter(ours).filter_map(split).collect()
}

fn deletion(chain: &str, rules: &[(u64, &str)]) -> String {
    let one = |(handle, _): &(u64, &str)| format!("delete rule {chain} handle {handle}\n");
    rules.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rules_are_told_from_others() {
        let listed = "table ip filter {\n\tchain FORWARD { # handle 2\n\
            \t\ttype filter hook forward priority filter; policy drop;\n\
            \t\tiifname \"ringway0\" counter packets 0 bytes 0 accept comment \"ringway\" # handle 7\n\
            \t\toifname \"ringway0\" counter packets 0 bytes 0 accept comment \"ringway\" # handle 8\n\
            \t\tiifname \"ringway0\" drop comment \"ringway\" # handle 9\n\
            \t\tiifname \"ringway01\" accept comment \"ringway\" # handle 10\n\
            \t\tiifname \"ringway0\" accept # handle 11\n\t}\n}\n";
        let handles: Vec<u64> = ours(listed, "ringway0")
            .iter()
            .map(|(handle, _)| *handle)
            .collect();
        assert_eq!(handles, [7, 8]);
    }
}
