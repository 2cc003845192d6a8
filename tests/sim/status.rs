//! What a replica says of itself, as `src/server/status.rs` does.

use std::collections::BTreeMap;
use std::time::Duration;

use replicated_store::replication::admin::{FollowerStatus, ReplicaState, ReplicaStatus, Role};
use replicated_store::replication::{CoreView, Epoch, Lsn, Position};

use super::node::Process;
use super::world::World;

impl World {
    /// What a replica says of itself; `None` if no process runs.
    pub(crate) fn status(&self, slot: usize) -> Option<ReplicaStatus> {
        let machine = &self.machines[slot];
        let process = machine.process.as_ref()?;
        let core = &process.core;
        let view = core.view();
        let nothing = Position {
            epoch: Epoch(0),
            lsn: Lsn::ZERO,
        };
        let whole = process.store.is_some();
        let beat = (core.lease() / 3).clamp(Duration::from_millis(50), Duration::from_secs(1));
        Some(ReplicaStatus {
            id: machine.id,
            incarnation: machine.incarnation,
            name: format!("orders-{slot}"),
            version: String::new(),
            role: if view.leading {
                Role::Leader
            } else {
                Role::Follower
            },
            state: state(process, &view),
            ready: whole && !process.fenced && ready(process, &view),
            empty: !whole || view.last == nothing,
            promised: view.hard.promised,
            begun: view.hard.begun,
            configuration_version: view.version,
            adopted: Some(core.adopted_configuration().clone()).filter(|it| it.version > 0),
            names: BTreeMap::new(),
            matched: if view.leading || view.streaming {
                view.epoch
            } else {
                Epoch(0)
            },
            cut: view.hard.cut,
            established_version: view.established,
            answers: core.answers_until() > machine.clock.local(self.now),
            leader_heard: view.leader_heard,
            beat_ms: beat.as_millis() as u64,
            leaving: process.leaving,
            fenced: process.fenced,
            damaged: false,
            forgotten: core.forgotten(),
            protocol: 4,
            claim: machine.bound.map(|claim| claim.to_string()),
            stamp: Some(process.stamp),
            divergent: None,
            leader: view.leader,
            epoch: view.epoch,
            oldest_lsn: core.oldest(),
            last: view.last,
            commit_lsn: view.commit,
            withheld_bytes: view.commit.since(view.released),
            applied_lsn: process.applied.end,
            followers: followers(&view),
            seed: None,
            disk_used_percent: 0,
            clock_skew_ms: 0,
            message: String::new(),
            leader_port: 0,
        })
    }
}

fn ready(process: &Process, view: &CoreView) -> bool {
    if view.leading {
        view.serving
    } else {
        process.shows()
    }
}

fn state(process: &Process, view: &CoreView) -> ReplicaState {
    if view.leading {
        return if view.serving {
            ReplicaState::Streaming
        } else {
            ReplicaState::CatchingUp
        };
    }
    if process.store.is_none() || process.core.wants_seed() {
        return ReplicaState::Seeding;
    }
    match (view.streaming, process.shows()) {
        (true, true) => ReplicaState::Streaming,
        (true, false) => ReplicaState::CatchingUp,
        (false, _) => ReplicaState::Pending,
    }
}

fn followers(view: &CoreView) -> Vec<FollowerStatus> {
    let followers = view.followers.iter().map(|it| FollowerStatus {
        id: it.id,
        name: String::new(),
        connected: true,
        heard: it.heard,
        durable_lsn: it.durable,
        applied_lsn: it.applied,
        lag_bytes: view.end.since(it.applied),
        lag_seconds: 0.0,
    });
    followers.collect()
}
