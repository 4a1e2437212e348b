//! What a node's agent says of the way it reaches its NIC.

use crate::lab::Io;
use serde_json::Value;

/// Judges `ringway status --json`: the node must have got what it was told to use, and of AF_XDP
/// nothing but zero-copy rings.
pub(super) fn check(status: &Value, io: Io) -> Result<String, String> {
    let underlay = &status["underlay"];
    let got = underlay["io"].as_str().unwrap_or("nothing");
    // The agent adds why.
    if io != Io::Auto && got.split(' ').next() != Some(&io.to_string()) {
        return Err(format!("wanted {io}, got: {got}"));
    }
    match io {
        Io::Socket | Io::Auto => Ok(format!(
            "socket, {} of them",
            underlay["sockets"].as_array().map_or(0, Vec::len)
        )),
        Io::Xdp => zero_copy(underlay["rings"].as_array().map_or(&[], Vec::as_slice)),
    }
}

fn zero_copy(rings: &[Value]) -> Result<String, String> {
    let words: Vec<String> = rings.iter().map(describe).collect();
    let all = rings
        .iter()
        .all(|ring| ring["zero_copy"].as_bool() == Some(true));
    match (rings.is_empty(), all) {
        (true, _) => Err("no ring".into()),
        (false, true) => Ok(words.join(", ")),
        (false, false) => Err(words.join(", ")),
    }
}

fn describe(ring: &Value) -> String {
    format!(
        "queue {} {} {}",
        ring["queue"],
        ring["mode"].as_str().unwrap_or("in no mode"),
        match ring["zero_copy"].as_bool() {
            Some(true) => "zero-copy",
            _ => "copying",
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn xdp(rings: Value) -> Result<String, String> {
        check(&json!({"underlay": {"io": "xdp", "rings": rings}}), Io::Xdp)
    }

    #[test]
    fn only_zero_copy_on_every_queue_will_do() {
        let good = json!({"queue": 0, "mode": "native", "zero_copy": true});
        let copies = json!({"queue": 1, "mode": "native", "zero_copy": false});
        assert_eq!(xdp(json!([good])).unwrap(), "queue 0 native zero-copy");
        assert_eq!(
            xdp(json!([good, copies])).unwrap_err(),
            "queue 0 native zero-copy, queue 1 native copying"
        );
        assert_eq!(xdp(json!([])).unwrap_err(), "no ring");
        assert!(xdp(json!([{"queue": 0}])).is_err());
    }

    #[test]
    fn falling_back_is_not_what_was_wanted() {
        let status = json!({"underlay": {"io": "socket (xdp refused)", "sockets": [1, 2]}});
        assert!(check(&status, Io::Xdp).is_err());
        assert_eq!(check(&status, Io::Socket).unwrap(), "socket, 2 of them");
        assert!(check(&json!({}), Io::Socket).is_err());
    }
}
