//! A small world for tests: replicas that do what the protocol says and no more, a register, a
//! clock, and an operator that can die between any two steps.

mod rebirth;
mod register;
mod replica;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::doubt::{self, Doubt};
use super::election::Elected;
use super::promotion::Campaign;
use super::switchover::Switchover;
use super::{Decision, decide, follow};
use crate::operator::testing;
use crate::operator::validate::validate;
use crate::operator::view::{self, PodView, Told, View, Workload};
use crate::replication::admin::{self, Assignment, PromiseAnswer};
use crate::replication::types::{Configuration, Epoch, Lsn, Position, ReplicaId, StoreId};
pub(in crate::operator) use replica::Disk;
use replica::Replica;

/// Milliseconds of a tick.
pub(in crate::operator) const TICK: u64 = 100;
/// Ticks in which nothing may happen any more before the world is held to be at rest: longer than
/// any doubt takes to count.
const REST: u32 = 45;

/// A store and what runs of it.
#[derive(Clone, Debug)]
pub(in crate::operator) struct World {
    pub(in crate::operator) view: View,
    pub(in crate::operator) replicas: BTreeMap<u32, Replica>,
    /// Data directories that are away with their Pods: volumes outlive them.
    volumes: BTreeMap<u32, Disk>,
    /// Ordinals of volumes that are known to exist.
    pub(in crate::operator) bound: BTreeSet<u32>,
    pub(in crate::operator) revision: u32,
    /// Milliseconds since the beginning.
    pub(in crate::operator) now: u64,
    next: u64,
    doubted: BTreeMap<Doubt, u64>,
    campaigned: Option<u64>,
    switched: Option<u64>,
    /// What leaders have acknowledged.
    pub(in crate::operator) acknowledged: BTreeSet<Position>,
    /// The last promotion.
    pub(in crate::operator) elected: Option<(Campaign, Elected)>,
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
                formerly: BTreeMap::new(),
                pods: BTreeMap::new(),
                known: BTreeMap::new(),
                workload: None,
                volumes: BTreeSet::new(),
                claims: BTreeSet::new(),
                held: BTreeMap::new(),
                witnessed: None,
                drawn: StoreId(77),
                since_campaign: None,
                since_switchover: None,
                doubts: BTreeMap::new(),
                told: BTreeMap::new(),
            },
            replicas: BTreeMap::new(),
            volumes: BTreeMap::new(),
            bound: BTreeSet::new(),
            revision: 1,
            now: 10_000,
            next: 1,
            doubted: BTreeMap::new(),
            campaigned: None,
            switched: None,
            acknowledged: BTreeSet::new(),
            elected: None,
        }
    }

    /// A store of so many at work.
    pub(in crate::operator) fn running(replicas: u32) -> Self {
        Self::synchronous(replicas, 0)
    }

    /// A store of so many at work, in which writes wait for so many followers.
    pub(in crate::operator) fn synchronous(replicas: u32, sync: u32) -> Self {
        let mut world = Self::new(replicas);
        world.view.store.settings.sync_replicas = sync;
        world.converge();
        assert_eq!(world.register().voters.len(), replicas as usize);
        world
    }

    pub(in crate::operator) fn register(&self) -> &Configuration {
        self.view.register.as_ref().unwrap()
    }

    pub(in crate::operator) fn replica(&mut self, ordinal: u32) -> &mut Replica {
        self.replicas.get_mut(&ordinal).unwrap()
    }

    pub(in crate::operator) fn id(&self, ordinal: u32) -> ReplicaId {
        self.replicas[&ordinal].status.id
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The StatefulSet's controller: makes the Pods that are wanted, takes away the others.
    pub(in crate::operator) fn tick_workload(&mut self) {
        let workload = self.view.workload.as_ref();
        let wanted = workload.map_or(0, |workload| workload.replicas);
        let gone: Vec<u32> = self.replicas.range(wanted..).map(|it| *it.0).collect();
        for ordinal in gone {
            self.delete_pod(ordinal);
        }
        for ordinal in 0..wanted {
            if self.replicas.contains_key(&ordinal) {
                continue;
            }
            let id = self.fresh();
            let disk = self
                .volumes
                .remove(&ordinal)
                .unwrap_or_else(|| Disk::blank(id));
            let replica = disk.start(id, self.revision, self.now);
            self.replicas.insert(ordinal, replica);
        }
    }

    /// Deletes a Pod; its volume stays.
    pub(in crate::operator) fn delete_pod(&mut self, ordinal: u32) {
        if let Some(replica) = self.replicas.remove(&ordinal) {
            self.volumes.insert(ordinal, replica.into_disk());
        }
    }

    /// Kills the process of a Pod; its parent starts another one in its place.
    pub(in crate::operator) fn restart(&mut self, ordinal: u32) {
        let (incarnation, now) = (self.fresh(), self.now);
        if let Some(replica) = self.replicas.get_mut(&ordinal) {
            replica.restart(incarnation, now);
        }
    }

    /// Kills the process of a Pod; none starts in its place for now.
    pub(in crate::operator) fn kill(&mut self, ordinal: u32) {
        self.restart(ordinal);
        let replica = self.replica(ordinal);
        replica.up = false;
        replica.frozen = true;
    }

    /// Deletes a Pod and its volume.
    pub(in crate::operator) fn lose_disk(&mut self, ordinal: u32) {
        self.replicas.remove(&ordinal);
        self.volumes.remove(&ordinal);
        self.bound.remove(&ordinal);
    }

    /// Nobody reaches it, and it does not stop.
    pub(in crate::operator) fn isolate(&mut self, ordinal: u32) {
        let replica = self.replica(ordinal);
        (replica.up, replica.cut) = (false, true);
    }

    /// Time passes: leaders speak to followers, and the leader takes a write if it may.
    pub(in crate::operator) fn tick_data(&mut self, write: bool, send: bool) {
        self.now += TICK;
        self.answering();
        let leaders: Vec<u32> = self
            .replicas
            .iter()
            .filter(|(_, it)| it.leads() && !it.frozen)
            .map(|(ordinal, _)| *ordinal)
            .collect();
        for ordinal in leaders {
            let mut leader = self.replicas.remove(&ordinal).unwrap();
            let answers = leader.answers(self.now);
            leader.append_barrier(self.now);
            if write && answers {
                leader.append(10);
            }
            for follower in self.replicas.values_mut() {
                leader.speak(follower, self.now, send);
            }
            leader.commit();
            if write && leader.answers(self.now) && leader.committed() {
                self.acknowledged.insert(leader.status.last);
            }
            self.replicas.insert(ordinal, leader);
        }
        self.answering();
        for replica in self.replicas.values_mut().filter(|it| !it.frozen) {
            replica.refresh(self.now);
        }
    }

    /// So many milliseconds in which nothing is written.
    pub(in crate::operator) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK {
            self.tick_data(false, true);
        }
    }

    /// The one that answers clients as leader now: never more than one.
    pub(in crate::operator) fn answering(&self) -> Option<u32> {
        let answering = self.replicas.iter().filter(|(_, it)| it.answers(self.now));
        let answering: Vec<u32> = answering.map(|(ordinal, _)| *ordinal).collect();
        assert!(answering.len() <= 1, "two leaders: {}", self.describe());
        answering.first().copied()
    }

    /// The one that leads in the register's epoch.
    pub(in crate::operator) fn leading(&self) -> Option<u32> {
        let register = self.view.register.as_ref()?;
        let mut leading = self
            .replicas
            .iter()
            .filter(|(_, it)| view::leads(register, &it.status));
        leading.next().map(|(ordinal, _)| *ordinal)
    }

    /// What the operator sees now.
    pub(in crate::operator) fn look(&mut self) {
        let view = &mut self.view;
        let pods: BTreeMap<u32, PodView> = self
            .replicas
            .iter_mut()
            .map(|(ordinal, replica)| (*ordinal, replica.pod(view.pod_name(*ordinal), *ordinal)))
            .collect();
        if let Some(workload) = &mut view.workload {
            workload.revision = Some(self.revision.to_string());
        }
        view.pods = pods;
        view.miss();
        for (ordinal, pod) in &view.pods {
            if let Some(id) = pod.id() {
                view.known.insert(*ordinal, id);
            }
        }
        for (id, held, cut) in view.pods.values().flat_map(PodView::held) {
            let known = view.held.entry(id).or_default();
            *known = known.join(held, cut);
        }
        let seen = self.replicas.iter().filter(|(_, it)| it.was_seen());
        self.bound.extend(seen.map(|(ordinal, _)| ordinal));
        view.volumes.clone_from(&self.bound);
        let now = self.now;
        let since = |at: Option<u64>| at.map(|at| Duration::from_millis(now - at));
        view.since_campaign = since(self.campaigned);
        view.since_switchover = since(self.switched);
        view.witness();
        let doubts = doubt::doubts(view);
        self.doubted.retain(|doubt, _| doubts.contains(doubt));
        let ages = doubts.into_iter().map(|doubt| {
            let at = *self.doubted.entry(doubt).or_insert(now);
            (doubt, Duration::from_millis(now - at))
        });
        view.doubts = ages.collect();
    }

    /// The operator's process ends; the next one knows nothing.
    pub(in crate::operator) fn forget(&mut self) {
        self.view.told.clear();
        self.view.witnessed = None;
        self.doubted.clear();
        (self.campaigned, self.switched) = (None, None);
        for replica in self.replicas.values_mut() {
            replica.forget();
        }
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
                self.campaigned = Some(self.now);
                if !self.campaign(&campaign, Vec::new(), &mut step) {
                    return true;
                }
            }
            Decision::Switchover(switchover) => {
                acted = true;
                if !self.switch_over(&switchover, &mut step) {
                    return true;
                }
            }
        }
        self.look();
        let follow = follow::follow(&self.view);
        acted |= self.follow(&follow, &mut step);
        acted
    }

    /// Asks for promises and elects; says whether the operator is still alive.
    fn campaign(
        &mut self,
        campaign: &Campaign,
        mut answers: Vec<PromiseAnswer>,
        step: &mut impl FnMut() -> bool,
    ) -> bool {
        for ordinal in &campaign.ask {
            if !step() {
                return false;
            }
            answers.extend(self.promise(*ordinal, campaign.epoch));
        }
        if let Ok(elected) = campaign.elect(&self.view, &answers) {
            if !step() {
                return false;
            }
            self.swap(elected.swap.clone());
            self.elected = Some((campaign.clone(), elected));
        }
        true
    }

    fn switch_over(&mut self, switchover: &Switchover, step: &mut impl FnMut() -> bool) -> bool {
        self.switched = Some(self.now);
        if !step() {
            return false;
        }
        let target = self.replicas.values();
        let target = target.clone().find(|it| it.status.id == switchover.target);
        let held = target.is_some_and(|it| {
            self.replicas[&switchover.leader].log() == it.log()
                && it.reaches(&self.replicas[&switchover.leader])
        });
        let answer = held
            .then(|| self.promise(switchover.leader, switchover.campaign.epoch))
            .flatten();
        let Some(answer) = answer else {
            return true;
        };
        self.switched = None;
        self.campaigned = Some(self.now);
        self.campaign(&switchover.campaign, vec![answer], step)
    }

    fn follow(&mut self, follow: &follow::Follow, step: &mut impl FnMut() -> bool) -> bool {
        let mut acted = false;
        let before = self.view.workload.clone();
        let workload = self.view.workload.get_or_insert_default();
        workload.leader_port = true;
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

    fn promise(&mut self, ordinal: u32, epoch: Epoch) -> Option<PromiseAnswer> {
        let replica = self.replicas.get_mut(&ordinal)?;
        let reached = replica.up && !replica.deaf && !replica.frozen;
        reached.then(|| replica.promise(epoch, self.now))
    }

    fn tell(&mut self, ordinal: u32, assignment: &Arc<Assignment>) {
        let Some(replica) = self.replicas.get_mut(&ordinal) else {
            return;
        };
        let refusal = if replica.up && !replica.deaf && !replica.frozen {
            let (members, names) = (assignment.members.iter(), &replica.status.names);
            replica.status.names = admin::names(&assignment.configuration, members, names);
            replica.adopt(&assignment.configuration, self.now)
        } else {
            "no answer in time".to_owned()
        };
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

    /// Lets everything run until nothing is left to do.
    pub(in crate::operator) fn converge(&mut self) {
        let mut idle = 0;
        for _ in 0..3000 {
            self.tick_workload();
            self.tick_data(false, true);
            idle = if self.reconcile(usize::MAX) {
                0
            } else {
                idle + 1
            };
            let doubted = self.view.doubted(Doubt::Unwitnessed);
            if idle > REST && doubted.is_none_or(|age| age > doubt::WITNESSES) {
                return;
            }
        }
        panic!("does not come to rest: {}", self.describe());
    }

    /// The whole on a few lines.
    pub(in crate::operator) fn describe(&self) -> String {
        let mut text = format!(
            "wanted {}, {:?}\n{:?}\n",
            self.view.store.replicas, self.view.register, self.view.doubts
        );
        for (ordinal, it) in &self.replicas {
            let _ = writeln!(text, "{ordinal}: {}", it.describe(self.now));
        }
        let follow = follow::follow(&self.view);
        text + &format!(
            "{:?}\n{:?} {:?} {:?}",
            decide(&self.view),
            follow.tell,
            follow.elevate,
            self.elected
        )
    }

    /// Makes a replica's log longer than its leader's, as after a fault.
    pub(in crate::operator) fn lengthen(&mut self, ordinal: u32, lsn: u64) {
        let replica = self.replica(ordinal);
        let epoch = replica.status.last.epoch;
        replica.push(Position {
            epoch,
            lsn: Lsn(lsn),
        });
    }
}

/// For tests of one decision: a workload that is there.
pub(in crate::operator) fn workload(replicas: u32) -> Workload {
    Workload {
        leader_port: true,
        replicas,
        image: "image".into(),
        revision: Some("1".into()),
    }
}
