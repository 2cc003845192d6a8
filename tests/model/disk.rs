//! What replicas do with their disks, and how they start on them.

use std::rc::Rc;
use std::time::Duration;

use crate::reached::{Reached, mark};
use crate::replication::{Addressee, Core, Effect, Epoch, Input, Lsn, Peer, Recovered, ReplicaId};
use crate::state::{self, Disk, Job, LEADER, Replica, history};
use crate::switch::{number, on};
use crate::world::{LEASE, World, local};

const ANY_SEED: usize = number("a seed goes on with a log that parts from the leader's");

impl Replica {
    pub(crate) fn new(id: ReplicaId, complete: bool, block: u32) -> Self {
        let disk = Disk::new(complete, LEASE);
        let found = Recovered {
            hard: disk.hard,
            complete,
            ..Recovered::default()
        };
        Self {
            id,
            core: started(id, found, Duration::ZERO, block),
            log: Vec::new(),
            disk,
            jobs: std::collections::VecDeque::new(),
            slow: false,
            life: 0,
            follows: None,
            seed: None,
            up: true,
        }
    }

    /// What it takes to be chosen.
    pub(crate) fn promise(&mut self, epoch: Epoch) {
        let (ticket, to) = (u64::MAX, Addressee::default());
        let ask = Input::Promise { epoch, ticket, to };
        let start = std::time::Duration::ZERO;
        for effect in self.core.step(ask, start) {
            if let Effect::Save(hard) = effect {
                self.disk.hard = hard;
                self.core.step(Input::Saved(hard), start);
            }
        }
    }

    /// A process that starts on what is on the disk.
    pub(crate) fn started(&self, now: Duration, block: u32) -> Core {
        let disk = &self.disk;
        let found = Recovered {
            hard: disk.hard,
            history: history(&self.log),
            end: Lsn(disk.length as u64),
            oldest: disk.oldest,
            flushed: if disk.complete {
                disk.flushed
            } else {
                Lsn::ZERO
            },
            complete: disk.complete,
            adopted: disk.adopted.clone(),
            forgotten: disk.forgotten,
        };
        started(self.id, found, now, block)
    }
}

impl Replica {
    /// The hard state that could be saved before the log is written: they are different files.
    pub(crate) fn overtaking(&self) -> Option<usize> {
        let at = self
            .jobs
            .iter()
            .position(|job| matches!(job, Job::Save(_)))?;
        let written = |job: &Job| matches!(job, Job::Write(_));
        (at > 0 && self.jobs.iter().take(at).all(written)).then_some(at)
    }
}

impl Replica {
    /// Up to where the state may be brought to disk: what is committed, if the core lets it.
    pub(crate) fn flushable(&self) -> Lsn {
        let (core, commit) = (&self.core, self.core.commit());
        if core.may_flush(commit) {
            commit
        } else {
            core.released()
        }
    }
}

/// A process, with what the user wants of replies.
fn started(id: ReplicaId, found: Recovered, now: Duration, block: u32) -> Core {
    let mut core = Core::new(id, found, now);
    core.step(Input::SetReplySync(block), now);
    core
}

impl World<'_> {
    /// The disk of a replica does the next thing that it is to do.
    pub(crate) fn work(&mut self, slot: usize) {
        let replica = self.state.replica(slot);
        let Some(job) = replica.jobs.pop_front() else {
            return;
        };
        match job {
            Job::Save(hard) => {
                replica.disk.hard = hard;
                self.drive(slot, Input::Saved(hard));
            }
            Job::Adopt(configuration) => {
                replica.disk.adopted = configuration.clone();
                self.drive(slot, Input::Adopted(configuration));
            }
            Job::Write(length) => {
                replica.disk.length = length;
                self.drive(slot, Input::Durable(Lsn(length as u64)));
            }
            Job::Barrier(epoch, version) => self.append(slot, epoch, version),
            Job::Truncate(to) => {
                if to < replica.core.commit() && !self.scope.lossy() {
                    self.blame(|| format!("{slot} truncates to {to} what is committed"));
                    return;
                }
                mark(Reached::Truncated);
                replica.log.truncate(to.0 as usize);
                replica.disk.length = replica.log.len();
                self.drive(slot, Input::Truncated(to));
            }
            Job::Reset(log) => {
                let at = Lsn(log.len() as u64);
                let history = history(&log);
                replica.disk.length = log.len();
                replica.disk.oldest = at;
                replica.disk.flushed = Lsn::ZERO;
                replica.disk.complete = false;
                replica.log = log;
                replica.seed = Some(at);
                let oldest = at;
                self.drive(
                    slot,
                    Input::LogReset {
                        at,
                        oldest,
                        history,
                    },
                );
            }
        }
    }

    /// A snapshot of what the leader has released, if it leads still; one at a time.
    pub(crate) fn fetch_seed(&mut self, slot: usize, peer: Peer, point: Lsn, chain: Option<u32>) {
        if self.goes_on(slot, point, chain) {
            return;
        }
        let mut connections = self.state.connections.iter();
        let Some(connection) = connections.find(|it| it.peer == peer) else {
            return;
        };
        let source = &self.state.replicas[connection.ends[LEADER]];
        let mut jobs = self.state.replicas[slot].jobs.iter();
        let under_way = jobs.any(|job| matches!(job, Job::Reset(_)));
        if source.core.leading().is_some() && !under_way {
            let log = source.log[..source.core.released().0 as usize].to_vec();
            self.state.replica(slot).jobs.push_back(Job::Reset(log));
        }
    }

    /// A snapshot that is being copied, under an earlier leader perhaps, goes on with the log that came
    /// meanwhile, if this leader has all of that.
    fn goes_on(&mut self, slot: usize, point: Lsn, chain: Option<u32>) -> bool {
        let replica = self.state.replica(slot);
        let (at, oldest) = (replica.core.end(), replica.disk.oldest);
        let quiet = replica.seed.is_some() && replica.jobs.is_empty();
        let same = point == at && chain == Some(state::chain(&replica.log));
        if !quiet || !(same || on(ANY_SEED)) {
            return false;
        }
        mark(Reached::SeedGoesOn);
        let history = history(&replica.log);
        let input = Input::LogReset {
            at,
            oldest,
            history,
        };
        self.tell(slot, input);
        true
    }

    /// The snapshot is copied.
    pub(crate) fn install(&mut self, slot: usize) {
        let replica = self.state.replica(slot);
        let Some(at) = replica.seed.take() else {
            return;
        };
        mark(Reached::Seeded);
        replica.disk.complete = true;
        replica.disk.flushed = at;
        let records = &self.state.replicas[slot].log[..at.0 as usize];
        if !self.state.committed.starts_with(records) && !self.scope.lossy() {
            self.blame(|| format!("the snapshot of {slot} holds what is not committed"));
        }
        self.tell(slot, Input::SeedInstalled(at));
    }

    /// The state is brought to disk, as far as it may be.
    pub(crate) fn flush(&mut self, slot: usize) {
        let replica = self.state.replica(slot);
        let cut = replica.flushable();
        replica.disk.flushed = cut;
        self.tell(slot, Input::Flushed(cut));
    }

    /// A leader frees the log that its followers had.
    pub(crate) fn trim(&mut self, slot: usize) {
        self.flush(slot);
        let replica = self.state.replica(slot);
        let cut = replica.flushable();
        replica.disk.oldest = cut;
        self.tell(slot, Input::Trimmed(cut));
    }

    /// The process ends, with all that was not on disk, and another one starts.
    pub(crate) fn restart(&mut self, slot: usize) {
        self.hang_up(slot);
        let now = local(self.scope, self.state.time, slot);
        let replica = self.state.replica(slot);
        replica.log.truncate(replica.disk.length);
        replica.life += 1;
        replica.core = replica.started(now, self.scope.block);
        replica.jobs.clear();
        replica.slow = false;
        replica.follows = None;
        replica.seed = None;
        self.state.asked[slot] = false;
    }

    /// The log is damaged: an empty one takes its place, and the state is fetched anew. What was promised is known.
    pub(crate) fn damage(&mut self, slot: usize) {
        mark(Reached::Damaged);
        let disk = &mut self.state.replica(slot).disk;
        (disk.length, disk.complete, disk.forgotten) = (0, false, true);
        (disk.oldest, disk.flushed) = (Lsn::ZERO, Lsn::ZERO);
        // No campaign lasts as long as a start on a damaged log.
        self.state.answers[slot] = None;
        self.restart(slot);
    }

    /// A replica whose log was damaged applies what it has, and counts again once it has all that its leader has.
    pub(crate) fn recollect(&mut self, slot: usize) {
        if !self.state.replicas[slot].disk.forgotten {
            return;
        }
        let now = local(self.scope, self.state.time, slot);
        let replica = self.state.replica(slot);
        let end = Lsn(replica.disk.length as u64);
        replica.core.step(Input::Applied(end), now);
        replica.core.judge_ready(false, 0);
        if !replica.core.forgotten() {
            mark(Reached::Recollected);
            replica.disk.forgotten = false;
        }
    }

    /// The disk is gone, and a new replica takes the place.
    pub(crate) fn lose(&mut self, slot: usize, id: ReplicaId) {
        self.hang_up(slot);
        let old = &self.state.replicas[slot];
        let life = old.life + 1;
        if self.scope.block > 0 && old.disk.complete {
            self.state.lost.push(old.disk.length);
        }
        let replica = Replica::new(id, true, self.scope.block);
        self.state.replicas[slot] = Rc::new(Replica { life, ..replica });
        self.state.answers[slot] = None;
        self.state.asked[slot] = false;
    }
}
