//! Whose which outer address is: disjoint ranges, kept sorted.
//!
//! Hash tables cannot say whether a network contains an address that is in use; this can, in two
//! binary searches. The underlay addresses of the node and all peers are in it; pod networks, which
//! may lie in one another, are in the routing tables. Not on the packet path. Blocks of at most 64
//! ranges are shared between snapshots.

use std::sync::Arc;

use crate::{Cidr, PeerId};

const BLOCK: usize = 64;

/// Whose range it is and why.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Owner {
    Node,
    Peer(PeerId),
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Claim {
    pub(crate) first: u128,
    pub(crate) last: u128,
    pub(crate) owner: Owner,
}

impl Claim {
    pub(crate) fn cidr(cidr: Cidr, owner: Owner) -> Claim {
        Claim {
            first: cidr.first(),
            last: cidr.last(),
            owner,
        }
    }

    pub(crate) fn address(addr: u128, owner: Owner) -> Claim {
        Claim {
            first: addr,
            last: addr,
            owner,
        }
    }

    /// Whether two ranges share an address.
    #[cfg(test)]
    fn overlaps(&self, other: &Claim) -> bool {
        self.is_v4() == other.is_v4() && self.first <= other.last && other.first <= self.last
    }

    /// IPv4 lies inside `::/0` as numbers go, but is a space of its own.
    fn is_v4(&self) -> bool {
        self.last >> 32 == 0xffff && self.first >> 32 == 0xffff
    }
}

#[derive(Clone, Default)]
pub(crate) struct Claims {
    v4: Ranges,
    v6: Ranges,
}

impl Claims {
    /// A range that shares an address with `claim`.
    pub(crate) fn overlapping(&self, claim: &Claim) -> Option<Claim> {
        if claim.is_v4() {
            self.v4.overlapping(claim)
        } else {
            self.v6.overlapping(claim)
        }
    }

    /// Whose an address is.
    pub(crate) fn owner(&self, addr: u128) -> Option<Owner> {
        self.overlapping(&Claim::address(addr, Owner::Node))
            .map(|claim| claim.owner)
    }

    /// Adds a range that overlaps none.
    pub(crate) fn insert(&mut self, claim: Claim) {
        if claim.is_v4() {
            self.v4.insert(claim)
        } else {
            self.v6.insert(claim)
        }
    }

    pub(crate) fn remove(&mut self, claim: &Claim) {
        if claim.is_v4() {
            self.v4.remove(claim)
        } else {
            self.v6.remove(claim)
        }
    }
}

/// Sorted, disjoint; no block is empty.
#[derive(Clone, Default)]
struct Ranges {
    blocks: Arc<Vec<Arc<Vec<Claim>>>>,
}

impl Ranges {
    fn overlapping(&self, claim: &Claim) -> Option<Claim> {
        // Ranges are disjoint: of those that begin before our end, only the last can reach us.
        let block = &self.blocks[self.block_of(claim.last)?];
        let at = block
            .partition_point(|c| c.first <= claim.last)
            .checked_sub(1)?;
        block.get(at).filter(|c| c.last >= claim.first).copied()
    }

    fn insert(&mut self, claim: Claim) {
        let blocks = Arc::make_mut(&mut self.blocks);
        if blocks.is_empty() {
            blocks.push(Arc::new(vec![claim]));
            return;
        }
        let at = block_before(blocks, claim.first).unwrap_or(0);
        let block = Arc::make_mut(&mut blocks[at]);
        let position = block.partition_point(|c| c.first < claim.first);
        block.insert(position, claim);
        if block.len() > BLOCK {
            let tail = block.split_off(BLOCK / 2);
            blocks.insert(at + 1, Arc::new(tail));
        }
    }

    fn remove(&mut self, claim: &Claim) {
        let Some(at) = self.block_of(claim.first) else {
            return;
        };
        let Ok(position) = self.blocks[at].binary_search_by_key(&claim.first, |c| c.first) else {
            return;
        };
        let blocks = Arc::make_mut(&mut self.blocks);
        let block = Arc::make_mut(&mut blocks[at]);
        block.remove(position);
        if block.is_empty() {
            blocks.remove(at);
        }
    }

    fn block_of(&self, addr: u128) -> Option<usize> {
        block_before(&self.blocks, addr)
    }
}

/// The last block that begins at or before `addr`.
fn block_before(blocks: &[Arc<Vec<Claim>>], addr: u128) -> Option<usize> {
    blocks
        .partition_point(|b| b.first().is_some_and(|c| c.first <= addr))
        .checked_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const OWNER: Owner = Owner::Peer(PeerId(1));

    fn claim() -> impl Strategy<Value = Claim> {
        let base = prop_oneof![Just(0u128), Just(0xffff_0000_0000), Just(0xfd77 << 112)];
        (base, 0..2_000u128, 0..6u8).prop_map(|(base, first, size)| {
            let first = base + first;
            Claim {
                first,
                last: first + (1 << size) - 1,
                owner: OWNER,
            }
        })
    }

    proptest! {
        #[test]
        fn like_a_scan(ops in proptest::collection::vec((claim(), any::<u8>()), 0..700)) {
            let mut claims = Claims::default();
            let mut model = BTreeMap::new();
            let mut older = Vec::new();
            for (claim, op) in ops {
                let touching: Vec<&Claim> =
                    model.values().filter(|c: &&Claim| c.overlaps(&claim)).collect();
                let found = claims.overlapping(&claim);
                prop_assert_eq!(found.is_some(), !touching.is_empty());
                prop_assert!(found.is_none_or(|found| touching.contains(&&found)));
                if touching.is_empty() {
                    claims.insert(claim);
                    model.insert(claim.first, claim);
                } else if op < 64 {
                    let gone = *touching[0];
                    claims.remove(&gone);
                    model.remove(&gone.first);
                } else if op < 66 {
                    older.push((claims.clone(), model.clone()));
                }
            }
            older.push((claims, model));
            for (claims, model) in older {
                for addr in (0..2_100).chain((0..2_100).map(|a| a + 0xffff_0000_0000)) {
                    let probe = Claim::address(addr, OWNER);
                    let expected = model.values().any(|c| c.overlaps(&probe));
                    prop_assert_eq!(claims.owner(addr).is_some(), expected);
                }
            }
        }
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        let mut claims = Claims::default();
        claims.remove(&Claim::address(5, OWNER));
        claims.insert(Claim::address(7, OWNER));
        claims.remove(&Claim::address(5, OWNER));
        claims.remove(&Claim::address(8, OWNER));
        assert_eq!(claims.owner(7), Some(OWNER));
        assert_eq!(claims.owner(8), None);
    }

    #[test]
    fn the_ipv6_default_route_is_not_ipv4s() {
        let mut claims = Claims::default();
        claims.insert(Claim::cidr(Cidr::default_route(true), OWNER));
        assert_eq!(claims.owner(0xffff_0a00_0001), None);
        assert_eq!(claims.owner(1), Some(OWNER));
    }
}
