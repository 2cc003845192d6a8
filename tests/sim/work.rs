//! What a process does one after the other: its disk's work, applying, flushing.

use std::time::Duration;

use replicated_store::log::{Frame, LogError};
use replicated_store::replication::{Epoch, Input, Lsn};
use replicated_store::store::Record;

use super::bug::Bug;
use super::machine::{note_seeding, open_store, remember, write_adopted, write_hard};
use super::node::{Job, Out, Process, Tip};

impl Process {
    /// The disk's next work, if it is idle. A barrier waits until the state has been brought to
    /// the end of the log.
    pub(crate) fn next_job(&mut self, now: Duration) -> bool {
        if self.busy.is_some() {
            return false;
        }
        self.now = now;
        let seals = matches!(self.jobs.front(), None | Some(Job::Barrier { .. }));
        if seals && self.records > 0 {
            self.seal_pending();
            return true;
        }
        let waits = matches!(self.jobs.front(), Some(Job::Barrier { .. }))
            && !self.accepting
            && self.applied.end < self.tip.end;
        if waits {
            return false;
        }
        match self.jobs.pop_front() {
            None => false,
            Some(Job::Barrier { epoch, version }) => {
                self.seal_barrier(epoch, version);
                true
            }
            Some(Job::Append(mut frames)) => {
                while let Some(Job::Append(more)) = self.jobs.front_mut() {
                    frames.append(more);
                    self.jobs.pop_front();
                }
                self.busy = Some(Job::Append(frames));
                true
            }
            Some(job) => {
                self.busy = Some(job);
                true
            }
        }
    }

    fn seal_pending(&mut self) {
        let payload = std::mem::take(&mut self.pending);
        let records = std::mem::take(&mut self.records);
        let epoch = self.core.leading().unwrap_or_default();
        let frame = Frame::seal(payload, records, epoch, self.tip.end, 0, self.tip.chain);
        self.busy = Some(Job::Write(frame.clone()));
        self.seal(&frame, None);
    }

    fn seal_barrier(&mut self, epoch: Epoch, version: u64) {
        let mut payload = Vec::new();
        let record = Record::Barrier { version };
        record.encode(&mut payload);
        let frame = Frame::seal(payload, 1, epoch, self.tip.end, 0, self.tip.chain);
        if let Some(store) = &mut self.store {
            store
                .apply_ahead(&record, frame.end())
                .expect("memory does not fail");
        }
        self.applied = Tip {
            end: frame.end(),
            chain: frame.chain(),
        };
        self.accepting = true;
        // Whoever leads has all: it goes on serving reads when another one leads.
        self.ready = true;
        self.busy = Some(Job::Write(frame.clone()));
        self.seal(&frame, Some(version));
    }

    /// The disk has done what it was doing. An error ends the process.
    pub(crate) fn finish_job(&mut self, now: Duration) -> Result<(), LogError> {
        self.now = now;
        let frames = match self.busy.take() {
            None => return Ok(()),
            Some(Job::Append(frames)) => frames,
            Some(Job::Write(frame)) => vec![frame],
            Some(job) => return self.finish_other(job),
        };
        self.log.append(&frames)?;
        let end = frames.last().map_or(Lsn::ZERO, Frame::end);
        self.drive_core(Input::Durable(end));
        self.acknowledge();
        // Its failure harms nothing, and it is durable now and then.
        let _ = self.log.note_durable();
        if end.0.is_multiple_of(7) {
            let _ = self.reader.settle();
        }
        Ok(())
    }

    fn finish_other(&mut self, job: Job) -> Result<(), LogError> {
        match job {
            Job::Save(hard) => {
                if self.bug != Bug::ForgetsPromise {
                    write_hard(&self.dir, hard).map_err(|_| LogError::Poisoned)?;
                }
                self.drive_core(Input::Saved(hard));
            }
            Job::Adopt(configuration) => {
                if !matches!(self.bug, Bug::ForgetsPromise | Bug::ForgetsAdopted) {
                    let saved = write_adopted(&self.dir, &configuration);
                    saved.map_err(|_| LogError::Poisoned)?;
                }
                self.drive_core(Input::Adopted(configuration));
            }
            Job::Beat => {
                self.log.beat()?;
                self.drive_core(Input::Beat);
            }
            Job::Truncate(to) => self.truncate(to)?,
            Job::Reset(seed) => {
                note_seeding(&self.dir, true).map_err(|_| LogError::Poisoned)?;
                self.replacing = Some(seed.shadow.clone());
                self.log.reset(seed.at, seed.history.clone(), seed.chain)?;
                self.replacing = None;
                self.going_back();
                self.store = None;
                (self.flush, self.running) = (None, None);
                let at = seed.at;
                self.tip = Tip {
                    end: at,
                    chain: seed.chain,
                };
                self.applied = Tip {
                    end: Lsn::ZERO,
                    chain: 0,
                };
                self.tail.clear();
                self.shadow = seed.shadow.clone();
                let history = seed.history.clone();
                self.out.push(Out::Seeded(seed));
                self.drive_core(Input::LogReset {
                    at,
                    oldest: at,
                    history,
                });
            }
            Job::Append(_) | Job::Write(_) | Job::Barrier { .. } => {
                unreachable!("those are frames")
            }
        }
        Ok(())
    }

    fn truncate(&mut self, to: Lsn) -> Result<(), LogError> {
        self.cutting = Some(to);
        self.log.truncate(to)?;
        self.cutting = None;
        let tip = self.log.tip();
        self.tip = Tip {
            end: to,
            chain: tip.chain,
        };
        self.shadow.split_off(&Lsn(to.0 + 1));
        let kept = self.tail.partition_point(|frame| frame.end() <= to);
        self.tail.truncate(kept);
        self.out.push(Out::Cut(to));
        if self.applied.end > to {
            self.rewind();
        }
        self.drive_core(Input::Truncated(to));
        Ok(())
    }

    /// The copied state takes the place of the one before.
    pub(crate) fn install(&mut self, now: Duration) {
        self.now = now;
        let Some(seed) = self.seed.take() else { return };
        let store = open_store(&seed.engine);
        let meta = store.meta().clone();
        self.going_back();
        assert_eq!(meta.flushed, seed.at, "the copy is the state at its LSN");
        self.applied = Tip {
            end: meta.flushed,
            chain: meta.chain,
        };
        self.store = Some(store);
        // The copy is in its place from here on, whatever becomes of the note.
        self.out.push(Out::Installed(seed.engine.clone()));
        if note_seeding(&self.dir, false).is_err() {
            self.out.push(Out::Failed);
        }
        self.drive_core(Input::SeedInstalled(seed.at));
        self.judge();
    }

    /// Brings the state forward by what is committed, and a new leader's by its whole log.
    pub(crate) fn apply(&mut self, now: Duration) {
        self.now = now;
        if self.accepting || self.store.is_none() {
            return;
        }
        let leading = self.core.leading().is_some();
        let to = if leading {
            self.tip.end
        } else if self.bug == Bug::AppliesUncommitted {
            self.core.last().lsn
        } else {
            self.core.commit()
        };
        if self.applied.end >= to {
            return;
        }
        for frame in self.unapplied() {
            if frame.end() > to {
                break;
            }
            self.apply_frame(&frame);
        }
        if !leading {
            self.drive_core(Input::Applied(self.applied.end));
            self.judge();
            self.acknowledge();
        }
    }

    fn unapplied(&self) -> Vec<Frame> {
        let from = self.applied.end;
        if self.tail.front().is_some_and(|first| first.start() <= from) {
            let at = self.tail.partition_point(|frame| frame.end() <= from);
            return self.tail.range(at..).cloned().collect();
        }
        let read = self.reader.read_from(from, 1 << 14);
        read.unwrap_or_else(|error| panic!("{} cannot apply from {from}: {error}", self.id))
    }

    fn apply_frame(&mut self, frame: &Frame) {
        assert_eq!(
            frame.start(),
            self.applied.end,
            "frames are applied in order"
        );
        assert_eq!(frame.prev_chain(), self.applied.chain, "and continue it");
        let leading = self.core.leading().is_some();
        let Some(store) = &mut self.store else { return };
        let payload = frame.payload();
        let (mut rest, mut lsn) = (&payload[..], frame.start());
        while !rest.is_empty() {
            let (record, used) = Record::decode(rest).expect("frames hold records");
            lsn = lsn.advance(used as u64);
            let applied = if leading {
                store.apply_ahead(&record, lsn)
            } else {
                store.apply(&record, lsn)
            };
            applied.expect("memory does not fail");
            rest = &rest[used..];
        }
        self.applied = Tip {
            end: frame.end(),
            chain: frame.chain(),
        };
        if leading {
            self.ahead.push_back(self.applied);
            self.released_ahead(self.core.released());
        }
    }

    /// Judges anew whether this follower is ready.
    pub(crate) fn judge(&mut self) {
        self.comes_forward();
        self.ready = self.core.judge_ready(self.ready, 1 << 20);
        if self.forgotten && !self.core.forgotten() {
            // It stays noted where the disk fails, which does no harm.
            self.forgotten = remember(&self.dir).is_err();
        }
    }

    /// Cuts the state, and brings a committed cut to disk, which is noticed later.
    fn begin_flush(&mut self) {
        if self.flush.is_none() {
            self.cut_state();
        }
        let core = &self.core;
        if let Some(job) = self.flush.take_if(|job| core.may_flush(job.cut())) {
            // Told now: the log could be cut below it while it runs.
            let cut = job.cut();
            self.drive_core(Input::Flushed(cut));
            let done = job.run().expect("memory does not fail");
            self.running = Some((done, cut));
        }
    }

    /// Goes on with a flush, or begins one; frees the log below it and `trim`.
    pub(crate) fn upkeep(&mut self, trim: Option<Lsn>, now: Duration) {
        self.now = now;
        let Some((done, cut)) = self.running.take() else {
            self.begin_flush();
            return;
        };
        let Some(store) = &mut self.store else { return };
        store.finish_flush(done).expect("it is of this store");
        while store.settle() {}
        drop(store.take_garbage());
        let trimmed = trim.is_some_and(|most| self.reader.trim(cut.min(most)).is_ok());
        if trimmed {
            self.drive_core(Input::Trimmed(self.reader.oldest()));
        }
    }
}
