//! The thread that owns the log: seals what the leader executed into frames (group commit), writes
//! them, and everything else that must be durable. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use super::data_dir::{Adopted, DataDir, DataDirError};
use super::divergent;
use super::gather::Patience;
use super::inner::{Inner, Job, Tip};
use super::node::Node;
use crate::log::{Frame, Log, LogError, LogWriter};
use crate::replication::admin::Divergent;
use crate::replication::{Epoch, EpochHistory, Input, Lsn};
use crate::store::Record;

/// Frames that are written together are at most this many bytes, unless one is larger.
const MAX_WRITE: usize = 4 << 20;

/// A log that had nothing to write for this long is marked as durable to its end.
const IDLE: Duration = Duration::from_millis(500);
/// What finds no room on the disk is tried again after this.
const FULL_AGAIN: Duration = Duration::from_millis(100);
/// Room that is made at once for the records of the next frame: as much as the last one had.
const MAX_ROOM: usize = 1 << 20;

/// What to do next, taken under the lock.
enum Work {
    Job(Job),
    /// A follower's frames, of several jobs.
    Append(Vec<Frame>),
    /// The leader's records.
    Seal {
        payload: Vec<u8>,
        records: u32,
        epoch: Epoch,
        start: Lsn,
        time: u64,
        chain: u32,
        reign: u64,
    },
    /// The same, sealed already.
    Write(Frame),
    Idle,
    Stop,
}

/// The writer's own state.
pub(super) struct Writer {
    pub(super) node: Arc<Node>,
    pub(super) log: LogWriter,
    pub(super) reader: Log,
    pub(super) dir: Arc<DataDir>,
    pub(super) stop: tokio_util::sync::CancellationToken,
    pub(super) patience: Patience,
    /// Said once.
    pub(super) note_failed: bool,
}

impl Writer {
    /// Runs until the stop token is cancelled and everything is written. An error is final: the
    /// process must end, since what is on disk is not known any more.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        loop {
            match self.next() {
                Work::Idle => self.log.mark_durable()?,
                Work::Stop => return Ok(self.log.mark_durable()?),
                Work::Append(frames) => self.append(&frames)?,
                Work::Job(job) => self.job(job)?,
                Work::Write(frame) => self.append(std::slice::from_ref(&frame))?,
                Work::Seal {
                    payload,
                    records,
                    epoch,
                    start,
                    time,
                    chain,
                    reign,
                } => {
                    let frame = Frame::seal(payload, records, epoch, start, time, chain);
                    self.sealed(&frame, reign)?;
                }
            }
        }
    }

    /// Waits for more of what clients execute, where more is to be expected soon.
    fn gather(&self) {
        let mut looked = false;
        let wait = |inner: &mut Inner| {
            let gather = &mut inner.pending.gather;
            let over = looked || gather.is_enough() || !inner.jobs.is_empty();
            looked = true;
            over.then(|| gather.give_up())
        };
        let _ = self.node.wait(&self.node.work, self.patience.left(), wait);
    }

    fn next(&self) -> Work {
        self.gather();
        let node = &self.node;
        let work = node.wait(&node.work, IDLE, |inner| {
            node.say_quiet(inner);
            let work = take(node, inner)?;
            Some(cut_if_wanted(node, inner, work))
        });
        match work {
            Some(work) => work,
            None if self.stop.is_cancelled() => Work::Stop,
            None => Work::Idle,
        }
    }

    /// Tells everybody of the leader's new frame, then writes it.
    fn sealed(&mut self, frame: &Frame, reign: u64) -> anyhow::Result<()> {
        let node = &self.node;
        let known = node.with(|inner| {
            inner.sealing = false;
            if inner.reign != reign {
                return false; // deposed meanwhile: the records were dropped
            }
            node.seal(inner, frame, None);
            true
        });
        if known {
            self.append(std::slice::from_ref(frame))
        } else {
            Ok(())
        }
    }

    fn append(&mut self, frames: &[Frame]) -> anyhow::Result<()> {
        let Some(last) = frames.last() else {
            return Ok(());
        };
        let begin = self.node.now();
        self.log.append(frames)?;
        let node = &self.node;
        self.patience.note(node.now().saturating_sub(begin));
        node.with(|inner| {
            inner.pending.gather.written();
            let bytes: usize = frames.iter().map(Frame::wire_len).sum();
            inner.queued = inner.queued.saturating_sub(bytes);
            node.drive(inner, Input::Durable(last.end()));
        });
        node.relief.notify_waiters();
        node.acknowledge.notify_one();
        // Only now, as clients need not wait for it.
        if let Err(error) = self.log.note_durable()
            && !std::mem::replace(&mut self.note_failed, true)
        {
            tracing::warn!(%error, "noting how far the log is durable");
        }
        Ok(())
    }

    fn job(&mut self, job: Job) -> anyhow::Result<()> {
        let node = Arc::clone(&self.node);
        match job {
            Job::Append(frames) => self.append(&frames),
            Job::Save(hard) => {
                self.dir.save_hard_state(hard)?;
                node.with(|inner| node.drive(inner, Input::Saved(hard)));
                self.dir.mirror_hard_state()?;
                Ok(())
            }
            Job::Adopt(adopted) => self.adopt(adopted),
            Job::Beat => {
                self.log.beat()?;
                node.with(|inner| node.drive(inner, Input::Beat));
                Ok(())
            }
            Job::Barrier { epoch, version } => self.barrier(epoch, version),
            Job::Truncate(to) => self.truncate(to),
            Job::Rotate => {
                self.log.rotate();
                Ok(())
            }
            Job::Remember => Ok(self.dir.remember()?),
            Job::Bind(claim) => {
                // The operator tells it again.
                if has_room(self.dir.bind(&claim))? {
                    node.with(|inner| inner.claim = Some(claim));
                    node.changed();
                }
                Ok(())
            }
            Job::Renew(why) => {
                if !has_room(self.dir.renew(&why))? {
                    return Ok(()); // it is told again
                }
                anyhow::bail!("{why}: the replica starts again under an id of its own")
            }
            Job::Reset {
                at,
                history,
                chain,
                done,
            } => {
                self.reset(at, &history, chain)?;
                let _ = done.send(());
                Ok(())
            }
        }
    }

    /// Notes a configuration durably before the replica acts by it. Where there is no room for that, it goes on
    /// as it is until there is.
    fn adopt(&mut self, adopted: Adopted) -> anyhow::Result<()> {
        let node = Arc::clone(&self.node);
        if !has_room(self.dir.adopt(&adopted))? {
            let stopped = || self.stop.is_cancelled().then_some(());
            let _ = node.wait(&node.work, FULL_AGAIN, |_| stopped());
            node.with(|inner| node.enqueue(inner, Job::Adopt(adopted)));
            return Ok(());
        }
        let configuration = adopted.configuration.clone();
        node.with(|inner| node.drive(inner, Input::Adopted(configuration)));
        // It is a second copy.
        has_room(self.dir.mirror_adopted(&adopted))?;
        Ok(())
    }

    /// Seals a barrier under one lock, behind what clients have executed: a leader that takes writes
    /// goes on meanwhile, and may be deposed since it asked for the barrier.
    fn barrier(&mut self, epoch: Epoch, version: u64) -> anyhow::Result<()> {
        let node = Arc::clone(&self.node);
        let frames = node.with(|inner| seal_barrier(&node, inner, epoch, version))?;
        self.append(&frames)
    }

    /// Cuts the log; a state that has more is brought back.
    fn truncate(&mut self, to: Lsn) -> anyhow::Result<()> {
        tracing::warn!(%to, from = %self.log.tip().position.lsn, "cuts its log where the histories part");
        self.keep_divergent(to);
        let to = match self.log.truncate(to) {
            // The other log only looks like this one: nothing of this one is given up for it.
            Err(error @ (LogError::NotAFrame { .. } | LogError::Trimmed { .. })) => {
                tracing::error!(%error, "this log and the leader's are of different histories");
                let text = "its log and the leader's are of different histories";
                self.node.with(|inner| text.clone_into(&mut inner.message));
                self.log.tip().position.lsn
            }
            truncated => truncated.map(|()| to)?,
        };
        let tip = self.log.tip();
        let node = &self.node;
        node.with(|inner| {
            inner.tip = Tip {
                end: to,
                chain: tip.chain,
            };
            inner.tail.truncate(to);
            inner.lag.clear();
            if inner.applied.end > to {
                node.rewind(inner);
            }
            node.drive(inner, Input::Truncated(to));
        });
        Ok(())
    }

    /// Keeps what is given up: all of it may have been acknowledged, as a restart forgets how far it was
    /// committed. Where it cannot be kept, that is told, and the replica goes on: it would find the same
    /// after every start.
    fn keep_divergent(&self, after: Lsn) {
        let end = self.log.tip().position.lsn;
        // Half of what is free stays so: what follows needs some of it.
        let room = self.dir.space().map_or(u64::MAX, |(free, _)| free / 2);
        let kept = match divergent::keep(self.dir.path(), &self.reader, after, end, room) {
            Ok(None) => return,
            Ok(Some(kept)) => {
                let (bytes, file) = (kept.bytes, &kept.file);
                tracing::warn!(bytes, %file, "keeps records that no other replica has");
                kept
            }
            Err(error) => {
                let bytes = end.since(after.max(self.reader.oldest()));
                tracing::error!(bytes, %error, "gives up records that no other replica has");
                let epoch = self.log.tip().position.epoch;
                let file = String::new();
                Divergent {
                    epoch,
                    after,
                    bytes,
                    file,
                }
            }
        };
        self.node.with(|inner| inner.divergent = Some(kept));
        self.node.urgent();
    }

    /// Begins the log anew at the LSN of a snapshot.
    fn reset(&mut self, at: Lsn, history: &EpochHistory, chain: u32) -> anyhow::Result<()> {
        if let Some(parted) = self.node.with(|inner| inner.parted_at.take()) {
            self.keep_divergent(parted.point);
        }
        self.dir.begin_seed()?;
        self.log.reset(at, history.clone(), chain)?;
        let node = &self.node;
        let old = node.with(|inner| {
            let nothing = Tip {
                end: Lsn::ZERO,
                chain: 0,
            };
            let old = inner.place(None, nothing);
            inner.tip = Tip { end: at, chain };
            inner.tail.clear();
            inner.lag.clear();
            node.drive(
                inner,
                Input::LogReset {
                    at,
                    oldest: at,
                    history: history.clone(),
                },
            );
            old
        });
        // Gigabytes, perhaps: they go without the lock.
        if let Some(store) = &old {
            store.engine().interrupt();
        }
        drop(old);
        Ok(())
    }
}

/// Whether a note was made: a disk that is full ends no process.
fn has_room(noted: Result<(), DataDirError>) -> anyhow::Result<bool> {
    match noted {
        Err(error) if error.is_full() => {
            tracing::warn!(%error, "no room for a note: it is tried again");
            Ok(false)
        }
        noted => Ok(noted.map(|()| true)?),
    }
}

/// The frames of a barrier and of what clients have executed before it, if this leader still is the one that
/// asked for it.
pub(super) fn seal_barrier(
    node: &Node,
    inner: &mut Inner,
    epoch: Epoch,
    version: u64,
) -> Result<Vec<Frame>, crate::store::StoreError> {
    let mut frames = Vec::new();
    if inner.core.leading() != Some(epoch) {
        return Ok(frames);
    }
    if inner.pending.records > 0 {
        frames.push(seal_now(node, inner, epoch));
    }
    let record = Record::Barrier { version };
    let mut payload = Vec::new();
    record.encode(&mut payload);
    let (tip, time) = (inner.tip, node.judged_ms(inner));
    let frame = Frame::seal(payload, 1, epoch, tip.end, time, tip.chain);
    if let Some(store) = &mut inner.store {
        store.apply_ahead(&record, frame.end())?;
    }
    inner.applied = Tip {
        end: frame.end(),
        chain: frame.chain(),
    };
    inner.pending.start = frame.end();
    // Under a new configuration a leader goes on with the state that it has.
    inner.begun += u64::from(!inner.accepting);
    inner.accepting = true;
    // Whoever leads has all: it goes on serving reads when another one leads.
    inner.ready = true;
    node.seal(inner, &frame, Some((version, frame.end())));
    frames.push(frame);
    Ok(frames)
}

/// Takes the next work. A barrier waits until the state has been brought to the end of the log, and
/// until then no client write is accepted; records are taken only when no job is waiting, or together
/// with a barrier.
fn take(node: &Node, inner: &mut Inner) -> Option<Work> {
    match inner.jobs.front() {
        None if inner.pending.records > 0 => Some(seal(node, inner)),
        Some(Job::Barrier { .. }) if !inner.accepting && inner.applied.end < inner.tip.end => {
            // The disk shows that it is alive meanwhile: a long log to apply is no stall.
            let beat = |job: &Job| matches!(job, Job::Beat);
            let beat = inner.jobs.iter().position(beat)?;
            inner.jobs.remove(beat).map(Work::Job)
        }
        Some(Job::Append(_)) => Some(Work::Append(take_frames(inner))),
        Some(_) => inner.jobs.pop_front().map(Work::Job),
        None => None,
    }
}

/// A flush needs the state at the end of a frame, and under load there is one only at this moment:
/// so the frame is sealed here, under the lock.
fn cut_if_wanted(node: &Node, inner: &mut Inner, work: Work) -> Work {
    match work {
        Work::Seal {
            payload,
            records,
            epoch,
            start,
            time,
            chain,
            ..
        } if inner.flush_wanted => {
            let frame = Frame::seal(payload, records, epoch, start, time, chain);
            inner.sealing = false;
            node.seal(inner, &frame, None);
            node.cut(inner);
            Work::Write(frame)
        }
        other => other,
    }
}

fn take_frames(inner: &mut Inner) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut bytes = 0;
    while let Some(Job::Append(next)) = inner.jobs.front_mut() {
        let more: usize = next.iter().map(Frame::wire_len).sum();
        if bytes > 0 && bytes + more > MAX_WRITE {
            break;
        }
        bytes += more;
        frames.append(next);
        inner.jobs.pop_front();
    }
    frames
}

/// Takes what clients have executed: the records, their number, and where they start.
fn take_pending(inner: &mut Inner) -> (Vec<u8>, u32, Lsn) {
    let room = inner.pending.buffer.len().min(MAX_ROOM);
    let mut payload = std::mem::replace(&mut inner.pending.buffer, Vec::with_capacity(room));
    // It is kept for a while, with the room that it has.
    payload.shrink_to_fit();
    let records = std::mem::take(&mut inner.pending.records);
    let start = inner.pending.start;
    inner.pending.gather.take();
    inner.pending.start = start.advance(payload.len() as u64);
    (payload, records, start)
}

/// Seals what clients have executed at once, under the lock.
pub(super) fn seal_now(node: &Node, inner: &mut Inner, epoch: Epoch) -> Frame {
    let (payload, records, start) = take_pending(inner);
    let (time, chain) = (node.judged_ms(inner), inner.tip.chain);
    let frame = Frame::seal(payload, records, epoch, start, time, chain);
    node.seal(inner, &frame, None);
    frame
}

fn seal(node: &Node, inner: &mut Inner) -> Work {
    let (payload, records, start) = take_pending(inner);
    let time = node.judged_ms(inner);
    inner.sealing = true;
    Work::Seal {
        payload,
        records,
        epoch: inner.core.leading().unwrap_or_default(),
        start,
        time,
        chain: inner.tip.chain,
        reign: inner.reign,
    }
}
