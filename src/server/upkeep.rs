//! The thread that looks after the state on disk: flushes, compaction, snapshots for seeds, and the
//! log's beginning. It decides when; what is flushed is the store's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::damage;
use super::data_dir::DataDir;
use super::inner::Inner;
use super::node::Node;
use super::snapshots::Snapshots;
use crate::log::{Log, LogError};
use crate::replication::message::SeedManifest;
use crate::replication::{Input, Lsn, ReplicaId};
use crate::store::{Engine, FlushJob, Store, StoreError};

/// Below this share of free space, in percent, and below [`LOW_WATER_BYTES`], writes are refused.
const LOW_WATER_PERCENT: u64 = 5;
const LOW_WATER_BYTES: u64 = 512 << 20;
/// A full disk is tried again after this.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Entries that are looked at for their expiry at a time.
const FILL_STEP: usize = 10_000;
/// The log kept for followers takes at most this share of the disk, whatever is configured.
const LOG_SHARE_PERCENT: u64 = 25;

/// Why the thread cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpkeepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A flush that may be run.
struct Due {
    job: FlushJob,
    engine: Arc<dyn Engine>,
    requests: Vec<oneshot::Sender<Result<SeedManifest, String>>>,
}

/// What the thread works with.
pub(super) struct Upkeep {
    pub(super) node: Arc<Node>,
    pub(super) dir: Arc<DataDir>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) log: Log,
    /// Seconds since 1970 of the last flush.
    pub(super) flushed_at: Arc<AtomicU64>,
    pub(super) stop: CancellationToken,
}

impl Upkeep {
    /// Runs until the stop token is cancelled. An error is final: the process must end.
    pub(super) fn run(self) -> Result<(), UpkeepError> {
        let mut looked_at_disk = None::<Instant>;
        let mut noted_memory = None;
        let node = &self.node;
        while !self.stop.is_cancelled() {
            node.wait(&node.upkeep, Duration::from_millis(100), |inner| {
                let due = inner.flush.is_some() || wants_flush(inner);
                due.then_some(())
            });
            if looked_at_disk.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
                looked_at_disk = Some(Instant::now());
                self.look_at_disk();
                self.note_memory(&mut noted_memory);
                self.snapshots.forget_idle();
            }
            node.settle_suspicion(&self.dir);
            self.flush()?;
            self.fill_expiries()?;
            // Its failure costs nothing but speed, and a full disk is told elsewhere.
            if let Err(error) = self.log.prepare() {
                tracing::warn!(%error, "preparing a segment of the log");
            }
        }
        Ok(())
    }

    /// Keeps the memory budget for the next start.
    fn note_memory(&self, noted: &mut Option<u64>) {
        let budget = self.node.with(|inner| inner.memory_budget);
        if noted.replace(budget) != Some(budget)
            && let Err(error) = self.dir.note_memory(budget)
        {
            tracing::warn!(%error, "noting the memory budget");
        }
    }

    /// Learns which of the keys that were flushed before this store was opened expire.
    fn fill_expiries(&self) -> Result<(), UpkeepError> {
        let node = &self.node;
        let fill = node.with(|inner| {
            let store = inner.store.as_ref().filter(|_| !inner.expiries_known)?;
            inner.expiries_known = true;
            Some((store.expiry_fill(), Arc::clone(store.engine())))
        });
        let Some((mut fill, engine)) = fill else {
            return Ok(());
        };
        loop {
            let found = match fill.step(FILL_STEP) {
                // The state that takes the place of the damaged one is looked through, too.
                Err(error) if error.is_damage() => {
                    node.suspect(&error);
                    break;
                }
                step => step?,
            };
            let Some(found) = found else { break };
            let same = node.with(|inner| {
                let store = current_store(inner, &engine);
                store.map(|store| store.add_expiries(found)).is_some()
            });
            if !same || self.stop.is_cancelled() {
                break;
            }
        }
        Ok(())
    }

    /// One round: cut if wanted, bring a committed cut to disk, then what follows from it.
    fn flush(&self) -> Result<(), UpkeepError> {
        let Some(Due {
            job,
            engine,
            requests,
        }) = self.due()
        else {
            return Ok(());
        };
        let cut = job.cut();
        let done = match job.run() {
            Ok(done) => done,
            Err(error) => return self.flush_failed(&engine, error),
        };
        let node = &self.node;
        let finished = node.with(|inner| {
            // A seed may have replaced the store that this flush was of.
            let store = current_store(inner, &engine);
            let finished = store.is_some_and(|store| store.finish_flush(done).is_ok());
            if finished {
                node.drive(inner, Input::Flushed(cut));
            }
            finished
        });
        if !finished {
            return Ok(());
        }
        self.flushed_at
            .store(node.clock.wall_ms() / 1000, Ordering::Relaxed);
        while node.with(|inner| inner.store.as_mut().is_some_and(Store::settle)) {}
        drop(node.with(|inner| inner.store.as_mut().map(Store::take_garbage)));
        node.relief.notify_waiters();
        node.apply.notify_all();
        for request in requests {
            let made = self.snapshots.make(&*engine, node.clock.wall_ms());
            let _ = request.send(made.map_err(|error| error.to_string()));
        }
        self.trim()
    }

    /// Cuts the state if a flush is wanted; a cut that is committed is due.
    fn due(&self) -> Option<Due> {
        let node = &self.node;
        node.with(|inner| {
            if inner.flush.is_none() && wants_flush(inner) {
                inner.flush_wanted = true;
                node.cut(inner);
            }
            let committed = inner.core.commit();
            let job = inner.flush.take_if(|job| job.cut() <= committed)?;
            let engine = Arc::clone(inner.store.as_ref()?.engine());
            let requests = std::mem::take(&mut inner.snapshot_requests);
            Some(Due {
                job,
                engine,
                requests,
            })
        })
    }

    /// A full disk is waited for, and the end of a replaced state does not matter. Any other
    /// failure is final, as what is on the disk is not known.
    fn flush_failed(&self, engine: &Arc<dyn Engine>, error: StoreError) -> Result<(), UpkeepError> {
        if !is_current(&self.node, engine) {
            tracing::info!(%error, "a flush of a state that a seed has replaced");
            return Ok(());
        }
        self.node.suspect(&error);
        // A follower fetches its damaged state anew; a leader must make room for another one.
        let leads = self.node.with(|inner| inner.core.leading().is_some());
        let waits = error.is_disk_full() || (error.is_damage() && !leads);
        if !waits {
            return Err(error.into());
        }
        tracing::warn!(%error, "a flush failed: what changed stays in memory");
        let aborted = self
            .node
            .with(|inner| inner.store.as_mut().map(Store::abort_flush));
        aborted.transpose()?;
        std::thread::sleep(FULL_PAUSE);
        Ok(())
    }

    /// Frees the log that neither this replica nor, within the bound, another one needs.
    fn trim(&self) -> Result<(), UpkeepError> {
        let node = &self.node;
        let below = node.with(|inner| {
            let store = inner.store.as_ref()?;
            let flushed = store.meta().flushed;
            let leading = inner.core.leading().is_some();
            let needed = if leading {
                keep_from(inner, node.id)
            } else {
                inner.keep_from
            };
            if inner.log_damage.is_some() {
                return Some(flushed.min(inner.repair_from.unwrap_or(flushed)));
            }
            let bound = inner.settings.log_retention.min(inner.log_bound);
            let floor = inner.tip.end.0.saturating_sub(bound);
            let below = flushed.min(needed.max(Lsn(floor)));
            Some(below.min(inner.repair_from.unwrap_or(below)))
        });
        let Some(below) = below else { return Ok(()) };
        self.log.trim(below)?;
        let oldest = self.log.oldest();
        node.with(|inner| {
            node.drive(inner, Input::Trimmed(oldest));
            inner.lag.forget_below(oldest);
            damage::trimmed(inner, oldest);
        });
        Ok(())
    }

    fn look_at_disk(&self) {
        let Some((free, total)) = self.snapshots.space() else {
            return;
        };
        let low = free < LOW_WATER_BYTES && free * 100 < total * LOW_WATER_PERCENT;
        self.node.with(|inner| {
            if inner.disk_low != low {
                inner.disk_low = low;
                tracing::warn!(free, total, low, "disk space");
                self.node.changed();
            }
            inner.disk_used_percent = used_percent(free, total);
            inner.log_bound = total / 100 * LOG_SHARE_PERCENT;
        });
    }
}

/// The position from which the members of a leader's store, and the seeds under way, still need the
/// log. A member that this leader has not heard of may need all of it: the bound is `logRetention`.
pub(super) fn keep_from(inner: &Inner, me: ReplicaId) -> Lsn {
    let others = inner.members.keys().filter(|id| **id != me);
    let needs = others.map(|id| inner.durable_of.get(id).copied().unwrap_or(Lsn::ZERO));
    needs
        .chain(inner.pins.values().copied())
        .fold(inner.tip.end, Lsn::min)
}

fn wants_flush(inner: &Inner) -> bool {
    let requested = !inner.snapshot_requests.is_empty();
    let large = inner.store.as_ref().is_some_and(Store::should_flush);
    inner.store.is_some() && (requested || large || damage::flush_helps(inner))
}

/// The thread that compacts: beside the flushes, so that a long compaction does not hold them up.
pub(super) fn compact(node: &Node, stop: &CancellationToken) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let engine = node.with(|inner| {
            let whole = inner.damage.is_none();
            let store = inner.store.as_ref().filter(|_| whole)?;
            Some(Arc::clone(store.engine()))
        });
        let more = match &engine {
            Some(engine) => match engine.compact_step() {
                Err(error) if is_current(node, engine) => {
                    wait_after(node, error)?;
                    false
                }
                done => done.unwrap_or(false),
            },
            None => false,
        };
        if !more {
            node.wait(&node.upkeep, Duration::from_millis(500), |_| None::<()>);
        }
    }
    Ok(())
}

/// What compaction can wait for: room on the disk, or another state.
fn wait_after(node: &Node, error: StoreError) -> Result<(), StoreError> {
    node.suspect(&error);
    if error.is_disk_full() || error.is_damage() {
        tracing::warn!(%error, "a compaction failed");
        return Ok(());
    }
    Err(error)
}

/// The store, if this is still its engine: a seed replaces both.
fn current_store<'a>(inner: &'a mut Inner, engine: &Arc<dyn Engine>) -> Option<&'a mut Store> {
    let store = inner.store.as_mut();
    store.filter(|store| Arc::ptr_eq(store.engine(), engine))
}

/// Whether this is still the engine of the state.
pub(super) fn is_current(node: &Node, engine: &Arc<dyn Engine>) -> bool {
    node.with(|inner| current_store(inner, engine).is_some())
}

fn used_percent(free: u64, total: u64) -> u8 {
    let used = total.saturating_sub(free);
    u8::try_from(used * 100 / total.max(1)).unwrap_or(100)
}
