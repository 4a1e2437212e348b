//! What is shipped for Prometheus and Grafana (deploy/monitoring), against a real agent that a real Prometheus scrapes:
//! Debian's, unpacked by scripts/unpack.sh, on loopback in the agent's namespace.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Agent, Files, LIMIT, UNDERLAY, output, ringway, stderr};
use nix::sched::{CloneFlags, setns};
use ringway_agent::metrics::families;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(file: &str) -> String {
    let path = folder().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// A program of Debian's package, where it is.
fn program(name: &str) -> Option<PathBuf> {
    let file = format!("prometheus/usr/bin/{name}");
    let own = std::env::current_exe().unwrap();
    let beside = own.ancestors().nth(3).unwrap().join("debs").join(&file);
    let named = std::env::var_os("RINGWAY_DEBS").map(|debs| PathBuf::from(debs).join(&file));
    let mut all = named.into_iter().chain([beside]);
    let found = all.find(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED: prometheus could not be had; scripts/unpack.sh prometheus");
    }
    found
}

/// Every query of the dashboard, with the title of its panel.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&panel["title"]), text(&target["expr"]))
        })
    });
    targets.collect()
}

fn alerts() -> Vec<Value> {
    let rules = yaml("monitoring/rules.yaml");
    let groups = rules["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Names of metrics in a query.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ringway_"))
}

/// Labels in a query: of selectors, and of what is summed by.
fn labels(query: &str) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    for by in query.split("by (").skip(1) {
        all.extend(by.split(')').next().unwrap().split(", "));
    }
    for selector in query.split('{').skip(1) {
        let selector = selector.split('}').next().unwrap();
        all.extend(
            selector
                .split(',')
                .filter_map(|l| l.split(['=', '!']).next()),
        );
    }
    all
}

#[test]
fn what_dashboard_and_rules_name_is_in_the_table() {
    let known: BTreeSet<String> = families::ALL
        .iter()
        .flat_map(|f| f.sample_names())
        .collect();
    let of_table = families::ALL.iter().flat_map(|f| f.labels.iter().copied());
    // The scrape adds which node it was.
    let known_labels: BTreeSet<&str> = of_table.chain(["node", "instance", "job", "le"]).collect();
    let queries = queries();
    assert!(queries.len() > 30, "{}", queries.len());
    let alerts = alerts().into_iter();
    let of_alert = |alert: Value| {
        let text = |key: &str| alert[key].as_str().unwrap().to_owned();
        (text("alert"), text("expr"))
    };
    let mut used = BTreeSet::new();
    for (title, query) in queries.into_iter().chain(alerts.map(of_alert)) {
        for name in names(&query) {
            assert!(known.contains(name), "{title}: {name} is in no scrape");
            used.insert(name.to_owned());
        }
        for label in labels(&query) {
            assert!(known_labels.contains(label), "{title}: {label} is no label");
        }
        // A reason that is misspelt would never match.
        for quoted in query.split("reason").skip(1) {
            let Some(reasons) = quoted
                .split('"')
                .nth(1)
                .filter(|_| quoted.starts_with(['=', '!']))
            else {
                continue;
            };
            for reason in reasons.split('|') {
                let all = ringway_switch::DropReason::ALL;
                assert!(all.iter().any(|r| r.name() == reason), "{title}: {reason}");
            }
        }
    }
    assert!(used.len() > 30, "{used:?}");
}

/// As GitHub makes an anchor of a heading.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| {
        let text = line.trim_start_matches('#');
        (text != line).then(|| text.trim().to_lowercase())
    });
    let plain = |text: String| {
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(plain).collect()
}

#[test]
fn each_alert_leads_to_its_section_and_no_section_is_left_over() {
    let page = read("../docs/operations.md");
    let anchors = anchors(&page);
    let mut led = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        let begin = concat!(
            env!("CARGO_PKG_REPOSITORY"),
            "/blob/main/docs/operations.md#"
        );
        let anchor = url.strip_prefix(begin).unwrap_or_else(|| panic!("{url}"));
        assert!(anchors.contains(anchor), "{name}: no section {anchor}");
        assert!(alert["annotations"]["summary"].is_string());
        assert!(["warning", "critical"].contains(&alert["labels"]["severity"].as_str().unwrap()));
        led.insert(anchor.to_owned());
    }
    let sections = anchors
        .iter()
        .filter(|a| a.starts_with("ringway") && a.as_str() != "ringway");
    let sections: BTreeSet<String> = sections.cloned().collect();
    assert_eq!(led, sections);
}

#[test]
fn the_operators_objects_say_the_same() {
    let rule = yaml("monitoring/prometheusrule.yaml");
    assert_eq!(
        rule["spec"],
        yaml("monitoring/rules.yaml"),
        "run scripts/manifests.sh"
    );
    let (service, monitor) = (
        yaml("base/service.yaml"),
        yaml("monitoring/servicemonitor.yaml"),
    );
    let spec = &service["spec"];
    assert_eq!(spec["clusterIP"], "None");
    let port = &spec["ports"][0];
    assert!(port["targetPort"].is_number() && port["targetPort"] == port["port"]);
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], port["name"]);
    assert_eq!(endpoint["honorLabels"], true);
    let wanted = &monitor["spec"]["selector"]["matchLabels"];
    assert_eq!(wanted, &service["metadata"]["labels"]);
    let agents = yaml("base/daemonset.yaml");
    assert_eq!(
        spec["selector"],
        agents["spec"]["template"]["metadata"]["labels"]
    );
    // The agents listen there, at the address that their Service has.
    let config = yaml("base/config.yaml");
    let config: toml::Value =
        toml::from_str(config["data"]["ringway.toml"].as_str().unwrap()).unwrap();
    let listen = config["metrics"]["listen"].as_str().unwrap();
    assert_eq!(listen, format!("auto:{}", port["port"]));
    let env = agents["spec"]["template"]["spec"]["initContainers"][0]["env"].as_array();
    let node_ip = env
        .unwrap()
        .iter()
        .find(|e| e["name"] == ringway_config::NODE_IP);
    assert_eq!(
        node_ip.unwrap()["valueFrom"]["fieldRef"]["fieldPath"],
        "status.hostIP"
    );
    // The plain scrape keeps that Service.
    let scrape = &yaml("monitoring/scrape.yaml")["scrape_configs"][0];
    assert_eq!(
        scrape["relabel_configs"][0]["regex"],
        service["metadata"]["name"]
    );
    assert_eq!(scrape["honor_labels"], true);
}

#[test]
fn promtool_takes_the_rules_and_the_scrape() {
    let Some(promtool) = program("promtool") else {
        return;
    };
    let check = |words: &[&str], file: PathBuf| {
        let run = Command::new(&promtool).args(words).arg(&file).output();
        let run = run.unwrap();
        assert!(run.status.success(), "{}: {}", file.display(), stderr(&run));
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(
            !said.contains("WARNING") && !said.contains("duplicate"),
            "{said}"
        );
    };
    check(&["check", "rules"], folder().join("monitoring/rules.yaml"));
    // Debian's cannot ask Kubernetes: all but where the targets come from.
    let mut scrape = yaml("monitoring/scrape.yaml");
    let job = scrape["scrape_configs"][0].as_object_mut().unwrap();
    assert!(job.remove("kubernetes_sd_configs").is_some());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, scrape.to_string()).unwrap();
    check(&["check", "config"], file);
}

#[test]
fn promtool_takes_what_the_agent_says() {
    let Some(promtool) = program("promtool") else {
        return;
    };
    let Some(prometheus) = program("prometheus") else {
        return;
    };
    let began = Instant::now();
    let files = Files::new(|text| format!("{text}\n[metrics]\nlisten = \"127.0.0.1:9472\"\n"));
    let log = File::create(files.path("log")).unwrap();
    let mut agent = Agent::launch(files, UNDERLAY, "", |command| {
        command.stderr(log);
    });
    agent.wait_ready();
    let pod = Pod::attach(&agent, "10.77.1.10");
    // Traffic of every kind: to a pod, to a peer that is not there, to nobody, and a wrong source.
    agent.inside("ping -c 5 -i 0.01 -W 1 10.77.1.10 >/dev/null; ping -c 2 -i 0.01 -W 1 10.77.2.9 >/dev/null; true");
    pod.inside("ping -c 2 -i 0.01 -W 1 10.77.1.77 >/dev/null; true");

    let text = output(&["--socket", &agent.files.socket(), "metrics"]);
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("ringway_pods 1\n") && text.contains("ringway_peers 1\n"));
    assert!(text.contains("ringway_attach_duration_seconds_count 1\n"));
    let mut lint = Command::new(&promtool);
    lint.args(["check", "metrics"]).stdin(Stdio::piped());
    lint.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut lint = lint.spawn().unwrap();
    // It reads the older format, in which the end is a comment and a counter has its whole name.
    lint.stdin
        .take()
        .unwrap()
        .write_all(older(&text).as_bytes())
        .unwrap();
    let said = lint.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", stderr(&said));

    let _scraper = Scraper::start(&prometheus, &agent);
    let pid = agent.pid();
    let until = Instant::now() + LIMIT;
    // A rate needs two scrapes; those of a second apart are one answer at most.
    while ask(pid, "count_over_time(ringway_ready[1m]) >= 4").is_none_or(|r| r.is_empty()) {
        assert!(Instant::now() < until, "it does not scrape");
        agent.inside("ping -c 2 -i 0.01 -W 1 10.77.1.10 >/dev/null; ping -c 1 -W 1 10.77.2.9 >/dev/null; true");
        pod.inside("ping -c 1 -W 1 10.77.1.77 >/dev/null; true");
    }
    let mut empty = Vec::new();
    for (title, query) in queries() {
        let query = query
            .replace("$node", "node1")
            .replace("$__rate_interval", "10s");
        match ask(pid, &query) {
            Some(result) if !result.is_empty() => {}
            Some(_) => empty.push(format!("{title}: {query}")),
            None => panic!("{title}: {query} is refused"),
        }
    }
    // An alert that compares what is not there never fires.
    for alert in alerts() {
        // This agent has a file, and no source that could be stale.
        if alert["alert"] == "RingwaySourceStale" {
            continue;
        }
        let whole = alert["expr"].as_str().unwrap();
        let (compared, _) = whole.rsplit_once(' ').unwrap();
        let compared = compared.trim_end_matches(['=', '>', '<', ' ']);
        match ask(pid, compared) {
            Some(result) if !result.is_empty() => {}
            Some(_) => empty.push(format!("{}: {compared}", alert["alert"])),
            None => panic!("{}: {compared} is refused", alert["alert"]),
        }
    }
    assert!(empty.is_empty(), "no data: {empty:#?}");
    // What happened is what is said.
    for query in [
        "ringway_pod_packets_total{direction=\"to_pod\"} > 4",
        "ringway_tunnel_packets_total{direction=\"to_peer\"} > 0",
        "ringway_peer_path_mtu_bytes{carries=\"ipv4\"} == 1450",
        "sum(ringway_frames_total) == sum(ringway_received_frames_total)",
        "sum(rate(ringway_worker_busy_seconds_total[10s])) > 0",
        "ringway_visit_duration_seconds_count > 10",
        "up == 1",
    ] {
        assert!(ask(pid, query).is_some_and(|r| !r.is_empty()), "{query}");
    }
    let rules = get(pid, "/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert_eq!(agent.stop().code(), Some(0));
    println!("{:?} in all", began.elapsed());
}

/// OpenMetrics as Prometheus' older text.
fn older(text: &str) -> String {
    let mut counters = BTreeSet::new();
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, "counter"] => {
                counters.insert(name);
                out.push_str(&format!(
                    "# HELP {name}_total Some.\n# TYPE {name}_total counter\n"
                ));
            }
            ["#", "TYPE", name, "info"] => {
                out.push_str(&format!(
                    "# HELP {name}_info Some.\n# TYPE {name}_info gauge\n"
                ));
            }
            ["#", "TYPE", name, _] => out.push_str(&format!("# HELP {name} Some.\n{line}\n")),
            ["#", ..] => {}
            _ => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

/// A namespace with an interface in the pod network.
struct Pod(String);

impl Pod {
    fn attach(agent: &Agent, ip: &str) -> Pod {
        let pod = Pod(format!("rw{}m", std::process::id()));
        let added = Command::new("ip").args(["netns", "add", &pod.0]).status();
        assert!(added.unwrap().success());
        let socket = agent.files.socket();
        let words = ["--socket", &socket, "attach", "--netns", &pod.0, "--ip", ip];
        let done = ringway(&words).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        pod
    }

    fn inside(&self, script: &str) {
        let run = Command::new("ip")
            .args(["netns", "exec", &self.0, "sh", "-c", script])
            .output();
        assert!(run.unwrap().status.success());
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A Prometheus in the agent's namespace, which scrapes it four times in a second and has the rules.
struct Scraper {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Scraper {
    fn start(program: &Path, agent: &Agent) -> Scraper {
        let dir = tempfile::tempdir().unwrap();
        let rules = folder()
            .canonicalize()
            .unwrap()
            .join("monitoring/rules.yaml");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}\n\
             rule_files: [{rules:?}]\nscrape_configs:\n- job_name: ringway\n  honor_labels: true\n  \
             static_configs:\n  - targets: [\"127.0.0.1:9472\"]\n    labels: {{node: node1}}\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new("nsenter")
            .args(["--net", "--target", &agent.pid().to_string(), "--"])
            .arg(program)
            .args(["--web.listen-address=127.0.0.1:9090", "--log.level=warn"])
            .arg(format!(
                "--config.file={}",
                dir.path().join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Scraper { child, _dir: dir }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a query finds; none if it is refused, or nobody is there yet.
fn ask(pid: u32, query: &str) -> Option<Vec<Value>> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = get(pid, &format!("/api/v1/query?query={encoded}"));
    answer["data"]["result"].as_array().cloned()
}

/// From the Prometheus in the namespace of a process.
fn get(pid: u32, path: &str) -> Value {
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
    let inside = std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let mut stream = TcpStream::connect("127.0.0.1:9090").ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    });
    inside.join().unwrap().unwrap_or(Value::Null)
}
