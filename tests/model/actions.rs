//! What may happen in a state.

use crate::network::FAST;
use crate::reached::{Reached, mark};
use crate::replication::ReplicaId;
use crate::state::{FOLLOWER, LEADER, State};

/// Replicas by their slots, connections by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The register is handed to a replica.
    Configure(usize),
    ConfigureOlder(usize),
    Ask(usize),
    Elect {
        leader: usize,
        wait: u64,
        given_up: Option<ReplicaId>,
    },
    /// What the register replaced is forgotten.
    Forget,
    Add(usize),
    Remove(ReplicaId),
    Sync(u32),
    Switchover(usize, ReplicaId),
    /// The register is what it was before.
    Restore,
    /// The register is deleted.
    Gone,
    /// A follower connects to its leader; messages to either end may be slow.
    Connect(usize, [bool; 2]),
    Break(usize, usize),
    Slow(usize, usize),
    Deliver(usize, usize),
    SlowDisk(usize),
    Work(usize),
    /// What is to be saved overtakes what is on its way to the log.
    Overtake(usize),
    Write(usize),
    Beat(usize),
    Time,
    Crash(usize),
    Lose(usize),
    /// The state is brought to disk.
    Flush(usize),
    /// And the log below it is freed.
    Trim(usize),
    Install(usize),
    Stop(usize),
    Start(usize),
    /// Its log is found to be damaged at a start.
    Damage(usize),
    /// A copy of a disk is kept.
    Save(usize),
    /// It is put back.
    PutBack(usize),
    /// A copy of the first one's disk takes the place of the second one's.
    Copy(usize, usize),
    /// The disk of another store takes the place; it remembers whose it is, or does not.
    Foreign(usize, bool),
    /// A request for a promise that was meant for another.
    Stray(usize),
}

impl State {
    /// Everything that may happen now.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut found = Vec::new();
        self.of_operators(&mut found);
        for slot in 0..self.replicas.len() {
            if self.replicas[slot].up {
                self.of_replica(slot, &mut found);
            }
            self.of_fate(slot, &mut found);
        }
        for index in 0..self.connections.len() {
            self.of_connection(index, &mut found);
        }
        if self.left.time > 0 {
            found.push(Action::Time);
        }
        found
    }

    fn of_operators(&self, found: &mut Vec<Action>) {
        if self.left.restores > 0 && self.older.version < self.register.version {
            found.push(Action::Restore);
        }
        if self.left.gone > 0 && self.register.version > 0 {
            found.push(Action::Gone);
        }
        if self.duplicate() {
            return;
        }
        if self.left.promotions > 0 {
            self.elections(found);
        }
        if self.unsettled() {
            mark(Reached::Refused);
            return;
        }
        if self.may_forget() {
            found.push(Action::Forget);
        }
        let voters = &self.register.voters;
        if self.may_change() {
            let ready = |slot: &usize| {
                let replica = &self.replicas[*slot];
                let view = replica.core.view();
                view.streaming && view.complete && !voters.contains(&replica.id)
            };
            let learners = (0..self.replicas.len()).filter(ready);
            found.extend(learners.map(Action::Add));
            let others = voters
                .iter()
                .filter(|id| Some(**id) != self.register.leader);
            found.extend(others.map(|id| Action::Remove(*id)));
            if voters.len() > 2 {
                let (one, two) = (Action::Sync(1), Action::Sync(2));
                found.push(if self.register.sync == 1 { two } else { one });
            }
        }
    }

    fn of_replica(&self, slot: usize, found: &mut Vec<Action>) {
        let replica = &self.replicas[slot];
        let (core, left) = (&replica.core, &self.left);
        let known = core.configuration().version;
        if known < self.register.version && self.may_be_told(slot) {
            found.push(Action::Configure(slot));
        }
        if left.stale > 0 && known != self.older.version {
            found.push(Action::ConfigureOlder(slot));
        }
        let wanted = left.promotions > 0 && self.is_asked(replica.id);
        if wanted && !self.asked[slot] && self.answers[slot].is_none() {
            found.push(Action::Ask(slot));
        }
        self.of_process(slot, found);
        if !replica.jobs.is_empty() {
            found.push(Action::Work(slot));
            if replica.overtaking().is_some() {
                found.push(Action::Overtake(slot));
            }
        } else if left.slow > 0 && !replica.slow {
            found.push(Action::SlowDisk(slot));
        }
        if replica.seed.is_some() && replica.jobs.is_empty() {
            found.push(Action::Install(slot));
        }
        if left.crashes > 0 {
            found.push(Action::Crash(slot));
        }
        let cut = replica.flushable();
        let unflushed = cut > replica.disk.flushed && replica.disk.complete;
        if left.flushes > 0 && unflushed && core.may_flush(cut) {
            found.push(Action::Flush(slot));
        }
        if left.damages > 0 && !replica.disk.forgotten {
            found.push(Action::Damage(slot));
        }
        if left.losses > 0 {
            found.push(Action::Lose(slot));
        }
    }

    fn of_process(&self, slot: usize, found: &mut Vec<Action>) {
        let replica = &self.replicas[slot];
        let (core, left) = (&replica.core, &self.left);
        let mut connections = self.connections.iter();
        let connected = connections.any(|it| it.ends[FOLLOWER] == slot && it.open[FOLLOWER]);
        let leader = replica.follows.and_then(|id| self.slot_of(id));
        if leader.is_some() && !connected {
            found.push(Action::Connect(slot, FAST));
            if left.slow > 0 {
                found.push(Action::Connect(slot, [true, false]));
                found.push(Action::Connect(slot, [false, true]));
            }
        }
        if core.leading().is_none() {
            return;
        }
        let begun = replica
            .log
            .last()
            .is_some_and(|last| Some(last.epoch) == core.leading());
        if begun && left.writes > 0 {
            found.push(Action::Write(slot));
        }
        if left.trims > 0 && replica.flushable() > core.oldest() {
            found.push(Action::Trim(slot));
        }
        if left.switchovers > 0 {
            let others = self.register.voters.iter().filter(|id| **id != replica.id);
            found.extend(others.map(|id| Action::Switchover(slot, *id)));
        }
        found.push(Action::Beat(slot));
    }

    fn of_connection(&self, index: usize, found: &mut Vec<Action>) {
        let connection = &self.connections[index];
        for end in [FOLLOWER, LEADER] {
            let open = connection.open[end];
            if !connection.queues[end].is_empty() {
                found.push(Action::Deliver(index, end));
            } else if open && self.left.slow > 0 && !connection.slow[end] {
                found.push(Action::Slow(index, end));
            }
            // Where nothing is on its way, it makes no difference who closes it.
            let same = end == LEADER && connection.slow == FAST;
            if open && self.left.breaks > 0 && !same {
                found.push(Action::Break(index, end));
            }
        }
    }
}
