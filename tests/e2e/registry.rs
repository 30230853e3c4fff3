//! Instances that register themselves, and the balancers that find them.

mod api;
mod example;
mod scale;
mod secured;
mod self_registration;
mod stores;

use std::time::Instant;

use super::harness::until;

/// Waits for something, and says how long it took.
fn until_timed(what: &str, condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    until(what, condition);
    eprintln!("{what}: {:?}", begun.elapsed());
}
