//! What is known to be wrong until a later issue cures it, asserted as it should be.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs assertions that fail today: prints an XFAIL line while `body` panics, and fails the test when it no
/// longer does, so that the mark goes with the fault. `reason` names the fault and who is to cure it.
#[track_caller]
pub(crate) fn expected_to_fail(reason: &str, body: impl FnOnce()) {
    match catch_unwind(AssertUnwindSafe(body)) {
        Err(panic) => println!("XFAIL {reason}: {}", first_line(panic.as_ref())),
        Ok(()) => panic!("{reason}: this is right now; take the expected_to_fail around it away"),
    }
}

/// What a panic said.
fn first_line(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("")
}

#[test]
fn a_body_that_fails_passes_and_one_that_succeeds_fails() {
    expected_to_fail("one is not two", || assert_eq!(1, 2));
    let unexpected = catch_unwind(|| expected_to_fail("one is one", || assert_eq!(1, 1)));
    let said = unexpected.unwrap_err();
    assert!(first_line(said.as_ref()).starts_with("one is one: this is right now"));
}
