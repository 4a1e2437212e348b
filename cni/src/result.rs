//! Results of an ADD, in the version asked for and merged with what plugins before us have made.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::api::{Added, Check, Route};
use crate::env::Env;
use crate::error::{Error, INVALID, Result};
use crate::version::Version;

/// Keys that came with 1.1.0.
const NEW_OF_INTERFACE: [&str; 3] = ["mtu", "socketPath", "pciID"];
const NEW_OF_ROUTE: [&str; 5] = ["mtu", "advmss", "priority", "table", "scope"];

/// The result: what was there before, and ours at its end.
pub fn result(
    version: Version,
    before: Option<&Value>,
    env: &Env,
    added: &Added,
    dns: Option<&Value>,
) -> Result<Value> {
    let mut result = match before {
        Some(before) => convert(version, before)?,
        None => json!({}),
    };
    let index = list(&mut result, "interfaces").len();
    let mut interface = json!({
        "name": env.ifname,
        "mac": added.mac,
        "sandbox": env.netns,
    });
    if version >= Version::V1_1_0 {
        interface["mtu"] = added.mtu.into();
    }
    list(&mut result, "interfaces").push(interface);
    for ip in &added.ips {
        let mut one = json!({
            "interface": index,
            "address": ip.address,
            "gateway": ip.gateway,
        });
        if version < Version::V1_0_0 {
            one["version"] = family(&ip.address).into();
        }
        list(&mut result, "ips").push(one);
    }
    for route in &added.routes {
        list(&mut result, "routes").push(json!(route));
    }
    let dns = dns.filter(|dns| dns.as_object().is_some_and(|dns| !dns.is_empty()));
    if let Some(dns) = dns {
        result["dns"] = dns.clone();
    } else if !result["dns"].is_object() {
        result["dns"] = json!({});
    }
    result["cniVersion"] = version.name().into();
    Ok(result)
}

/// The capability `dns` as a result has it: its keys have other names there.
pub fn dns(capability: &Value) -> Value {
    let names = [
        ("servers", "nameservers"),
        ("searches", "search"),
        ("options", "options"),
    ];
    let mut dns = Map::new();
    for (from, to) in names {
        if let Some(value) = capability.get(from).filter(|value| value.is_array()) {
            dns.insert(to.into(), value.clone());
        }
    }
    Value::Object(dns)
}

/// A result of any supported version in another.
///
/// # Errors
/// It is not an object, or of a version that is not supported.
pub fn convert(version: Version, result: &Value) -> Result<Value> {
    let Value::Object(_) = result else {
        return Err(Error::new(
            INVALID,
            "prevResult is not an object",
            "the plugin before this one, or the runtime, is at fault",
        ));
    };
    let mut result = result.clone();
    let from = match result["cniVersion"].as_str() {
        // Runtimes leave it out where it is the configuration's.
        None | Some("") => version,
        Some(text) => Version::parse(text)?,
    };
    result["cniVersion"] = version.name().into();
    let interfaces = list(&mut result, "interfaces").len() as u64;
    for ip in list(&mut result, "ips") {
        // One that leads nowhere would come to lead to ours.
        if ip["interface"].as_u64().is_some_and(|at| at >= interfaces) {
            remove_key(ip, "interface");
        }
        let family = family(ip["address"].as_str().unwrap_or_default());
        let Some(ip) = ip.as_object_mut() else {
            continue;
        };
        if version < Version::V1_0_0 {
            ip.insert("version".into(), family.into());
        } else {
            ip.remove("version");
        }
    }
    if from >= Version::V1_1_0 && version < Version::V1_1_0 {
        without(list(&mut result, "interfaces"), &NEW_OF_INTERFACE);
        without(list(&mut result, "routes"), &NEW_OF_ROUTE);
    }
    Ok(result)
}

/// What a CHECK has to compare, of the result of our ADD.
///
/// # Errors
/// There is none, or our interface is not in it.
pub fn to_check(env: &Env, result: Option<&Value>) -> Result<Check> {
    let missing = |what: String| {
        Error::new(
            INVALID,
            what,
            "CHECK needs the result of the ADD as prevResult",
        )
    };
    let result = result.ok_or_else(|| missing("CHECK without prevResult".into()))?;
    let empty = Vec::new();
    let all = |key: &str| result[key].as_array().unwrap_or(&empty);
    let ours = |interface: &Value| {
        interface["name"] == env.ifname && !interface["sandbox"].as_str().unwrap_or("").is_empty()
    };
    let Some(index) = all("interfaces").iter().position(ours) else {
        return Err(missing(format!(
            "prevResult has no interface {}",
            env.ifname
        )));
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let at = |ip: &&Value| match ip["interface"].as_u64() {
        Some(at) => at == index as u64,
        None => index == 0,
    };
    Ok(Check {
        ips: all("ips")
            .iter()
            .filter(at)
            .filter_map(|ip| text(&ip["address"]))
            .collect(),
        mac: text(&all("interfaces")[index]["mac"]).filter(|mac| !mac.is_empty()),
        routes: all("routes")
            .iter()
            .filter_map(|route| {
                Some(Route {
                    dst: text(&route["dst"])?,
                    gw: route["gw"].as_str().and_then(|gw| gw.parse().ok()),
                })
            })
            .collect(),
        ..Check::default()
    })
}

fn family(address: &str) -> &'static str {
    let ip = address.split('/').next().unwrap_or_default();
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => "6",
        _ => "4",
    }
}

/// The list of that key, made if it is not there or is something else.
fn list<'a>(result: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    let value = &mut result[key];
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        // It was made one above.
        _ => unreachable!("{key} is a list"),
    }
}

fn without(list: &mut [Value], keys: &[&str]) {
    for object in list.iter_mut().filter_map(Value::as_object_mut) {
        remove(object, keys);
    }
}

fn remove_key(value: &mut Value, key: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(key);
    }
}

fn remove(object: &mut Map<String, Value>, keys: &[&str]) {
    for key in keys {
        object.remove(*key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AddedIp;
    use crate::version::ALL;

    fn env() -> Env {
        Env {
            ifname: "eth0".into(),
            netns: "/run/netns/a".into(),
            ..Env::default()
        }
    }

    fn added() -> Added {
        let ip = |address: &str, gateway: &str| AddedIp {
            address: address.into(),
            gateway: gateway.parse().unwrap(),
        };
        let route = |dst: &str, gw: &str| Route {
            dst: dst.into(),
            gw: Some(gw.parse().unwrap()),
        };
        Added {
            mac: "0a:58:0a:4d:01:02".into(),
            mtu: 1450,
            ips: vec![
                ip("10.77.1.2/24", "10.77.1.1"),
                ip("fd77:1::2/64", "fd77:1::1"),
            ],
            routes: vec![route("0.0.0.0/0", "10.77.1.1"), route("::/0", "fd77:1::1")],
        }
    }

    #[test]
    fn each_version_has_its_shape() {
        let whole = |version: &str, mtu: bool, family: bool| {
            let mut interface =
                json!({"name": "eth0", "mac": "0a:58:0a:4d:01:02", "sandbox": "/run/netns/a"});
            if mtu {
                interface["mtu"] = 1450.into();
            }
            let mut ips = json!([
                {"interface": 0, "address": "10.77.1.2/24", "gateway": "10.77.1.1"},
                {"interface": 0, "address": "fd77:1::2/64", "gateway": "fd77:1::1"},
            ]);
            if family {
                ips[0]["version"] = "4".into();
                ips[1]["version"] = "6".into();
            }
            json!({
                "cniVersion": version, "interfaces": [interface], "ips": ips, "dns": {},
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.1.1"}, {"dst": "::/0", "gw": "fd77:1::1"}],
            })
        };
        for (version, name) in ALL {
            let made = result(version, None, &env(), &added(), None).unwrap();
            let (mtu, family) = (name == "1.1.0", name.starts_with('0'));
            assert_eq!(made, whole(name, mtu, family));
        }
    }

    #[test]
    fn nothing_of_a_plugin_before_is_lost() {
        let before = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "br0", "mac": "x", "mtu": 1500}, {"name": "net1", "sandbox": "/s", "socketPath": "/p"}],
            "ips": [{"address": "192.0.2.2/24", "interface": 1}],
            "routes": [{"dst": "192.0.2.0/24", "mtu": 1400}],
            "dns": {"nameservers": ["192.0.2.53"]},
            "future": 1,
        });
        let made = result(Version::V0_4_0, Some(&before), &env(), &added(), None).unwrap();
        assert_eq!(made["cniVersion"], "0.4.0");
        assert_eq!(
            made["interfaces"][1],
            json!({"name": "net1", "sandbox": "/s"})
        );
        assert_eq!(made["interfaces"][2]["name"], "eth0");
        assert_eq!(made["ips"][0]["version"], "4");
        assert_eq!(
            made["ips"][2],
            json!({"interface": 2, "address": "fd77:1::2/64", "gateway": "fd77:1::1", "version": "6"})
        );
        assert_eq!(made["routes"].as_array().unwrap().len(), 3);
        assert_eq!(made["dns"]["nameservers"][0], "192.0.2.53");
        assert_eq!(made["future"], 1);
        let dns = json!({"nameservers": ["10.96.0.10"]});
        let made = result(Version::V1_0_0, Some(&before), &env(), &added(), Some(&dns)).unwrap();
        assert_eq!(made["dns"], dns);
        assert_eq!(made["ips"][0].get("version"), None);
    }

    #[test]
    fn dns_of_the_runtime_gets_the_names_of_a_result() {
        let capability =
            json!({"servers": ["10.96.0.10"], "searches": ["svc"], "options": ["ndots:5"], "x": 1});
        let expected =
            json!({"nameservers": ["10.96.0.10"], "search": ["svc"], "options": ["ndots:5"]});
        assert_eq!(dns(&capability), expected);
        assert_eq!(dns(&json!("x")), json!({}));
    }

    #[test]
    fn an_address_of_no_interface_does_not_become_ours() {
        let before = json!({"interfaces": [{"name": "a"}], "ips": [{"address": "192.0.2.2/24", "interface": 1}]});
        let made = result(Version::V1_0_0, Some(&before), &env(), &added(), None).unwrap();
        assert_eq!(made["ips"][0], json!({"address": "192.0.2.2/24"}));
        let check = to_check(&env(), Some(&made)).unwrap();
        assert_eq!(check.ips, ["10.77.1.2/24", "fd77:1::2/64"]);
    }

    #[test]
    fn a_strange_result_is_refused() {
        for bad in [
            json!([]),
            json!("x"),
            json!({"cniVersion": "9.9.9"}),
            json!({"cniVersion": "0.2.0"}),
        ] {
            assert!(convert(Version::V1_0_0, &bad).is_err(), "{bad}");
        }
        // Keys of another type are replaced, not trusted.
        let odd = json!({"ips": {"a": 1}, "interfaces": null, "routes": 7});
        let made = result(Version::V1_0_0, Some(&odd), &env(), &added(), None).unwrap();
        assert_eq!(made["ips"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_check_compares_what_is_ours() {
        let before = json!({"interfaces": [{"name": "br0"}], "ips": [{"address": "192.0.2.2/24", "interface": 0}]});
        let made = result(Version::V1_0_0, Some(&before), &env(), &added(), None).unwrap();
        let check = to_check(&env(), Some(&made)).unwrap();
        assert_eq!(check.ips, ["10.77.1.2/24", "fd77:1::2/64"]);
        assert_eq!(check.mac.as_deref(), Some("0a:58:0a:4d:01:02"));
        assert_eq!(check.routes.len(), 2);
        assert!(to_check(&env(), None).is_err());
        assert!(to_check(&env(), Some(&json!({}))).is_err());
    }
}
