//! What the operator sees of one store, as plain data: the input of [`super::plan`].

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::replication::admin::{Assignment, ReplicaStatus, Role};
use crate::replication::types::{Configuration, Epoch, Lsn, ReplicaId, StoreId};

use super::plan::doubt::Doubt;
use super::validate::ValidatedStore;

/// A replica that says something at a set time may be late by this much.
const LATE: Duration = Duration::from_millis(250);

/// One store at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// What is wanted.
    pub store: ValidatedStore,
    /// The register, as the API server itself answered.
    pub register: Option<Configuration>,
    /// Ids that the register names and whose data directories are known to be gone.
    pub lost: BTreeSet<ReplicaId>,
    /// The ordinals that those had, as far as they are known.
    pub formerly: BTreeMap<ReplicaId, u32>,
    /// The Pods that exist, by ordinal.
    pub pods: BTreeMap<u32, PodView>,
    /// The ids that ordinals had when they were last heard of.
    pub known: BTreeMap<u32, ReplicaId>,
    /// The StatefulSet, if there is one.
    pub workload: Option<Workload>,
    /// Ordinals whose volumes may hold data, whoever made them and whenever, beyond those that are
    /// wanted, too. Looked at only where the register is gone or behind.
    pub volumes: BTreeSet<u32>,
    /// UIDs of the claims that there are, whoever uses them; looked up only where a replica says that it
    /// belongs to another one than its own.
    pub claims: BTreeSet<String>,
    /// The most that each replica is known to have had on disk.
    pub held: BTreeMap<ReplicaId, Held>,
    /// The newest register that this operator knows to have been in force; `None` before it has heard one led.
    pub witnessed: Option<Witnessed>,
    /// The id of this store, if it is about to be born.
    pub drawn: StoreId,
    /// Time since this operator last asked for promises in this store.
    pub since_campaign: Option<Duration>,
    /// Time since this operator last asked a leader to make room.
    pub since_switchover: Option<Duration>,
    /// What looks wrong, and for how long this operator has seen it so without a break.
    pub doubts: BTreeMap<Doubt, Duration>,
    /// What this operator has told the replicas, by ordinal.
    pub told: BTreeMap<u32, Told>,
}

/// What a replica is known to have had on disk. It may have less later only if a leader of a later
/// epoch had it cut its log; else its volume was put back to what it was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Epoch of the leader that it followed, or was, then.
    pub epoch: Epoch,
    /// The end of its log.
    pub lsn: Lsn,
    /// Epoch of its last record, as far as that was told: a log that was put back may be longer, and older.
    pub newest: Epoch,
}

impl Held {
    /// All that is known once this is heard, too: while it follows one leader, a log only grows. Under a later
    /// one it may be shorter if that had it cut, `cut` being the highest epoch of a leader that did; else it
    /// was put back, and what it had stays known until it has as much again.
    #[must_use]
    pub fn join(self, other: Self, cut: Epoch) -> Self {
        match self.epoch.cmp(&other.epoch) {
            Ordering::Less if other.lsn >= self.lsn || cut > self.epoch => other,
            Ordering::Less | Ordering::Greater => self,
            Ordering::Equal => Self {
                epoch: self.epoch,
                lsn: self.lsn.max(other.lsn),
                newest: self.newest.max(other.newest),
            },
        }
    }
}

/// A register that was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Its store.
    pub store: Option<StoreId>,
    /// Its version.
    pub version: u64,
    /// Its epoch.
    pub epoch: Epoch,
}

/// What a replica was told last.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The process that was told.
    pub incarnation: u64,
    /// What.
    pub assignment: Arc<Assignment>,
    /// Why it did not take it; empty if it did.
    pub refusal: String,
    /// How long ago.
    pub age: Duration,
}

/// What matters of the StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Replicas in its specification.
    pub replicas: u32,
    /// Image of its template.
    pub image: String,
    /// Revision that Pods should have; `None` while its controller has not looked at the newest
    /// template yet.
    pub revision: Option<String>,
    /// Whether its Pods are made with [`LEADER_PORT`](super::build::LEADER_PORT).
    pub leader_port: bool,
}

/// One Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// The number at the end of its name.
    pub ordinal: u32,
    /// Its identity: another Pod under the same name has another.
    pub uid: String,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// The node it runs on; empty before it is placed.
    pub node: String,
    /// Whether Kubernetes holds it to be Ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The revision of the template that it was made from.
    pub revision: String,
    /// Its role label.
    pub role: Option<String>,
    /// Whether it was made with [`LEADER_PORT`](super::build::LEADER_PORT).
    pub leader_port: bool,
    /// Whether Kubernetes says that its container has ended and does not run now.
    pub terminated: bool,
    /// Whether its container ends again and again, each time with a reason of its own.
    pub failed: bool,
    /// What keeps it from running, for people; empty if nothing does.
    pub problem: String,
    /// UID of its claim, once that was looked up.
    pub claim: Option<String>,
    /// Whether its disk is a copy of one that belongs to another claim, which is there: nothing that its
    /// replica says counts until it has an id of its own.
    pub copy: bool,
    /// What was last heard from its replica.
    pub heard: Option<Heard>,
}

/// The words of a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// What it said last.
    pub status: ReplicaStatus,
    /// Whether its stream is up.
    pub connected: bool,
    /// Seconds since 1970 (UTC) at which it was said.
    pub at: i64,
    /// How long ago it was said.
    pub silence: Duration,
    /// The reign that it last claimed.
    pub led: Option<Led>,
    /// The process and the epoch in which it last said that it hears its leader.
    pub heard_leader: Option<(u64, Epoch)>,
    /// Incarnations that have ended, as the parent of the process says.
    pub ended: Vec<u64>,
}

/// A reign: an epoch belongs to one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    /// Which.
    pub epoch: Epoch,
    /// Whose data directory.
    pub id: ReplicaId,
    /// Which process.
    pub incarnation: u64,
}

impl Heard {
    /// Silence that is longer than it ever should be: it has missed a time to speak, and some more.
    pub fn stale_after(&self) -> Duration {
        let beat = Duration::from_millis(self.status.beat_ms);
        beat + LATE.max(beat / 2)
    }
}

impl PodView {
    /// Whether it has said nothing for longer than it ever should, though its stream is up.
    pub fn stale(&self) -> bool {
        let heard = self.heard.as_ref();
        heard.is_some_and(|it| it.silence >= it.stale_after())
    }

    /// Whether its replica answers there as the leader does: one of an older release does not, whatever
    /// its Pod was made with.
    pub fn has_leader_port(&self) -> bool {
        let said = self.heard.as_ref().map(|heard| heard.status.leader_port);
        self.leader_port && said != Some(0)
    }

    /// The replica's words, if they are of now.
    pub fn live(&self) -> Option<&ReplicaStatus> {
        self.speaks().filter(|_| !self.copy)
    }

    /// The same, also of a copy.
    pub fn speaks(&self) -> Option<&ReplicaStatus> {
        let heard = self.heard.as_ref().filter(|heard| heard.connected)?;
        Some(&heard.status)
    }

    /// The claim that its disk belongs to, as far as the replica knows, where that is not the Pod's.
    pub fn elsewhere(&self) -> Option<&String> {
        let own = self.claim.as_ref()?;
        let told = self.speaks()?.claim.as_ref()?;
        (told != own).then_some(told)
    }

    /// What the words of its replica say of logs that are on disk: of its own, and a leader's of its
    /// followers'; each with the epoch of the last leader that had the log cut, where that is known. One that
    /// does not follow yet may have to cut its log.
    pub fn held(&self) -> Vec<(ReplicaId, Held, Epoch)> {
        let Some(status) = self.live() else {
            return Vec::new();
        };
        let epoch = status.matched;
        let of = |lsn, newest| Held { epoch, lsn, newest };
        let last = status.last;
        let own = (epoch > Epoch(0)).then(|| (status.id, of(last.lsn, last.epoch), status.cut));
        let followers = status
            .followers
            .iter()
            .filter(|it| it.connected && it.heard);
        let followers = followers.map(|it| (it.id, of(it.durable_lsn, Epoch(0)), Epoch(0)));
        own.into_iter().chain(followers).collect()
    }

    /// The id of the replica that runs here now.
    pub fn id(&self) -> Option<ReplicaId> {
        self.live().map(|status| status.id)
    }
}

impl View {
    /// Notes which disks are gone, and where each was: what takes its place has another id, and the user gives up
    /// by ordinals what the old one had.
    pub fn miss(&mut self) {
        let lost = lost(
            self.register.as_ref(),
            &self.lost,
            &self.known,
            &self.pods,
            self.workload.as_ref(),
        );
        let places = lost.iter().map(|id| (*id, self.ordinal_of(*id)));
        let places: BTreeMap<ReplicaId, u32> = places
            .filter_map(|(id, ordinal)| Some((id, ordinal?)))
            .collect();
        self.formerly = places;
        self.lost = lost;
    }

    /// Notes that the register is in force: its leader leads, or an earlier version of it was in force.
    pub fn witness(&mut self) {
        let Some(register) = &self.register else {
            return;
        };
        if self.knows_later(register).is_some() {
            return;
        }
        let leader = register.leader.and_then(|id| self.find(id));
        let led = leader.is_some_and(|(_, status)| leads(register, status));
        if led || self.is_witnessed(register) {
            self.witnessed = Some(Witnessed {
                store: register.store,
                version: register.version,
                epoch: register.epoch,
            });
        }
    }

    /// Whether this operator knows a later register of the store than this one.
    pub fn knows_later(&self, register: &Configuration) -> Option<Witnessed> {
        self.witnessed
            .filter(|it| it.store == register.store && it.version > register.version)
    }

    /// Whether this operator knows that the register, or an earlier one of its store, was in force: one that was
    /// restored from an old backup before this operator began looks the same as one that is right.
    pub fn is_witnessed(&self, register: &Configuration) -> bool {
        self.witnessed.is_some_and(|it| it.store == register.store)
    }

    /// The Pods whose replicas are heard, each with its words.
    pub fn live(&self) -> impl Iterator<Item = (&PodView, &ReplicaStatus)> {
        self.pods
            .values()
            .filter_map(|pod| pod.live().map(|status| (pod, status)))
    }

    /// The Pod that replica `id` is heard from.
    pub fn find(&self, id: ReplicaId) -> Option<(&PodView, &ReplicaStatus)> {
        self.live().find(|(_, status)| status.id == id)
    }

    /// The ordinal of replica `id`: where it is heard from, or else was last.
    pub fn ordinal_of(&self, id: ReplicaId) -> Option<u32> {
        if let Some((pod, _)) = self.find(id) {
            return Some(pod.ordinal);
        }
        if let Some((ordinal, _)) = self.known.iter().find(|(_, known)| **known == id) {
            return Some(*ordinal);
        }
        if let Some(ordinal) = self.formerly.get(&id) {
            return Some(*ordinal);
        }
        // Disks remember the names, when nobody else does.
        let name = self.live().find_map(|(_, status)| status.names.get(&id))?;
        // Whatever the store was called then: its volumes may have been copied to another name.
        name.rsplit_once('-')?.1.parse().ok()
    }

    /// Whether the replica of this ordinal says anything, under whatever id.
    pub fn is_heard(&self, ordinal: u32) -> bool {
        let pod = self.pods.get(&ordinal);
        pod.is_some_and(|pod| pod.live().is_some())
    }

    /// Whether the user gives up what this replica has, if it has anything.
    pub fn is_given_up(&self, id: ReplicaId) -> bool {
        let ordinal = self.ordinal_of(id);
        ordinal.is_some_and(|ordinal| self.store.accept_loss.contains(&ordinal))
    }

    /// Replicas that the StatefulSet asks for now, or will.
    pub fn existing(&self) -> u32 {
        self.workload
            .as_ref()
            .map_or(self.store.replicas, |workload| workload.replicas)
    }

    /// The Pod's name of an ordinal.
    pub fn pod_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.store.name)
    }

    /// The name under which people know replica `id`.
    pub fn name_of(&self, id: ReplicaId) -> String {
        self.ordinal_of(id)
            .map_or_else(|| id.to_string(), |ordinal| self.pod_name(ordinal))
    }
}

impl View {
    /// Marks the replicas whose disks are copies. A disk remembers its claim, and a copy of it the same one: if
    /// that is still there, whoever uses it is who the other pretends to be. If it is not, the volume was moved,
    /// or restored under a new claim. Until that is looked up, nothing counts.
    pub fn mark_copies(&mut self) {
        let claims = &self.claims;
        for pod in self.pods.values_mut() {
            let there = |told: &String| claims.is_empty() || claims.contains(told);
            let told = pod.speaks().is_some_and(|status| status.claim.is_some());
            let unknown = told && pod.claim.is_none();
            pod.copy = unknown || pod.elsewhere().is_some_and(there);
        }
    }

    /// How long this has looked wrong; `None` if it does not.
    pub fn doubted(&self, doubt: Doubt) -> Option<Duration> {
        self.doubts.get(&doubt).copied()
    }

    /// Whether the very process that leads the register's epoch is known to have ended: its parent
    /// has reaped it.
    pub fn leader_ended(&self, register: &Configuration) -> bool {
        let heard = || self.pods.values().filter_map(|pod| pod.heard.as_ref());
        let led = heard()
            .filter_map(|heard| heard.led)
            .find(|led| led.epoch == register.epoch && Some(led.id) == register.leader);
        led.is_some_and(|led| heard().any(|heard| heard.ended.contains(&led.incarnation)))
    }

    /// Whether the Pod at this ordinal is to serve nobody.
    pub fn is_fenced(&self, ordinal: u32) -> bool {
        self.store.fenced.contains(&ordinal)
    }
}

/// Every id that a register names.
pub fn named(register: &Configuration) -> BTreeSet<ReplicaId> {
    register.all_voters().chain(register.leader).collect()
}

/// Ids of `register` whose data directories are gone: noted before, or replaced under the same
/// Pod's name by another id, or absent while every replica that there is has said its id. An id is
/// random and kept in the directory, so one that is gone never comes back.
fn lost(
    register: Option<&Configuration>,
    noted: &BTreeSet<ReplicaId>,
    known: &BTreeMap<u32, ReplicaId>,
    pods: &BTreeMap<u32, PodView>,
    workload: Option<&Workload>,
) -> BTreeSet<ReplicaId> {
    let Some(register) = register else {
        return BTreeSet::new();
    };
    let present: BTreeSet<ReplicaId> = pods.values().filter_map(PodView::id).collect();
    let all_present = workload.is_some_and(|workload| {
        workload.replicas > 0
            && (0..workload.replicas)
                .all(|ordinal| pods.get(&ordinal).is_some_and(|pod| pod.id().is_some()))
            && pods.len() == workload.replicas as usize
    });
    let replaced = |id: &ReplicaId| {
        let mut held = known.iter().filter(|(_, known)| *known == id);
        held.any(|(ordinal, _)| {
            let now = pods.get(ordinal).and_then(PodView::id);
            now.is_some_and(|now| now != *id)
        })
    };
    let gone = |id: &ReplicaId| {
        !present.contains(id) && (noted.contains(id) || replaced(id) || all_present)
    };
    named(register).into_iter().filter(gone).collect()
}

/// Whether `status` is that of the leader of `register` at work in its epoch.
pub fn leads(register: &Configuration, status: &ReplicaStatus) -> bool {
    register.leader == Some(status.id)
        && status.role == Role::Leader
        && status.epoch == register.epoch
        && status.promised <= register.epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(epoch: u64, lsn: u64) -> Held {
        Held {
            epoch: Epoch(epoch),
            lsn: Lsn(lsn),
            newest: Epoch(epoch),
        }
    }

    #[test]
    fn what_a_disk_had_is_known_until_it_has_that_again_or_had_to_cut_it() {
        let known = held(3, 900);
        let heard = |epoch, lsn, cut| known.join(held(epoch, lsn), Epoch(cut));
        assert_eq!(heard(3, 950, 0), held(3, 950));
        assert_eq!(heard(2, 950, 0), known, "an old word");
        assert_eq!(
            heard(4, 100, 0),
            known,
            "it was put back, and only follows again"
        );
        assert_eq!(heard(4, 100, 3), known, "cut by the leader of then");
        assert_eq!(heard(4, 100, 4), held(4, 100), "cut by a later one");
        assert_eq!(heard(4, 900, 0), held(4, 900), "it has caught up");
    }
}
