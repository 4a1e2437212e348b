//! Which subnet is this node's. Pure. In this order:
//!
//! 1. the one it has, also after its outer address has changed, and also when its record has expired;
//! 2. the one whose record names its outer address: its own of before, flanneld's on this machine, or a reservation;
//! 3. the one that flanneld had here;
//! 4. one of the first free ones, at random.

use std::net::Ipv4Addr;

use ringway_tables::Cidr;

use super::Own;
use crate::layout::{Attributes, Pools, Subnets, free};
use crate::members::{Record, Records};

/// What there is to choose by.
pub(super) struct Wish<'a> {
    pub(super) own: Option<&'a Own>,
    pub(super) address: Ipv4Addr,
    pub(super) pools: &'a Pools,
    pub(super) previous: Option<Subnets>,
    pub(super) random: u64,
}

/// Which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// There is a record.
    Held(String),
    /// There is none yet.
    Free(Subnets),
}

/// Nothing is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no free /{} is left for this node: all {} from {} to {} are leased or reserved. Widen SubnetMin to SubnetMax in \
     the net-conf, or delete keys of nodes that are gone", .pool.len, .pool.count(), .pool.bounds().0, .pool.bounds().1
)]
pub(super) struct Exhausted {
    pool: crate::layout::Pool,
}

pub(super) fn choose(records: &Records, wish: &Wish<'_>) -> Result<Choice, Exhausted> {
    let held = |key: &str| Ok(Choice::Held(key.to_owned()));
    let taken: Vec<Cidr> = records
        .keys()
        .filter_map(|key| key.parse::<Subnets>().ok())
        .flat_map(|subnets| subnets.all())
        .collect();
    let is_free = |subnets: &Subnets| {
        !subnets
            .all()
            .iter()
            .any(|c| taken.iter().any(|t| t.overlaps(*c)))
    };
    let in_pools = |subnets: &Subnets| wish.pools.have(subnets);

    if let Some(own) = wish.own {
        match records.get(&own.key) {
            Some(record) if is_ours(own, record, wish.address) => return held(&own.key),
            Some(_) => {}
            None => {
                if let Some(subnets) = own.subnets().filter(in_pools).filter(is_free) {
                    return Ok(Choice::Free(subnets));
                }
            }
        }
    }
    let names_us = |(_, record): &(&String, &Record)| public_ip(record) == Some(wish.address);
    let mut ours = records.iter().filter(names_us);
    if let Some((key, _)) = ours.find(|(key, _)| key.parse().is_ok_and(|s| in_pools(&s))) {
        return held(key);
    }
    if let Some(subnets) = wish.previous.filter(in_pools).filter(is_free) {
        return Ok(Choice::Free(subnets));
    }
    let pick = |pool| {
        let all = free(pool, &taken);
        let nth = wish.random.checked_rem(all.len() as u64);
        nth.map(|nth| all[nth as usize])
            .ok_or(Exhausted { pool: *pool })
    };
    Ok(Choice::Free(Subnets {
        v4: pick(&wish.pools.v4)?,
        v6: wish.pools.v6.as_ref().map(pick).transpose()?,
    }))
}

fn is_ours(own: &Own, record: &Record, address: Ipv4Addr) -> bool {
    // A lease belongs to one node for ever.
    let same_lease = own.lease != 0 && own.lease == record.lease;
    let names = public_ip(record);
    same_lease || names == Some(own.address) || names == Some(address)
}

fn public_ip(record: &Record) -> Option<Ipv4Addr> {
    Attributes::parse(&record.value).ok()?.public_ip
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_cluster::flannel::NetConf;
    use ringway_packet::mac::MacAddr;

    fn pools() -> Pools {
        let text = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.3.0"}"#;
        Pools::of(&NetConf::parse(text).unwrap()).unwrap()
    }

    fn records(all: &[(&str, &str, i64)]) -> Records {
        let record = |(key, ip, lease): &(&str, &str, i64)| {
            let record = Record {
                value: format!("{{\"PublicIP\":\"{ip}\"}}"),
                created: 1,
                modified: 1,
                lease: *lease,
            };
            ((*key).to_owned(), record)
        };
        all.iter().map(record).collect()
    }

    fn own(key: &str, lease: i64, ip: &str) -> Own {
        let (key, address) = (key.to_owned(), ip.parse().unwrap());
        let vteps = [MacAddr::ZERO; 2];
        Own {
            key,
            lease,
            address,
            vteps,
        }
    }

    /// What this node, at 10.77.0.1, takes.
    fn of(all: &[(&str, &str, i64)], own: Option<&Own>, previous: Option<&str>) -> String {
        let wish = Wish {
            own,
            address: "10.77.0.1".parse().unwrap(),
            pools: &pools(),
            previous: previous.map(|text| text.parse().unwrap()),
            random: 1,
        };
        match choose(&records(all), &wish) {
            Ok(Choice::Held(key)) => format!("has {key}"),
            Ok(Choice::Free(subnets)) => format!("makes {subnets}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn a_new_node_takes_a_free_one_and_no_reserved_one() {
        assert_eq!(of(&[], None, None), "makes 10.5.2.0-24");
        let one_left = [
            ("10.5.1.0-24", "10.77.0.9", 7),
            ("10.5.2.0-24", "10.77.0.8", 0),
        ];
        assert_eq!(of(&one_left, None, None), "makes 10.5.3.0-24");
    }

    #[test]
    fn when_nothing_is_left_that_is_said_with_the_range_and_the_remedy() {
        let all = [
            ("10.5.1.0-24", "10.77.0.9", 7),
            ("10.5.2.0-23", "10.77.0.8", 0),
        ];
        let said = of(&all, None, None);
        assert!(
            said.starts_with("no free /24 is left for this node: all 3 from 10.5.1.0 to 10.5.3.0"),
            "{said}"
        );
    }

    #[test]
    fn a_record_that_names_our_address_is_ours_if_the_net_conf_still_has_it() {
        let all = [
            ("10.5.1.0-24", "10.77.0.9", 7),
            ("10.5.3.0-24", "10.77.0.1", 0),
        ];
        assert_eq!(of(&all, None, Some("10.5.2.0-24")), "has 10.5.3.0-24");
        let outgrown = [("10.5.3.0-25", "10.77.0.1", 7)];
        assert_eq!(of(&outgrown, None, None), "makes 10.5.2.0-24");
    }

    #[test]
    fn the_subnet_of_before_is_taken_again_if_it_is_free_and_still_there() {
        assert_eq!(of(&[], None, Some("10.5.3.0-24")), "makes 10.5.3.0-24");
        assert_eq!(of(&[], None, Some("10.9.3.0-24")), "makes 10.5.2.0-24");
        let anothers = [("10.5.3.0-24", "10.77.0.9", 7)];
        assert_eq!(
            of(&anothers, None, Some("10.5.3.0-24")),
            "makes 10.5.2.0-24"
        );
    }

    #[test]
    fn a_node_keeps_what_it_has_through_another_address_and_an_expired_lease() {
        let own = own("10.5.3.0-24", 7, "10.77.0.4");
        assert_eq!(
            of(&[("10.5.3.0-24", "10.77.0.4", 9)], Some(&own), None),
            "has 10.5.3.0-24"
        );
        assert_eq!(
            of(&[("10.5.3.0-24", "10.77.0.5", 7)], Some(&own), None),
            "has 10.5.3.0-24"
        );
        assert_eq!(of(&[], Some(&own), None), "makes 10.5.3.0-24");
        // Somebody else has got it since.
        assert_eq!(
            of(&[("10.5.3.0-24", "10.77.0.9", 9)], Some(&own), None),
            "makes 10.5.2.0-24"
        );
    }
}
