//! JSON read as the reference plugins read it, which are written in Go.
//!
//! Runtimes write their keys as their structs happen to be named (`HostPort`, `hostPort`) and rely on
//! readers that match them as Go's `encoding/json` does: in any case, by Unicode's simple folding; of a key
//! that is there twice the last counts, of objects the last of each key; `null` is nothing said. A
//! [`Shape`] has the names as they are read here, and what may stand under them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What may stand in a place.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Anything, taken as it is.
    Any,
    /// A string.
    Text,
    /// A whole number from 0 to this.
    Number(u64),
    /// A list.
    List(&'static Shape),
    /// An object whose keys are data.
    Map(&'static Shape),
    /// An object with these keys.
    Object(&'static [(&'static str, Shape)], Others),
}

/// Keys of an object that its shape has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Left out, and reported.
    Report,
    /// Left out: they are for somebody else.
    Ignore,
    /// Kept as they are.
    Keep,
}

/// A value that has not the shape of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where: keys as they are read here.
    pub place: String,
    /// The value, shortened.
    pub value: String,
    /// What would have been right.
    pub expected: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            value,
            expected,
        } = self;
        write!(f, "{place}: {value} is not {expected}")
    }
}

/// JSON with all its keys, in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Null, truth value, number, string.
    Leaf(Value),
    /// A list.
    List(Vec<Tree>),
    /// An object; keys may be there more than once.
    Object(Vec<(String, Tree)>),
}

/// Longest part of a value that an error repeats, in characters.
const SHOWN: usize = 80;

impl Tree {
    /// Reads text. Bytes that are no UTF-8 become U+FFFD, as Go has it.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_str(&String::from_utf8_lossy(text))
    }

    /// The same as a value: of equal keys the last.
    pub fn value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(list) => Value::Array(list.into_iter().map(Self::value).collect()),
            Self::Object(keys) => {
                Value::Object(keys.into_iter().map(|(k, v)| (k, v.value())).collect())
            }
        }
    }

    /// Nothing is said.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Leaf(Value::Null))
    }
}

/// Reads a tree in a shape, under the shape's names. `place` is said in errors; what `Others::Report` has
/// found goes to `unknown`, each once.
///
/// # Errors
/// The first value that has not the shape of its place.
pub fn read(
    tree: Tree,
    shape: &Shape,
    place: &str,
    unknown: &mut Vec<String>,
) -> Result<Value, Wrong> {
    let wrong = |tree: Tree, expected: String| {
        let value = tree.value().to_string();
        let mut short: String = value.chars().take(SHOWN).collect();
        if short.len() < value.len() {
            short.push('…');
        }
        Err(Wrong {
            place: place.to_owned(),
            value: short,
            expected,
        })
    };
    match (shape, tree) {
        (Shape::Any, tree) => Ok(tree.value()),
        (Shape::Text, Tree::Leaf(value @ Value::String(_))) => Ok(value),
        (Shape::Text, tree) => wrong(tree, "a string".into()),
        (Shape::Number(most), Tree::Leaf(value)) if value.as_u64().is_some_and(|n| n <= *most) => {
            Ok(value)
        }
        (Shape::Number(most), tree) => wrong(tree, format!("a whole number from 0 to {most}")),
        (Shape::List(inner), Tree::List(list)) => {
            let mut read_all = Vec::with_capacity(list.len());
            for (i, one) in list.into_iter().enumerate() {
                let one = match one.is_null() {
                    true => zero(inner),
                    false => read(one, inner, &format!("{place}[{i}]"), unknown)?,
                };
                read_all.push(one);
            }
            Ok(Value::Array(read_all))
        }
        (Shape::List(_), tree) => wrong(tree, "a list".into()),
        (Shape::Map(inner), Tree::Object(keys)) => {
            let mut map = Map::new();
            for (key, value) in keys {
                let value = match value.is_null() {
                    true => zero(inner),
                    false => read(value, inner, &below(place, &key), unknown)?,
                };
                map.insert(key, value);
            }
            Ok(Value::Object(map))
        }
        (Shape::Object(fields, others), Tree::Object(keys)) => {
            let mut map = Map::new();
            for (key, value) in keys {
                match fields.iter().find(|(name, _)| same(name, &key)) {
                    Some((name, field)) => {
                        put(&mut map, (name, field), value, &below(place, name), unknown)?;
                    }
                    None => match others {
                        Others::Report => note(unknown, &below(place, &key)),
                        Others::Ignore => {}
                        Others::Keep => {
                            map.insert(key, value.value());
                        }
                    },
                }
            }
            Ok(Value::Object(map))
        }
        (Shape::Map(_) | Shape::Object(..), tree) => wrong(tree, "an object".into()),
    }
}

/// Sets a key as Go sets a field: `null` leaves strings and numbers, and empties the rest; an object adds
/// to what is there.
///
/// # Errors
/// As [`read`].
pub fn put(
    map: &mut Map<String, Value>,
    (name, field): (&str, &Shape),
    value: Tree,
    place: &str,
    unknown: &mut Vec<String>,
) -> Result<(), Wrong> {
    if value.is_null() {
        if !matches!(field, Shape::Text | Shape::Number(_)) {
            map.remove(name);
        }
        return Ok(());
    }
    let value = read(value, field, place, unknown)?;
    match (map.get_mut(name), field, value) {
        (Some(Value::Object(there)), Shape::Object(..) | Shape::Map(_), Value::Object(more)) => {
            there.extend(more);
        }
        (_, _, value) => {
            map.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

/// What `null` is among others.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Any => Value::Null,
        Shape::Text => String::new().into(),
        Shape::Number(_) => 0.into(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Object(..) => Value::Object(Map::new()),
    }
}

fn below(place: &str, key: &str) -> String {
    if place.is_empty() {
        return key.to_owned();
    }
    format!("{place}.{key}")
}

/// Of a list's elements it does not matter which.
pub fn note(unknown: &mut Vec<String>, place: &str) {
    let mut name = String::new();
    let mut inside = false;
    for c in place.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            name.push(c);
        }
    }
    if !unknown.contains(&name) {
        unknown.push(name);
    }
}

/// Whether Go takes `key` for the field `name`, which is ASCII: two letters beyond it fold to ASCII ones.
pub fn same(name: &str, key: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 'S',
        '\u{212a}' => 'K',
        c => c.to_ascii_uppercase(),
    };
    name.chars().map(fold).eq(key.chars().map(fold))
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a number"))?;
        Ok(Tree::Leaf(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(one) = seq.next_element()? {
            list.push(one);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut keys = Vec::new();
        while let Some(pair) = map.next_entry()? {
            keys.push(pair);
        }
        Ok(Tree::Object(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const INNER: Shape = Shape::Object(
        &[("rate", Shape::Number(100)), ("task", Shape::Text)],
        Others::Keep,
    );
    const SHAPE: Shape = Shape::Object(
        &[
            ("hostIP", Shape::Text),
            ("port", Shape::Number(65535)),
            ("list", Shape::List(&INNER)),
            ("map", Shape::Map(&Shape::Text)),
            ("inner", INNER),
            ("any", Shape::Any),
        ],
        Others::Report,
    );

    fn of(text: &str) -> (Result<Value, Wrong>, Vec<String>) {
        let mut unknown = Vec::new();
        let tree = Tree::parse(text.as_bytes()).unwrap();
        (read(tree, &SHAPE, "", &mut unknown), unknown)
    }

    #[test]
    fn names_fold_and_the_last_counts() {
        for (text, expected) in [
            (r#"{"HOSTIP":"a","hostip":"b"}"#, json!({"hostIP": "b"})),
            (
                "{\"ho\u{17f}tIP\":\"a\",\"inner\":{\"ta\u{17f}\u{212a}\":\"x\"}}",
                json!({"hostIP": "a", "inner": {"task": "x"}}),
            ),
            // Null leaves a string or a number, and empties the rest.
            (
                r#"{"port":1,"Port":null,"list":[{}],"List":null}"#,
                json!({"port": 1}),
            ),
            (
                r#"{"inner":{"Rate":1},"Inner":{"TASK":"x","own":1}}"#,
                json!({"inner": {"rate": 1, "task": "x", "own": 1}}),
            ),
            (
                r#"{"map":{"A":"1","a":"2","b":null}}"#,
                json!({"map": {"A": "1", "a": "2", "b": ""}}),
            ),
            (
                r#"{"list":[null,{"RATE":100}]}"#,
                json!({"list": [{}, {"rate": 100}]}),
            ),
            (
                r#"{"any":{"B":1,"b":[null]}}"#,
                json!({"any": {"B": 1, "b": [null]}}),
            ),
        ] {
            assert_eq!(of(text), (Ok(expected), vec![]), "{text}");
        }
        // Letters that look alike, or fold to others, are others.
        for key in ["h\u{f6}stIP", "hostI\u{420}", "host_ip", "hostIP "] {
            let (read, unknown) = of(&json!({key: "a"}).to_string());
            assert_eq!((read, unknown), (Ok(json!({})), vec![key.to_owned()]));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            (
                r#"{"PORT":65536}"#,
                "port: 65536 is not a whole number from 0 to 65535",
            ),
            (r#"{"port":-1}"#, "port: -1 is not"),
            (r#"{"port":1.0}"#, "port: 1.0 is not"),
            (
                r#"{"port":18446744073709551616}"#,
                "port: 1.8446744073709552e+19 is not",
            ),
            (r#"{"hostIP":[1]}"#, "hostIP: [1] is not a string"),
            (
                r#"{"list":[{},{"rate":"x"}]}"#,
                "list[1].rate: \"x\" is not a whole number",
            ),
            (r#"{"inner":[]}"#, "inner: [] is not an object"),
            (r#"{"map":{"k":1}}"#, "map.k: 1 is not a string"),
            ("[]", ": [] is not an object"),
        ] {
            let error = of(text).0.unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
        let long = json!({"port": "x".repeat(1000)}).to_string();
        assert!(of(&long).0.unwrap_err().value.ends_with('…'));
    }

    #[test]
    fn what_is_unknown_is_named_once() {
        let (_, unknown) = of(r#"{"x":1,"list":[{"y":1},{"y":2}],"X":2,"x":3}"#);
        assert_eq!(unknown, ["x", "X"]);
        let mut names = Vec::new();
        for place in ["a[0].b", "a[12].b", "a.b"] {
            note(&mut names, place);
        }
        assert_eq!(names, ["a[].b", "a.b"]);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stop_it() {
        let tree = Tree::parse(b"{\"hostIP\":\"a\xff\"}").unwrap();
        assert_eq!(tree.value(), json!({"hostIP": "a\u{fffd}"}));
        assert!(Tree::parse(b"\xff").is_err());
        let deep = "[".repeat(100_000);
        assert!(Tree::parse(deep.as_bytes()).is_err());
    }
}
