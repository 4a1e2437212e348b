//! Rules of others that drop the tunnels' packets.
//!
//! Read as `nft` prints them in JSON, and of iptables of either kind as it saves them: matches of iptables-nft are
//! opaque to `nft`. A rule is named when it drops or rejects and what it matches can be a packet of a tunnel: its
//! UDP port is among those it names. What else it asks for makes it one that concerns some packets only.

use ringway_kernel::rules::printed;
use serde_json::Value;

use crate::Blocked;

/// Statements of a rule that match nothing and decide nothing.
const PASSING: [&str; 4] = ["counter", "log", "mangle", "limit"];
/// Rules that are named.
const MOST: usize = 20;

/// The rules.
///
/// # Errors
/// No program that shows them can be run.
pub(super) fn blocked(ports: &[u16]) -> Result<Vec<Blocked>, String> {
    let mut all = Vec::new();
    let mut asked = false;
    if let Some(text) = printed("nft", &["-j", "-a", "list", "ruleset"]) {
        asked = true;
        let ruleset: Value = serde_json::from_str(&text).unwrap_or_default();
        all.extend(of_nft(&ruleset, ports));
    }
    for (save, program) in [
        ("iptables-save", "iptables"),
        ("ip6tables-save", "ip6tables"),
        ("iptables-legacy-save", "iptables-legacy"),
        ("ip6tables-legacy-save", "ip6tables-legacy"),
    ] {
        if let Some(text) = printed(save, &[]) {
            asked = true;
            for rule in of_save(&text, program, ports) {
                // By its older name it may be the same program.
                if !all.contains(&rule) {
                    all.push(rule);
                }
            }
        }
    }
    all.truncate(MOST);
    match asked {
        true => Ok(all),
        false => Err("neither nft nor iptables can be run, or they need root".into()),
    }
}

/// Rules of `nft -j -a list ruleset`.
fn of_nft(ruleset: &Value, ports: &[u16]) -> Vec<Blocked> {
    let items = ruleset["nftables"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut all = Vec::new();
    for rule in items.iter().filter_map(|item| item.get("rule")) {
        let Some(expr) = rule["expr"].as_array() else {
            continue;
        };
        let ends = |s: &Value| s.get("drop").is_some() || s.get("reject").is_some();
        if !expr.iter().any(ends) {
            continue;
        }
        let mut others = 0;
        let mut port = None;
        for statement in expr.iter().filter(|s| !ends(s)) {
            let field = &statement["match"]["left"]["payload"]["field"];
            let protocol = &statement["match"]["left"]["payload"]["protocol"];
            let of_udp = ["udp", "th"].iter().any(|p| protocol == p);
            let by_protocol = statement["match"]["right"] == "udp";
            if of_udp && (field == "dport" || field == "sport") && statement["match"]["op"] == "=="
            {
                let has = ports
                    .iter()
                    .find(|p| holds(&statement["match"]["right"], **p));
                port = port.or(has.copied());
                // A port that is not ours: the rule is about something else.
                others += u32::from(has.is_none()) * 1_000;
            } else if !by_protocol && !PASSING.iter().any(|key| statement.get(key).is_some()) {
                others += 1;
            }
        }
        let Some(port) = port.filter(|_| others < 1_000) else {
            continue;
        };
        let word = |key: &str| rule[key].as_str().unwrap_or("?");
        let place = format!("{} {} {}", word("family"), word("table"), word("chain"));
        let handle = &rule["handle"];
        all.push(Blocked {
            port,
            rule: format!("rule {handle}{}", in_words(expr)),
            command: format!("nft delete rule {place} handle {handle}"),
            place: format!("nftables, chain {place}"),
            partly: others > 0,
        });
    }
    all
}

/// Whether a value, a set or a range has a port.
fn holds(value: &Value, port: u16) -> bool {
    if let Some(n) = value.as_u64() {
        return n == u64::from(port);
    }
    if let Some(set) = value["set"].as_array() {
        return set.iter().any(|one| holds(one, port));
    }
    let range = value["range"].as_array();
    let bounds = range.and_then(|r| Some((r.first()?.as_u64()?, r.get(1)?.as_u64()?)));
    bounds.is_some_and(|(first, last)| (first..=last).contains(&u64::from(port)))
}

/// The rule, as far as a line has room.
fn in_words(expr: &[Value]) -> String {
    let mut words = String::new();
    for statement in expr {
        let matched = &statement["match"];
        if let Some(payload) = matched["left"]["payload"].as_object() {
            let part = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or("?");
            let op = matched["op"].as_str().filter(|op| *op != "==");
            let op = op.map_or(String::new(), |op| format!("{op} "));
            words += &format!(
                ", {} {} {op}{}",
                part("protocol"),
                part("field"),
                plain(&matched["right"])
            );
        } else if let Some(key) = matched["left"]["meta"]["key"].as_str() {
            words += &format!(", {key} {}", plain(&matched["right"]));
        } else if statement.get("drop").is_some() {
            words += ": drop";
        } else if statement.get("reject").is_some() {
            words += ": reject";
        }
    }
    words
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Rules of `iptables-save`.
fn of_save(text: &str, program: &str, ports: &[u16]) -> Vec<Blocked> {
    let (mut table, mut all) = ("filter", Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        let Some(rule) = line.strip_prefix("-A ") else {
            continue;
        };
        let words: Vec<&str> = rule.split_ascii_whitespace().collect();
        let after = |key: &str| {
            let at = words.iter().position(|word| *word == key)?;
            // A match that is turned round stands behind a `!`.
            let turned = at > 0 && words[at - 1] == "!";
            words.get(at + 1).copied().filter(|_| !turned)
        };
        if !matches!(after("-j"), Some("DROP" | "REJECT")) || after("-p") != Some("udp") {
            continue;
        }
        let named = ["--dport", "--dports", "--sport", "--sports", "--ports"];
        let list = named.iter().find_map(|key| after(key));
        let Some(port) = list.and_then(|list| ports.iter().find(|port| listed(list, **port)))
        else {
            continue;
        };
        let known = ["-p", "-m", "-j", "--comment", "--reject-with"];
        let options = words.iter().filter(|word| word.starts_with('-'));
        let partly = options
            .filter(|word| !known.contains(word) && !named.contains(word))
            .count()
            > 0;
        all.push(Blocked {
            port: *port,
            place: format!("{program}, table {table}"),
            rule: format!("-A {rule}"),
            command: format!("{program} -t {table} -D {rule}"),
            partly,
        });
    }
    all
}

/// Whether `53,8000:9000` has a port.
fn listed(list: &str, port: u16) -> bool {
    list.split(',').any(|one| match one.split_once(':') {
        Some((first, last)) => {
            let first = first.parse().unwrap_or(0);
            let last = last.parse().unwrap_or(u16::MAX);
            (first..=last).contains(&port)
        }
        None => one.parse() == Ok(port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(expr: Value) -> Value {
        json!({"rule": {"family": "inet", "table": "guard", "chain": "input", "handle": 7, "expr": expr}})
    }

    fn dport(right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}})
    }

    #[test]
    fn rules_of_nftables_that_drop_the_port_are_named() {
        let drop = json!({"drop": null});
        let counter = json!({"counter": {"packets": 3, "bytes": 300}});
        let saddr = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "10.0.0.1"}});
        for (named, partly, expr) in [
            (true, false, json!([dport(json!(8472)), drop])),
            (
                true,
                false,
                json!([dport(json!(8472)), counter, {"reject": {"type": "icmp"}}]),
            ),
            (
                true,
                false,
                json!([dport(json!({"set": [53, {"range": [8000, 9000]}]})), drop]),
            ),
            (true, true, json!([saddr, dport(json!(8472)), drop])),
            (false, false, json!([dport(json!(8473)), drop])),
            (
                false,
                false,
                json!([dport(json!({"range": [1, 1024]})), drop]),
            ),
            (false, false, json!([dport(json!(8472)), {"accept": null}])),
            (false, false, json!([drop])),
            (false, false, json!([saddr, drop])),
        ] {
            let found = of_nft(
                &json!({"nftables": [{"metainfo": {}}, rule(expr.clone())]}),
                &[8472],
            );
            assert_eq!(!found.is_empty(), named, "{expr}");
            if let Some(found) = found.first() {
                assert_eq!((found.partly, found.port), (partly, 8472), "{expr}");
                assert_eq!(found.command, "nft delete rule inet guard input handle 7");
            }
        }
        assert_eq!(of_nft(&Value::Null, &[8472]), []);
    }

    #[test]
    fn rules_of_iptables_that_drop_the_port_are_named() {
        let text = "*raw\n-A PREROUTING -p tcp -m tcp --dport 8472 -j DROP\nCOMMIT\n*filter\n\
            :INPUT ACCEPT [0:0]\n\
            -A INPUT -p udp -m udp --dport 8472 -j DROP\n\
            -A INPUT -s 10.0.0.1/32 -p udp -m multiport --dports 53,8000:9000 -j REJECT --reject-with icmp-port-unreachable\n\
            -A INPUT -p udp -m udp ! --dport 8472 -j DROP\n\
            -A INPUT -p udp -m udp --dport 8472 -j ACCEPT\n\
            -A INPUT -j DROP\nCOMMIT\n";
        let found = of_save(text, "iptables", &[8472]);
        let commands: Vec<(&str, bool)> = found
            .iter()
            .map(|b| (b.command.as_str(), b.partly))
            .collect();
        assert_eq!(
            commands,
            [
                (
                    "iptables -t filter -D INPUT -p udp -m udp --dport 8472 -j DROP",
                    false
                ),
                (
                    "iptables -t filter -D INPUT -s 10.0.0.1/32 -p udp -m multiport --dports 53,8000:9000 -j REJECT --reject-with icmp-port-unreachable",
                    true
                ),
            ]
        );
    }

    #[test]
    fn lists_of_ports_have_ranges() {
        for (list, has) in [
            ("8472", true),
            ("8000:", true),
            (":8471", false),
            ("1,8472", true),
            ("x", false),
            ("", false),
        ] {
            assert_eq!(listed(list, 8472), has, "{list}");
        }
    }
}
