//! The world: replicas, network, register, operator, faults by seed; and what must always hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use replicated_store::replication::message::Message;
use replicated_store::replication::{Configuration, Core, Epoch, Input, Lsn, Peer, ReplicaId};

use super::network::{Network, Packet};
use super::node::{Frame, Job, Node, Out};
use super::operator::{Promotion, with_voters};

/// See the module.
pub(crate) struct World {
    rng: SmallRng,
    now: Duration,
    nodes: Vec<Node>,
    network: Network,
    register: Configuration,
    promotion: Option<Promotion>,
    tickets: BTreeMap<u64, (usize, Epoch)>,
    next_ticket: u64,
    next_serial: u64,
    /// Every frame that a leader committed, by its start.
    committed: BTreeMap<Lsn, Frame>,
    /// Every frame ever made, by epoch and start: one process appends in one epoch.
    made: BTreeMap<(Epoch, Lsn), u64>,
    counts: [u64; 3],
    trace: String,
    faults: bool,
    /// One in so many chances to work is taken by each disk: by seed, some are slow.
    slowness: Vec<u32>,
    /// How often faults come, by seed.
    fault_rate: u32,
}

impl World {
    pub(crate) fn new(seed: u64, count: u128, sync: u32) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let slowness = (0..count)
            .map(|_| [1, 1, 4, 20][rng.random_range(0..4)])
            .collect();
        let fault_rate = [1, 3, 10][rng.random_range(0..3)];
        let nodes: Vec<_> = (1..=count).map(|id| Node::new(ReplicaId(id))).collect();
        let voters = nodes.iter().map(|node| node.id).collect();
        let register = Configuration {
            version: 1,
            epoch: Epoch(1),
            leader: Some(ReplicaId(1)),
            voters,
            sync,
            ..Configuration::default()
        };
        Self {
            rng,
            now: Duration::ZERO,
            nodes,
            network: Network::default(),
            register,
            promotion: None,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            next_serial: 0,
            committed: BTreeMap::new(),
            made: BTreeMap::new(),
            counts: [0; 3],
            trace: String::new(),
            faults: true,
            slowness,
            fault_rate,
        }
    }

    pub(crate) fn commits(&self) -> u64 {
        self.counts[0]
    }

    pub(crate) fn promotions(&self) -> u64 {
        self.counts[1]
    }

    pub(crate) fn crashes(&self) -> u64 {
        self.counts[2]
    }

    pub(crate) fn trace(&self) -> &str {
        &self.trace
    }

    pub(crate) fn run_with_faults(&mut self, steps: usize) {
        for _ in 0..steps {
            self.turn();
        }
    }

    /// No more faults: everything must come together, and the store must take a write.
    pub(crate) fn heal_and_converge(&mut self) {
        self.faults = false;
        self.slowness.fill(1);
        self.promotion = None;
        for _ in 0..20 {
            for _ in 0..2000 {
                self.turn();
            }
            let leader = self.leader();
            // A promise above the register's epoch is carried through: who gave it follows nobody.
            if leader.is_none() || self.highest_promise() > self.register.epoch {
                self.begin_promotion();
                continue;
            }
            if self.converged(leader) {
                return;
            }
        }
        let cores: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.core.as_ref().map(Core::view))
            .collect();
        panic!(
            "does not converge: register {:#?}\n{cores:#?}",
            self.register
        );
    }

    fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| {
            let view = node
                .core
                .as_ref()
                .map(replicated_store::replication::Core::view);
            view.is_some_and(|view| view.serving && view.epoch == self.register.epoch)
        };
        self.nodes.iter().position(leads)
    }

    fn converged(&self, leader: Option<usize>) -> bool {
        let Some(leader) = leader else { return false };
        self.nodes.iter().all(|node| {
            let Some(view) = node.core.as_ref().map(Core::view) else {
                return false;
            };
            let near = self.nodes[leader]
                .frames
                .len()
                .saturating_sub(node.frames.len())
                < 20;
            near && view.complete && (view.streaming || view.leading)
        })
    }

    /// One random event.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        let node = self.rng.random_range(0..self.nodes.len());
        let event = self.rng.random_range(0..1000);
        let _ = write!(self.trace, "{node}.{event} ");
        match event {
            0..300 => self.disk_works(node),
            300..700 => self.deliver(),
            700..800 => self.client_writes(node),
            800..860 => self.connect(node),
            860..900 => self.stream(),
            900..920 => self.configure(node),
            920..940 => self.acknowledge(node),
            940..950 => self.tick(node),
            950..960 => self.flush(node),
            960..970 => self.operator(),
            970..990 if self.faults && self.rng.random_ratio(self.fault_rate, 10) => {
                self.fault(node, event);
            }
            990..1000 => self.start(node),
            _ => {}
        }
        self.check(node);
    }

    fn fault(&mut self, node: usize, event: u32) {
        match event {
            970..977 => self.begin_promotion(),
            977..980 => self.crash(node),
            // Whoever shares a rack, or a mistake.
            980..983 => {
                self.crash(node);
                self.crash((node + 1) % self.nodes.len());
            }
            _ => self.break_link(),
        }
    }

    fn disk_works(&mut self, node: usize) {
        if !self.rng.random_ratio(1, self.slowness[node]) {
            return;
        }
        self.next_serial += 1;
        let out = self.nodes[node].work(self.next_serial, self.now);
        self.note_frames(node);
        self.obey(node, out);
    }

    fn client_writes(&mut self, node: usize) {
        self.next_serial += 1;
        if let Some(out) = self.nodes[node].append(self.next_serial, None, self.now) {
            self.note_frames(node);
            self.obey(node, out);
        }
    }

    /// No two frames are ever made for one place of one epoch.
    fn note_frames(&mut self, node: usize) {
        let Some(frame) = self.nodes[node].frames.last() else {
            return;
        };
        let made = self
            .made
            .entry((frame.epoch, frame.start))
            .or_insert(frame.serial);
        assert_eq!(
            *made, frame.serial,
            "two frames of epoch {} at {}",
            frame.epoch, frame.start
        );
    }

    fn connect(&mut self, node: usize) {
        let Some(target) = self.nodes[node].follows else {
            return;
        };
        let Some(leader) = self.nodes.iter().position(|node| node.id == target) else {
            return;
        };
        let up = self.nodes[leader].core.is_some() && self.nodes[node].core.is_some();
        if up && self.network.of_follower(node).is_none() {
            let peer = self.network.connect(node, leader);
            let out = self.nodes[node].step(Input::Connected(peer), self.now);
            self.obey(node, out);
        }
    }

    fn deliver(&mut self) {
        let peers: Vec<Peer> = self.network.links.keys().copied().collect();
        if peers.is_empty() {
            return;
        }
        let peer = peers[self.rng.random_range(0..peers.len())];
        let to_leader = self.rng.random_bool(0.5);
        let Some(link) = self.network.links.get_mut(&peer) else {
            return;
        };
        let (queue, node) = if to_leader {
            (&mut link.to_leader, link.leader)
        } else {
            (&mut link.to_follower, link.follower)
        };
        match queue.pop_front() {
            Some(Packet::Message(message)) => {
                let out = self.nodes[node].step(Input::Received(peer, message), self.now);
                self.obey(node, out);
            }
            Some(Packet::Append(message, frames)) => {
                let out = self.nodes[node].offer(peer, frames, self.now);
                self.obey(node, out);
                let out = self.nodes[node].step(Input::Received(peer, message), self.now);
                self.obey(node, out);
            }
            None => {}
        }
    }

    fn stream(&mut self) {
        let mut sent = Vec::new();
        for (peer, link) in &mut self.network.links {
            let Some(from) = link.streamed else { continue };
            let node = &self.nodes[link.leader];
            let Some(core) = &node.core else { continue };
            let most = self.rng.random_range(1..5);
            let Some(frames) = node.after(from, most) else {
                sent.push((*peer, None));
                continue;
            };
            let (commit, end) = (core.commit(), core.end());
            let (sent_at, keep_from) = (self.now.as_micros() as u64, Lsn::ZERO);
            let news = Message::Heartbeat {
                commit,
                end,
                keep_from,
                sent_at,
                lease_ms: 1000,
            };
            if let Some(last) = frames.last() {
                link.streamed = Some(last.end);
            }
            sent.push((*peer, Some((link.leader, news, frames))));
        }
        for (peer, packet) in sent {
            match packet {
                None => self.close(peer),
                Some((leader, news, frames)) if frames.is_empty() => {
                    self.network.send(peer, leader, Packet::Message(news));
                }
                Some((leader, news, frames)) => {
                    self.network
                        .send(peer, leader, Packet::Append(news, frames));
                }
            }
        }
    }

    fn acknowledge(&mut self, node: usize) {
        let core = self.nodes[node].core.as_mut();
        let acknowledgement = core.and_then(|core| {
            let ready = core.view().ready;
            core.judge_ready(ready, 1 << 20);
            core.acknowledgement()
        });
        if let Some((peer, message)) = acknowledgement {
            self.network.send(peer, node, Packet::Message(message));
        }
    }

    fn tick(&mut self, node: usize) {
        let out = self.nodes[node].step(Input::Tick, self.now);
        self.obey(node, out);
    }

    fn flush(&mut self, node: usize) {
        let trim = self.rng.random_bool(0.3);
        let out = self.nodes[node].flush(trim, self.now);
        self.obey(node, out);
    }

    /// The operator hands over the register; as it is now, whatever the replica has.
    fn configure(&mut self, node: usize) {
        let out = self.nodes[node].step(Input::Configure(self.register.clone()), self.now);
        self.obey(node, out);
    }

    /// The operator goes on with what it does.
    fn operator(&mut self) {
        if self.promotion.is_some() {
            self.ask_for_promises();
            return;
        }
        let leader = self.leader();
        let established = leader.and_then(|leader| self.nodes[leader].core.as_ref());
        let established = established.map_or(0, |core| core.view().established);
        if established == self.register.version {
            self.register.version += u64::from(!self.register.previous.is_empty());
            self.register.previous.clear();
        }
        let mut voters = self.register.voters.clone();
        let chosen = self.nodes[self.rng.random_range(0..self.nodes.len())].id;
        if Some(chosen) != self.register.leader && self.faults && self.rng.random_bool(0.2) {
            let complete = self.nodes.iter().any(|node| {
                node.id == chosen && node.core.as_ref().is_some_and(|core| core.view().ready)
            });
            if !voters.remove(&chosen) && complete {
                voters.insert(chosen);
            }
            if let Some(next) = with_voters(&self.register, voters) {
                self.register = next;
            }
        }
    }

    fn highest_promise(&self) -> Epoch {
        let cores = self.nodes.iter().filter_map(|node| node.core.as_ref());
        cores
            .map(|core| core.view().hard.promised)
            .max()
            .unwrap_or_default()
    }

    fn begin_promotion(&mut self) {
        let cores = self.nodes.iter().filter_map(|node| node.core.as_ref());
        let promised = cores
            .map(|core| core.view().hard.promised)
            .max()
            .unwrap_or_default();
        self.promotion = Some(Promotion::begin(&self.register, promised));
        self.ask_for_promises();
    }

    fn ask_for_promises(&mut self) {
        let Some(promotion) = &self.promotion else {
            return;
        };
        let epoch = promotion.epoch;
        for node in 0..self.nodes.len() {
            if self.nodes[node].core.is_none() || (self.faults && self.rng.random_bool(0.3)) {
                continue;
            }
            self.next_ticket += 1;
            let ticket = self.next_ticket;
            self.tickets.insert(ticket, (node, epoch));
            let out = self.nodes[node].step(Input::Promise { epoch, ticket }, self.now);
            self.obey(node, out);
        }
    }

    fn promised(&mut self, ticket: u64, granted: bool) {
        let Some((node, epoch)) = self.tickets.remove(&ticket) else {
            return;
        };
        let Some(promotion) = &mut self.promotion else {
            return;
        };
        let Some(core) = &self.nodes[node].core else {
            return;
        };
        if !granted || promotion.epoch != epoch {
            if !granted && promotion.epoch == epoch {
                self.promotion = None; // somebody promised more: begin anew, above it
            }
            return;
        }
        if !core.view().complete {
            return;
        }
        promotion.promises.insert(self.nodes[node].id, core.last());
        if promotion.based_on != self.register {
            self.promotion = None; // the swap would fail
            return;
        }
        if let Some(next) = promotion.decide() {
            self.register = next;
            self.promotion = None;
            self.counts[1] += 1;
        }
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].core.is_none() {
            return;
        }
        let keep = self.rng.random_range(0..=self.nodes[node].volatile());
        self.nodes[node].crash(keep);
        self.counts[2] += 1;
        let broken: Vec<Peer> = self
            .network
            .links
            .iter()
            .filter(|(_, link)| link.leader == node || link.follower == node)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in broken {
            self.close(peer);
        }
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].core.is_none() {
            self.nodes[node].start();
        }
    }

    fn break_link(&mut self) {
        let peers: Vec<Peer> = self.network.links.keys().copied().collect();
        if !peers.is_empty() {
            let peer = peers[self.rng.random_range(0..peers.len())];
            self.close(peer);
        }
    }

    fn close(&mut self, peer: Peer) {
        let Some(link) = self.network.links.remove(&peer) else {
            return;
        };
        for node in [link.leader, link.follower] {
            let out = self.nodes[node].step(Input::Closed(peer), self.now);
            self.obey(node, out);
        }
    }

    fn obey(&mut self, node: usize, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Send(peer, message) => {
                    self.network.send(peer, node, Packet::Message(message));
                }
                Out::Stream(peer, from) => {
                    if let Some(link) = self.network.links.get_mut(&peer) {
                        link.streamed = Some(from);
                    }
                }
                Out::Close(peer) => self.close(peer),
                Out::Unfollow => {
                    if let Some(peer) = self.network.of_follower(node) {
                        self.close(peer);
                    }
                }
                Out::FetchSeed(peer) => self.seed(node, peer),
                Out::Promise { ticket, granted } => self.promised(ticket, granted),
                Out::Committed(frames) => self.committed(node, frames),
            }
        }
    }

    fn seed(&mut self, node: usize, peer: Peer) {
        // One task fetches seeds: what an earlier connection asked for comes first.
        let under_way = |job: &Job| matches!(job, Job::Seed(..) | Job::Install(_));
        if self.nodes[node].jobs.iter().any(under_way) {
            return;
        }
        let source = self.network.links.get(&peer).map(|link| link.leader);
        let snapshot = source.and_then(|source| self.nodes[source].snapshot());
        match snapshot {
            Some((frames, history)) => {
                self.nodes[node].jobs.push_back(Job::Seed(frames, history));
            }
            None => self.close(peer),
        }
    }

    /// What one replica holds for committed, every replica holds for committed.
    fn committed(&mut self, node: usize, frames: Vec<Frame>) {
        for frame in frames {
            self.counts[0] += 1;
            let known = self
                .committed
                .entry(frame.start)
                .or_insert_with(|| frame.clone());
            assert_eq!(
                *known, frame,
                "node {node} commits another frame than was committed"
            );
        }
    }

    /// A leader of the newest epoch that serves holds everything that was ever committed; and two
    /// replicas never serve in one epoch.
    fn check(&self, node: usize) {
        let Some(core) = &self.nodes[node].core else {
            return;
        };
        let view = core.view();
        if !view.serving {
            return;
        }
        let others = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != node);
        for (_, other) in others {
            let other = other.core.as_ref().map(Core::view);
            let same = other.is_some_and(|other| other.serving && other.epoch == view.epoch);
            assert!(!same, "two leaders of epoch {}", view.epoch);
        }
        let newest = self.made.keys().map(|(epoch, _)| *epoch).max();
        if newest == Some(view.epoch) {
            let frames = &self.nodes[node].frames;
            assert!(
                self.committed.len() <= frames.len()
                    && self.committed.values().zip(frames).all(|(a, b)| a == b),
                "the leader of epoch {} does not hold what was committed",
                view.epoch
            );
        }
    }
}
