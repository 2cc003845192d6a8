//! What this replica says of itself: the status that the operator and people see.

use super::inner::Inner;
use super::node::Node;
use crate::replication::CoreView;
use crate::replication::admin::{FollowerStatus, ReplicaState, ReplicaStatus, Role};

/// The status as of now.
pub(super) fn status(node: &Node, name: &str, incarnation: u64) -> ReplicaStatus {
    node.with(|inner| {
        let view = inner.core.view();
        ReplicaStatus {
            id: node.id,
            incarnation,
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: if view.leading {
                Role::Leader
            } else {
                Role::Follower
            },
            state: state(inner, &view),
            ready: readiness(inner, &view).is_ok(),
            empty: empty(inner, &view),
            promised: view.hard.promised,
            begun: view.hard.begun,
            configuration_version: view.version,
            established_version: view.established,
            leader: view.leader,
            epoch: view.epoch,
            oldest_lsn: inner.core.oldest(),
            last: view.last,
            commit_lsn: view.commit,
            applied_lsn: inner.applied.end,
            followers: followers(node, inner, &view),
            seed: inner.seed.clone(),
            disk_used_percent: inner.disk_used_percent,
            message: message(inner, &view),
        }
    })
}

/// Where this replica stands.
pub(super) fn state(inner: &Inner, view: &CoreView) -> ReplicaState {
    if view.leading {
        return if view.serving {
            ReplicaState::Streaming
        } else {
            ReplicaState::CatchingUp
        };
    }
    if inner.store.is_none() || inner.seed.is_some() || inner.core.wants_seed() {
        return ReplicaState::Seeding;
    }
    match (view.streaming, inner.ready) {
        (true, true) => ReplicaState::Streaming,
        (true, false) => ReplicaState::CatchingUp,
        (false, _) => ReplicaState::Pending,
    }
}

/// Whether clients should come here; if not, why.
pub(super) fn readiness(inner: &Inner, view: &CoreView) -> Result<(), &'static str> {
    if inner.store.is_none() {
        return Err("being seeded from the leader");
    }
    if view.leading {
        return if view.serving {
            Ok(())
        } else {
            Err("beginning to lead")
        };
    }
    // A follower that lost its leader goes on serving what it has.
    if inner.ready {
        Ok(())
    } else {
        Err("has not caught up with a leader since the start")
    }
}

/// No state that could be lost: neither records nor a seed under way.
fn empty(inner: &Inner, view: &CoreView) -> bool {
    let nothing = view.end.0 == 0
        && inner
            .store
            .as_ref()
            .is_some_and(crate::store::Store::is_empty);
    nothing || inner.store.is_none()
}

fn followers(node: &Node, inner: &Inner, view: &CoreView) -> Vec<FollowerStatus> {
    if !view.leading {
        return Vec::new();
    }
    let (now, end) = (node.now(), inner.end());
    let connected = view
        .followers
        .iter()
        .map(|(_, id, durable, applied)| FollowerStatus {
            id: *id,
            name: inner.follower_names.get(id).cloned().unwrap_or_default(),
            connected: true,
            durable_lsn: *durable,
            applied_lsn: *applied,
            lag_bytes: end.since(*applied),
            lag_seconds: inner.lag.age(*applied, end, now).as_secs_f64(),
        });
    let mut all: Vec<_> = connected.collect();
    for (id, name) in &inner.follower_names {
        if all.iter().any(|follower| follower.id == *id) || !inner.members.contains_key(id) {
            continue;
        }
        let durable = inner.durable_of.get(id).copied().unwrap_or_default();
        all.push(FollowerStatus {
            id: *id,
            name: name.clone(),
            connected: false,
            durable_lsn: durable,
            applied_lsn: durable,
            lag_bytes: end.since(durable),
            lag_seconds: inner.lag.age(durable, end, now).as_secs_f64(),
        });
    }
    all.sort_by_key(|follower| follower.id);
    all
}

fn message(inner: &Inner, view: &CoreView) -> String {
    if inner.disk_low {
        return "the disk is nearly full: writes are refused".to_owned();
    }
    if !inner.message.is_empty() {
        return inner.message.clone();
    }
    match view.leader {
        None => "no leader was assigned to this replica yet".to_owned(),
        Some(_) if !view.leading && !view.streaming && inner.store.is_some() => {
            "does not reach its leader".to_owned()
        }
        _ => String::new(),
    }
}
