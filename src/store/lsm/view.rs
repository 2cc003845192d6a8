//! The tables of the tree at one moment, held by us.
//!
//! The tree's own reads take a lock that it holds for writing while it syncs a manifest, which
//! is several syncs and, at the end of a compaction, the writing of a table. A read under the
//! core lock must not wait for that, so it goes to the tables directly. Who holds a view holds
//! its files.

use std::ops::Bound;
use std::sync::Arc;

use lsm_tree::merge::{BoxedIterator, Merger};
use lsm_tree::table::filter::standard_bloom::Builder;
use lsm_tree::{AbstractTree, SeqNo, Slice, Table, Tree, ValueType};

use super::keys;
use crate::store::engine::{EngineStats, Entries};
use crate::store::error::Result;

/// Newer than everything, see the module's documentation: the tree is never read at an older one.
const NEWEST: SeqNo = SeqNo::MAX;

/// Runs of disjoint tables in ascending order of their keys, the newest run first.
pub(super) struct View {
    /// Number of the tree's version.
    pub(super) id: u64,
    runs: Vec<Vec<Table>>,
    /// Runs that are not merged into a sorted level yet.
    pub(super) backlog: usize,
}

impl View {
    pub(super) fn of(tree: &Tree) -> Self {
        let version = tree.current_version();
        let levels = version.iter_levels().flat_map(|level| level.iter());
        Self {
            id: version.id(),
            runs: levels.map(|run| run.iter().cloned().collect()).collect(),
            backlog: version.level(0).map_or(0, |level| level.run_count()),
        }
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.runs.iter().flatten()
    }

    /// The tables with the number of their run, the newest first.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &Table)> {
        let runs = self.runs.iter().enumerate();
        runs.flat_map(|(number, run)| run.iter().map(move |table| (number, table)))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        let hash = Builder::get_hash(key);
        for run in &self.runs {
            let at = run.partition_point(|table| max(table) < key);
            let Some(table) = run.get(at).filter(|table| min(table) <= key) else {
                continue;
            };
            // The first hit is the newest.
            if let Some(item) = table.get(key, NEWEST, hash)? {
                let live = item.key.value_type == ValueType::Value;
                return Ok(live.then_some(item.value));
            }
        }
        Ok(None)
    }

    /// The live items from `from` up to `to` (exclusive).
    pub(super) fn range(self: Arc<Self>, from: Vec<u8>, to: &[u8]) -> Entries {
        let bounds = (
            Bound::Included(Slice::from(from)),
            Bound::Excluded(Slice::from(to)),
        );
        let runs = 0..self.runs.len();
        let readers = runs.map(|run| self.read_run(run, &bounds)).collect();
        let mut merged = Merger::new(readers);
        let mut last: Option<Slice> = None;
        Box::new(std::iter::from_fn(move || {
            loop {
                let item = match merged.next()? {
                    Ok(item) => item,
                    Err(error) => return Some(Err(error.into())),
                };
                // Of one key, the newest comes first.
                if last.as_ref() == Some(&item.key.user_key) {
                    continue;
                }
                last = Some(item.key.user_key.clone());
                if item.key.value_type == ValueType::Value {
                    let key = item.key.user_key[keys::PREFIX..].to_vec();
                    return Some(Ok((key, item.value.to_vec())));
                }
            }
        }))
    }

    /// Reads the tables of one run one after the other, each opened only when it is reached.
    fn read_run(
        self: &Arc<Self>,
        run: usize,
        bounds: &(Bound<Slice>, Bound<Slice>),
    ) -> BoxedIterator<'static> {
        let Bound::Included(from) = &bounds.0 else {
            return Box::new(std::iter::empty());
        };
        let view = Arc::clone(self);
        let bounds = bounds.clone();
        let first = view.runs[run].partition_point(|table| max(table) < &**from);
        Box::new(
            (first..view.runs[run].len())
                .flat_map(move |table| view.runs[run][table].range(bounds.clone())),
        )
    }

    /// A place in the entries between the two keys, chosen by a random number: in a table, chosen
    /// by its number of entries, a point between its first and its last key.
    pub(super) fn random_place(&self, from: &[u8], to: &[u8], random: u64) -> Option<Vec<u8>> {
        let inside = |table: &&Table| max(table) >= from && min(table) < to;
        let tables: Vec<&Table> = self.tables().filter(inside).collect();
        let total: u64 = tables.iter().map(|table| table.metadata.item_count).sum();
        let mut nth = random.checked_rem(total)?;
        for table in tables {
            let Some(further) = nth.checked_sub(table.metadata.item_count) else {
                let low: &[u8] = Ord::max(min(table), from);
                let high: &[u8] = Ord::min(max(table), to);
                return Some(between(low, high, random.rotate_left(32)));
            };
            nth = further;
        }
        None
    }

    pub(super) fn stats(&self) -> EngineStats {
        let mut stats = EngineStats {
            backlog: self.backlog as u64,
            ..EngineStats::default()
        };
        for table in self.tables() {
            stats.files += 1;
            stats.entries += table.metadata.item_count;
            stats.disk_bytes += table.metadata.file_size;
        }
        stats
    }
}

fn min(table: &Table) -> &[u8] {
    table.metadata.key_range.min()
}

fn max(table: &Table) -> &[u8] {
    table.metadata.key_range.max()
}

/// A key between two: what they have in common, and eight bytes interpolated.
fn between(low: &[u8], high: &[u8], random: u64) -> Vec<u8> {
    let common = low.iter().zip(high).take_while(|(a, b)| a == b).count();
    let digits = |key: &[u8]| {
        let mut digits = [0; 8];
        let rest = &key[common..];
        let len = rest.len().min(8);
        digits[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(digits)
    };
    let (first, last) = (digits(low), digits(high));
    let span = u128::from(last.saturating_sub(first)) + 1;
    let offset = (u128::from(random) * span) >> 64;
    let mut key = low[..common].to_vec();
    key.extend_from_slice(&(first + offset as u64).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_between_two_keys_is_between_them() {
        for random in [0, 1, u64::MAX / 3, u64::MAX] {
            let place = between(b"key:0001", b"key:9999", random);
            assert!(place >= b"key:0001".to_vec());
            assert!(place <= b"key:9999\0\0\0\0\0\0\0\0".to_vec());
            assert!(place.starts_with(b"key:"));
            let _ = between(b"a", b"a", random);
            let _ = between(b"", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", random);
        }
    }
}
