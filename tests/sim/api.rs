//! The register behind its compare-and-swap, and the operators' desks: each reads, decides, asks
//! and swaps over a slow network, and may forget everything between any two steps.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use replicated_store::replication::admin::{
    FollowerStatus, PromiseAnswer, ReplicaState, ReplicaStatus, Role,
};
use replicated_store::replication::{Configuration, Epoch, Input, Lsn, Position, ReplicaId};

use super::bug::Bug;
use super::operator::{Act, Campaign, Erratic, Operator, Seen};
use super::world::{Event, Setup, World};

/// What is on its way to a replica or to the API server. `desk` is who asks, in its `life`.
pub(crate) enum Ask {
    Promise {
        desk: usize,
        life: u64,
        slot: usize,
        epoch: Epoch,
    },
    Switchover {
        desk: usize,
        life: u64,
        slot: usize,
        epoch: Epoch,
        target: ReplicaId,
    },
    Configure {
        slot: usize,
        register: Configuration,
    },
    Read {
        desk: usize,
        life: u64,
    },
    Swap {
        base: Configuration,
        next: Configuration,
    },
}

impl Ask {
    pub(crate) fn slot(&self) -> Option<usize> {
        match self {
            Self::Promise { slot, .. }
            | Self::Switchover { slot, .. }
            | Self::Configure { slot, .. } => Some(*slot),
            Self::Read { .. } | Self::Swap { .. } => None,
        }
    }
}

/// What comes back to an operator.
pub(crate) enum Reply {
    Register(usize, u64, Configuration),
    Promise(usize, u64, PromiseAnswer),
    Refused(usize, u64),
    Status(usize, usize, Box<ReplicaStatus>),
}

/// One operator with what it remembers.
pub(crate) struct Desk {
    pub(crate) operator: Box<dyn Operator>,
    pub(crate) seen: Seen,
    /// Rises whenever it forgets: answers to questions from before are not for it.
    life: u64,
    campaign: Option<Campaign>,
    answers: Vec<PromiseAnswer>,
    /// It gives a campaign up then.
    until: Duration,
}

impl Desk {
    pub(crate) fn new(setup: &Setup, rng: &mut SmallRng) -> Self {
        let operator = Erratic {
            bug: setup.bug,
            restless: true,
            removals: setup.menu.removals,
            most_voters: setup.voters,
            whims: setup.menu.whims,
            changes_sync: setup.changes_sync,
        };
        Self {
            operator: Box::new(operator),
            seen: nothing_seen(setup, rng),
            life: 0,
            campaign: None,
            answers: Vec::new(),
            until: Duration::ZERO,
        }
    }

    fn rest(&mut self) {
        self.life += 1;
        self.campaign = None;
        self.answers.clear();
    }
}

/// What an operator knows at its start. Some are quick to hold a leader to be away.
fn nothing_seen(setup: &Setup, rng: &mut SmallRng) -> Seen {
    Seen {
        patience: setup.lease * rng.random_range(1..7) / 2 + Duration::from_millis(150),
        ..Seen::default()
    }
}

impl World {
    fn message_us(&mut self) -> u64 {
        match self.rng.random_range(0..20) {
            0 if self.faults => self.rng.random_range(1_000..800_000),
            _ => self.rng.random_range(500..8_000),
        }
    }

    fn ask(&mut self, ask: Ask) {
        let micros = self.message_us();
        self.at(micros, Event::Ask(ask));
    }

    fn reply(&mut self, reply: Reply) {
        let micros = self.message_us();
        self.at(micros, Event::Reply(reply));
    }

    /// Operators are machines of their own, after the replicas.
    fn reaches(&self, desk: usize, slot: usize) -> bool {
        self.network.passes(self.machines.len() + desk, slot)
    }

    /// An operator looks after its store.
    pub(crate) fn operator(&mut self, desk: usize) {
        let micros = self.rng.random_range(40_000..160_000);
        self.at(micros, Event::Operator(desk));
        if self.faults && self.rng.random_bool(0.02) {
            self.desks[desk].rest();
            self.desks[desk].seen = nothing_seen(&self.setup, &mut self.rng);
        }
        if self.desks[desk].campaign.is_some() && self.desks[desk].until > self.now {
            return;
        }
        self.desks[desk].rest();
        let life = self.desks[desk].life;
        self.ask(Ask::Read { desk, life });
    }

    /// A replica's words on their way to an operator.
    pub(crate) fn tell_status(&mut self, desk: usize, slot: usize) {
        let micros = self.rng.random_range(60_000..140_000);
        self.at(micros, Event::Status(desk, slot));
        let paused = self.machines[slot].paused_until > self.now;
        if paused || !self.reaches(desk, slot) {
            return;
        }
        if let Some(status) = self.status(slot) {
            self.reply(Reply::Status(desk, slot, Box::new(status)));
        }
    }

    /// Something arrives at a replica or at the API server.
    pub(crate) fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Read { desk, life } => {
                let register = self.register.clone();
                self.reply(Reply::Register(desk, life, register));
            }
            Ask::Swap { base, next } => self.swap(&base, next),
            Ask::Configure { slot, register } => self.drive(slot, Input::Configure(register)),
            Ask::Promise {
                desk,
                life,
                slot,
                epoch,
            } => {
                let ticket = self.ticket(desk, life);
                self.drive(slot, Input::Promise { epoch, ticket });
            }
            Ask::Switchover {
                desk,
                life,
                slot,
                epoch,
                target,
            } => {
                let ticket = self.ticket(desk, life);
                self.drive(
                    slot,
                    Input::Switchover {
                        epoch,
                        target,
                        within: self.setup.lease,
                        ticket,
                    },
                );
            }
        }
    }

    fn ticket(&mut self, desk: usize, life: u64) -> u64 {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, (desk, life));
        self.next_ticket
    }

    /// A replica answers a request for a promise. One that has no whole state is no evidence of
    /// anything: its answer is held for silence.
    pub(crate) fn promised(&mut self, ticket: u64, answer: Option<PromiseAnswer>, slot: usize) {
        let Some((desk, life)) = self.tickets.remove(&ticket) else {
            return;
        };
        if !self.reaches(desk, slot) {
            return;
        }
        let process = self.machines[slot].process.as_ref();
        let whole = process.is_some_and(super::node::Process::is_whole);
        let counts = whole || self.setup.bug == Bug::CountsSeeding;
        if let Some(answer) = &answer
            && answer.granted
        {
            let machine = &mut self.machines[slot];
            machine.told = machine.told.max(answer.last.lsn);
        }
        match answer {
            None => self.reply(Reply::Refused(desk, life)),
            Some(answer) if counts => self.reply(Reply::Promise(desk, life, answer)),
            Some(_) => {}
        }
    }

    /// An operator learns something.
    pub(crate) fn replied(&mut self, reply: Reply) {
        match reply {
            Reply::Status(desk, slot, status) => self.learn(desk, slot, *status),
            Reply::Register(desk, life, register) if self.desks[desk].life == life => {
                self.decide(desk, register);
            }
            Reply::Promise(desk, life, answer) if self.desks[desk].life == life => {
                self.collect(desk, answer);
            }
            Reply::Refused(desk, life) if self.desks[desk].life == life => {
                self.desks[desk].rest();
            }
            Reply::Register(..) | Reply::Promise(..) | Reply::Refused(..) => {}
        }
    }

    fn learn(&mut self, desk: usize, slot: usize, status: ReplicaStatus) {
        let now = self.now;
        let seen = &mut self.desks[desk].seen;
        if status.role == Role::Leader {
            let process = (slot, status.incarnation);
            seen.processes.insert(status.epoch, process);
        }
        seen.words.insert(slot, (status, now));
        let ended = self.machines[slot].ended.iter();
        seen.ended.extend(ended.map(|it| (slot, *it)));
    }

    fn decide(&mut self, desk: usize, register: Configuration) {
        let lost = self.lost.clone();
        let now = self.now;
        let here = &mut self.desks[desk];
        if let Some(leader) = register.leader {
            here.seen.leaders.insert(register.epoch, leader);
        }
        here.seen.now = now;
        here.seen.lost = lost;
        here.seen.register = register.clone();
        let act = here.operator.decide(&here.seen, &mut self.rng);
        match act {
            Act::Keep => self.tell(desk, &register),
            Act::Swap(next) => self.ask(Ask::Swap {
                base: register,
                next,
            }),
            Act::Campaign(campaign) => self.campaign(desk, campaign),
        }
    }

    /// Hands the register to replicas that do not have it, and now and then to others.
    fn tell(&mut self, desk: usize, register: &Configuration) {
        for slot in 0..self.machines.len() {
            let words = self.desks[desk].seen.words.get(&slot);
            let behind =
                words.is_none_or(|(status, _)| status.configuration_version < register.version);
            if self.reaches(desk, slot) && (behind || self.rng.random_bool(0.1)) {
                let register = register.clone();
                self.ask(Ask::Configure { slot, register });
            }
        }
    }

    fn campaign(&mut self, desk: usize, campaign: Campaign) {
        let life = self.desks[desk].life;
        let epoch = campaign.epoch;
        let hand_over = campaign.hand_over;
        self.desks[desk].until = self.now + self.setup.lease * 2;
        self.desks[desk].campaign = Some(campaign);
        match hand_over {
            Some((slot, target)) if self.reaches(desk, slot) => self.ask(Ask::Switchover {
                desk,
                life,
                slot,
                epoch,
                target,
            }),
            Some(_) => {}
            None => self.ask_all(desk),
        }
    }

    fn ask_all(&mut self, desk: usize) {
        let life = self.desks[desk].life;
        let Some(campaign) = &self.desks[desk].campaign else {
            return;
        };
        let (epoch, asked) = (campaign.epoch, campaign.ask.clone());
        for slot in asked {
            let skip = self.faults && self.rng.random_bool(0.15);
            if self.reaches(desk, slot) && !skip {
                self.ask(Ask::Promise {
                    desk,
                    life,
                    slot,
                    epoch,
                });
            }
        }
    }

    fn collect(&mut self, desk: usize, answer: PromiseAnswer) {
        let Some(campaign) = self.desks[desk].campaign.clone() else {
            return;
        };
        if !answer.granted {
            self.desks[desk].rest();
            return;
        }
        let here = &mut self.desks[desk];
        let first = here.answers.is_empty();
        here.answers.retain(|it| it.id != answer.id);
        here.answers.push(answer);
        if first && campaign.hand_over.is_some() {
            self.checker.counts.switchovers += 1;
            self.ask_all(desk);
        }
        let here = &mut self.desks[desk];
        let hesitates = here.answers.len() < campaign.ask.len() && self.rng.random_bool(0.5);
        if hesitates {
            return;
        }
        let elected = here
            .operator
            .elect(&here.seen, &campaign, &here.answers, &mut self.rng);
        if let Some(next) = elected {
            let base = campaign.base;
            here.rest();
            self.ask(Ask::Swap { base, next });
        }
    }

    /// The compare-and-swap of the API server.
    fn swap(&mut self, base: &Configuration, next: Configuration) {
        if self.register != *base {
            return;
        }
        assert!(next.version > base.version, "versions rise");
        // A set of which too many have died meanwhile is the end of it: not what is tried here.
        if !self.survives(&next, None) {
            return;
        }
        if next.epoch > base.epoch {
            let mut sets = base.previous.clone();
            sets.push(base.current());
            let lossy = sets.iter().any(|set| set.sync == 0 && set.voters.len() > 1);
            let leader = self.machines.iter().find(|it| Some(it.id) == next.leader);
            let holds = leader.is_some_and(|it| self.checker.holds_all(it));
            self.checker.promotion(holds, lossy, next.epoch);
        } else {
            self.checker.counts.changes += 1;
        }
        self.register = next;
    }

    /// What a replica says of itself.
    pub(crate) fn status(&self, slot: usize) -> Option<ReplicaStatus> {
        let machine = &self.machines[slot];
        let process = machine.process.as_ref()?;
        let core = &process.core;
        let view = core.view();
        let followers = view.followers.iter().map(|it| FollowerStatus {
            id: it.id,
            name: String::new(),
            connected: true,
            heard: it.heard,
            durable_lsn: it.durable,
            applied_lsn: it.applied,
            lag_bytes: view.end.since(it.applied),
            lag_seconds: 0.0,
        });
        let whole = process.store.is_some();
        let nothing = Position {
            epoch: Epoch(0),
            lsn: Lsn::ZERO,
        };
        Some(ReplicaStatus {
            id: machine.id,
            incarnation: machine.incarnation,
            name: format!("replica-{slot}"),
            version: String::new(),
            role: if view.leading {
                Role::Leader
            } else {
                Role::Follower
            },
            state: match (view.streaming || view.serving, whole) {
                (_, false) => ReplicaState::Seeding,
                (true, _) => ReplicaState::Streaming,
                (false, _) => ReplicaState::Pending,
            },
            ready: process.ready || view.serving,
            empty: !whole || view.last == nothing,
            promised: view.hard.promised,
            begun: view.hard.begun,
            configuration_version: view.version,
            established_version: view.established,
            answers: core.answers_until() > machine.clock.local(self.now),
            leader_heard: view.leader_heard,
            beat_ms: 1000,
            leaving: false,
            stamp: None,
            fenced: false,
            divergent: None,
            leader: view.leader,
            epoch: view.epoch,
            oldest_lsn: core.oldest(),
            last: view.last,
            commit_lsn: view.commit,
            applied_lsn: process.applied.end,
            followers: followers.collect(),
            seed: None,
            disk_used_percent: 0,
            message: String::new(),
        })
    }
}
