//! Processes: how they start and end, and what they do by themselves.

use std::fmt::Write as _;
use std::time::Duration;

use rand::Rng;
use replicated_store::replication::{Addressee, Epoch, Input, Peer};

use super::event::Event;
use super::network::LEADER;
use super::shell::NOBODY;
use super::world::{Operators, World};

/// A connection on which nothing came for this long is closed.
const SILENCE: Duration = Duration::from_millis(2500);

impl World {
    pub(crate) fn start(&mut self, slot: usize) {
        if self.machines[slot].process.is_some() || !self.machines[slot].pod.exists {
            return;
        }
        self.next_incarnation += 1;
        let chosen = slot == 0 && self.machines[0].incarnation == 0;
        let (incarnation, now, bug) = (self.next_incarnation, self.now, self.setup.bug);
        let machine = &mut self.machines[slot];
        if let Err(error) = machine.start(incarnation, now, bug) {
            assert_eq!(error.lost(), None, "a restart misses records: {error}");
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
        if chosen && self.setup.operators != Operators::Plan {
            let (epoch, ticket, to) = (Epoch(1), NOBODY, Addressee::default());
            self.drive(slot, Input::Promise { epoch, ticket, to });
        }
        if self.setup.blocks {
            self.hold_replies(slot);
        }
    }

    fn hold_replies(&mut self, slot: usize) {
        if let Some(process) = &mut self.machines[slot].process {
            process.hold_replies(self.setup.sync);
        }
    }

    /// The process ends; it is started again after a while.
    pub(crate) fn stop(&mut self, slot: usize, power: bool) {
        if self.machines[slot].process.is_none() {
            return;
        }
        let _ = write!(self.trace, "stop {slot} ");
        self.checker.counts.stops += 1;
        self.machines[slot].stop(power);
        if !power && self.setup.operators != Operators::Erratic && self.rng.random_bool(0.3) {
            self.machines[slot].lose_parent();
        }
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

    pub(crate) fn tick(&mut self, slot: usize) {
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

    pub(crate) fn beat(&mut self, slot: usize) {
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

    pub(crate) fn begin_work(&mut self, slot: usize) {
        let machine = &self.machines[slot];
        let micros = self
            .rng
            .random_range(machine.disk_us / 2..machine.disk_us * 2);
        let stall = machine.stalled_until.saturating_sub(self.now);
        let incarnation = machine.incarnation;
        let micros = micros + stall.as_micros() as u64;
        self.at(micros, Event::Work(slot, incarnation));
    }

    pub(crate) fn work(&mut self, slot: usize) {
        let now = self.local(slot);
        let Some(process) = &mut self.machines[slot].process else {
            return;
        };
        if process.finish_job(now).is_err() {
            self.stop(slot, false);
        }
    }

    pub(crate) fn apply(&mut self, slot: usize) {
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

    pub(crate) fn flush(&mut self, slot: usize) {
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

    pub(crate) fn install(&mut self, slot: usize) {
        let now = self.local(slot);
        if let Some(process) = &mut self.machines[slot].process {
            process.install(now);
            process.apply(now);
        }
    }
}
