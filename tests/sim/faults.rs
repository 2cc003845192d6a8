//! What goes wrong, by chance.

use std::fmt::Write as _;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use replicated_store::replication::{Configuration, Input, Lsn, Peer, ReplicaId};

use super::bug::Bug;
use super::event::Event;
use super::machine::mirror_hard;
use super::node::Out;
use super::operator::needed;
use super::world::{Operators, World, random_clock};

/// How often what goes wrong: weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Menu {
    /// Between two faults, in microseconds, at most.
    pub(crate) pause_us: u64,
    pub(crate) cuts: u32,
    pub(crate) stops: u32,
    pub(crate) pauses: u32,
    pub(crate) disks: u32,
    pub(crate) losses: u32,
    pub(crate) leases: u32,
    /// Bits that turn over on a disk.
    pub(crate) rots: u32,
    /// What registers, objects and volumes go through besides.
    pub(crate) fates: u32,
    /// Most microseconds that a message takes, unless something is wrong.
    pub(crate) delay_us: u64,
    /// How many of twenty messages of operators take long.
    pub(crate) slow_words: u32,
    /// How often in a thousand looks an operator promotes for no reason.
    pub(crate) whims: u32,
    /// How often in a hundred promotions it gives voters up, or a leader those that it misses.
    pub(crate) removals: u32,
}

impl Menu {
    pub(crate) const ALL: Self = Self {
        pause_us: 600_000,
        cuts: 6,
        stops: 5,
        pauses: 4,
        disks: 4,
        losses: 1,
        leases: 1,
        rots: 1,
        fates: 0,
        delay_us: 2_000,
        slow_words: 1,
        whims: 10,
        removals: 30,
    };

    /// Nothing goes wrong but what a scenario does.
    pub(crate) const CALM: Self = Self {
        pause_us: 0,
        slow_words: 0,
        whims: 0,
        removals: 100,
        ..Self::ALL
    };

    pub(crate) fn is_calm(&self) -> bool {
        self.pause_us == 0
    }

    pub(crate) fn delay_us(&self, rng: &mut SmallRng) -> u64 {
        match rng.random_range(0..50) {
            0 => rng.random_range(1_000..100_000),
            _ => rng.random_range(100..self.delay_us),
        }
    }

    pub(crate) fn disk_us(rng: &mut SmallRng) -> u64 {
        [200, 200, 1_000, 20_000][rng.random_range(0..4)]
    }
}

impl World {
    pub(crate) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let menu = self.setup.menu;
        if menu.is_calm() {
            return;
        }
        let micros = self.rng.random_range(1_000..menu.pause_us);
        self.at(micros, Event::Fault);
        let slot = self.rng.random_range(0..self.machines.len());
        let leader = self.leader().filter(|_| self.rng.random_bool(0.4));
        let slot = leader.unwrap_or(slot);
        let weights = [
            menu.cuts,
            menu.stops,
            menu.pauses,
            menu.disks,
            menu.losses,
            menu.leases,
            menu.rots,
            menu.fates,
        ];
        let mut at = self.rng.random_range(0..weights.iter().sum());
        let mut kind = 0;
        while at >= weights[kind] {
            at -= weights[kind];
            kind += 1;
        }
        let _ = write!(
            self.trace,
            "{}us fault {kind} {slot} ",
            self.now.as_micros()
        );
        match kind {
            0 => self.cut(slot),
            1 => self.crash(slot),
            2 => self.pause(slot),
            3 => self.trouble_disk(slot),
            4 => self.lose_disk(slot),
            5 => self.change_lease(slot),
            6 => self.rot(slot),
            _ => self.fate(slot),
        }
    }

    /// Somebody cannot reach somebody, in one direction or both; or all is well again.
    fn cut(&mut self, slot: usize) {
        let all = self.machines.len() + self.desks.len();
        let other = self.rng.random_range(0..all);
        match self.rng.random_range(0..13) {
            // Operators do not see it, and everybody else does.
            8..10 => {
                let desks = self.machines.len()..all;
                self.network.cut.extend(desks.map(|desk| (desk, slot)));
            }
            0..3 => self.network.cut.clear(),
            3 => self.network.cut.extend([(slot, other)]),
            4 => self.network.cut.extend([(other, slot)]),
            5 | 10..13 => {
                let others = (0..all).filter(|it| *it != slot);
                let both = others.flat_map(|it| [(slot, it), (it, slot)]);
                self.network.cut.extend(both);
            }
            6 => self.network.cut.extend([(slot, other), (other, slot)]),
            _ => self.trouble_link(),
        }
    }

    /// A connection breaks, or delivers nothing for long.
    fn trouble_link(&mut self) {
        let peers: Vec<Peer> = self.network.links.keys().copied().collect();
        if peers.is_empty() {
            return;
        }
        let peer = peers[self.rng.random_range(0..peers.len())];
        let ends = self.network.links[&peer].ends;
        if self.rng.random_bool(0.5) {
            let end = self.rng.random_range(0..2);
            self.close(peer, ends[end].slot);
            self.settle(ends[end].slot);
        } else if let Some(link) = self.network.links.get_mut(&peer) {
            let millis = self.rng.random_range(50..3_000);
            link.stalled_until = self.now + Duration::from_millis(millis);
        }
    }

    /// The process is killed, or the machine loses its power in the middle of what its disk does.
    pub(crate) fn crash(&mut self, slot: usize) {
        let power = self.rng.random_bool(0.5);
        let now = self.local(slot);
        let halfway = self.rng.random_bool(0.7);
        let machine = &mut self.machines[slot];
        if let Some(process) = &mut machine.process
            && halfway
        {
            if power {
                for disk in [&machine.log, &machine.dir] {
                    let operation = disk.operations() + self.rng.random_range(0..4);
                    disk.lose_power_at(operation);
                }
            }
            // What it wants to tell is never told.
            let _ = process.finish_job(now);
            let outs = std::mem::take(&mut process.out);
            for out in outs {
                match out {
                    Out::Cut(to) => machine.told = machine.told.min(to),
                    Out::Seeded(_) => machine.told = Lsn::ZERO,
                    _ => {}
                }
            }
        }
        self.stop(slot, power);
    }

    /// The process takes no step for a while.
    fn pause(&mut self, slot: usize) {
        let millis = self.rng.random_range(20..1_500);
        self.machines[slot].paused_until = self.now + Duration::from_millis(millis);
    }

    fn trouble_disk(&mut self, slot: usize) {
        let machine = &mut self.machines[slot];
        let kind = self.rng.random_range(0..6);
        let _ = write!(self.trace, "disk {kind} ");
        match kind {
            0 => {
                let operation = machine.log.operations() + self.rng.random_range(0..6);
                machine.log.fail_at(operation, std::io::ErrorKind::Other);
            }
            1 => {
                let millis = self.rng.random_range(50..2_000);
                machine.stalled_until = self.now + Duration::from_millis(millis);
            }
            2 => machine.log.set_capacity(1),
            3 => machine.log.set_capacity(u64::MAX),
            _ => machine.disk_us = Menu::disk_us(&mut self.rng),
        }
    }

    /// A disk is lost with its machine, and another one takes its place: if the protocol says that
    /// the store survives it.
    fn lose_disk(&mut self, slot: usize) {
        if self.survives_loss_of(slot) {
            self.replace_disk(slot);
        }
    }

    pub(crate) fn survives_loss_of(&self, slot: usize) -> bool {
        if self.in_doubt() {
            return false; // who counts is not known
        }
        let id = self.machines[slot].id;
        let counts = self.register.voters.contains(&id);
        let asynchronous = counts && self.register.sync == 0;
        !asynchronous && self.survives(&self.register, Some(id))
    }

    /// The process ends, and on its disk a bit turns over. Whatever is read at the next start shows
    /// it; then the disk is as good as lost, or its log is.
    fn rot(&mut self, slot: usize) {
        let process = self.machines[slot].process.as_mut();
        // As the end of its writer does; else the last batch looks like one that a crash tore.
        let marked = process.is_some_and(|process| {
            process.log.mark_durable().is_ok() && mirror_hard(&process.dir).is_ok()
        });
        if !marked || !self.survives_loss_of(slot) {
            return;
        }
        self.stop(slot, false);
        let bits = self.rng.random();
        if self.machines[slot].rots(bits) {
            self.checker.counts.rots += 1;
            // Its log alone: then it goes on under its name, and says so. Others do not ask.
            let log_alone =
                (bits >> 40).is_multiple_of(2) && self.setup.operators == Operators::Plan;
            if !log_alone || !self.lose_log(slot) {
                self.replace_disk(slot);
            }
        }
    }

    fn lose_log(&mut self, slot: usize) -> bool {
        let told = self.machines[slot].told;
        if told == Lsn::ZERO {
            return false; // nobody has anything yet: it waits for a person
        }
        let seed = self.rng.random();
        let lost = self.machines[slot].lose_log(seed);
        if lost {
            self.checker.counts.losses += 1;
            self.checker.lost.push(told);
        }
        lost
    }

    pub(crate) fn replace_disk(&mut self, slot: usize) {
        let id = self.machines[slot].id;
        self.stop(slot, true);
        self.checker.counts.losses += 1;
        let new = if self.setup.bug == Bug::KeepsIdentity {
            id
        } else {
            self.lost.insert(id);
            self.next_id += 1;
            ReplicaId(self.next_id)
        };
        let seed = self.rng.random();
        self.checker.lost.push(self.machines[slot].told);
        self.machines[slot].replace_disk(new, seed);
        self.renew_pod(slot);
        if self.rng.random_bool(0.5) {
            self.machines[slot].clock = random_clock(&mut self.rng);
        }
    }

    /// Whether enough of each set are left for a promotion, if this one is lost too.
    pub(crate) fn survives(&self, register: &Configuration, loss: Option<ReplicaId>) -> bool {
        let sets = register.previous.iter().cloned();
        sets.chain([register.current()]).all(|set| {
            let gone = |it: &&ReplicaId| {
                let seeding = loss.is_some() && self.is_seeding(**it);
                // A copy may have become the only one.
                let lost = self.lost.contains(it) && self.holder(**it).is_none();
                Some(**it) == loss || lost || seeding
            };
            let left = set.voters.len() - set.voters.iter().filter(gone).count();
            left >= needed(&set, Bug::None)
        })
    }

    /// The user wants leases of another length.
    fn change_lease(&mut self, slot: usize) {
        if self.setup.operators == Operators::Plan {
            return; // it goes through the specification
        }
        let factor = self.rng.random_range(1..5);
        let lease = self.setup.lease * factor / 2;
        self.drive(slot, Input::SetLease(lease));
    }

    /// No more faults.
    pub(crate) fn heal(&mut self) {
        self.faults = false;
        self.content();
        self.network.cut.clear();
        for link in self.network.links.values_mut() {
            link.stalled_until = self.now;
        }
        for machine in &mut self.machines {
            machine.paused_until = self.now;
            machine.stalled_until = self.now;
            machine.disk_us = 200;
            machine.log.set_capacity(u64::MAX);
        }
        for slot in 0..self.machines.len() {
            self.drive(slot, Input::SetLease(self.setup.lease));
        }
    }
}
