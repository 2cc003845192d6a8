//! Tests of the store as a whole: against a model, of the engines against each other, and of
//! what happens on disk.

mod bench;
mod damage;
mod disk;
mod engines;
mod model;
mod ops;
mod store;
mod table;

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::ProptestConfig;
use tempfile::TempDir;

use super::*;

/// Syncs cost nothing there; what tests check does not depend on the kind of disk.
fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// How many random cases a test tries, if `PROPTEST_CASES` does not say otherwise.
fn cases(count: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig::with_cases(asked.and_then(|asked| asked.parse().ok()).unwrap_or(count))
}

/// Tables so small that compaction has something to do.
fn small_tables() -> LsmOptions {
    LsmOptions {
        cache_bytes: 1 << 20,
        table_bytes: 4 << 10,
        l0_tables: 2,
    }
}

fn open_lsm(dir: &Path) -> Arc<LsmEngine> {
    Arc::new(LsmEngine::open(dir, &small_tables()).unwrap())
}

fn open_store(engine: Arc<dyn Engine>) -> Store {
    Store::open(engine, StoreOptions::default()).unwrap()
}

/// A store whose writes need no LSNs.
struct Writer {
    store: Store,
}

impl Writer {
    fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            store: open_store(engine),
        }
    }

    fn apply(&mut self, record: &Record<'_>) {
        let lsn = self.store.applied().advance(1);
        self.store.apply(record, lsn).unwrap();
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_expiring(key, value, 0);
    }

    fn put_expiring(&mut self, key: &[u8], value: &[u8], expire_at_ms: u64) {
        let created = self.store.get(key).unwrap().value.is_none();
        self.apply(&Record::Put {
            key,
            value,
            expire_at_ms,
            created,
        });
    }

    fn delete(&mut self, key: &[u8]) {
        if self.store.get(key).unwrap().value.is_some() {
            self.apply(&Record::Delete { key });
        }
    }

    fn flush(&mut self) {
        let job = self.store.seal(Cut::default()).unwrap();
        let done = job.run().unwrap();
        self.store.finish_flush(done).unwrap();
        while self.store.settle() {}
        drop(self.store.take_garbage());
    }

    fn value(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.store.get(key).unwrap();
        found.value.map(|entry| entry.value.to_vec())
    }
}

/// Every entry of the newest generation.
fn contents(engine: &dyn Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let generation = engine.meta().unwrap().generation;
    engine.range(generation, b"").map(Result::unwrap).collect()
}
