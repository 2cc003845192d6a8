//! The world: machines, network, clients, register and operators in one queue of events, everything
//! by chance from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use replicated_store::replication::message::Message;
use replicated_store::replication::{Configuration, Epoch, Input, Lsn, Peer, ReplicaId};

use super::api::{Ask, Desk, Reply};
use super::bug::Bug;
use super::check::Checker;
use super::client::{Command, Op, OpId};
use super::clock::{LocalClock, MOST_PPM};
use super::faults::Menu;
use super::network::{End, LEADER, Network, Packet};
use super::node::{Machine, Out};

/// A connection on which nothing came for this long is closed.
const SILENCE: Duration = Duration::from_millis(2500);

/// What happens at a moment. Processes are named with their incarnation: what was meant for an
/// earlier one does not happen.
pub(crate) enum Event {
    Start(usize),
    Tick(usize, u64),
    Beat(usize, u64),
    Connect(usize, u64),
    Work(usize, u64),
    Apply(usize, u64),
    Flush(usize, u64),
    Install(usize, u64),
    Deliver(Peer, usize),
    Think(usize),
    Request(OpId, usize),
    Response(OpId, Option<u64>),
    Timeout(OpId),
    Operator(usize),
    Status(usize, usize),
    Ask(Ask),
    Reply(Reply),
    Fault,
}

impl Event {
    /// The machine on which it happens, if it waits while that is paused.
    fn machine(&self, network: &Network) -> Option<usize> {
        match self {
            Self::Tick(slot, _)
            | Self::Beat(slot, _)
            | Self::Connect(slot, _)
            | Self::Work(slot, _)
            | Self::Apply(slot, _)
            | Self::Flush(slot, _)
            | Self::Install(slot, _)
            | Self::Request(_, slot) => Some(*slot),
            Self::Ask(ask) => ask.slot(),
            Self::Deliver(peer, to) => network.links.get(peer).map(|link| link.ends[*to].slot),
            _ => None,
        }
    }

    fn incarnation(&self) -> Option<u64> {
        match self {
            Self::Tick(_, incarnation)
            | Self::Beat(_, incarnation)
            | Self::Connect(_, incarnation)
            | Self::Work(_, incarnation)
            | Self::Apply(_, incarnation)
            | Self::Flush(_, incarnation)
            | Self::Install(_, incarnation) => Some(*incarnation),
            _ => None,
        }
    }
}

/// How a run is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) machines: usize,
    /// So many may vote at most; the others are learners.
    pub(crate) voters: usize,
    pub(crate) sync: u32,
    pub(crate) changes_sync: bool,
    pub(crate) bug: Bug,
    pub(crate) menu: Menu,
    /// The lease that leaders ask for at the beginning.
    pub(crate) lease: Duration,
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
    pub(crate) register: Configuration,
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
        let register = Configuration {
            version: 1,
            epoch: Epoch(1),
            leader: Some(ReplicaId(1)),
            voters: [ReplicaId(1)].into(),
            sync: setup.sync,
            ..Configuration::default()
        };
        let desks = (0..2).map(|_| Desk::new(&setup, &mut rng)).collect();
        let mut world = Self {
            rng,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            checker: Checker::new(),
            setup,
            machines,
            network: Network::default(),
            register,
            lost: BTreeSet::new(),
            desks,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            next_id: count as u128 + 1,
            next_incarnation: 0,
            history: Vec::new(),
            waiting: BTreeSet::new(),
            clients: true,
            faults: true,
            trace: String::new(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for slot in 0..self.machines.len() {
            self.at(0, Event::Start(slot));
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
            Event::Request(op, slot) => self.request(op, slot),
            Event::Response(op, result) => self.response(op, result),
            Event::Timeout(op) => self.timeout(op),
            Event::Operator(desk) => self.operator(desk),
            Event::Status(desk, slot) => self.tell_status(desk, slot),
            Event::Ask(ask) => self.asked(ask),
            Event::Reply(reply) => self.replied(reply),
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

    fn begin_work(&mut self, slot: usize) {
        let machine = &self.machines[slot];
        let micros = self
            .rng
            .random_range(machine.disk_us / 2..machine.disk_us * 2);
        let stall = machine.stalled_until.saturating_sub(self.now);
        let incarnation = machine.incarnation;
        let micros = micros + stall.as_micros() as u64;
        self.at(micros, Event::Work(slot, incarnation));
    }

    fn obey(&mut self, slot: usize, out: Out) {
        match out {
            Out::Send(peer, packet) => self.send(peer, slot, packet),
            Out::Close(peer) => self.close(peer, slot),
            Out::Promise(ticket, answer) => self.promised(ticket, Some(answer), slot),
            Out::Refused(ticket) => self.promised(ticket, None, slot),
            Out::Answer(op, result) => {
                self.checker.answered(slot, &self.machines);
                let micros = self.rng.random_range(200..3_000);
                self.at(micros, Event::Response(op, result));
            }
            Out::Frame(epoch, end, chain) => self.checker.frame(epoch, end, chain),
            Out::Committed(lsn) => {
                let leads = self.machines[slot].process.as_ref();
                let leads = leads.is_some_and(|it| it.core.leading().is_some());
                self.checker.committed(slot, lsn, leads, &self.machines);
                let micros = self.rng.random_range(50..2_000);
                let incarnation = self.machines[slot].incarnation;
                self.at(micros, Event::Apply(slot, incarnation));
            }
            Out::Cut(to) => {
                let machine = &mut self.machines[slot];
                machine.told = machine.told.min(to);
            }
            Out::Installed(engine) => self.machines[slot].engine = engine,
            Out::Failed => self.stop(slot, false),
            Out::Seeded(seed) => {
                self.checker.counts.seeds += 1;
                if let Some(process) = &mut self.machines[slot].process {
                    process.seed = Some(seed);
                }
                self.machines[slot].told = Lsn::ZERO;
                let micros = self.rng.random_range(1_000..300_000);
                let incarnation = self.machines[slot].incarnation;
                self.at(micros, Event::Install(slot, incarnation));
            }
        }
    }

    fn send(&mut self, peer: Peer, slot: usize, packet: Packet) {
        if let Packet::Message(Message::Ack { durable, .. }) = &packet {
            let machine = &mut self.machines[slot];
            machine.told = machine.told.max(*durable);
        }
        let micros = self.setup.menu.delay_us(&mut self.rng);
        let arrival = self.now + Duration::from_micros(micros);
        if let Some((to, at)) = self.network.send(peer, slot, packet, arrival) {
            self.at_time(at, Event::Deliver(peer, to));
        }
    }

    /// One end of a connection is closed; the other may learn of it.
    pub(crate) fn close(&mut self, peer: Peer, slot: usize) {
        let Some(link) = self.network.links.get_mut(&peer) else {
            return;
        };
        let end = usize::from(link.ends[LEADER].slot == slot);
        if !std::mem::replace(&mut link.ends[end].open, false) {
            return;
        }
        self.send(peer, slot, Packet::Fin);
        let now = self.local(slot);
        if let Some(process) = &mut self.machines[slot].process {
            process.streams.remove(&peer);
            if process.link == Some(peer) {
                process.link = None;
            }
            process.drive(Input::Closed(peer), now);
        }
        self.network.forget(peer);
    }

    fn deliver(&mut self, peer: Peer, to: usize) {
        let now = self.now;
        let Some(link) = self.network.links.get_mut(&peer) else {
            return;
        };
        let (from, slot) = (link.ends[1 - to].slot, link.ends[to].slot);
        let end = link.ends[to];
        let stalled = link.stalled_until;
        let blocked = self.network.cut.contains(&(from, slot));
        if stalled > now || (blocked && end.open) {
            self.at_time(
                stalled.max(now + Duration::from_millis(20)),
                Event::Deliver(peer, to),
            );
            return;
        }
        let Some((_, packet)) = link.queues[to].pop_front() else {
            return;
        };
        link.ends[to].heard_at = now;
        if let Some((next, _)) = link.queues[to].front() {
            let next = *next;
            self.at_time(next.max(now), Event::Deliver(peer, to));
        }
        if end.open && end.incarnation == self.machines[slot].incarnation {
            self.receive(peer, slot, packet);
        }
    }

    fn receive(&mut self, peer: Peer, slot: usize, packet: Packet) {
        let now = self.local(slot);
        match packet {
            Packet::Fin => self.close(peer, slot),
            Packet::SeedWanted => self.give_seed(peer, slot),
            Packet::Seed(seed) => {
                if let Some(process) = &mut self.machines[slot].process {
                    process.fetched(peer, seed);
                }
            }
            Packet::Message(message) => {
                if let Some(process) = &mut self.machines[slot].process {
                    process.drive(Input::Received(peer, message), now);
                    process.judge();
                }
            }
            Packet::Append(message, frames) => {
                if let Some(process) = &mut self.machines[slot].process {
                    process.offer(peer, frames, now);
                    process.drive(Input::Received(peer, message), now);
                    process.judge();
                }
            }
        }
    }

    fn give_seed(&mut self, peer: Peer, slot: usize) {
        let now = self.local(slot);
        let Some(process) = &mut self.machines[slot].process else {
            return;
        };
        if self.rng.random_bool(0.5) {
            process.upkeep(None, now);
        }
        let engine = self.machines[slot].engine.clone();
        let process = self.machines[slot].process.as_ref();
        let seed = process.and_then(|process| process.snapshot(&engine));
        match seed {
            Some(seed) => self.send(peer, slot, Packet::Seed(Box::new(seed))),
            None => self.close(peer, slot),
        }
    }

    /// A follower connects to whom it follows, if it can.
    fn connect(&mut self, slot: usize) {
        let incarnation = self.machines[slot].incarnation;
        let again = self.rng.random_range(20_000..60_000);
        self.at(again, Event::Connect(slot, incarnation));
        let Some(process) = &self.machines[slot].process else {
            return;
        };
        let (None, Some(target)) = (process.link, process.follows) else {
            return;
        };
        let reached = self.machines.iter().position(|it| it.id == target);
        let Some(leader) = reached.filter(|leader| *leader != slot) else {
            return;
        };
        let passes = self.network.passes(slot, leader) && self.network.passes(leader, slot);
        let up = self.machines[leader].process.is_some();
        if !passes || !up {
            return;
        }
        let end = |slot: usize| End {
            slot,
            incarnation: self.machines[slot].incarnation,
            open: true,
            heard_at: self.now,
        };
        let peer = self.network.connect(end(slot), end(leader));
        if let Some(process) = &mut self.machines[slot].process {
            process.link = Some(peer);
        }
        self.drive(slot, Input::Connected(peer));
    }

    fn tick(&mut self, slot: usize) {
        let machine = &self.machines[slot];
        let incarnation = machine.incarnation;
        let micros = self.rng.random_range(20_000..40_000);
        self.at(micros, Event::Tick(slot, incarnation));
        self.drive(slot, Input::Tick);
        let silent: Vec<Peer> = self
            .network
            .links
            .iter()
            .filter(|(_, link)| {
                let mut ends = link.ends.iter();
                ends.any(|end| end.slot == slot && end.open && end.heard_at + SILENCE < self.now)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in silent {
            self.close(peer, slot);
        }
    }

    fn beat(&mut self, slot: usize) {
        let incarnation = self.machines[slot].incarnation;
        let now = self.local(slot);
        let Some(process) = &mut self.machines[slot].process else {
            return;
        };
        let micros = process.core.lease().as_micros() as u64 / 10;
        process.now = now;
        let peers: Vec<Peer> = process.streams.keys().copied().collect();
        for peer in peers {
            process.heartbeat(peer);
        }
        process.acknowledge();
        self.at(micros, Event::Beat(slot, incarnation));
    }

    fn work(&mut self, slot: usize) {
        let now = self.local(slot);
        let Some(process) = &mut self.machines[slot].process else {
            return;
        };
        if process.finish_job(now).is_err() {
            self.stop(slot, false);
        }
    }

    fn apply(&mut self, slot: usize) {
        let now = self.local(slot);
        let Some(process) = &mut self.machines[slot].process else {
            return;
        };
        process.apply(now);
        let behind = !process.accepting && process.core.leading().is_some();
        if behind {
            let incarnation = self.machines[slot].incarnation;
            self.at(3_000, Event::Apply(slot, incarnation));
        }
        self.checker.applied(slot, &self.machines);
    }

    fn flush(&mut self, slot: usize) {
        let incarnation = self.machines[slot].incarnation;
        let micros = self.rng.random_range(20_000..400_000);
        self.at(micros, Event::Flush(slot, incarnation));
        let trim = self.faults && self.rng.random_bool(0.3);
        let trim = trim.then(|| self.dispensable());
        let now = self.local(slot);
        if let Some(process) = &mut self.machines[slot].process {
            process.upkeep(trim, now);
            process.apply(now);
        }
    }

    fn install(&mut self, slot: usize) {
        let now = self.local(slot);
        if let Some(process) = &mut self.machines[slot].process {
            process.install(now);
            process.apply(now);
        }
    }

    pub(crate) fn start(&mut self, slot: usize) {
        if self.machines[slot].process.is_some() {
            return;
        }
        self.next_incarnation += 1;
        let (incarnation, now, bug) = (self.next_incarnation, self.now, self.setup.bug);
        let machine = &mut self.machines[slot];
        if machine.start(incarnation, now, bug).is_err() {
            // The disk is full, or has failed: it is tried again.
            self.at(50_000, Event::Start(slot));
            return;
        }
        let _ = write!(self.trace, "start {slot} ");
        let events = [
            Event::Tick(slot, incarnation),
            Event::Beat(slot, incarnation),
            Event::Connect(slot, incarnation),
            Event::Flush(slot, incarnation),
        ];
        for event in events {
            let micros = self.rng.random_range(100..20_000);
            self.at(micros, event);
        }
        self.drive(slot, Input::SetLease(self.setup.lease));
    }

    /// The process ends; it is started again after a while.
    pub(crate) fn stop(&mut self, slot: usize, power: bool) {
        if self.machines[slot].process.is_none() {
            return;
        }
        let _ = write!(self.trace, "stop {slot} ");
        self.checker.counts.stops += 1;
        self.machines[slot].stop(power);
        self.machines[slot].paused_until = self.now;
        let ends: Vec<Peer> = self
            .network
            .links
            .iter()
            .filter(|(_, link)| link.ends.iter().any(|end| end.slot == slot && end.open))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in ends {
            if power {
                // Nobody is told.
                if let Some(link) = self.network.links.get_mut(&peer) {
                    let end = usize::from(link.ends[LEADER].slot == slot);
                    link.ends[end].open = false;
                }
                self.network.forget(peer);
            } else {
                self.close(peer, slot);
            }
        }
        let longest = if self.faults { 1_500_000 } else { 50_000 };
        let micros = self.rng.random_range(5_000..longest);
        self.at(micros, Event::Start(slot));
    }

    fn check(&mut self, slot: usize) {
        self.checker.leaders(slot, self.now, &self.machines);
    }

    /// Up to where nobody but one voter may need the log. A voter that is seeded anew is as good as
    /// lost for that time, and one is enough.
    fn dispensable(&self) -> Lsn {
        let sets = self.register.previous.iter().map(|set| &set.voters);
        let voters: BTreeSet<ReplicaId> = sets
            .chain([&self.register.voters])
            .flatten()
            .copied()
            .collect();
        let mut ends: Vec<Lsn> = Vec::new();
        for id in voters {
            if self.lost.contains(&id) || self.is_seeding(id) {
                return Lsn::ZERO;
            }
            let machine = self.machines.iter().find(|machine| machine.id == id);
            ends.extend(machine.map(|machine| machine.told));
        }
        ends.sort_unstable();
        ends.get(1).copied().unwrap_or_default()
    }

    /// Whether a replica has no whole state.
    pub(crate) fn is_seeding(&self, id: ReplicaId) -> bool {
        let machine = self.machines.iter().find(|machine| machine.id == id);
        let process = machine.and_then(|machine| machine.process.as_ref());
        process.is_some_and(|process| !process.is_whole())
    }

    /// The replica that answers as leader of the register's epoch.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.machines.iter().position(|machine| {
            let core = machine.process.as_ref().map(|process| &process.core);
            core.is_some_and(|core| {
                core.leading() == Some(self.register.epoch)
                    && core.answers_until() > machine.clock.local(self.now)
            })
        })
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

pub(crate) fn random_clock(rng: &mut SmallRng) -> LocalClock {
    let ppm = match rng.random_range(0..4) {
        0 => MOST_PPM,
        1 => -MOST_PPM,
        _ => rng.random_range(-MOST_PPM..=MOST_PPM),
    };
    LocalClock::new(rng.random_range(0..1_000_000_000), ppm)
}

impl World {
    /// Somebody leads, has everything, everybody follows, and a client has got an answer since.
    pub(crate) fn is_settled(&self, since: Duration) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let tip = |slot: usize| self.machines[slot].process.as_ref().map(|it| it.tip.end);
        let follows = |slot: usize| {
            let process = self.machines[slot].process.as_ref();
            process.is_some_and(|process| {
                let view = process.core.view();
                let near = tip(leader).is_some_and(|end| end.since(view.end) < 1_000);
                slot == leader || (view.streaming && view.complete && near)
            })
        };
        self.last_answer() > since
            && self.register.previous.is_empty()
            && (0..self.machines.len()).all(follows)
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("register {:?}\nlost {:?}\n", self.register, self.lost);
        for (slot, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else {
                let _ = writeln!(text, "{slot} {}: down", machine.id.0);
                continue;
            };
            let view = process.core.view();
            let _ = writeln!(
                text,
                "{slot} {}: {:?} leads {} serves {} {} of {:?} epoch {} version {}/{} last {:?} end {} commit {} \
                 streaming {} ready {} complete {} jobs {} applied {} until {:?} follows {:?}",
                machine.id.0,
                view.hard,
                view.leading,
                view.serving,
                machine.clock.local(self.now).as_millis(),
                view.leader.map(|id| id.0),
                view.epoch,
                view.established,
                view.version,
                view.last,
                view.end,
                view.commit,
                view.streaming,
                view.ready,
                view.complete,
                process.jobs.len(),
                process.applied.end,
                process.core.answers_until(),
                process.follows.map(|id| id.0),
            );
            for follower in view.followers {
                let _ = writeln!(text, "   {follower:?}");
            }
        }
        text
    }
}
