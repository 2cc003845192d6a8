//! What this replica says of itself: the status that the operator and people see.

use std::collections::{BTreeMap, BTreeSet};

use super::admin::stream_beat;
use super::damage;
use super::inner::Inner;
use super::node::Node;
use super::room;
use super::shown::Hidden;
use super::time;
use crate::replication::admin::{FollowerStatus, ReplicaState, ReplicaStatus, Role};
use crate::replication::message::PROTOCOL_VERSION;
use crate::replication::{Configuration, Core, CoreView, Epoch, Lsn, ReplicaId};

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
            adopted: adopted(&inner.core),
            matched: if view.leading || view.streaming {
                view.epoch
            } else {
                Epoch(0)
            },
            names: inner.names.clone(),
            cut: view.hard.cut,
            established_version: view.established,
            answers: inner.core.answers_until() > node.now(),
            leader_heard: view.leader_heard,
            beat_ms: stream_beat(inner.core.lease()).as_millis() as u64,
            leaving: inner.leaving,
            fenced: inner.gate.fenced,
            damaged: inner.damage.is_some(),
            forgotten: inner.core.forgotten(),
            protocol: PROTOCOL_VERSION,
            claim: inner.claim.clone(),
            stamp: Some(inner.stamp),
            divergent: inner.divergent.clone(),
            leader: view.leader,
            epoch: view.epoch,
            oldest_lsn: inner.core.oldest(),
            last: view.last,
            commit_lsn: view.commit,
            withheld_bytes: view.commit.since(view.released),
            applied_lsn: inner.applied.end,
            followers: followers(node, inner, &view),
            seed: inner.seed.clone(),
            disk_used_percent: inner.disk.used_percent,
            clock_skew_ms: inner.time.skew_ms(),
            message: message(inner, &view),
            leader_port: 0,
        }
    })
}

/// The configuration that its disk remembers, if there was any.
fn adopted(core: &Core) -> Option<Configuration> {
    let adopted = core.adopted_configuration();
    (adopted.version > 0).then(|| adopted.clone())
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
    match (view.streaming, inner.shows().is_ok()) {
        (true, true) => ReplicaState::Streaming,
        (true, false) => ReplicaState::CatchingUp,
        (false, _) => ReplicaState::Pending,
    }
}

/// Whether clients should come here; if not, why.
pub(super) fn readiness(inner: &Inner, view: &CoreView) -> Result<(), &'static str> {
    let shows = inner.shows().map_err(Hidden::text);
    if inner.store.is_none() {
        return if inner.damage.is_some() {
            Err("its state on disk is damaged, and fetched anew")
        } else {
            shows
        };
    }
    if let Some(reason) = inner.gate.message() {
        return Err(reason);
    }
    if view.leading {
        return if view.serving {
            Ok(())
        } else {
            Err("beginning to lead")
        };
    }
    if inner.damage.is_some() && !inner.alone {
        return Err("its state on disk is damaged, and fetched anew");
    }
    // A follower that lost its leader goes on serving what it has.
    shows
}

/// No state that could be lost: neither records nor a seed under way.
fn empty(inner: &Inner, view: &CoreView) -> bool {
    let nothing = view.end.0 == 0
        && inner
            .store
            .as_ref()
            .is_some_and(crate::store::Store::is_empty);
    // Where only the state is damaged, the log has what this replica has acknowledged.
    nothing || (inner.store.is_none() && inner.damage.is_none())
}

/// The followers as this leader sees them. One that is away, or has just come back and not yet said
/// how far it is, is where it was when it was last heard of.
fn followers(node: &Node, inner: &Inner, view: &CoreView) -> Vec<FollowerStatus> {
    if !view.leading {
        return Vec::new();
    }
    let (now, end) = (node.now(), inner.end());
    let known = inner
        .follower_names
        .keys()
        .filter(|id| inner.members.contains_key(id));
    let connected = view.followers.iter().map(|follower| &follower.id);
    let all: BTreeSet<_> = known.chain(connected).copied().collect();
    let told = |id: ReplicaId| {
        let connected = view.followers.iter().find(|follower| follower.id == id);
        let last = |of: &BTreeMap<ReplicaId, Lsn>| of.get(&id).copied().unwrap_or_default();
        let durable = connected.map(|it| it.durable);
        let heard = connected.is_some_and(|it| it.heard);
        let applied = connected.map(|it| it.applied);
        let said = |lsn: Option<Lsn>| lsn.filter(|lsn| *lsn > Lsn::ZERO);
        FollowerStatus {
            id,
            name: inner.follower_names.get(&id).cloned().unwrap_or_default(),
            connected: durable.is_some(),
            heard,
            durable_lsn: said(durable).unwrap_or_else(|| last(&inner.durable_of)),
            applied_lsn: said(applied).unwrap_or_else(|| last(&inner.applied_of)),
            lag_bytes: 0,
            lag_seconds: 0.0,
        }
    };
    let with_lag = all.into_iter().map(told).map(|follower| FollowerStatus {
        lag_bytes: end.since(follower.applied_lsn),
        lag_seconds: inner.lag.age(follower.applied_lsn, end, now).as_secs_f64(),
        ..follower
    });
    with_lag.collect()
}

/// What a leader that is short of voters does not show.
fn withheld(inner: &Inner, view: &CoreView) -> Option<String> {
    let bytes = view.commit.since(view.released);
    (inner.gate.short && bytes > 0).then(|| {
        format!(
            "{bytes} bytes of writes are on fewer followers than syncReplicas: writes under way, and \
             reads of them, wait for followers"
        )
    })
}

fn message(inner: &Inner, view: &CoreView) -> String {
    if let Some(text) = inner.gate.message() {
        return text.to_owned();
    }
    if let Some(text) = damage::message(inner) {
        return text;
    }
    if let Some(text) = room::refusal(room::room(inner)) {
        return text.trim_start_matches("OOM ").to_owned();
    }
    if let Some(text) = withheld(inner, view) {
        return text;
    }
    if view.stalled {
        return "its disk did not answer for as long as a lease, so it stopped leading".to_owned();
    }
    if !inner.message.is_empty() {
        return inner.message.clone();
    }
    if let Some(text) = time::message(inner.time.skew_ms()) {
        return text;
    }
    match view.leader {
        None => "no leader was assigned to this replica yet".to_owned(),
        Some(_) if !view.leading && !view.streaming && inner.store.is_some() => {
            "does not reach its leader".to_owned()
        }
        _ => String::new(),
    }
}
