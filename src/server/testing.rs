//! A node without threads and without a disk, for tests of what is decided under the lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::inner::Job;
use super::node::{Node, NodeParts};
use super::view::StoreView;
use super::writer::{seal_barrier, seal_now};
use crate::command::View;
use crate::env::SimDisk;
use crate::log::{Frame, Log, Options};
use crate::replication::admin::Settings;
use crate::replication::{Addressee, Configuration, Core, Epoch, Input, Recovered, ReplicaId};
use crate::store::{MemoryEngine, Store, StoreOptions};

const ME: ReplicaId = ReplicaId(1);

/// Clocks that the test sets.
#[derive(Debug, Default)]
pub(super) struct Clock {
    pub(super) wall_ms: AtomicU64,
    pub(super) monotonic_ms: AtomicU64,
}

impl crate::env::Clock for Clock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }
}

/// One that leads nobody and follows nobody.
pub(super) fn follower(clock: Arc<Clock>) -> Node {
    let (_, log, found) = Log::open(Arc::new(SimDisk::new(1)), Options::default()).unwrap();
    let recovered = Recovered {
        complete: true,
        ..Recovered::default()
    };
    let store = Store::open(Arc::new(MemoryEngine::default()), StoreOptions::default()).unwrap();
    let parts = NodeParts {
        id: ME,
        chain: found.tip.chain,
        time_ms: 0,
        settings: Settings::default(),
        memory_budget: 1 << 30,
        divergent: None,
        names: BTreeMap::new(),
        claim: None,
        damage: None,
        message: String::new(),
        alone: false,
        log,
        clock,
    };
    Node::new(Core::new(ME, recovered, Duration::ZERO), Some(store), parts)
}

/// One that leads a store of itself, with nothing but its barrier in the log.
pub(super) fn leader(clock: Arc<Clock>) -> Node {
    let node = follower(clock);
    let configuration = Configuration {
        version: 1,
        epoch: Epoch(1),
        leader: Some(ME),
        voters: [ME].into(),
        ..Configuration::default()
    };
    let promise = Input::Promise {
        epoch: Epoch(1),
        ticket: 0,
        to: Addressee::default(),
    };
    for input in [promise, Input::Configure(configuration)] {
        node.with(|inner| node.drive(inner, input));
        work(&node);
    }
    assert!(node.with(|inner| inner.accepting));
    node
}

/// Does what is to be done on the disk.
fn work(node: &Node) {
    while let Some(job) = node.with(|inner| inner.jobs.pop_front()) {
        node.with(|inner| match job {
            Job::Save(hard) => node.drive(inner, Input::Saved(hard)),
            Job::Barrier { epoch, version } => {
                let frames = seal_barrier(node, inner, epoch, version).unwrap();
                let end = frames.last().unwrap().end();
                node.drive(inner, Input::Durable(end));
            }
            Job::Adopt(adopted) => node.drive(inner, Input::Adopted(adopted.configuration)),
            Job::Beat => node.drive(inner, Input::Beat),
            other => panic!("{other:?}"),
        });
    }
}

/// A client's write, executed.
pub(super) fn put(node: &Node, key: &[u8], value: &[u8], expire_at_ms: u64) {
    node.with(|inner| {
        let mut view = StoreView::new(node, inner);
        view.put(key, value, expire_at_ms).unwrap();
    });
}

/// What was executed, in a frame that is not durable.
pub(super) fn seal(node: &Node) -> Frame {
    node.with(|inner| {
        let epoch = inner.core.leading().unwrap();
        seal_now(node, inner, epoch)
    })
}

/// Another one is promised to.
pub(super) fn deposed(node: &Node) {
    let promise = Input::Promise {
        epoch: Epoch(2),
        ticket: 1,
        to: Addressee::default(),
    };
    node.with(|inner| node.drive(inner, promise));
    assert!(!node.with(|inner| inner.accepting));
}
