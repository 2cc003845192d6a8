//! How long after a write was acknowledged a follower shows it, with asynchronous replication and the leader
//! at half load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::usual;
use crate::bench::{Bench, say};
use crate::client::{self, Control};
use crate::load::{Load, Pace, histogram};
use crate::peer::connect;
use crate::peer::ours::Store;
use crate::rows::LAG;

/// A marker is written so often.
const EVERY: Duration = Duration::from_millis(2);
/// The follower is looked at so often: the resolution.
const LOOK: Duration = Duration::from_micros(200);

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let store = Store::pair(bench, 0)?;
    let (leader, follower) = (store.replicas[0].port(), store.replicas[1].port());
    let load = usual(bench);
    client::fill(leader, load.keys, 100)?;
    let most = client::run(leader, false, &load, &Control::timed(load.seconds))?.rate;
    let load = Load {
        pace: Pace::Open(most / 2.0),
        ..load
    };
    bench.results.forget(LAG);
    for _ in 0..bench.scale.rounds {
        let control = Control::gated();
        let lags = std::thread::scope(|scope| {
            let loaded = scope.spawn(|| client::run(leader, false, &load, &control));
            std::thread::sleep(Duration::from_millis(200));
            control.measure();
            let lags = markers(leader, follower, load.seconds);
            control.stop();
            let outcome = loaded.join().ok().context("the load")??;
            say(&format!("lag: at {:.0} writes a second", outcome.rate));
            lags
        })?;
        let p99 = lags.value_at_quantile(0.99) as f64 / 1000.0;
        bench.results.add(LAG, "ours", p99);
        say(&format!("lag: p99 {p99:.2} ms of {}", lags.len()));
    }
    Ok(())
}

/// Writes markers and looks for them on the follower.
fn markers(leader: u16, follower: u16, seconds: f64) -> Result<Histogram<u64>> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    // Number of the last marker that is acknowledged, and when each was.
    let (written, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let times: Vec<AtomicU64> = (0..=(seconds * 1000.0) as usize)
        .map(|_| AtomicU64::new(0))
        .collect();
    let micros = || start.elapsed().as_micros() as u64;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            let mut connection = connect(leader)?;
            let mut number = 0;
            while Instant::now() < end && number + 1 < times.len() {
                number += 1;
                redis::cmd("SET")
                    .arg("marker")
                    .arg(number)
                    .query::<()>(&mut connection)?;
                times[number].store(micros(), Ordering::Release);
                written.store(number as u64, Ordering::Release);
                std::thread::sleep(EVERY);
            }
            Ok(())
        });
        let mut connection = connect(follower)?;
        let mut lags = histogram()?;
        let mut seen = 0;
        while !(over.load(Ordering::Relaxed) && seen >= written.load(Ordering::Acquire)) {
            let last: Option<u64> = redis::cmd("GET").arg("marker").query(&mut connection)?;
            let now = micros();
            let last = last.unwrap_or(0);
            // A marker may be here before its acknowledgement is with the writer: it is taken next time.
            while seen < last.min(written.load(Ordering::Acquire)) {
                seen += 1;
                let acknowledged = times[seen as usize].load(Ordering::Acquire);
                lags.saturating_record(now.saturating_sub(acknowledged).max(1));
            }
            over.store(writer.is_finished(), Ordering::Relaxed);
            std::thread::sleep(LOOK);
        }
        writer.join().ok().context("the writer")??;
        Ok(lags)
    })
}
