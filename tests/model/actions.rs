//! What may happen in a state, and what comes of it.

use crate::network::FAST;
use crate::replication::{Input, ReplicaId};
use crate::scope::Scope;
use crate::state::{Budget, FOLLOWER, LEADER, State};
use crate::switch::{number, on};
use crate::world::{Violation, World};

const SAME_NAME: usize = number("operator: a lost disk comes back under its old name");

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
    Restore,
    /// A follower connects to its leader; messages to either end may be slow.
    Connect(usize, [bool; 2]),
    Break(usize, usize),
    Slow(usize, usize),
    Deliver(usize, usize),
    SlowDisk(usize),
    Work(usize),
    Write(usize),
    Beat(usize),
    Time,
    Crash(usize),
    Lose(usize),
    Trim(usize),
    Install(usize),
}

impl State {
    /// Everything that may happen now.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut found = Vec::new();
        // Before a register can have been put back nothing need be looked at.
        if !self.put_back || !self.restored() {
            self.of_operators(&mut found);
        }
        for slot in 0..self.replicas.len() {
            self.of_replica(slot, &mut found);
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
        if self.left.promotions > 0 {
            self.elections(found);
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
        if self.left.restores > 0 && self.older.version < self.register.version {
            found.push(Action::Restore);
        }
    }

    fn of_replica(&self, slot: usize, found: &mut Vec<Action>) {
        let replica = &self.replicas[slot];
        let (core, left) = (&replica.core, &self.left);
        let known = core.configuration().version;
        if known < self.register.version {
            found.push(Action::Configure(slot));
        }
        if left.stale > 0 && known != self.older.version {
            found.push(Action::ConfigureOlder(slot));
        }
        let asked = left.promotions > 0 && self.named().contains(&replica.id);
        if asked && !self.asked[slot] && self.answers[slot].is_none() {
            found.push(Action::Ask(slot));
        }
        self.of_process(slot, found);
        if !replica.jobs.is_empty() {
            found.push(Action::Work(slot));
        } else if left.slow > 0 && !replica.slow {
            found.push(Action::SlowDisk(slot));
        }
        if replica.seed.is_some() && replica.jobs.is_empty() {
            found.push(Action::Install(slot));
        }
        if left.crashes > 0 {
            found.push(Action::Crash(slot));
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
        if left.trims > 0 && core.commit() > core.oldest() {
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

    /// What comes of it.
    pub(crate) fn apply(&self, action: Action, scope: &Scope) -> Result<Self, Violation> {
        let mut world = World::new(self.clone(), scope);
        world.act(action);
        let mut next = world.settle()?;
        self.hurry(action, &mut next);
        next.hear();
        Ok(next)
    }

    /// What has done all that it was to do is no longer slow.
    fn hurry(&self, action: Action, next: &mut Self) {
        match action {
            Action::Deliver(index, end) => {
                let peer = self.connections[index].peer;
                let mut connections = next.connections.iter_mut();
                if let Some(same) = connections.find(|it| it.peer == peer) {
                    same.slow[end] &= !same.queues[end].is_empty();
                }
            }
            Action::Work(slot) if next.replicas[slot].jobs.is_empty() => {
                next.replica(slot).slow = false;
            }
            _ => {}
        }
    }
}

impl World<'_> {
    fn act(&mut self, action: Action) {
        self.state.left.spend(action);
        let state = &mut self.state;
        match action {
            Action::Configure(slot) => {
                let register = state.register.as_ref().clone();
                self.tell(slot, Input::Configure(register));
            }
            Action::ConfigureOlder(slot) => {
                let register = state.older.as_ref().clone();
                self.tell(slot, Input::Configure(register));
            }
            Action::Ask(slot) => {
                let (epoch, ticket) = (state.register.epoch.next(), state.register.version);
                state.asked[slot] = true;
                self.tell(slot, Input::Promise { epoch, ticket });
            }
            Action::Elect {
                leader,
                wait,
                given_up,
            } => self.elect(leader, wait, given_up),
            Action::Forget => {
                let mut next = state.register.as_ref().clone();
                next.version += 1;
                next.previous.clear();
                state.swap(next);
            }
            Action::Add(_) | Action::Remove(_) | Action::Sync(_) => self.change(action),
            Action::Switchover(slot, target) => {
                let (epoch, ticket) = (state.register.epoch.next(), state.register.version);
                let within = self.scope.lease();
                let input = Input::Switchover {
                    epoch,
                    target,
                    within,
                    ticket,
                };
                self.tell(slot, input);
            }
            Action::Restore => {
                state.put_back = true;
                state.swap(state.older.as_ref().clone());
            }
            _ => self.act_below(action),
        }
    }

    /// What is not the operators' doing.
    fn act_below(&mut self, action: Action) {
        let state = &mut self.state;
        match action {
            Action::Connect(slot, slow) => {
                let leader = state.replicas[slot]
                    .follows
                    .and_then(|id| state.slot_of(id));
                if let Some(leader) = leader {
                    self.connect(slot, leader, slow);
                }
            }
            Action::Break(index, end) => {
                let connection = &state.connections[index];
                let (slot, peer) = (connection.ends[end], connection.peer);
                self.close(slot, peer);
            }
            Action::Slow(index, end) => state.connections[index].slow[end] = true,
            Action::Deliver(index, end) => self.deliver(index, end),
            Action::SlowDisk(slot) => state.replica(slot).slow = true,
            Action::Work(slot) => self.work(slot),
            Action::Write(slot) => {
                if let Some(epoch) = state.replicas[slot].core.leading() {
                    self.append(slot, epoch, 0);
                }
            }
            Action::Beat(slot) => self.pump(slot, true),
            Action::Time => {
                state.time += 1;
                for slot in 0..state.replicas.len() {
                    self.tell(slot, Input::Tick);
                }
            }
            Action::Crash(slot) => self.restart(slot),
            Action::Lose(slot) => {
                let fresh = ReplicaId(state.replicas[slot].id.0 + 100);
                let id = if on(SAME_NAME) {
                    state.replicas[slot].id
                } else {
                    fresh
                };
                self.lose(slot, id);
            }
            Action::Trim(slot) => self.trim(slot),
            Action::Install(slot) => self.install(slot),
            _ => {}
        }
    }

    fn elect(&mut self, leader: usize, wait: u64, given_up: Option<ReplicaId>) {
        let (log, committed) = (&self.state.replicas[leader].log, &self.state.committed);
        if !log.starts_with(committed) && !self.scope.lossy() {
            self.blame(|| format!("{leader} is to lead without all that was committed"));
        }
        self.state.elect(leader, wait, given_up);
    }

    fn change(&mut self, action: Action) {
        let state = &mut self.state;
        let mut next = state.successor();
        match action {
            Action::Add(slot) => {
                next.voters.insert(state.replicas[slot].id);
            }
            Action::Remove(id) => {
                next.voters.remove(&id);
            }
            Action::Sync(sync) => next.sync = sync,
            _ => {}
        }
        state.swap(next);
    }
}

impl Budget {
    fn spend(&mut self, action: Action) {
        let spent = match action {
            Action::Elect { given_up, .. } => {
                self.given_up -= u8::from(given_up.is_some());
                &mut self.promotions
            }
            Action::ConfigureOlder(_) => &mut self.stale,
            Action::Add(_) | Action::Remove(_) | Action::Sync(_) => &mut self.changes,
            Action::Switchover(..) => &mut self.switchovers,
            Action::Restore => &mut self.restores,
            Action::Connect(_, slow) if slow != FAST => &mut self.slow,
            Action::Slow(..) | Action::SlowDisk(_) => &mut self.slow,
            Action::Break(..) => &mut self.breaks,
            Action::Write(_) => &mut self.writes,
            Action::Time => &mut self.time,
            Action::Crash(_) => &mut self.crashes,
            Action::Lose(_) => &mut self.losses,
            Action::Trim(_) => &mut self.trims,
            _ => return,
        };
        *spent -= 1;
    }
}
