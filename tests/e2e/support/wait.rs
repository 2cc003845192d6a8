//! Waiting for conditions with deadlines: the only place of the tests that sleeps.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(150);

/// Shorthand.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Looks again and again until `probe` gives a value, which is returned. Fails with the reason that
/// the last look gave if that takes longer than `within`.
pub(crate) async fn eventually<T>(
    within: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    let mut reason = "nothing yet".to_owned();
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(why)) => reason = why,
            Err(_) => {}
        }
        assert!(
            Instant::now() < deadline,
            "not within {within:?}: {what}; last seen: {reason}"
        );
        sleep(PAUSE).await;
    }
}

/// `Ok` if `holds`, else the reason.
pub(crate) fn expect(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

/// Lets time pass, where it is the time that matters: how long something is away.
pub(crate) async fn pass(time: Duration) {
    sleep(time).await;
}

/// Does `thing`, and `after` it whatever came of it: what others need is put back also if a test fails.
pub(crate) async fn and_always<T>(
    thing: impl Future<Output = T>,
    after: impl Future<Output = ()>,
) -> T {
    let outcome = AssertUnwindSafe(thing).catch_unwind().await;
    after.await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}
