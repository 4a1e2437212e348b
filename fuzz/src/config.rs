//! Any text through the configuration's parser: what passes is shown as a file that means the same.

use ringway_config::{Config, show};
use std::path::Path;

/// One input: the file's text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let file = Path::new("ringway.toml");
    match Config::parse(file, text) {
        Ok(config) => {
            let shown = show(&config);
            let again = Config::parse(file, &shown).unwrap_or_else(|e| panic!("{e}\n{shown}"));
            assert_eq!(again, config, "{shown}");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!error.problem.remedy().is_empty());
        }
    }
}
