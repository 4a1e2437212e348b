//! What a sink counts.
//!
//! Whatever is not a whole datagram with a stamp is *foreign*: other people's traffic, the kernel's own,
//! garbage. A stamp of another run is *stale*. Of this run, the first of each sequence number is received,
//! others are duplicates; lost is what was sent and never received. How many were sent the generator says at
//! the end; without its word it is one above the highest number seen.

use ringway_packet::parse::{L3, parse};
use ringway_packet::{ipv4, ipv6, proto};
use serde::Serialize;

use super::latency::{Latencies, Quantiles};
use super::stamp::{Kind, Stamp};
use super::window::{Seen, Window};

/// Longest latency that is believed, ns: a stamp from further back is of another clock.
const BELIEVED: u64 = 60_000_000_000;

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Packets of this run, each once.
    pub received: u64,
    /// Bytes of their frames, as far as known: of a superframe, its headers once.
    pub bytes: u64,
    /// Packets sent and not received.
    pub lost: u64,
    /// Packets received again.
    pub duplicated: u64,
    /// Of those received: after one of the same flow with a higher number (RFC 4737 section 3.3).
    pub reordered: u64,
    /// So far behind that nobody knows whether they are duplicates; not in any other count.
    pub old: u64,
    /// Packets of another run of a generator.
    pub stale: u64,
    /// Frames that are nobody's of ours.
    pub foreign: u64,
    /// Of those received: sent by a clock that is not ours, so without a latency.
    pub unclocked: u64,
}

/// Counts, order and latencies of one run.
#[derive(Clone, Debug)]
pub struct Tally {
    run: Option<u32>,
    counts: Counts,
    window: Window,
    /// One above the highest number of each flow. Flows that share a place look like one, whose order is
    /// then the sender's over both.
    flows: Vec<u64>,
    sent: Option<u64>,
    latencies: Latencies,
    span: Option<(u64, u64)>,
}

impl Tally {
    /// Of the run `run`, or of the first that is seen.
    pub fn new(run: Option<u32>) -> Tally {
        Tally {
            run,
            counts: Counts::default(),
            window: Window::default(),
            flows: vec![0; 1 << 16],
            sent: None,
            latencies: Latencies::default(),
            span: None,
        }
    }

    /// A frame, or a superframe with as much payload in each datagram as `gso_size` says, has arrived.
    #[inline]
    pub fn frame(&mut self, bytes: &[u8], gso_size: Option<u16>, now: u64) {
        let Some((flow, payload)) = udp(bytes) else {
            self.counts.foreign += 1;
            return;
        };
        let size = gso_size.map_or(payload.len(), usize::from).max(1);
        let headers = bytes.len() - payload.len();
        let mut pieces = payload.chunks(size);
        // An empty payload is one datagram, too.
        let first = pieces.next().unwrap_or(&[]);
        self.datagram(flow, first, headers, now);
        for piece in pieces {
            self.datagram(flow, piece, 0, now);
        }
    }

    #[inline]
    fn datagram(&mut self, flow: u16, payload: &[u8], headers: usize, now: u64) {
        let Some(stamp) = Stamp::decode(payload) else {
            self.counts.foreign += 1;
            return;
        };
        if *self.run.get_or_insert(stamp.run) != stamp.run {
            self.counts.stale += 1;
            return;
        }
        if stamp.kind == Kind::End {
            self.sent = Some(stamp.seq);
            return;
        }
        match self.window.see(stamp.seq) {
            Seen::Duplicate => {
                self.counts.duplicated += 1;
                return;
            }
            Seen::Old => {
                self.counts.old += 1;
                return;
            }
            Seen::Highest | Seen::Behind => {}
        }
        let next = &mut self.flows[usize::from(flow)];
        match stamp.seq < *next {
            true => self.counts.reordered += 1,
            false => *next = stamp.seq.saturating_add(1),
        }
        self.counts.received += 1;
        self.counts.bytes += (headers + payload.len()) as u64;
        match now.checked_sub(stamp.time) {
            Some(latency) if latency <= BELIEVED => self.latencies.record(latency),
            _ => self.counts.unclocked += 1,
        }
        let first = self.span.map_or(now, |span| span.0);
        self.span = Some((first, now));
    }

    /// How many were sent, from who knows.
    pub fn sent(&mut self, packets: u64) {
        self.sent = Some(packets);
    }

    /// Whether the generator has said how many it sent.
    pub fn ended(&self) -> bool {
        self.sent.is_some()
    }

    /// The run that is counted.
    pub fn run(&self) -> Option<u32> {
        self.run
    }

    /// Packets received, each once.
    pub fn received(&self) -> u64 {
        self.counts.received
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        let sent = self.sent.unwrap_or(self.window.next());
        Counts {
            lost: sent.saturating_sub(self.counts.received),
            ..self.counts
        }
    }

    /// Latencies; `None` of no packet.
    pub fn latency(&self) -> Option<Quantiles> {
        self.latencies.quantiles()
    }

    /// The histogram: upper bound of each bucket in ns, and its count.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        self.latencies.buckets()
    }

    /// Packets per second between the first and the last.
    pub fn rate(&self) -> f64 {
        match self.span {
            Some((first, last)) if last > first => {
                (self.counts.received - 1) as f64 * 1e9 / (last - first) as f64
            }
            _ => 0.0,
        }
    }
}

/// Place of the flow, and payload, of a whole UDP datagram; `None`: it is none, or not whole.
#[inline]
fn udp(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let parsed = parse(bytes, bytes.len()).ok()?;
    if parsed.proto != proto::UDP || parsed.is_fragment() {
        return None;
    }
    // The end of the source address: what a generator counts up.
    let address = usize::from(parsed.l3_off)
        + match parsed.l3 {
            L3::Ipv4 => ipv4::field::DST,
            _ => ipv6::field::DST,
        };
    let [high, low] = *bytes.get(address - 2..address)?.first_chunk()?;
    let flow = u16::from_be_bytes([high, low])
        .wrapping_mul(0x9e37)
        .wrapping_add(parsed.src_port);
    let payload = bytes.get(usize::from(parsed.payload_off)..parsed.ip_end())?;
    Some((flow, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_packet::kit;

    const RUN: u32 = 7;

    fn stamp(kind: Kind, run: u32, seq: u64, time: u64) -> [u8; 22] {
        Stamp {
            kind,
            run,
            seq,
            time,
        }
        .encode()
    }

    fn frame(run: u32, seq: u64, time: u64) -> Vec<u8> {
        kit::udp("10.0.0.1:1024", "10.0.0.2:9")
            .payload(&stamp(Kind::Data, run, seq, time))
            .frame()
    }

    fn tally(seqs: &[u64]) -> Tally {
        let mut tally = Tally::new(Some(RUN));
        for &seq in seqs {
            tally.frame(&frame(RUN, seq, 1000), None, 3000);
        }
        tally
    }

    #[test]
    fn all_in_order_is_nothing_but_received() {
        let mut tally = tally(&[0, 1, 2, 3]);
        tally.sent(4);
        let wanted = Counts {
            received: 4,
            bytes: 4 * 64,
            ..Counts::default()
        };
        assert_eq!(tally.counts(), wanted);
        let latency = tally.latency().unwrap();
        assert_eq!(latency.count, 4);
        assert!(latency.p50.abs_diff(2000) <= 20, "{latency:?}");
    }

    #[test]
    fn lost_duplicated_and_reordered_each_count_once() {
        // Of ten, 3 and 8 are missing, 5 comes late, 1 twice and 5 once more.
        let mut tally = tally(&[0, 1, 1, 2, 4, 6, 5, 7, 5, 9]);
        let wanted = Counts {
            received: 8,
            bytes: 8 * 64,
            lost: 2,
            duplicated: 2,
            reordered: 1,
            ..Counts::default()
        };
        assert_eq!(tally.counts(), wanted);
        // The end of the run was lost: only the generator can say.
        tally.sent(12);
        assert_eq!(tally.counts().lost, 4);
    }

    #[test]
    fn flows_may_overtake_each_other() {
        let mut tally = Tally::new(Some(RUN));
        for (port, seq) in [
            (1024, 0),
            (1024, 2),
            (1024, 4),
            (1025, 1),
            (1025, 5),
            (1025, 3),
        ] {
            let frame = kit::udp(("10.0.0.1".parse().unwrap(), port), "10.0.0.2:9")
                .payload(&stamp(Kind::Data, RUN, seq, 0))
                .frame();
            tally.frame(&frame, None, 0);
        }
        // 1 is behind 4, but of another flow; 3 is behind 5 of its own.
        assert_eq!((tally.counts().reordered, tally.counts().lost), (1, 0));
    }

    #[test]
    fn the_end_says_how_many_there_were() {
        let mut tally = tally(&[0, 1]);
        assert!(!tally.ended());
        let end = kit::udp("10.0.0.1:1024", "10.0.0.2:9")
            .payload(&stamp(Kind::End, RUN, 5, 0))
            .frame();
        tally.frame(&end, None, 0);
        assert!(tally.ended());
        assert_eq!(tally.counts().lost, 3);
        assert_eq!(tally.counts().received, 2, "an end is no packet");
    }

    #[test]
    fn other_runs_are_stale_and_the_first_seen_is_ours_unless_named() {
        let mut named = tally(&[0]);
        named.frame(&frame(RUN + 1, 1, 0), None, 0);
        assert_eq!((named.counts().received, named.counts().stale), (1, 1));
        let mut first = Tally::new(None);
        first.frame(&frame(9, 0, 0), None, 0);
        first.frame(&frame(RUN, 1, 0), None, 0);
        assert_eq!((first.run(), first.counts().stale), (Some(9), 1));
    }

    #[test]
    fn garbage_is_foreign_and_nothing_else() {
        let good = frame(RUN, 0, 0);
        let stamped = stamp(Kind::Data, RUN, 0, 0);
        let mut cases = vec![
            Vec::new(),
            vec![0xff; 13],
            vec![0xff; 1500],
            kit::arp_request("10.0.0.1", "10.0.0.2"),
            // The stamp in another protocol, cut short, or in a fragment.
            kit::tcp("10.0.0.1:1", "10.0.0.2:9")
                .payload(&stamped)
                .frame(),
            kit::udp("10.0.0.1:1", "10.0.0.2:9")
                .payload(&stamped[..21])
                .frame(),
            kit::udp("10.0.0.1:1", "10.0.0.2:9").frame(),
            kit::udp("[fd00::1]:1", "[fd00::2]:9")
                .payload(&[0; 64])
                .frame(),
        ];
        cases.extend(
            kit::udp("10.0.0.1:1", "10.0.0.2:9")
                .payload_len(2000)
                .fragments(1500),
        );
        cases.extend((0..good.len()).map(|len| good[..len].to_vec()));
        let mut tally = Tally::new(Some(RUN));
        for case in &cases {
            tally.frame(case, None, 0);
        }
        let wanted = Counts {
            foreign: cases.len() as u64,
            ..Counts::default()
        };
        assert_eq!(tally.counts(), wanted);
        assert_eq!(tally.latency(), None);
    }

    #[test]
    fn a_superframe_is_the_packets_it_holds() {
        let mut payload = Vec::new();
        for seq in 0..4 {
            let mut piece = stamp(Kind::Data, RUN, seq, 0).to_vec();
            piece.resize(if seq == 3 { 30 } else { 100 }, 0);
            payload.extend(piece);
        }
        let frame = kit::udp("[fd00::1]:1024", "[fd00::2]:9")
            .payload(&payload)
            .frame();
        let mut tally = Tally::new(Some(RUN));
        tally.frame(&frame, Some(100), 5);
        let wanted = Counts {
            received: 4,
            bytes: 62 + 330,
            ..Counts::default()
        };
        assert_eq!(tally.counts(), wanted);
        // A hostile size: the rest has no stamp.
        tally.frame(&frame, Some(0), 5);
        assert_eq!(tally.counts().received, 4);
    }

    #[test]
    fn a_foreign_clock_is_not_a_latency() {
        let mut tally = Tally::new(Some(RUN));
        tally.frame(&frame(RUN, 0, 5000), None, 4000);
        tally.frame(&frame(RUN, 1, 0), None, BELIEVED + 1);
        assert_eq!((tally.counts().received, tally.counts().unclocked), (2, 2));
        assert_eq!(tally.latency(), None);
    }
}
