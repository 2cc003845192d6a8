//! What surrounds the cores while something happens: carries their effects out until all that is
//! not slow has come to rest.

use std::collections::VecDeque;
use std::time::Duration;

use crate::check;
use crate::reached::{Reached, mark};
use crate::replication::message::Message;
use crate::replication::{Effect, Epoch, Input, Lease, Lsn};
use crate::scope::Scope;
use crate::state::{Answer, FOLLOWER, Job, LEADER, Record, Replica, State, chain};

/// What was found to be wrong.
pub(crate) type Violation = String;

/// Where clocks stand in the beginning: whatever a start may have granted is over.
const BEGINNING: u64 = 100_000_000;
/// Microseconds of a step of the clocks: with the rates at their bounds, two of them are just
/// longer than a lease to a voter, and just longer than its leader believes in it.
const STEP: u64 = 496_000;

pub(crate) const LEASE: Duration = Duration::from_secs(1);

pub(crate) struct World<'a> {
    pub(crate) state: State,
    pub(crate) scope: &'a Scope,
    /// What cores are to be told before anything else happens.
    pub(crate) inbox: VecDeque<(usize, Input)>,
    pub(crate) wrong: Option<Violation>,
}

impl<'a> World<'a> {
    pub(crate) fn new(state: State, scope: &'a Scope) -> Self {
        Self {
            state,
            scope,
            inbox: VecDeque::new(),
            wrong: None,
        }
    }

    pub(crate) fn tell(&mut self, slot: usize, input: Input) {
        self.inbox.push_back((slot, input));
    }

    pub(crate) fn blame(&mut self, wrong: impl FnOnce() -> Violation) {
        self.wrong.get_or_insert_with(wrong);
    }

    /// Goes on until all that is fast has come to rest; tells what is wrong then.
    pub(crate) fn settle(mut self) -> Result<State, Violation> {
        self.state.note_held();
        while self.wrong.is_none() && self.go_on() {
            self.state.note_held();
        }
        match self.wrong {
            Some(wrong) => Err(wrong),
            None => check::state(&self.state, self.scope).map(|()| self.state),
        }
    }

    fn go_on(&mut self) -> bool {
        if let Some((slot, input)) = self.inbox.pop_front() {
            self.drive(slot, input);
            return true;
        }
        let mut replicas = self.state.replicas.iter();
        if let Some(slot) = replicas.position(|it| !it.slow && !it.jobs.is_empty()) {
            self.work(slot);
            return true;
        }
        for (index, it) in self.state.connections.iter().enumerate() {
            let fast = |end: &usize| !it.slow[*end] && !it.queues[*end].is_empty();
            if let Some(end) = [FOLLOWER, LEADER].into_iter().find(fast) {
                self.deliver(index, end);
                return true;
            }
        }
        false
    }

    pub(crate) fn drive(&mut self, slot: usize, input: Input) {
        let now = local(self.scope, self.state.time, slot);
        let core = &mut self.state.replica(slot).core;
        let led = core.leading().is_some();
        let effects = core.step(input, now);
        for effect in effects {
            match effect {
                Effect::Commit(lsn) => self.committed(slot, lsn, led),
                Effect::Release(lsn) if self.scope.block > 0 => self.released(slot, lsn, led),
                effect => self.carry_out(slot, effect),
            }
        }
        self.recollect(slot);
        self.pump(slot, false);
        self.acknowledge(slot);
    }

    fn carry_out(&mut self, slot: usize, effect: Effect) {
        match effect {
            Effect::Save(hard) => self.queue(slot, Job::Save(hard)),
            Effect::Adopt(configuration) => self.queue(slot, Job::Adopt(configuration)),
            Effect::SendResume { peer, point } => {
                let chain = self.chain_at(slot, point);
                self.send(slot, peer, Message::Resume { point, chain });
            }
            Effect::SendSeed { peer, point } => {
                let chain = self.chain_at(slot, point);
                self.send(slot, peer, Message::Seed { point, chain });
            }
            Effect::Compare { peer, point, chain } => {
                let ours = self.chain_at(slot, point);
                let equal = ours.is_some() && ours == chain;
                self.tell(slot, Input::Compared { peer, point, equal });
            }
            Effect::AppendBarrier { epoch, version } => {
                self.queue(slot, Job::Barrier(epoch, version));
            }
            Effect::Truncate(to) => self.queue(slot, Job::Truncate(to)),
            Effect::AnswerPromise {
                ticket,
                granted,
                before,
                leases,
            } => self.answer(slot, ticket, granted, before, &leases),
            Effect::Hold => self.tell(slot, Input::Quiet),
            Effect::Beat => self.tell(slot, Input::Beat),
            Effect::Lead(epoch) => self.reign(slot, epoch),
            Effect::StepDown => self.step_down(slot),
            Effect::Follow(leader) => self.state.replica(slot).follows = Some(leader),
            Effect::Unfollow => self.unfollow(slot),
            Effect::Send(peer, message) => self.send(slot, peer, message),
            Effect::Stream { peer, from } => self.stream(slot, peer, from),
            Effect::Close(peer, _) => self.close(slot, peer),
            Effect::FetchSeed { peer, point, chain } => self.fetch_seed(slot, peer, point, chain),
            // What is committed has been looked at, and frames are taken where they are offered.
            Effect::Commit(_)
            | Effect::Release(_)
            | Effect::Take(_)
            | Effect::Refuse { .. }
            | Effect::Resume => {}
        }
    }

    fn chain_at(&self, slot: usize, point: Lsn) -> Option<u32> {
        let log = &self.state.replicas[slot].log;
        log.get(..point.0 as usize).map(chain)
    }

    fn queue(&mut self, slot: usize, job: Job) {
        self.state.replica(slot).jobs.push_back(job);
    }

    /// The answers of requests that were made from an older register are of no use.
    fn answer(&mut self, slot: usize, ticket: u64, granted: bool, before: Epoch, leases: &[Lease]) {
        if !granted || ticket != self.state.campaign() {
            return;
        }
        let watched = self.state.watched;
        let told = |epoch| if watched { epoch } else { Epoch(0) };
        let cut = self.state.replicas[slot].core.view().hard.cut;
        if !self.state.asked[slot] {
            mark(Reached::MadeRoom);
        }
        let left = |lease: &Lease| (lease.holder, lease.left.as_micros().div_ceil(1000) as u64);
        let answer = Answer {
            last: self.state.replicas[slot].core.last(),
            before: told(before),
            cut: told(cut),
            forgotten: self.state.replicas[slot].core.forgotten(),
            leases: leases.iter().map(left).collect(),
        };
        let expected = self.state.disturbed || answer.forgotten;
        if !expected && !self.state.is_whole(slot, &answer) {
            self.blame(|| format!("{slot} does not count, and its disk is what it was"));
        }
        self.state.answers[slot] = Some(answer);
    }

    fn reign(&mut self, slot: usize, epoch: Epoch) {
        let life = self.state.replicas[slot].life;
        if self.state.reigns.iter().any(|(known, ..)| *known == epoch) {
            self.blame(|| format!("epoch {epoch} is led by a second process: that of {slot}"));
        }
        self.state.reigns.push((epoch, slot, life));
    }

    fn step_down(&mut self, slot: usize) {
        for connection in &mut self.state.connections {
            if connection.ends[LEADER] == slot {
                connection.stream = None;
            }
        }
        let jobs = &mut self.state.replica(slot).jobs;
        jobs.retain(|job| !matches!(job, Job::Barrier(..)));
    }

    /// What one replica holds for committed, all do; a leader alone may be the first to know.
    fn committed(&mut self, slot: usize, lsn: Lsn, led: bool) {
        let replica = &self.state.replicas[slot];
        let known = &mut self.state.committed;
        let own: &[Record] = &replica.log[..(lsn.0 as usize).min(replica.log.len())];
        let both = own.len().min(known.len());
        if self.scope.lossy() {
            return;
        }
        if own[..both] != known[..both] {
            self.blame(|| format!("{slot} commits {lsn}, and not what was committed before"));
        } else if own.len() > both {
            if led {
                known.extend_from_slice(&own[both..]);
            } else {
                self.blame(|| format!("{slot} commits {lsn}, which no leader has"));
            }
        }
    }

    /// From now on replies may rest on this: so many others must have it, a leader alone may say so.
    fn released(&mut self, slot: usize, lsn: Lsn, led: bool) {
        let to = lsn.0 as usize;
        if to <= self.state.released {
            return;
        }
        if !led {
            self.blame(|| format!("{slot} shows {lsn}, which no leader does"));
            return;
        }
        let records = &self.state.replicas[slot].log[..to];
        // Barriers show nothing.
        let shown = records.iter().rposition(|it| it.barrier == 0);
        let shown = &records[..shown.map_or(0, |at| at + 1)];
        let holds = |it: &Replica| {
            it.disk.complete && it.disk.length >= shown.len() && it.log.starts_with(shown)
        };
        // Who has said so may have lost its disk since.
        let lost = self.state.lost.iter().filter(|it| **it >= shown.len());
        let holders = self.state.replicas.iter().filter(|it| holds(it)).count() + lost.count();
        let more = shown.len() > self.state.released;
        if self.state.replicas[slot].core.configuration().voters.len() == 1 {
            mark(Reached::ReleasedByLearner);
        }
        self.state.released = to;
        if more && holders <= self.scope.block as usize {
            self.blame(|| format!("{slot} shows {lsn}, which {holders} replicas hold"));
        }
    }

    /// A leader puts a record into its log.
    pub(crate) fn append(&mut self, slot: usize, epoch: Epoch, barrier: u64) {
        let replica = self.state.replica(slot);
        replica.log.push(Record {
            epoch,
            writer: slot,
            life: replica.life,
            barrier,
        });
        let length = replica.log.len();
        replica.jobs.push_back(Job::Write(length));
        let end = Lsn(length as u64);
        let barrier = (barrier > 0).then_some((barrier, end));
        self.drive(slot, Input::Sealed { end, barrier });
    }
}

/// What the clock of a replica shows: they run at different rates.
pub(crate) fn local(scope: &Scope, time: u32, slot: usize) -> Duration {
    let percent = (100 + scope.rates[slot]) as u64;
    Duration::from_micros(BEGINNING + u64::from(time) * STEP * percent / 100)
}
