//! The operators' desks: each reads, decides, asks and swaps over a slow network, and may forget
//! everything between any two steps.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use replicated_store::replication::Configuration;
use replicated_store::replication::admin::PromiseAnswer;

use super::api::{Ask, Reply};
use super::cluster::Reading;
use super::event::Event;
use super::hearing::Stream;
use super::operator::{Act, Campaign, Chore, Erratic, Operator, Seen};
use super::planned::Planned;
use super::world::{Operators, Setup, World};

/// One operator with what it remembers.
pub(crate) struct Desk {
    pub(crate) operator: Box<dyn Operator>,
    pub(crate) seen: Seen,
    /// Rises whenever it forgets: answers to questions from before are not for it.
    life: u64,
    campaign: Option<Campaign>,
    answers: Vec<PromiseAnswer>,
    /// How many will not answer.
    silent: usize,
    /// When it concludes with what it has, if that is decided.
    concluding: bool,
    /// It gives a campaign up then.
    until: Duration,
    pub(crate) streams: BTreeMap<usize, Stream>,
}

impl Desk {
    pub(crate) fn new(number: usize, setup: &Setup, rng: &mut SmallRng) -> Self {
        let planned = match setup.operators {
            Operators::Erratic => false,
            Operators::Mixed => number == 0,
            Operators::Plan => true,
        };
        let operator: Box<dyn Operator> = if planned {
            let standby = number > 0 && rng.random_bool(0.5);
            Box::new(Planned::new(setup.bug, standby))
        } else {
            Box::new(Erratic::new(setup))
        };
        Self {
            operator,
            seen: nothing_seen(setup, rng),
            life: 0,
            campaign: None,
            answers: Vec::new(),
            silent: 0,
            concluding: false,
            until: Duration::ZERO,
            streams: BTreeMap::new(),
        }
    }

    /// Whether the leader was asked to make room, and has not answered.
    fn waits_for_room(&self) -> bool {
        let campaign = self.campaign.as_ref();
        self.answers.is_empty() && campaign.is_some_and(|it| it.hand_over.is_some())
    }

    fn rest(&mut self) {
        self.life += 1;
        self.campaign = None;
        self.answers.clear();
        self.silent = 0;
        self.concluding = false;
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
    /// Operators are machines of their own, after the replicas.
    pub(crate) fn reaches(&self, desk: usize, slot: usize) -> bool {
        self.network.passes(self.machines.len() + desk, slot)
    }

    /// An operator looks after its store.
    pub(crate) fn operator(&mut self, desk: usize) {
        let micros = self.rng.random_range(40_000..160_000);
        self.at(micros, Event::Operator(desk));
        if self.retired(desk) {
            return;
        }
        if self.faults && self.rng.random_bool(0.02) {
            self.restart_operator(desk);
        }
        let here = &self.desks[desk];
        if here.campaign.is_some() {
            if here.until > self.now {
                return;
            }
            if here.waits_for_room() {
                self.refused(desk);
            } else {
                self.conclude(desk);
            }
        }
        self.desks[desk].rest();
        let life = self.desks[desk].life;
        self.ask(Ask::Read { desk, life });
    }

    /// Once nothing goes wrong any more, only what is shipped has to put things right.
    fn retired(&self, desk: usize) -> bool {
        let mixed = self.setup.operators == Operators::Mixed;
        mixed && !self.faults && !self.desks[desk].operator.hears_streams()
    }

    fn restart_operator(&mut self, desk: usize) {
        let here = &mut self.desks[desk];
        here.rest();
        here.operator.forget();
        here.streams
            .values_mut()
            .for_each(|it| it.incarnation = None);
        here.seen = nothing_seen(&self.setup, &mut self.rng);
    }

    /// An operator learns something.
    pub(crate) fn replied(&mut self, reply: Reply) {
        let current = |desk: &usize, life: &u64| self.desks[*desk].life == *life;
        match reply {
            Reply::Word(desk, slot, word) => self.learn(desk, slot, word),
            Reply::Object(desk, life, reading) if current(&desk, &life) => {
                self.decide(desk, *reading);
            }
            Reply::Swapped(desk, life, Some(to)) if current(&desk, &life) => {
                self.desks[desk].operator.swapped(to);
                self.follow(desk);
            }
            Reply::Promise(desk, life, answer, whole) if current(&desk, &life) => {
                let seeding = &mut self.desks[desk].seen.seeding;
                if whole {
                    seeding.remove(&answer.id);
                } else {
                    seeding.insert(answer.id);
                }
                self.collect(desk, answer);
            }
            Reply::Silence(desk, life) if current(&desk, &life) => self.nobody_there(desk),
            Reply::Refused(desk, life) if current(&desk, &life) => self.refused(desk),
            Reply::Told(desk, life, slot, refusal) if current(&desk, &life) => {
                let now = self.now;
                self.desks[desk].operator.told(slot, refusal, now);
            }
            _ => {}
        }
    }

    fn decide(&mut self, desk: usize, reading: Reading) {
        let lost = self.lost.clone();
        let now = self.now;
        let here = &mut self.desks[desk];
        if let Some(leader) = reading.register.leader {
            here.seen.leaders.insert(reading.register.epoch, leader);
        }
        here.seen.now = now;
        here.seen.lost = lost;
        here.seen.register = reading.register.clone();
        here.seen.reading = Some(reading);
        match here.operator.decide(&here.seen, &mut self.rng) {
            Act::Keep => self.follow(desk),
            Act::Swap(next) => self.ask_swap(desk, next),
            Act::Campaign(campaign) => self.campaign(desk, campaign),
        }
    }

    fn ask_swap(&mut self, desk: usize, next: Configuration) {
        let here = &self.desks[desk];
        let Some(reading) = &here.seen.reading else {
            return;
        };
        let (life, version) = (here.life, reading.version);
        self.ask(Ask::Swap {
            desk,
            life,
            version,
            next,
        });
    }

    /// Does what follows from the register.
    fn follow(&mut self, desk: usize) {
        let here = &mut self.desks[desk];
        let life = here.life;
        here.seen.now = self.now;
        for chore in here.operator.follow(&here.seen, &mut self.rng) {
            match chore {
                Chore::Tell(slot, notice) if self.reaches(desk, slot) => self.ask(Ask::Configure {
                    desk,
                    life,
                    slot,
                    notice,
                }),
                Chore::Tell(..) => {}
                Chore::Report(status) => self.ask(Ask::Report(status)),
                Chore::Scale(replicas) => self.ask(Ask::Scale(replicas)),
                Chore::Delete(slot, uid) => self.ask(Ask::Delete { slot, uid }),
                Chore::Bind(slot, id, copy) if self.reaches(desk, slot) => {
                    self.bind(slot, id, copy);
                }
                Chore::Bind(..) => {}
            }
        }
    }

    fn campaign(&mut self, desk: usize, campaign: Campaign) {
        let (epoch, hand_over) = (campaign.epoch, campaign.hand_over);
        let here = &mut self.desks[desk];
        let life = here.life;
        here.until = self.now + campaign.within;
        here.campaign = Some(campaign);
        match hand_over {
            Some((slot, target)) if self.reaches(desk, slot) => {
                let within = self.desks[desk].operator.hand_over_within(self.setup.lease);
                self.desks[desk].until += within;
                self.ask(Ask::Switchover {
                    desk,
                    life,
                    slot,
                    epoch,
                    target,
                    within,
                });
            }
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

    fn nobody_there(&mut self, desk: usize) {
        if self.desks[desk].waits_for_room() {
            self.refused(desk);
        } else {
            self.desks[desk].silent += 1;
            self.consider(desk);
        }
    }

    /// A leader does not make room.
    fn refused(&mut self, desk: usize) {
        let now = self.now;
        self.desks[desk].operator.handed_over(false, now);
        self.desks[desk].rest();
    }

    fn collect(&mut self, desk: usize, answer: PromiseAnswer) {
        let now = self.now;
        let here = &mut self.desks[desk];
        let Some(campaign) = &here.campaign else {
            return;
        };
        let first = here.answers.is_empty();
        let handed_over = first && campaign.hand_over.is_some();
        if !answer.granted && (handed_over || !here.operator.hears_streams()) {
            self.refused(desk);
            return;
        }
        here.answers.retain(|it| it.id != answer.id);
        here.answers.push(answer);
        if handed_over {
            here.operator.handed_over(true, now);
            here.until = now + campaign.within;
            self.checker.counts.switchovers += 1;
            self.ask_all(desk);
        }
        self.consider(desk);
    }

    /// Goes on if no more answers are waited for.
    fn consider(&mut self, desk: usize) {
        let here = &mut self.desks[desk];
        let Some(campaign) = &here.campaign else {
            return;
        };
        let wait = here
            .operator
            .wait(campaign, &here.answers, here.silent, &mut self.rng);
        match wait {
            None => {}
            Some(Duration::ZERO) => self.conclude(desk),
            Some(_) if here.concluding => {}
            Some(wait) => {
                here.concluding = true;
                let (at, life) = (self.now + wait, here.life);
                self.at_time(at, Event::Conclude(desk, life));
            }
        }
    }

    pub(crate) fn conclude_in(&mut self, desk: usize, life: u64) {
        if self.desks[desk].life == life {
            self.conclude(desk);
        }
    }

    /// Elects by the answers that there are.
    fn conclude(&mut self, desk: usize) {
        let here = &mut self.desks[desk];
        let Some(campaign) = here.campaign.clone() else {
            return;
        };
        let elected = here
            .operator
            .elect(&here.seen, &campaign, &here.answers, &mut self.rng);
        let plans = here.operator.hears_streams();
        if let Some(next) = elected {
            here.rest();
            self.ask_swap(desk, next);
        } else if plans {
            here.rest();
            self.follow(desk);
        }
    }
}
