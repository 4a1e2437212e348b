//! What the virtual machine tells the host, a line each.

use serde::{Deserialize, Serialize};

/// Begins such a line: whatever else is written to that serial line is not for the host.
const MARK: &str = "RESULT ";

/// One line.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line {
    /// Something begins.
    Step { text: String },
    /// Something was tried: what was found, or what went wrong; one or one for each family.
    Row {
        what: String,
        found: Vec<Result<String, String>>,
    },
    /// The end, after so many rows.
    Done { rows: usize },
}

impl Line {
    /// As it travels.
    pub(super) fn write(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{MARK}{json}")
    }

    /// `None`: not such a line.
    pub(super) fn read(text: &str) -> Option<Line> {
        let json = text.trim_end().split_once(MARK)?.1;
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let row = Line::Row {
            what: "transfer".into(),
            found: vec![Ok("4 MB".into()), Err("after 7 bytes\n\"broken\"".into())],
        };
        let text = row.write();
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(Line::read(&format!("\0{text}\r\n")), Some(row));
        assert_eq!(Line::read(&text[..text.len() - 1]), None);
        assert_eq!(Line::read("insmod failed"), None);
    }
}
