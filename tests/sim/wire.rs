//! Connections between replicas: what a process sends, what arrives, who connects to whom.

use std::time::Duration;

use rand::Rng;
use replicated_store::replication::message::Message;
use replicated_store::replication::{Input, Lsn, Peer};

use super::event::Event;
use super::network::{End, LEADER, Packet};
use super::node::Out;
use super::world::World;

impl World {
    pub(crate) fn obey(&mut self, slot: usize, out: Out) {
        match out {
            Out::Send(peer, packet) => self.send(peer, slot, packet),
            Out::Close(peer) => self.close(peer, slot),
            Out::Promise(ticket, answer) => self.promised(ticket, Some(answer), slot),
            Out::Refused(ticket) => self.promised(ticket, None, slot),
            Out::Answer(need, op, result, at) => {
                self.checker.answered(slot, &self.machines);
                self.checker.shown(slot, need);
                self.answered(self.history[op].client, slot, at);
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
            Out::Released(lsn, led) => self.checker.released(slot, lsn, led, &self.machines),
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

    pub(crate) fn send(&mut self, peer: Peer, slot: usize, packet: Packet) {
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

    pub(crate) fn deliver(&mut self, peer: Peer, to: usize) {
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

    pub(crate) fn receive(&mut self, peer: Peer, slot: usize, packet: Packet) {
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

    pub(crate) fn give_seed(&mut self, peer: Peer, slot: usize) {
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
    pub(crate) fn connect(&mut self, slot: usize) {
        let incarnation = self.machines[slot].incarnation;
        let again = self.rng.random_range(20_000..60_000);
        self.at(again, Event::Connect(slot, incarnation));
        let Some(process) = &self.machines[slot].process else {
            return;
        };
        let (None, Some(target)) = (process.link, process.follows) else {
            return;
        };
        let reached = self.holder(target);
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
}
