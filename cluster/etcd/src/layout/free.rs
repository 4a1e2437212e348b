//! Which subnets nobody has.

use ringway_packet::addr::to_ip;
use ringway_tables::Cidr;

use super::Pool;

/// Of so many a node picks one at random, so that nodes that come at once seldom pick the same (Flannel's number).
pub const MOST: usize = 100;

/// The first [`MOST`] subnets of the pool that share no address with what is taken.
pub fn free(pool: &Pool, taken: &[Cidr]) -> Vec<Cidr> {
    let same = taken
        .iter()
        .filter(|c| c.is_ipv6() == pool.network.is_ipv6());
    let mut spans: Vec<(u128, u128)> = same.map(|c| (c.first(), c.last())).collect();
    spans.sort_unstable();
    let mut spans = spans.into_iter().peekable();
    let size = pool.size();
    let mut found = Vec::new();
    let mut next = Some(pool.min);
    while let Some(first) = next.filter(|first| *first <= pool.max && found.len() < MOST) {
        while spans.next_if(|(_, last)| *last < first).is_some() {}
        next = match spans.peek() {
            // Behind what is taken, where the next subnet begins.
            Some((begin, end)) if *begin <= first + (size - 1) => (end / size)
                .checked_add(1)
                .and_then(|n| n.checked_mul(size)),
            _ => {
                found.extend(Cidr::containing(to_ip(first), pool.len).ok());
                first.checked_add(size)
            }
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Pools;
    use super::*;
    use proptest::prelude::*;
    use ringway_cluster::flannel::NetConf;

    fn pool(text: &str) -> Pool {
        Pools::of(&NetConf::parse(text).unwrap()).unwrap().v4
    }

    fn cidrs(all: &[&str]) -> Vec<Cidr> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_overlaps_is_passed_over_whatever_its_length() {
        let pool =
            pool(r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.8.0"}"#);
        let taken = cidrs(&["10.5.1.0/24", "10.5.2.128/25", "10.5.4.0/22", "fc00::/64"]);
        assert_eq!(free(&pool, &taken), cidrs(&["10.5.3.0/24", "10.5.8.0/24"]));
        assert_eq!(free(&pool, &cidrs(&["10.0.0.0/8"])), []);
        assert_eq!(free(&pool, &cidrs(&["0.0.0.0/0"])), []);
        assert_eq!(free(&pool, &[]).len(), 8);
    }

    #[test]
    fn no_more_than_a_hundred_and_the_first_ones() {
        let pool = pool(r#"{"Network":"10.0.0.0/8","SubnetLen":30}"#);
        let found = free(&pool, &[]);
        assert_eq!(found.len(), MOST);
        assert_eq!(found[..2], cidrs(&["10.0.0.4/30", "10.0.0.8/30"]));
    }

    #[test]
    fn the_end_of_the_address_space_is_an_end() {
        let text = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"ff00::/8","IPv6SubnetLen":10}"#;
        let v6 = Pools::of(&NetConf::parse(text).unwrap())
            .unwrap()
            .v6
            .unwrap();
        assert_eq!(free(&v6, &[]).len(), 3);
        assert_eq!(free(&v6, &cidrs(&["ffc0::/10"])).len(), 2);
    }

    proptest! {
        #[test]
        fn as_flannel_which_looks_at_every_pair(
            taken in prop::collection::vec((0u8..16, 0u8..=255, 20u8..=30), 0..12)
        ) {
            let pool = pool(r#"{"Network":"10.5.0.0/20","SubnetLen":26}"#);
            let cidr = |(third, fourth, len)| Cidr::containing([10, 5, third, fourth].into(), len).ok();
            let taken: Vec<Cidr> = taken.into_iter().filter_map(cidr).collect();
            let all = (1..64u32).map(|n| Cidr::new(std::net::Ipv4Addr::from_bits(0x0a05_0000 + n * 64).into(), 26).unwrap());
            let wanted: Vec<Cidr> = all.filter(|c| !taken.iter().any(|t| t.overlaps(*c))).collect();
            prop_assert_eq!(free(&pool, &taken), wanted);
        }
    }
}
