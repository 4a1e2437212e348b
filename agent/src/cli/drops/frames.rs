//! `ringway drops --last`: frames as lines.

use ringway_control::view::LastDrop;

use super::super::width::width;
use crate::summary;
use ringway_control::view::columns::Fields;

/// Bytes of a line in hexadecimal.
const BYTES: usize = 16;

/// A line or two for each frame, the latest last.
pub(super) fn text(frames: &[LastDrop], hex: bool) -> String {
    let mut out = Fields::new(width(), 2);
    if frames.is_empty() {
        out.heading("no frame was kept: none was dropped since the agent started");
    }
    for frame in frames {
        let LastDrop { kind, name, .. } = frame;
        let time = summary::clock(frame.time_ns);
        let at = format!("{kind} {name}");
        let mut what = format!("from {}: {}", at.trim_end(), frame.summary);
        if frame.packets > 1 {
            what.push_str(&format!(" (a superframe of {} packets)", frame.packets));
        }
        match frame.contents.as_str() {
            "packet" => what.push_str(" (a bare IP packet)"),
            "datagram" => what.push_str(" (what a datagram carries, not opened)"),
            _ => {}
        }
        out.line(&format!("{time} {}", frame.reason));
        out.push("", &what);
        if hex {
            dump(&mut out, &frame.bytes);
        }
    }
    out.finish() + &note()
}

/// What is not there, and where it is.
fn note() -> String {
    let mut out = Fields::new(width(), 0);
    out.push(
        "",
        "Kept: the last 4 frames of each reason, one a millisecond, 128 bytes of each as it came. \
         Of what is lost after its verdict or before it is read there is no frame; a live look at all: \
         `ringway capture --drops`.",
    );
    out.finish()
}

/// Hexadecimal digits in lines, with offsets, as `tcpdump -x` has them.
fn dump(out: &mut Fields, digits: &str) {
    let digits: Vec<char> = digits.chars().collect();
    for (i, line) in digits.chunks(2 * BYTES).enumerate() {
        let words: Vec<String> = line.chunks(4).map(|word| word.iter().collect()).collect();
        out.line(&format!("    {:#06x}  {}", i * BYTES, words.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> LastDrop {
        LastDrop {
            reason: "spoofed_ipv4".into(),
            time_ns: (13 * 3600 + 5 * 60 + 7) * 1_000_000_000,
            kind: "pod".into(),
            name: "default/web".into(),
            length: 62,
            packets: 1,
            contents: "frame".into(),
            summary: "10.77.1.9:1 > 10.77.1.3:2 UDP 62 bytes".into(),
            bytes: "0a580a4d0102".repeat(3),
        }
    }

    #[test]
    fn a_frame_has_its_time_its_place_and_its_bytes() {
        let said = text(&[frame()], true);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "13:05:07.000000 spoofed_ipv4");
        assert_eq!(
            lines[1],
            "  from pod default/web: 10.77.1.9:1 > 10.77.1.3:2 UDP 62 bytes"
        );
        assert_eq!(
            lines[2],
            "    0x0000  0a58 0a4d 0102 0a58 0a4d 0102 0a58 0a4d"
        );
        assert_eq!(lines[3], "    0x0010  0102");
        assert!(!text(&[frame()], false).contains("0x0000"));
    }

    #[test]
    fn what_is_no_plain_frame_is_said_to_be() {
        let superframe = LastDrop {
            packets: 44,
            ..frame()
        };
        let said = text(&[superframe], false).replace("\n    ", " ");
        assert!(said.contains("(a superframe of 44 packets)"), "{said}");
        let unopened = LastDrop {
            kind: "underlay".into(),
            name: String::new(),
            contents: "datagram".into(),
            ..frame()
        };
        let said = text(&[unopened], false).replace("\n    ", " ");
        assert!(
            said.contains("from underlay: ") && said.contains("not opened"),
            "{said}"
        );
        assert!(text(&[], false).starts_with("no frame was kept"));
    }
}
