//! What a line of the log looks like.
//!
//! | form | one record |
//! |---|---|
//! | text | `2026-11-29T09:53:02.123456Z  INFO pod attached pod="default/web"` |
//! | JSON | `{"time":"…","level":"info","message":"pod attached","pod":"default/web","target":"…"}` |
//! | journald | its native protocol: `MESSAGE`, `PRIORITY`, and each field as `RINGWAY_POD` |
//!
//! Control bytes of what somebody else has named never reach a terminal: they are escaped, except for line ends of
//! our own messages in text.

use std::fmt::{Debug, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Bytes of a record's message, and of each of its fields; a datagram to journald may have some 200 KB.
const LONGEST: usize = 16 * 1024;
/// Names that a record has already.
const OURS: [&str; 4] = ["time", "level", "message", "target"];

/// What the configuration may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// journald's own where the process is a systemd service, else text.
    #[default]
    Auto,
    /// Lines to read.
    Text,
    /// An object a line.
    Json,
    /// To the journal, each field as a field.
    Journald,
}

/// Formats by their names in the configuration.
const FORMATS: [(&str, Format); 4] = [
    ("auto", Format::Auto),
    ("text", Format::Text),
    ("json", Format::Json),
    ("journald", Format::Journald),
];

impl Format {
    /// Names of all.
    pub const NAMES: [&str; 4] = ["auto", "text", "json", "journald"];

    /// The format of that name.
    pub fn named(name: &str) -> Option<Format> {
        let found = FORMATS.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = FORMATS.iter().find(|(_, format)| *format == self);
        found.map_or("auto", |(name, _)| name)
    }
}

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines to read, in colours or not.
    Text {
        /// With colours.
        ansi: bool,
    },
    /// An object a line.
    Json,
    /// Records of journald's native protocol.
    Journald,
}

impl Form {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        let format = match self {
            Form::Text { .. } => Format::Text,
            Form::Json => Format::Json,
            Form::Journald => Format::Journald,
        };
        format.name()
    }

    /// Whether records are for journald.
    pub fn is_journald(self) -> bool {
        self == Form::Journald
    }
}

/// Something that is logged.
pub(crate) struct Record<'a> {
    level: Level,
    target: &'a str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl<'a> Record<'a> {
    /// A message of this program without fields.
    pub(crate) fn plain(level: Level, message: &str) -> Record<'a> {
        Record {
            level,
            target: "ringway",
            message: bounded(message.to_owned()),
            fields: Vec::new(),
        }
    }

    pub(crate) fn of(event: &Event<'a>) -> Record<'a> {
        let metadata = event.metadata();
        let mut record = Record {
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    pub(crate) fn add(&mut self, name: &'static str, value: Value) {
        self.fields.push((name, value));
    }

    /// The record in bytes, with its end.
    pub(crate) fn bytes(&self, form: Form) -> Vec<u8> {
        match form {
            Form::Text { ansi } => self.text(ansi).into_bytes(),
            Form::Json => self.json().into_bytes(),
            Form::Journald => self.journald(),
        }
    }

    fn text(&self, ansi: bool) -> String {
        let (dim, colour, end) = match (ansi, self.level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
        };
        let (time, level) = (now(), self.level);
        format!(
            "{dim}{time}{end} {colour}{level:>5}{end} {}\n",
            self.words()
        )
    }

    /// Message and fields.
    fn words(&self) -> String {
        let mut text = escaped(&self.message);
        for (name, value) in &self.fields {
            if !text.is_empty() {
                text.push(' ');
            }
            let _ = match value {
                Value::String(value) => write!(text, "{name}={}", escaped(value)),
                value => write!(text, "{name}={value}"),
            };
        }
        text
    }

    fn json(&self) -> String {
        let mut all = Map::new();
        all.insert("time".into(), now().into());
        let level = self.level.as_str().to_ascii_lowercase();
        all.insert("level".into(), level.into());
        all.insert("message".into(), self.message.as_str().into());
        for (name, value) in &self.fields {
            let name = match OURS.contains(name) {
                true => format!("field_{name}"),
                false => (*name).to_owned(),
            };
            all.insert(name, value.clone());
        }
        all.insert("target".into(), self.target.into());
        let mut line = Value::Object(all).to_string();
        line.push('\n');
        line
    }

    /// systemd.io/JOURNAL_NATIVE_PROTOCOL: `NAME=value\n`, or for a value of several lines `NAME\n`, its length as
    /// eight bytes, little-endian, and `value\n`.
    fn journald(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        let mut add = |name: &str, value: &str| {
            bytes.extend(name.bytes());
            match value.contains('\n') {
                false => bytes.push(b'='),
                true => {
                    bytes.push(b'\n');
                    bytes.extend((value.len() as u64).to_le_bytes());
                }
            }
            bytes.extend(value.bytes());
            bytes.push(b'\n');
        };
        add("MESSAGE", &self.words());
        // syslog(3).
        let priority = match self.level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        add("PRIORITY", priority);
        add("SYSLOG_IDENTIFIER", "ringway");
        add("RINGWAY_TARGET", self.target);
        for (name, value) in &self.fields {
            let name = name
                .to_ascii_uppercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            let value = match value {
                Value::String(value) => value.clone(),
                value => value.to_string(),
            };
            add(&format!("RINGWAY_{name}"), &value);
        }
        bytes
    }

    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            // A raw identifier: r#type.
            (name, value) => self.add(name.strip_prefix("r#").unwrap_or(name), value),
        }
    }
}

impl Visit for Record<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, bounded(format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, bounded(value.to_owned()).into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }
}

/// Now, as RFC 3339 has it, in UTC.
fn now() -> String {
    let mut text = String::with_capacity(32);
    // A string takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn bounded(mut text: String) -> String {
    if text.len() > LONGEST {
        let all = text.len();
        text.truncate(text.floor_char_boundary(LONGEST));
        let _ = write!(text, "… ({} bytes more)", all - text.len());
    }
    text
}

/// Without control characters but line ends.
fn escaped(text: &str) -> String {
    if !text.contains(|c: char| c.is_control() && c != '\n') {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && c != '\n' {
            true => clean.extend(c.escape_default()),
            false => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        let mut record = Record::plain(Level::WARN, "pod attached\n  to do: nothing");
        record.add("pod", "default/web".into());
        record.add("port-number", 7.into());
        record.add("level", true.into());
        record.add("why", "a\nb\x1b[2J".into());
        record
    }

    #[test]
    fn text_has_time_level_message_and_fields_and_no_control_bytes() {
        let line = record().bytes(Form::Text { ansi: false });
        let line = String::from_utf8(line).unwrap();
        let (time, rest) = line.split_at(27);
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert_eq!(
            rest,
            "  WARN pod attached\n  to do: nothing pod=default/web port-number=7 level=true \
             why=a\nb\\u{1b}[2J\n"
        );
        let coloured = record().bytes(Form::Text { ansi: true });
        let coloured = String::from_utf8(coloured).unwrap();
        assert!(
            coloured.contains(" \x1b[33m WARN\x1b[0m pod attached"),
            "{coloured:?}"
        );
        let plain =
            String::from_utf8(Record::plain(Level::ERROR, "x").bytes(Form::Text { ansi: false }));
        assert!(plain.unwrap().ends_with("Z ERROR x\n"));
    }

    #[test]
    fn json_is_one_object_a_line_that_loses_nothing() {
        let line = String::from_utf8(record().bytes(Form::Json)).unwrap();
        assert_eq!(line.lines().count(), 1);
        let all: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(all["level"], "warn");
        assert_eq!(all["message"], "pod attached\n  to do: nothing");
        assert_eq!(all["pod"], "default/web");
        assert_eq!(all["port-number"], 7);
        assert_eq!(all["field_level"], true);
        assert_eq!(all["why"], "a\nb\x1b[2J");
        assert_eq!(all["target"], "ringway");
        assert!(all["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn journald_gets_fields_and_lengths_of_what_has_lines() {
        let bytes = record().bytes(Form::Journald);
        let message = "pod attached\n  to do: nothing pod=default/web port-number=7 level=true why=a\nb\\u{1b}[2J";
        let mut expected = b"MESSAGE\n".to_vec();
        expected.extend((message.len() as u64).to_le_bytes());
        expected.extend(message.bytes());
        expected.extend(
            b"\nPRIORITY=4\nSYSLOG_IDENTIFIER=ringway\nRINGWAY_TARGET=ringway\nRINGWAY_POD=default/web\n\
              RINGWAY_PORT_NUMBER=7\nRINGWAY_LEVEL=true\nRINGWAY_WHY\n\x07\0\0\0\0\0\0\0a\nb\x1b[2J\n",
        );
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_endless_is_cut() {
        let record = Record::plain(Level::INFO, &"ä".repeat(LONGEST));
        assert!(record.message.len() < LONGEST + 40);
        assert!(
            record
                .message
                .ends_with(&format!("… ({LONGEST} bytes more)"))
        );
    }

    #[test]
    fn formats_have_names() {
        for name in Format::NAMES {
            assert_eq!(Format::named(name).unwrap().name(), name);
        }
        assert_eq!(Format::named("xml"), None);
    }
}
