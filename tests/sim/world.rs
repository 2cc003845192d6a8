//! The world: machines, network, clients, register and operators in one queue of events, everything
//! by chance from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use replicated_store::replication::{Configuration, Epoch, Input, ReplicaId};

use super::bug::Bug;
use super::check::Checker;
use super::client::{Command, Op, OpId};
use super::clock::{LocalClock, MOST_PPM};
use super::cluster::Cluster;
use super::desk::Desk;
use super::event::Event;
use super::faults::Menu;
use super::machine::Machine;
use super::network::Network;
use super::reads::{Connection, READERS};

/// How a run is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) machines: usize,
    /// So many may vote at most; the others are learners.
    pub(crate) voters: usize,
    pub(crate) sync: u32,
    pub(crate) changes_sync: bool,
    /// Operators of the simulation's own have replies wait for so many followers.
    pub(crate) blocks: bool,
    pub(crate) bug: Bug,
    pub(crate) menu: Menu,
    /// The lease that leaders ask for at the beginning.
    pub(crate) lease: Duration,
    pub(crate) operators: Operators,
}

/// Who looks after the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operators {
    /// Two of the simulation's own, which do whatever the protocol allows.
    Erratic,
    /// Two that plan as the shipped one does.
    Plan,
    /// One of each.
    Mixed,
}

/// See the module.
pub(crate) struct World {
    pub(crate) rng: SmallRng,
    pub(crate) now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    pub(crate) setup: Setup,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    /// Of version 0 while there is none.
    pub(crate) register: Configuration,
    /// All that it ever held.
    pub(crate) registers: Vec<Configuration>,
    pub(crate) cluster: Cluster,
    /// Replicas whose disks are gone.
    pub(crate) lost: BTreeSet<ReplicaId>,
    pub(crate) desks: Vec<Desk>,
    pub(crate) tickets: BTreeMap<u64, (usize, u64)>,
    pub(crate) next_ticket: u64,
    pub(crate) next_id: u128,
    pub(crate) next_incarnation: u64,
    pub(crate) history: Vec<Op>,
    pub(crate) waiting: BTreeSet<OpId>,
    pub(crate) clients: bool,
    /// The clients' connections.
    pub(crate) connections: BTreeMap<usize, Connection>,
    pub(crate) readers: [Option<Connection>; READERS],
    /// Theirs alone: who only looks changes nothing.
    pub(crate) reader_rng: SmallRng,
    pub(crate) faults: bool,
    pub(crate) checker: Checker,
    pub(crate) trace: String,
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = setup.machines;
        let machines: Vec<Machine> = (0..count)
            .map(|slot| {
                let clock = random_clock(&mut rng);
                let mut machine = Machine::new(ReplicaId(slot as u128 + 1), rng.random(), clock);
                machine.disk_us = Menu::disk_us(&mut rng);
                machine
            })
            .collect();
        let desks = (0..2).map(|it| Desk::new(it, &setup, &mut rng)).collect();
        let mut world = Self {
            rng,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            checker: Checker::new(),
            setup,
            machines,
            network: Network::default(),
            register: first_register(&setup),
            registers: Vec::new(),
            cluster: Cluster::new(&setup),
            lost: BTreeSet::new(),
            desks,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            next_id: count as u128 + 1,
            next_incarnation: 0,
            history: Vec::new(),
            waiting: BTreeSet::new(),
            clients: true,
            connections: BTreeMap::new(),
            readers: [None; READERS],
            reader_rng: SmallRng::seed_from_u64(!seed),
            faults: true,
            trace: String::new(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        if self.setup.operators != Operators::Plan {
            self.scale(self.machines.len() as u32);
        }
        if self.setup.operators != Operators::Erratic {
            self.at(1_500_000, Event::User);
        }
        for desk in 0..self.desks.len() {
            self.at(1_000 + desk as u64, Event::Operator(desk));
            for slot in 0..self.machines.len() {
                self.at(500, Event::Status(desk, slot));
            }
        }
        for client in 0..4 {
            self.at(20_000, Event::Think(client));
        }
        for reader in 0..READERS {
            self.at(30_000, Event::Look(reader));
        }
        self.at(500_000, Event::Fault);
    }

    /// Lets something happen in so many microseconds.
    pub(crate) fn at(&mut self, micros: u64, event: Event) {
        self.at_time(self.now + Duration::from_micros(micros), event);
    }

    pub(crate) fn at_time(&mut self, time: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((time, self.sequence), event);
    }

    /// Runs until `end`, or until `done` says so after an event.
    pub(crate) fn run_until(&mut self, end: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time.max(self.now);
            self.happen(event);
            if done(self) {
                return true;
            }
        }
        self.now = end;
        false
    }

    fn happen(&mut self, event: Event) {
        let machine = event.machine(&self.network);
        if let Some(slot) = machine {
            let until = self.machines[slot].paused_until;
            if until > self.now {
                self.at_time(until, event);
                return;
            }
            if let Some(incarnation) = event.incarnation() {
                let same = self.machines[slot].incarnation == incarnation;
                if !same || self.machines[slot].process.is_none() {
                    return;
                }
            }
        }
        match event {
            Event::Start(slot) => self.start(slot),
            Event::Tick(slot, _) => self.tick(slot),
            Event::Beat(slot, _) => self.beat(slot),
            Event::Connect(slot, _) => self.connect(slot),
            Event::Work(slot, _) => self.work(slot),
            Event::Apply(slot, _) => self.apply(slot),
            Event::Flush(slot, _) => self.flush(slot),
            Event::Install(slot, _) => self.install(slot),
            Event::Deliver(peer, to) => self.deliver(peer, to),
            Event::Think(client) => self.think(client),
            Event::Look(reader) => self.look(reader),
            Event::Request(op, slot) => self.request(op, slot),
            Event::Response(op, result) => self.response(op, result),
            Event::Timeout(op) => self.timeout(op),
            Event::Operator(desk) => self.operator(desk),
            Event::Status(desk, slot) => self.tell_status(desk, slot),
            Event::Ask(ask) => self.asked(ask),
            Event::Reply(reply) => self.replied(reply),
            Event::Conclude(desk, life) => self.conclude_in(desk, life),
            Event::User => self.wish(),
            Event::Evict(slot, uid) => self.evict(slot, uid),
            Event::Fault => self.fault(),
        }
        if let Some(slot) = machine {
            self.settle(slot);
        }
    }

    pub(crate) fn local(&self, slot: usize) -> Duration {
        self.machines[slot].clock.local(self.now)
    }

    /// Tells the core of a machine what happened.
    pub(crate) fn drive(&mut self, slot: usize, input: Input) {
        let now = self.local(slot);
        if let Some(process) = &mut self.machines[slot].process {
            process.drive(input, now);
        }
        self.settle(slot);
    }

    /// Carries out what a process wants, gives its disk the next work, and looks whether all that
    /// must hold does.
    pub(crate) fn settle(&mut self, slot: usize) {
        loop {
            let now = self.local(slot);
            let Some(process) = &mut self.machines[slot].process else {
                return;
            };
            let outs = std::mem::take(&mut process.out);
            let idle = outs.is_empty();
            for out in outs {
                self.obey(slot, out);
            }
            let Some(process) = &mut self.machines[slot].process else {
                return;
            };
            if process.next_job(now) {
                self.begin_work(slot);
            } else if idle {
                break;
            }
        }
        self.check(slot);
    }

    fn check(&mut self, slot: usize) {
        self.checker.leaders(slot, self.now, &self.machines);
    }

    pub(crate) fn note(&mut self, op: Op) -> OpId {
        self.history.push(op);
        self.history.len() - 1
    }

    pub(crate) fn command(&mut self) -> Command {
        let key = self.rng.random_range(0..3);
        match self.rng.random_range(0..10) {
            0..4 => Command::Get(key),
            4..8 => {
                let value = (self.history.len() as u64 + 1) * super::client::STRIDE;
                Command::Set(key, value)
            }
            _ => Command::Incr(key),
        }
    }
}

/// The real operator begins with nothing; the others with a store of one.
fn first_register(setup: &Setup) -> Configuration {
    if setup.operators == Operators::Plan {
        return Configuration::default();
    }
    Configuration {
        version: 1,
        epoch: Epoch(1),
        leader: Some(ReplicaId(1)),
        voters: [ReplicaId(1)].into(),
        sync: setup.sync,
        ..Configuration::default()
    }
}

pub(crate) fn random_clock(rng: &mut SmallRng) -> LocalClock {
    let ppm = match rng.random_range(0..4) {
        0 => MOST_PPM,
        1 => -MOST_PPM,
        _ => rng.random_range(-MOST_PPM..=MOST_PPM),
    };
    LocalClock::new(rng.random_range(0..1_000_000_000), ppm)
}
