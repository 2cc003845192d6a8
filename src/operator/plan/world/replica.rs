//! One replica of the small world: it keeps the protocol's rules, and nothing else.

use crate::operator::view::{Heard, PodView, View};
use crate::replication::admin::{ReplicaState, ReplicaStatus, Role};
use crate::replication::types::{Configuration, Epoch, Lsn, Position, ReplicaId};

/// One Pod with its replica.
#[derive(Clone, Debug)]
pub(in crate::operator) struct Replica {
    pub(in crate::operator) status: ReplicaStatus,
    pub(in crate::operator) up: bool,
    /// It is heard, and hears nothing.
    pub(in crate::operator) deaf: bool,
    pub(in crate::operator) label: Option<String>,
    pub(in crate::operator) revision: u32,
    pub(super) adopted: Option<Configuration>,
}

/// A replica of a new data directory.
pub(super) fn blank(id: u64) -> ReplicaStatus {
    ReplicaStatus {
        answers: false,
        leader_heard: false,
        leaving: false,
        fenced: false,
        divergent: None,
        id: ReplicaId(u128::from(id)),
        incarnation: id,
        name: String::new(),
        version: "0.1.0".into(),
        role: Role::Follower,
        state: ReplicaState::Pending,
        ready: false,
        empty: true,
        promised: Epoch(0),
        begun: Epoch(0),
        configuration_version: 0,
        established_version: 0,
        leader: None,
        epoch: Epoch(0),
        oldest_lsn: Lsn(0),
        last: Position::default(),
        commit_lsn: Lsn(0),
        applied_lsn: Lsn(0),
        followers: Vec::new(),
        seed: None,
        disk_used_percent: 0,
        message: String::new(),
    }
}

impl Replica {
    /// Takes over a configuration; answers why not, if not.
    pub(super) fn adopt(&mut self, configuration: &Configuration) -> String {
        let status = &mut self.status;
        if configuration.version < status.configuration_version {
            return "older than what I have".into();
        }
        if status.promised > configuration.epoch {
            return "I have promised more".into();
        }
        let leads = configuration.leader == Some(status.id);
        let goes_on = status.role == Role::Leader && status.epoch == configuration.epoch;
        status.configuration_version = configuration.version;
        status.promised = configuration.epoch;
        status.leader = configuration.leader;
        status.epoch = configuration.epoch;
        self.adopted = Some(configuration.clone());
        if leads && (goes_on || status.begun < configuration.epoch) {
            status.begun = configuration.epoch;
            status.role = Role::Leader;
            status.state = ReplicaState::Streaming;
            status.ready = true;
            status.empty = false;
            status.last = Position {
                epoch: configuration.epoch,
                lsn: status.last.lsn.advance(1),
            };
            status.established_version = configuration.version;
        } else if !leads {
            status.role = Role::Follower;
        }
        String::new()
    }
}

/// Another process takes over the data directory.
pub(super) fn restart(status: &mut ReplicaStatus, incarnation: u64) {
    status.incarnation = incarnation;
    status.role = Role::Follower;
    status.state = ReplicaState::Pending;
    status.ready = false;
    status.configuration_version = 0;
    status.established_version = 0;
    status.leader = None;
    status.epoch = Epoch(0);
    status.followers.clear();
}

/// The Pod as the operator sees it.
pub(super) fn pod(view: &View, ordinal: u32, replica: &Replica) -> PodView {
    PodView {
        name: view.pod_name(ordinal),
        ordinal,
        uid: replica.status.incarnation.to_string(),
        ip: Some([10, 0, 0, ordinal as u8].into()),
        node: "n1".into(),
        ready: replica.up && replica.status.ready,
        terminating: false,
        revision: replica.revision.to_string(),
        role: replica.label.clone(),
        problem: String::new(),
        heard: Some(Heard {
            status: replica.status.clone(),
            connected: replica.up,
            at: 0,
        }),
    }
}
