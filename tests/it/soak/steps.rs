//! What is done to the store under load: restarts, lost disks, changes of leader.

use std::fmt;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use replicated_store::replication::admin::{ReplicaState, SeedSource, SwitchoverRequest};

use super::super::support::{TestStore, eventually};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    StopFollower,
    KillFollower,
    KillLeader,
    Switchover,
    /// The lead goes to a follower, then the old leader is stopped, as for an update.
    StopLeader,
    LoseDisk(SeedSource),
}

const ALL: [Step; 7] = [
    Step::LoseDisk(SeedSource::Leader),
    Step::KillLeader,
    Step::StopFollower,
    Step::Switchover,
    Step::LoseDisk(SeedSource::PreferFollower),
    Step::KillFollower,
    Step::StopLeader,
];

/// Steps in random order, each as often as the others, and how many there were.
pub(super) struct Steps {
    left: Vec<Step>,
    random: SmallRng,
    done: Vec<(Step, usize)>,
    /// Switchovers that the leader gave up.
    refused: usize,
    /// Seeds from a leader, and from a follower.
    pub(super) seeds: [usize; 2],
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, count) in &self.done {
            write!(f, "{step:?} {count}, ")?;
        }
        let [leader, follower] = self.seeds;
        write!(
            f,
            "given up {}, seeds from leaders {leader} and followers {follower}",
            self.refused
        )
    }
}

impl Steps {
    pub(super) fn new(random: SmallRng) -> Self {
        Self {
            left: Vec::new(),
            random,
            done: ALL.map(|step| (step, 0)).to_vec(),
            refused: 0,
            seeds: [0, 0],
        }
    }

    /// Does one of the steps, after which all is well again. The process of `spared` goes on.
    pub(super) fn next(&mut self, store: &mut TestStore, spared: Option<usize>) -> Step {
        if self.left.is_empty() {
            self.left = ALL.to_vec();
            self.left.shuffle(&mut self.random);
        }
        let step = self.left.pop().expect("a step");
        let leader = store.leader();
        let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        let may: Vec<usize> = others
            .iter()
            .copied()
            .filter(|at| Some(*at) != spared)
            .collect();
        let follower = may[self.random.random_range(0..may.len())];
        match step {
            Step::StopFollower => restart(store, follower, true),
            Step::KillFollower => restart(store, follower, false),
            Step::LoseDisk(source) => {
                lose_disk(store, follower, source);
                ready(store);
                let from_leader = source_of(store, follower) == store.replicas[leader].name;
                self.seeds[usize::from(!from_leader)] += 1;
            }
            Step::KillLeader | Step::StopLeader if spared == Some(leader) => {
                self.switch(store, follower);
            }
            Step::KillLeader => {
                store.replicas[leader].kill();
                store.promote();
                store.replicas[leader].start();
                store.assign();
            }
            Step::StopLeader => {
                self.switch(store, follower);
                if store.leader() != leader {
                    restart(store, leader, true);
                }
            }
            Step::Switchover => self.switch(store, follower),
        }
        store.vote_all(1);
        ready(store);
        for (one, count) in &mut self.done {
            *count += usize::from(*one == step);
        }
        step
    }

    fn switch(&mut self, store: &mut TestStore, target: usize) {
        ready(store);
        let request = SwitchoverRequest {
            epoch: store.register.epoch.next(),
            target: store.id(target),
            deadline_ms: 10_000,
            to: None,
            store: None,
        };
        let body = serde_json::to_string(&request).expect("JSON");
        let leader = &store.replicas[store.leader()];
        let (code, text) = leader
            .http("POST", "/switchover", &body)
            .expect("an answer");
        if code == 200 {
            store.promote_to(target);
            store.some_leader_serves();
        } else {
            println!("a switchover was given up: {text}");
            self.refused += 1;
        }
    }
}

fn restart(store: &mut TestStore, index: usize, ask: bool) {
    if ask {
        store.replicas[index].terminate();
    } else {
        store.replicas[index].kill();
    }
    store.replicas[index].start();
    store.assign();
}

/// A follower loses its disk, is given up as a voter, and comes back as another one that is seeded.
fn lose_disk(store: &mut TestStore, index: usize, source: SeedSource) {
    store.settings.seed_source = source;
    let lost = store.id(index);
    store.replicas[index].kill();
    let mut voters = store.register.voters.clone();
    voters.remove(&lost);
    store.vote(voters, 1);
    store.replicas[index].lose_disk();
    store.replicas[index].start();
    store.assign();
}

/// Whom it was seeded from, as its log says.
fn source_of(store: &TestStore, index: usize) -> String {
    let log = store.replicas[index].log();
    let line = log
        .lines()
        .rev()
        .find(|line| line.contains("a seed begins"));
    let from = line.and_then(|line| line.split("from=").nth(1));
    let name = from.and_then(|rest| rest.split_whitespace().next());
    name.expect("a seed that began").to_owned()
}

/// All of them stream.
fn ready(store: &mut TestStore) {
    store.some_leader_serves();
    for replica in &store.replicas {
        eventually(&format!("{} is ready", replica.name), || {
            let status = replica.status()?;
            (status.state == ReplicaState::Streaming && status.ready).then_some(())
        });
    }
}
