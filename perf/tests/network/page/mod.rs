//! The page of `ringway ui` in a real browser, beside real traffic and a drop that the test makes.

mod browser;

use std::time::Duration;

use browser::Browser;
use ringway_perf::lab::{Family, Mode, Page, RingwayOptions, Topology};
use ringway_perf::traffic::ping;

use crate::common::LIMIT;
use crate::harness::{eventually, network_test, skipped};
use crate::mixed::Mixed;

/// Text of the cell of a column in the row that begins so, or null.
fn cell(table: &str, row: &str, column: &str) -> String {
    format!(
        "([...document.querySelectorAll('#{table} tr')].find((row) => row.cells[0].textContent === '{row}')\
         ?.querySelector('[data-key={column}]')?.textContent ?? null)"
    )
}

#[test]
fn the_page_shows_the_node_live_in_a_browser() {
    let name = "the_page_shows_the_node_live_in_a_browser";
    network_test(name, Duration::from_secs(90), || {
        let Some(unpacked) = browser::unpacked() else {
            return skipped(name, "no chromium");
        };
        let mut topology = Topology::ringway(Mode::Cloud, &RingwayOptions::default()).unwrap();
        let [p1, _, p3] = topology.add_three_pods().unwrap();
        let node = &mut topology.n1;
        let agent = node.agent().unwrap();
        let mut page = Page::start(agent).unwrap();
        let mut browser = Browser::start(&unpacked);

        // Loads.
        browser.open(page.url());
        browser.wait_for("document.title === 'node1 · ringway'");
        assert_eq!(
            browser.value("document.getElementById('trouble').hidden"),
            true
        );
        let rows = browser.value("document.querySelectorAll('#pods tr').length");
        assert_eq!(rows, 3, "a head and two pods");
        let address = browser.value(&cell("pods", &p1.name(), "ips"));
        assert!(
            address
                .as_str()
                .unwrap()
                .starts_with(&p1.ip(Family::V4).to_string()),
            "{address}"
        );

        // Updates: a path to the other node that was asked, and traffic.
        browser.wait_for(&format!(
            "{} === 'reached'",
            cell("peers", "node2", "state")
        ));
        browser.wait_for(&format!(
            "/ (µs|ms)$/.test({})",
            cell("peers", "node2", "rtt")
        ));
        browser
            .wait_for("document.querySelectorAll('#map .peer.good[data-peer=node2]').length === 1");
        // What is in use, and what has been seen to pass.
        browser.wait_for(&format!(
            "{} === '1450, 1450'",
            cell("peers", "node2", "mtu")
        ));
        let rate = format!(
            "/[1-9].* [kM]bit\\/s/.test({})",
            cell("pods", &p1.name(), "from")
        );
        eventually("the rate of the pod is shown", LIMIT, || {
            ping(&p1.ns, p3.ip(Family::V4), 20, 1000, LIMIT).unwrap();
            browser.value(&rate) == true
        });

        // A drop that is made now is there without loading again.
        assert_eq!(
            browser.value(&cell("drops", "spoofed_ipv4", "total")),
            serde_json::Value::Null
        );
        browser.value("window.still = 'the same page'");
        p1.ns.ip("addr add 10.99.0.1/32 dev lo").unwrap();
        let to = p3.ip(Family::V4).to_string();
        let _ = p1
            .ns
            .command("ping", &format!("-c 3 -i 0.2 -W 1 -I 10.99.0.1 {to}"));
        browser.wait_for(&format!(
            "Number({}) >= 3",
            cell("drops", "spoofed_ipv4", "total")
        ));
        let remedy = browser.value(&cell("drops", "spoofed_ipv4", "remedy"));
        assert!(
            remedy.as_str().is_some_and(|text| text.len() > 20),
            "{remedy}"
        );
        let place = browser.value(&cell("drops", "spoofed_ipv4", "at"));
        assert!(
            place
                .as_str()
                .unwrap()
                .starts_with(&format!("from {} ", p1.name())),
            "{place}"
        );
        browser.wait_for(
            "[...document.querySelectorAll('#last td')].some((cell) => cell.textContent.includes('10.99.0.1'))",
        );
        assert_eq!(browser.value("window.still"), "the same page");

        // Filters.
        let filter = |text: &str| {
            format!(
                "(() => {{ const box = document.getElementById('filter'); box.value = '{text}'; \
                 box.dispatchEvent(new Event('input')); }})()"
            )
        };
        let shown = |table: &str| {
            format!(
                "[...document.querySelectorAll('#{table} tr')].slice(1).map((row) => row.cells[0].textContent).join()"
            )
        };
        browser.value(&filter(&p1.ip(Family::V4).to_string()));
        assert_eq!(browser.value(&shown("pods")), p1.name());
        assert_eq!(browser.value(&shown("peers")), "no peer matches the filter");
        browser.value(&filter("spoofed"));
        assert_eq!(browser.value(&shown("drops")), "spoofed_ipv4");
        assert_eq!(
            browser.value(&shown("pods")),
            p1.name(),
            "whose packets were dropped"
        );
        browser.value(&filter(""));

        // A peer in detail.
        browser.value("document.querySelector('#map [data-peer=node2]').dispatchEvent(new MouseEvent('click', {bubbles: true}))");
        browser.wait_for("/MTU verified/.test(document.getElementById('detail').textContent)");

        // No token: the page and nothing in it.
        let stranger = page.url().split('#').next().unwrap().to_owned();
        browser.open("about:blank");
        browser.open(&stranger);
        browser.wait_for(
            "/the token is missing/.test(document.getElementById('trouble').textContent)",
        );
        assert_eq!(
            browser.value("document.querySelectorAll('#pods tr').length"),
            0
        );

        // The agent goes, and is back.
        browser.open("about:blank");
        browser.open(page.url());
        browser.wait_for("document.title === 'node1 · ringway'");
        let agent = node.agent().unwrap();
        assert!(agent.stop());
        browser.wait_for("/does not answer/.test(document.getElementById('trouble').textContent)");
        assert_eq!(
            browser.value("document.querySelectorAll('#pods tr').length"),
            3,
            "what was known stays"
        );
        agent.start().unwrap();
        browser.wait_for("document.getElementById('trouble').hidden");

        // It ends with who reads what it prints.
        page.stop_reading();
        eventually("the page ends", LIMIT, || page.ended().is_some());
        assert!(page.ended().unwrap().success());
    });
}

#[test]
fn the_map_tells_peers_that_answer_from_those_that_do_not() {
    let name = "the_map_tells_peers_that_answer_from_those_that_do_not";
    network_test(name, Duration::from_secs(120), || {
        let Some(unpacked) = browser::unpacked() else {
            return skipped(name, "no chromium");
        };
        // Nodes 1, 2, 5, 6 are Ringway's, 3 and 4 Flannel's.
        let mut mixed = Mixed::new();
        mixed.add_ringway(5);
        mixed.add_ringway(6);
        let pods: Vec<_> = mixed.pods.values().cloned().collect();
        let agent = mixed.cluster.node(1).unwrap().agent().unwrap();
        let page = Page::start(agent).unwrap();
        let mut browser = Browser::start(&unpacked);
        browser.open(page.url());
        let state =
            |peer: &str, state: &str| format!("{} === '{state}'", cell("peers", peer, "state"));
        for peer in ["node2", "node5", "node6"] {
            browser.wait_for(&state(peer, "reached"));
        }
        assert!(mixed.cluster.node(6).unwrap().agent().unwrap().stop());
        // In use it is found dead within ten seconds; the others go on.
        eventually(
            "node 6 is said to be silent",
            Duration::from_secs(20),
            || {
                for to in &pods[1..] {
                    let _ = ping(&pods[0].ns, to.ip(Family::V4), 2, 1200, LIMIT / 20);
                }
                browser.value(&state("node6", "silent")) == true
            },
        );
        for peer in ["node3", "node4"] {
            browser.wait_for(&state(peer, "answers no probes"));
        }
        for (peer, kind) in [("node2", "good"), ("node3", "mute"), ("node6", "bad")] {
            browser.wait_for(&format!(
                "document.querySelectorAll('#map .peer.{kind}[data-peer={peer}]').length === 1"
            ));
        }
        // The worst stands first, and is a condition.
        let first = browser.value("document.querySelector('#peers td').textContent");
        assert_eq!(first, "node6");
        browser.wait_for("/node6/.test(document.getElementById('conditions').textContent)");
        browser.value(
            "document.querySelector('#map [data-peer=node2]').dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        );
        if let Some(file) = std::env::var_os("RINGWAY_SCREENSHOT") {
            std::fs::write(file, browser.screenshot()).unwrap();
        }
    });
}
