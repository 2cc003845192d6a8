//! Goal: whatever happens in whatever order, the store shows what a map shows.
//!
//! Method: random operations on the store and on a map, with the map's state remembered
//! at each cut; jobs run, fail to run, and finish in between; the store is reset and reopened. A
//! scan and the index of expiries are followed all along.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::ops::{NOW, Op, Snapshot, any_op};
use super::*;
use crate::replication::{Epoch, EpochHistory, Lsn};

#[derive(Debug, Default)]
struct Scan {
    cursor: u64,
    previous: Option<u64>,
    /// Keys that have existed all the time and were not returned.
    due: BTreeSet<Vec<u8>>,
    /// The same before the last answer.
    due_before: BTreeSet<Vec<u8>>,
}

struct Machine {
    dir: Option<TempDir>,
    engine: Arc<dyn Engine>,
    store: Store,
    now: Snapshot,
    sealed: Option<Snapshot>,
    flushed: Snapshot,
    job: Option<FlushJob>,
    started: bool,
    done: Option<FlushDone>,
    scan: Option<Scan>,
    warm: Warm,
    page: Option<Page>,
    checkpoints: usize,
    leads: bool,
    /// The committed state, and those after it.
    ahead: Vec<Snapshot>,
}

const OPTIONS: StoreOptions = StoreOptions {
    memory_bytes: 4000,
    flush_bytes: 1000,
    stall_bytes: 3000,
    seed: 7,
};

impl Machine {
    fn new(on_disk: bool) -> Self {
        let dir = on_disk.then(temp_dir);
        let engine: Arc<dyn Engine> = match &dir {
            Some(dir) => open_lsm(&dir.path().join("lsm")),
            None => Arc::new(MemoryEngine::default()),
        };
        Self {
            dir,
            store: Store::open(Arc::clone(&engine), OPTIONS).unwrap(),
            engine,
            now: Snapshot::default(),
            sealed: None,
            flushed: Snapshot::default(),
            job: None,
            started: false,
            done: None,
            scan: None,
            warm: Warm::default(),
            page: None,
            checkpoints: 0,
            leads: false,
            ahead: vec![Snapshot::default()],
        }
    }

    fn apply(&mut self, record: &Record<'_>) -> Lsn {
        let lsn = self.now.at.advance(3);
        if self.leads {
            self.store.apply_ahead(record, lsn).unwrap();
        } else {
            // Whoever follows has taken back, or committed, what it had.
            let last = self.ahead.len() - 1;
            self.commit(last);
            self.store.apply(record, lsn).unwrap();
        }
        self.now.at = lsn;
        lsn
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Put(key, len, expire_at_ms) => self.put(key, len, expire_at_ms),
            Op::Delete(key) => self.delete(&name(key)),
            Op::Clear => self.clear(),
            Op::Barrier => {
                self.apply(&Record::Barrier { version: 1 });
            }
            Op::Get(key) => self.check_key(&name(key)),
            Op::Warm(first) => self.read_cold(first),
            Op::TakeWarm => self.store.take_warm(std::mem::take(&mut self.warm)),
            Op::Seal => self.seal(),
            Op::Run => self.run(),
            Op::DropJob => self.job = None,
            Op::Finish => self.finish(),
            Op::Settle => {
                self.store.settle();
            }
            Op::Abort => self.abort(),
            Op::Evict => while self.store.evict() {},
            Op::Reset => self.reset(),
            Op::Reopen => self.reopen(),
            Op::Compact => while self.engine.compact_step().unwrap() {},
            Op::Scan(count) => self.scan(count),
            Op::ReadPage(count) => {
                let cursor = self.scan.as_ref().map_or(0, |scan| scan.cursor);
                let reader = self.store.page_reader(cursor, count);
                self.page = reader.map(|reader| reader.read().unwrap());
            }
            Op::TakePage => {
                if let Some(page) = self.page.take() {
                    self.store.take_page(page);
                }
            }
            Op::RepeatScan => self.repeat_scan(),
            Op::RandomKey(random) => self.random_key(random),
            Op::Expired(now) => self.expired(now),
            Op::Checkpoint => self.checkpoint(),
            Op::Ahead(leads) => self.leads = leads,
            Op::Commit(count) => self.commit(count),
            Op::TakeBack(count) => self.take_back(count),
        }
        self.follow();
        assert_eq!(self.store.len(), self.now.len());
        assert_eq!(self.store.applied(), self.now.at);
    }

    /// Remembers the state, if it is another one.
    fn follow(&mut self) {
        if !self.leads {
            self.ahead.clear();
        }
        if self.ahead.last().is_none_or(|last| last.at != self.now.at) {
            self.ahead.push(self.now.clone());
        }
    }

    fn commit(&mut self, count: usize) {
        let count = count.min(self.ahead.len() - 1);
        self.ahead.drain(..count);
        self.store.committed(self.ahead[0].at);
    }

    fn take_back(&mut self, count: usize) {
        let to = count.min(self.ahead.len() - 1);
        let at = self.ahead[to].at;
        // Where a flush of what is not committed waits, its job is dropped first.
        let cut = self.sealed.as_ref().map_or(Lsn::ZERO, |sealed| sealed.at);
        if cut > at && !self.started {
            (self.job, self.done) = (None, None);
        }
        assert!(self.store.take_back(at), "{at} is known");
        if cut > at {
            self.sealed = None;
        }
        self.ahead.truncate(to + 1);
        self.now = self.ahead[to].clone();
        if let Some(scan) = &mut self.scan {
            let there: BTreeSet<_> = self.now.shown().cloned().collect();
            scan.due.retain(|key| there.contains(key));
            scan.due_before.retain(|key| there.contains(key));
        }
    }

    fn put(&mut self, key: u8, len: usize, expire_at_ms: u64) {
        let key = name(key);
        if let Some(scan) = &mut self.scan
            && (1..=NOW).contains(&expire_at_ms)
        {
            scan.due.remove(&key);
            scan.due_before.remove(&key);
        }
        let value = vec![len as u8; len];
        let old = self.now.state.get(&key);
        let lsn = self.apply(&Record::Put {
            key: &key,
            value: &value,
            expire_at_ms,
            created: old.is_none_or(|old| old.0.is_none()),
        });
        let entry = (Some((value, expire_at_ms)), lsn);
        self.now.state.insert(key, entry);
    }

    fn delete(&mut self, key: &[u8]) {
        if self.now.state.get(key).is_some_and(|old| old.0.is_some()) {
            let lsn = self.apply(&Record::Delete { key });
            self.now.state.insert(key.to_vec(), (None, lsn));
            if let Some(scan) = &mut self.scan {
                scan.due.remove(key);
                scan.due_before.remove(key);
            }
        }
    }

    fn clear(&mut self) {
        let lsn = self.apply(&Record::Clear);
        for number in 0..60 {
            self.now.state.insert(name(number), (None, lsn));
        }
        if let Some(scan) = &mut self.scan {
            scan.due.clear();
            scan.due_before.clear();
        }
    }

    fn check_key(&mut self, key: &[u8]) {
        let found = self.store.get(key).unwrap();
        let (expected, lsn) = self.now.state.get(key).cloned().unwrap_or_default();
        let value = found
            .value
            .map(|entry| (entry.value.to_vec(), entry.expire_at_ms));
        assert_eq!(value, expected, "{key:?}");
        let forgotten = found.value.is_none() && found.lsn == Lsn::ZERO && lsn <= self.flushed.at;
        assert!(
            found.lsn == lsn || forgotten,
            "{key:?}: {} {lsn}",
            found.lsn
        );
    }

    /// Keeps what is read for later: whatever happens meanwhile, it must not bring old values back.
    fn read_cold(&mut self, first: u8) {
        let keys: Vec<_> = (first..60).take(15).map(name).collect();
        let cold = keys.iter().filter(|key| self.store.is_cold(key));
        let cold = cold.map(Vec::as_slice);
        self.warm = self.store.warmer().read(cold).unwrap();
    }

    fn cut(&self) -> Cut {
        let mut history = EpochHistory::default();
        history.append(Epoch(1), Lsn::ZERO);
        Cut {
            history,
            chain: self.now.at.0 as u32,
        }
    }

    fn seal(&mut self) {
        let under_way = self.sealed.is_some();
        let job = self.store.seal(self.cut());
        assert_eq!(job.is_none(), under_way);
        if let Some(job) = job {
            assert_eq!(job.cut(), self.now.at);
            self.job = Some(job);
            self.started = false;
            self.sealed = Some(self.now.clone());
        }
    }

    fn run(&mut self) {
        if let Some(job) = self.job.take() {
            match job.run() {
                Ok(done) => {
                    // Only what is committed is flushed.
                    let cut = self.sealed.as_ref().map_or(Lsn::ZERO, |sealed| sealed.at);
                    let before = self.ahead.iter().filter(|it| it.at < cut).count();
                    self.commit(before);
                    self.started = true;
                    self.done = Some(done);
                }
                Err(error) => assert!(matches!(error, StoreError::FlushCancelled)),
            }
        }
    }

    fn finish(&mut self) {
        if let Some(done) = self.done.take() {
            self.store.finish_flush(done).unwrap();
            self.flushed = self.sealed.take().unwrap();
            let meta = self.store.meta();
            assert_eq!(*meta, self.engine.meta().unwrap());
            assert_eq!(meta.flushed, self.flushed.at);
            assert_eq!(meta.chain, self.flushed.at.0 as u32);
            assert_eq!(meta.keys, self.flushed.len());
        }
    }

    fn abort(&mut self) {
        let result = self.store.abort_flush();
        if self.started && self.sealed.is_some() {
            assert!(matches!(result, Err(StoreError::FlushRunning)));
        } else {
            result.unwrap();
            if self.sealed.take().is_some() {
                // Nothing before that is taken back.
                self.ahead = vec![self.now.clone()];
            }
        }
    }

    fn reset(&mut self) {
        let at = self.store.reset();
        if !self.started {
            self.sealed = None;
        }
        self.now = self.sealed.as_ref().unwrap_or(&self.flushed).clone();
        assert_eq!(at, self.now.at);
        self.scan = None;
        self.ahead = vec![self.now.clone()];
    }

    /// A crash: what was ingested is there, finished or not.
    fn reopen(&mut self) {
        if self.started && self.sealed.is_some() {
            self.flushed = self.sealed.take().unwrap();
        }
        (self.sealed, self.job, self.done, self.scan) = (None, None, None, None);
        self.warm = Warm::default();
        self.now = self.flushed.clone();
        self.ahead = vec![self.now.clone()];
        let nothing: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
        self.store = open_store(Arc::clone(&nothing));
        if let Some(dir) = &self.dir {
            self.engine = nothing;
            self.engine = open_lsm(&dir.path().join("lsm"));
        }
        self.page = None;
        self.store = Store::open(Arc::clone(&self.engine), OPTIONS).unwrap();
        if let Some(mut fill) = self.store.expiry_fill() {
            while let Some(found) = fill.step(5).unwrap() {
                self.store.add_expiries(found);
            }
            self.store.expiries_filled(&fill);
        }
    }

    fn scan(&mut self, count: usize) {
        let scan = self.scan.get_or_insert_with(|| Scan {
            due: self.now.shown().cloned().collect(),
            ..Scan::default()
        });
        scan.due_before = scan.due.clone();
        let (next, keys) = self.store.scan(scan.cursor, count, NOW).unwrap();
        scan.previous = Some(scan.cursor);
        scan.cursor = next;
        for key in keys {
            assert!(self.now.shown().any(|it| *it == key), "{key:?}");
            scan.due.remove(&key);
        }
        if next == 0 {
            assert_eq!(scan.due, BTreeSet::new());
            self.scan = None;
        }
    }

    /// The last answer was lost: the client asks again.
    fn repeat_scan(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        if let Some(previous) = scan.previous.take()
            && previous != 0
        {
            scan.cursor = previous;
            scan.due = std::mem::take(&mut scan.due_before);
            self.scan(3);
        }
    }

    fn random_key(&mut self, random: u64) {
        let key = self.store.random_key(random, NOW).unwrap();
        assert_eq!(key.is_none(), self.now.shown().count() == 0);
        if let Some(key) = key {
            assert!(self.now.shown().any(|it| *it == key), "{key:?}");
        }
    }

    fn expired(&mut self, now: u64) {
        let mut found = self.store.expired(now, usize::MAX).unwrap();
        found.sort();
        let due = |value: &(Vec<u8>, u64)| value.1 != 0 && value.1 <= now;
        let live = self.now.live();
        let expected: Vec<_> = live.filter(|(_, value)| due(value)).collect();
        assert!(found.iter().eq(expected.iter().map(|(key, _)| *key)));
        for key in found.iter().take(2) {
            self.delete(key);
        }
    }

    fn checkpoint(&mut self) {
        let dir = temp_dir();
        self.checkpoints += 1;
        let copy = dir.path().join("copy");
        let checkpoint = self.engine.checkpoint(&copy).unwrap();
        let copy: Arc<dyn Engine> = match self.dir {
            Some(_) => open_lsm(&copy),
            None => Arc::new(MemoryEngine::open(&copy).unwrap()),
        };
        assert_eq!(checkpoint.meta, copy.meta().unwrap());
        assert_eq!(digest(&*copy).unwrap(), digest(&*self.engine).unwrap());
    }

    fn check_all(&mut self) {
        for number in 0..60 {
            self.check_key(&name(number));
        }
    }
}

fn name(number: u8) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

fn run(on_disk: bool, ops: &[Op]) {
    let mut machine = Machine::new(on_disk);
    for op in ops {
        machine.step(op);
    }
    machine.check_all();
    machine.reopen();
    machine.check_all();
    assert_eq!(digest(&*machine.engine).unwrap().1.keys, machine.now.len());
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn the_store_on_disk_shows_what_a_map_shows(
        ops in proptest::collection::vec(any_op(), 1..250),
    ) {
        run(true, &ops);
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn the_store_in_memory_shows_what_a_map_shows(
        ops in proptest::collection::vec(any_op(), 1..250),
    ) {
        run(false, &ops);
    }
}
