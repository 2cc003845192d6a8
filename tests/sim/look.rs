//! What can be said of the world as a whole.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use replicated_store::replication::{Lsn, ReplicaId};

use super::machine::Machine;
use super::world::{Operators, World};

impl World {
    /// Up to where nobody but one voter may need the log. A voter that is seeded anew is as good as
    /// lost for that time, and one is enough.
    pub(crate) fn dispensable(&self) -> Lsn {
        let sets = self.register.previous.iter().map(|set| &set.voters);
        let voters: BTreeSet<ReplicaId> = sets
            .chain([&self.register.voters])
            .flatten()
            .copied()
            .collect();
        let mut ends: Vec<Lsn> = Vec::new();
        if self.in_doubt() {
            return Lsn::ZERO;
        }
        for id in voters {
            if self.lost.contains(&id) || self.is_seeding(id) {
                return Lsn::ZERO;
            }
            let machine = self.holder(id).map(|slot| &self.machines[slot]);
            ends.extend(machine.map(|machine| machine.told));
        }
        ends.sort_unstable();
        ends.get(1).copied().unwrap_or_default()
    }

    /// Whether a replica has no whole state, or not all that it once had.
    pub(crate) fn is_seeding(&self, id: ReplicaId) -> bool {
        let machine = self.holder(id).map(|slot| &self.machines[slot]);
        let process = machine.and_then(|machine| machine.process.as_ref());
        let seeding = process.is_some_and(|process| !process.is_whole());
        seeding || machine.is_some_and(Machine::is_short)
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
            && (self.setup.operators == Operators::Erratic || self.is_as_wished())
    }

    /// Everybody votes, and writes wait for as many as the user wants.
    fn is_as_wished(&self) -> bool {
        let register = &self.register;
        let votes = |machine: &Machine| register.voters.contains(&machine.id);
        let status = self.cluster.object.status.as_ref();
        register.sync == self.setup.sync
            && register.voters.len() == self.machines.len()
            && self
                .machines
                .iter()
                .all(|it| votes(it) && !it.pod.terminating)
            && status.is_some_and(|it| it.members.iter().all(|member| member.ready))
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("register {:?}\nlost {:?}\n", self.register, self.lost);
        let object = &self.cluster.object;
        let _ = writeln!(text, "{:?} {:?}", object.spec.failover, object.spec.leader);
        for condition in object.status.iter().flat_map(|it| &it.conditions) {
            let _ = writeln!(text, "{condition:?}");
        }
        for (slot, machine) in self.machines.iter().enumerate() {
            let _ = writeln!(text, "{slot} {:?}", machine.pod);
            let Some(process) = &machine.process else {
                let _ = writeln!(text, "{slot} {}: down", machine.id.0);
                continue;
            };
            let view = process.core.view();
            let _ = writeln!(
                text,
                "{slot} {}: {:?} leads {} serves {} {} of {:?} epoch {} version {}/{} last {:?} end {} commit {} \
                 streaming {} ready {} fenced {} complete {} jobs {} applied {} until {:?} follows {:?}",
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
                process.fenced,
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
