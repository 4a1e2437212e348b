//! `ringway top` as it is used: without a terminal, and in a pseudo terminal, where keys are pressed.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Agent, Files, LIMIT, UNDERLAY, output, ringway, stderr};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

const WIDTH: usize = 80;
const HEIGHT: usize = 24;
/// What every terminal does to leave the alternate screen, and to show its cursor.
const LEFT: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// A program in a pseudo terminal, and what is on its screen.
struct Screen {
    child: Child,
    /// The program's end: its settings are the terminal's.
    slave: OwnedFd,
    keys: File,
    bytes: Receiver<Vec<u8>>,
    /// All that came.
    all: String,
    cells: Vec<Vec<char>>,
    at: (usize, usize),
}

impl Screen {
    fn start(words: &[&str], environment: &[(&str, &str)]) -> (Self, Termios) {
        let size = Winsize {
            ws_row: HEIGHT as u16,
            ws_col: WIDTH as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = ringway(words);
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.envs(environment.iter().copied());
        let child = command.spawn().unwrap();
        let keys = File::from(pty.master);
        let mut reader = keys.try_clone().unwrap();
        let (say, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if say.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = Self {
            child,
            slave: pty.slave,
            keys,
            bytes,
            all: String::new(),
            cells: vec![vec![' '; WIDTH]; HEIGHT],
            at: (0, 0),
        };
        (screen, before)
    }

    fn settings(&self) -> Termios {
        tcgetattr(self.slave.as_fd()).unwrap()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        let lines = self
            .cells
            .iter()
            .map(|line| line.iter().collect::<String>());
        lines
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }

    /// Waits until the screen is like that.
    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is(&self.text()) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} is not seen:\n{}", self.text());
            if let Ok(bytes) = self.bytes.recv_timeout(left.min(Duration::from_millis(50))) {
                let text = String::from_utf8(bytes).unwrap();
                self.show(&text);
                self.all.push_str(&text);
            }
        }
    }

    #[track_caller]
    fn shows(&mut self, words: &str) {
        self.until(words, |text| text.contains(words));
    }

    /// As much of a terminal as is used: printing, and moving about.
    fn show(&mut self, text: &str) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\x1b' => {
                    let mut sequence = String::new();
                    for c in rest.by_ref() {
                        sequence.push(c);
                        if c.is_ascii_alphabetic() {
                            break;
                        }
                    }
                    let body = sequence.trim_start_matches('[');
                    let number = |text: &str| text.parse::<usize>().unwrap_or(1) - 1;
                    match body.chars().last() {
                        Some('H') => {
                            let place = body.trim_end_matches('H');
                            let (y, x) = place.split_once(';').unwrap_or(("1", "1"));
                            self.at = (number(x), number(y));
                        }
                        Some('J') => self.cells = vec![vec![' '; WIDTH]; HEIGHT],
                        _ => {}
                    }
                }
                '\r' => self.at.0 = 0,
                '\n' => self.at.1 += 1,
                c => {
                    assert!(!c.is_control(), "{c:?}");
                    let (x, y) = self.at;
                    if let Some(cell) = self.cells.get_mut(y).and_then(|line| line.get_mut(x)) {
                        *cell = c;
                    }
                    self.at.0 += 1;
                }
            }
        }
    }

    /// Waits for the end; its code, and all that was written.
    #[track_caller]
    fn end(mut self, before: &Termios) -> (Option<i32>, String) {
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it goes on:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        };
        while let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(200)) {
            self.all.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert_eq!(self.settings(), *before, "the terminal is not as it was");
        (status.code(), std::mem::take(&mut self.all))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent without pods, and with the sample's peer.
fn agent() -> Agent {
    let mut agent = Agent::launch(Files::new(|text| text), UNDERLAY, "", |_| {});
    agent.wait_ready();
    agent
}

/// A namespace that ends with it.
struct Namespace(String);

impl Namespace {
    fn new(tag: &str) -> Self {
        let name = format!("rw{}-{tag}", std::process::id());
        let made = std::process::Command::new("ip")
            .args(["netns", "add", &name])
            .status();
        assert!(made.unwrap().success());
        Self(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["netns", "delete", &self.0])
            .status();
    }
}

fn attach(socket: &str, namespace: &Namespace, address: &str) {
    output(&[
        "--socket",
        socket,
        "attach",
        "--netns",
        &namespace.0,
        "--ip",
        address,
        "--name",
        "default/web",
    ]);
}

#[test]
fn without_a_terminal_one_interval_is_text() {
    let agent = agent();
    let socket = agent.files.socket();
    let run = |more: &[&str]| {
        let mut words = vec!["--socket", &socket, "top", "--interval", "0.2"];
        words.extend(more);
        output(&words)
    };
    let text = run(&[]);
    for words in [
        "node1, ringway 0.1.0, up ",
        ", 0 pods, 1 peer\n",
        "worker",
        "\nno pods\n",
        "\nPEER   STATE",
        "\nnode2  ",
        "\nWORKER",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    let namespace = Namespace::new("top");
    attach(&socket, &namespace, "10.77.1.9");
    // Something to count: the pod sends to its gateway while it is looked at.
    let sends = "while :; do echo hello >/dev/udp/10.77.1.1/9; sleep 0.01; done 2>/dev/null";
    let mut sender = std::process::Command::new("ip")
        .args(["netns", "exec", &namespace.0, "bash", "-c", sends])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let text = output(&["--socket", &socket, "top", "--once"]);
    sender.kill().unwrap();
    sender.wait().unwrap();
    let row = text.lines().find(|line| line.starts_with("default/web "));
    let row = row.unwrap_or_else(|| panic!("{text}"));
    // POD, TX bit/s, RX bit/s, DROPS/s, TX pk/s: a hundred a second if nothing else runs.
    let cells: Vec<&str> = row
        .split("  ")
        .filter(|cell| !cell.trim().is_empty())
        .collect();
    let packets: f64 = cells[4].trim().parse().unwrap();
    assert!((5.0..=200.0).contains(&packets), "{text}");
    assert!(text.contains("1 pod, 1 peer\n"), "{text}");
}

#[test]
fn an_agent_that_is_not_there_is_an_error_at_first() {
    for words in [&["top"][..], &["top", "--once"]] {
        let mut all = vec!["--socket", "/nonexistent"];
        all.extend(words);
        let refused = ringway(&all).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("does not answer on /nonexistent"));
    }
    let wrong = ringway(&["top", "--interval", "0"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn keys_change_the_screen_and_q_gives_the_terminal_back() {
    let agent = agent();
    let socket = agent.files.socket();
    let words = ["--socket", &socket, "top", "--interval", "0.2"];
    let (mut screen, before) = Screen::start(&words, &[]);
    screen.shows("[1 pods 0]");
    screen.shows("no pods");
    assert_ne!(screen.settings(), before, "it takes keys as they are");
    // What is new appears by itself.
    let namespace = Namespace::new("topkeys");
    attach(&socket, &namespace, "10.77.1.8");
    screen.shows("[1 pods 1]");
    screen.shows("\ndefault/web ");
    screen.press("\r");
    screen.shows("addresses 10.77.1.8/24");
    // A lone escape is a key.
    screen.press("\x1b");
    screen.shows("POD ");
    screen.press("2");
    screen.shows("[2 peers 1]");
    screen.shows("node2 ");
    screen.press("\r");
    screen.shows("by vxlan, VNI 1");
    screen.press("/");
    screen.press("3");
    screen.shows("[3 drops");
    screen.press("?");
    screen.shows("the other way round");
    screen.press("\t");
    screen.shows("[4 workers");
    screen.shows("worker 0");
    screen.press("r");
    screen.shows("by WORKER, from the last");
    screen.press("1/nothing");
    screen.shows("filter: nothing_");
    screen.shows("[1 pods 0 of 1]");
    screen.press("\r");
    screen.press("q");
    let (code, all) = screen.end(&before);
    assert_eq!(code, Some(0));
    assert!(all.contains("\x1b[?1049h") && all.contains("\x1b[?25l"));
    assert!(all.rfind(LEFT) > all.rfind("\x1b[?1049h"), "{all:?}");
    assert!(all.rfind(CURSOR) > all.rfind("\x1b[?25l"), "{all:?}");
}

#[test]
fn a_signal_and_ctrl_c_give_the_terminal_back_too() {
    let agent = agent();
    let socket = agent.files.socket();
    let words = ["--socket", &socket, "top"];
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let (mut screen, before) = Screen::start(&words, &[]);
        screen.shows("[1 pods 0]");
        kill(Pid::from_raw(screen.child.id() as i32), signal).unwrap();
        let (code, all) = screen.end(&before);
        assert_eq!(code, Some(0), "{signal}");
        assert!(
            all.contains(LEFT) && all.contains(CURSOR),
            "{signal}: {all:?}"
        );
    }
    let (mut screen, before) = Screen::start(&words, &[]);
    screen.shows("[1 pods 0]");
    screen.press("\x03");
    assert_eq!(screen.end(&before).0, Some(0));
}

/// What is wrong is red, where colours are wanted.
#[test]
fn no_color_is_honoured() {
    let agents = [agent(), agent()];
    for (agent, wanted) in agents.into_iter().zip(["", "1"]) {
        let socket = agent.files.socket();
        let words = ["--socket", &socket, "top", "--interval", "0.2"];
        let (mut screen, before) = Screen::start(&words, &[("NO_COLOR", wanted)]);
        screen.shows("[1 pods 0]");
        assert_eq!(agent.stop().code(), Some(0));
        screen.shows("NO ANSWER for ");
        screen.press("q");
        let (_, all) = screen.end(&before);
        let red = all.contains("\x1b[38;5;1;");
        assert_eq!(red, wanted.is_empty(), "{all:?}");
    }
}

/// One that hangs is away, too, and no key waits for it.
#[test]
fn an_agent_that_hangs_is_said_to() {
    let agent = agent();
    let socket = agent.files.socket();
    let words = ["--socket", &socket, "top", "--interval", "0.2"];
    let (mut screen, before) = Screen::start(&words, &[]);
    screen.shows("[1 pods 0]");
    let pid = Pid::from_raw(agent.pid() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    screen.shows("it was asked and is waited for");
    screen.press("2");
    screen.shows("[2 peers 1]");
    kill(pid, Signal::SIGCONT).unwrap();
    screen.until("an answer", |text| !text.contains("NO ANSWER"));
    screen.press("q");
    assert_eq!(screen.end(&before).0, Some(0));
}

#[test]
fn a_dumb_terminal_gets_text() {
    let agent = agent();
    let socket = agent.files.socket();
    let words = ["--socket", &socket, "top", "--interval", "0.2"];
    let (screen, before) = Screen::start(&words, &[("TERM", "dumb")]);
    let (code, all) = screen.end(&before);
    assert_eq!(code, Some(0));
    assert!(all.contains("no pods") && !all.contains('\x1b'), "{all:?}");
}

#[test]
fn the_view_outlives_the_agent_and_goes_on_with_the_next() {
    let files = Files::new(|text| text);
    let mut first = Agent::launch(files, UNDERLAY, "", |_| {});
    first.wait_ready();
    let socket = first.files.socket();
    let words = ["--socket", &socket, "top", "--interval", "0.2"];
    let (mut screen, before) = Screen::start(&words, &[]);
    screen.shows("[1 pods 0]");
    // The next one finds the files where the first had them.
    let kept = std::mem::replace(&mut first.files, Files::new(|text| text));
    assert_eq!(first.stop().code(), Some(0));
    screen.shows("NO ANSWER for ");
    // The reason is not cut off.
    screen.until("why", |text| {
        let told = text.lines().find(|line| line.starts_with("NO ANSWER for "));
        told.is_some_and(|line| line.contains(", data of ") && line.contains(" (os error "))
    });
    // Keys go on meanwhile.
    screen.press("4");
    screen.shows("[4 workers");
    let mut second = Agent::launch(kept, UNDERLAY, "", |_| {});
    second.wait_ready();
    screen.until("an answer", |text| !text.contains("NO ANSWER"));
    screen.press("q");
    assert_eq!(screen.end(&before).0, Some(0));
}
