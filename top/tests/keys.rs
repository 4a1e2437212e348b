//! Keys, and what they make of the screen.

mod common;

use common::{app_of, explain, keys, many, nobody, node, pod, seconds, type_in};
use ringway_top::{App, Key, Screen};

#[test]
fn numbers_and_tab_go_through_the_screens() {
    let mut app = app_of(node);
    let mut seen = vec![app.screen()];
    for key in [Key::Tab, Key::Tab, Key::Tab, Key::Tab, Key::BackTab] {
        app.press(key);
        seen.push(app.screen());
    }
    use Screen::{Drops, Peers, Pods, Workers};
    assert_eq!(seen, [Pods, Peers, Drops, Workers, Pods, Workers]);
    for (c, screen) in ('1'..='4').zip(Screen::ALL) {
        app.press(Key::Char(c));
        assert_eq!(app.screen(), screen);
    }
    app.press(Key::Char('5'));
    assert_eq!(app.screen(), Workers);
}

#[test]
fn each_screen_has_its_rows_and_its_order() {
    let mut app = app_of(node);
    // Most sent first.
    assert_eq!(
        keys(&app),
        ["kube-system/dns", "default/web-2", "default/web-1"]
    );
    app.press(Key::Char('2'));
    assert_eq!(keys(&app), ["node3", "node2"]);
    app.press(Key::Char('3'));
    assert_eq!(keys(&app), ["spoofed_ipv4", "tap_tx_dropped"]);
    app.press(Key::Char('4'));
    assert_eq!(keys(&app), ["0", "1"]);
    app.press(Key::Char('b'));
    assert_eq!(keys(&app), ["1", "0"]);
}

#[test]
fn letters_sort_and_r_turns_it_round() {
    let mut app = app_of(node);
    app.press(Key::Char('o'));
    let by_name = ["default/web-1", "default/web-2", "kube-system/dns"];
    assert_eq!(keys(&app), by_name);
    app.press(Key::Char('d'));
    assert_eq!(keys(&app)[0], "default/web-1");
    app.press(Key::Char('r'));
    assert_eq!(keys(&app)[2], "default/web-1");
    // Another column begins in its own order.
    app.press(Key::Char('t'));
    assert_eq!(keys(&app)[0], "kube-system/dns");
    // One that is none changes nothing.
    app.press(Key::Char('z'));
    assert_eq!(keys(&app)[0], "kube-system/dns");
    // s goes on to the next, arrows there and back; the first is by name.
    app.press(Key::Left);
    assert_eq!(keys(&app), by_name);
    (0..10).for_each(|_| app.press(Key::Char('s')));
    assert_eq!(keys(&app), by_name);
    (0..10).for_each(|_| app.press(Key::Left));
    assert_eq!(keys(&app), by_name);
    // Each screen has its own.
    app.press(Key::Tab);
    assert_eq!(keys(&app), ["node3", "node2"]);
    app.press(Key::BackTab);
    assert_eq!(keys(&app), by_name);
}

#[test]
fn peers_that_are_not_reached_come_first() {
    let mut app = App::new(explain);
    let mut look = node(10);
    look.peers[0].health.as_mut().unwrap().state = ringway_view::PeerState::Silent;
    look.peers.push(common::peer("node4", 4, 0, 0));
    look.peers[2].health = None;
    app.answered(look, seconds(10));
    app.press(Key::Char('2'));
    assert_eq!(keys(&app), ["node2", "node3", "node4"]);
}

#[test]
fn a_filter_is_typed_kept_and_taken_back() {
    let mut app = app_of(node);
    type_in(&mut app, "/WEBq");
    assert!(app.rows().is_empty() && !app.ended());
    app.press(Key::Backspace);
    assert_eq!(keys(&app), ["default/web-2", "default/web-1"]);
    app.press(Key::Enter);
    // Letters are keys again, and the filter outlives looks.
    app.press(Key::Char('o'));
    app.answered(node(14), seconds(14));
    assert_eq!(keys(&app), ["default/web-1", "default/web-2"]);
    app.press(Key::Escape);
    assert_eq!(app.rows().len(), 3);
    // An address is found, too; escape while typing gives it up.
    type_in(&mut app, "/77.1.3/");
    assert_eq!(keys(&app), ["kube-system/dns"]);
    app.press(Key::Escape);
    assert_eq!(app.rows().len(), 3);
    type_in(&mut app, "/web");
    app.press(Key::Control('u'));
    assert_eq!(app.rows().len(), 3);
    // It has an end.
    type_in(&mut app, &"x".repeat(10_000));
    app.press(Key::Control('c'));
    assert!(app.ended());
}

#[test]
fn what_is_selected_stays_so_wherever_it_goes() {
    let mut app = app_of(node);
    app.press(Key::Down);
    assert_eq!(keys(&app)[app.selected()], "default/web-2");
    app.press(Key::Char('r'));
    app.press(Key::Char('o'));
    assert_eq!(keys(&app)[app.selected()], "default/web-2");
    // It is gone: the one in its place.
    let mut look = node(14);
    look.pods.remove(1);
    app.answered(look, seconds(14));
    assert_eq!(app.selected(), 1);
    assert_eq!(keys(&app)[1], "kube-system/dns");
    // All are gone.
    app.answered(nobody(), seconds(15));
    assert_eq!(app.selected(), 0);
    for key in [
        Key::Down,
        Key::Up,
        Key::End,
        Key::PageDown,
        Key::Enter,
        Key::Home,
    ] {
        app.press(key);
    }
    assert_eq!(app.selected(), 0);
}

#[test]
fn the_first_row_is_followed_until_another_is_selected() {
    let mut app = app_of(node);
    assert_eq!(keys(&app)[app.selected()], "kube-system/dns");
    let mut look = node(14);
    look.pods.push(pod("busy/one", 7, 0, 0));
    app.answered(look, seconds(14));
    let mut look = node(16);
    look.pods.push(pod("busy/one", 7, 1_000_000, 0));
    app.answered(look, seconds(16));
    assert_eq!((app.selected(), keys(&app)[0]), (0, "busy/one"));
    app.press(Key::End);
    assert_eq!(app.selected(), 3);
    app.press(Key::Home);
    assert_eq!(app.selected(), 0);
}

#[test]
fn pages_go_through_all_peers() {
    let mut app = app_of(many);
    app.press(Key::Char('2'));
    let page = common::screen(&mut app, 80, 24, 12)
        .iter()
        .filter(|line| line.starts_with("ip-10"))
        .count();
    assert!(page > 10, "{page}");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..=(1000 / page + 1) {
        let lines = common::screen(&mut app, 80, 24, 12);
        let rows = lines.iter().filter(|line| line.starts_with("ip-10"));
        seen.extend(rows.map(|line| line.split(' ').next().unwrap().to_owned()));
        app.press(Key::PageDown);
    }
    assert_eq!(seen.len(), 1000);
    assert_eq!(app.selected(), 999);
    app.press(Key::PageUp);
    assert_eq!(app.selected(), 999 - page);
}

#[test]
fn pause_and_end() {
    let mut app = app_of(node);
    app.press(Key::Char('p'));
    assert!(app.paused());
    app.press(Key::Char('p'));
    assert!(!app.paused() && !app.ended());
    app.press(Key::Char('q'));
    assert!(app.ended());
}

#[test]
fn paths_are_wanted_for_a_peer_only() {
    let mut app = app_of(node);
    app.press(Key::Enter);
    assert!(!app.wants_paths());
    app.press(Key::Char('2'));
    assert!(!app.wants_paths());
    app.press(Key::Enter);
    assert!(app.wants_paths());
    app.press(Key::Escape);
    assert!(!app.wants_paths());
}
