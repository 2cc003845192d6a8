//! Takes what can be read out of the tables of a tree that cannot be used as it is. Order matters, as of one key the
//! newest entry counts: it is known from the copy of the manifest, and without that nothing is taken.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use lsm_tree::merge::Merger;
use lsm_tree::{Cache, Checksum, InternalValue, Slice, Table, ValueType};

use super::manifest::{self, Entry};
use super::{LsmEngine, LsmOptions, Meta, keys};
use crate::store::engine::Engine;
use crate::store::error::Result;

/// Bytes of entries that are written at a time.
const PORTION: usize = 32 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Live entries that could be read.
    pub entries: u64,
    /// What could not, for people.
    pub lost: Vec<String>,
}

/// What is lost, gathered by all who read.
type Lost = Rc<RefCell<Vec<String>>>;

impl LsmEngine {
    /// Writes what can be read of the tree in `from` to a new one in `to`.
    pub fn salvage(from: &Path, to: &Path) -> Result<Salvaged> {
        let lost = Lost::default();
        let listed = manifest::tables(from);
        if listed.is_empty() {
            let text = "the list of its tables and their order: none of them can be used";
            lost.borrow_mut().push(text.to_owned());
        }
        let mut runs: Vec<(u32, Vec<Table>)> = Vec::new();
        for entry in &listed {
            let Some(table) = open(from, entry, &lost) else {
                continue;
            };
            match runs.last_mut() {
                Some((run, tables)) if *run == entry.run => tables.push(table),
                _ => runs.push((entry.run, vec![table])),
            }
        }
        let newest = runs.iter().flat_map(|(_, tables)| tables);
        let newest = newest.filter_map(|table| keys::generation(table.metadata.key_range.max()));
        let mut meta = Meta {
            generation: newest.max().unwrap_or_default(),
            ..Meta::default()
        };
        let readers = runs.into_iter().map(|(_, tables)| read(tables, &lost));
        let target = Self::open(to, &LsmOptions::default())?;
        let mut entries = 0;
        let mut portion = Portion::default();
        let mut last: Option<Slice> = None;
        for item in Merger::new(readers.collect()) {
            let item = item?;
            if last.as_ref() == Some(&item.key.user_key) {
                continue;
            }
            last = Some(item.key.user_key.clone());
            if item.key.value_type != ValueType::Value {
                continue;
            }
            if &*item.key.user_key == keys::META {
                if let Ok(found) = Meta::decode(&item.value) {
                    meta = found;
                }
            } else if keys::generation(&item.key.user_key) == Some(meta.generation) {
                entries += 1;
                portion.add(&item);
                if portion.bytes >= PORTION {
                    portion.write(&target, &meta)?;
                }
            }
        }
        portion.write(&target, &meta)?;
        let lost = lost.borrow().clone();
        Ok(Salvaged { entries, lost })
    }
}

fn open(dir: &Path, entry: &Entry, lost: &Lost) -> Option<Table> {
    if let Some((what, _)) = entry.wrong(dir) {
        lost.borrow_mut().push(what);
        return None;
    }
    let path: PathBuf = dir.join(format!("tables/{}", entry.number));
    let cache = Arc::new(Cache::with_capacity_bytes(0));
    let checksum = Checksum::from_raw(entry.checksum);
    match Table::recover(path, checksum, entry.seqno, 0, cache, None, false, false) {
        Ok(table) => Some(table),
        Err(error) => {
            let what = format!("tables/{}: {error}", entry.number);
            lost.borrow_mut().push(what);
            None
        }
    }
}

/// The entries of a run; blocks that cannot be read are left out and told.
fn read(tables: Vec<Table>, lost: &Lost) -> impl Iterator<Item = lsm_tree::Result<InternalValue>> {
    let lost = Rc::clone(lost);
    tables.into_iter().flat_map(move |table| {
        let (lost, number) = (Rc::clone(&lost), table.id());
        Skipping {
            items: Box::new(table.iter()),
            lost,
            number,
            after: None,
        }
    })
}

/// Goes on behind what cannot be read.
struct Skipping<I> {
    items: Box<I>,
    lost: Lost,
    number: u64,
    /// The last key before.
    after: Option<Slice>,
}

impl<I: Iterator<Item = lsm_tree::Result<InternalValue>>> Iterator for Skipping<I> {
    type Item = lsm_tree::Result<InternalValue>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.items.next()? {
                Ok(item) => {
                    self.after = Some(item.key.user_key.clone());
                    return Some(Ok(item));
                }
                Err(error) => {
                    let after = match self
                        .after
                        .as_deref()
                        .and_then(|key| key.get(keys::PREFIX..))
                    {
                        Some(key) => format!("after the key {:?}", String::from_utf8_lossy(key)),
                        None => "at its beginning".to_owned(),
                    };
                    let what = format!("tables/{}: a block {after}: {error}", self.number);
                    self.lost.borrow_mut().push(what);
                }
            }
        }
    }
}

/// Entries to be written.
#[derive(Default)]
struct Portion {
    entries: Vec<(Slice, Slice)>,
    bytes: usize,
}

impl Portion {
    fn add(&mut self, item: &InternalValue) {
        self.bytes += item.key.user_key.len() + item.value.len();
        self.entries
            .push((item.key.user_key.clone(), item.value.clone()));
    }

    fn write(&mut self, target: &LsmEngine, meta: &Meta) -> Result<()> {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        let mut changes = entries.iter().filter_map(|(key, value)| {
            let key = key.get(keys::PREFIX..)?;
            Some((key, Some(&value[..])))
        });
        target.ingest(&mut changes, meta)
    }
}
