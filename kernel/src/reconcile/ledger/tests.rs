use super::*;

fn route(found: &str, by: Option<u8>) -> Difference {
    Difference {
        kind: "routes",
        thing: "route 10.77.2.0/24".into(),
        wanted: "via 169.254.82.87".into(),
        found: found.into(),
        by,
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn differing() -> BTreeSet<String> {
    BTreeSet::from(["route 10.77.2.0/24".to_owned()])
}

/// Changes that come back `every` seconds over `until` seconds; how often they were set again.
fn contest(ledger: &mut Ledger, begin: Instant, every: u64, until: u64) -> usize {
    let mut restored = 0;
    for at in (0..until).map(|n| begin + seconds(n)) {
        let difference = route("via 192.0.2.1", Some(12));
        let changed = (at - begin).as_secs().is_multiple_of(every);
        let differs = changed || ledger.entries.values().any(|e| e.restored.is_empty());
        if differs && ledger.permits(&difference, at) {
            ledger.restored(difference, at);
            restored += 1;
        }
    }
    restored
}

#[test]
fn five_times_a_minute_is_no_fight() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    assert_eq!(contest(&mut ledger, now, 12, 300), 25);
    assert_eq!(ledger.conditions(now + seconds(300)), []);
    assert_eq!(ledger.restored_count(), 25);
}

#[test]
fn a_fight_is_fought_once_in_thirty_seconds_and_names_the_other() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    // Six at once, then one at 30 s, 60 s, …: at 5, 35, 65 and 95 s.
    assert_eq!(contest(&mut ledger, now, 1, 100), 6 + 3);
    let conditions = ledger.conditions(now + seconds(100));
    let [one] = conditions.as_slice() else {
        panic!("{conditions:?}");
    };
    assert_eq!(one.what, "route 10.77.2.0/24");
    assert_eq!(
        (&*one.wanted, &*one.found),
        ("via 169.254.82.87", "via 192.0.2.1")
    );
    assert!(one.why.contains("12 (bird)"), "{}", one.why);
    assert_eq!(one.since, now + seconds(5));
    // Right again for a while, but not long enough.
    ledger.looked("routes", &BTreeSet::new(), now + seconds(150));
    assert_eq!(ledger.conditions(now + seconds(150)).len(), 1);
    // Another kind's look says nothing of it.
    ledger.looked("neighbours", &BTreeSet::new(), now + seconds(400));
    assert_eq!(ledger.conditions(now + seconds(400)).len(), 1);
    ledger.looked("routes", &BTreeSet::new(), now + seconds(160));
    assert_eq!(ledger.conditions(now + seconds(160)), []);
    // And is at once set again.
    assert!(ledger.permits(&route("nothing", None), now + seconds(161)));
}

#[test]
fn a_failure_is_a_condition_until_it_is_right() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.failed(&route("nothing", None), "no".into(), false, now);
    assert_eq!(ledger.conditions(now), [], "a moment's");
    ledger.failed(
        &route("nothing", None),
        "never".into(),
        false,
        now + seconds(1),
    );
    ledger.looked("routes", &differing(), now + seconds(1));
    let conditions = ledger.conditions(now + seconds(1));
    assert_eq!(
        (conditions[0].why.as_str(), conditions[0].since),
        ("never", now)
    );
    ledger.looked("routes", &BTreeSet::new(), now + seconds(2));
    assert_eq!(ledger.conditions(now + seconds(2)), []);
}

#[test]
fn a_pause_leaves_things_as_they_are_and_ends_by_itself() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let day = seconds(24 * 3600);
    let refused = ledger.pause(day + seconds(1), now).unwrap_err();
    assert!(refused.to_string().contains("86401 s"), "{refused}");
    ledger.pause(seconds(600), now).unwrap();
    assert_eq!(ledger.paused(now + seconds(1)), Some(seconds(599)));
    assert!(!ledger.permits(&route("nothing", None), now + seconds(1)));
    let conditions = ledger.conditions(now + seconds(1));
    assert!(conditions[0].why.contains("599 s"), "{conditions:?}");
    assert_eq!(ledger.paused(now + seconds(600)), None);
    assert!(ledger.permits(&route("nothing", None), now + seconds(600)));
    assert_eq!(ledger.conditions(now + seconds(600)), []);
    ledger.pause(day, now).unwrap();
    assert!(ledger.resume() && !ledger.resume());
    assert!(ledger.permits(&route("nothing", None), now));
}

#[test]
fn memory_is_bounded() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    for n in 0..2 * THINGS {
        let difference = Difference {
            thing: format!("route {n}"),
            ..route("nothing", None)
        };
        assert!(ledger.permits(&difference, now));
        ledger.failed(&difference, "no".into(), true, now);
    }
    assert_eq!(ledger.entries.len(), THINGS);
    let conditions = ledger.conditions(now);
    assert_eq!(conditions.len(), LISTED + 1);
    assert_eq!(
        conditions[LISTED].what,
        format!("{} more of routes", THINGS - LISTED)
    );
}
