//! The thread that looks after the state on disk: flushes, compaction, snapshots for seeds, and the
//! log's beginning. It decides when; what is flushed is the store's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::damage;
use super::data_dir::DataDir;
use super::inner::Inner;
use super::node::Node;
use super::shift::Shift;
use super::snapshots::{SnapshotRequest, Snapshots, answered_by, refuse_all};
use crate::log::{Log, LogError};
use crate::replication::{Input, Lsn, ReplicaId};
use crate::store::{Engine, ExpiryFill, FlushJob, Store, StoreError};

/// A full disk is tried again after this.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Who is not told that there is something to do looks again after this.
const IDLE: Duration = Duration::from_millis(100);
/// Entries that are looked at for their expiry at a time.
const FILL_STEP: usize = 10_000;
/// For how long, before it is looked whether something else is due.
const FILL_TIME: Duration = Duration::from_millis(50);
/// A flush looks so often whether it should pause.
const BREATH: Duration = Duration::from_micros(200);
/// Log after a snapshot that a newcomer may be left with: it applies so much in a few seconds.
const MOST_LOG: u64 = 256 << 20;
/// While there is little room, what is flushed may free some: so often it is looked.
const LOW_FLUSH_PACE: Duration = Duration::from_secs(2);

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
    requests: Vec<SnapshotRequest>,
}

/// Keys that expire, as far as they have been looked for, and in what.
type Filling = (ExpiryFill, Arc<dyn Engine>);

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
        let mut looked_at = None::<Instant>;
        let (mut noted_memory, mut filling) = (None, None);
        let mut made_room = Instant::now();
        let node = &self.node;
        while !self.stop.is_cancelled() {
            let idle = if filling.is_some() {
                Duration::ZERO
            } else {
                IDLE
            };
            node.wait(&node.upkeep, idle, |inner| is_due(inner).then_some(()));
            self.make_room(&mut made_room)?;
            if looked_at.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
                looked_at = Some(Instant::now());
                self.note_memory(&mut noted_memory);
                self.snapshots.forget_idle();
            }
            node.settle_suspicion(&self.dir);
            self.serve_as_flushed();
            self.flush()?;
            self.fill_expiries(&mut filling)?;
            // Its failure costs nothing but speed, and a full disk is told elsewhere.
            if let Err(error) = self.log.prepare() {
                tracing::warn!(%error, "preparing a segment of the log");
            }
        }
        Ok(())
    }

    /// Where there is little room, the log that is kept for others goes, also where no flush succeeds for
    /// lack of it; and what was deleted takes room until that is flushed.
    fn make_room(&self, last: &mut Instant) -> Result<(), UpkeepError> {
        if last.elapsed() < LOW_FLUSH_PACE {
            return Ok(());
        }
        *last = Instant::now();
        if self.node.with(|inner| inner.disk.low) {
            self.trim()?;
        }
        self.node.with(|inner| {
            let store = inner.store.as_ref().filter(|store| !store.is_flushing());
            let flushed = store.map(|store| store.meta().flushed);
            if inner.disk.low && flushed.is_some_and(|flushed| flushed < inner.applied.end) {
                inner.flush_wanted = true;
                self.node.cut(inner);
            }
        });
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

    /// Learns which of the keys that were flushed before this store was opened expire: a piece of it, as
    /// flushes must not wait for all.
    fn fill_expiries(&self, under_way: &mut Option<Filling>) -> Result<(), UpkeepError> {
        let node = &self.node;
        let begun = node.with(|inner| {
            let store = inner.store.as_ref().filter(|_| !inner.expiries_known)?;
            inner.expiries_known = true;
            Some((store.expiry_fill()?, Arc::clone(store.engine())))
        });
        if begun.is_some() {
            *under_way = begun;
        }
        let started = Instant::now();
        while let Some((fill, engine)) = under_way
            && started.elapsed() < FILL_TIME
        {
            let found = match fill.step(FILL_STEP) {
                // The state that takes the place of a damaged one is looked through, too.
                Err(error) if error.is_damage() || !is_current(node, engine) => {
                    suspect_current(node, engine, &error);
                    *under_way = None;
                    return Ok(());
                }
                step => step?,
            };
            let more = node.with(|inner| {
                let store = current_store(inner, engine)?;
                match found {
                    Some(found) => store.add_expiries(found),
                    None => {
                        store.expiries_filled(fill);
                        return None;
                    }
                }
                Some(())
            });
            if more.is_none() {
                *under_way = None;
            }
        }
        Ok(())
    }

    /// One round: cut if wanted, bring a released cut to disk, then what follows from it.
    fn flush(&self) -> Result<(), UpkeepError> {
        let Some(Due {
            job,
            engine,
            requests,
        }) = self.due()
        else {
            return Ok(());
        };
        let mut shift = Shift::new(&self.node, &self.stop);
        let done = match job.run_beside(&mut || shift.breathe(BREATH)) {
            Ok(done) => done,
            Err(error) => {
                self.ask_again(requests);
                return match error {
                    // The state was brought back, or replaced, before it was begun.
                    StoreError::FlushCancelled => Ok(()),
                    error => self.flush_failed(&engine, error),
                };
            }
        };
        let node = &self.node;
        let finished = node.with(|inner| {
            // A seed may have replaced the store that this flush was of.
            let store = current_store(inner, &engine);
            store.is_some_and(|store| store.finish_flush(done).is_ok())
        });
        if !finished {
            self.ask_again(requests);
            return Ok(());
        }
        self.flushed_at
            .store(node.clock.wall_ms() / 1000, Ordering::Relaxed);
        // A newcomer copies files: it need not wait until their entries are in the cache.
        self.make_snapshots(&*engine, requests);
        self.settle();
        drop(node.with(|inner| inner.store.as_mut().map(Store::take_garbage)));
        node.relief.notify_waiters();
        node.apply.notify_all();
        self.trim()
    }

    /// Nothing became of the flush that they were to be made of: the next one is theirs.
    fn ask_again(&self, requests: Vec<SnapshotRequest>) {
        self.node
            .with(|inner| inner.snapshot_requests.extend(requests));
    }

    /// Snapshots of what was flushed last, for whom that will do. What needs too much log after it needs a flush.
    fn serve_as_flushed(&self) {
        let found = self.node.with(|inner| {
            let whole = inner.whole();
            let Some(store) = &inner.store else {
                let asked = &mut inner.snapshot_requests;
                refuse_all(asked, "this replica is being seeded itself");
                return None;
            };
            let flushed = store.meta().flushed;
            // What lies further back may be trimmed before the newcomer comes for it.
            let most = MOST_LOG.min(log_bound(inner));
            let near = flushed > Lsn::ZERO && inner.applied.end.since(flushed) <= most;
            let stuck = is_stuck(inner);
            let voters: Vec<_> = inner.core.configuration().all_voters().collect();
            let asked = &mut inner.snapshot_requests;
            for request in &mut *asked {
                if !near {
                    request.at_least.get_or_insert(whole);
                }
                // No flush will come before a newcomer has a state and counts.
                let newcomer = |id: ReplicaId| !voters.contains(&id);
                if stuck && request.by.is_some_and(newcomer) {
                    request.at_least = None;
                }
            }
            let now: Vec<_> = asked
                .extract_if(.., |request| request.at_least.is_none())
                .collect();
            (!now.is_empty()).then(|| (Arc::clone(store.engine()), now))
        });
        if let Some((engine, requests)) = found {
            self.make_snapshots(&*engine, requests);
        }
    }

    fn make_snapshots(&self, engine: &dyn Engine, requests: Vec<SnapshotRequest>) {
        for request in requests {
            let made = self.snapshots.make(engine, self.node.clock.wall_ms());
            let _ = request.reply.send(made.map_err(|error| error.to_string()));
        }
    }

    /// Moves what was flushed to the cache. Clients come between the slices: whoever lets the lock go and takes
    /// it again at once has it before those who wait for it.
    fn settle(&self) {
        let mut shift = Shift::new(&self.node, &self.stop);
        let settle = |inner: &mut Inner| inner.store.as_mut().is_some_and(Store::settle);
        while self.node.with(settle) {
            shift.breathe(Duration::ZERO);
        }
    }

    /// Cuts the state if a flush is wanted; a cut that is released is due.
    fn due(&self) -> Option<Due> {
        let node = &self.node;
        node.with(|inner| {
            if inner.flush.is_none() && wants_flush(inner) {
                inner.flush_wanted = true;
                node.cut(inner);
            }
            let core = &inner.core;
            let job = inner.flush.take_if(|job| core.may_flush(job.cut()))?;
            // Told now: the log could be cut below it while it runs.
            node.drive(inner, Input::Flushed(job.cut()));
            let engine = Arc::clone(inner.store.as_ref()?.engine());
            let requests = answered_by(&mut inner.snapshot_requests, job.cut());
            Some(Due {
                job,
                engine,
                requests,
            })
        })
    }

    /// A full disk is waited for, and so is another state in the place of a damaged one; the end of a
    /// replaced state does not matter. Any other failure is final, as what is on the disk is not known.
    fn flush_failed(&self, engine: &Arc<dyn Engine>, error: StoreError) -> Result<(), UpkeepError> {
        if !is_current(&self.node, engine) {
            tracing::info!(%error, "a flush of a state that a seed has replaced");
            return Ok(());
        }
        suspect_current(&self.node, engine, &error);
        // A damaged state is fetched anew, a leader's once another one leads: to end here would only mean to
        // find the same after the next start.
        if !error.is_disk_full() && !error.is_damage() {
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
            let floor = inner.tip.end.0.saturating_sub(log_bound(inner));
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
}

/// So many bytes of log are kept for other replicas.
fn log_bound(inner: &Inner) -> u64 {
    if inner.disk.low {
        return 0;
    }
    inner.settings.log_retention.min(inner.disk.log_bound)
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

/// Whether there is something to do: a cut is of use only once it is released.
fn is_due(inner: &Inner) -> bool {
    let flush = match &inner.flush {
        Some(job) => job.cut() <= inner.core.released(),
        None => wants_flush(inner),
    };
    let mut asked = inner.snapshot_requests.iter();
    flush || asked.any(|asked| asked.at_least.is_none())
}

/// Whether what is committed will not be released, nor flushed, before another replica holds it.
fn is_stuck(inner: &Inner) -> bool {
    inner.gate.short && inner.core.released() < inner.core.commit()
}

fn wants_flush(inner: &Inner) -> bool {
    // One that asks for more than there is yet is not answered by a flush now.
    let now = inner.applied.end;
    let mut asked = inner.snapshot_requests.iter();
    let requested = asked.any(|asked| asked.at_least.is_some_and(|least| least <= now));
    let large = inner.store.as_ref().is_some_and(Store::should_flush);
    let Some(store) = &inner.store else {
        return false;
    };
    // Keys that are written again and again make much log and few entries.
    let unflushed = inner.applied.end.since(store.meta().flushed);
    let long = !store.is_flushing() && unflushed >= inner.disk.replay_bound;
    requested || large || long || damage::flush_helps(inner)
}

/// The thread that compacts: beside the flushes, so that a long compaction does not hold them up.
pub(super) fn compact(node: &Node, stop: &CancellationToken) -> Result<(), StoreError> {
    let mut squeezed = None;
    while !stop.is_cancelled() {
        let found = node.with(|inner| {
            let whole = inner.damage.is_none();
            let store = inner.store.as_ref().filter(|_| whole)?;
            let keys = inner.disk.low.then_some(store.meta().keys);
            Some((Arc::clone(store.engine()), keys))
        });
        let more = match &found {
            Some((engine, low)) => match step(&**engine, *low, &mut squeezed) {
                Err(_) if stop.is_cancelled() => return Ok(()),
                Err(error) if is_current(node, engine) => {
                    wait_after(node, engine, error)?;
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

/// A piece of compaction. Where there is little room, and a tenth of the `keys` has gone since the last
/// time, everything is squeezed: deletions must give room back.
fn step(
    engine: &dyn Engine,
    keys: Option<u64>,
    squeezed: &mut Option<u64>,
) -> Result<bool, StoreError> {
    match (keys, &squeezed) {
        (None, _) => *squeezed = None,
        (Some(keys), Some(before)) if keys > before / 10 * 9 => {}
        (Some(keys), _) => {
            *squeezed = Some(keys);
            engine.squeeze()?;
        }
    }
    engine.compact_step()
}

/// What compaction can wait for: room on the disk, or another state.
fn wait_after(node: &Node, engine: &Arc<dyn Engine>, error: StoreError) -> Result<(), StoreError> {
    suspect_current(node, engine, &error);
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

/// Suspects the state, if it is still the one of this engine: what becomes of a replaced one is no matter.
fn suspect_current(node: &Node, engine: &Arc<dyn Engine>, error: &StoreError) {
    node.with(|inner| {
        if current_store(inner, engine).is_some() {
            node.suspect(error);
        }
    });
}

/// Whether this is still the engine of the state.
pub(super) fn is_current(node: &Node, engine: &Arc<dyn Engine>) -> bool {
    node.with(|inner| current_store(inner, engine).is_some())
}

#[cfg(test)]
mod tests;
