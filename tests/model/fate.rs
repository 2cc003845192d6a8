//! What befalls disks and registers, besides crashes: copies that are put back, or take another's
//! place; disks of another store; a register that is deleted; requests that go astray.

use std::rc::Rc;

use crate::actions::Action;
use crate::reached::{Reached, mark};
use crate::replication::{Addressee, Configuration, Epoch, Input, ReplicaId, StoreId};
use crate::state::{Record, Replica, State};
use crate::world::World;

/// The store, and another one.
pub(crate) const OURS: StoreId = StoreId(1);
const THEIRS: StoreId = StoreId(2);
/// In this life the records of another store were written.
const ELSEWHERE: u8 = u8::MAX;
/// An epoch that no operator of this store asks for.
pub(crate) const STRAY: Epoch = Epoch(90);

impl Record {
    pub(crate) fn is_foreign(&self) -> bool {
        self.life == ELSEWHERE
    }
}

impl State {
    /// What may befall one replica.
    pub(crate) fn of_fate(&self, slot: usize, found: &mut Vec<Action>) {
        let (replica, left) = (&self.replicas[slot], &self.left);
        if !replica.up {
            found.push(Action::Start(slot));
        } else if left.stops > 0 {
            found.push(Action::Stop(slot));
        }
        if left.rollbacks > 0 && self.saved[slot].is_none() {
            found.push(Action::Save(slot));
        }
        if self.saved[slot].is_some() {
            found.push(Action::PutBack(slot));
        }
        let voter = self.register.voters.contains(&replica.id);
        if left.copies > 0 && !voter {
            let voters = self.replicas.iter().enumerate();
            let voters = voters.filter(|(_, it)| self.register.voters.contains(&it.id));
            found.extend(voters.map(|(from, _)| Action::Copy(from, slot)));
        }
        if left.foreign > 0 && !voter {
            found.extend([true, false].map(|named| Action::Foreign(slot, named)));
        }
        if left.strays > 0 && replica.up {
            found.push(Action::Stray(slot));
        }
    }

    /// The object is deleted and made again: what operators had noted is gone as well.
    pub(crate) fn forget_register(&mut self) {
        self.in_doubt = true;
        self.held.clear();
        self.swap(Configuration::default());
    }
}

impl World<'_> {
    pub(crate) fn befall(&mut self, action: Action) {
        let state = &mut self.state;
        match action {
            Action::Stop(slot) => {
                self.restart(slot);
                self.state.replica(slot).up = false;
            }
            Action::Start(slot) => {
                self.restart(slot);
                self.appear(slot);
            }
            Action::Save(slot) => {
                let mut saved = Replica::clone(&state.replicas[slot]);
                saved.log.truncate(saved.disk.length);
                saved.jobs.clear();
                state.saved[slot] = Some(Rc::new(saved));
            }
            Action::PutBack(slot) => {
                if let Some(saved) = state.saved[slot].take() {
                    mark(Reached::PutBack);
                    self.replace(slot, &saved);
                }
            }
            Action::Copy(from, to) => {
                let mut copy = Replica::clone(&state.replicas[from]);
                copy.log.truncate(copy.disk.length);
                mark(Reached::Copied);
                self.replace(to, &copy);
            }
            Action::Foreign(slot, named) => self.foreign(slot, named),
            Action::Stray(slot) => {
                let to = Addressee {
                    id: Some(ReplicaId(99)),
                    store: None,
                };
                let (epoch, ticket) = (STRAY, u64::MAX);
                self.tell(slot, Input::Promise { epoch, ticket, to });
            }
            _ => {}
        }
    }

    /// A process starts on this disk. Putting it there takes longer than a campaign: what was answered
    /// from the disk that was there is not used any more.
    fn replace(&mut self, slot: usize, by: &Replica) {
        let state = &mut self.state;
        state.disturbed = true;
        let replica = state.replica(slot);
        (replica.id, replica.disk, replica.log) = (by.id, by.disk.clone(), by.log.clone());
        state.answers[slot] = None;
        self.restart(slot);
        self.appear(slot);
    }

    /// A replica is heard; what another one of its name has answered in a campaign that is still under way is
    /// not used any more, as no campaign lasts as long as it takes to start a copy.
    fn appear(&mut self, slot: usize) {
        let state = &mut self.state;
        state.replica(slot).up = true;
        for other in 0..state.replicas.len() {
            if other != slot && state.replicas[other].id == state.replicas[slot].id {
                state.answers[other] = None;
            }
        }
    }

    /// A disk of a store that had the same name: its log has the same epochs, and other records.
    fn foreign(&mut self, slot: usize, named: bool) {
        self.state.in_doubt = true;
        let id = ReplicaId(self.state.replicas[slot].id.0 + 200);
        self.lose(slot, id);
        let ours = Configuration::clone(&self.state.register);
        let log = &self.state.committed;
        let other = |record: &Record| Record {
            writer: slot,
            life: ELSEWHERE,
            ..*record
        };
        let mut log: Vec<Record> = log.iter().map(other).collect();
        log.extend(log.last().copied());
        let replica = self.state.replica(slot);
        replica.disk.length = log.len();
        replica.disk.hard.promised = log.last().map_or(Epoch(0), |it| it.epoch);
        replica.log = log;
        if named {
            replica.disk.adopted = Configuration {
                leader: Some(id),
                voters: [id].into(),
                previous: Vec::new(),
                store: Some(THEIRS),
                ..ours
            };
        }
        self.restart(slot);
    }
}
