//! What comes of what happens.

use crate::actions::Action;
use crate::network::FAST;
use crate::reached::{Reached, mark};
use crate::replication::{Addressee, Input, ReplicaId};
use crate::scope::Scope;
use crate::state::{Budget, State};
use crate::switch::{number, on};
use crate::world::{LEASE, Violation, World};

const SAME_NAME: usize = number("operator: a lost disk comes back under its old name");

impl State {
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
                let (epoch, ticket) = (state.next_epoch(), state.campaign());
                state.asked[slot] = true;
                if state.unsettled() {
                    state.recovering = epoch;
                }
                let to = Addressee::default();
                self.tell(slot, Input::Promise { epoch, ticket, to });
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
                mark(Reached::Established);
                state.swap(next);
            }
            Action::Add(_) | Action::Remove(_) | Action::Sync(_) => self.change(action),
            Action::Switchover(slot, target) => {
                let (epoch, ticket) = (state.register.epoch.next(), state.campaign());
                let within = LEASE;
                let input = Input::Switchover {
                    epoch,
                    target,
                    within,
                    ticket,
                    to: Addressee::default(),
                };
                self.tell(slot, input);
            }
            Action::Restore => {
                state.in_doubt = true;
                state.swap(state.older.as_ref().clone());
            }
            Action::Gone => state.forget_register(),
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
            Action::Overtake(slot) => {
                let replica = state.replica(slot);
                let job = replica.overtaking().and_then(|at| replica.jobs.remove(at));
                if let Some(job) = job {
                    replica.jobs.push_front(job);
                    self.work(slot);
                }
            }
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
            Action::Damage(slot) => self.damage(slot),
            Action::Flush(slot) => self.flush(slot),
            Action::Trim(slot) => self.trim(slot),
            Action::Install(slot) => self.install(slot),
            _ => self.befall(action),
        }
    }

    fn elect(&mut self, leader: usize, wait: u64, given_up: Option<ReplicaId>) {
        let (log, committed) = (&self.state.replicas[leader].log, &self.state.committed);
        if !log.starts_with(committed) && !self.scope.lossy() {
            self.blame(|| format!("{leader} is to lead without all that was committed"));
        }
        let id = self.state.replicas[leader].id;
        if self.state.unsettled() {
            mark(Reached::Recovered);
        }
        if !self.state.base().voters.contains(&id) {
            mark(Reached::Recalled);
        }
        self.state.elect(leader, wait, given_up);
    }

    fn change(&mut self, action: Action) {
        let state = &mut self.state;
        let mut next = state.successor();
        match action {
            Action::Add(slot) => {
                mark(Reached::LearnerVotes);
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
            Action::Damage(_) => &mut self.damages,
            Action::Flush(_) => &mut self.flushes,
            Action::Trim(_) => &mut self.trims,
            Action::Gone => &mut self.gone,
            Action::Save(_) => &mut self.rollbacks,
            Action::Copy(..) => &mut self.copies,
            Action::Foreign(..) => &mut self.foreign,
            Action::Stop(_) => &mut self.stops,
            Action::Stray(_) => &mut self.strays,
            _ => return,
        };
        *spent -= 1;
    }
}
