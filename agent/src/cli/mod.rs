//! The command line.

mod agent;
mod capture;
mod check;
mod client;
mod doctor;
mod drops;
mod health;
mod kernel;
mod log;
mod manual;
mod output;
mod privileges;
mod reconcile;
mod show;
mod signals;
mod takeover;
mod top;
mod trace;
mod ui;
mod width;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use anyhow::Context;
use ringway_kernel::sysctl;

use crate::{install, metrics, sources};
use client::{Client, ClientError};
use ringway_config::{Config, KEYS, When};
use ringway_control::view;
use width::width;

/// A userspace packet switch that is the pod network of a node.
#[derive(Parser)]
#[command(name = "ringway", version, disable_help_subcommand = true)]
#[command(
    after_help = "Start with `ringway config check`, then `ringway agent`.\n\
    What is wrong: `ringway doctor`. Where a packet went: `ringway trace`, `ringway drops`,\n\
    `ringway capture`."
)]
struct Arguments {
    /// Configuration file [default: /etc/ringway/ringway.toml]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// API socket of the agent [default: node.socket of the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the agent of this node
    #[command(after_help = "Needs CAP_NET_ADMIN, CAP_SYS_ADMIN and /dev/net/tun.\n\
        Logs to stderr or journald (log.format); `ringway log` changes the level.\n\
        SIGTERM and SIGINT stop it; pods keep their interfaces. SIGHUP reads the\n\
        configuration again and says what a restart would change. Other signals\n\
        are ignored.")]
    Agent {
        /// Wait for the underlay's interface and address instead of failing
        #[arg(long)]
        wait: bool,
    },
    /// Show the agent, its underlay and its workers
    Status(Json),
    /// Answer a probe: exit status 0 if it is so, else 1 and the reason
    #[command(
        after_help = "Neither depends on the API server: a node that forwards by what it knew last is ready."
    )]
    Health {
        /// What is asked
        #[command(subcommand)]
        probe: health::Probe,
    },
    /// List attached pods with their addresses and traffic
    Pods(Json),
    /// Show a table of the switch
    Tables {
        /// Which table
        table: Table,
        #[command(flatten)]
        json: Json,
    },
    /// List what was lost by reason, pod or peer, with cause and remedy
    #[command(
        after_help = "Counts since the agent started, and, of the kernel's own losses on the way to the switch\n\
        and from it, since the interface was made. Rates are of the last half second, with\n\
        --watch since the look before. With --watch --json: an object a line.\n\
        ringway drops --watch --by pod\n\
        ringway drops --last spoofed_ipv4 --hex\n\
        ringway drops --explain too_big"
    )]
    Drops(drops::DropsOptions),
    /// Watch the node in a terminal: pods, peers, drops and workers, with rates
    #[command(
        after_help = "Keys: 1-4 or tab switch tables, s or an underlined letter sorts, / filters,\n\
        enter shows all about a row, q ends, ? lists the rest. Without a terminal, with\n\
        TERM=dumb and with --once: one interval as text. NO_COLOR leaves colours out.\n\
        For programs: ringway status --json, pods --json, tables peers --json,\n\
        drops --json."
    )]
    Top(top::Top),
    /// Capture packets at pods, peers, the underlay, and where they are dropped
    #[command(
        after_help = "Without points: everywhere. A packet is seen where it comes in, as it came, and\n\
        where it goes out, as it goes; each says what became of it.\n\
        ringway capture --pod default/web --drops tcp port 80\n\
        ringway capture --peer node2 -w - | wireshark -k -i -\n\
        kubectl exec -i ... -- ringway capture --pod default/web -w - >web.pcapng"
    )]
    Capture(Box<capture::Capture>),
    /// Print the metrics, as Prometheus reads them
    #[command(
        after_help = "OpenMetrics 1.0.0. docs/metrics.md lists every name; metrics.listen of the\n\
        configuration has them served by HTTP as well."
    )]
    Metrics {
        /// Print docs/metrics.md instead; asks no agent
        #[arg(long, hide = true)]
        table: bool,
    },
    /// Say what becomes of a packet: each step, the verdict, and where to look
    #[command(
        after_help = "The packet runs through the pipeline on the tables as they are, without effect.\n\
        ringway trace --from default/web --to 10.77.2.2 --tcp 443\n\
        ringway trace --from default/web --pcap web.pcapng --frame 3\n\
        ringway trace --live --pod default/web --filter 'tcp port 443' --count 5"
    )]
    Trace(Box<trace::Trace>),
    /// Say what is wrong with this node, the most likely cause first, and what cures it
    #[command(
        after_help = "Run it on the node, as root: it looks at links, routes, firewall and into pods, and\n\
        changes nothing. Exit status 0: nothing is wrong; 1: something is.\n\
        ringway doctor\n\
        ringway doctor --from default/web --to 10.77.2.2\n\
        ringway doctor --bundle report.tar"
    )]
    Doctor(doctor::Doctor),
    /// Show this node live in a browser: peers, pods, drops
    #[command(
        after_help = "A page on 127.0.0.1, for who has the printed address only; it changes nothing.\n\
        kubectl -n ringway exec -i POD -c agent -- ringway ui\n\
        kubectl -n ringway port-forward POD 9473"
    )]
    Ui(ui::Ui),
    /// Give a network namespace an interface in the pod network
    Attach(Attach),
    /// Remove a pod's interface; succeeds if there is none
    Detach(Detach),
    /// Install the CNI plugin and its configuration where container runtimes look
    #[command(after_help = "Files are replaced by rename. They stay until `ringway uninstall`.")]
    InstallCni(InstallCni),
    /// Show or change what the agent logs, while it runs
    #[command(
        after_help = "It goes before RUST_LOG and log.level of the configuration, which are in force again\n\
        with `ringway log usual`, after DURATION, and when the agent is started again.\n\
        ringway log debug --for 10m\n\
        ringway log info,ringway_control=debug"
    )]
    Log(log::LogLevel),
    /// Pause or resume restoring what others change in the node's kernel
    Reconcile {
        /// What to do
        #[command(subcommand)]
        verb: reconcile::ReconcileVerb,
    },
    /// Give this node back to Flannel: the agent takes all of Ringway away and idles
    #[command(
        after_help = "Drain the node first: kubectl drain NODE --ignore-daemonsets. Pods that stay lose\n\
        their network and have to be made anew; each is listed with the command. Flannel\n\
        finds its MAC address in the node's annotations. An agent that is started again\n\
        stays idle until Flannel's overlay was here, the machine was started anew, or\n\
        --undo."
    )]
    GiveBack {
        /// Although there are pods, which lose their network
        #[arg(long)]
        yes: bool,
        /// Serve a node again that was given back
        #[arg(long, conflicts_with = "yes")]
        undo: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Remove all that Ringway has made or changed on this node; the agent must be stopped
    #[command(
        after_help = "Pods lose their network. The configuration file stays.\n\
        What the node's record does not name is found by what it is: interfaces in every\n\
        namespace, network configurations and the plugin in the folders above."
    )]
    Uninstall(Folders),
    /// Check or show the configuration
    Config {
        /// What to do with it
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Print completions for a shell
    #[command(after_help = "bash: ringway completions bash >/etc/bash_completion.d/ringway")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = "ringway man /usr/local/share/man/man1")]
    Man {
        /// The folder; created if needed
        #[arg(value_name = "PATH")]
        folder: PathBuf,
    },
}

#[derive(clap::Args)]
struct Json {
    /// Print JSON, as the API answers it
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Table {
    /// MAC address to port
    Mac,
    /// Prefix to port, path, or unreachable
    Routes,
    /// Other nodes, and the traffic to and from them
    Peers,
    /// IP address to MAC address: the answers to ARP and neighbour discovery
    Neighbours,
    /// Tunnels: addresses, encapsulation, MTU
    Paths,
}

#[derive(clap::Args)]
struct Attach {
    /// Network namespace: a name that `ip netns` lists, or a path
    #[arg(long, value_name = "NAME|PATH")]
    netns: String,
    /// Name of the interface inside
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    ifname: String,
    /// Address in this node's pod network; once for each family
    #[arg(long = "ip", value_name = "ADDRESS", required = true)]
    ips: Vec<String>,
    /// MAC address [default: 0a:58 and the IPv4 address]
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
    /// Name of the pod [default: <netns>/<ifname>]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// MTU in bytes [default: what the underlay leaves]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u16>,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
struct Detach {
    /// Network namespace: a name that `ip netns` lists, or a path
    #[arg(long, value_name = "NAME|PATH", required_unless_present = "name")]
    netns: Option<String>,
    /// Name of the interface inside
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    ifname: String,
    /// Name of the pod, instead of namespace and interface
    #[arg(long, value_name = "NAME", conflicts_with = "netns")]
    name: Option<String>,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
struct InstallCni {
    /// The plugin [default: ringway-cni beside this program]
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
    /// Without its configuration, which an agent with cni.install writes
    #[arg(long)]
    plugin_only: bool,
    #[command(flatten)]
    folders: Folders,
}

#[derive(clap::Args)]
struct Folders {
    /// Folder of CNI plugins
    #[arg(long, value_name = "PATH", default_value = install::BIN_DIR)]
    bin_dir: PathBuf,
    /// Folder of CNI configurations
    #[arg(long, value_name = "PATH", default_value = install::CONF_DIR)]
    conf_dir: PathBuf,
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Check the file, and that this machine has what it names
    #[command(after_help = "With --running: exit status 1 if what runs is not what the file says.")]
    Check {
        /// Ask the agent whether it runs with the file as it is now
        #[arg(long)]
        running: bool,
    },
    /// Make the agent read the file now; it does so by itself when the file changes
    #[command(after_help = "SIGHUP does the same.")]
    Reload(Json),
    /// Print the effective configuration; each key says when a change takes effect
    Show(Json),
    /// List every key
    Keys,
}

/// Why a verb failed, ready to be printed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Config(#[from] ringway_config::ConfigError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Install(#[from] install::InstallError),
    #[error("{0}")]
    Capture(#[from] capture::CaptureError),
    #[error("{0}")]
    Trace(#[from] trace::TraceError),
    #[error("{0}")]
    Top(#[from] ringway_top::TopError),
    #[error("{}", found(*.0))]
    Unwell(usize),
    #[error(
        "the answer cannot be written: {0}\n  to do: see where stdout leads to, a full disk perhaps"
    )]
    Output(std::io::Error),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

fn found(findings: usize) -> String {
    match findings {
        1 => "1 finding".into(),
        n => format!("{n} findings, the most likely cause first"),
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = command().term_width(width()).try_get_matches();
    let outcome = match matches.and_then(|m| Arguments::from_arg_matches(&m)) {
        Ok(arguments) => run(&arguments),
        // Help and version are asked for; anything else is a mistake, for which 2 is usual.
        Err(told) if told.use_stderr() => {
            let _ = told.print();
            return ExitCode::from(2);
        }
        Err(asked) => output::print_styled(&asked.render()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&format!("ringway: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// The command line's definition, of which help, completions and manual pages are made.
fn command() -> clap::Command {
    Arguments::command()
}

impl Arguments {
    /// Where the configuration is read from.
    fn file(&self) -> &Path {
        let usual = Path::new(ringway_config::DEFAULT_FILE);
        self.config.as_deref().unwrap_or(usual)
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Agent { wait } => agent::run(arguments.file(), arguments.socket.as_deref(), *wait),
        Verb::Completions { shell } => manual::completions(*shell),
        Verb::Man { folder } => manual::pages(folder),
        Verb::Metrics { table: true } => output::print(&metrics::table::page()),
        Verb::Config { verb } => configuration(arguments, verb),
        Verb::InstallCni(how) => install_cni(arguments, how),
        Verb::Uninstall(folders) => uninstall(arguments, folders),
        Verb::Doctor(wanted) => {
            let client = Client::new(socket(arguments)?);
            doctor::run(&client, arguments.file(), wanted)
        }
        Verb::Drops(options) if let Some(explained) = drops::explained(options) => explained,
        verb => remote(&Client::new(socket(arguments)?), verb),
    }
}

/// The socket given, else the configuration's, else the usual place.
fn socket(arguments: &Arguments) -> Result<PathBuf, Failure> {
    if let Some(socket) = &arguments.socket {
        return Ok(socket.clone());
    }
    match Config::load(arguments.file()) {
        Ok(config) => Ok(config.node.socket),
        // Whoever names a file means that agent, and no other.
        Err(e) if arguments.config.is_some() => Err(e.into()),
        Err(e) => {
            // Other users may not read it, and an agent may have been told another; else it is worth a word.
            if !matches!(*e.problem, ringway_config::Problem::Read { .. }) {
                output::complain(&format!(
                    "ringway: warning: {e}\n  asking on {} meanwhile",
                    ringway_config::DEFAULT_SOCKET
                ));
            }
            Ok(ringway_config::DEFAULT_SOCKET.into())
        }
    }
}

fn configuration(arguments: &Arguments, verb: &ConfigVerb) -> Result<(), Failure> {
    match verb {
        ConfigVerb::Check { running } => {
            check::check(&Config::load(arguments.file())?)?;
            match running {
                true => check::running(&Client::new(socket(arguments)?), arguments.file()),
                false => Ok(()),
            }
        }
        ConfigVerb::Reload(json) => {
            let client = Client::new(socket(arguments)?);
            let nothing = serde_json::json!({});
            client.post("/v1/config/reload", &nothing, json.json, show::reloaded)
        }
        ConfigVerb::Show(json) => {
            let config = Config::load(arguments.file())?;
            let text = ringway_config::show(&config);
            if json.json {
                let value: serde_json::Value =
                    toml::from_str(&text).map_err(anyhow::Error::from)?;
                output::print(&format!("{value:#}\n"))
            } else {
                output::print(&text)
            }
        }
        ConfigVerb::Keys => {
            let mut rows = view::columns::Rows::new(width(), &["KEY", "CHANGES", "MEANING"]);
            for key in KEYS {
                let when = match key.when {
                    When::Live => "live",
                    When::Restart => "restart",
                };
                let mut doc = key.doc.to_owned();
                if let Some((min, max)) = ringway_config::range_of(key.key) {
                    doc.push_str(&format!("; {min} to {max}"));
                }
                rows.push([key.key.into(), when.into(), doc]);
            }
            output::print(&rows.to_string())
        }
    }
}

fn install_cni(arguments: &Arguments, how: &InstallCni) -> Result<(), Failure> {
    let mut config = Config::load(arguments.file())?;
    if let Some(socket) = &arguments.socket {
        config.node.socket = socket.clone();
    }
    let usual = install::Places::usual();
    let places = install::Places {
        plugin: how.plugin.clone().unwrap_or(usual.plugin),
        bin_dir: how.folders.bin_dir.clone(),
        conf_dir: how.folders.conf_dir.clone(),
        list: !how.plugin_only,
    };
    let (installed, preferred) = install::install(&config, &places)?;
    for other in preferred {
        output::complain(&format!(
            "ringway: warning: {other} in {} sorts before {}, so that container runtimes take it instead\n  \
             to do: remove or rename it",
            places.conf_dir.display(),
            install::CONFLIST
        ));
    }
    if let Some(what) = install::lacks_loopback(&places.bin_dir) {
        output::complain(&format!("ringway: warning: {what}"));
    }
    let files = installed.files.iter();
    let lines: Vec<String> = files.map(|file| format!("{}\n", file.display())).collect();
    output::print(&lines.concat())
}

/// Kernel settings are where the configuration says from now on.
fn settings(config: &Config) -> Result<(), Failure> {
    let set = sysctl::set_root(&config.node.sysctl_root);
    set.context("node.sysctl_root").map_err(Failure::Other)
}

/// Tells the cluster that this node has no network any more; why that is not known there, if it is not.
fn untold(config: &Config) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return Some(e.to_string()),
    };
    let untold = runtime.block_on(sources::give_up(config)).err();
    // Whatever hangs in a look-up of a name is not waited for.
    runtime.shutdown_background();
    untold
}

fn uninstall(arguments: &Arguments, folders: &Folders) -> Result<(), Failure> {
    let config = Config::load(arguments.file())?;
    settings(&config)?;
    let places = install::Places {
        bin_dir: folders.bin_dir.clone(),
        conf_dir: folders.conf_dir.clone(),
        ..install::Places::usual()
    };
    let report = install::uninstall(&config, &places)?;
    let none = report == install::Report::default();
    let untold = (!none).then(|| untold(&config)).flatten();
    for note in report.notes.iter().chain(&untold) {
        output::complain(&format!("ringway: warning: {note}"));
    }
    let mut text: String = report
        .done
        .iter()
        .map(|done| format!("removed or put back: {done}\n"))
        .collect();
    if none {
        text.push_str("nothing of Ringway was found\n");
    }
    if !report.pods.is_empty() {
        text.push_str(&format!(
            "{} pods have no network any more: make them anew (kubectl delete pod, or restart the\n\
             containers) once another network is installed\n",
            report.pods.len()
        ));
    }
    output::print(&text)?;
    if report.left.is_empty() {
        return Ok(());
    }
    let left = report.left.join("\n  ");
    Err(anyhow::anyhow!(
        "not everything could be removed:\n  {left}\n  to do: see each line, then run it again"
    )
    .into())
}

/// The verbs that ask the agent.
fn remote(client: &Client, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status(json) => client.print("/v1/status", json.json, show::status),
        Verb::Pods(json) => client.print("/v1/pods", json.json, show::pods),
        Verb::Drops(options) => drops::run(client, options),
        Verb::Tables { table, json } => {
            let json = json.json;
            match table {
                Table::Mac => client.print("/v1/tables/mac", json, show::macs),
                Table::Routes => client.print("/v1/tables/routes", json, show::routes),
                Table::Peers => client.print("/v1/tables/peers", json, show::peers),
                Table::Neighbours => client.print("/v1/tables/neighbours", json, show::neighbours),
                Table::Paths => client.print("/v1/tables/paths", json, show::paths),
            }
        }
        Verb::Top(wanted) => top::run(client, wanted),
        Verb::Capture(wanted) => capture::run(client, wanted),
        Verb::Metrics { .. } => client.print_text("/metrics"),
        Verb::Trace(wanted) => trace::run(client, wanted),
        Verb::Attach(a) => {
            let mut body = serde_json::json!({
                "netns": a.netns, "ifname": a.ifname, "ips": a.ips,
            });
            for (key, value) in [("mac", &a.mac), ("name", &a.name)] {
                if let Some(value) = value {
                    body[key] = value.as_str().into();
                }
            }
            if let Some(mtu) = a.mtu {
                body["mtu"] = mtu.into();
            }
            client.post("/v1/attach", &body, a.json.json, |pod: &view::Pod| {
                show::attached(pod)
            })
        }
        Verb::Detach(d) => {
            let body = match &d.name {
                Some(name) => serde_json::json!({ "name": name }),
                None => serde_json::json!({ "netns": d.netns, "ifname": d.ifname }),
            };
            client.post("/v1/detach", &body, d.json.json, show::detached)
        }
        Verb::Ui(wanted) => ui::run(client, wanted),
        Verb::Log(wanted) => log::run(client, wanted),
        Verb::Reconcile { verb } => reconcile::run(client, verb),
        Verb::Health { probe } => health::probe(client, *probe),
        Verb::GiveBack {
            undo: true, json, ..
        } => {
            let nothing = serde_json::json!({});
            client.post("/v1/take-over", &nothing, json.json, show::taken_again)
        }
        Verb::GiveBack { yes, json, .. } => {
            let body = serde_json::json!({ "pods_too": yes });
            client.post("/v1/give-back", &body, json.json, show::given_back)
        }
        Verb::Agent { .. }
        | Verb::Config { .. }
        | Verb::Doctor(_)
        | Verb::InstallCni(_)
        | Verb::Uninstall(_)
        | Verb::Completions { .. }
        | Verb::Man { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    /// Every verb with its words, `ringway` first.
    fn verbs(command: &clap::Command, words: &str) -> Vec<(String, clap::Command)> {
        let words = format!("{words} {}", command.get_name()).trim().to_owned();
        let deeper = command.get_subcommands().flat_map(|c| verbs(c, &words));
        let deeper: Vec<_> = deeper.collect();
        std::iter::once((words, command.clone()))
            .chain(deeper)
            .collect()
    }

    #[test]
    fn help_fits_80_columns() {
        let mut command = command().term_width(80);
        command.build();
        let all = verbs(&command, "");
        assert!(all.len() > 15, "{}", all.len());
        for (words, command) in all {
            for help in [
                command.clone().render_help(),
                command.clone().render_long_help(),
            ] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{words}: {line}");
                }
            }
        }
    }

    #[test]
    fn every_verb_has_a_manual_page() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("man1");
        manual::pages(&folder).unwrap();
        let mut command = command();
        command.build();
        for (words, command) in verbs(&command, "") {
            let page = folder.join(format!("{}.1", words.replace(' ', "-")));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{page:?}: {e}"));
            let about = command.get_about().unwrap().to_string();
            let first = about.split(' ').next().unwrap();
            assert!(
                text.contains(first) && text.contains(".SH NAME"),
                "{page:?}: {text}"
            );
        }
    }

    #[test]
    fn detach_needs_one_way_to_name_the_pod() {
        let parse = |text: &str| Arguments::try_parse_from(text.split(' '));
        assert!(parse("ringway detach").is_err());
        assert!(parse("ringway detach --name a --netns b").is_err());
        assert!(parse("ringway detach --name a").is_ok());
        assert!(parse("ringway detach --netns b").is_ok());
        assert!(parse("ringway attach --netns b").is_err());
        assert!(parse("ringway tables flows").is_err());
        assert!(parse("ringway status --json --socket /s").is_ok());
    }
}
