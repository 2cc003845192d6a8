//! The simulated API server: the object with the register behind its compare-and-swap, the
//! StatefulSet and its Pods.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use rand::Rng;
use replicated_store::api::{ReplicatedStore, ReplicatedStoreSpec, ReplicatedStoreStatus};
use replicated_store::operator::view::{PodView, Workload};
use replicated_store::replication::Configuration;

use super::bug::Bug;
use super::event::Event;
use super::world::{Setup, World};

/// What the API server keeps, but for the register.
pub(crate) struct Cluster {
    pub(crate) object: Arc<ReplicatedStore>,
    /// Rises at every write of the object.
    version: u64,
    /// Replicas of the StatefulSet, once there is one.
    pub(crate) workload: Option<u32>,
    /// Of the Pods' template.
    pub(crate) revision: u32,
    next_uid: u64,
}

/// A Pod, as far as Kubernetes knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pod {
    pub(crate) exists: bool,
    pub(crate) uid: u64,
    pub(crate) revision: u32,
    /// It is being deleted.
    pub(crate) terminating: bool,
    /// Its container has ended.
    pub(crate) terminated: bool,
}

/// Everything that an operator reads at once.
pub(crate) struct Reading {
    pub(crate) register: Configuration,
    pub(crate) version: u64,
    pub(crate) object: Arc<ReplicatedStore>,
    pub(crate) workload: Option<Workload>,
    pub(crate) pods: BTreeMap<u32, PodView>,
    /// Ordinals that have a volume on which a process has run.
    pub(crate) volumes: BTreeSet<u32>,
    pub(crate) claims: BTreeSet<String>,
}

impl Cluster {
    pub(crate) fn new(setup: &Setup) -> Self {
        let spec = serde_json::json!({
            "replicas": setup.voters,
            "storage": {"size": "1Gi"},
            "replication": {
                "mode": if setup.sync == 0 { "Asynchronous" } else { "Synchronous" },
                "syncReplicas": setup.sync.max(1),
            },
            "failover": {"leaseDuration": format!("{}ms", setup.lease.as_millis())},
        });
        let spec: ReplicatedStoreSpec = serde_json::from_value(spec).expect("a specification");
        let mut object = ReplicatedStore::new("orders", spec);
        object.metadata.namespace = Some("shop".to_owned());
        object.metadata.uid = Some("11f0".to_owned());
        object.metadata.generation = Some(1);
        Self {
            object: Arc::new(object),
            version: 1,
            workload: None,
            revision: 1,
            next_uid: 0,
        }
    }

    /// Writes the specification.
    pub(crate) fn specify(&mut self, change: impl FnOnce(&mut ReplicatedStoreSpec)) {
        let object = Arc::make_mut(&mut self.object);
        change(&mut object.spec);
        let generation = &mut object.metadata.generation;
        *generation = generation.map(|generation| generation + 1);
        self.version += 1;
    }

    fn pod(&mut self) -> Pod {
        self.next_uid += 1;
        Pod {
            exists: true,
            uid: self.next_uid,
            revision: self.revision,
            ..Pod::default()
        }
    }
}

impl World {
    pub(crate) fn reading(&self) -> Reading {
        let cluster = &self.cluster;
        let used = self.machines.iter().enumerate();
        let used = used.filter(|(_, machine)| machine.incarnation > 0);
        let pods = self.machines.iter().enumerate();
        let pods = pods.filter(|(_, machine)| machine.pod.exists);
        Reading {
            volumes: used.map(|(slot, _)| slot as u32).collect(),
            claims: self
                .machines
                .iter()
                .map(|it| it.claim.to_string())
                .collect(),
            register: self.register.clone(),
            version: cluster.version,
            object: Arc::clone(&cluster.object),
            workload: cluster.workload.map(|replicas| Workload {
                replicas,
                image: "image".to_owned(),
                revision: Some(cluster.revision.to_string()),
                leader_port: true,
            }),
            pods: pods
                .map(|(slot, _)| (slot as u32, self.describe_pod(slot)))
                .collect(),
        }
    }

    fn describe_pod(&self, slot: usize) -> PodView {
        let machine = &self.machines[slot];
        let pod = &machine.pod;
        PodView {
            name: format!("orders-{slot}"),
            ordinal: slot as u32,
            uid: pod.uid.to_string(),
            ip: Some([10, 0, 0, slot as u8].into()),
            node: format!("node-{slot}"),
            ready: self.status(slot).is_some_and(|status| status.ready),
            terminating: pod.terminating,
            leader_port: true,
            revision: pod.revision.to_string(),
            role: None,
            terminated: pod.terminated,
            failed: false,
            problem: String::new(),
            claim: Some(machine.claim.to_string()),
            copy: false,
            heard: None,
        }
    }

    /// The compare-and-swap of the API server; says whether it succeeded.
    pub(crate) fn swap(&mut self, version: u64, next: &Configuration) -> bool {
        let blind = self.setup.bug == Bug::SwapsBlindly;
        if self.cluster.version != version && !blind {
            return false;
        }
        let base = self.register.clone();
        let mut next = next.clone();
        if blind {
            next.version = base.version + 1;
        }
        assert!(next.version > base.version, "versions rise");
        // A set of which too many have died meanwhile is the end of it: not what is tried here.
        if !self.survives(&next, None) {
            return false;
        }
        if next.epoch > base.epoch {
            let mut sets = base.previous.clone();
            sets.push(base.current());
            let lossy = sets.iter().any(|set| set.sync == 0 && set.voters.len() > 1);
            let leader = self.machines.iter().find(|it| Some(it.id) == next.leader);
            let holds = leader.is_some_and(|it| self.checker.holds_all(it));
            self.checker.promotion(holds, lossy, next.epoch);
        } else {
            self.checker.counts.changes += 1;
        }
        let _ = write!(self.trace, "{}us {next:?} ", self.now.as_micros());
        self.registers.push(next.clone());
        self.register = next;
        self.cluster.version += 1;
        true
    }

    /// Somebody writes the register by hand.
    pub(crate) fn restore(&mut self, register: Configuration) {
        self.register = register;
        self.cluster.version += 1;
    }

    /// An operator's report: it may overwrite a newer one, and never the register.
    pub(crate) fn report(&mut self, status: ReplicatedStoreStatus) {
        Arc::make_mut(&mut self.cluster.object).status = Some(status);
        self.cluster.version += 1;
    }

    /// The StatefulSet's controller makes and removes Pods; volumes stay.
    pub(crate) fn scale(&mut self, replicas: u32) {
        self.cluster.workload = Some(replicas);
        for slot in 0..self.machines.len() {
            let wanted = slot < replicas as usize;
            let exists = self.machines[slot].pod.exists;
            if wanted && !exists {
                self.machines[slot].pod = self.cluster.pod();
                let micros = self.rng.random_range(1_000..300_000);
                self.at(micros, Event::Start(slot));
            } else if exists && !wanted {
                self.machines[slot].pod = Pod::default();
                self.stop(slot, false);
            }
        }
    }

    /// A Pod is told to go. It ends a little later, and another one takes its place.
    pub(crate) fn delete_pod(&mut self, slot: usize, uid: u64) {
        let machine = &mut self.machines[slot];
        if !machine.pod.exists || machine.pod.uid != uid || machine.pod.terminating {
            return;
        }
        machine.pod.terminating = true;
        if let Some(process) = &mut machine.process {
            process.leaving = true;
        }
        let micros = self.rng.random_range(50_000..1_500_000);
        self.at(micros, Event::Evict(slot, uid));
    }

    pub(crate) fn evict(&mut self, slot: usize, uid: u64) {
        if self.machines[slot].pod.uid != uid || !self.machines[slot].pod.exists {
            return;
        }
        self.stop(slot, false);
        self.renew_pod(slot);
        self.at(20_000, Event::Start(slot));
    }

    /// Another Pod takes the place of this one.
    pub(crate) fn renew_pod(&mut self, slot: usize) {
        if self.machines[slot].pod.exists {
            self.machines[slot].pod = self.cluster.pod();
        }
    }
}
