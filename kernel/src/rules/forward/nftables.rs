//! Chains of nftables.

use serde_json::Value;

use super::super::{RulesError, nft};
use super::{COMMENT, Opened, Policy};

/// Longest row of chains that is followed; the kernel allows 16 jumps.
const DEPTH: usize = 16;
/// Statements that decide nothing.
const PASSING: [&str; 4] = ["counter", "log", "mangle", "continue"];

/// Opens chains, but for those in `asked`, which iptables was asked about.
pub(super) fn open(interface: &str, asked: &[&str], opened: &mut Opened) {
    for chain in chains() {
        let left = asked.contains(&chain.name.as_str()) || opened.leave.contains(&chain.name);
        if left || !(chain.drops || denies(&chain)) {
            continue;
        }
        let listed = nft::output(&list(&chain.name)).unwrap_or_default();
        let ours = ours(&listed, interface);
        let both = ["iifname", "oifname"]
            .iter()
            .all(|of| ours.iter().any(|(_, text)| text.contains(of)));
        if both && ours.len() == 2 {
            continue;
        }
        // What is left of them goes in the same transaction, so that they never become more.
        let mut script = deletion(&chain.name, &ours);
        for of in ["oifname", "iifname"] {
            script += &format!("insert rule {} {}\n", chain.name, accept(of, interface));
        }
        match nft::run(&script) {
            Ok(()) => opened.chains.push(chain.name),
            Err(e) => opened.obstacle(
                &chain.name,
                format!(
                    "the firewall stops pods' packets in chain {}, which could not be opened ({e}): {}",
                    chain.name,
                    remedy(&chain.name, interface)
                ),
            ),
        }
    }
}

/// Takes our rules out of all chains.
pub(super) fn close(interface: &str) -> Result<Vec<String>, RulesError> {
    let mut closed = Vec::new();
    for chain in chains() {
        let listed = nft::output(&list(&chain.name)).unwrap_or_default();
        let script = deletion(&chain.name, &ours(&listed, interface));
        if !script.is_empty() {
            nft::run(&script)?;
            closed.push(chain.name);
        }
    }
    Ok(closed)
}

fn accept(of: &str, interface: &str) -> String {
    format!("{of} \"{interface}\" counter accept comment \"{COMMENT}\"")
}

/// What an operator does about a chain that only its owner may change.
fn remedy(chain: &str, interface: &str) -> String {
    if chain == "inet firewalld filter_FORWARD" {
        return format!(
            "run  firewall-cmd --permanent --zone=trusted --add-interface={interface} && \
             firewall-cmd --reload"
        );
    }
    let insert =
        |of| format!("nft 'insert rule {chain} {of} \"{interface}\" accept comment \"{COMMENT}\"'");
    format!(
        "have the program that owns this table run  {} && {}",
        insert("oifname"),
        insert("iifname")
    )
}

/// A chain at the forward hook.
struct Chain {
    /// Family, table, name.
    name: String,
    /// By policy.
    drops: bool,
}

fn chains() -> Vec<Chain> {
    let at_forward = |chain: &Value| {
        let word = |key: &str| chain[key].as_str().map(str::to_owned);
        let family = word("family").filter(|f| ["ip", "ip6", "inet"].contains(&f.as_str()))?;
        (word("hook")? == "forward").then_some(())?;
        Some(Chain {
            name: format!("{family} {} {}", word("table")?, word("name")?),
            drops: chain["policy"] == "drop",
        })
    };
    listing(&["-j", "list", "chains"])
        .iter()
        .filter_map(|item| at_forward(&item["chain"]))
        .collect()
}

/// Whether a rule without conditions drops or rejects what has come so far.
fn denies(chain: &Chain) -> bool {
    let rules = |chain: &str| {
        let mut words = vec!["-j", "list", "chain"];
        words.extend(chain.split(' '));
        listing(&words)
    };
    policy(&chain.name, &rules, DEPTH) == Policy::Deny
}

/// What the rules of the chain named `family table chain` come to for a packet that none is about; `rules`
/// lists one.
fn policy(chain: &str, rules: &dyn Fn(&str) -> Vec<Value>, depth: usize) -> Policy {
    let Some((table, _)) = chain.rsplit_once(' ').filter(|_| depth > 0) else {
        return Policy::Return;
    };
    for item in rules(chain) {
        let Some(expr) = item["rule"]["expr"].as_array() else {
            continue;
        };
        let passing = |s: &&Value| PASSING.iter().any(|key| s.get(key).is_some());
        let deciding: Vec<&Value> = expr.iter().filter(|s| !passing(s)).collect();
        // Anything beside the verdict is a condition.
        let [verdict] = deciding[..] else { continue };
        let to = |key: &str| {
            verdict[key]["target"]
                .as_str()
                .map(|to| format!("{table} {to}"))
        };
        let by_iptables = &verdict["xt"]["name"];
        if verdict.get("accept").is_some() {
            return Policy::Accept;
        }
        if ["drop", "reject"]
            .iter()
            .any(|key| verdict.get(key).is_some())
            || by_iptables == "REJECT"
        {
            return Policy::Deny;
        }
        if verdict.get("return").is_some() {
            return Policy::Return;
        }
        if let Some(to) = to("goto") {
            return policy(&to, rules, depth - 1);
        }
        if let Some(to) = to("jump") {
            match policy(&to, rules, depth - 1) {
                Policy::Return => {}
                decided => return decided,
            }
        }
    }
    Policy::Return
}

/// Items of what `nft` prints as JSON; none if it cannot be had.
fn listing(words: &[&str]) -> Vec<Value> {
    let text = nft::output(words).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    value["nftables"].as_array().cloned().unwrap_or_default()
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
    use serde_json::json;

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

    #[test]
    fn the_first_rule_without_conditions_decides() {
        let condition =
            json!({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}});
        let counter = json!({"counter": {"packets": 7, "bytes": 700}});
        let verdict = |what: &str| json!({what: null});
        let to = |how: &str, chain: &str| json!({how: {"target": chain}});
        let limit = json!({"limit": {"rate": 5, "per": "second"}});
        let reject = json!({"reject": {"type": "icmpx", "expr": "admin-prohibited"}});
        let of = |rules: &[Vec<Value>]| {
            let rules = rules.to_vec();
            let list = move |chain: &str| -> Vec<Value> {
                let sub = match chain {
                    "inet t base" => rules.clone(),
                    "inet t denies" => vec![vec![json!({"log": {}}), json!({"drop": null})]],
                    "inet t returns" => {
                        vec![vec![json!({"return": null})], vec![json!({"drop": null})]]
                    }
                    "inet t loops" => vec![vec![json!({"jump": {"target": "loops"}})]],
                    _ => Vec::new(),
                };
                let rule = |expr: Vec<Value>| json!({"rule": {"expr": expr}});
                sub.into_iter().map(rule).collect()
            };
            policy("inet t base", &list, DEPTH)
        };
        let if_tcp = |what: Value| vec![condition.clone(), what];
        for (expected, rules) in [
            (Policy::Return, vec![]),
            (
                Policy::Deny,
                vec![
                    if_tcp(verdict("accept")),
                    vec![counter.clone(), reject.clone()],
                ],
            ),
            (Policy::Deny, vec![vec![verdict("drop")]]),
            (
                Policy::Deny,
                vec![vec![json!({"xt": {"type": "target", "name": "REJECT"}})]],
            ),
            (Policy::Return, vec![if_tcp(reject.clone())]),
            (Policy::Return, vec![vec![limit, verdict("drop")]]),
            (
                Policy::Accept,
                vec![vec![verdict("accept")], vec![reject.clone()]],
            ),
            (
                Policy::Deny,
                vec![vec![to("jump", "returns")], vec![to("jump", "denies")]],
            ),
            (
                Policy::Return,
                vec![vec![to("goto", "returns")], vec![reject.clone()]],
            ),
            (Policy::Deny, vec![vec![to("goto", "denies")]]),
            (Policy::Return, vec![if_tcp(to("jump", "denies"))]),
            (
                Policy::Deny,
                vec![vec![to("jump", "nowhere")], vec![reject]],
            ),
            (Policy::Return, vec![vec![to("jump", "loops")]]),
        ] {
            assert_eq!(of(&rules), expected, "{rules:?}");
        }
    }
}
