//! Which address the next pod gets.
//!
//! A family's addresses are the ranges of the configuration, else the whole pod network, without the
//! excluded, the network's own, the gateway's and the broadcast address. Who has an address is not kept
//! here: that is the pods' business, and two books would disagree one day. Kept is the order of giving out.
//! The address that was released longest ago is used last but for those never used: a connection that
//! still leads to the old pod, or a policy elsewhere that has not heard yet, must not meet the new one.
//!
//! ```text
//! never used yet, upwards from the cursor  ─▶  released longest ago  …  released just now
//! ```
//!
//! Addresses that another IPAM plugin gives must lie in the node's pod networks, whose gateway answers for them.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;

use ringway_packet::addr::{from_ip, to_ip};
use ringway_tables::Cidr;
use serde::{Deserialize, Serialize};

use ringway_cluster::{gateway, has_gateway};

/// Released addresses of a family whose order is kept. Of more, the oldest are found again when the cursor
/// comes round.
const REMEMBERED: usize = 4096;

/// First and last of a row of addresses, IPv4 mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First.
    pub first: u128,
    /// Last.
    pub last: u128,
}

impl Range {
    /// Reads `address`, `first-last` or a network.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Range, String> {
        if text.contains('/') {
            let cidr: Cidr = text
                .parse()
                .map_err(|e: ringway_tables::CidrError| e.to_string())?;
            return Ok(Range {
                first: from_ip(cidr.network()),
                last: cidr.last(),
            });
        }
        let address = |part: &str| {
            let part = part.trim();
            part.parse::<IpAddr>()
                .map_err(|_| format!("{part:?} is not an IP address"))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (address(first)?, address(last)?),
            None => (address(text)?, address(text)?),
        };
        if first.is_ipv6() != last.is_ipv6() {
            return Err(format!("{first} and {last} are of different families"));
        }
        let (first, last) = (from_ip(first), from_ip(last));
        if first > last {
            return Err(format!("{} comes after {}", to_ip(first), to_ip(last)));
        }
        Ok(Range { first, last })
    }

    /// Whether the address is one of them.
    pub fn contains(&self, ip: u128) -> bool {
        (self.first..=self.last).contains(&ip)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", to_ip(self.first))?;
        if self.last != self.first {
            write!(f, "-{}", to_ip(self.last))?;
        }
        Ok(())
    }
}

/// The addresses of one family that pods may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// At least one.
    cidrs: Vec<Cidr>,
    /// Disjoint, in order.
    ranges: Vec<Range>,
    /// Disjoint, in order.
    excluded: Vec<Range>,
}

impl AddressPool {
    /// One for each family of the networks.
    pub fn of_families(cidrs: &[Cidr], ranges: &[Range], exclude: &[Range]) -> Vec<AddressPool> {
        let of_family = |v6: bool| -> Vec<Cidr> {
            cidrs
                .iter()
                .filter(|c| c.is_ipv6() == v6)
                .copied()
                .collect()
        };
        [false, true]
            .map(of_family)
            .into_iter()
            .filter(|cidrs| !cidrs.is_empty())
            .map(|cidrs| AddressPool::new(cidrs, ranges, exclude))
            .collect()
    }

    /// Of networks of one family, the ranges and exclusions that are inside them; without a range, all of
    /// them.
    fn new(cidrs: Vec<Cidr>, ranges: &[Range], exclude: &[Range]) -> AddressPool {
        let whole = |cidr: &Cidr| Range {
            first: cidr.first(),
            last: cidr.last(),
        };
        let inside = |r: &&Range| {
            cidrs
                .iter()
                .any(|c| c.contains(r.first) && c.contains(r.last))
        };
        let mut own: Vec<Range> = ranges.iter().filter(inside).copied().collect();
        if own.is_empty() {
            own = cidrs.iter().map(whole).collect();
        }
        let one = |ip| Range {
            first: ip,
            last: ip,
        };
        let mut excluded = exclude.to_vec();
        for cidr in cidrs.iter().filter(|cidr| has_gateway(**cidr)) {
            excluded.extend([one(cidr.first()), one(from_ip(gateway(*cidr)))]);
            if !cidr.is_ipv6() {
                excluded.push(one(cidr.last()));
            }
        }
        AddressPool {
            cidrs,
            ranges: disjoint(own),
            excluded: disjoint(excluded),
        }
    }

    /// Whether it holds the family.
    pub fn is_ipv6(&self) -> bool {
        self.cidrs.iter().any(|cidr| cidr.is_ipv6())
    }

    /// The networks, for messages.
    pub fn networks(&self) -> String {
        let all: Vec<String> = self.cidrs.iter().map(Cidr::to_string).collect();
        all.join(", ")
    }

    /// Addresses there are to give, up to `u64::MAX`.
    pub fn size(&self) -> u64 {
        let total = self.ranges.iter().fold(0u128, |sum, r| {
            sum.saturating_add((r.last - r.first).saturating_add(1))
        });
        let mut out = 0u128;
        for cut in &self.excluded {
            for range in &self.ranges {
                let (first, last) = (cut.first.max(range.first), cut.last.min(range.last));
                if first <= last {
                    out = out.saturating_add((last - first).saturating_add(1));
                }
            }
        }
        u64::try_from(total.saturating_sub(out)).unwrap_or(u64::MAX)
    }

    /// The first address at or after `from` that may be given, coming round once; `free` says of each
    /// whether somebody has it.
    fn next(&self, from: u128, mut free: impl FnMut(u128) -> bool) -> Option<u128> {
        let parts = |after: bool| {
            self.ranges.iter().filter_map(move |r| {
                if after {
                    let first = r.first.max(from);
                    (first <= r.last).then_some(Range {
                        first,
                        last: r.last,
                    })
                } else {
                    let last = r.last.min(from.checked_sub(1)?);
                    (r.first <= last).then_some(Range {
                        first: r.first,
                        last,
                    })
                }
            })
        };
        for part in parts(true).chain(parts(false)) {
            let mut ip = part.first;
            loop {
                // Over a whole exclusion at once: it may be half of an IPv6 network.
                if let Some(cut) = self.excluded.iter().find(|r| r.contains(ip)) {
                    ip = cut.last;
                } else if free(ip) {
                    return Some(ip);
                }
                if ip >= part.last {
                    break;
                }
                ip += 1;
            }
        }
        None
    }

    /// Whether the address may be given to a pod.
    pub fn gives(&self, ip: u128) -> bool {
        self.ranges.iter().any(|r| r.contains(ip)) && !self.excluded.iter().any(|r| r.contains(ip))
    }
}

/// The same addresses in ranges of which none touches another, in order.
fn disjoint(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|r| r.first);
    let mut all: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => all.push(range),
        }
    }
    all
}

/// The order of giving out, of one family. Survives the agent and the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Where to look for one never used.
    #[serde(default)]
    pub cursor: Option<IpAddr>,
    /// Released, the longest ago first.
    #[serde(default)]
    pub released: VecDeque<IpAddr>,
}

impl Order {
    /// The address for a new pod, not yet noted as given: see [`given`](Self::given). `taken` says whether
    /// somebody has one.
    pub fn next(&self, pool: &AddressPool, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let cursor = self.cursor.map_or(0, from_ip);
        pool.next(cursor, |ip| {
            let ip = to_ip(ip);
            !taken(ip) && !self.released.contains(&ip)
        })
        .map(to_ip)
        .or_else(|| {
            let fits = |ip: &&IpAddr| pool.gives(from_ip(**ip)) && !taken(**ip);
            self.released.iter().find(fits).copied()
        })
    }

    /// A pod has it now, by [`next`](Self::next) or because it asked for it.
    pub fn given(&mut self, ip: IpAddr, by_next: bool) {
        let before = self.released.len();
        self.released.retain(|r| *r != ip);
        if by_next && before == self.released.len() {
            self.cursor = Some(to_ip(from_ip(ip).saturating_add(1)));
        }
    }

    /// No pod has it any more.
    pub fn released(&mut self, ip: IpAddr) {
        self.released.retain(|r| *r != ip);
        self.released.push_back(ip);
        if self.released.len() > REMEMBERED {
            self.released.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn pool(cidr: &str, ranges: &[&str], exclude: &[&str]) -> AddressPool {
        let parse = |all: &[&str]| -> Vec<Range> {
            all.iter().map(|text| Range::parse(text).unwrap()).collect()
        };
        let cidrs: Vec<Cidr> = cidr.split(' ').map(|c| c.parse().unwrap()).collect();
        let pools = AddressPool::of_families(&cidrs, &parse(ranges), &parse(exclude));
        let [pool] = <[AddressPool; 1]>::try_from(pools).unwrap();
        pool
    }

    #[derive(Default)]
    struct Node {
        order: Order,
        taken: BTreeSet<IpAddr>,
    }

    impl Node {
        fn give(&mut self, pool: &AddressPool) -> Option<String> {
            let ip = self.order.next(pool, |ip| self.taken.contains(&ip))?;
            self.order.given(ip, true);
            assert!(self.taken.insert(ip), "{ip} was given twice");
            Some(ip.to_string())
        }

        fn release(&mut self, ip: &str) {
            let ip = ip.parse().unwrap();
            assert!(self.taken.remove(&ip));
            self.order.released(ip);
        }
    }

    #[test]
    fn every_address_is_given_once_and_never_the_gateways() {
        let pool = pool("10.77.1.0/29", &[], &["10.77.1.4"]);
        let mut node = Node::default();
        let given: Vec<_> = std::iter::from_fn(|| node.give(&pool)).collect();
        assert_eq!(given, ["10.77.1.2", "10.77.1.3", "10.77.1.5", "10.77.1.6"]);
        assert_eq!(pool.size(), 4);
    }

    #[test]
    fn exclusions_that_overlap_are_counted_once() {
        // The network's own address and the gateway's are excluded anyway.
        let pool = pool("10.77.1.0/30", &[], &["10.77.1.0-10.77.1.1"]);
        assert_eq!(pool.size(), 1);
        assert_eq!(Node::default().give(&pool).unwrap(), "10.77.1.2");
        let all = self::pool("10.77.1.0/24", &["10.77.1.0/25", "10.77.1.64/26"], &[]);
        assert_eq!(all.size(), 126);
        let cut = [
            "10.77.1.10-10.77.1.20",
            "10.77.1.15-10.77.1.30",
            "10.77.1.12",
        ];
        let cut = self::pool("10.77.1.0/24", &[], &cut);
        assert_eq!(cut.size(), 253 - 21);
        let none = self::pool("10.77.1.0/30", &[], &["10.77.1.0/31", "10.77.1.2"]);
        assert_eq!((none.size(), Node::default().give(&none)), (0, None));
    }

    #[test]
    fn several_networks_are_one_pool() {
        let pool = pool("10.77.1.0/30 10.78.1.0/30 10.79.1.9/32", &[], &[]);
        let mut node = Node::default();
        let given: Vec<_> = std::iter::from_fn(|| node.give(&pool)).collect();
        assert_eq!(given, ["10.77.1.2", "10.78.1.2", "10.79.1.9"]);
        assert_eq!(pool.size(), 3);
    }

    #[test]
    fn what_was_released_last_is_used_last() {
        let pool = pool("10.77.1.0/29", &[], &[]);
        let mut node = Node::default();
        for _ in 0..3 {
            node.give(&pool);
        }
        node.release("10.77.1.3");
        node.release("10.77.1.2");
        let given: Vec<_> = std::iter::from_fn(|| node.give(&pool)).collect();
        assert_eq!(given, ["10.77.1.5", "10.77.1.6", "10.77.1.3", "10.77.1.2"]);
    }

    #[test]
    fn one_asked_for_is_not_given_to_another_and_keeps_the_cursor() {
        let pool = pool("10.77.1.0/24", &[], &[]);
        let mut node = Node::default();
        let asked: IpAddr = "10.77.1.200".parse().unwrap();
        node.taken.insert(asked);
        node.order.given(asked, false);
        assert_eq!(node.give(&pool).unwrap(), "10.77.1.2");
        node.order.cursor = Some(asked);
        assert_eq!(node.give(&pool).unwrap(), "10.77.1.201");
    }

    #[test]
    fn several_ranges_come_round() {
        let pool = pool(
            "10.77.1.0/24",
            &["10.77.1.100-10.77.1.101", "10.77.1.10-10.77.1.11"],
            &[],
        );
        let mut node = Node::default();
        node.order.cursor = Some("10.77.1.11".parse().unwrap());
        let given: Vec<_> = std::iter::from_fn(|| node.give(&pool)).collect();
        let expected = ["10.77.1.11", "10.77.1.100", "10.77.1.101", "10.77.1.10"];
        assert_eq!(given, expected);
        assert!(!pool.gives(from_ip("10.77.1.50".parse().unwrap())));
    }

    #[test]
    fn large_exclusions_of_ipv6_are_passed_at_once() {
        let pool = pool("fd77:1::/64", &[], &["fd77:1::/65"]);
        let mut node = Node::default();
        assert_eq!(node.give(&pool).unwrap(), "fd77:1:0:0:8000::");
        assert_eq!(node.give(&pool).unwrap(), "fd77:1::8000:0:0:1");
        let whole = self::pool("fd77:1::/64", &[], &[]);
        assert_eq!(whole.size(), u64::MAX - 1);
        assert_eq!(Node::default().give(&whole).unwrap(), "fd77:1::2");
    }

    #[test]
    fn the_list_of_released_is_bounded_and_nothing_is_lost() {
        let pool = pool("10.64.0.0/16", &[], &[]);
        let mut node = Node::default();
        let mut given = BTreeSet::new();
        for _ in 0..70_000 {
            let ip = node.give(&pool).unwrap();
            node.release(&ip);
            given.insert(ip);
        }
        assert_eq!(given.len() as u64, pool.size());
        assert_eq!(node.order.released.len(), REMEMBERED);
    }

    #[test]
    fn ranges_say_what_is_wrong_with_them() {
        for (text, why) in [
            ("10.77.1.x", "not an IP"),
            ("10.77.1.9-10.77.1.2", "comes after"),
            ("10.77.1.9-fd77::1", "different families"),
            ("10.77.1.0/33", "at most"),
        ] {
            let error = Range::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
