//! One replica of the small world: it keeps the protocol's rules, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::operator::plan::promotion::{copies, leases};
use crate::operator::testing;
use crate::operator::view::{Heard, Led, PodView};
use crate::replication::admin::{
    Acknowledged, FollowerStatus, LeaseLeft, PromiseAnswer, ReplicaState, ReplicaStatus, Role,
};
use crate::replication::types::{Configuration, Epoch, Lsn, Position, ReplicaId, StoreId};

/// Milliseconds of a lease, for the voter.
const LEASE: u64 = 1000;
/// Milliseconds of a lease, for the leader.
const BELIEVED: u64 = 980;

/// A data directory.
#[derive(Clone, Debug)]
pub(in crate::operator) struct Disk {
    status: ReplicaStatus,
    log: Vec<Position>,
}

impl Disk {
    /// Its replica goes on under another id.
    pub(in crate::operator) fn renew(&mut self, ordinal: u32, id: ReplicaId) {
        let name = format!("orders-{ordinal}");
        self.status.names.insert(self.status.id, name);
        self.status.id = id;
    }
}

/// One Pod with its replica.
#[derive(Clone, Debug)]
pub(in crate::operator) struct Replica {
    pub(in crate::operator) status: ReplicaStatus,
    /// The operator hears it.
    pub(in crate::operator) up: bool,
    /// It is heard, and hears nothing of the operator.
    pub(in crate::operator) deaf: bool,
    /// The others do not reach it.
    pub(in crate::operator) cut: bool,
    /// Its process does nothing.
    pub(in crate::operator) frozen: bool,
    pub(in crate::operator) label: Option<String>,
    pub(in crate::operator) revision: u32,
    uid: u64,
    log: Vec<Position>,
    adopted: Option<Configuration>,
    /// Leases that it has granted, by holder: until when.
    grants: BTreeMap<Epoch, u64>,
    /// An earlier process may have granted one until then.
    unknown_until: u64,
    /// As leader: when it was told so, in how long its barrier may come, what it has heard.
    wait_until: u64,
    first_barrier: Option<Lsn>,
    barrier: Option<(u64, Lsn)>,
    leased: BTreeMap<ReplicaId, u64>,
    acknowledged: BTreeMap<ReplicaId, (Lsn, bool)>,
    connected: BTreeSet<ReplicaId>,
    commit: Lsn,
    /// As follower: when it last heard its leader.
    heard_at: Option<u64>,
    // What the operator has seen of it.
    said: Option<ReplicaStatus>,
    led: Option<Led>,
    heard_leader: Option<(u64, Epoch)>,
    ended: Vec<u64>,
}

impl Disk {
    /// It is another store's, or remembers none, as releases before this one left it.
    pub(in crate::operator) fn belongs_to(&mut self, store: Option<StoreId>) {
        let adopted = store.and(self.status.adopted.take());
        self.status.adopted = adopted.map(|it| Configuration { store, ..it });
    }

    /// A new one.
    pub(super) fn blank(id: u64) -> Self {
        let status = ReplicaStatus {
            state: ReplicaState::Pending,
            ready: false,
            empty: true,
            promised: Epoch(0),
            configuration_version: 0,
            leader: None,
            epoch: Epoch(0),
            last: Position::default(),
            commit_lsn: Lsn(0),
            withheld_bytes: 0,
            applied_lsn: Lsn(0),
            disk_used_percent: 0,
            ..testing::status(u128::from(id))
        };
        Self {
            status,
            log: Vec::new(),
        }
    }

    /// A process takes over.
    pub(super) fn start(self, incarnation: u64, revision: u32, now: u64) -> Replica {
        let mut replica = Replica {
            status: self.status,
            up: true,
            deaf: false,
            cut: false,
            frozen: false,
            label: None,
            revision,
            uid: incarnation,
            log: self.log,
            adopted: None,
            grants: BTreeMap::new(),
            unknown_until: 0,
            wait_until: 0,
            first_barrier: None,
            barrier: None,
            leased: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            connected: BTreeSet::new(),
            commit: Lsn(0),
            heard_at: None,
            said: None,
            led: None,
            heard_leader: None,
            ended: Vec::new(),
        };
        replica.restart(incarnation, now);
        replica.ended.clear();
        replica
    }
}

impl Replica {
    pub(super) fn into_disk(self) -> Disk {
        Disk {
            status: self.status,
            log: self.log,
        }
    }

    /// Another process takes over the data directory.
    pub(super) fn restart(&mut self, incarnation: u64, now: u64) {
        self.ended.push(self.status.incarnation);
        let status = &mut self.status;
        status.incarnation = incarnation;
        status.role = Role::Follower;
        status.state = ReplicaState::Pending;
        status.ready = false;
        status.leaving = false;
        status.answers = false;
        status.leader_heard = false;
        status.configuration_version = 0;
        status.established_version = 0;
        status.leader = None;
        status.epoch = Epoch(0);
        status.followers.clear();
        status.matched = Epoch(0);
        self.adopted = None;
        self.grants.clear();
        // A data directory that never promised anything has granted nothing.
        self.unknown_until = if status.promised > Epoch(0) {
            now + LEASE
        } else {
            0
        };
        self.heard_at = None;
        self.stop_leading();
    }

    fn stop_leading(&mut self) {
        self.status.role = Role::Follower;
        self.status.answers = false;
        self.status.followers.clear();
        self.status.established_version = 0;
        self.first_barrier = None;
        self.barrier = None;
        self.leased.clear();
        self.acknowledged.clear();
        self.connected.clear();
    }

    /// The operator that heard it is another one now.
    pub(super) fn forget(&mut self) {
        (self.said, self.led, self.heard_leader) = (None, None, None);
    }

    pub(in crate::operator) fn log(&self) -> &[Position] {
        &self.log
    }

    pub(super) fn push(&mut self, record: Position) {
        self.log.push(record);
        self.status.last = record;
    }

    /// As leader: appends so many bytes.
    pub(super) fn append(&mut self, bytes: u64) {
        let lsn = self.status.last.lsn.advance(bytes);
        self.push(Position {
            epoch: self.status.epoch,
            lsn,
        });
    }

    /// Whether it has been heard.
    pub(super) fn was_seen(&self) -> bool {
        self.said.is_some()
    }

    pub(super) fn leads(&self) -> bool {
        self.status.role == Role::Leader
    }

    pub(super) fn reaches(&self, other: &Self) -> bool {
        !(self.cut || other.cut || self.frozen || other.frozen)
    }

    /// Whether it answers clients as leader; one that is frozen answers nobody, and is counted if
    /// it would at once when it goes on.
    pub(super) fn answers(&self, now: u64) -> bool {
        let Some(configuration) = &self.adopted else {
            return false;
        };
        let begun = self.first_barrier.is_some_and(|at| self.commit >= at);
        let leased = self.leased.iter().filter(|(id, until)| {
            **until > now && configuration.voters.contains(id) && **id != self.status.id
        });
        self.leads() && begun && leased.count() + 1 >= leases(&configuration.current())
    }

    /// Whether all that it has is committed.
    pub(super) fn committed(&self) -> bool {
        self.commit >= self.status.last.lsn
    }

    /// The barrier of its reign, once it has waited.
    pub(super) fn append_barrier(&mut self, now: u64) {
        if self.leads() && now >= self.wait_until && self.first_barrier.is_none() {
            self.append(1);
            self.first_barrier = Some(self.status.last.lsn);
            let version = self.status.configuration_version;
            self.barrier = Some((version, self.status.last.lsn));
            self.status.empty = false;
        }
    }

    /// Speaks to a follower, which answers.
    pub(super) fn speak(&mut self, follower: &mut Self, now: u64, send: bool) {
        let status = &mut follower.status;
        let id = status.id;
        let follows = status.leader == Some(self.status.id) && status.epoch == self.status.epoch;
        let reached = !(self.cut || follower.cut || self.frozen || follower.frozen);
        if !reached
            || !follows
            || status.promised > self.status.epoch
            || status.role == Role::Leader
        {
            self.connected.remove(&id);
            return;
        }
        self.connected.insert(id);
        follower.heard_at = Some(now);
        follower.grants.insert(self.status.epoch, now + LEASE);
        self.leased.insert(id, now + BELIEVED);
        if send && self.first_barrier.is_some() {
            follower.log.clone_from(&self.log);
            status.last = self.status.last;
            status.empty = false;
            status.state = ReplicaState::Streaming;
            status.ready = !status.fenced;
            status.matched = self.status.epoch;
            status.cut = self.status.epoch;
            self.acknowledged.insert(id, (self.status.last.lsn, true));
        }
    }

    /// Counts the copies.
    pub(super) fn commit(&mut self) {
        let Some(configuration) = self.adopted.as_ref() else {
            return;
        };
        let voters = self
            .acknowledged
            .iter()
            .filter(|(id, _)| configuration.voters.contains(id) && **id != self.status.id);
        let mut ends: Vec<Lsn> = voters.map(|(_, (lsn, _))| *lsn).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let others = copies(&configuration.current()) - 1;
        let own = self.status.last.lsn;
        let end = match others {
            0 => own,
            _ => ends.get(others - 1).copied().unwrap_or_default().min(own),
        };
        if self.first_barrier.is_some_and(|at| end >= at) {
            self.commit = self.commit.max(end);
        }
        if let Some((version, at)) = self.barrier
            && self.commit >= at
            && self.first_barrier.is_some()
        {
            self.status.established_version = version;
        }
    }

    /// Brings its words up to date.
    pub(super) fn refresh(&mut self, now: u64) {
        self.status.answers = self.answers(now);
        self.status.leader_heard =
            !self.leads() && self.heard_at.is_some_and(|at| at + LEASE > now);
        if !self.leads() {
            return;
        }
        let working = self.first_barrier.is_some_and(|at| self.commit >= at);
        self.status.ready = working && !self.status.fenced;
        if working {
            self.status.state = ReplicaState::Streaming;
        }
        let end = self.status.last.lsn;
        let followers = self.leased.iter().map(|(id, until)| {
            let (durable, _) = self.acknowledged.get(id).copied().unwrap_or_default();
            FollowerStatus {
                heard: until + (LEASE - BELIEVED) > now,
                id: *id,
                name: String::new(),
                connected: self.connected.contains(id),
                durable_lsn: durable,
                applied_lsn: durable,
                lag_bytes: end.since(durable),
                lag_seconds: 0.0,
            }
        });
        self.status.followers = followers.collect();
    }

    pub(in crate::operator) fn promise(&mut self, epoch: Epoch, now: u64) -> PromiseAnswer {
        let before = self.status.promised;
        let granted =
            self.status.promised <= epoch && !(self.leads() && self.status.epoch >= epoch);
        if granted {
            self.status.promised = epoch;
            self.stop_leading();
            self.heard_at = None;
            self.status.leader_heard = false;
            self.status.ready = false;
            self.status.state = ReplicaState::Pending;
            self.status.matched = Epoch(0);
        }
        let known = self.grants.range(..epoch);
        let known = known.map(|(epoch, until)| (Some(*epoch), *until));
        let all = known.chain([(None, self.unknown_until)]);
        let leases = all
            .filter(|(_, until)| *until > now)
            .map(|(holder, until)| LeaseLeft {
                holder,
                left_ms: until - now,
            });
        PromiseAnswer {
            leases: leases.collect(),
            id: self.status.id,
            granted,
            promised: self.status.promised,
            before: Some(before),
            last: self.status.last,
            cut: self.status.cut,
            acknowledged: self.known_of_others(),
            forgotten: false,
        }
    }

    fn known_of_others(&self) -> Vec<Acknowledged> {
        let epoch = self.status.begun;
        let known = self.acknowledged.iter();
        let known = known.map(|(id, (lsn, _))| Acknowledged {
            id: *id,
            epoch,
            last: Position { epoch, lsn: *lsn },
        });
        known.collect()
    }

    /// Takes over a configuration; answers why not, if not.
    pub(super) fn adopt(&mut self, configuration: &Configuration, now: u64) -> String {
        let status = &mut self.status;
        let adopted = status.adopted.as_ref();
        let known = adopted.map_or(0, |adopted| adopted.version);
        if configuration.version < status.configuration_version.max(known) {
            return "older than what I have".into();
        }
        if adopted.is_some_and(|it| it.version == configuration.version && it != configuration) {
            return "another one than I have".into();
        }
        let chosen = status.promised == configuration.epoch;
        if status.promised > configuration.epoch {
            return "I have promised more".into();
        }
        let same = configuration.version == status.configuration_version;
        let leads = configuration.leader == Some(status.id);
        let goes_on = status.role == Role::Leader && status.epoch == configuration.epoch;
        let new = status.epoch != configuration.epoch || status.leader != configuration.leader;
        status.configuration_version = configuration.version;
        status.adopted = Some(configuration.clone());
        status.promised = configuration.epoch;
        status.leader = configuration.leader;
        status.epoch = configuration.epoch;
        self.adopted = Some(configuration.clone());
        if leads && goes_on {
            if !same && self.first_barrier.is_some() {
                self.append(1);
                self.barrier = Some((configuration.version, self.status.last.lsn));
            }
        } else if leads && chosen && status.begun < configuration.epoch {
            self.stop_leading();
            self.status.begun = configuration.epoch;
            self.status.role = Role::Leader;
            self.status.matched = configuration.epoch;
            self.wait_until = now + configuration.wait_ms + configuration.wait_ms.div_ceil(50);
            self.status.state = ReplicaState::Pending;
            self.commit = Lsn(0);
        } else if !leads {
            self.stop_leading();
            if new {
                self.heard_at = None;
            }
        }
        String::new()
    }

    /// The Pod as the operator sees it.
    pub(super) fn pod(&mut self, name: String, ordinal: u32) -> PodView {
        let heard = self.up && !self.frozen;
        if heard {
            let status = &self.status;
            if status.role == Role::Leader {
                self.led = Some(Led {
                    epoch: status.epoch,
                    id: status.id,
                    incarnation: status.incarnation,
                });
            }
            if status.leader_heard {
                self.heard_leader = Some((status.incarnation, status.epoch));
            }
            self.said = Some(status.clone());
        }
        PodView {
            name,
            ordinal,
            uid: self.uid.to_string(),
            ip: Some([10, 0, 0, ordinal as u8].into()),
            node: "n1".into(),
            ready: heard && self.status.ready,
            terminating: false,
            revision: self.revision.to_string(),
            role: self.label.clone(),
            leader_port: true,
            terminated: false,
            failed: false,
            problem: String::new(),
            claim: None,
            copy: false,
            heard: self.said.clone().map(|status| Heard {
                status,
                connected: heard,
                at: 0,
                silence: Duration::ZERO,
                led: self.led,
                heard_leader: self.heard_leader,
                ended: self.ended.clone(),
            }),
        }
    }

    pub(super) fn describe(&self, now: u64) -> String {
        let status = &self.status;
        format!(
            "{} {:?} {:?} up {} deaf {} cut {} frozen {} promised {} begun {} version {} established {} \
             last {:?} commit {} revision {} answers {} leases {:?}",
            status.id,
            status.role,
            status.state,
            self.up,
            self.deaf,
            self.cut,
            self.frozen,
            status.promised,
            status.begun,
            status.configuration_version,
            status.established_version,
            status.last,
            self.commit,
            self.revision,
            self.answers(now),
            self.leased
        )
    }
}
