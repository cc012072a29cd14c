//! Waiting for a condition of another process, with a limit.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long to sleep between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Calls `probe` until it gives a value. `None` after `limit`.
pub fn wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(STEP);
    }
}

/// Waits until `probe` is true.
///
/// # Panics
/// After `limit`, naming `what`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut probe: impl FnMut() -> bool) {
    if wait_for(limit, || probe().then_some(())).is_none() {
        panic!("not within {limit:?}: {what}");
    }
}

/// Waits until `probe` gives `want`.
///
/// # Panics
/// After `limit`, with the last value.
#[track_caller]
pub fn wait_equal<T: PartialEq + Debug>(
    limit: Duration,
    what: &str,
    want: &T,
    mut probe: impl FnMut() -> T,
) {
    let mut last = None;
    let reached = wait_for(limit, || {
        let value = probe();
        let equal = value == *want;
        last = Some(value);
        equal.then_some(())
    });
    if reached.is_none() {
        panic!("not within {limit:?}: {what} is {last:?}, not {want:?}");
    }
}

/// Waits until `probe` has given the same value for `quiet`, and returns it. After `limit` the
/// last value, quiet or not: what follows compares it anyway.
pub fn settle<T: PartialEq>(limit: Duration, quiet: Duration, mut probe: impl FnMut() -> T) -> T {
    let end = Instant::now() + limit;
    let mut last = probe();
    let mut since = Instant::now();
    while since.elapsed() < quiet && Instant::now() < end {
        std::thread::sleep(quiet.min(Duration::from_millis(100)));
        let value = probe();
        if value != last {
            last = value;
            since = Instant::now();
        }
    }
    last
}
