//! A small world for tests: replicas that do what the protocol says and no more, a register, and
//! an operator that can die between any two steps.

mod replica;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Decision, Swap, decide, follow};
use crate::operator::testing;
use crate::operator::validate::validate;
use crate::operator::view::{self, PodView, Told, View, Workload};
use crate::replication::admin::{
    Assignment, FollowerStatus, PromiseAnswer, ReplicaState, ReplicaStatus, Role,
};
use crate::replication::types::{Configuration, Epoch, Lsn};
use replica::{Replica, blank, pod, restart};

/// A store and what runs of it.
#[derive(Clone, Debug)]
pub(in crate::operator) struct World {
    pub(in crate::operator) view: View,
    pub(in crate::operator) replicas: BTreeMap<u32, Replica>,
    /// Data directories that are away with their Pods: volumes outlive them.
    volumes: BTreeMap<u32, ReplicaStatus>,
    pub(in crate::operator) revision: u32,
    next: u64,
    /// The end of what a leader has acknowledged and no disk loss has taken.
    pub(in crate::operator) acknowledged: Lsn,
}

impl World {
    /// A store of so many, of which nothing runs yet.
    pub(in crate::operator) fn new(replicas: u32) -> Self {
        let mut store = validate(&testing::store("orders")).unwrap();
        store.replicas = replicas;
        Self {
            view: View {
                store,
                register: None,
                lost: BTreeSet::new(),
                pods: BTreeMap::new(),
                known: BTreeMap::new(),
                workload: None,
                old_volumes: BTreeSet::new(),
                since_campaign: None,
                told: BTreeMap::new(),
            },
            replicas: BTreeMap::new(),
            volumes: BTreeMap::new(),
            revision: 1,
            next: 1,
            acknowledged: Lsn(0),
        }
    }

    /// A store of so many at work.
    pub(in crate::operator) fn running(replicas: u32) -> Self {
        let mut world = Self::new(replicas);
        world.converge();
        assert_eq!(world.register().voters.len(), replicas as usize);
        world
    }

    pub(in crate::operator) fn register(&self) -> &Configuration {
        self.view.register.as_ref().unwrap()
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The StatefulSet's controller: makes the Pods that are wanted, takes away the others.
    pub(in crate::operator) fn tick_workload(&mut self) {
        let wanted = self
            .view
            .workload
            .as_ref()
            .map_or(0, |workload| workload.replicas);
        let gone: Vec<u32> = self
            .replicas
            .keys()
            .copied()
            .filter(|it| *it >= wanted)
            .collect();
        for ordinal in gone {
            self.delete_pod(ordinal);
        }
        for ordinal in 0..wanted {
            if self.replicas.contains_key(&ordinal) {
                continue;
            }
            let id = self.fresh();
            let mut status = self.volumes.remove(&ordinal).unwrap_or_else(|| blank(id));
            restart(&mut status, id);
            self.replicas.insert(
                ordinal,
                Replica {
                    status,
                    up: true,
                    deaf: false,
                    label: None,
                    revision: self.revision,
                    adopted: None,
                },
            );
        }
    }

    /// Deletes a Pod; its volume stays.
    pub(in crate::operator) fn delete_pod(&mut self, ordinal: u32) {
        if let Some(replica) = self.replicas.remove(&ordinal) {
            self.volumes.insert(ordinal, replica.status);
        }
    }

    /// Kills the process of a Pod; another one starts in its place.
    pub(in crate::operator) fn restart(&mut self, ordinal: u32) {
        let incarnation = self.fresh();
        if let Some(replica) = self.replicas.get_mut(&ordinal) {
            restart(&mut replica.status, incarnation);
            replica.adopted = None;
        }
    }

    /// Deletes a Pod and its volume.
    pub(in crate::operator) fn lose_disk(&mut self, ordinal: u32) {
        let lost = self.replicas.remove(&ordinal);
        self.volumes.remove(&ordinal);
        if lost.is_some_and(|it| {
            self.view.register.as_ref().and_then(|r| r.leader) == Some(it.status.id)
        }) {
            // Asynchronous: whoever leads next has what it has.
            self.acknowledged = Lsn(0);
        }
    }

    /// The leader takes a write; followers that are up take what they are sent.
    pub(in crate::operator) fn tick_data(&mut self, write: bool, send: bool) {
        let Some(leader) = self.leading() else { return };
        if write {
            let status = &mut self.replicas.get_mut(&leader).unwrap().status;
            status.last.lsn = status.last.lsn.advance(10);
            self.acknowledged = status.last.lsn;
        }
        let source = self.replicas[&leader].status.clone();
        let followers = self
            .replicas
            .iter_mut()
            .filter(|(ordinal, it)| **ordinal != leader && it.up);
        let mut seen = Vec::new();
        for (_, replica) in followers {
            let status = &mut replica.status;
            let follows = status.leader == Some(source.id) && status.epoch == source.epoch;
            if !follows || status.promised > source.epoch {
                continue;
            }
            if send {
                status.last = source.last;
                status.empty = false;
                status.state = ReplicaState::Streaming;
                status.ready = true;
            }
            seen.push(FollowerStatus {
                heard: true,
                id: status.id,
                name: String::new(),
                connected: true,
                durable_lsn: status.last.lsn,
                applied_lsn: status.last.lsn,
                lag_bytes: source.last.lsn.since(status.last.lsn),
                lag_seconds: 0.0,
            });
        }
        self.replicas.get_mut(&leader).unwrap().status.followers = seen;
    }

    /// Ordinals that lead, by their own word: never more than one.
    pub(in crate::operator) fn leading(&self) -> Option<u32> {
        let mut leading = self
            .replicas
            .iter()
            .filter(|(_, it)| it.status.role == Role::Leader);
        let first = leading.next();
        assert!(
            leading.next().is_none(),
            "two leaders: {:#?}",
            self.replicas
        );
        first.map(|(ordinal, _)| *ordinal)
    }

    /// What the operator sees now.
    pub(in crate::operator) fn look(&mut self) {
        let pods: BTreeMap<u32, PodView> = self
            .replicas
            .iter()
            .map(|(ordinal, replica)| (*ordinal, pod(&self.view, *ordinal, replica)))
            .collect();
        let view = &mut self.view;
        if let Some(workload) = &mut view.workload {
            workload.revision = Some(self.revision.to_string());
        }
        view.lost = view::lost(
            view.register.as_ref(),
            &view.lost,
            &view.known,
            &pods,
            view.workload.as_ref(),
        );
        for (ordinal, pod) in &pods {
            if let Some(id) = pod.id() {
                view.known.insert(*ordinal, id);
            }
        }
        view.pods = pods;
    }

    /// One reconcile, which dies after `steps` steps; says whether it did anything.
    pub(in crate::operator) fn reconcile(&mut self, steps: usize) -> bool {
        let mut left = steps;
        let mut step = || {
            left = left.saturating_sub(1);
            left > 0
        };
        self.look();
        let mut acted = false;
        match decide(&self.view) {
            Decision::Keep | Decision::Wait(_) => {}
            Decision::Swap(swap) => {
                acted = true;
                if !step() {
                    return true;
                }
                self.swap(swap);
            }
            Decision::Campaign(campaign) => {
                acted = true;
                self.view.since_campaign = Some(Duration::ZERO);
                let mut answers = Vec::new();
                for ordinal in &campaign.ask {
                    if !step() {
                        return true;
                    }
                    answers.extend(self.promise(*ordinal, campaign.epoch));
                }
                if let Ok(swap) = campaign.elect(&self.view, &answers) {
                    if !step() {
                        return true;
                    }
                    self.swap(swap);
                }
            }
        }
        self.look();
        let follow = follow::follow(&self.view);
        acted |= self.follow(&follow, &mut step);
        acted
    }

    fn follow(&mut self, follow: &follow::Follow, step: &mut impl FnMut() -> bool) -> bool {
        let mut acted = false;
        let before = self.view.workload.clone();
        let workload = self.view.workload.get_or_insert_default();
        workload.replicas = follow.replicas;
        acted |= before.is_none_or(|before| before.replicas != follow.replicas);
        for ordinal in &follow.tell {
            acted = true;
            if !step() {
                return true;
            }
            self.tell(*ordinal, follow.assignment.as_ref().unwrap());
        }
        for label in follow.demote.iter().chain(&follow.elevate) {
            acted = true;
            if !step() {
                return true;
            }
            let replica = self.replicas.get_mut(&label.ordinal).unwrap();
            replica.label = label.to.map(str::to_owned);
            let leaders = self
                .replicas
                .values()
                .filter(|it| it.label.as_deref() == Some("leader"));
            assert!(leaders.count() <= 1, "two Pods are labelled leader");
        }
        if let Some(ordinal) = follow.replace {
            acted = true;
            self.delete_pod(ordinal);
        }
        acted
    }

    /// The compare-and-swap, with what must hold of it.
    fn swap(&mut self, swap: Swap) {
        if let Some(old) = &self.view.register {
            assert!(swap.to.version > old.version, "versions rise");
            assert!(swap.to.epoch >= old.epoch, "epochs never fall");
            if swap.to.epoch == old.epoch {
                assert_eq!(swap.to.leader, old.leader, "a leader per epoch");
            }
        }
        let leader = swap.to.leader.unwrap();
        assert!(swap.to.voters.contains(&leader), "the leader votes");
        if let Some(old) = &self.view.register {
            self.check_previous(old, &swap.to);
        }
        self.view.register = Some(swap.to);
    }

    /// Sets that were replaced count until the leader has established exactly what replaced them.
    fn check_previous(&self, old: &Configuration, new: &Configuration) {
        if (new.epoch, &new.voters) == (old.epoch, &old.voters) {
            let leader = self
                .leading()
                .map(|ordinal| &self.replicas[&ordinal].status);
            let established = leader.map(|status| status.established_version);
            assert_eq!(established, Some(old.version), "emptied too early");
            return;
        }
        assert!(
            new.epoch > old.epoch || old.previous.is_empty(),
            "one change at a time"
        );
        for set in old.previous.iter().chain([&old.current()]) {
            assert!(new.previous.contains(set), "a replaced set is forgotten");
        }
    }

    fn promise(&mut self, ordinal: u32, epoch: Epoch) -> Option<PromiseAnswer> {
        let replica = self
            .replicas
            .get_mut(&ordinal)
            .filter(|replica| replica.up && !replica.deaf)?;
        let status = &mut replica.status;
        let granted = status.promised <= epoch;
        if granted {
            status.promised = epoch;
            status.role = Role::Follower;
            status.ready = false;
            status.state = ReplicaState::Pending;
        }
        Some(PromiseAnswer {
            leases: Vec::new(),
            id: status.id,
            granted,
            promised: status.promised,
            last: status.last,
        })
    }

    fn tell(&mut self, ordinal: u32, assignment: &Arc<Assignment>) {
        let Some(replica) = self.replicas.get_mut(&ordinal).filter(|replica| replica.up) else {
            return;
        };
        let refusal = replica.adopt(&assignment.configuration);
        self.view.told.insert(
            ordinal,
            Told {
                incarnation: replica.status.incarnation,
                assignment: Arc::clone(assignment),
                refusal,
                age: Duration::from_secs(2),
            },
        );
    }

    /// Lets everything run until nothing is left to do. A second plan from the result is empty.
    pub(in crate::operator) fn converge(&mut self) {
        for _ in 0..200 {
            self.view.since_campaign = None;
            self.tick_workload();
            self.tick_data(false, true);
            if !self.reconcile(usize::MAX) {
                self.tick_data(false, true);
                assert!(
                    !self.reconcile(usize::MAX),
                    "a second plan from the result is empty"
                );
                return;
            }
        }
        panic!("does not come to rest: {}", self.describe());
    }
}

impl World {
    /// The whole on a few lines.
    fn describe(&self) -> String {
        let mut text = format!(
            "wanted {}, {:?}\n",
            self.view.store.replicas, self.view.register
        );
        for (ordinal, it) in &self.replicas {
            let status = &it.status;
            let _ = writeln!(
                text,
                "{ordinal}: {} {:?} {:?} up {} promised {} begun {} version {} last {:?} revision {} of {}",
                status.id,
                status.role,
                status.state,
                it.up,
                status.promised,
                status.begun,
                status.configuration_version,
                status.last,
                it.revision,
                self.revision
            );
        }
        text + &format!("{:?}", follow::follow(&self.view))
    }
}

/// For tests of one decision: a workload that is there.
pub(in crate::operator) fn workload(replicas: u32) -> Workload {
    Workload {
        replicas,
        image: "image".into(),
        revision: Some("1".into()),
    }
}
