//! A `ringway agent` inside a node's namespace, and the command line that talks to it.

use super::command;
use super::error::{LabError, Result};
use super::machine::Inside;
use super::netns::Netns;
use super::process::Process;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long an agent may take until it answers.
const READY: Duration = Duration::from_secs(10);

/// One node's agent: its files stay when the process is stopped, killed or started again.
pub struct Agent {
    node: String,
    prefix: String,
    ns: Netns,
    binary: PathBuf,
    folder: PathBuf,
    inside: Option<Inside>,
    process: Option<Process>,
}

impl Agent {
    /// Prepares the files of node `node` in `folder`; starts nothing.
    pub(super) fn new(prefix: &str, node: String, ns: Netns, folder: PathBuf) -> Result<Agent> {
        let binary = binary("ringway", "RINGWAY_BIN")?;
        std::fs::create_dir_all(folder.join("state"))
            .map_err(LabError::io(format!("create {}", folder.display())))?;
        Ok(Agent {
            node,
            prefix: prefix.to_owned(),
            ns,
            binary,
            folder,
            inside: None,
            process: None,
        })
    }

    /// Replaces the configuration file. A running agent reads it, and takes what can change while it runs.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let path = self.config();
        std::fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))
    }

    /// Where the configuration file is.
    pub fn config(&self) -> PathBuf {
        self.folder.join("ringway.toml")
    }

    /// Where all its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the socket is.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("ringway.sock")
    }

    /// The agent program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Starts the agent and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts the agent and does not wait.
    pub fn launch(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(LabError::io("open the agent's log"))?;
        let stderr = log
            .try_clone()
            .map_err(LabError::io("open the agent's log"))?;
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(self.config())
            .arg("agent")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr);
        self.process = Some(match &self.inside {
            Some(inside) => inside.start(command)?,
            None => Process::start(&self.prefix, &self.ns, command)?,
        });
        Ok(())
    }

    /// The next start is inside that machine.
    pub(super) fn move_inside(&mut self, inside: Inside) {
        self.inside = Some(inside);
    }

    /// Waits until the agent answers on its socket.
    pub fn wait_ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY;
        loop {
            let last = match self.cli(&["status", "--json"]) {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            };
            if let Some(status) = self.ended() {
                return Err(LabError::AgentEnded {
                    node: self.node.clone(),
                    status: status.to_string(),
                    log: self.log(),
                });
            }
            if Instant::now() > until {
                return Err(LabError::AgentSilent {
                    node: self.node.clone(),
                    limit: READY,
                    last,
                    log: self.log(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM and waits for the end; `false` if it had to be killed after 5 s.
    pub fn stop(&mut self) -> bool {
        self.process
            .take()
            .is_none_or(|mut process| process.stop(Duration::from_secs(5)))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::SIGKILL);
            process.kill();
        }
    }

    /// SIGKILL without waiting for the end: the process, which may take a while to die. The next start is
    /// another one.
    pub fn kill_at_once(&mut self) -> Option<Process> {
        let mut process = self.process.take()?;
        process.signal(Signal::SIGKILL);
        Some(process)
    }

    /// Sends it a signal by number, as real-time signals have no name.
    pub fn signal(&mut self, number: i32) -> Result<()> {
        let pid = self.pid().unwrap_or_default();
        command::run("kill", &[format!("-{number}"), pid.to_string()]).map(drop)
    }

    /// Its process id while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        match self.ended() {
            None => self.process.as_ref().map(Process::pid),
            Some(_) => None,
        }
    }

    /// Its exit status, if it was started and has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process
            .as_mut()
            .and_then(|process| process.wait(limit))
    }

    /// `ringway ARGS` against this agent; what it prints on stdout.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let socket = self.socket();
        let mut words = vec!["--socket".to_owned(), socket.display().to_string()];
        words.extend(args.iter().map(|&word| word.to_owned()));
        command::run(&self.binary.display().to_string(), &words)
    }

    /// A read verb with `--json`.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let mut words = args.to_vec();
        words.push("--json");
        let output = self.cli(&words)?;
        serde_json::from_str(&output).map_err(|source| LabError::Json {
            command: format!("ringway {}", words.join(" ")),
            source,
            output: output.chars().take(200).collect(),
        })
    }

    /// The command a person types to ask this agent something.
    pub fn command_line(&self, args: &str) -> String {
        format!(
            "{} --socket {} {args}",
            self.binary.display(),
            self.socket().display()
        )
    }

    /// The last forty lines the agent wrote.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The file the agent's output goes to.
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("agent.log")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Of a test that fails: the standard one belongs to that test's output.
            std::eprintln!(
                "--- the agent of {} wrote last:\n{}\n---",
                self.node,
                self.log()
            );
        }
    }
}

/// Finds a program of this workspace: named in the environment; or beside this executable; or,
/// for a test program in `target/<profile>/deps`, the newest that any profile has built.
pub fn binary(name: &'static str, env: &'static str) -> Result<PathBuf> {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    let looked = match std::env::var_os(env) {
        Some(path) => vec![PathBuf::from(path)],
        None if folder.ends_with("deps") => {
            let target = folder.ancestors().nth(2).unwrap_or(folder);
            ["release", "debug"]
                .map(|profile| target.join(profile).join(name))
                .to_vec()
        }
        None => vec![folder.join(name)],
    };
    let modified = |path: &&PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    let newest = looked
        .iter()
        .filter(|path| path.is_file())
        .max_by_key(modified)
        .cloned();
    newest.ok_or(LabError::NoBinary { name, env, looked })
}
