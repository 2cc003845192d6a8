//! What compaction asks for each entry that it merges: whether anybody can still read it, and whether to
//! slow down. The tree has no throttle of its own; here it waits between two entries, without a lock.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lsm_tree::compaction::filter::Context;
use lsm_tree::compaction::{CompactionFilter, Factory, ItemAccessor, Verdict};

use super::keys;
use super::portion::Portion;

/// Bytes a second that are merged while hardly anything waits for it.
const IDLE_RATE: u64 = 32 << 20;
/// The rate doubles with so many more ingestions that wait.
const STEP: u64 = 3;
/// From so many on there is no bound: reads and the next flush suffer more than from the work.
const UNBOUND: u64 = 12;
/// Bytes that are merged between two looks at the clock.
const SLICE: u64 = 256 << 10;
/// Whoever waits looks again after this.
const LOOK: Duration = Duration::from_millis(20);

/// Shared by the engine and its compactions.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Generations below this one are not read any more.
    pub(super) retired: AtomicU32,
    /// Ingestions that wait to be merged.
    pub(super) backlog: AtomicU64,
    /// Somebody waits for the compaction.
    pub(super) urgent: AtomicBool,
    /// The engine is about to be closed.
    pub(super) interrupted: AtomicBool,
}

impl Pace {
    /// Bytes a second, as of now.
    fn rate(&self) -> Option<u64> {
        let backlog = self.backlog.load(Ordering::Relaxed);
        let unbound = backlog >= UNBOUND || self.urgent.load(Ordering::Relaxed);
        (!unbound).then(|| IDLE_RATE << (backlog / STEP))
    }
}

/// Makes the filter of each compaction.
pub(super) struct Filters {
    pub(super) pace: Arc<Pace>,
    /// The tree's.
    pub(super) dir: PathBuf,
}

impl Factory for Filters {
    fn name(&self) -> &'static str {
        "retired generations, and the pace"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter {
            retired: self.pace.retired.load(Ordering::Acquire),
            pace: Arc::clone(&self.pace),
            dir: self.dir.clone(),
            portion: Portion::default(),
            bytes: 0,
            since: Instant::now(),
        })
    }
}

struct Filter {
    pace: Arc<Pace>,
    dir: PathBuf,
    portion: Portion,
    retired: u32,
    /// Merged since `since`.
    bytes: u64,
    since: Instant,
}

impl Filter {
    fn wait(&mut self) -> lsm_tree::Result<()> {
        loop {
            if self.pace.interrupted.load(Ordering::Relaxed) {
                let error = io::Error::new(io::ErrorKind::Interrupted, "the state is being closed");
                return Err(error.into());
            }
            let early = self.pace.rate().map_or(Duration::ZERO, |rate| {
                let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
                due.saturating_sub(self.since.elapsed())
            });
            if early.is_zero() {
                self.bytes = 0;
                self.since = Instant::now();
                return Ok(());
            }
            std::thread::sleep(early.min(LOOK));
        }
    }
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        let bytes = item.key().len() + item.value()?.len();
        self.bytes += bytes as u64;
        self.portion.add(bytes, &self.dir)?;
        if self.bytes >= SLICE {
            self.wait()?;
        }
        let generation = keys::generation(item.key());
        if generation.is_some_and(|generation| generation < self.retired) {
            // Older values of the key may come to light below it; nobody reads them either.
            return Ok(Verdict::Destroy);
        }
        Ok(Verdict::Keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_waits_the_faster_it_goes() {
        let pace = Pace::default();
        let rate = |backlog| {
            pace.backlog.store(backlog, Ordering::Relaxed);
            pace.rate()
        };
        let rates = [0, 2, 3, 6, 11, 12].map(rate);
        let mb = |mb: u64| Some(mb << 20);
        assert_eq!(rates, [mb(32), mb(32), mb(64), mb(128), mb(256), None]);
        pace.urgent.store(true, Ordering::Relaxed);
        assert_eq!(rate(0), None);
    }
}
