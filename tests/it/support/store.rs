//! A store of several replicas, with this test in the place of the operator.

use std::collections::BTreeSet;
use std::path::Path;

use replicated_store::replication::admin::{
    Assignment, Member, PromiseAnswer, PromiseRequest, ReplicaState, ReplicaStatus, Role, Settings,
};
use replicated_store::replication::{Configuration, Epoch, ReplicaId};
use tempfile::TempDir;

use super::{Replica, eventually};

/// The replicas and the register.
pub(crate) struct TestStore {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) register: Configuration,
    pub(crate) settings: Settings,
    /// Names of the members that serve no client.
    pub(crate) fenced: BTreeSet<String>,
    /// Replicas that are frozen: nobody asks them anything.
    pub(crate) away: BTreeSet<usize>,
    /// What each replica is started with.
    arguments: Vec<String>,
    root: TempDir,
}

impl TestStore {
    /// Starts `count` replicas; the first one leads.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, Settings::default())
    }

    pub(crate) fn start_with(count: usize, settings: Settings) -> Self {
        Self::start_in(count, settings, |_| {})
    }

    /// Starts replicas with their data in a directory that is prepared first.
    pub(crate) fn start_in(count: usize, settings: Settings, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_as(count, settings, &[], prepare)
    }

    /// Starts replicas with more arguments, and their data in a directory that is prepared first.
    pub(crate) fn start_as(
        count: usize,
        settings: Settings,
        arguments: &[&str],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        prepare(root.path());
        let mut store = Self::empty(root, settings, arguments);
        for _ in 0..count {
            store.add();
        }
        let leader = store.id(0);
        store.promises(|index| index == 0);
        store.register = Configuration {
            version: 1,
            epoch: Epoch(1),
            leader: Some(leader),
            voters: BTreeSet::from([leader]),
            ..Configuration::default()
        };
        store.assign();
        store.settle();
        store
    }

    /// A store of so many, in directories that are prepared first: what comes of that is its register. Nothing runs yet.
    pub(crate) fn found(count: usize, prepare: impl FnOnce(&Path) -> Vec<u8>) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let register = serde_json::from_slice(&prepare(root.path())).expect("a register");
        let mut store = Self::empty(root, Settings::default(), &[]);
        store.register = register;
        for _ in 0..count {
            store.place();
        }
        store
    }

    fn empty(root: TempDir, settings: Settings, arguments: &[&str]) -> Self {
        Self {
            replicas: Vec::new(),
            register: Configuration::default(),
            settings,
            fenced: BTreeSet::new(),
            away: BTreeSet::new(),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            root,
        }
    }

    /// Starts one more replica, without telling the others.
    pub(crate) fn add(&mut self) -> usize {
        let index = self.place();
        self.replicas[index].start();
        index
    }

    /// One more replica, which does not run.
    fn place(&mut self) -> usize {
        let name = format!("replica-{}", self.replicas.len());
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.replicas
            .push(Replica::new(self.root.path(), &name, &arguments));
        self.replicas.len() - 1
    }

    pub(crate) fn id(&self, index: usize) -> ReplicaId {
        self.replicas[index].status().expect("a running replica").id
    }

    fn running(&self) -> impl Iterator<Item = &Replica> {
        let present = self.replicas.iter().enumerate();
        let present = present.filter(|(index, _)| !self.away.contains(index));
        let present = present.map(|(_, replica)| replica);
        present.filter(|replica| replica.status().is_some())
    }

    /// Makes every replica a voter, with so many synchronous followers; all of them run.
    pub(crate) fn vote_all(&mut self, sync: u32) {
        let all = (0..self.replicas.len()).map(|index| self.id(index));
        self.vote(all.collect(), sync);
    }

    /// Has these vote, with so many synchronous followers, and waits until they have what is acknowledged.
    pub(crate) fn vote(&mut self, voters: BTreeSet<ReplicaId>, sync: u32) {
        self.register.version += 1;
        self.register.voters = voters;
        self.register.sync = sync;
        self.assign();
        eventually("the voters are established", || {
            let status = self.present_leader()?;
            let established = status.established_version == self.register.version;
            (established && status.answers).then_some(())
        });
    }

    /// What the leader says of itself. If it gave the lead up as its disk did not answer, the best one is
    /// named, as by the operator: a machine that is busy with other things stalls for a second.
    fn present_leader(&mut self) -> Option<ReplicaStatus> {
        let status = self.replicas[self.leader()].status()?;
        if status.message.contains("stopped leading") {
            println!("{} stopped leading: {}", status.name, status.message);
            self.promote();
            return None;
        }
        Some(status)
    }

    /// Hands the register to every replica that answers.
    pub(crate) fn assign(&self) {
        let away = self.away.iter().map(|index| &self.replicas[*index]);
        let members = self.running().chain(away).map(Replica::member);
        let fenced = &self.fenced;
        let members = members
            .map(|member| Member {
                fenced: fenced.contains(&member.name),
                ..member
            })
            .collect();
        let assignment = Assignment {
            configuration: self.register.clone(),
            members,
            settings: self.settings.clone(),
            stamp: 0,
        };
        let body = serde_json::to_string(&assignment).expect("JSON");
        for replica in self.running() {
            let (code, text) = replica
                .http("PUT", "/configuration", &body)
                .expect("an answer");
            assert_eq!(code, 200, "{text}");
        }
    }

    /// Index of the leader.
    pub(crate) fn leader(&self) -> usize {
        let leads = |index: &usize| {
            let status = self.replicas[*index].status();
            status.is_some_and(|status| Some(status.id) == self.register.leader)
        };
        let mut present = (0..self.replicas.len()).filter(|index| !self.away.contains(index));
        present.find(leads).expect("a leader that runs")
    }

    /// Waits until there is a leader that serves clients, whoever that is in the end.
    pub(crate) fn some_leader_serves(&mut self) {
        eventually("a leader serves", || {
            let status = self.present_leader()?;
            (status.role == Role::Leader && status.ready).then_some(())
        });
    }

    /// Waits until the leader of the register leads and serves clients.
    pub(crate) fn leader_serves(&self) {
        eventually("the leader serves", || {
            let status = self.replicas[self.leader()].status()?;
            (status.role == Role::Leader && status.ready).then_some(())
        });
    }

    /// Waits until every running replica streams and has everything.
    pub(crate) fn settle(&self) {
        self.leader_serves();
        for replica in self.running() {
            eventually(
                &format!("{} is ready and has everything", replica.name),
                || {
                    let end = self.replicas[self.leader()].status()?.last.lsn;
                    let status = replica.status()?;
                    let streams = status.state == ReplicaState::Streaming && status.ready;
                    (streams && status.applied_lsn == end).then_some(())
                },
            );
        }
    }

    /// Makes every running replica a voter, with so many synchronous followers.
    pub(crate) fn everybody_votes(&mut self, sync: u32) {
        let ids: Vec<ReplicaId> = (0..self.replicas.len()).map(|at| self.id(at)).collect();
        self.register.version += 1;
        self.register.voters.extend(ids);
        self.register.sync = sync;
        self.assign();
    }

    /// Promotes the best of all running replicas, as the operator does.
    pub(crate) fn promote(&mut self) {
        let answers = self.promises(|_| true);
        let old = self.register.leader;
        let best = answers
            .iter()
            .max_by_key(|answer| (answer.last, Some(answer.id) != old));
        let best = best.expect("an answer").id;
        self.named(best, &answers);
    }

    /// Promotes this replica, by the promises of all that run.
    pub(crate) fn promote_to(&mut self, index: usize) {
        let answers = self.promises(|_| true);
        self.named(self.id(index), &answers);
    }

    /// Promotes this replica by the promises of these.
    pub(crate) fn promote_by(&mut self, index: usize, voters: &[usize]) {
        let answers = self.promises(|other| voters.contains(&other));
        self.named(self.id(index), &answers);
    }

    /// Promotes this replica by its own promise alone: nobody else is a voter.
    pub(crate) fn promote_only(&mut self, index: usize) {
        self.promote_by(index, &[index]);
    }

    /// Asks the running replicas that are `asked` for a promise of the next epoch.
    fn promises(&self, asked: impl Fn(usize) -> bool) -> Vec<PromiseAnswer> {
        let epoch = self.register.epoch.next();
        let request = PromiseRequest {
            epoch,
            to: None,
            store: None,
        };
        let body = serde_json::to_string(&request).expect("JSON");
        let all = self.replicas.iter().enumerate();
        let present = all.filter(|(at, _)| asked(*at) && !self.away.contains(at));
        let running = present.filter(|(_, replica)| replica.status().is_some());
        let answers = running.map(|(_, replica)| {
            let (code, text) = replica.http("POST", "/promise", &body).expect("an answer");
            assert_eq!(code, 200, "{text}");
            serde_json::from_str(&text).expect("a promise")
        });
        let answers: Vec<PromiseAnswer> = answers.collect();
        assert!(answers.iter().all(|answer| answer.granted), "{answers:?}");
        answers
    }

    /// Names the leader of the next epoch. Who did not promise is given up: a leader that waited for
    /// its leases would serve nobody.
    fn named(&mut self, leader: ReplicaId, answers: &[PromiseAnswer]) {
        self.register.version += 1;
        self.register.epoch = self.register.epoch.next();
        self.register.leader = Some(leader);
        let promised: BTreeSet<ReplicaId> = answers.iter().map(|answer| answer.id).collect();
        self.register
            .voters
            .retain(|voter| promised.contains(voter));
        self.register.voters.insert(leader);
        // A leader that is only frozen holds its leases until they run out.
        let leases = answers.iter().flat_map(|answer| &answer.leases);
        let frozen = !self.away.is_empty();
        let wait = leases.map(|lease| lease.left_ms).max().filter(|_| frozen);
        self.register.wait_ms = wait.unwrap_or(0);
        self.assign();
    }

    /// All running replicas hold the same at the same LSN.
    pub(crate) fn assert_same(&self) {
        self.settle();
        let digests: Vec<_> = self.running().map(Replica::digest).collect();
        assert!(
            digests.windows(2).all(|pair| pair[0] == pair[1]),
            "{digests:#?}"
        );
    }
}
