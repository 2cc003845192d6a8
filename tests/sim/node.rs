//! One simulated replica: the real core, a log of frames of which a crash loses what was not
//! written yet, and a state that is nothing but the position up to which it was applied.

use std::collections::VecDeque;
use std::time::Duration;

use replicated_store::replication::message::Message;
use replicated_store::replication::{
    Core, Effect, Epoch, EpochHistory, HardState, Input, Lsn, Peer, Recovered, ReplicaId,
};

/// A frame of one record. The serial number tells it from every other one ever made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) epoch: Epoch,
    pub(crate) start: Lsn,
    pub(crate) end: Lsn,
    pub(crate) serial: u64,
}

/// What the disk does next, in order.
#[derive(Debug)]
pub(crate) enum Job {
    Save(HardState),
    Barrier(u64),
    Write(usize),
    Truncate(Lsn),
    Seed(Vec<Frame>, EpochHistory),
    Install(Lsn),
}

/// What the world must do.
#[derive(Debug)]
pub(crate) enum Out {
    Send(Peer, Message),
    Stream(Peer, Lsn),
    Close(Peer),
    Unfollow,
    FetchSeed(Peer),
    Promise { ticket: u64, granted: bool },
    Committed(Vec<Frame>),
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
struct Disk {
    hard: HardState,
    /// Frames before this index are gone from the log: they are only in the state.
    base: usize,
    flushed: Lsn,
    complete: bool,
}

/// A replica.
pub(crate) struct Node {
    pub(crate) id: ReplicaId,
    pub(crate) core: Option<Core>,
    /// Every frame from the beginning, those in the state included; the last ones may be volatile.
    pub(crate) frames: Vec<Frame>,
    written: usize,
    disk: Disk,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) accepting: bool,
    pub(crate) follows: Option<ReplicaId>,
    incoming: Vec<Frame>,
    reported: usize,
}

impl Node {
    pub(crate) fn new(id: ReplicaId) -> Self {
        let disk = Disk {
            complete: true,
            ..Disk::default()
        };
        let mut node = Self {
            id,
            core: None,
            frames: Vec::new(),
            written: 0,
            disk,
            jobs: VecDeque::new(),
            accepting: false,
            follows: None,
            incoming: Vec::new(),
            reported: 0,
        };
        node.start();
        node
    }

    fn history(&self) -> EpochHistory {
        let mut history = EpochHistory::default();
        for frame in &self.frames {
            history.append(frame.epoch, frame.start);
        }
        history
    }

    fn end(&self) -> Lsn {
        self.frames.last().map_or(Lsn::ZERO, |frame| frame.end)
    }

    /// Starts from what is on the disk.
    pub(crate) fn start(&mut self) {
        let oldest = if self.disk.base == 0 {
            Lsn::ZERO
        } else {
            self.frames[self.disk.base - 1].end
        };
        let recovered = Recovered {
            hard: self.disk.hard,
            history: self.history(),
            end: self.end(),
            oldest,
            flushed: if self.disk.complete {
                self.disk.flushed
            } else {
                Lsn::ZERO
            },
            complete: self.disk.complete,
        };
        self.core = Some(Core::new(self.id, recovered, Duration::ZERO));
    }

    /// Loses what is not written. `keep` volatile frames were just written, though nobody knows.
    pub(crate) fn crash(&mut self, keep: usize) {
        self.core = None;
        self.written = (self.written + keep).min(self.frames.len());
        self.frames.truncate(self.written);
        self.jobs.clear();
        self.accepting = false;
        self.follows = None;
        self.incoming.clear();
        self.reported = 0;
    }

    pub(crate) fn volatile(&self) -> usize {
        self.frames.len() - self.written
    }

    /// Drives the core, and carries out what is inside of this replica.
    pub(crate) fn step(&mut self, input: Input, now: Duration) -> Vec<Out> {
        let Some(core) = &mut self.core else {
            return Vec::new();
        };
        let effects = core.step(input, now);
        let mut out = Vec::new();
        for effect in effects {
            self.carry_out(effect, &mut out);
        }
        self.incoming.clear();
        out
    }

    fn carry_out(&mut self, effect: Effect, out: &mut Vec<Out>) {
        match effect {
            Effect::Save(hard) => self.jobs.push_back(Job::Save(hard)),
            Effect::AppendBarrier { version, .. } => {
                self.jobs.push_back(Job::Barrier(version));
            }
            Effect::Truncate(to) => self.jobs.push_back(Job::Truncate(to)),
            Effect::AnswerPromise {
                ticket, granted, ..
            } => out.push(Out::Promise { ticket, granted }),
            Effect::Lead(_)
            | Effect::Hold
            | Effect::Resume
            | Effect::Beat
            | Effect::RefuseSwitchover { .. } => {}
            Effect::StepDown => {
                self.accepting = false;
                self.jobs.retain(|job| !matches!(job, Job::Barrier(..)));
            }
            Effect::Follow(id) => self.follows = Some(id),
            Effect::Unfollow => {
                self.follows = None;
                out.push(Out::Unfollow);
            }
            Effect::Send(peer, message) => out.push(Out::Send(peer, message)),
            Effect::Stream { peer, from } => out.push(Out::Stream(peer, from)),
            Effect::Close(peer, _) => out.push(Out::Close(peer)),
            Effect::Take(_) => {
                let frames = std::mem::take(&mut self.incoming);
                self.jobs.push_back(Job::Write(frames.len()));
                self.frames.extend(frames);
            }
            Effect::FetchSeed { peer, .. } => out.push(Out::FetchSeed(peer)),
            Effect::Commit(lsn) => {
                let to = self.frames.partition_point(|frame| frame.end <= lsn);
                if to > self.reported {
                    out.push(Out::Committed(self.frames[self.reported..to].to_vec()));
                    self.reported = to;
                }
            }
        }
    }

    /// A leader appends one frame; `None` if it does not take writes.
    pub(crate) fn append(
        &mut self,
        serial: u64,
        barrier: Option<u64>,
        now: Duration,
    ) -> Option<Vec<Out>> {
        let epoch = self.core.as_ref()?.leading()?;
        if !self.accepting && barrier.is_none() {
            return None;
        }
        let start = self.end();
        let end = start.advance(1 + serial % 7);
        self.frames.push(Frame {
            epoch,
            start,
            end,
            serial,
        });
        self.jobs.push_back(Job::Write(1));
        let barrier = barrier.map(|version| (version, end));
        Some(self.step(Input::Sealed { end, barrier }, now))
    }

    /// Offers frames of the leader to the core.
    pub(crate) fn offer(&mut self, peer: Peer, frames: Vec<Frame>, now: Duration) -> Vec<Out> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Vec::new();
        };
        let (start, end) = (first.start, last.end);
        let mut epochs: Vec<(Epoch, Lsn)> = Vec::new();
        for frame in &frames {
            if epochs.last().is_none_or(|(epoch, _)| *epoch != frame.epoch) {
                epochs.push((frame.epoch, frame.start));
            }
        }
        self.incoming = frames;
        self.step(
            Input::Frames {
                peer,
                start,
                epochs,
                end,
            },
            now,
        )
    }

    /// The disk finishes one thing.
    pub(crate) fn work(&mut self, serial: u64, now: Duration) -> Vec<Out> {
        match self.jobs.pop_front() {
            None => Vec::new(),
            Some(Job::Save(hard)) => {
                self.disk.hard = hard;
                self.step(Input::Saved(hard), now)
            }
            Some(Job::Barrier(version)) => {
                let out = self.append(serial, Some(version), now).unwrap_or_default();
                self.accepting = true;
                out
            }
            Some(Job::Write(count)) => {
                self.written += count;
                let end = self.frames[self.written - 1].end;
                self.step(Input::Durable(end), now)
            }
            Some(Job::Truncate(to)) => {
                let kept = self.frames.partition_point(|frame| frame.end <= to);
                self.frames.truncate(kept);
                self.written = kept;
                self.reported = self.reported.min(kept);
                self.step(Input::Truncated(to), now)
            }
            Some(Job::Seed(frames, history)) => {
                let at = frames.last().map_or(Lsn::ZERO, |frame| frame.end);
                self.written = frames.len();
                self.reported = frames.len();
                self.disk.base = frames.len();
                self.disk.complete = false;
                self.frames = frames;
                self.jobs.push_back(Job::Install(at));
                self.step(
                    Input::LogReset {
                        at,
                        oldest: at,
                        history,
                    },
                    now,
                )
            }
            Some(Job::Install(at)) => {
                self.disk.complete = true;
                self.disk.flushed = at;
                self.step(Input::SeedInstalled(at), now)
            }
        }
    }

    /// Brings the committed state to disk, and frees the log below it.
    pub(crate) fn flush(&mut self, trim: bool, now: Duration) -> Vec<Out> {
        let Some(core) = &self.core else {
            return Vec::new();
        };
        let commit = core.commit();
        if !core.view().complete || commit <= self.disk.flushed {
            return Vec::new();
        }
        self.disk.flushed = commit;
        let mut out = self.step(Input::Flushed(commit), now);
        if trim {
            self.disk.base = self.frames.partition_point(|frame| frame.end <= commit);
            out.extend(self.step(Input::Trimmed(commit), now));
        }
        out
    }

    /// The frames after `from` of the log, volatile ones included; `None` if they are gone.
    pub(crate) fn after(&self, from: Lsn, most: usize) -> Option<Vec<Frame>> {
        let at = self.frames.partition_point(|frame| frame.end <= from);
        if at < self.disk.base && from < self.frames[self.disk.base - 1].end {
            return None;
        }
        Some(self.frames[at..].iter().take(most).cloned().collect())
    }

    /// A snapshot: the committed frames, which stand for the state.
    pub(crate) fn snapshot(&self) -> Option<(Vec<Frame>, EpochHistory)> {
        let core = self.core.as_ref()?;
        let view = core.view();
        if !view.complete {
            return None;
        }
        let to = self
            .frames
            .partition_point(|frame| frame.end <= view.commit);
        let frames = self.frames[..to].to_vec();
        let mut history = EpochHistory::default();
        for frame in &frames {
            history.append(frame.epoch, frame.start);
        }
        Some((frames, history))
    }
}
