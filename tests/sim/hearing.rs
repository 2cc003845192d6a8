//! What operators hear of replicas: the shipped one by streams that keep their order and end with the
//! process, and by the word of the process' parent; the other by words that come as they like.

use std::time::Duration;

use rand::Rng;
use replicated_store::replication::admin::{ReplicaStatus, Role};

use super::api::{Reply, Word};
use super::event::Event;
use super::operator::Seen;
use super::world::World;

/// The stream of a replica's states: what is said arrives in order.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) incarnation: Option<u64>,
    arrives: Duration,
}

impl World {
    /// A replica's words on their way to an operator.
    pub(crate) fn tell_status(&mut self, desk: usize, slot: usize) {
        let micros = self.rng.random_range(60_000..140_000);
        self.at(micros, Event::Status(desk, slot));
        let paused = self.machines[slot].paused_until > self.now;
        if paused || !self.reaches(desk, slot) {
            return;
        }
        if self.desks[desk].operator.hears_streams() {
            self.stream(desk, slot);
        } else if let Some(status) = self.status(slot) {
            let uid = self.machines[slot].pod.uid.to_string();
            let word = Word::Said(uid, Box::new(status));
            self.reply(Reply::Word(desk, slot, word));
        }
    }

    /// The stream goes on, or ends with the process; then its parent is asked.
    fn stream(&mut self, desk: usize, slot: usize) {
        let status = self.status(slot);
        let now = status.as_ref().map(|status| status.incarnation);
        let before = self.desks[desk].streams.entry(slot).or_default();
        let was = std::mem::replace(&mut before.incarnation, now);
        if was.is_some() && was != now {
            self.say(desk, slot, Word::Lost);
        }
        let watched = self.machines[slot].watched && self.machines[slot].pod.exists;
        if was != now && watched && self.rng.random_bool(0.8) {
            let ended = self.machines[slot].reaped.iter().copied().collect();
            self.say(desk, slot, Word::Ended(ended));
        }
        if let Some(status) = status {
            let uid = self.machines[slot].pod.uid.to_string();
            self.say(desk, slot, Word::Said(uid, Box::new(status)));
        }
    }

    fn say(&mut self, desk: usize, slot: usize, word: Word) {
        let arrives = self.now + Duration::from_micros(self.message_us());
        let stream = self.desks[desk].streams.entry(slot).or_default();
        stream.arrives = stream.arrives.max(arrives);
        let arrives = stream.arrives;
        self.at_time(arrives, Event::Reply(Reply::Word(desk, slot, word)));
    }

    pub(crate) fn learn(&mut self, desk: usize, slot: usize, word: Word) {
        let now = self.now;
        let here = &mut self.desks[desk];
        if let Word::Said(_, status) = &word {
            self.checker.counts.heard += 1;
            note(&mut here.seen, slot, status, now);
            let ended = self.machines[slot].ended.iter();
            here.seen.ended.extend(ended.map(|it| (slot, *it)));
        }
        here.operator.learn(slot, word, now);
    }
}

fn note(seen: &mut Seen, slot: usize, status: &ReplicaStatus, now: Duration) {
    if status.role == Role::Leader {
        let process = (slot, status.incarnation);
        seen.processes.insert(status.epoch, process);
    }
    seen.words.insert(slot, (status.clone(), now));
}
