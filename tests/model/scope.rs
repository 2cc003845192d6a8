//! Where an exploration begins and how far it goes.

use std::rc::Rc;
use std::time::Duration;

use crate::actions::Action;
use crate::network::FAST;
use crate::replication::{Configuration, Epoch, ReplicaId};
use crate::state::{Budget, Replica, State};

pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) voters: usize,
    pub(crate) learners: usize,
    pub(crate) sync: u32,
    /// By how many percent each clock is wrong.
    pub(crate) rates: [i64; 4],
    pub(crate) begins: Begins,
    pub(crate) budget: Budget,
}

/// What has happened before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// The first replica leads, all others follow it and have all that it has.
    Steady,
    /// The last voter has not been there yet.
    Apart,
}

impl Scope {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Whether promotions may lose what was committed.
    pub(crate) fn lossy(&self) -> bool {
        self.sync == 0
    }

    /// The state to begin with.
    pub(crate) fn start(&self) -> State {
        let id = |slot: usize| ReplicaId(slot as u128 + 1);
        let all = 0..self.voters + self.learners;
        let register = Rc::new(Configuration {
            version: 1,
            epoch: Epoch(1),
            leader: Some(id(0)),
            voters: (0..self.voters).map(id).collect(),
            sync: self.sync,
            previous: Vec::new(),
            wait_ms: 0,
        });
        let mut state = State {
            replicas: all.clone().map(|slot| Rc::new(Replica::new(id(slot), true, self))).collect(),
            connections: Vec::new(),
            older: Rc::clone(&register),
            register,
            asked: all.clone().map(|_| false).collect(),
            answers: all.clone().map(|_| None).collect(),
            established: false,
            time: 0,
            left: self.budget,
            committed: Vec::new(),
            reigns: Vec::new(),
        };
        let mut happens = vec![Action::Configure(0)];
        let last = if self.begins == Begins::Apart {
            self.voters - 1
        } else {
            usize::MAX
        };
        for slot in all.skip(1).filter(|slot| *slot != last) {
            let connect = Action::Connect(slot, FAST);
            happens.extend([Action::Configure(slot), connect, Action::Install(slot)]);
        }
        for action in happens {
            state = match state.apply(action, self) {
                Ok(state) => state,
                Err(wrong) => panic!("{}: {action:?}: {wrong}", self.name),
            };
        }
        state
    }
}
