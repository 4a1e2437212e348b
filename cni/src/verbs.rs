//! ADD, DEL, CHECK, GC, STATUS, VERSION.

use serde_json::{Value, json};

use crate::annotations;
use crate::api::{Add, Added, Attachment, Collected, Done, Gc, PodIdentity};
use crate::args::Args;
use crate::capabilities;
use crate::client::{self, Failure};
use crate::conf::Conf;
use crate::delegate::{self, Given};
use crate::env::Env;
use crate::error::{Error, Result, UNAVAILABLE};
use crate::pending;
use crate::result;
use crate::version::{self, Version};

/// Runs the verb of the environment; what to print, and whether it succeeded.
pub fn run(env: &Env, stdin: &[u8]) -> (String, bool) {
    // An error is told in the version asked for, if that could be read.
    let mut spoken = Version::V1_1_0.name().to_owned();
    match verb(env, stdin, &mut spoken) {
        Ok(Value::Null) => (String::new(), true),
        Ok(answer) => (format!("{answer:#}\n"), true),
        Err(error) => {
            let mut answer = json!(error);
            answer["cniVersion"] = spoken.into();
            (format!("{answer:#}\n"), false)
        }
    }
}

fn verb(env: &Env, stdin: &[u8], spoken: &mut String) -> Result<Value> {
    env.check()?;
    if env.command == "VERSION" {
        return Ok(json!({
            "cniVersion": Version::V1_1_0.name(),
            "supportedVersions": version::names(),
        }));
    }
    let conf = match env.command.as_str() {
        "DEL" => Conf::parse_for_del(stdin)?,
        "GC" | "STATUS" => Conf::parse_for_all(stdin)?,
        _ => Conf::parse(stdin)?,
    };
    if !conf.cni_version.is_empty() {
        spoken.clone_from(&conf.cni_version);
    }
    let version = match Version::parse(&conf.cni_version) {
        // It answers nothing that would need one, and what an ADD was refused for must end all the same.
        Err(_) if env.command == "DEL" => Version::V0_3_1,
        other => other?,
    };
    let call = Call {
        env,
        stdin,
        conf: &conf,
        version,
    };
    match env.command.as_str() {
        "ADD" => call.add(),
        "DEL" => call.del(),
        "CHECK" => call.check(),
        "GC" => call.gc(),
        _ => call.status(),
    }
}

struct Call<'a> {
    env: &'a Env,
    stdin: &'a [u8],
    conf: &'a Conf,
    version: Version,
}

impl Call<'_> {
    fn add(&self) -> Result<Value> {
        // All that can be refused here is refused before another plugin gives an address.
        let mut add = self.add_request()?;
        if let Some(before) = &self.conf.prev_result {
            result::convert(self.version, before)?;
        }
        let said = |dns: &Value| dns.as_object().is_some_and(|dns| !dns.is_empty());
        let runtime = self.conf.runtime_config.dns.as_ref().map(result::dns);
        let mut dns = runtime.filter(said).or_else(|| self.conf.dns.clone());
        let Some(plugin) = self.conf.delegate() else {
            return self.added(&add, dns.as_ref());
        };
        let given = self
            .ipam("ADD")
            .and_then(|result| delegate::read(plugin, &result));
        let made = given.and_then(|given| {
            let Given {
                addresses,
                routes,
                dns: theirs,
            } = given;
            (add.delegated, add.routes) = (addresses, routes);
            dns = dns.take().or(theirs);
            self.added(&add, dns.as_ref())
        });
        if made.is_err() {
            // Its own errors are of less interest than ours.
            let _ = self.ipam("DEL");
        }
        made
    }

    fn added(&self, add: &Add, dns: Option<&Value>) -> Result<Value> {
        let added: Added =
            client::post(&self.conf.socket(), "/v1/cni/add", add).map_err(Failure::error)?;
        let before = self.conf.prev_result.as_ref();
        result::result(self.version, before, self.env, &added, dns)
    }

    /// What the runtime asks for: a capability goes before an annotation, that before `args.cni`, that
    /// before `CNI_ARGS`. Of a capability zero and empty ask for nothing.
    fn add_request(&self) -> Result<Add> {
        self.conf.supported()?;
        let runtime = &self.conf.runtime_config;
        let args = Args::parse(&self.env.args)?;
        let noted = annotations::read(&runtime.annotations)?;
        let outer = &self.conf.args.cni;
        let ips = [
            ("runtimeConfig.ips", &runtime.ips),
            (annotations::IPS, &noted.ips),
            ("args.cni.ips", &outer.ips),
            ("CNI_ARGS: IP", &args.ips),
        ];
        let macs = [
            ("runtimeConfig.mac", &runtime.mac),
            (annotations::MAC, &noted.mac),
            ("args.cni.mac", &outer.mac),
            ("CNI_ARGS: MAC", &args.mac),
        ];
        let ips = ips.into_iter().find(|(_, ips)| !ips.is_empty());
        let mac = macs
            .into_iter()
            .find_map(|(place, mac)| Some((place, mac.as_deref().filter(|mac| !mac.is_empty())?)));
        Ok(Add {
            attachment: self.attachment(),
            netns: self.env.netns.clone(),
            network: self.conf.name.clone(),
            ips: ips.map_or(Ok(Vec::new()), |(place, ips)| capabilities::ips(place, ips))?,
            mac: mac
                .map(|(place, mac)| capabilities::mac(place, mac))
                .transpose()?,
            mtu: self.conf.mtu.filter(|mtu| *mtu > 0),
            bandwidth: capabilities::bandwidth(runtime.bandwidth, noted.bandwidth),
            port_mappings: capabilities::ports(&runtime.port_mappings),
            pod: (args.pod != PodIdentity::default()).then_some(args.pod),
            ignored: self.conf.unknown.clone(),
            ..Add::default()
        })
    }

    fn del(&self) -> Result<Value> {
        let attachment = self.attachment();
        let done: std::result::Result<Done, Failure> =
            client::post(&self.conf.socket(), "/v1/cni/del", &attachment);
        match done {
            Ok(_) => {}
            // The runtime will not repeat a DEL that has succeeded; the agent finds the file.
            Err(Failure::Absent(_)) => pending::leave(&self.conf.pending(), &attachment)?,
            Err(Failure::Refused(error)) => return Err(error),
        }
        self.ipam("DEL").map(|_| Value::Null)
    }

    fn check(&self) -> Result<Value> {
        self.version.has("CHECK", Version::V0_4_0)?;
        self.ipam("CHECK")?;
        let mut check = result::to_check(self.env, self.conf.prev_result.as_ref())?;
        check.attachment = self.attachment();
        check.netns.clone_from(&self.env.netns);
        check.port_mappings = capabilities::ports(&self.conf.runtime_config.port_mappings);
        let _: Done =
            client::post(&self.conf.socket(), "/v1/cni/check", &check).map_err(Failure::error)?;
        Ok(Value::Null)
    }

    fn gc(&self) -> Result<Value> {
        self.version.has("GC", Version::V1_1_0)?;
        let gc = Gc {
            network: self.conf.name.clone(),
            keep: self.conf.valid()?,
        };
        let ours: std::result::Result<Collected, Failure> =
            client::post(&self.conf.socket(), "/v1/cni/gc", &gc);
        // As the specification asks: go on after an error, and report it.
        let theirs = self.ipam("GC");
        ours.map_err(Failure::error)?;
        theirs.map(|_| Value::Null)
    }

    fn status(&self) -> Result<Value> {
        self.version.has("STATUS", Version::V1_1_0)?;
        let answer: std::result::Result<Done, Failure> =
            client::get(&self.conf.socket(), "/v1/cni/status");
        answer.map_err(|failure| Error {
            code: UNAVAILABLE,
            ..failure.error()
        })?;
        self.ipam("STATUS").map(|_| Value::Null)
    }

    /// Passes the verb on to the IPAM plugin, if there is another.
    fn ipam(&self, verb: &str) -> Result<Value> {
        match self.conf.delegate() {
            Some(plugin) if verb == "DEL" => {
                let stdin = self.conf.readable(self.stdin, self.version);
                delegate::call(plugin, verb, self.env, &stdin)
            }
            Some(plugin) => delegate::call(plugin, verb, self.env, self.stdin),
            None => Ok(Value::Null),
        }
    }

    fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.env.container_id.clone(),
            ifname: self.env.ifname.clone(),
        }
    }
}
