//! What is on the screen: 80×24, 120×40, and any size there is.

mod common;

use common::{
    app_of, buffer, condition, explain, many, nobody, node, path, screen, seconds, type_in,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use ringway_top::{App, Key, Look, Model, Palette, draw, plain};

fn open(app: &mut App, digit: char, key: &str) {
    app.press(Key::Char(digit));
    type_in(app, &format!("/{key}"));
    app.press(Key::Enter);
    app.press(Key::Enter);
}

#[track_caller]
fn has(lines: &[String], words: &str) {
    let joined = lines.join("\n");
    assert!(
        lines.iter().any(|line| line.contains(words)),
        "{words:?} in\n{joined}"
    );
}

#[test]
fn a_small_node_at_80_by_24() {
    let lines = screen(&mut app_of(node), 80, 24, 12);
    let expected = [
        "node1, ringway 0.1.0, up 12 s, 3 pods, 2 peers",
        "2 workers, busy 50.0 % 12.5 %   drops 4.0/s, 48 in all",
        "in  from pods  4.80 Mbit/s     600 pk/s   from peers  480 kbit/s      60 pk/s",
        "out to pods    2.40 Mbit/s     300 pk/s   to peers    240 kbit/s      30 pk/s",
        "nothing needs attention",
        "[1 pods 3] 2 peers 2  3 drops 2  4 workers 2             by TX bit/s, most first",
        "POD                       TX bit/s  RX bit/s  DROPS/s  TX pk/s  RX pk/s  DROPPED",
        "kube-system/dns             2.40 M    1.20 M        0      300      150        0",
        "default/web-2               1.60 M     800 k        0      200      100        0",
        "default/web-1                800 k     400 k      4.0      100       50       48",
    ];
    assert_eq!(lines[..10], expected, "{}", lines.join("\n"));
    assert!(lines[10..23].iter().all(String::is_empty));
    assert_eq!(
        lines[23],
        "1-4 view  s sort  r reverse  / filter  enter details  p pause  ? keys  q quit"
    );
}

#[test]
fn the_other_screens_at_80_by_24() {
    let mut app = app_of(node);
    app.press(Key::Tab);
    let lines = screen(&mut app, 80, 24, 12);
    assert_eq!(
        lines[5..8],
        [
            " 1 pods 3 [2 peers 2] 3 drops 2  4 workers 2               by STATE, worst first",
            "PEER                  STATE          TX bit/s  RX bit/s  RTT ms  LOST %  DROPS/s",
            "node3                 reached           160 k     320 k    0.42     0.5        0",
        ],
        "{}",
        lines.join("\n")
    );
    app.press(Key::Tab);
    let lines = screen(&mut app, 80, 24, 12);
    assert_eq!(
        lines[6..9],
        [
            "REASON                    DROPS/s    COUNT  MOSTLY                  LAST AGO",
            "spoofed_ipv4                  4.0       48  from pod default/web-1  3 s",
            "tap_tx_dropped                3.0       36  pod default/web-1       -",
        ],
        "{}",
        lines.join("\n")
    );
    app.press(Key::Tab);
    let lines = screen(&mut app, 80, 24, 12);
    assert_eq!(
        lines[6..9],
        [
            "WORKER                        BUSY %  ROUNDS/s  FRAMES %  SLEEPS/s  CPU  DGRAM/s",
            "worker 0                        12.5      2000      50.0       200    0        0",
            "worker 1                        50.0      4000      50.0       400    1        0",
        ],
        "{}",
        lines.join("\n")
    );
}

#[test]
fn nobody_is_said_on_each_screen() {
    let mut app = app_of(|_| nobody());
    for (digit, words) in [
        ('1', "no pods"),
        ('2', "no peers"),
        ('3', "nothing was dropped since the agent started"),
        ('4', "no workers"),
    ] {
        app.press(Key::Char(digit));
        let lines = screen(&mut app, 80, 24, 12);
        assert_eq!(lines[7], words);
    }
    type_in(&mut app, "/x");
    has(
        &screen(&mut app, 80, 24, 12),
        "nothing has that in it; esc shows all",
    );
}

#[test]
fn wider_and_higher_terminals_have_more() {
    let mut app = app_of(many);
    let lines = screen(&mut app, 80, 24, 12);
    let rows = |lines: &[String]| lines.iter().filter(|line| line.starts_with("prod")).count();
    assert_eq!(rows(&lines), 16);
    assert_eq!(
        lines[6..8],
        [
            "POD                                TX bit/s  RX bit/s  DROPS/s  TX pk/s  RX pk/s",
            "production/checkout-11~x2x9k/eth0     880 k      8000        0      110      1.0"
        ]
        .map(|line: &str| line.to_owned()),
    );
    let lines = screen(&mut app, 120, 40, 12);
    assert_eq!(rows(&lines), 32);
    has(&lines, "production/checkout-110-7d9c6b5f4d-x2x9k/eth0");
    has(&lines, "DROPPED");
    has(&lines, "[1 pods 110]");
    app.press(Key::Tab);
    has(&screen(&mut app, 120, 40, 12), "[2 peers 1000]");
    has(&screen(&mut app, 200, 40, 12), "OUTER ADDRESSES");
}

#[test]
fn a_tiny_terminal_has_rows_and_keys() {
    let mut app = app_of(node);
    let lines = screen(&mut app, 20, 5, 12);
    assert_eq!(lines[0], "[1 pods 3] 2 peers 2");
    assert_eq!(lines[1], "POD");
    assert_eq!(lines[2..4], ["kube-system/dns", "default/web-2"]);
    assert!(lines[4].starts_with("1-4 view"), "{lines:?}");
    // That the agent is away is seen there, too.
    app.failed("refused", seconds(13));
    let lines = screen(&mut app, 20, 5, 15);
    assert_eq!(lines[0], "NO ANSWER for 2 s, ~");
}

/// Every screen, everything that can be open, at every size.
#[test]
fn no_size_is_too_small() {
    let looks: [fn(u64) -> Look; 3] = [node, |_| nobody(), many];
    let few = [0, 1, 2, 3, 5, 8, 13, 21];
    for look in looks {
        let mut app = App::new(explain);
        let palette = Palette::default();
        for known in [false, true] {
            if known {
                app.answered(look(10), seconds(10));
                app.answered(look(12), seconds(12));
            }
            for keys in ["1", "2", "3", "4", "?", "!"] {
                type_in(&mut app, keys);
                for enter in [false, true] {
                    if enter {
                        app.press(Key::Enter);
                    }
                    let sizes = few.into_iter().flat_map(|w| few.map(|h| (w, h)));
                    for (w, h) in sizes.chain([(20, 5), (1, 200), (300, 1), (80, 24), (200, 50)]) {
                        let mut terminal = Terminal::new(TestBackend::new(w, h)).unwrap();
                        let drawn =
                            terminal.draw(|frame| draw(frame, &mut app, palette, seconds(1)));
                        drawn.unwrap();
                        app.press(Key::PageDown);
                    }
                }
                app.press(Key::Escape);
            }
        }
    }
}

#[test]
fn a_pod_has_all_about_it() {
    let mut app = app_of(node);
    open(&mut app, '1', "web-1");
    let lines = screen(&mut app, 80, 24, 12);
    for words in [
        "pod       default/web-1",
        "addresses 10.77.1.1/24 fd77:1::1/64, 0a:58:0a:4d:01:02",
        "interface eth0, MTU 1450 bytes, port 1, in /run/netns/1",
        "bandwidth no limit",
        "sent      800 kbit/s, 100 packets/s; 1200 packets, 1.20 MB in all",
        "received  400 kbit/s, 50 packets/s; 600 packets, 600 kB in all",
        "drops     spoofed_ipv4: 4.0/s, 48 packets in all, from it",
        "  cause   spoofed_ipv4 was seen",
        "  to do   look after spoofed_ipv4",
        "drops     tap_tx_dropped: 2.0/s, 24 packets by the kernel",
    ] {
        has(&lines, words);
    }
    has(&lines, "esc: back");
    // It follows the looks, and says when it is gone.
    app.answered(node(13), seconds(13));
    has(&screen(&mut app, 80, 24, 13), "1300 packets");
    app.answered(nobody(), seconds(14));
    has(
        &screen(&mut app, 80, 24, 14),
        "default/web-1 is not there any more",
    );
    app.press(Key::Escape);
    app.press(Key::Escape);
    has(&screen(&mut app, 80, 24, 14), "no pods");
}

#[test]
fn a_limit_and_ports_of_a_pod_are_shown() {
    let mut look = node(10);
    look.pods[0].bandwidth = Some(ringway_view::BandwidthLimits {
        ingress_rate: 10_000_000,
        ingress_burst: 1,
        egress_rate: 0,
        egress_burst: 0,
    });
    look.pods[0].port_mappings = vec![ringway_view::HostPort {
        host_port: 8080,
        container_port: 80,
        protocol: "tcp".into(),
        host_ip: String::new(),
    }];
    let mut app = App::new(explain);
    app.answered(look, seconds(10));
    open(&mut app, '1', "web-1");
    let lines = screen(&mut app, 80, 24, 10);
    has(&lines, "bandwidth from the pod no limit, to it 10.0 Mbit/s");
    has(&lines, "the node's port 8080/tcp leads to port 80");
}

#[test]
fn a_peer_has_its_path_and_what_is_wrong_with_it() {
    let mut app = app_of(node);
    open(&mut app, '2', "node2");
    has(&screen(&mut app, 80, 24, 12), "path      asked for");
    let mut look = node(13);
    look.paths = Some(vec![path("node2"), path("node3")]);
    look.status.conditions = vec![condition("peer node2", 70), condition("peer node3", 80)];
    look.drops.drops = vec![drop_at_peer()];
    app.answered(look, seconds(13));
    let lines = screen(&mut app, 80, 40, 13);
    for words in [
        "state     reached for 1 min 0 s, asked at 192.168.0.1",
        "RTT       0.42 ms",
        "probes    1 of 200 lost, 0.5 %",
        "MTU       packets of 1450 bytes have been seen to pass",
        "path      IPv4 by vxlan, VNI 1, 192.168.0.1 to 192.168.0.2, UDP port 8472, MTU",
        "sent      80.0 kbit/s, 10 packets/s",
        "attention peer node2 should be there, and for 1 min 10 s has not been: missing;",
        "drops     foreign_inner_source: 7.0/s, 7 packets in all, from it",
    ] {
        has(&lines, words);
    }
    // Below the line that names what is wrong with any of them.
    let joined = lines[6..].join("\n");
    assert!(!joined.contains("node3"), "{joined}");
    assert_eq!(joined.matches("path  ").count(), 1);
}

fn drop_at_peer() -> ringway_view::Drop {
    common::drop("foreign_inner_source", 7, &[("peer", "node2", 7)])
}

#[test]
fn a_reason_is_explained_with_those_it_hits() {
    let mut app = app_of(node);
    open(&mut app, '3', "spoofed");
    let lines = screen(&mut app, 80, 24, 12);
    for words in [
        "reason    spoofed_ipv4",
        "count     4.0/s, 48 in all, last 3 s ago",
        "cause     spoofed_ipv4 was seen",
        "to do     look after spoofed_ipv4",
        "where     at admission",
        "example   a container that spoofs",
        "hits      from pod default/web-1: 4.0/s, 48 in all",
    ] {
        has(&lines, words);
    }
    app.press(Key::Escape);
    app.press(Key::Escape);
    open(&mut app, '3', "tap_tx");
    let lines = screen(&mut app, 80, 24, 12);
    has(&lines, "count     3.0/s, 36 in all by the kernel");
    has(&lines, "hits      pod default/web-1: 2.0/s, 24 in all");
    has(&lines, "          pod default/web-2: 1.0/s, 12 in all");
}

#[test]
fn a_worker_has_its_buffers() {
    let mut app = app_of(node);
    app.press(Key::Char('4'));
    app.press(Key::Down);
    app.press(Key::Enter);
    let lines = screen(&mut app, 80, 24, 12);
    has(&lines, "worker    1");
    has(
        &lines,
        "busy      50.0 % of the time, in rounds with frames",
    );
    has(&lines, "buffers   0 free");
}

#[test]
fn what_is_open_is_scrolled_as_far_as_it_goes() {
    let mut app = app_of(node);
    open(&mut app, '1', "web-1");
    let page = |app: &mut App| screen(app, 80, 10, 12)[3..9].to_vec();
    let top = page(&mut app);
    app.press(Key::Down);
    assert_eq!(page(&mut app)[..5], top[1..]);
    (0..100).for_each(|_| app.press(Key::PageDown));
    let end = page(&mut app);
    assert!(end[5].contains("make room for tap_tx_dropped"), "{end:?}");
    app.press(Key::Home);
    assert_eq!(page(&mut app), top);
    app.press(Key::End);
    assert_eq!(page(&mut app), end);
}

#[test]
fn an_agent_that_is_away_is_said_with_the_age_of_the_data() {
    let mut app = app_of(node);
    app.failed(
        "the agent does not answer on /s: refused\x1b[2J",
        seconds(14),
    );
    let lines = screen(&mut app, 80, 24, 20);
    assert_eq!(
        lines[4],
        "NO ANSWER for 6 s, data of 8 s ago: the agent does not answer on /s: refused?[2J"
    );
    has(&lines, "kube-system/dns");
    app.answered(node(30), seconds(30));
    assert_eq!(screen(&mut app, 80, 24, 30)[4], "nothing needs attention");
}

#[test]
fn the_worst_is_said_first_and_all_of_it_when_asked_for() {
    let mut look = node(10);
    look.status.conditions = vec![condition("route b", 10), condition("route a", 90)];
    look.status.peer_states = [(ringway_view::PeerState::Silent, 2)].into();
    look.status.state_error = Some("No space left on device".into());
    let mut app = App::new(explain);
    app.answered(look, seconds(10));
    let line = screen(&mut app, 80, 24, 10)[4].clone();
    assert!(
        line.starts_with("! 1 of 4: the state is not on disk"),
        "{line}"
    );
    app.press(Key::Char('!'));
    let lines = screen(&mut app, 80, 24, 10);
    let at = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap();
    let order = [
        "No space left",
        "SILENT: 2 peers",
        "route a should be",
        "route b should be",
    ];
    // The line above is not the list.
    let order: Vec<usize> = order[1..].iter().map(|words| at(words)).collect();
    assert!(order.is_sorted(), "{lines:?}");
    app.press(Key::Char('!'));
    has(&screen(&mut app, 80, 24, 10), "POD");
}

#[test]
fn keys_are_shown_and_a_pause_is() {
    let mut app = app_of(node);
    app.press(Key::Char('?'));
    let lines = screen(&mut app, 80, 24, 12);
    has(
        &lines,
        "/                 show only rows with a text in them",
    );
    has(&lines, "its load, also where it polls");
    app.press(Key::Char('?'));
    app.press(Key::Char('p'));
    has(
        &screen(&mut app, 80, 24, 12),
        "PAUSED, by TX bit/s, most first",
    );
    type_in(&mut app, "/web");
    let lines = screen(&mut app, 80, 24, 12);
    has(&lines, "[1 pods 2 of 3]");
    assert_eq!(lines[23], "filter: web_   enter keeps it, esc shows all");
}

#[test]
fn what_is_wrong_and_what_is_selected_stand_out() {
    let mut app = app_of(node);
    let cells = buffer(&mut app, 80, 24, 12);
    let style = |x, y| cells[(x, y)].style();
    // The selected row is reversed, the pod that drops is red, the sorted column's header is reversed.
    assert!(style(0, 7).add_modifier.contains(Modifier::REVERSED));
    assert!(!style(0, 8).add_modifier.contains(Modifier::REVERSED));
    assert_eq!(style(0, 9).fg, Some(Color::Red));
    assert_ne!(style(0, 8).fg, Some(Color::Red));
    let header = |x: u16| style(x, 6).add_modifier;
    assert!(header(26).contains(Modifier::REVERSED | Modifier::UNDERLINED));
    assert!(header(27).contains(Modifier::REVERSED) && !header(27).contains(Modifier::UNDERLINED));
    assert!(!header(0).contains(Modifier::REVERSED) && header(1).contains(Modifier::UNDERLINED));
    // Without colours it is bold, and no cell has one.
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal
        .draw(|frame| draw(frame, &mut app, Palette::default(), seconds(12)))
        .unwrap();
    let cells = terminal.backend().buffer();
    assert!(cells[(0, 9)].style().add_modifier.contains(Modifier::BOLD));
    for cell in &cells.content {
        assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
    }
}

#[test]
fn without_a_terminal_it_is_the_same_as_text() {
    let mut model = Model::default();
    model.answered(node(10), seconds(10));
    model.answered(node(12), seconds(12));
    let text = plain(&model, 80);
    for words in [
        "node1, ringway 0.1.0, up 12 s, 3 pods, 2 peers\n",
        "2 workers, busy 50.0 % 12.5 %   drops 4.0/s, 48 in all\n",
        "nothing needs attention\n\nPOD              TX bit/s  RX bit/s  DROPS/s  TX pk/s  RX pk/s  DROPPED\n",
        "kube-system/dns    2.40 M    1.20 M        0      300      150        0\n",
        "default/web-1       800 k     400 k      4.0      100       50       48\n",
        "PEER   STATE    TX bit/s  RX bit/s  RTT ms  LOST %  DROPS/s  TX pk/s  RX pk/s\n",
        "spoofed_ipv4        4.0     48  from pod default/web-1  3 s\n",
        "worker 1    50.0      4000      50.0       400    1        0             0\n",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
    model = Model::default();
    model.answered(nobody(), seconds(10));
    let text = plain(&model, 80);
    assert!(
        text.ends_with(
            "\nno pods\n\nno peers\n\nnothing was dropped since the agent started\n\nno workers\n"
        ),
        "{text}"
    );
    model.answered(many(12), seconds(12));
    let text = plain(&model, 80);
    for n in 1..=110 {
        assert!(text.contains(&format!("production/checkout-{n:03}-7d9c6b5f4d-x2x9k/eth0")));
    }
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("ip-10-0-"))
            .count(),
        1000
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    // A row is a line, whatever a pod is called.
    assert!(!text.lines().any(|line| line.starts_with("  ")), "{text}");
    // The longest that Kubernetes allows keeps both ends.
    let long = format!("{}/{}", "n".repeat(63), "p".repeat(253));
    let mut look = many(13);
    look.pods[0].name = long.clone();
    model.answered(look, seconds(13));
    let text = plain(&model, 80);
    assert!(!text.lines().any(|line| line.starts_with("  ")), "{text}");
    let row = text.lines().find(|line| line.starts_with("nnn")).unwrap();
    assert!(row.contains("~ppp") && row.chars().count() <= 80, "{row}");
    assert!(plain(&model, 400).contains(&long));
}
