//! Answers that would act on the terminal.

mod common;

use common::{app_of, buffer, node, path, screen, seconds, type_in};
use ringway_top::{Key, Look, Model, plain};

/// Every string that the API may say.
fn hostile(n: u64) -> Look {
    let evil = "\x1b[2J\x07\u{202e}\r\n\t\u{9b}31m";
    let mut look = node(n);
    let status = &mut look.status;
    for text in [
        &mut status.version,
        &mut status.node,
        &mut status.config.file,
    ] {
        text.push_str(evil);
    }
    for text in [&mut status.state_error, &mut status.config.error] {
        *text = Some(evil.into());
    }
    status.config.needs_restart = vec![evil.into()];
    status.not_served = vec![ringway_view::NotServed {
        pod: evil.into(),
        why: evil.into(),
    }];
    status.conditions = vec![ringway_view::Condition {
        what: evil.into(),
        wanted: evil.into(),
        found: evil.into(),
        why: format!("node2 {evil}"),
        since_s: 1,
    }];
    for pod in &mut look.pods {
        for text in [&mut pod.name, &mut pod.netns, &mut pod.ifname, &mut pod.mac] {
            text.push_str(evil);
        }
        pod.ips.push(evil.into());
        for drop in &mut pod.drops {
            drop.reason.push_str(evil);
        }
    }
    for peer in &mut look.peers {
        peer.name.push_str(evil);
        peer.pod_cidrs.push(evil.into());
    }
    for drop in &mut look.drops.drops {
        for text in [&mut drop.reason, &mut drop.cause, &mut drop.remedy] {
            text.push_str(evil);
        }
        for at in &mut drop.at {
            for text in [&mut at.name, &mut at.kind, &mut at.direction] {
                text.push_str(evil);
            }
        }
    }
    for loss in &mut look.drops.kernel {
        for text in [
            &mut loss.counter,
            &mut loss.at,
            &mut loss.cause,
            &mut loss.remedy,
        ] {
            text.push_str(evil);
        }
    }
    let mut evil_path = path(&look.peers[0].name);
    for text in [&mut evil_path.encap, &mut evil_path.carries] {
        text.push_str(evil);
    }
    look.paths = Some(vec![evil_path]);
    look
}

#[test]
fn no_answer_reaches_the_terminal_as_control_bytes() {
    let mut app = app_of(hostile);
    let acts = |c: char| c.is_control() || c == '\u{202e}';
    for keys in ["1", "2", "3", "4", "!", "?"] {
        type_in(&mut app, keys);
        for _ in 0..2 {
            for cell in &buffer(&mut app, 200, 50, 12).content {
                assert!(!cell.symbol().chars().any(acts), "{:?}", cell.symbol());
            }
            app.press(Key::Enter);
        }
        app.press(Key::Escape);
    }
    // It is there, made harmless.
    app.press(Key::Char('1'));
    let lines = screen(&mut app, 200, 50, 12).join("\n");
    assert!(lines.contains("default/web-1?[2J????"), "{lines}");
    let mut model = Model::default();
    model.answered(hostile(10), seconds(10));
    let text = plain(&model, 80);
    assert!(!text.chars().any(|c| c != '\n' && acts(c)), "{text}");
    // A line break of theirs begins no line of ours.
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("\t") || line.starts_with("?31m")),
        "{text}"
    );
}
