//! Replicas as processes, a client, and a stand-in for the operator.

mod client;
mod damage;
mod disk;
mod fault;
mod http;
mod process;
mod store;

pub(crate) use client::{Answer, Client, ask};
pub(crate) use damage::{files, flip, largest_table};
pub(crate) use disk::{SmallDisk, link_to};
pub(crate) use fault::{Action, Fault, FaultyDisk, Wrong};
pub(crate) use http::request;
pub(crate) use process::Replica;
pub(crate) use store::TestStore;

use std::time::{Duration, Instant};

use replicated_store::api::duration;

/// Nothing in these tests takes longer on a machine that is not broken.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until `look` gives something; panics with `what` if it never does.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "timed out waiting for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A seed for random choices: `TEST_SEED` or a new one; printed, so that a failure can be repeated.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random::<u64>);
    println!("{test}: TEST_SEED={seed}");
    seed
}

/// How long a test that can be long is to take: what the variable says (`90s`, `1h`), or `short`.
pub(crate) fn how_long(variable: &str, short: Duration) -> Duration {
    std::env::var(variable).map_or(short, |text| {
        duration::parse(&text).unwrap_or_else(|error| panic!("{variable}: {error}"))
    })
}
