//! The changes that are not flushed yet: a layer that takes them, and one that is being flushed.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::engine::Engine;
use super::entry::Entry;
use super::error::{Result, StoreError};
use super::expiry::Undo;
use super::meta::Meta;
use super::table::{Slot, Table};
use crate::replication::Lsn;

/// Changes since the last seal.
#[derive(Debug)]
pub(super) struct Layer {
    /// Told apart from all other layers.
    pub(super) id: u64,
    pub(super) table: Table,
    /// LSN of the `Clear` that this layer begins with: what lies below is not seen.
    pub(super) cleared: Option<Lsn>,
    /// Layers that went up in this one when their flush was aborted.
    pub(super) absorbed: Vec<u64>,
    /// What resetting this layer puts back into the index of expiries.
    pub(super) undo: Undo,
}

impl Layer {
    pub(super) fn new(id: u64, table: Table) -> Self {
        Self {
            id,
            table,
            cleared: None,
            absorbed: Vec::new(),
            undo: Undo::default(),
        }
    }
}

/// A layer that takes no more changes, with what its flush will write.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) id: u64,
    pub(super) contents: Arc<Contents>,
    pub(super) absorbed: Vec<u64>,
    pub(super) undo: Undo,
    pub(super) ticket: Ticket,
}

/// What a [`FlushJob`] reads.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) table: Table,
    pub(super) cleared: Option<Lsn>,
    pub(super) meta: Meta,
}

/// Entries from one breath to the next, about 20 microseconds.
const BREATH: usize = 64;
/// Entries that are looked at together: the processor then waits for the memory of all of them at once.
const AHEAD: usize = 16;

/// So many keys tell what all keys may begin with.
const PREFIX_SAMPLE: usize = 64;

/// How far a flush has come: shared by the store and the job, so that of starting it and of
/// cancelling it exactly one succeeds.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

const PENDING: u8 = 0;
const STARTED: u8 = 1;
const FAILED: u8 = 2;
const CANCELLED: u8 = 3;

impl Ticket {
    fn step(&self, from: u8, to: u8) -> bool {
        let swapped = self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok()
    }

    /// Whether they are of the same flush; those of two stores never are.
    pub(super) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the job was begun, well or badly.
    pub(super) fn is_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) != PENDING
    }

    /// `false` if the job is running or done: its entries are on disk, or will be.
    pub(super) fn cancel(&self) -> bool {
        self.step(PENDING, CANCELLED) || self.step(FAILED, CANCELLED)
    }
}

/// The flush of a sealed layer, to be run without the core lock, and only once all that it holds
/// is committed. Dropping it instead leaves the store waiting: see
/// [`Store::abort_flush`](super::Store::abort_flush).
#[must_use]
pub struct FlushJob {
    pub(super) contents: Arc<Contents>,
    pub(super) ticket: Ticket,
    pub(super) engine: Arc<dyn Engine>,
}

/// A flush that is on disk; hand it to [`Store::finish_flush`](super::Store::finish_flush).
#[derive(Debug)]
#[must_use]
pub struct FlushDone {
    pub(super) ticket: Ticket,
    entries: usize,
    bytes: usize,
}

impl FlushDone {
    /// Changed keys that were written.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes of memory that they took.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl FlushJob {
    /// The LSN up to which the log must be committed before the job is run.
    pub fn cut(&self) -> Lsn {
        self.contents.meta.flushed
    }

    /// Sorts the entries and ingests them. Blocks for about half a second a million entries.
    ///
    /// After an error the store is as before: abort the flush, and seal again later. Only where
    /// the disk was full is that sound; another I/O error should end the process, as with the log.
    pub fn run(self) -> Result<FlushDone> {
        self.run_beside(&mut || {})
    }

    /// The same for one that should not take all of a processor: `breathe` is called often, and may pause.
    pub fn run_beside(self, breathe: &mut dyn FnMut()) -> Result<FlushDone> {
        if !self.ticket.step(PENDING, STARTED) {
            return Err(StoreError::FlushCancelled);
        }
        let result = self.ingest(breathe);
        if result.is_err() {
            self.ticket.step(STARTED, FAILED);
        }
        result
    }

    fn ingest(&self, breathe: &mut dyn FnMut()) -> Result<FlushDone> {
        let Contents {
            table,
            cleared,
            meta,
        } = &*self.contents;
        // In a generation that begins with this layer there is nothing to remove.
        let written = |entry: Entry<'_>| cleared.is_none() || !entry.is_tombstone();
        let entries = sorted(table, written);
        let mut changes = entries.iter().enumerate().map(|(at, (_, slot))| {
            if at % BREATH == 0 {
                breathe();
            }
            if at % AHEAD == 0 {
                for (_, slot) in entries[at..].iter().take(AHEAD) {
                    black_box(table.touch_at(*slot));
                }
            }
            let entry = table.at(*slot);
            let stored = (!entry.is_tombstone()).then(|| entry.stored());
            (entry.key(), stored)
        });
        self.engine.ingest(&mut changes, meta)?;
        Ok(FlushDone {
            ticket: self.ticket.clone(),
            entries: entries.len(),
            bytes: table.bytes(),
        })
    }
}

/// Where the entries are that are wanted, by key. What all keys begin with is left out of most
/// comparisons, and what comes behind it is brought together before: going to each entry is what costs
/// time.
fn sorted(table: &Table, wanted: impl Fn(Entry<'_>) -> bool) -> Vec<(u64, Slot)> {
    let mut sorted = Vec::with_capacity(table.len());
    let mut entries = table.iter().filter(|entry| wanted(*entry));
    let Some(first) = entries.next() else {
        return sorted;
    };
    let sample = entries.take(PREFIX_SAMPLE);
    let mut prefix = sample.fold(first.key(), |prefix, entry| common(prefix, entry.key()));
    let guess = prefix.len();
    for slot in table.slots() {
        let entry = table.at(slot);
        if wanted(entry) {
            prefix = common(prefix, entry.key());
            sorted.push((head(entry.key(), prefix.len()), slot));
        }
    }
    if prefix.len() < guess {
        for (number, slot) in &mut sorted {
            *number = head(table.at(*slot).key(), prefix.len());
        }
    }
    let key = |slot: Slot| table.at(slot).key();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
    sorted
}

/// What both begin with.
fn common<'a>(prefix: &'a [u8], key: &[u8]) -> &'a [u8] {
    if key.starts_with(prefix) {
        return prefix;
    }
    let same = prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
    &prefix[..same]
}

/// Eight bytes of the key as a number that sorts alike among keys that are the same up to `from`.
fn head(key: &[u8], from: usize) -> u64 {
    let key = &key[from..];
    let mut head = [0; 8];
    let len = key.len().min(8);
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::super::draft::Draft;
    use super::super::table::Common;
    use super::*;

    proptest! {
        #[test]
        fn entries_are_sorted_by_key(
            prefix in prop::collection::vec(0u8..3, 0..12),
            keys in prop::collection::btree_set(prop::collection::vec(0u8..3, 0..14), 0..200),
            odd in prop::option::of(prop::collection::vec(0u8..3, 0..4)),
        ) {
            let keys = keys.iter().map(|key| [prefix.as_slice(), key].concat());
            let keys: std::collections::BTreeSet<Vec<u8>> = keys.chain(odd).collect();
            let shared = Common::default();
            let mut table = Table::new(shared.clone());
            for key in &keys {
                let draft = Draft::put(key, b"", 0, Lsn(1));
                table.insert(shared.hasher.hash_one(key), &draft);
            }
            let sorted = sorted(&table, |_| true);
            let sorted: Vec<&[u8]> = sorted.iter().map(|(_, slot)| table.at(*slot).key()).collect();
            prop_assert_eq!(sorted, keys.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
