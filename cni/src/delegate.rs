//! Another IPAM plugin gives the addresses: it is found in `CNI_PATH` and called with our environment and
//! configuration, as the specification's section 4 has it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::api::{Delegated, Route};
use crate::conf::RESULT;
use crate::env::Env;
use crate::error::{DECODE, ENV, Error, FIELD, IO, Result};
use crate::shape::{self, Tree};

/// What it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Addresses.
    pub addresses: Vec<Delegated>,
    /// Routes.
    pub routes: Vec<Route>,
    /// DNS, as it is.
    pub dns: Option<Value>,
}

/// Calls the plugin with a verb.
///
/// # Errors
/// It cannot be found or started, or its own error.
pub fn call(plugin: &str, verb: &str, env: &Env, stdin: &[u8]) -> Result<Value> {
    let program = find(plugin, &env.path)?;
    let failed = |e: io::Error| {
        Error::new(
            IO,
            format!("IPAM plugin {}: {e}", program.display()),
            "reinstall it",
        )
    };
    let mut child = Command::new(&program)
        .env("CNI_COMMAND", verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    let pipe = child.stdin.take();
    // While it is read: a plugin may answer before it has read everything.
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A plugin that ends without reading says why by its status.
            pipe.map(|mut pipe| pipe.write_all(stdin))
        });
        child.wait_with_output()
    });
    let output = output.map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(refusal(plugin, &output.status.to_string(), &text));
    }
    answer(plugin, &text)
}

/// What it printed, under the names that are read here.
fn answer(plugin: &str, text: &str) -> Result<Value> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let bad = |why: String| {
        let some: String = text.chars().take(80).collect();
        Error::new(
            DECODE,
            format!("IPAM plugin {plugin} answered {some:?}: {why}"),
            "look at its log",
        )
    };
    let tree = Tree::parse(text.as_bytes()).map_err(|e| bad(e.to_string()))?;
    shape::read(tree, &RESULT, "result", &mut Vec::new()).map_err(|e| bad(e.to_string()))
}

/// What a plugin said no with; one that crashed has said something else.
fn refusal(plugin: &str, status: &str, text: &str) -> Error {
    let answer: Value = serde_json::from_str(text.trim()).unwrap_or_default();
    let words = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let code = answer["code"]
        .as_u64()
        .and_then(|code| u32::try_from(code).ok());
    let msg = match words("msg") {
        msg if msg.is_empty() => {
            let some: String = text.trim().chars().take(80).collect();
            format!("it ended with {status} {some}")
        }
        msg => msg,
    };
    Error::new(
        code.filter(|code| *code > 0)
            .unwrap_or(crate::api::CODE_FAILED),
        format!("IPAM plugin {plugin}: {}", msg.trim()),
        words("details"),
    )
}

/// Reads an IPAM result of any version that is supported.
///
/// # Errors
/// It has no addresses, or they are not where they should be.
pub fn read(plugin: &str, result: &Value) -> Result<Given> {
    let bad = |what: &str| {
        Error::new(
            DECODE,
            format!("IPAM plugin {plugin} gave {what}"),
            "use one that speaks CNI 0.3.1 or newer",
        )
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let ips = result["ips"].as_array().ok_or_else(|| bad("no ips"))?;
    let mut addresses = Vec::new();
    for ip in ips {
        addresses.push(Delegated {
            address: text(&ip["address"]).ok_or_else(|| bad("an ip without address"))?,
            gateway: text(&ip["gateway"]).filter(|gateway| !gateway.is_empty()),
        });
    }
    if addresses.is_empty() {
        return Err(bad("no addresses"));
    }
    let mut routes = Vec::new();
    for route in result["routes"].as_array().into_iter().flatten() {
        let gw = match text(&route["gw"]).filter(|gw| !gw.is_empty()) {
            Some(gw) => Some(
                gw.parse()
                    .map_err(|_| bad("a route by what is no IP address"))?,
            ),
            None => None,
        };
        let dst = text(&route["dst"]).ok_or_else(|| bad("a route without dst"))?;
        routes.push(Route { dst, gw });
    }
    let dns = result
        .get("dns")
        .filter(|dns| dns.as_object().is_some_and(|dns| !dns.is_empty()));
    Ok(Given {
        addresses,
        routes,
        dns: dns.cloned(),
    })
}

fn find(plugin: &str, path: &str) -> Result<PathBuf> {
    if plugin.contains('/') || plugin.starts_with('.') {
        return Err(Error::new(
            FIELD,
            format!("ipam.type {plugin:?} is not the name of a plugin"),
            "write a name such as host-local",
        ));
    }
    let found = path
        .split(':')
        .map(|folder| PathBuf::from(folder).join(plugin));
    found
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| {
            Error::new(
                ENV,
                format!("there is no IPAM plugin {plugin:?} in CNI_PATH {path:?}"),
                "install it, or leave ipam out: the agent gives addresses itself",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_of_every_version_are_read() {
        for result in [
            json!({"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
                "routes": [{"dst": "0.0.0.0/0"}], "dns": {}}),
            json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
                "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}]}),
        ] {
            let given = read("x", &result).unwrap();
            assert_eq!(given.addresses[0].gateway.as_deref(), Some("10.1.2.1"));
            assert_eq!(given.routes.len(), 1);
            assert_eq!(given.dns, None);
        }
        for bad in [
            Value::Null,
            json!({}),
            json!({"ips": []}),
            json!({"ips": [{}]}),
            json!({"ip4": {"ip": "10.1.2.3/24"}}),
            json!({"ips": [{"address": "1"}], "routes": [{"dst": "x", "gw": "y"}]}),
        ] {
            assert_eq!(read("x", &bad).unwrap_err().code, DECODE, "{bad}");
        }
    }

    #[test]
    fn an_answer_is_read_under_any_case() {
        let text = r#"{"IPs":[{"Address":"10.1.2.3/24","GATEWAY":"10.1.2.1"}],"Routes":null}"#;
        let given = read("x", &answer("x", text).unwrap()).unwrap();
        assert_eq!(given.addresses[0].address, "10.1.2.3/24");
        assert_eq!(given.addresses[0].gateway.as_deref(), Some("10.1.2.1"));
        assert_eq!(answer("x", " \n").unwrap(), Value::Null);
        for bad in ["[]", "7", "{", r#"{"ips":7}"#] {
            assert_eq!(answer("x", bad).unwrap_err().code, DECODE, "{bad}");
        }
    }

    #[test]
    fn a_plugin_is_a_name_in_the_path() {
        for name in ["../sh", "/bin/sh", ".hidden"] {
            assert_eq!(find(name, "/bin").unwrap_err().code, FIELD);
        }
        assert_eq!(
            find("no-such-plugin", "/bin:/usr/bin").unwrap_err().code,
            ENV
        );
        assert!(find("sh", "/nowhere:/bin").is_ok());
    }
}
