//! For tests: the parts of a replica that leads alone, on a directory of its own, of whose threads only the
//! writer runs. What else is to happen, a test does itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::admin;
use super::data_dir::{Access, DataDir};
use super::gather::Patience;
use super::node::{Node, NodeParts};
use super::recover::{self, Mode};
use super::snapshots::Snapshots;
use super::upkeep::Upkeep;
use super::writer::Writer;
use crate::env::SystemClock;
use crate::replication::admin::{Assignment, Member, Settings};
use crate::replication::{Addressee, Configuration, Core, Epoch, Input, ReplicaId};
use crate::store::Record;

/// Nothing in these tests takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Rig {
    pub(super) node: Arc<Node>,
    pub(super) upkeep: Upkeep,
    stop: CancellationToken,
    writer: Option<JoinHandle<()>>,
    _root: TempDir,
}

impl Rig {
    pub(super) fn leading() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), Access::Use, || ReplicaId(7)).unwrap();
        let dir = Arc::new(dir);
        let settings = Settings {
            max_memory: 256 << 20,
            ..Settings::default()
        };
        let opened = recover::open(&dir, &settings, Mode::Alone).unwrap();
        let clock = Arc::new(SystemClock);
        let core = Core::new(dir.id(), opened.recovered, Duration::from_secs(1));
        let parts = NodeParts {
            id: dir.id(),
            chain: opened.chain,
            time_ms: opened.time_ms,
            memory_budget: settings.max_memory,
            settings,
            divergent: None,
            names: BTreeMap::new(),
            claim: None,
            damage: None,
            message: String::new(),
            alone: true,
            log: opened.reader.clone(),
            clock,
        };
        let node = Arc::new(Node::new(core, opened.store, parts));
        let stop = CancellationToken::new();
        let writer = Writer {
            node: Arc::clone(&node),
            log: opened.log,
            reader: opened.reader.clone(),
            dir: Arc::clone(&dir),
            stop: stop.clone(),
            patience: Patience::default(),
            note_failed: false,
        };
        let writer = std::thread::spawn(move || writer.run().unwrap());
        let upkeep = Upkeep {
            node: Arc::clone(&node),
            snapshots: Arc::new(Snapshots::open(Arc::clone(&dir)).unwrap()),
            dir,
            log: opened.reader,
            flushed_at: Arc::default(),
            stop: stop.clone(),
        };
        let rig = Self {
            node,
            upkeep,
            stop,
            writer: Some(writer),
            _root: root,
        };
        rig.lead();
        rig
    }

    fn lead(&self) {
        let id = self.node.id;
        let member = Member {
            id,
            name: "rig".to_owned(),
            peer_address: String::new(),
            client_address: String::new(),
            fenced: false,
        };
        let configuration = Configuration {
            version: 1,
            epoch: Epoch(1),
            leader: Some(id),
            voters: [id].into(),
            ..Configuration::default()
        };
        let settings = self.node.with(|inner| inner.settings.clone());
        let assignment = Assignment {
            configuration,
            members: vec![member],
            settings,
            stamp: 0,
        };
        self.node.with(|inner| {
            let (epoch, ticket, to) = (Epoch(1), 0, Addressee::default());
            self.node.drive(inner, Input::Promise { epoch, ticket, to });
        });
        admin::apply_assignment(&self.node, assignment);
        self.node.with(|inner| self.node.drive(inner, Input::Tick));
        Self::until("it leads", || self.node.with(|inner| inner.accepting));
    }

    /// Waits for something.
    pub(super) fn until(what: &str, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < DEADLINE, "timed out waiting for: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes a value, and waits until it is committed.
    pub(super) fn put(&self, key: &str, value: &[u8]) {
        let record = Record::Put {
            key: key.as_bytes(),
            value,
            expire_at_ms: 0,
            created: true,
        };
        let end = self.node.with(|inner| inner.append(&record).unwrap());
        self.node.work.notify_one();
        Self::until("it is committed", || {
            self.node.with(|inner| inner.core.commit() >= end)
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        self.node.work.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
