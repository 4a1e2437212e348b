//! What the documents tell people to write is accepted.

use ringway_config::Config;
use std::path::Path;

#[test]
fn configuration_in_the_readme() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!blocks.is_empty(), "no configuration in README.md");
    for text in &blocks {
        // A section alone goes with the file that came first.
        let text = match text.contains("[node]") {
            true => (*text).to_owned(),
            false => format!("{}\n{text}", blocks[0]),
        };
        let config = Config::parse(Path::new("README.md"), &text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.peers.len(), 1);
        // The commands below the file attach a pod of these networks.
        assert!(readme.contains("--ip 10.77.1.10 --ip fd77:1::10"));
        for ip in ["10.77.1.10", "fd77:1::10"] {
            let address = ringway_packet::addr::from_ip(ip.parse().unwrap());
            assert!(
                config
                    .node
                    .pod_cidrs
                    .iter()
                    .any(|cidr| cidr.contains(address))
            );
        }
    }
}
