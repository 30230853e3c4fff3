use std::time::{Duration, Instant};

/// How long anything may take that should be quick: generous, since machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; fails the test, naming `what`, when it does not come true.
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

pub fn within(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        pause();
    }
}

/// Between two looks at a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
