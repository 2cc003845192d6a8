//! What clients are shown: no reply comes from a state that is older than what its connection has seen or
//! written, nor than what anybody has been shown by that process.

use rand::Rng;
use replicated_store::replication::{Lsn, Position, Standing};

use super::bug::Bug;
use super::event::Event;
use super::machine::Machine;
use super::node::Process;
use super::world::World;

/// Connections that only read, of whatever replica.
pub(crate) const READERS: usize = 4;

/// What a connection to a process has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connection {
    slot: usize,
    incarnation: u64,
    /// As the replica keeps it for its client.
    pub(crate) seen: Position,
    /// As the simulation knows it: the end of a frame, and the chain there.
    known: Option<(Lsn, u32)>,
}

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A state, and what the connection has seen from here on.
    State(Position),
    /// `LOADING`, or it waits.
    NotNow,
    /// The connection is closed.
    Closed,
}

impl Connection {
    pub(crate) fn to(slot: usize, machine: &Machine) -> Self {
        Self {
            slot,
            incarnation: machine.incarnation,
            ..Self::default()
        }
    }

    /// Whether it leads to the process that is running there.
    pub(crate) fn lasts(&self, slot: usize, machine: &Machine) -> bool {
        self.slot == slot && self.incarnation == machine.incarnation && machine.process.is_some()
    }

    /// A state was shown: it must have what was seen before.
    pub(crate) fn check(&self, process: &Process) {
        let Some((end, chain)) = self.known else {
            return;
        };
        let own = process.shadow.get(&end).map(|(_, chain)| *chain);
        assert!(
            process.applied.end >= end && own == Some(chain),
            "machine {} shows {} to somebody who has seen {end}",
            self.slot,
            process.applied.end
        );
    }

    /// What was shown up to there is known by the end of its frame.
    pub(crate) fn note(&mut self, at: Position, process: &Process) {
        self.seen = self.seen.max(at);
        if let Some((end, (_, chain))) = process.shadow.range(at.lsn..).next()
            && self.known.is_none_or(|(known, _)| known < *end)
        {
            self.known = Some((*end, *chain));
        }
    }
}

impl Process {
    /// How the state stands to one that somebody has seen.
    fn standing(&self, seen: Position) -> Standing {
        self.core.history().standing(self.applied.end, seen)
    }

    /// Whether clients may be shown the state.
    pub(crate) fn shows(&self) -> bool {
        if self.store.is_none() {
            return false;
        }
        let gone_back = self.shown.lsn > Lsn::ZERO && self.standing(self.shown) == Standing::Behind;
        self.accepting || (self.ready && (!gone_back || self.bug == Bug::ShowsOlder))
    }

    /// The state is about to go back, or to be replaced.
    pub(crate) fn going_back(&mut self) {
        let at = self
            .core
            .history()
            .position(self.applied.end.min(self.core.released()));
        if self.shows() {
            self.shown = self.shown.max(at);
        }
    }

    pub(crate) fn comes_forward(&mut self) {
        if self.standing(self.shown) != Standing::Behind {
            self.shown = Position::default();
        }
    }

    /// Whether a connection that has seen this must be closed.
    pub(crate) fn has_lost(&self, seen: Position) -> bool {
        let parted = self.store.is_some() && self.standing(seen) == Standing::Parted;
        parted && self.bug != Bug::ShowsOlder
    }

    /// A follower's client reads.
    fn read(&self, seen: Position) -> Shown {
        if self.has_lost(seen) {
            return Shown::Closed;
        }
        let held = self.holding || self.core.leading().is_some();
        let behind = self.standing(seen) == Standing::Behind && self.bug != Bug::ShowsOlder;
        if held || self.fenced || behind || !self.shows() {
            return Shown::NotNow;
        }
        Shown::State(self.core.history().position(self.applied.end))
    }
}

impl World {
    /// A reader looks at a replica, on the connection that it has or on another one.
    pub(crate) fn look(&mut self, reader: usize) {
        if !self.clients {
            return;
        }
        let micros = self.reader_rng.random_range(3_000..60_000);
        self.at(micros, Event::Look(reader));
        let old = self.readers[reader].map_or(0, |it| it.slot);
        let stays = self.readers[reader].is_some() && self.reader_rng.random_bool(0.9);
        let slot = if stays {
            old
        } else {
            self.reader_rng.random_range(0..self.machines.len())
        };
        let machine = &self.machines[slot];
        let Some(process) = &machine.process else {
            self.readers[reader] = None;
            return;
        };
        if machine.paused_until > self.now || process.accepting {
            return; // what leaders show, those see who write
        }
        let lasts = self.readers[reader].filter(|it| it.lasts(slot, machine));
        let mut connection = lasts.unwrap_or_else(|| Connection::to(slot, machine));
        self.readers[reader] = match process.read(connection.seen) {
            Shown::NotNow => Some(connection),
            Shown::Closed => None,
            Shown::State(at) => {
                connection.check(process);
                self.checker.counts.reads += 1;
                connection.note(at, process);
                self.shown(slot, at);
                Some(connection)
            }
        };
    }

    /// Somebody was shown a state: from now on that process shows nobody an older one, unless that was given up.
    fn shown(&mut self, slot: usize, at: Position) {
        let machine = &self.machines[slot];
        let Some(process) = &machine.process else {
            return;
        };
        let mut all = machine.shown.filter(|it| it.lasts(slot, machine));
        if all.is_some_and(|it| process.has_lost(it.seen)) {
            assert!(
                self.checker.gave_up,
                "machine {slot} has lost what it showed"
            );
            all = None;
        }
        let mut all = all.unwrap_or_else(|| Connection::to(slot, machine));
        all.check(process);
        all.note(at, process);
        self.machines[slot].shown = Some(all);
    }

    /// A command reaches a leader on a client's connection; `None` closes it.
    pub(crate) fn connection(&mut self, client: usize, slot: usize) -> Option<Connection> {
        let machine = &self.machines[slot];
        let known = self.connections.get(&client).copied();
        let known = known.filter(|it| it.lasts(slot, machine));
        let lost = |it: &Connection| {
            let process = machine.process.as_ref();
            process.is_some_and(|process| process.has_lost(it.seen))
        };
        if known.as_ref().is_some_and(lost) {
            self.connections.remove(&client);
            return None;
        }
        Some(known.unwrap_or_else(|| Connection::to(slot, machine)))
    }

    /// A leader gives an answer that shows this much.
    pub(crate) fn answered(&mut self, client: usize, slot: usize, at: Position) {
        if let Some(mut connection) = self.connection(client, slot)
            && let Some(process) = &self.machines[slot].process
        {
            connection.note(at, process);
            self.connections.insert(client, connection);
            self.shown(slot, at);
        }
    }
}
