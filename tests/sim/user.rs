//! The user, who changes what is wanted while things go wrong.

use rand::Rng;
use replicated_store::api::{FailoverMode, OnShortfall, ReplicationMode};

use super::event::Event;
use super::world::World;

impl World {
    /// The user changes the specification, by what the rules of the definition allow.
    pub(crate) fn wish(&mut self) {
        if !self.faults || self.setup.menu.is_calm() {
            return;
        }
        let micros = self.rng.random_range(200_000..2_500_000);
        self.at(micros, Event::User);
        let most = self.machines.len();
        let slot = self.rng.random_range(0..most);
        match self.rng.random_range(0..10) {
            0 => self.wish_durability(),
            1 => {
                let fewest = (self.setup.sync as usize + 1).max(2).min(most);
                let replicas = self.rng.random_range(fewest..=most) as i32;
                self.cluster.specify(|spec| spec.replicas = replicas);
            }
            2..4 => {
                let target = format!("orders-{slot}");
                self.cluster.specify(|spec| {
                    spec.fenced.retain(|pod| *pod != target);
                    spec.leader.target = target;
                });
            }
            4 => {
                let delay = ["0s", "300ms", "1s"][self.rng.random_range(0..3)].to_owned();
                self.cluster.specify(|spec| spec.failover.delay = delay);
            }
            5 => {
                let lease = self.setup.lease.as_millis() as u64;
                let lease = format!("{}ms", self.rng.random_range(lease / 2..lease * 2));
                self.cluster
                    .specify(|spec| spec.failover.lease_duration = lease);
            }
            6 => {
                let fenced = self.rng.random_bool(0.5).then(|| format!("orders-{slot}"));
                self.cluster.specify(|spec| {
                    if fenced.as_ref() == Some(&spec.leader.target) {
                        spec.leader.target.clear();
                    }
                    spec.fenced = fenced.into_iter().collect();
                });
            }
            7 => self.cluster.revision += 1,
            8 => {
                let manual = self.rng.random_bool(0.3);
                let mode = if manual {
                    FailoverMode::Manual
                } else {
                    FailoverMode::Automatic
                };
                self.cluster.specify(|spec| spec.failover.mode = mode);
            }
            _ => {
                let uid = self.machines[slot].pod.uid;
                self.delete_pod(slot, uid);
            }
        }
    }

    fn wish_durability(&mut self) {
        let degrade = self.rng.random_bool(0.5);
        let sync = if self.setup.changes_sync {
            self.rng.random_range(0..3)
        } else {
            self.setup.sync as i32
        };
        self.cluster.specify(|spec| {
            spec.replication.mode = if sync == 0 {
                ReplicationMode::Asynchronous
            } else {
                ReplicationMode::Synchronous
            };
            spec.replication.sync_replicas = sync.max(1);
            spec.replication.on_shortfall = if degrade {
                OnShortfall::Degrade
            } else {
                OnShortfall::Block
            };
        });
    }

    /// What the user wants once all is well.
    pub(crate) fn content(&mut self) {
        let (sync, lease) = (self.setup.sync, self.setup.lease.as_millis());
        let replicas = self.machines.len() as i32;
        self.cluster.specify(|spec| {
            spec.replicas = replicas;
            spec.paused = false;
            spec.fenced.clear();
            spec.failover.mode = FailoverMode::Automatic;
            "0s".clone_into(&mut spec.failover.delay);
            spec.failover.lease_duration = format!("{lease}ms");
            spec.replication.on_shortfall = OnShortfall::Block;
            spec.replication.sync_replicas = sync.max(1) as i32;
            spec.replication.mode = if sync == 0 {
                ReplicationMode::Asynchronous
            } else {
                ReplicationMode::Synchronous
            };
        });
    }
}
