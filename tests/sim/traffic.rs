//! Clients: what they ask of whom, and what they learn.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::client::{Op, OpId};
use super::event::Event;
use super::world::World;

/// A client gives up after this.
const PATIENCE_US: u64 = 1_000_000;

impl World {
    /// A client asks a replica that says that it leads.
    pub(crate) fn think(&mut self, client: usize) {
        if !self.clients {
            return;
        }
        let leads = |slot: &usize| {
            let process = self.machines[*slot].process.as_ref();
            process.is_some_and(|process| process.core.leading().is_some())
        };
        let slots: Vec<usize> = (0..self.machines.len()).filter(leads).collect();
        let Some(slot) = slots.choose(&mut self.rng).copied() else {
            self.at(30_000, Event::Think(client));
            return;
        };
        let command = self.command();
        let op = self.note(Op {
            client,
            command,
            asked: self.now,
            answered: None,
            result: None,
            refused: false,
        });
        self.waiting.insert(op);
        let micros = self.rng.random_range(200..4_000);
        self.at(micros, Event::Request(op, slot));
        self.at(PATIENCE_US, Event::Timeout(op));
    }

    pub(crate) fn request(&mut self, op: OpId, slot: usize) {
        let now = self.local(slot);
        let Op {
            client, command, ..
        } = self.history[op];
        let connection = self.connection(client, slot);
        let process = self.machines[slot].process.as_mut();
        let taken = process
            .zip(connection)
            .is_some_and(|(process, connection)| {
                process.now = now;
                if process.accepting {
                    connection.check(process);
                }
                let taken = process.execute(op, command);
                process.answer_waiters();
                taken
            });
        if !taken {
            self.history[op].refused = true;
            self.waiting.remove(&op);
            self.next_thought(op);
        }
    }

    pub(crate) fn response(&mut self, op: OpId, result: Option<u64>) {
        if self.waiting.remove(&op) {
            self.history[op].answered = Some(self.now);
            self.history[op].result = result;
            self.checker.counts.answers += 1;
            self.next_thought(op);
        }
    }

    pub(crate) fn timeout(&mut self, op: OpId) {
        if self.waiting.remove(&op) {
            self.connections.remove(&self.history[op].client);
            self.checker.counts.unknown += 1;
            self.next_thought(op);
        }
    }

    fn next_thought(&mut self, op: OpId) {
        let client = self.history[op].client;
        let micros = self.rng.random_range(5_000..120_000);
        self.at(micros, Event::Think(client));
    }

    /// When the newest answer came.
    pub(crate) fn last_answer(&self) -> Duration {
        let answers = self.history.iter().filter_map(|op| op.answered);
        answers.max().unwrap_or_default()
    }
}
