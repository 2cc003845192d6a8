//! An [`Engine`] in memory: for tests and simulation, and the measure for the real one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::engine::{Change, Checkpoint, CheckpointFile, Damage, Engine, EngineStats, Entries};
use super::error::{Result, StoreError};
use super::meta::Meta;

const FILE: &str = "state";

type Key = (u32, Vec<u8>);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    meta: Meta,
    entries: BTreeMap<Key, Vec<u8>>,
}

/// An ordered map behind a lock. Reads see either all or nothing of an ingestion.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    /// Whoever iterates holds the state as it was; an ingestion then copies it.
    state: RwLock<Arc<State>>,
    retired: RwLock<u32>,
}

impl MemoryEngine {
    /// The state of a checkpoint.
    pub fn open(dir: &Path) -> Result<Self> {
        let bytes = fs::read(dir.join(FILE))?;
        let state: State = postcard::from_bytes(&bytes)
            .map_err(|error| StoreError::Corrupt(format!("{FILE}: {error}")))?;
        Ok(Self {
            state: RwLock::new(Arc::new(state)),
            retired: RwLock::default(),
        })
    }

    fn now(&self) -> Arc<State> {
        Arc::clone(&self.state.read())
    }
}

impl Engine for MemoryEngine {
    fn meta(&self) -> Result<Meta> {
        Ok(self.now().meta.clone())
    }

    fn get(&self, generation: u32, key: &[u8], into: &mut Vec<u8>) -> Result<bool> {
        let state = self.state.read();
        let found = state.entries.get(&(generation, key.to_vec()));
        if let Some(stored) = found {
            into.extend_from_slice(stored);
        }
        Ok(found.is_some())
    }

    fn range(&self, generation: u32, from: &[u8]) -> Entries {
        let state = self.now();
        let mut place = Bound::Included((generation, from.to_vec()));
        Box::new(std::iter::from_fn(move || {
            let bounds = (place.clone(), Bound::Unbounded);
            let (key, stored) = state.entries.range::<Key, _>(bounds).next()?;
            if key.0 != generation {
                return None;
            }
            place = Bound::Excluded(key.clone());
            Some(Ok((key.1.clone(), stored.clone())))
        }))
    }

    fn sample(&self, generation: u32, random: u64) -> Result<Option<Vec<u8>>> {
        let state = self.now();
        let from = (generation, Vec::new())..(generation + 1, Vec::new());
        let count = state.entries.range(from.clone()).count();
        let nth = random as usize % count.max(1);
        let found = state.entries.range(from).nth(nth);
        Ok(found.map(|(key, _)| key.1.clone()))
    }

    fn ingest(&self, changes: &mut dyn Iterator<Item = Change<'_>>, meta: &Meta) -> Result<()> {
        let mut state = self.state.write();
        let next = Arc::make_mut(&mut state);
        let mut last: Option<Vec<u8>> = None;
        for (key, stored) in changes {
            let ascending = last.is_none_or(|last| *last < *key);
            assert!(ascending, "changes come in ascending order");
            last = Some(key.to_vec());
            let key = (meta.generation, key.to_vec());
            match stored {
                Some(stored) => next.entries.insert(key, stored.to_vec()),
                None => next.entries.remove(&key),
            };
        }
        next.meta = meta.clone();
        Ok(())
    }

    fn retire(&self, generation: u32) {
        *self.retired.write() = generation;
    }

    fn compact_step(&self) -> Result<bool> {
        let retired = *self.retired.read();
        let mut state = self.state.write();
        let dead = |state: &State| {
            let first = state.entries.keys().next();
            first.is_some_and(|key| key.0 < retired)
        };
        if !dead(&state) {
            return Ok(false);
        }
        let state = Arc::make_mut(&mut state);
        state.entries = state.entries.split_off(&(retired, Vec::new()));
        Ok(true)
    }

    fn checkpoint(&self, dir: &Path) -> Result<Checkpoint> {
        let state = self.now();
        let bytes = postcard::to_stdvec(&*state)
            .map_err(|error| StoreError::Corrupt(format!("{FILE}: {error}")))?;
        let partial = dir.with_extension("partial");
        fs::create_dir_all(&partial)?;
        let mut file = fs::File::create(partial.join(FILE))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&partial, dir)?;
        Ok(Checkpoint {
            meta: state.meta.clone(),
            files: vec![CheckpointFile {
                name: FILE.to_owned(),
                size: bytes.len() as u64,
                xxh3: None,
            }],
        })
    }

    fn squeeze(&self) -> Result<()> {
        Ok(())
    }

    fn interrupt(&self) {}

    fn verify(&self, _: &mut dyn FnMut(u64) -> bool) -> Result<Vec<Damage>> {
        Ok(Vec::new())
    }

    fn stats(&self) -> EngineStats {
        let entries = self.now().entries.len() as u64;
        EngineStats {
            entries,
            ..EngineStats::default()
        }
    }
}
