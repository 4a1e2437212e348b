//! The mechanism, on things that are made up: numbers in a table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::testing::in_netns;

/// A table anybody can write to, and a record of what was done.
#[derive(Debug, Default)]
struct Numbers {
    there: BTreeMap<u8, Actual<u32>>,
    done: Vec<String>,
    /// Keys that cannot be set.
    refused: BTreeSet<u8>,
}

impl Numbers {
    fn somebody_sets(&mut self, key: u8, value: u32) {
        let protocol = Some(12);
        self.there.insert(key, Actual { value, protocol });
    }
}

impl Kind for Numbers {
    const NAME: &'static str = "numbers";
    type Key = u8;
    type Value = u32;

    fn thing(&self, key: &u8) -> String {
        format!("number {key}")
    }

    fn list(
        &mut self,
        _: &mut Kernel<'_>,
        wanted: &Wanted<u8, u32>,
        _: bool,
        each: &mut dyn FnMut(u8, Actual<u32>),
    ) -> Result<(), Refused> {
        for (key, actual) in &self.there {
            if actual.protocol == Some(OWNER) || wanted.get(key).is_some() {
                each(*key, actual.clone());
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        _: &mut Kernel<'_>,
        key: &u8,
        value: &u32,
        actual: Option<&u32>,
    ) -> Result<(), Refused> {
        if self.refused.contains(key) {
            let name = format!("number {key}");
            return Err(NetlinkError::NoLink { name }.into());
        }
        self.done.push(match actual {
            Some(old) => format!("{key}: {old} replaced by {value}"),
            None => format!("{key}: {value}"),
        });
        let protocol = Some(OWNER);
        let value = *value;
        self.there.insert(*key, Actual { value, protocol });
        Ok(())
    }

    fn remove(&mut self, _: &mut Kernel<'_>, key: &u8, _: &u32) -> Result<(), Refused> {
        self.done.push(format!("{key} removed"));
        self.there.remove(key);
        Ok(())
    }
}

struct Table {
    netlink: Netlink,
    before: Before,
    ledger: Ledger,
    numbers: Reconciled<Numbers>,
    now: Instant,
    /// Something else was not as it should be.
    along: bool,
}

impl Table {
    fn new() -> Self {
        Self {
            netlink: Netlink::open().unwrap(),
            before: Before::default(),
            ledger: Ledger::default(),
            numbers: Reconciled::new(Numbers::default()),
            now: Instant::now(),
            along: false,
        }
    }

    /// A second later; what was done.
    fn look(&mut self) -> Vec<String> {
        self.now += Duration::from_secs(1);
        let look = Look {
            sweep: false,
            along: self.along,
            now: self.now,
        };
        let mut kernel = Kernel {
            netlink: &mut self.netlink,
            index: 1,
            before: &mut self.before,
        };
        self.numbers.look(&mut kernel, &mut self.ledger, look);
        std::mem::take(&mut self.numbers.kind().done)
    }

    fn apply(&mut self) -> Vec<String> {
        let mut kernel = Kernel {
            netlink: &mut self.netlink,
            index: 1,
            before: &mut self.before,
        };
        self.numbers.apply(&mut kernel, &mut self.ledger, self.now);
        std::mem::take(&mut self.numbers.kind().done)
    }
}

#[test]
fn what_is_wanted_is_set_before_anything_is_removed_and_others_things_stay() {
    in_netns(|| {
        let mut table = Table::new();
        table.numbers.kind().somebody_sets(9, 90);
        assert!(table.numbers.want([(2, 20), (1, 10)]));
        assert_eq!(table.look(), ["1: 10", "2: 20"]);
        assert!(!table.numbers.want([(1, 10), (2, 20)]));
        assert_eq!(table.look(), [""; 0]);
        table.numbers.want([(1, 11), (3, 30)]);
        assert_eq!(table.look(), ["1: 10 replaced by 11", "3: 30", "2 removed"]);
        // The same without a look at the rest.
        table.numbers.want([(3, 30), (4, 40)]);
        assert_eq!(table.apply(), ["4: 40", "1 removed"]);
        assert_eq!(table.look(), [""; 0]);
        assert_eq!(table.ledger.restored_count(), 0);
        let there: Vec<u8> = table.numbers.kind().there.keys().copied().collect();
        assert_eq!(there, [3, 4, 9]);
    });
}

#[test]
fn what_somebody_changes_is_counted_and_what_is_ours_and_too_much_goes() {
    in_netns(|| {
        let mut table = Table::new();
        table.numbers.want([(1, 10), (2, 20)]);
        table.look();
        table.numbers.kind().there.remove(&1);
        table.numbers.kind().somebody_sets(2, 21);
        let (value, protocol) = (70, Some(OWNER));
        let theirs = table.numbers.kind();
        theirs.there.insert(7, Actual { value, protocol });
        assert_eq!(table.look(), ["1: 10", "2: 21 replaced by 20", "7 removed"]);
        assert_eq!(table.ledger.restored_count(), 2);
        assert_eq!(
            table.ledger.last_restored(),
            Some("number 2 is 20 again, was 21")
        );
    });
}

#[test]
fn a_pause_holds_for_what_others_change_and_not_for_what_is_wanted_anew() {
    in_netns(|| {
        let mut table = Table::new();
        table.numbers.want([(1, 10)]);
        table.look();
        table
            .ledger
            .pause(Duration::from_secs(10), table.now)
            .unwrap();
        table.numbers.kind().somebody_sets(1, 11);
        table.numbers.want([(1, 10), (2, 20)]);
        assert_eq!(table.look(), ["2: 20"]);
        assert_eq!(table.ledger.conditions(table.now).len(), 1);
        table.now += Duration::from_secs(10);
        assert_eq!(table.look(), ["1: 11 replaced by 10"]);
        assert_eq!(table.ledger.conditions(table.now), []);
    });
}

#[test]
fn one_that_cannot_be_set_keeps_no_other_and_is_tried_again() {
    in_netns(|| {
        let mut table = Table::new();
        table.numbers.kind().refused.insert(1);
        table.numbers.want([(1, 10), (2, 20)]);
        assert_eq!(table.look(), ["2: 20"]);
        let conditions = table.ledger.conditions(table.now);
        assert_eq!((conditions.len(), &*conditions[0].what), (1, "number 1"));
        assert!(conditions[0].why.contains("no interface"), "{conditions:?}");
        table.numbers.kind().refused.clear();
        assert_eq!(table.look(), ["1: 10"]);
        table.look();
        assert_eq!(table.ledger.conditions(table.now), []);
    });
}

#[test]
fn in_a_fight_both_values_and_the_others_number_are_named() {
    in_netns(|| {
        let mut table = Table::new();
        table.numbers.want([(1, 10)]);
        table.look();
        let mut restored = 0;
        for _ in 0..100 {
            table.numbers.kind().somebody_sets(1, 11);
            restored += table.look().len();
        }
        assert_eq!(restored, 6 + 3);
        let conditions = table.ledger.conditions(table.now);
        let [one] = conditions.as_slice() else {
            panic!("{conditions:?}");
        };
        assert_eq!(
            (&*one.what, &*one.wanted, &*one.found),
            ("number 1", "10", "11")
        );
        assert!(one.why.contains("protocol number 12 (bird)"), "{}", one.why);
        // Restored once more, and then a minute without a change.
        for _ in 0..95 {
            table.look();
        }
        assert_eq!(table.ledger.conditions(table.now), []);
        table.numbers.kind().somebody_sets(1, 11);
        assert_eq!(table.look().len(), 1);
    });
}

#[test]
fn what_went_along_with_something_else_is_set_and_counted_but_no_fight() {
    in_netns(|| {
        let mut table = Table::new();
        table.numbers.want([(1, 10)]);
        table.look();
        table.along = true;
        for _ in 0..100 {
            table.numbers.kind().there.remove(&1);
            assert_eq!(table.look().len(), 1);
        }
        assert_eq!(table.ledger.restored_count(), 100);
        assert_eq!(table.ledger.conditions(table.now), []);
    });
}
