//! Where an exploration begins and how far it goes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::str::FromStr;

use crate::actions::Action;
use crate::fate::OURS;
use crate::network::FAST;
use crate::replication::{Configuration, Epoch, ReplicaId};
use crate::start::Begins;
use crate::state::{Budget, Replica, State};

#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The text that it was made of.
    pub(crate) name: String,
    pub(crate) voters: usize,
    learners: usize,
    sync: u32,
    /// So many followers must hold what replies rest on; 0: as many as a commit needs.
    pub(crate) block: u32,
    /// By how many percent each clock is wrong.
    pub(crate) rates: [i64; 4],
    begins: Begins,
    /// Operators note what disks have, though none is put back.
    watched: bool,
    budget: Budget,
}

impl FromStr for Scope {
    type Err = String;

    /// Words like `voters=3`; what is not named is none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut scope = Self {
            name: text.to_owned(),
            voters: 2,
            learners: 0,
            sync: 1,
            block: 0,
            rates: [-1, 1, 1, 1],
            begins: Begins::Steady,
            watched: false,
            budget: Budget::default(),
        };
        for word in text.split_whitespace() {
            let (name, number) = word.split_once('=').unwrap_or((word, "1"));
            let number: u8 = number
                .parse()
                .map_err(|_| format!("no number in {word:?}"))?;
            scope.set(name, number)?;
        }
        Ok(scope)
    }
}

impl Scope {
    fn set(&mut self, name: &str, number: u8) -> Result<(), String> {
        let budget = &mut self.budget;
        match name {
            "voters" => self.voters = number.into(),
            "learners" => self.learners = number.into(),
            "sync" => self.sync = number.into(),
            "block" => self.block = number.into(),
            "parted" => self.begins = Begins::Parted,
            "returned" => self.begins = Begins::Returned,
            "removed" => self.begins = Begins::Removed,
            "saved" => self.begins = Begins::Saved,
            "seeding" => self.begins = Begins::Seeding,
            "twice" => self.begins = Begins::Twice,
            "deposed" => self.begins = Begins::Deposed,
            "watched" => self.watched = true,
            "promotions" => budget.promotions = number,
            "writes" => budget.writes = number,
            "time" => budget.time = number,
            "crashes" => budget.crashes = number,
            "losses" => budget.losses = number,
            "breaks" => budget.breaks = number,
            "slow" => budget.slow = number,
            "changes" => budget.changes = number,
            "given-up" => budget.given_up = number,
            "flushes" => budget.flushes = number,
            "trims" => budget.trims = number,
            "switchovers" => budget.switchovers = number,
            "restores" => budget.restores = number,
            "stale" => budget.stale = number,
            "gone" => budget.gone = number,
            "damages" => budget.damages = number,
            "rollbacks" => budget.rollbacks = number,
            "copies" => budget.copies = number,
            "foreign" => budget.foreign = number,
            "stops" => budget.stops = number,
            "strays" => budget.strays = number,
            _ => return Err(format!("scopes have no {name:?}")),
        }
        Ok(())
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
            store: Some(OURS),
        });
        let mut state = State {
            replicas: all
                .clone()
                .map(|slot| Rc::new(Replica::new(id(slot), true, self.block)))
                .collect(),
            connections: Vec::new(),
            older: Rc::clone(&register),
            register,
            asked: all.clone().map(|_| false).collect(),
            answers: all.clone().map(|_| None).collect(),
            established: false,
            in_doubt: false,
            held: BTreeMap::new(),
            disturbed: false,
            recovering: Epoch(0),
            saved: all.clone().map(|_| None).collect(),
            watched: self.watched || self.budget.rollbacks > 0 || self.budget.copies > 0,
            time: 0,
            left: self.budget,
            committed: Vec::new(),
            released: 0,
            lost: Vec::new(),
            reigns: Vec::new(),
        };
        // Whoever is chosen has promised.
        let mut first = Replica::new(id(0), true, self.block);
        first.promise(Epoch(1));
        state.replicas[0] = Rc::new(first);
        let mut happens = vec![Action::Configure(0)];
        for slot in all.skip(1) {
            let connect = Action::Connect(slot, FAST);
            happens.extend([Action::Configure(slot), connect, Action::Install(slot)]);
        }
        happens.extend(self.begins.script(self.voters));
        state.left = Budget {
            breaks: u8::MAX,
            writes: u8::MAX,
            promotions: u8::MAX,
            time: u8::MAX,
            slow: u8::MAX,
            trims: u8::MAX,
            changes: u8::MAX,
            rollbacks: u8::MAX,
            restores: self.budget.restores,
            ..Budget::default()
        };
        for action in happens {
            let next = state.apply(action, self);
            state = next.expect("nothing is wrong in the beginning");
        }
        state.left = self.budget;
        state
    }
}
